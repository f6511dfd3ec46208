"""The launcher: a process per run on slots, their journals followed and mirrored into MLflow.

A run whose process has ended, but that is still RUNNING, is dead: `dead_runs` decides whether it is
KILLED or FAILED. The launcher resumes a KILLED run, up to `retries` times.
"""

from __future__ import annotations

import math
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from pathlib import Path

from gan_bench.atomic import remove_abandoned
from gan_bench.config.declared import Declared
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import DamagedError, Say, Stopped, UserError, count
from gan_bench.hardware import refuse_lacking, usable_cores
from gan_bench.journal.about import asked_weights, write_about
from gan_bench.journal.extractor_weights import differ, to_ask_for
from gan_bench.journal.layout import (
    Execution,
    Workspace,
    make_folder,
    make_root,
    remove_checkpoints,
)
from gan_bench.journal.lock import locked
from gan_bench.journal.missing_scores import missing_scores
from gan_bench.journal.schema import Status
from gan_bench.journal.shorter_runs import Beginning, beginnings, predecessor_folders
from gan_bench.journal.spec_file import rename_runs
from gan_bench.journal.status import Progress, progress_of
from gan_bench.journal.writing import Amendment, amend
from gan_bench.launcher.processes import (
    GRACE,
    LAST_ROUND,
    WorkerProcess,
    delayed_signals,
    fork_context,
    run_label,
    run_preparations,
)
from gan_bench.launcher.reporters import Reporter
from gan_bench.tracking.address import is_server, resolve_uri, sqlite_path
from gan_bench.tracking.background import OUT_OF_TIME, BackgroundMirror
from gan_bench.tracking.client import open_store
from gan_bench.tracking.older_ids import take_over_older_runs

POLL = 0.5  # seconds between two looks at the journals


@dataclass(frozen=True)
class LaunchSettings:
    """The options of `gan-bench run` besides the experiment.

    Attributes:
        execution: Where and how each run is executed.
        slots: How many processes run at once. A process trains one run, or several on a GPU. None:
            the number of GPUs, or of cores divided by a run's threads.
        command: The command that repeats the experiment, for the notes in MLflow.
        retries: How often a run is resumed from its checkpoint after its process was killed.
        train: Whether runs are trained; else those that are trained are measured alone.
    """

    execution: Execution
    slots: int | None
    command: str
    retries: int = 2
    train: bool = True


@dataclass(frozen=True)
class LaunchResult:
    """How an experiment ended.

    Attributes:
        runs: The progress of each run.
        missing: Why MLflow's copy is incomplete, which a later `sync` mends; empty if it is
            complete.
        hidden: Which runs MLflow has and does not show, and what to do, a line each.
        stopped: The exit status, 130 or 143, if the user stopped it.
    """

    runs: list[Progress]
    missing: str
    hidden: list[str] = field(default_factory=list)
    stopped: int | None = None


def execute(experiment: ExperimentSpec, settings: LaunchSettings, reporter: Reporter,
            ) -> LaunchResult:
    """Train every unfinished run, measure what finished runs lack, and mirror what MLflow lacks.

    Args:
        experiment: The runs, and what the experiment declares of their comparison.
        settings: Where and how.
        reporter: Receives progress events; `begin` and `close` only if a run is trained.

    Returns:
        The progress of every run, whether it ended earlier, ended now or did not start. A failed
        run raises no exception.

    Raises:
        UserError: The whole experiment is impossible; no run has been trained.
        Stopped: Ctrl-C or SIGTERM before the training began.
    """
    workspace = settings.execution.workspace
    settings = replace(settings, execution=replace(settings.execution,
                                                   plugins=experiment.plugins))
    _refuse_impossible(experiment, settings)
    resolve_uri(workspace)  # refuses a store that cannot be, before anything is written
    make_root(workspace.root)
    _remove_leftovers(workspace)
    home = workspace.root / "runs" / experiment.name
    with locked(home), _raise_stopped():
        if taken := take_over_older_runs(experiment.runs, workspace.root):
            reporter.say(f"{count(taken, 'run')} under ids of an earlier version taken over: their "
                         f"folders have the present ids now")
        runs, waiting = _read_runs(experiment, settings)
        declared = experiment.declared.with_changes(command=settings.command)
        if not waiting and not differ(runs):
            write_about(home, declared.under(asked_weights(home)))
            _rename(experiment, workspace, reporter)
            mirror = BackgroundMirror(workspace, home, False, reporter.say)
            return LaunchResult(runs, mirror.finish(), mirror.hidden())
        found = beginnings(home, [run.spec for run in waiting if not run.is_measuring],
                           experiment.runs, experiment.annealed)
        _note_beginnings(waiting, found, reporter.say)
        settings = replace(settings, execution=replace(settings.execution,
                                                       shorter_runs=predecessor_folders(found)))
        # The fork server imports torch while this process imports MLflow.
        context = fork_context(experiment.runs[0].compute.threads)
        if not is_server(resolve_uri(workspace)):  # report an unusable database before training
            open_store(workspace)
        gpus, together, prepared = run_preparations(experiment, settings.execution, context,
                                                    reporter)
        # Folders are made only here, so a start that an error above stops leaves none.
        _make_folders(home, waiting, declared.under(to_ask_for(runs, prepared)))
        waiting += _of_other_weights(runs)
        _rename(experiment, workspace, reporter)
        mirror = BackgroundMirror(workspace, home, True, reporter.say)
        reporter.begin(runs)
        stopped = None
        try:
            _train_all(waiting, settings, context, gpus, together, reporter, mirror)
        except Stopped as stop:
            stopped = stop.status
        finally:
            reporter.close()
        return _finish(runs, mirror, stopped)


