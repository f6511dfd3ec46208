"""The launcher: a process per run on slots, their journals followed and mirrored into MLflow."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Protocol

from gan_bench import journal, worker
from gan_bench.errors import Stopped, UserError, one_line
from gan_bench.experiment import differences
from gan_bench.outcome import DONE, Progress, progress_of
from gan_bench.spec import ExperimentSpec

POLL = 0.5  # seconds between two looks at the journals
MIRROR_EVERY = 5.0  # seconds between two rounds of the mirror


class Reporter(Protocol):
    """What shows the launcher's progress to somebody: gan_bench.progress has three."""

    def say(self, line: str) -> None:
        """Tell what goes on before and between the runs."""

    def begin(self, runs: list[Progress]) -> None:
        """All is prepared; these are the runs, finished ones among them."""

    def changed(self, run: Progress) -> None:
        """A run has started, gone on or ended."""

    def close(self) -> None:
        """The last run has ended, or the launcher was told to stop."""


@dataclass(frozen=True)
class Settings:
    """Where and how an experiment is executed.

    Attributes:
        root: What the runs leave behind.
        data_root: Where data sets lie.
        slots: How many runs at once; None: as many as cores (over a run's threads), or GPUs.
        tracking_uri: MLflow's store; None: MLFLOW_TRACKING_URI, or the database in `root`.
        command: How to repeat it, for the notes in MLflow.
    """

    root: Path
    data_root: Path
    slots: int | None
    tracking_uri: str | None
    command: str


def execute(experiment: ExperimentSpec, settings: Settings, reporter: Reporter,
            ) -> tuple[list[Progress], str]:
    """Train what is not yet trained, and mirror what is not yet mirrored.

    Returns:
        How each run ended, and why MLflow has not got everything; empty if it has.

    Raises:
        UserError: Something makes the whole experiment impossible; nothing has been trained.
        Stopped: Ctrl-C or SIGTERM; the workers are gone.
    """
    make_root(settings.root)
    with _lock(settings.root / "runs" / experiment.name), _terminable():
        runs = [progress_of(run, settings.root) for run in experiment.runs]
        waiting = [run for run in runs if run.state not in DONE]
        for run in waiting:
            _clear(run.folder)
        if waiting:
            with _preparations(experiment, settings) as answers:
                mirror = _Mirroring(experiment, settings, runs)  # imports mlflow meanwhile
                gpus = _await(answers, reporter)
            reporter.begin(runs)
            try:
                _train_all(waiting, settings, gpus, reporter, mirror)
            finally:
                reporter.close()
                missing = mirror.finish()
        else:
            missing = _Mirroring(experiment, settings, runs).finish()
        return runs, missing


