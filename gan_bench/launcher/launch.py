"""The launcher: a process per run on slots, their journals followed and mirrored into MLflow."""

from __future__ import annotations

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from pathlib import Path

from gan_bench.config.differences import variant_differences
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import DamagedError, Stopped, UserError
from gan_bench.hardware import refuse_lacking
from gan_bench.journal.about import write_about
from gan_bench.journal.layout import Execution, make_folder, make_root, remove_checkpoints
from gan_bench.journal.lock import locked
from gan_bench.journal.schema import Status
from gan_bench.journal.status import Progress, progress_of
from gan_bench.launcher.processes import (
    GRACE,
    LAST_WORDS,
    WorkerProcess,
    fork_context,
    run_label,
    run_preparations,
    signals_wait,
)
from gan_bench.launcher.reporters import Reporter
from gan_bench.tracking.background import BackgroundMirror

POLL = 0.5  # seconds between two looks at the journals


@dataclass(frozen=True)
class LaunchSettings:
    """What `gan-bench run` has been told besides the experiment.

    Attributes:
        execution: Where and how each run is executed.
        slots: How many processes at once, of a run each or, on a GPU, of several; None: as many
            as cores (over a run's threads), or GPUs.
        tracking_uri: MLflow's store; None: MLFLOW_TRACKING_URI, or the database in `root`.
        command: How to repeat it, for the notes in MLflow.
        retries: How often a run whose process was killed is taken up again from its checkpoint.
    """

    execution: Execution
    slots: int | None
    tracking_uri: str | None
    command: str
    retries: int = 2


@dataclass(frozen=True)
class LaunchResult:
    """How an experiment ended.

    Attributes:
        runs: How each run did.
        missing: Why MLflow has not got everything; empty if it has.
        stopped: The status to end with, 130 or 143, if the user stopped it.
    """

    runs: list[Progress]
    missing: str
    stopped: int | None = None


def execute(experiment: ExperimentSpec, settings: LaunchSettings, reporter: Reporter,
            ) -> LaunchResult:
    """Train what is not yet trained, and mirror what is not yet mirrored.

    Args:
        experiment: Its runs, and what their comparison must know.
        settings: Where and how.
        reporter: Is told of all that happens; `begin` and `close` only where there is something to
            train.

    Returns:
        How every run stands, also those that had ended before or were not reached; runs that
        failed are no exception here.

    Raises:
        UserError: Something makes the whole experiment impossible; nothing has been trained.
        Stopped: Ctrl-C or SIGTERM, before there was anything to train.
    """
    root = settings.execution.root
    if settings.execution.profile and (short := min(run.steps for run in experiment.runs)) < 3:
        raise UserError(f"--profile needs runs of at least 3 steps, and there is one of {short}")
    compute = experiment.runs[0].compute
    refuse_lacking(compute.device, compute.precision, compute.pack)
    make_root(root)
    home = root / "runs" / experiment.name
    with locked(home), _terminable():
        runs = [_progress(run, root) for run in experiment.runs]
        waiting = [run for run in runs if run.state == Status.WAITING]
        for run in runs:
            if run.state.is_result:
                remove_checkpoints(run.folder)  # its process may have died before it did so
            else:
                make_folder(run.folder)
        write_about(home, {**experiment.declared, "command": settings.command,
                           "differs": _what_differs(experiment)})
        if not waiting:
            return LaunchResult(runs, BackgroundMirror(root, settings.tracking_uri, home, False,
                                         reporter.say).finish())
        # Its server imports torch while MLflow is imported here.
        context = fork_context(experiment.runs[0].compute.threads)
        mirror = BackgroundMirror(root, settings.tracking_uri, home, True, reporter.say)
        gpus, together = run_preparations(experiment, settings.execution, context, reporter)
        reporter.begin(runs)
        stopped = None
        try:
            _train_all(waiting, settings, context, gpus, together, reporter, mirror)
        except Stopped as stop:
            stopped = stop.status
        finally:
            reporter.close()
        try:
            missing = mirror.finish(None if stopped is None else LAST_WORDS)
        except Stopped as stop:
            stopped, missing = stop.status, "there was no time for the rest"
        return LaunchResult(runs, missing, stopped)