def _refuse_impossible(experiment: ExperimentSpec, settings: LaunchSettings) -> None:
    """Refuse what this machine lacks, and runs that are too short to be profiled."""
    if settings.execution.profile and (short := min(run.steps for run in experiment.runs)) < 3:
        raise UserError(f"--profile needs runs of at least 3 steps, and one has {short}")
    compute = experiment.runs[0].compute
    refuse_lacking(compute.device, compute.precision, compute.pack)


def _note_recording(run: Progress) -> None:
    """Let a finished run that lacks nothing say so at its journal's end, where `plan` looks."""
    if run.is_measuring:
        return
    with suppress(UserError, OSError):  # then plan reads the whole journal
        amend(run.folder, Amendment({}, {}, end={"recording": run.spec.recording}))
        run.follow()


def _read_runs(experiment: ExperimentSpec, settings: LaunchSettings,
               ) -> tuple[list[Progress], list[Progress]]:
    """Return all runs, and those that are to be trained or measured."""
    runs = [_read_progress(run, settings.execution.workspace) for run in experiment.runs]
    waiting = [run for run in runs if run.state == Status.WAITING and settings.train]
    for run in runs:
        run.is_measuring = bool(missing_scores(run))
        if run.state == Status.FINISHED and run.recording != run.spec.recording:
            _note_recording(run)
        if run.state.is_result:  # its process may have died before that
            remove_checkpoints(run.folder, settings.execution.keep_checkpoints)
    return runs, waiting + [run for run in runs if run.is_measuring]


def _of_other_weights(runs: list[Progress]) -> list[Progress]:
    """Return the runs that are to be measured anew, under the weights that `about.json` says now.
    """
    others = []
    for run in runs:
        if run.state == Status.FINISHED:
            run.follow()  # which of its scores count may have changed
            if not run.is_measuring and missing_scores(run):
                run.is_measuring = True
                others.append(run)
    return others


def _finish(runs: list[Progress], mirror: BackgroundMirror, stopped: int | None) -> LaunchResult:
    """Mirror what is left; a user who stops the command, or has stopped it, waits for less."""
    hidden: list[str] = []
    try:
        missing = mirror.finish(None if stopped is None else LAST_ROUND)
        if stopped is None:  # a user who waits for the end waits for no further questions
            hidden = mirror.hidden()
    except Stopped as stop:
        stopped, missing = stop.status, OUT_OF_TIME
    return LaunchResult(runs, missing, hidden, stopped)


def _rename(experiment: ExperimentSpec, workspace: Workspace, reporter: Reporter) -> None:
    """Give the runs their variants' present names, which MLflow shows when they are mirrored."""
    for (old, new), n in rename_runs(experiment.runs, workspace.root).items():
        reporter.say(f"{count(n, 'run')} of {old} {'is' if n == 1 else 'are'} called {new} now")


def _note_beginnings(waiting: list[Progress], found: dict[str, Beginning], say: Say) -> None:
    """Set the first steps of the runs that continue from others, and say what the others do."""
    continuing = [run for run in waiting
                  if run.spec.id in found and found[run.spec.id].predecessors]
    for run in continuing:
        run.step = found[run.spec.id].predecessors[0].step  # so that the pace counts no step twice
    if continuing:
        say(f"{count(len(continuing), 'run')} continue from shorter ones, as `plan` shows")
    fewer = [predecessor.intervals for run in continuing
             if (predecessor := found[run.spec.id].predecessors[0]).intervals]
    if fewer:
        say(f"the curves of {count(len(fewer), 'run')} have fewer points in the first steps: "
            f"{'; '.join(dict.fromkeys(fewer))}")
    lines = [f"{run_id} {line}" for run_id, beginning in found.items()
             if not beginning.predecessors and (line := str(beginning))]
    if lines:
        others = f" (and {len(lines) - 1} more, as `plan` shows)" if len(lines) > 1 else ""
        say(lines[0] + others)


