"""Mirroring while runs go on: in a thread of its own, so that MLflow's pace is nobody else's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.errors import DamagedError, UserError
from gan_bench.journal.layout import run_folders
from gan_bench.tracking import client
from gan_bench.tracking.address import is_server, reason, resolve_uri
from gan_bench.tracking.cursor import mirrored

if TYPE_CHECKING:
    from gan_bench.tracking.mirror import Mirror

EVERY, SLOWEST = 5.0, 60.0  # seconds between two rounds; the most of them while MLflow fails
PATIENCE = 30.0  # seconds that the last round may lose to a store that fails
OUT_OF_TIME = "there was no time for the rest"


class BackgroundMirror:
    """Brings the journals of an experiment into MLflow, as they grow and at the end.

    What a store does not take is kept and tried again, less and less often; nothing else waits.

    Args:
        root: The root folder.
        uri: MLflow's store; None: MLFLOW_TRACKING_URI, or the database in `root`.
        home: The experiment's folder; what an earlier launcher has not mirrored is mirrored too.
        more: Whether runs are going to be trained.
        say: Is told once that MLflow fails.

    Raises:
        UserError: The store is a database that cannot be used. (A server may come back.)
    """

    def __init__(self, root: Path, uri: str | None, home: Path, more: bool,
                 say: Callable[[str], None]) -> None:
        self._root, self._uri, self._home, self._say = root, uri, home, say
        self._address = store = resolve_uri(root, uri)
        self._dirty = dict.fromkeys(f for f in run_folders(home) if not mirrored(f, store))
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure = ""
        self._damaged: dict[Path, str] = {}  # nothing is to be had of these until that is mended
        self._mirror: Mirror | None = None
        self._thread: threading.Thread | None = None
        if self._dirty or more:
            if not is_server(store):  # which may take its time, and is no reason to stop
                self._open()
            self._thread = threading.Thread(target=self._loop, daemon=True)
            self._thread.start()

    def request(self, folder: Path) -> None:
        """Note that a run's journal has new records."""
        with self._lock:
            self._dirty[folder] = None

    def finish(self, timeout: float | None = None) -> str:
        """Mirror the rest; return why MLflow has not got everything, or nothing.

        Args:
            timeout: Seconds to wait for it; None: as long as it takes, or goes on failing.
        """
        if self._thread is None:
            return ""
        self._stop.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            return self._failure or OUT_OF_TIME
        return "; ".join([*self._damaged.values(), *([self._failure] if self._dirty else [])])

    def _loop(self) -> None:
        pause = EVERY
        try:
            self._open()
        except Exception as error:
            self._failed(error)
        while True:
            last = self._stop.is_set()
            failed = self._round(PATIENCE if last else 0.0)
            if last:
                return
            pause = min(2 * pause, SLOWEST) if failed else EVERY
            self._stop.wait(pause)

    def _round(self, patience: float) -> bool:
        """Mirror what there is to be mirrored; return whether the store failed.

        Args:
            patience: How many seconds may go to failures before the rest is left for another time.
        """
        with self._lock:
            batch, self._dirty = list(self._dirty), {}
        failures, lost = 0, 0.0
        for i, folder in enumerate(batch):
            begin = time.monotonic()
            try:
                self._open()
                assert self._mirror is not None
                self._damaged.pop(folder, None)
                self._mirror.sync(folder)
            except DamagedError as error:
                self._damaged[folder] = str(error)
            except Exception as error:
                self._failed(error)
                failures, lost = failures + 1, lost + time.monotonic() - begin
                self.request(folder)
                if lost > patience:
                    for later in batch[i + 1 :]:
                        self.request(later)
                    break
        return failures > 0

    def _open(self) -> None:
        if self._mirror is not None:
            return
        from gan_bench.tracking import mirror

        opened = mirror.Mirror(client.open_store(self._root, self._uri))
        opened.open_experiment(self._home)
        self._mirror = opened

    def _failed(self, error: Exception) -> None:
        why = str(error) if isinstance(error, UserError) else reason(error, self._address)
        if not self._failure:
            self._say(f"MLflow does not take what it is given ({why}); training goes on, and it is "
                      f"tried again")
        self._failure = why