def _progress(run: RunSpec, root: Path) -> Progress:
    """Return a run's progress; a damaged one has FAILED and is left alone, and others go on."""
    try:
        return progress_of(run, root)
    except DamagedError as error:
        return Progress(run, run.folder(root), Status.FAILED, str(error))


@contextmanager
def _terminable() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM alike end in `Stopped`, each time that they come."""
    def stop(number: int, frame: object) -> None:
        raise Stopped(128 + number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _train_all(waiting: list[Progress], settings: LaunchSettings, context: ForkServerContext,
               gpus: int, together: int, reporter: Reporter, mirror: BackgroundMirror) -> None:
    """Keep the slots busy until every run has ended.

    Raises:
        Stopped: The user stopped it; every run has written a checkpoint, unless it took too long or
            the user did not want to wait.
    """
    threads = waiting[0].spec.compute.threads
    slots = settings.slots or gpus or max(1, len(os.sched_getaffinity(0)) // threads)
    together = runs_per_process(together, slots, gpus)
    queue = list(reversed(waiting))
    running: dict[int, WorkerProcess] = {}
    killed: Counter[str] = Counter()
    try:
        while queue or running:
            free = [slot for slot in range(slots) if slot not in running]
            for slot, share in zip(free, shares(len(queue), len(free), together), strict=False):
                with signals_wait():  # none is started that is not known of
                    running[slot] = WorkerProcess(context, [queue.pop() for _ in range(share)],
                                            settings.execution, slot % gpus if gpus else None)
                for run in running[slot].runs:
                    reporter.changed(run)
            wait([worker.process.sentinel for worker in running.values()], timeout=POLL)
            for slot, worker in list(running.items()):
                if not worker.follow(reporter, mirror):
                    continue
                del running[slot]
                for run in worker.runs:
                    if run.spec.id in worker.killed and killed[run.spec.id] < settings.retries:
                        killed[run.spec.id] += 1
                        reporter.say(f"{run_label(run)}: {run.why}; taken up again "
                                     f"({killed[run.spec.id]} of {settings.retries})")
                        queue.append(run)
                    else:
                        reporter.changed(run)
    except Stopped:
        reporter.say("stopping: each run writes a checkpoint; once more to stop at once")
        for worker in running.values():
            worker.process.terminate()
        deadline = time.monotonic() + GRACE
        for worker in running.values():
            worker.process.join(max(0, deadline - time.monotonic()))
        raise
    finally:
        for worker in running.values():
            worker.let_go = True
            worker.process.kill()
        for worker in running.values():
            worker.process.join()
            worker.follow(reporter, mirror)
            for run in worker.runs:
                reporter.changed(run)


def runs_per_process(together: int, slots: int, gpus: int) -> int:
    """Return how many runs one process trains, where `together` runs fit on one GPU.

    The processes of a GPU share what fits on it. With 3 slots on 2 GPUs, one of the GPUs has two.
    """
    if not gpus:
        return together
    return max(1, together // math.ceil(slots / gpus))


def shares(waiting: int, free: int, together: int) -> list[int]:
    """Return how many of the waiting runs each free slot starts now, in shares as equal as can be.

    Runs of one process take hardly longer than one run, so a slot that starts fewer leaves the
    others with a second round. Slots that start none have no share.

    Args:
        together: The most runs that one process trains.
    """
    if not free:
        return []
    share, over = divmod(min(waiting, free * together), free)
    return [count for count in [share + 1] * over + [share] * (free - over) if count]


def _what_differs(experiment: ExperimentSpec) -> dict[str, str]:
    """Return for each variant in what it differs from the baseline, in words."""
    table = variant_differences(experiment.runs)
    return {variant: ", ".join(
        f"{key} {row[variant]} for {row[experiment.baseline]}" for key, row in table.items()
        if row[variant] != row[experiment.baseline]) for variant in experiment.variants}
