"""The processes that train runs, and the process that prepares the experiment."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

import psutil

from gan_bench.config.declared import Declared
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import Say, UserError
from gan_bench.journal.layout import Execution
from gan_bench.journal.schema import Status
from gan_bench.journal.sharing.claims import Claim, Release, SupersededError
from gan_bench.journal.status import Progress
from gan_bench.launcher import worker
from gan_bench.launcher.dead_runs import SERVER_DIED, settle_dead_run
from gan_bench.launcher.reporters import Reporter

# README promises the table within ten seconds after the user stops the command: batch systems kill
# a process that takes longer.
GRACE = 6.0  # seconds for the runs' checkpoints
LAST_ROUND = 2.5  # seconds for the last round of mirroring
MAX_SOCKET = 103 if sys.platform == "darwin" else 107  # bytes of the path of a socket


@dataclass(frozen=True)
class Prepared:
    """What the process that prepares an experiment has learnt.

    Attributes:
        gpus: How many GPUs this machine uses.
        together: How many runs share a process.
        weights: By score, the hash of its extractor's weights.
        here: What the numbers of runs depend on here, as `circumstances` returns it.
    """

    gpus: int
    together: int
    weights: dict[str, str]
    here: dict[str, Any]


def fork_context(threads: int) -> ForkServerContext:
    """Start the fork server, and return the context whose processes it forks."""
    os.environ.update(worker.process_environment(threads))
    _refuse_long_folder(tempfile.gettempdir())
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(worker.PRELOAD)
    # A terminal sends Ctrl-C to every process; `timeout` and batch systems send SIGTERM. The server
    # and its children block both from the start. The launcher receives them after this block.
    with delayed_signals():  # for SIGUSR1, which ends whatever does not handle it
        resource_tracker.ensure_running()  # it unblocks the other two itself
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
    """Delay Ctrl-C, SIGTERM and SIGUSR1 until the block ends."""
    signal.pthread_sigmask(signal.SIG_BLOCK, worker.STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.STOP_SIGNALS)


def run_preparations(experiment: ExperimentSpec, execution: Execution, context: ForkServerContext,
                     reporter: Reporter, trains: bool = True) -> Prepared:
    """Prepare the experiment in a separate process.

    Args:
        trains: Whether this machine is one of those that train the runs.

    Raises:
        UserError: The preparations failed.
    """
    return Prepared(*_answer(context, worker.prepare_in_process, (experiment, execution, trains),
                             reporter.say, "prepares the experiment"))


def look_at_machine(runs: Sequence[RunSpec], execution: Execution, together: int,
                    context: ForkServerContext, say: Say) -> tuple[int, dict[str, Any], int]:
    """Return (GPUs to use, what the numbers of runs depend on here, how many share a process).

    Args:
        runs: One of each variant.
        together: How many runs share a GPU; 0: this machine's memory says it.

    Raises:
        UserError: The machine lacks the device.
    """
    experiment = ExperimentSpec(name=runs[0].experiment, declared=Declared(), runs=tuple(runs))
    gpus, here, together = _answer(context, worker.look_in_process,
                                   (experiment, execution, together), say,
                               "looks at this machine")
    return int(gpus), dict(here), int(together)


def _answer(context: ForkServerContext, target: Callable[..., None], arguments: tuple[Any, ...],
            say: Say, task: str) -> tuple[Any, ...]:
    """Return what a process of its own answers.

    Args:
        task: What it does, for the message that it was killed.

    Raises:
        UserError: It fails, or is killed.
    """
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=target, args=(*arguments, sender))
    try:
        _start(process)
        sender.close()
        while True:
            kind, value = receiver.recv()
            if kind == "say":
                say(value)
            elif kind == "ready":
                return tuple(value)
            elif kind == "error":
                raise UserError(value)
            else:
                raise RuntimeError(value)
    except EOFError:
        raise UserError(f"the process that {task} was killed; perhaps memory ran out") from None
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

    If it cannot be started, the claims are the caller's to release.

    Attributes:
        runs: The runs that it trains.
        killed: The ids of the runs that were unfinished when a signal ended the process.
        taken_over: The ids of the runs that another process has taken over meanwhile.
        is_abandoned: Whether the launcher kills it.
    """

    def __init__(self, context: ForkServerContext, claimed: list[tuple[Progress, Claim]],
                 execution: Execution, gpu: int | None) -> None:
        self.runs, self.is_abandoned = [run for run, _ in claimed], False
        self.killed: set[str] = set()
        self.taken_over: set[str] = set()
        self._claims = {run.spec.id: claim for run, claim in claimed}
        self._last_words, sender = context.Pipe(duplex=False)
        execution = replace(execution, shorter_runs={
            run_id: folders for run_id, folders in execution.shorter_runs.items()
            if run_id in self._claims},
            claims={run_id: claim.handed_on() for run_id, claim in self._claims.items()})
        self.process: ForkServerProcess = context.Process(
            target=worker.train_in_process,
            args=([run.spec for run in self.runs], execution, gpu, sender))
        for run in self.runs:
            run.follow()  # read the records of earlier attempts
            run.state, run.why, run.unmeasured = Status.RUNNING, "", ""
            run.notes.clear()
        _start(self.process)
        sender.close()
        self._identity: psutil.Process | None = None
        with suppress(psutil.Error):  # it may have ended
            self._identity = psutil.Process(self.process.pid)

    def follow(self, reporter: Reporter, request: Callable[[Path], None]) -> bool:
        """Read the new records of the runs; return whether the process has ended.

        Args:
            request: Is told the folder of each run that has new records.
        """
        exit_code = self.process.exitcode  # before the records: a later one may still be written
        if exit_code == SERVER_DIED:
            self._kill_orphan()
        for run in self.runs:
            if run.follow():
                reporter.changed(run)
                request(run.folder)
            for note in run.notes:
                reporter.say(f"{run_label(run)} {note}")
            run.notes.clear()
        unfinished = [run for run in self.runs if run.state == Status.RUNNING]
        if exit_code is not None and unfinished:
            errors = dict(self._receive_errors())
            for run in unfinished:
                self._settle(run, exit_code, errors.get(run.spec.id, ""))
                request(run.folder)
        if exit_code is not None:
            self._release_claims()
        return exit_code is not None

    def _settle(self, run: Progress, exit_code: int, error: str) -> None:
        """Decide how a run ended that has recorded no end."""
        claim = self._claims[run.spec.id]
        try:
            claim.refuse_superseded()
        except SupersededError:
            self.taken_over.add(run.spec.id)
            run.state = Status.WAITING
            return
        settle_dead_run(run, exit_code, error, self.is_abandoned, claim)
        if run.state == Status.KILLED:
            self.killed.add(run.spec.id)
        if run.is_measuring:  # it stays trained, and its journal as it is
            run.state, run.why, run.unmeasured = Status.FINISHED, "", run.why

    def _release_claims(self) -> None:
        """Release the claims, which say how the attempts ended: other machines count them."""
        for run in self.runs:
            how = Release.DONE
            if run.spec.id in self.killed and not self.is_abandoned:
                how = Release.KILLED
            elif run.state == Status.FAILED or run.unmeasured:
                how = Release.FAILED
            self._claims[run.spec.id].release(how)

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
    """Return `<id> <variant> seed <seed>`, with the draw of a search."""
    return f"{run.spec.id} {run.spec.label}"
