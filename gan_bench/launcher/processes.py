"""The processes that train runs, and the process that prepares the experiment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess

import psutil

from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import UserError
from gan_bench.journal.layout import Execution
from gan_bench.journal.schema import Status
from gan_bench.journal.status import Progress
from gan_bench.launcher import worker
from gan_bench.launcher.dead_runs import SERVER_DIED, settle_dead_run
from gan_bench.launcher.reporters import Reporter
from gan_bench.tracking.background import BackgroundMirror

# README promises the table within ten seconds after the user stops the command: batch systems kill
# a process that takes longer.
GRACE = 6.0  # seconds for the runs' checkpoints
LAST_ROUND = 2.5  # seconds for the last round of mirroring
MAX_SOCKET = 103 if sys.platform == "darwin" else 107  # bytes of the path of a socket


def fork_context(threads: int) -> ForkServerContext:
    """Start the fork server, and return the context whose processes it forks."""
    os.environ.update(worker.process_environment(threads))
    _refuse_long_folder(tempfile.gettempdir())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(worker.PRELOAD)
    # A terminal sends Ctrl-C to every process; `timeout` and batch systems send SIGTERM. The server
    # and its children block both from the start. The launcher receives them after this block.
    resource_tracker.ensure_running()  # it unblocks the signals itself
    with delayed_signals():
        forkserver.ensure_running()
    return context


def _refuse_long_folder(folder: str) -> None:
    """Refuse a temporary folder whose path leaves no room for the fork server's socket."""
    socket = os.path.join(folder, "pymp-12345678", "listener-12345678")
    if len(os.fsencode(socket)) > MAX_SOCKET:
        raise UserError(f"{folder}: is too long for a temporary folder, in which a socket must "
                        f"lie; set TMPDIR to a shorter one, such as /tmp")


@contextmanager
def delayed_signals() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the block ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, worker.STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.STOP_SIGNALS)


def run_preparations(experiment: ExperimentSpec, execution: Execution, context: ForkServerContext,
                     reporter: Reporter) -> tuple[int, int, dict[str, str]]:
    """Prepare the experiment in a separate process.

    Returns:
        (GPUs to use, runs in one process, the hash of its extractor's weights by score).

    Raises:
        UserError: The preparations failed.
    """
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=worker.prepare_in_process,
                              args=(experiment, execution, sender))
    try:
        _start(process)
        sender.close()
        while True:
            kind, value = receiver.recv()
            if kind == "say":
                reporter.say(value)
            elif kind == "ready":
                gpus, together, weights = value
                return int(gpus), int(together), dict(weights)
            elif kind == "error":
                raise UserError(value)
            else:
                raise RuntimeError(value)
    except EOFError:
        raise UserError("the process that prepares the experiment was killed; perhaps memory ran "
                        "out") from None
    finally:
        if process.pid is not None:
            process.kill()
            process.join()


def _start(process: ForkServerProcess) -> None:
    """Start a process; if the fork server dies meanwhile, start both again.

    Raises:
        UserError: The fork server dies each time.
    """
    for _ in range(3):
        with suppress(EOFError, ConnectionError):
            process.start()
            return
    raise UserError("the server that forks processes was killed three times; perhaps memory ran "
                    "out")


class WorkerProcess:
    """A process that trains runs, and the connection that carries their last errors.

    Attributes:
        runs: The runs that it trains.
        killed: The ids of the runs that were unfinished when a signal ended the process.
        is_abandoned: Whether the launcher kills it.
    """

    def __init__(self, context: ForkServerContext, runs: list[Progress], execution: Execution,
                 gpu: int | None) -> None:
        self.runs, self.is_abandoned = runs, False
        self.killed: set[str] = set()
        self._last_words, sender = context.Pipe(duplex=False)
        ids = {run.spec.id for run in runs}
        execution = replace(execution, shorter_runs={
            run_id: folders for run_id, folders in execution.shorter_runs.items() if run_id in ids})
        self.process: ForkServerProcess = context.Process(
            target=worker.train_in_process,
            args=([run.spec for run in runs], execution, gpu, sender))
        for run in runs:
            run.follow()  # read the records of earlier attempts
            run.state, run.why, run.unmeasured = Status.RUNNING, "", ""
            run.notes.clear()
        _start(self.process)
        sender.close()
        self._identity: psutil.Process | None = None
        with suppress(psutil.Error):  # it may have ended
            self._identity = psutil.Process(self.process.pid)

    def follow(self, reporter: Reporter, mirror: BackgroundMirror) -> bool:
        """Read the new records of the runs; return whether the process has ended."""
        exit_code = self.process.exitcode  # before the records: a later one may still be written
        if exit_code == SERVER_DIED:
            self._kill_orphan()
        for run in self.runs:
            if run.follow():
                reporter.changed(run)
                mirror.request(run.folder)
            for note in run.notes:
                reporter.say(f"{run_label(run)} {note}")
            run.notes.clear()
        unfinished = [run for run in self.runs if run.state == Status.RUNNING]
        if exit_code is not None and unfinished:
            errors = dict(self._receive_errors())
            for run in unfinished:
                settle_dead_run(run, exit_code, errors.get(run.spec.id, ""),
                                self.is_abandoned)
                if run.state == Status.KILLED:
                    self.killed.add(run.spec.id)
                if run.is_measuring:  # it stays trained, and its journal as it is
                    run.state, run.why, run.unmeasured = Status.FINISHED, "", run.why
                mirror.request(run.folder)
        return exit_code is not None

    def _kill_orphan(self) -> None:
        """End the process, which may outlive its fork server: nothing would report its end."""
        if self._identity is not None:
            with suppress(psutil.Error):
                self._identity.kill()
                self._identity.wait(GRACE)

    def _receive_errors(self) -> Iterator[tuple[str, str]]:
        """Yield the id of each run that raised, and its error in one line."""
        with suppress(EOFError):
            while True:
                yield self._last_words.recv()


def run_label(run: Progress) -> str:
    """Return `<id> <variant> seed <seed>`."""
    return f"{run.spec.id} {run.spec.variant} seed {run.spec.seed}"