def make_root(root: Path) -> None:
    """Make the root folder.

    Raises:
        UserError: It cannot be made or written to.
    """
    try:
        (root / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--root {root}: cannot be made: {error.strerror}") from None
    if not os.access(root / "runs", os.W_OK):
        raise UserError(f"--root {root}: is not writable; give another with --root")


def _clear(folder: Path) -> None:
    """Make a run's folder ready for a new attempt: an earlier one's journal is not its own.

    Raises:
        UserError: Something else lies where the folder belongs.
    """
    try:
        folder.mkdir(exist_ok=True)
        (folder / journal.FILE).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be used: {error.strerror}; move it away") from None


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the experiment's lock: two launchers would train the same runs."""
    try:
        folder.mkdir(exist_ok=True)
        lock = (folder / "lock").open("a+")
    except OSError as error:
        raise UserError(f"{folder}: cannot be used: {error.strerror}; move it away") from None
    with lock as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise UserError(f"{folder.name} is being run already, by process "
                            f"{file.read().strip()}; wait for it or stop it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM stop the program as Ctrl-C does, in order; both end in `Stopped`."""
    def stop(*_: object) -> None:
        raise Stopped(143)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        raise Stopped(130) from None
    finally:
        signal.signal(signal.SIGTERM, before)


def _context(threads: int) -> multiprocessing.context.ForkServerContext:
    os.environ.update(worker.environment(threads))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(worker.PRELOAD)
    return context


@contextmanager
def _preparations(experiment: ExperimentSpec, settings: Settings) -> Iterator[Connection]:
    """Do the preparations in a process of their own, which answers over the connection."""
    context = _context(experiment.runs[0].compute.threads)
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=worker.prepare, args=(
        experiment, settings.root, settings.data_root, sender))
    process.start()
    sender.close()
    try:
        yield receiver
    finally:
        process.kill()
        process.join()


def _await(answers: Connection, reporter: Reporter) -> int:
    """Pass on what the preparations say; return the number of GPUs to use.

    Raises:
        UserError: They failed.
    """
    while True:
        try:
            kind, value = answers.recv()
        except EOFError:
            raise UserError("the preparations were killed, perhaps for want of memory") from None
        if kind == "say":
            reporter.say(value)
        elif kind == "ready":
            return int(value)
        elif kind == "error":
            raise UserError(value)
        else:
            raise RuntimeError(value)


def _train_all(waiting: list[Progress], settings: Settings, gpus: int, reporter: Reporter,
               mirror: _Mirroring) -> None:
    """Keep the slots busy until every run has ended."""
    threads = waiting[0].spec.compute.threads
    slots = settings.slots or gpus or max(1, len(os.sched_getaffinity(0)) // threads)
    context = _context(threads)
    queue = list(reversed(waiting))
    running: dict[int, tuple[ForkServerProcess, Progress]] = {}
    try:
        while queue or running:
            for slot in range(slots):
                if queue and slot not in running:
                    run = queue.pop()
                    process = context.Process(target=worker.train, args=(
                        run.spec, settings.root, settings.data_root, slot % gpus if gpus else None))
                    process.start()
                    run.state = "RUNNING"
                    running[slot] = (process, run)
                    reporter.changed(run)
            wait([process.sentinel for process, _ in running.values()], timeout=POLL)
            for slot, (process, run) in list(running.items()):
                ended = process.exitcode is not None
                if run.follow() or ended:
                    if ended:
                        _settle(run, process.exitcode)
                        del running[slot]
                    mirror.wanted(run)
                    reporter.changed(run)
    finally:
        for process, _ in running.values():
            process.kill()
        for process, run in running.values():
            process.join()
            run.follow()
            _settle(run, process.exitcode)
            mirror.wanted(run)


def _settle(run: Progress, exitcode: int | None) -> None:
    """Give a run whose process is gone the state that is true."""
    if run.state == "RUNNING":
        run.state = "KILLED"
        run.why = (f"its process ended by signal {-exitcode} ({signal.Signals(-exitcode).name})"
                   if exitcode and exitcode < 0 else
                   f"its process ended with status {exitcode}; see {worker.LOG} in its folder")


class _Mirroring:
    """Brings journals into MLflow from a thread, so that MLflow's pace is nobody else's."""

    def __init__(self, experiment: ExperimentSpec, settings: Settings, runs: list[Progress],
                 ) -> None:
        from gan_bench import mirror

        uri = mirror.resolve_uri(settings.root, settings.tracking_uri)
        self._dirty = {run.spec.id: run for run in runs
                       if run.state in DONE and not mirror.mirrored(run.folder, uri)}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._failure = ""
        self._thread: threading.Thread | None = None
        if self._dirty or any(run.state not in DONE for run in runs):
            # Opened before any training: a store of another version is refused now.
            store = mirror.open_store(settings.root, settings.tracking_uri)
            self._mirror = mirror.Mirror(store, settings.command, question=experiment.question,
                                         differs=_what_differs(experiment))
            self._mirror.open_experiment(experiment.name)
            self._thread = threading.Thread(target=self._loop, daemon=True)
            self._thread.start()

    def wanted(self, run: Progress) -> None:
        """Note that `run` has something to be mirrored."""
        with self._lock:
            self._dirty[run.spec.id] = run

    def finish(self) -> str:
        """Mirror the rest; return why MLflow has not got everything, or nothing."""
        if self._thread is not None:
            self._stop.set()
            self._thread.join()
        return self._failure

    def _loop(self) -> None:
        while True:
            last_round = self._stop.is_set()
            with self._lock:
                batch, self._dirty = list(self._dirty.values()), {}
            for run in batch:
                try:
                    self._mirror.sync(run.folder)
                    if run.state == "KILLED":
                        self._mirror.end(run.folder, run.state, run.why)
                    self._failure = ""
                except Exception as error:
                    self._failure = one_line(error)
                    self.wanted(run)
            if last_round:
                return
            self._stop.wait(MIRROR_EVERY)


def _what_differs(experiment: ExperimentSpec) -> dict[str, str]:
    """Return for each variant in what it differs from the baseline, in words."""
    table = differences(experiment.runs)
    return {variant: ", ".join(
        f"{key} {row[variant]} for {row[experiment.baseline]}" for key, row in table.items()
        if row[variant] != row[experiment.baseline]) for variant in experiment.variants}
