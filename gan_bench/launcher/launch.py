"""The launcher: an experiment is prepared, its runs are worked on, and MLflow receives them.

Any number of launchers and workers share a root: a run is claimed before it is trained. A run whose
process has ended, but that is still RUNNING, is dead: `dead_runs` decides whether it is KILLED or
FAILED. A KILLED run is resumed, up to `retries` times.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import Say, Stopped, UserError
from gan_bench.journal.layout import Execution, make_root
from gan_bench.journal.schema import Status
from gan_bench.journal.sharing.lock import preparing
from gan_bench.journal.sharing.queue_file import (
    STOP,
    OverIndex,
    Queue,
    open_runs,
    read_queue,
    specs_of,
)
from gan_bench.journal.status import Progress
from gan_bench.launcher.clusters.remote_workers import DETACHED, RemoteWorkers
from gan_bench.launcher.crew import POLL, Crew, Slots, usual_slots, waiting_line
from gan_bench.launcher.grid import Grid
from gan_bench.launcher.preparation import (
    LaunchSettings,
    PreparedStudy,
    prepare_study,
    read_progress,
    refuse_impossible,
)
from gan_bench.launcher.processes import GRACE, LAST_ROUND, fork_context, look_at_machine
from gan_bench.launcher.reporters import Reporter
from gan_bench.launcher.stages import Left, add_second_stage
from gan_bench.launcher.worker import STOP_SIGNALS
from gan_bench.tracking.background import OUT_OF_TIME, BackgroundMirror
from gan_bench.tracking.store.address import resolve_uri


@dataclass(frozen=True)
class LaunchResult:
    """How an experiment ended.

    Attributes:
        runs: The progress of each run.
        missing: Why MLflow's copy is incomplete, which a later `sync` mends; empty if it is
            complete.
        hidden: Which runs MLflow has and does not show, and what to do, a line each.
        stopped: The exit status, 130 or 143, if the user stopped it.
        left: What another command, or another machine, may go on with.
    """

    runs: list[Progress]
    missing: str
    hidden: list[str] = field(default_factory=list)
    stopped: int | None = None
    left: Left = field(default_factory=Left)


def execute(experiment: ExperimentSpec, settings: LaunchSettings, reporter: Reporter,
            remote: RemoteWorkers | None = None, detach: bool = False) -> LaunchResult:
    """Train every unfinished run, measure what finished runs lack, and mirror what MLflow lacks.

    Runs that other processes work on are followed.

    Args:
        experiment: The runs, and what the experiment declares of their comparison.
        settings: Where and how.
        reporter: Receives progress events; `begin` and `close` only if a run is trained.
        remote: What trains them if this machine has no slots.
        detach: Whether to leave as soon as `remote` has workers.

    Returns:
        The progress of every run, whether it ended earlier, ended now or did not start. A failed
        run raises no exception.

    Raises:
        UserError: The whole experiment is impossible; no run has been trained.
        Stopped: Ctrl-C or SIGTERM before the training began.
    """
    workspace = settings.execution.workspace
    refuse_impossible(experiment, settings)
    if remote is not None:
        remote.refuse_impossible()
    resolve_uri(workspace)  # refuses a store that cannot be, before anything is written
    make_root(workspace.root)
    home = workspace.root / "runs" / experiment.name
    with raise_stopped():
        with preparing(workspace.root, reporter.say) as lease:
            study = prepare_study(experiment, settings, reporter, lease)
        mirror = BackgroundMirror(workspace, home, bool(study.waiting), reporter.say)
        if not study.waiting:
            return LaunchResult(study.runs, mirror.finish(), mirror.hidden())
        reporter.begin(study.runs)
        stopped, left = None, Left()
        try:
            left = work_on(study, home, settings.slots, settings.retries, reporter, mirror.request,
                           remote=remote, detach=detach)
        except Stopped as stop:
            stopped = stop.status
        finally:
            reporter.close()
        return _finish(study.runs, mirror, stopped, left)


def work_on(study: PreparedStudy, home: Path, slots: int | None, retries: int, reporter: Reporter,
            request: Callable[[Path], None] | None, until: float | None = None,
            remote: RemoteWorkers | None = None, detach: bool = False) -> Left:
    """Work on a prepared experiment until no run is left, or some have to be left.

    When the first stage of a search is over, its second one is prepared and worked on. Its runs
    are added to `study.runs`.

    Args:
        slots: As in `LaunchSettings`.
        request: Is told the folder of each run that has new records; None: nobody follows them.
        until: Of `time.monotonic()`, when all runs write a checkpoint and are left.
        remote, detach: As in `execute`.

    Raises:
        Stopped: The user stopped it.
    """
    while True:
        left = _work_on_stage(study, home, slots, retries, reporter, request, until, remote, detach)
        if left.why:
            break
        study, left = add_second_stage(study, home, reporter.say)
        if not study.waiting:
            break
        reporter.begin(study.runs)
    if remote is not None and (not left.why or left.unchosen):
        remote.dismiss()
    return left


def _work_on_stage(study: PreparedStudy, home: Path, slots: int | None, retries: int,
                   reporter: Reporter, request: Callable[[Path], None] | None, until: float | None,
                   remote: RemoteWorkers | None, detach: bool) -> Left:
    """Work on the waiting runs of a study as `work_on` does."""
    assert study.context is not None, "runs wait"
    threads = study.waiting[0].spec.compute.threads
    number = min(usual_slots(slots, study.gpus, threads), len(study.waiting))

    def changed(run: Progress) -> None:
        reporter.changed(run)
        if request is not None:
            request(run.folder)

    def leave() -> str:
        if until is not None and time.monotonic() > until:
            return "the time is over"
        if (home / STOP).exists():
            return f"`gan-bench stop {home.name}` asked for it"
        if remote is None:
            return ""
        for run in study.waiting:
            furthest[run.spec.id] = max(run.step, furthest.get(run.spec.id, 0))
        progress = len(grid.open), sum(furthest.values())
        busy = Counter(holder.job for holder in grid.elsewhere.values())
        why = remote.look(len(grid.open), progress, busy, grid.sweeps)
        return why or (DETACHED if detach and remote.has_workers else "")

    furthest: dict[str, int] = {}  # a run that is lost and begins again makes no progress
    grid = Grid(study.waiting, study.begun, retries, study.here, changed, OverIndex(home).add)
    crew = Crew(grid, study.execution, Slots(number, study.gpus, study.together), study.context,
                reporter, request or _ignore, leave, is_over=lambda: remote is None,
                follows=request is not None)
    try:
        why = crew.work() or waiting_line(grid)
        return Left(why, _left_runs(study.waiting, grid)) if why else Left()
    except Stopped:
        if remote is not None:
            with suppress(OSError):
                (home / STOP).touch()  # a worker that is just now requeued leaves at once
            remote.stop()
            _see_off(grid)
        raise


def _left_runs(waiting: list[Progress], grid: Grid) -> frozenset[str]:
    """Return the ids of the runs that have no result, and have not failed."""
    stopped = {run.spec.id for run in waiting
               if run.state in (Status.WAITING, Status.RUNNING, Status.KILLED)
               and not grid.is_exhausted(run)}
    return frozenset(stopped | set(grid.open))


def _see_off(grid: Grid) -> None:
    """Read what the runs of other machines record, until they are left or that takes too long."""
    deadline = time.monotonic() + GRACE
    grid.follow()
    while grid.elsewhere and time.monotonic() < deadline:
        time.sleep(POLL)
        grid.follow()


def _ignore(news: object) -> None:
    """Nobody wants to know."""


def study_of_queue(home: Path, queue: Queue, say: Say = _ignore) -> tuple[PreparedStudy, Left]:
    """Return what a prepared experiment has left to do, for a worker that has not prepared it.

    Where nothing waits, it is also what this worker cannot do.

    Args:
        say: Receives what is unusual about this machine.

    Raises:
        UserError: A specification cannot be read.
    """
    root = home.parents[1]
    execution: Execution = queue.execution(root)
    runs = [read_progress(spec, root) for spec in specs_of(open_runs(queue, home), home)]
    waiting = [run for run in runs if run.state != Status.FAILED]  # that one is damaged
    for run in waiting:
        run.is_measuring = run.spec.id in queue.measured
    study = PreparedStudy(runs, waiting, execution, {**queue.begun}, bool(queue.select))
    left = Left()
    if not waiting:  # of a search, the second stage may be
        study, left = add_second_stage(study, home, say)
    if not study.waiting:
        return study, left
    context = fork_context(queue.threads)
    specs = {(run.spec.variant, run.spec.draw): run.spec for run in study.waiting}
    gpus, here, together = look_at_machine([*specs.values()], study.execution, queue.together,
                                           context, say)
    return replace(study, context=context, gpus=gpus, together=together,
                   here=None if queue.allow_drift else here), left


def work_on_queue(home: Path, slots: int | None, reporter: Reporter, until: float | None = None,
                  ) -> LaunchResult:
    """Work on an experiment that another process has prepared.

    Raises:
        UserError: It is not prepared, or was stopped.
        Stopped: The user stopped it, and no run had begun.
    """
    queue = read_queue(home)
    if (home / STOP).exists():
        raise UserError(f"{home.name} was stopped by `gan-bench stop`; `gan-bench run` goes on "
                        f"with it")
    with raise_stopped():
        study, left = study_of_queue(home, queue, reporter.say)
        for run in study.runs:
            if run.state == Status.FAILED:
                reporter.say(run.why)
        if not study.waiting:
            return LaunchResult(study.runs, "", left=left)
        reporter.begin(study.runs)
        stopped = None
        try:
            left = work_on(study, home, slots, queue.retries, reporter, None, until)
        except Stopped as stop:
            stopped = stop.status
        finally:
            reporter.close()
        return LaunchResult(study.runs, "", [], stopped, left)


def _finish(runs: list[Progress], mirror: BackgroundMirror, stopped: int | None, left: Left,
            ) -> LaunchResult:
    """Mirror what is left; a user who stops the command, or has stopped it, waits for less."""
    hidden: list[str] = []
    try:
        missing = mirror.finish(None if stopped is None else LAST_ROUND)
        if stopped is None:  # a user who waits for the end waits for no further questions
            hidden = mirror.hidden()
    except Stopped as stop:
        stopped, missing = stop.status, OUT_OF_TIME
    return LaunchResult(runs, missing, hidden, stopped, left)


@contextmanager
def raise_stopped() -> Iterator[None]:
    """Raise `Stopped` at every Ctrl-C, SIGTERM and SIGUSR1."""
    def stop(number: int, frame: object) -> None:
        raise Stopped(128 + number)

    handlers = {number: signal.signal(number, stop) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
