"""What `gan-bench sync` does: bring what lies in a root into an MLflow store, now or once more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from gan_bench.cursor import mirrored
from gan_bench.errors import UserError
from gan_bench.root import locked, run_folders
from gan_bench.store import resolve_uri


@dataclass
class Synced:
    """How far it got.

    Attributes:
        runs: How many runs there are.
        brought: How many of them had something new for the store.
        missing: Why others are not there whole, a line each.
    """

    runs: int = 0
    brought: int = 0
    missing: list[str] = field(default_factory=list)


def sync(root: Path, uri: str | None, say: Callable[[str], None]) -> Synced:
    """Mirror every run under `root` that the store has not got whole.

    Runs that a dead launcher left without an end are said to be KILLED. Experiments that are being
    run are left to their launcher.

    Raises:
        UserError: There are no runs, or the store cannot be used.
    """
    homes = sorted(path for path in (root / "runs").glob("*") if path.is_dir())
    if not any(run_folders(home) for home in homes):
        raise UserError(f"there are no runs under {root}; give --root")
    address, done = resolve_uri(root, uri), Synced()
    mirror = None
    for home in homes:
        try:
            with locked(home):
                folders = run_folders(home)
                done.runs += len(folders)
                for folder in folders:
                    if mirrored(folder, address):
                        continue
                    if mirror is None:  # importing MLflow takes over a second
                        from gan_bench.mirror import Mirror, open_store

                        mirror = Mirror(open_store(root, uri))
                    mirror.sync(folder)
                    done.brought += 1
                    say(f"{home.name}/{folder.name}: is there")
        except UserError as error:
            if mirror is None and "is being run" not in str(error):
                raise
            done.missing.append(str(error))
    return done
