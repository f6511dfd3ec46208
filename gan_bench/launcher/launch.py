"""The launcher: an experiment is prepared, its runs are worked on, and MLflow receives them.

Any number of launchers and workers share a root: a run is claimed before it is trained. A run whose
process has ended, but that is still RUNNING, is dead: `dead_runs` decides whether it is KILLED or
FAILED. A KILLED run is resumed, up to `retries` times.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import Stopped, UserError
from gan_bench.journal.layout import Execution, make_root
from gan_bench.journal.lock import preparing
from gan_bench.journal.queue_file import STOP, Queue, read_queue, specs_of
from gan_bench.journal.status import Progress, progress_of
from gan_bench.launcher.crew import NO_SLOTS, Crew, Slots, usual_slots, waiting_line
from gan_bench.launcher.fleet import Fleet
from gan_bench.launcher.grid import Grid
from gan_bench.launcher.preparation import (
    LaunchSettings,
    Study,
    prepare_study,
    refuse_impossible,
)
from gan_bench.launcher.processes import LAST_ROUND, fork_context, look_at_machine
from gan_bench.launcher.reporters import Reporter
from gan_bench.tracking.background import OUT_OF_TIME, BackgroundMirror

# SLURM announces a time limit by SIGUSR1, if it is asked to.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@dataclass(frozen=True)
class LaunchResult:
    """How an experiment ended.

    Attributes:
        runs: The progress of each run.
        missing: Why MLflow's copy is incomplete, which a later `sync` mends; empty if it is
            complete.
        hidden: Which runs MLflow has and does not show, and what to do, a line each.
        stopped: The exit status, 130 or 143, if the user stopped it.
        left: Why runs are left that nobody works on; empty if none is.
    """

    runs: list[Progress]
    missing: str
    hidden: list[str] = field(default_factory=list)
    stopped: int | None = None
    left: str = ""


def execute(experiment: ExperimentSpec, settings: LaunchSettings, reporter: Reporter,
            ) -> LaunchResult:
    """Train every unfinished run, measure what finished runs lack, and mirror what MLflow lacks.

    Runs that other processes work on are followed.

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
    refuse_impossible(experiment, settings)
    make_root(workspace.root)
    home = workspace.root / "runs" / experiment.name
    with raise_stopped():
        with preparing(workspace.root, reporter.say):
            study = prepare_study(experiment, settings, reporter)
        mirror = BackgroundMirror(workspace, home, bool(study.waiting), reporter.say)
        if not study.waiting:
            return LaunchResult(study.runs, mirror.finish(), mirror.hidden())
        reporter.begin(study.runs)
        stopped, left = None, ""
        try:
            fleet = None
            if settings.start_fleet is not None:
                fleet = settings.start_fleet(study, home, settings.slots, reporter.say)
            left = work_on(study, home, settings.slots, settings.retries, reporter, mirror.request,
                           fleet=fleet)
        except Stopped as stop:
            stopped = stop.status
        finally:
            reporter.close()
        return _finish(study.runs, mirror, stopped, left)


def work_on(study: Study, home: Path, slots: int | None, retries: int, reporter: Reporter,
            request: Callable[[Path], None] | None, until: float | None = None,
            fleet: Fleet | None = None) -> str:
    """Work on a prepared experiment until no run is left; return why some are left, or nothing.

    Args:
        slots: As in `LaunchSettings`.
        request: Is told the folder of each run that has new records; None: nobody follows them.
        until: Of `time.monotonic()`, when all runs write a checkpoint and are left.
        fleet: Does the work; None: this machine.

    Raises:
        Stopped: The user stopped it.
    """
    assert study.context is not None, "runs wait"
    threads = study.waiting[0].spec.compute.threads
    number = min(usual_slots(slots, study.gpus, threads), len(study.waiting))
    places = Slots(number, study.gpus, study.together) if fleet is None else NO_SLOTS

    def changed(run: Progress) -> None:
        reporter.changed(run)
        if request is not None:
            request(run.folder)

    def leave() -> str:
        if until is not None and time.monotonic() > until:
            return "the time is over"
        return f"`gan-bench stop {home.name}` asked for it" if (home / STOP).exists() else ""

    grid = Grid(study.waiting, study.begun, retries, study.here, changed)
    crew = Crew(grid, study.execution, places, study.context, reporter,
                 request or _ignore, leave, fleet, follows=request is not None)
    return crew.work() or waiting_line(grid)


def _ignore(folder: Path) -> None:
    """Nobody follows the runs."""


def study_of_queue(home: Path, queue: Queue) -> Study:
    """Return what a prepared experiment has left to do, for a worker that has not prepared it.

    Raises:
        UserError: A specification cannot be read.
    """
    root = home.parents[1]
    execution: Execution = queue.execution(root)
    runs = []
    for spec in specs_of(queue, home):
        run = progress_of(spec, root)
        run.is_measuring = run.state.is_result
        runs.append(run)
    if not runs:
        return Study([], [], execution, {})
    context = fork_context(queue.threads)
    gpus, here = look_at_machine(runs[0].spec, context)
    return Study(runs, runs, execution, queue.begun, context, gpus, queue.together,
                 None if queue.allow_drift else here)


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
        study = study_of_queue(home, queue)
        if not study.waiting:
            return LaunchResult([], "")
        reporter.begin(study.runs)
        stopped, left = None, ""
        try:
            left = work_on(study, home, slots, queue.retries, reporter, None, until)
        except Stopped as stop:
            stopped = stop.status
        finally:
            reporter.close()
        return LaunchResult(study.runs, "", [], stopped, left)


def _finish(runs: list[Progress], mirror: BackgroundMirror, stopped: int | None, left: str,
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
