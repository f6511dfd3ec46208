"""Mirrors journals into MLflow in a thread, so that a slow store delays no training."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.errors import DamagedError, Say, UserError
from gan_bench.journal import reading
from gan_bench.journal.layout import Workspace, run_folders
from gan_bench.journal.sharing.claims import Claim, ClaimedError, SupersededError, Watch, take
from gan_bench.journal.sharing.lock import MIRROR
from gan_bench.tracking.runs.cursor import mirrored
from gan_bench.tracking.runs.hidden import hidden_in, hidden_runs, lacking_line, lacking_runs
from gan_bench.tracking.store import client
from gan_bench.tracking.store.address import (
    is_server,
    reason,
    resolve_uri,
    sqlite_path,
    without_password,
)
from gan_bench.tracking.store.database_server import UnreachableError
from gan_bench.tracking.store.shared_artifacts import elsewhere_line, lost_artifacts

if TYPE_CHECKING:
    from gan_bench.tracking.mirror import Mirror

POLL = 0.5  # seconds between two looks at the last round
WAITING = 0.5  # seconds between two looks at another process that mirrors
SWEEP = 30.0  # seconds between two looks at all journals, or longer:
SWEEP_SHARE = 30  # times as long as a look takes
EVERY, SLOWEST = 5.0, 60.0  # seconds between two rounds: usual, and at most while MLflow fails
PATIENCE = 30.0  # seconds that the last round may lose to a store that fails
STALLED = 600.0  # seconds without a run that is mirrored, after which nobody waits any longer
OUT_OF_TIME = "there was no time for the rest"


class BackgroundMirror:
    """Copies the journals of an experiment into MLflow, while they grow and at the end.

    It retries what the store refuses, less and less often. Training never waits for it. Of several
    processes that run the experiment, the one with its lease mirrors; another takes over when that
    has ended.

    Args:
        workspace: Names the store.
        home: The experiment's folder; journals that an earlier launcher left behind count too.
        trains: Whether the launcher is about to train runs.
        say: Receives one line when MLflow fails for the first time.

    Raises:
        UserError: The store is a database that cannot be used. (One that does not answer, and a
            server, may come back.)
    """

    def __init__(self, workspace: Workspace, home: Path, trains: bool, say: Say) -> None:
        self._workspace, self._home, self._say = workspace, home, say
        self._address = store = resolve_uri(workspace)
        self._dirty = dict.fromkeys(
            folder for folder in run_folders(home) if not mirrored(folder, store))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure = ""
        self._progress = time.monotonic()  # when a journal was last mirrored
        self._damaged: dict[Path, str] = {}  # these cannot be mirrored until the user mends them
        self._mirror: Mirror | None = None
        self._thread: threading.Thread | None = None
        self._lease: Claim | None = None
        self._watch = Watch()
        self._holder = ""  # the other process that mirrors
        self._next_sweep = time.monotonic() + SWEEP
        self._lost = 0.0  # seconds of the last round, to a store that fails
        self._is_idle = not (self._dirty or trains)
        # Of what an SQLite file holds, `mirrored` knows; another store may have lost it.
        if not self._is_idle or sqlite_path(store) is None:
            # A server may be slow or down, and training starts anyway.
            if not self._is_idle and not is_server(store):
                try:
                    self._open_store()
                except UnreachableError as error:
                    self._note_failure(error)
            self._thread = threading.Thread(target=self._repeat_rounds, daemon=True)
            self._thread.start()

    def request(self, folder: Path) -> None:
        """Note that a run's journal has new records."""
        with self._lock:
            self._dirty[folder] = None

    def finish(self, timeout: float | None = None) -> str:
        """Mirror what is left; return why MLflow's copy is incomplete, or an empty string.

        Args:
            timeout: Seconds to wait; None: until the last round is done or fails, or hangs.
        """
        if self._thread is not None:
            self._stop.set()
            self._progress = time.monotonic()
            self._thread.join(timeout if timeout is not None else POLL)
            while timeout is None and self._thread.is_alive():
                self._thread.join(POLL)
                if time.monotonic() - self._progress > STALLED:
                    who = f" from {self._holder}" if self._holder else ""
                    return (f"MLflow at {without_password(self._address)} has taken no run{who} "
                            f"for {STALLED:.0f} s")
            if self._thread.is_alive():
                busy = f"{self._holder} is copying the runs" if self._holder else OUT_OF_TIME
                return self._failure or busy
        failure = [self._failure] if self._dirty else []
        return "; ".join([*self._damaged.values(), *failure])

    def hidden(self) -> list[str]:
        """Return what the store has received and does not show, after `finish`, a line each.

        Nothing of a store that fails, or that is not open.
        """
        if self._dirty or (self._thread is not None and self._thread.is_alive()):
            return []
        if self._mirror is None and sqlite_path(self._address) is None:
            return []
        try:
            return [*hidden_in(self._workspace, self._address, self._home.name),
                    *lost_artifacts(run_folders(self._home), self._workspace, self._address)]
        except UserError as error:
            return [str(error)]
        except Exception as error:  # from a server, or from any database driver
            return [reason(error, self._address)]

    def _repeat_rounds(self) -> None:
        pause = EVERY
        try:
            self._begin()
            while not self._mirror_round():
                pause = min(2 * pause, SLOWEST) if self._lost else EVERY
                if self._holder and self._stop.is_set():  # the last round waits for its turn
                    time.sleep(WAITING)
                else:
                    self._stop.wait(pause)
        finally:
            if self._lease is not None:
                self._lease.release()

    def _begin(self) -> None:
        """Open the store, and request what it has lost; another process may be doing so."""
        if not self._is_idle and not self._holds_lease():
            return
        try:
            mirror = self._open()
            if place := mirror.elsewhere.get(self._home.name):
                self._say(elsewhere_line(self._home.name, place))
            self._request_lacking()
        except client.DeletedExperiment as error:
            if not self._is_idle:  # otherwise `hidden` alone names it
                self._note_failure(error)
        except Exception as error:
            self._note_failure(error)

    def _mirror_round(self) -> bool:
        """Mirror what is dirty, if no other process does; return whether this was the last round.
        """
        is_last, self._lost = self._stop.is_set(), 0.0
        if not self._holds_lease():
            if is_last:
                self._drop_mirrored()
            return is_last and not self._dirty
        self._request_unmirrored()
        self._lost = self._mirror_dirty(PATIENCE if is_last else 0.0)
        if is_last and 0 < self._lost <= PATIENCE:
            self._mirror_dirty(PATIENCE - self._lost)  # a fault may have passed
        return is_last

    def _holds_lease(self) -> bool:
        """Whether this process mirrors the experiment; take the lease if it is free."""
        if self._lease is not None:
            try:
                self._lease.refuse_superseded()
                return True
            except SupersededError:
                self._lease.release()
                self._lease = None
        if not self._dirty and self._is_idle:
            return True  # there is nothing to write
        try:
            self._lease = take(self._home, MIRROR, self._watch)
            self._lease.forget_earlier()
            self._holder = ""
        except ClaimedError as error:
            self._holder = str(error.holder)
        except UserError as error:  # a full disk
            self._note_failure(error)
            return False
        return self._lease is not None

    def _drop_mirrored(self) -> None:
        """Forget what another process has mirrored meanwhile."""
        with self._lock:
            dirty = list(self._dirty)
        is_last = self._stop.is_set()  # what others train goes on, and the one that mirrors has it
        done = [folder for folder in dirty if mirrored(folder, self._address)
                or (is_last and reading.is_open(folder))]
        with self._lock:
            for folder in done:
                self._dirty.pop(folder, None)
        if done:
            self._progress = time.monotonic()

    def _request_unmirrored(self) -> None:
        """Request, now and then, what other processes have trained and do not mirror."""
        begin = time.monotonic()
        if self._is_idle or begin < self._next_sweep:
            return
        for folder in run_folders(self._home):
            if not mirrored(folder, self._address):
                self.request(folder)
        self._next_sweep = time.monotonic() + max(SWEEP, SWEEP_SHARE * (time.monotonic() - begin))

    def _request_lacking(self) -> None:
        """Request what the store has lost since an earlier launcher mirrored it."""
        lacking = lacking_runs(hidden_runs(run_folders(self._home), self._address))
        for folder in lacking:
            self.request(folder)
        if lacking:
            self._say(lacking_line(lacking))

    def _mirror_dirty(self, patience: float) -> float:
        """Mirror every journal with new records; return the seconds lost to a store that fails.

        Args:
            patience: The seconds that failures may take before the round ends early.
        """
        with self._lock:
            batch, self._dirty = list(self._dirty), {}
        lost = 0.0
        for i, folder in enumerate(batch):
            begin = time.monotonic()
            try:
                mirror = self._open()
                self._damaged.pop(folder, None)
                mirror.sync(folder)
                self._progress = time.monotonic()
            except DamagedError as error:
                self._damaged[folder] = str(error)
            except SupersededError:  # the next round looks for the lease
                for later in batch[i:]:
                    self.request(later)
                break
            except client.DeletedRun:
                self._progress = time.monotonic()  # `hidden` names it
            except Exception as error:
                self._note_failure(error)
                lost += time.monotonic() - begin
                self.request(folder)
                if lost > patience:
                    for later in batch[i + 1 :]:
                        self.request(later)
                    break
        return lost

    def _open(self) -> Mirror:
        mirror = self._open_store()
        mirror.open_experiment(self._home)
        return mirror

    def _open_store(self) -> Mirror:
        if self._mirror is None:
            from gan_bench.tracking import mirror

            self._mirror = mirror.Mirror(client.open_store(self._workspace),
                                         self._refuse_superseded)
        return self._mirror

    def _refuse_superseded(self) -> None:
        if self._lease is not None:
            self._lease.refuse_superseded()

    def _note_failure(self, error: Exception) -> None:
        why = str(error) if isinstance(error, UserError) else reason(error, self._address)
        if not self._failure and self._is_idle:
            self._say(f"MLflow cannot be asked whether it shows all results ({why})")
        elif not self._failure:
            self._say(f"MLflow refuses records ({why}); training continues, and mirroring is "
                      f"retried")
        self._failure = why
