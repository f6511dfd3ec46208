"""The processes that train, and the one that prepares."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess

from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import UserError
from gan_bench.journal import writing
from gan_bench.journal.layout import Execution
from gan_bench.journal.names import LOG
from gan_bench.journal.schema import Status
from gan_bench.journal.status import Progress
from gan_bench.launcher import worker
from gan_bench.launcher.reporters import Reporter
from gan_bench.tracking.background import BackgroundMirror

# When the user stops it, the table has to be there within the ten seconds that README promises,
# for batch systems kill what takes longer.
GRACE = 6.0  # seconds for the runs' checkpoints


LAST_WORDS = 2.5  # seconds for MLflow to hear of it


def fork_context(threads: int) -> ForkServerContext:
    os.environ.update(worker.process_environment(threads))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(worker.PRELOAD)
    # A terminal sends Ctrl-C to every process, and `timeout` and batch systems SIGTERM: the server
    # and what it forks are deaf to both from their first moment, and the launcher hears them later.
    resource_tracker.ensure_running()  # it unblocks them itself
    with signals_wait():
        forkserver.ensure_running()
    return context


@contextmanager
def signals_wait() -> Iterator[None]:
    """Put off Ctrl-C and SIGTERM until the block has ended."""
    signal.pthread_sigmask(signal.SIG_BLOCK, worker.STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.STOP_SIGNALS)


def run_preparations(experiment: ExperimentSpec, execution: Execution, context: ForkServerContext,
             reporter: Reporter) -> tuple[int, int]:
    """Do the preparations in a process of their own.

    Returns:
        (GPUs to use, runs in one process).

    Raises:
        UserError: They failed.
    """
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=worker.prepare_in_process,
                              args=(experiment, execution, sender))
    process.start()
    sender.close()
    try:
        while True:
            kind, value = receiver.recv()
            if kind == "say":
                reporter.say(value)
            elif kind == "ready":
                gpus, together = value
                return int(gpus), int(together)
            elif kind == "error":
                raise UserError(value)
            else:
                raise RuntimeError(value)
    except EOFError:
        raise UserError("the preparations were killed, perhaps for want of memory") from None
    finally:
        process.kill()
        process.join()


class WorkerProcess:
    """A process that trains runs, and the connection for their last words.

    Attributes:
        runs: Whose process it is.
        killed: The ids of those that it has left without a word.
        let_go: Whether it is the launcher that kills it.
    """

    def __init__(self, context: ForkServerContext, runs: list[Progress], execution: Execution,
                 gpu: int | None) -> None:
        self.runs, self.let_go = runs, False
        self.killed: set[str] = set()
        self._last_words, sender = context.Pipe(duplex=False)
        self.process: ForkServerProcess = context.Process(target=worker.train_in_process, args=(
            [run.spec for run in runs], execution, gpu, sender))
        for run in runs:
            run.follow()  # what earlier attempts have left
            run.state, run.why = Status.RUNNING, ""
            run.notes.clear()
        self.process.start()
        sender.close()

    def follow(self, reporter: Reporter, mirror: BackgroundMirror) -> bool:
        """Take in what the runs have recorded; return whether their process has ended."""
        ended = self.process.exitcode is not None
        for run in self.runs:
            if run.follow():
                reporter.changed(run)
                mirror.wanted(run.folder)
            for note in run.notes:
                reporter.say(f"{run_label(run)} {note}")
            run.notes.clear()
        silent = [run for run in self.runs if run.state == Status.RUNNING]
        if ended and silent:
            words = dict(self._words())
            for run in silent:
                self._settle(run, words.get(run.spec.id, ""))
                mirror.wanted(run.folder)
        return ended

    def _words(self) -> Iterator[tuple[str, str]]:
        with suppress(EOFError):
            while True:
                yield self._last_words.recv()

    def _settle(self, run: Progress, words: str) -> None:
        """Give a run whose process has not recorded its end the state that is true."""
        code = self.process.exitcode
        assert code is not None, "it has ended"
        if code < 0:
            self.killed.add(run.spec.id)
            run.state = Status.KILLED
            run.why = ("stopped by the user, before it could write a checkpoint" if self.let_go else
                       f"its process ended by signal {-code} ({signal.Signals(-code).name})")
        else:
            run.state = Status.FAILED
            run.why = words or f"its process ended with status {code}; see {LOG} in its folder"
        # A full disk, or a process that outlives its fork server: the next launcher settles it.
        with suppress(OSError, UserError):
            writing.settle_run(run.folder, run.state, run.why)


def run_label(run: Progress) -> str:
    return f"{run.spec.id} {run.spec.variant} seed {run.spec.seed}"