def _make_folders(home: Path, waiting: list[Progress], declared: Declared) -> None:
    """Make the folders of the runs, and write what the experiment declares.

    Raises:
        UserError: They cannot be written; no empty folder stays.
    """
    new = [run.folder for run in waiting if not run.folder.exists()]
    try:
        for run in waiting:
            make_folder(run.folder)
        write_about(home, declared)
    except UserError:
        for folder in new:
            with suppress(OSError):
                folder.rmdir()
        raise


def _remove_leftovers(workspace: Workspace) -> None:
    """Remove databases that killed processes have left while they were being created."""
    database = sqlite_path(resolve_uri(workspace))
    if database:
        remove_abandoned(database.parent, ".mlflow-")


def _read_progress(run: RunSpec, workspace: Workspace) -> Progress:
    """Return a run's progress; a run whose files are damaged is FAILED, and they stay as they are.
    """
    try:
        return progress_of(run, workspace.root)
    except DamagedError as error:
        return Progress(run, workspace.run_folder(run), Status.FAILED, str(error))


@contextmanager
def _raise_stopped() -> Iterator[None]:
    """Raise `Stopped` at every Ctrl-C and every SIGTERM."""
    def stop(number: int, frame: object) -> None:
        raise Stopped(128 + number)

    handlers = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _train_all(waiting: list[Progress], settings: LaunchSettings, context: ForkServerContext,
               gpus: int, together: int, reporter: Reporter, mirror: BackgroundMirror) -> None:
    """Keep the slots busy until every run has ended.

    Raises:
        Stopped: The user stopped it. Every run has written a checkpoint, unless that took too long
            or the user stopped it a second time.
    """
    threads = waiting[0].spec.compute.threads
    slots = settings.slots or gpus or max(1, usable_cores() // threads)
    slots = min(slots, len(waiting))
    together = runs_per_process(together, slots, gpus)
    queue = list(reversed(waiting))
    running: dict[int, WorkerProcess] = {}
    killed: Counter[str] = Counter()
    try:
        while queue or running:
            free = [slot for slot in range(slots) if slot not in running]
            for slot, share in zip(free, shares(len(queue), len(free), together), strict=False):
                gpu = slot % gpus if gpus else None
                with delayed_signals():  # every process that has started is in `running`
                    running[slot] = WorkerProcess(context, [queue.pop() for _ in range(share)],
                                                  settings.execution, gpu)
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
                        reporter.say(f"{run_label(run)}: {run.why or run.unmeasured}; resumed "
                                     f"({killed[run.spec.id]} of {settings.retries})")
                        queue.append(run)
                    else:
                        reporter.changed(run)
    except Stopped:
        reporter.say("stopping: each run writes a checkpoint; repeat the signal to stop at once")
        for worker in running.values():
            worker.process.terminate()
        deadline = time.monotonic() + GRACE
        for worker in running.values():
            worker.process.join(max(0, deadline - time.monotonic()))
        raise
    finally:
        for worker in running.values():
            worker.is_abandoned = True
            worker.process.kill()
        for worker in running.values():
            worker.process.join()
            worker.follow(reporter, mirror)
            for run in worker.runs:
                reporter.changed(run)


def runs_per_process(together: int, slots: int, gpus: int) -> int:
    """Return how many runs one process trains.

    `together` runs fit on one GPU at once; the processes on a GPU share them. With 3 slots on 2
    GPUs, one GPU has two processes.
    """
    if not gpus:
        return together
    return max(1, together // math.ceil(slots / gpus))


def shares(waiting: int, free: int, together: int) -> list[int]:
    """Return how many of the waiting runs each free slot starts, in shares as equal as possible.

    Several runs in one process take hardly longer than one run. Unequal shares would cause a second
    round for the runs that found no room. The list leaves out slots that start no run.

    Args:
        together: The largest number of runs that one process trains.
    """
    if not free:
        return []
    share, over = divmod(min(waiting, free * together), free)
    return [count for count in [share + 1] * over + [share] * (free - over) if count]
