"""What `gan-bench sync` does: bring what lies in a root into an MLflow store, now or once more."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.errors import DamagedError, UserError
from gan_bench.journal import reading
from gan_bench.journal.layout import run_folders
from gan_bench.journal.lock import locked
from gan_bench.tracking.address import resolve_uri
from gan_bench.tracking.cursor import mirrored

if TYPE_CHECKING:
    from gan_bench.tracking.mirror import Mirror


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


def sync_runs(root: Path, uri: str | None, say: Callable[[str], None],
              only: str | None = None) -> Synced:
    """Mirror every run under `root` that the store has not got whole.

    Runs that a dead launcher left without an end are said to be KILLED. Experiments that are being
    run are left to their launcher. A run that is damaged, or that the store does not take, holds
    up no other.

    Args:
        only: The experiment that it is about; None: all.

    Raises:
        UserError: There are no runs, or the store cannot be used.
    """
    homes = sorted(path for path in (root / "runs").glob("*") if path.is_dir()
                   and only in (None, path.name))
    if not any(any(home.glob(f"*/{reading.FILE}")) for home in homes):
        raise UserError(f"there are no runs under {root}; give --root")
    address, done = resolve_uri(root, uri), Synced()
    mirror: Mirror | None = None
    for home in homes:
        try:
            with locked(home):
                for folder in run_folders(home):
                    done.runs += 1
                    try:
                        if mirrored(folder, address):
                            continue
                        mirror = mirror or _open(root, uri)
                        mirror.sync(folder)
                    except _Unusable:
                        raise
                    except DamagedError as error:  # which says where
                        done.missing.append(str(error))
                        continue
                    except UserError as error:
                        done.missing.append(f"{home.name}/{folder.name}: {error}")
                        continue
                    done.brought += 1
                    say(f"{home.name}/{folder.name}: is there")
        except _Unusable:
            raise
        except UserError as error:
            done.missing.append(str(error))
    return done


class _Unusable(UserError):
    """The store cannot be used."""


def _open(root: Path, uri: str | None) -> Mirror:
    from gan_bench.tracking.client import open_store
    from gan_bench.tracking.mirror import Mirror

    try:
        return Mirror(open_store(root, uri))
    except UserError as error:
        raise _Unusable(str(error)) from None
