"""What `gan-bench sync` does: copy the journals of a root into an MLflow store."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.errors import DamagedError, Say, UserError
from gan_bench.journal import reading
from gan_bench.journal.layout import Workspace, run_folders
from gan_bench.journal.lock import locked
from gan_bench.tracking.address import quiet_mlflow, resolve_uri
from gan_bench.tracking.cursor import mirrored, read_cursor

if TYPE_CHECKING:
    from gan_bench.tracking.mirror import Mirror


@dataclass
class Synced:
    """What a sync did.

    Attributes:
        runs: How many runs the root holds.
        brought: How many of them had new records for the store.
        missing: Why the store's copy of other runs is incomplete, a line each.
    """

    runs: int = 0
    brought: int = 0
    missing: list[str] = field(default_factory=list)


def sync_runs(workspace: Workspace, say: Say, only: str | None = None) -> Synced:
    """Mirror every run of the root whose copy in the store is incomplete.

    A run that a dead launcher left without an end becomes KILLED. A running experiment is left to
    its launcher. A damaged run, or a run that the store refuses, delays no other run.

    Args:
        only: The name of the experiment to mirror; None: all.

    Raises:
        UserError: There are no runs, or the store cannot be used.
    """
    homes = sorted(path for path in (workspace.root / "runs").glob("*") if path.is_dir()
                   and only in (None, path.name))
    if not any(any(home.glob(f"*/{reading.FILE}")) for home in homes):
        raise UserError(f"there are no runs under {workspace.root}; give --root")
    address, result = resolve_uri(workspace), Synced()
    mirror: Mirror | None = None
    for home in homes:
        try:
            with locked(home):
                for folder in run_folders(home):
                    result.runs += 1
                    try:
                        if mirrored(folder, address):
                            continue
                        mirror = mirror or _open(workspace)
                        mirror.sync(folder)
                    except _Unusable:
                        raise
                    except DamagedError as error:  # its message names the file
                        result.missing.append(str(error))
                        continue
                    except UserError as error:
                        result.missing.append(f"{home.name}/{folder.name}: {error}")
                        continue
                    result.brought += 1
                    say(f"{home.name}/{folder.name}: mirrored")
        except _Unusable:
            raise
        except UserError as error:
            result.missing.append(str(error))
    return result


def update_store(workspace: Workspace, experiment: str) -> list[str]:
    """Mirror an experiment's journals into its store; return why the store's copy is incomplete.

    A store other than the root's that holds none of the runs may be a third party's: nothing is
    written there.
    """
    home = workspace.root / "runs" / experiment
    address = resolve_uri(workspace)
    try:
        if Path(experiment).name != experiment or not home.is_dir():
            return []
        folders = run_folders(home)
        if all(mirrored(folder, address) for folder in folders):
            return []
        is_own = address == f"sqlite:///{workspace.database}" or any(
            read_cursor(folder, address) for folder in folders)
        with quiet_mlflow():
            missing = sync_runs(workspace, lambda line: None, experiment).missing if is_own else []
    except UserError as error:  # if the store cannot be read, reading it reports that
        missing = [str(error)]
    except OSError as error:  # a root of another user
        missing = [f"{error.filename or home}: {error.strerror}"]
    return [f"MLflow may lack some results: {line}" for line in missing]


class _Unusable(UserError):
    """The store cannot be used."""


def _open(workspace: Workspace) -> Mirror:
    from gan_bench.tracking.client import open_store
    from gan_bench.tracking.mirror import Mirror

    try:
        return Mirror(open_store(workspace))
    except UserError as error:
        raise _Unusable(str(error)) from None
