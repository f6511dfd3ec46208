"""What `gan-bench sync` does: copy the journals of a root into an MLflow store."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.errors import DamagedError, Say, UserError, count
from gan_bench.journal import reading
from gan_bench.journal.layout import JOURNALS, Workspace, run_folders
from gan_bench.journal.schema import RESULTS, Kind
from gan_bench.journal.sharing.claims import Claim, SupersededError
from gan_bench.journal.sharing.lock import is_locked, locked
from gan_bench.tracking.runs.cursor import forget_cursor, mirrored, read_cursor
from gan_bench.tracking.runs.hidden import (
    HiddenReason,
    HiddenRun,
    hidden_in,
    hidden_lines,
    hidden_runs,
    lacking_line,
    lacking_runs,
    sync_command,
)
from gan_bench.tracking.store.address import (
    quiet_mlflow,
    reason,
    resolve_uri,
    sqlite_path,
    without_password,
)
from gan_bench.tracking.store.client import DeletedExperiment, DeletedRun
from gan_bench.tracking.store.relocation import follow_root
from gan_bench.tracking.store.shared_artifacts import elsewhere_line, lost_artifacts

if TYPE_CHECKING:
    from gan_bench.tracking.mirror import Mirror


PATIENCE = 30.0  # seconds that a sync may lose to a store that fails


@dataclass
class Synced:
    """What a sync did.

    Attributes:
        runs: How many runs the root holds.
        brought: How many of them had new records for the store.
        missing: Why the store's copy of other runs is incomplete, a line each.
        hidden: Which runs the store has, but does not show, and what to do, a line each.
        experiments: The names of those that no launcher is running.
        changed: Those whose runs had new records for the store.
    """

    runs: int = 0
    brought: int = 0
    missing: list[str] = field(default_factory=list)
    hidden: list[str] = field(default_factory=list)
    experiments: list[str] = field(default_factory=list)
    changed: set[str] = field(default_factory=set)


def sync_runs(workspace: Workspace, say: Say, only: str | None = None, anew: bool = False,
              waits: Say | None = None) -> Synced:
    """Mirror every run of the root whose copy in the store is incomplete.

    That includes runs of which a store that was set back to an older copy has lost records.
    A run that a dead launcher left without an end becomes KILLED. A running experiment is left to
    its launcher. A damaged run, or a run that the store refuses, delays no other run. After
    failures of half a minute in all, no further run is tried. Runs that the user deleted or moved
    in MLflow's page are not copied, unless `anew`; `hidden` lists them.

    Args:
        only: The name of the experiment to mirror; None: all.
        anew: Whether to copy runs that were deleted or moved in MLflow once more.
        waits: Receives a line where another process is waited for; None: `say`.

    Raises:
        UserError: There are no runs, or the store cannot be used.
    """
    homes = sorted(path for path in (workspace.root / "runs").glob("*") if path.is_dir()
                   and only in (None, path.name))
    if not any(any(home.glob(JOURNALS)) for home in homes):
        raise UserError(f"there are no runs under {workspace.root}; give --root")
    sync = _Sync(workspace, resolve_uri(workspace), say, anew)
    for home in homes:
        try:
            with locked(home, waits or say) as lease:
                sync.experiment(home, lease)
            sync.result.experiments.append(home.name)
        except _Unusable:
            raise
        except _GaveUp as error:
            sync.result.missing.append(str(error))
            break
        except UserError as error:
            sync.result.missing.append(str(error))
    return sync.result


class _Sync:
    """A sync under way: its store, which is opened once it is needed, and its result so far."""

    def __init__(self, workspace: Workspace, address: str, say: Say, anew: bool) -> None:
        self._workspace, self._address = workspace, address
        self._say, self._anew = say, anew
        self._mirror: Mirror | None = None
        self._lease: Claim | None = None
        self._lost = 0.0  # seconds, to failures
        self.result = Synced()

    def experiment(self, home: Path, lease: Claim) -> None:
        """Mirror the runs of an experiment whose lease is held."""
        self._lease = lease
        folders = run_folders(home)
        self.result.runs += len(folders)
        hidden = self._hidden(folders)
        if lacking := lacking_runs(hidden):
            self._say(f"{home.name}: {lacking_line(lacking)}")
        anew = {HiddenReason.DELETED, HiddenReason.ELSEWHERE} if self._anew else set()
        for run in hidden:
            if run.reason in {HiddenReason.LOST, *anew}:
                forget_cursor(run.folder, self._address)
        hidden = [run for run in hidden if run.reason not in anew and run.folder not in lacking]
        lines = hidden_lines(hidden, self._workspace, self._address)
        # What the user has put away stays away, even if its journal has new records.
        put_away = {run.folder for run in hidden if run.reason != HiddenReason.EXPERIMENT_DELETED}
        for folder in folders:
            if folder in put_away:
                continue
            begin = time.monotonic()
            try:
                self._run(folder, is_lacking=folder in lacking)
            except (_Unusable, SupersededError):
                raise
            except DeletedExperiment as error:
                lines = [str(error)]
                break
            except DamagedError as error:  # its message names the file
                self.result.missing.append(str(error))
            except UserError as error:
                self.result.missing.append(f"{home.name}/{folder.name}: {error}")
                self._lost += time.monotonic() - begin
                if self._lost > PATIENCE:
                    raise _GaveUp(f"MLflow has failed for {self._lost:.0f} s: the other runs were "
                                  f"not tried; repeat the command once it answers") from None
        if self._mirror is not None and (place := self._mirror.elsewhere.get(home.name)):
            self._say(elsewhere_line(home.name, place))
        with suppress(Exception):  # from any database driver; it has answered above
            lines += lost_artifacts(folders, self._workspace, self._address)
        self.result.hidden += [f"{home.name}: {line}" for line in lines]

    def _hidden(self, folders: list[Path]) -> list[HiddenRun]:
        # No SQLite file: connect first, so that the server's error is its own.
        if sqlite_path(self._address) is None:
            self._open()
        try:
            with quiet_mlflow():
                return hidden_runs(folders, self._address)
        except Exception as error:  # from a server, or from any database driver
            self._open()  # which says what is wrong with an SQLite file
            raise _Unusable(f"cannot read MLflow at {without_password(self._address)}: "
                            f"{reason(error, self._address)}") from error

    def _run(self, folder: Path, *, is_lacking: bool) -> None:
        if mirrored(folder, self._address) and not is_lacking:
            return
        self._open().sync(folder)
        self.result.brought += 1
        self.result.changed.add(folder.parent.name)
        self._say(f"{folder.parent.name}/{folder.name}: mirrored")

    def _open(self) -> Mirror:
        if self._mirror is None:
            self._mirror = _open(self._workspace, self._refuse_superseded)
        return self._mirror

    def _refuse_superseded(self) -> None:
        if self._lease is not None:
            self._lease.refuse_superseded()


def sync_run(workspace: Workspace, folder: Path) -> list[str]:
    """Mirror a run; return what the store lacks of it, or hides, and what to do, a line each."""
    address = resolve_uri(workspace)
    try:
        with suppress(DeletedRun):  # it is hidden
            _open(workspace).sync(folder)
        with quiet_mlflow():
            return hidden_lines(hidden_runs([folder], address), workspace, address)
    except DeletedExperiment as error:
        return [str(error)]
    except UserError as error:
        why = str(error)
    except Exception as error:  # from a server, or from any database driver
        why = reason(error, address)
    return [f"MLflow may lack what the journal has: {why}; once that is repaired, "
            f"`{sync_command(workspace, address)}` copies it"]


def update_store(workspace: Workspace, experiment: str, waits: Say = lambda line: None,
                 ) -> list[str]:
    """Mirror an experiment's journals into its store; return why the store's copy is incomplete.

    A store other than the root's that holds none of the runs may be a third party's: nothing is
    written there.

    Args:
        waits: Receives a line where another process is waited for.
    """
    home = workspace.root / "runs" / experiment
    address = resolve_uri(workspace)
    try:
        if Path(experiment).name != experiment or not home.is_dir():
            return []
        folders = run_folders(home)
        if address == f"sqlite:///{workspace.database}" and workspace.database.exists():
            with suppress(sqlite3.Error, OSError, UserError):  # it is only read then
                follow_root(workspace.database)
        if (all(mirrored(folder, address) for folder in folders) and not is_locked(home)
                and not _was_set_back(folders, address)):
            return []
        is_own = address == f"sqlite:///{workspace.database}" or any(
            _has_cursor(folder, address) for folder in folders)
        if not is_own:
            return []
        with quiet_mlflow():
            missing = sync_runs(workspace, lambda line: None, experiment, waits=waits).missing
    except UserError as error:  # if the store cannot be read, reading it reports that
        missing = [str(error)]
    except OSError as error:  # a root of another user
        missing = [f"{error.filename or home}: {error.strerror}"]
    return [f"MLflow may lack some results: {line}" for line in missing]


def _was_set_back(folders: list[Path], address: str) -> bool:
    """Whether a server has less of the runs than their cursors say."""
    if sqlite_path(address) is not None:  # `mirrored` has looked
        return False
    try:
        with quiet_mlflow():
            return bool(lacking_runs(hidden_runs(folders, address)))
    except Exception:  # from a server, or from any database driver; reading the results reports it
        return False


def sync_hint(workspace: Workspace, experiment: str) -> str:
    """Return what copies finished runs of the root that the store has not received; or nothing."""
    home = workspace.root / "runs" / experiment
    if Path(experiment).name != experiment or not home.is_dir():
        return ""
    address = resolve_uri(workspace)
    waiting = sum(1 for folder in run_folders(home)
                  if _has_result(folder) and not mirrored(folder, address))
    if not waiting:
        return ""
    return (f"{workspace.root} has {count(waiting, 'finished run')} that it lacks, and "
            f"`{sync_command(workspace, address)}` copies {'it' if waiting == 1 else 'them'}")


def _has_result(folder: Path) -> bool:
    try:
        last = reading.last(folder)
    except DamagedError:
        return False
    return last is not None and last["kind"] == Kind.END and last["status"] in RESULTS


def hidden_from_reports(workspace: Workspace, experiment: str) -> list[str]:
    """Return which of the root's runs the store has and does not show, and what to do, a line each.

    Only runs under the experiment's current settings; lost pictures count of all runs. A store that
    cannot be read has no line here.
    """
    try:
        address = resolve_uri(workspace)
        lines = hidden_in(workspace, address, experiment)
        home = workspace.root / "runs" / experiment
        if Path(experiment).name == experiment:  # and no path
            lines += lost_artifacts(run_folders(home), workspace, address)
        return lines
    except Exception:  # from any database driver; reading the results reports it
        return []


class _GaveUp(UserError):
    """The store has failed for too long."""


class _Unusable(UserError):
    """The store cannot be used."""


def _has_cursor(folder: Path, address: str) -> bool:
    try:
        return read_cursor(folder, address) is not None
    except DamagedError:  # the replay of this journal reports it
        return False


def _open(workspace: Workspace, refuse_superseded: Callable[[], None] = lambda: None) -> Mirror:
    from gan_bench.tracking.mirror import Mirror
    from gan_bench.tracking.store.client import open_store

    try:
        return Mirror(open_store(workspace), refuse_superseded)
    except UserError as error:
        raise _Unusable(str(error)) from None
