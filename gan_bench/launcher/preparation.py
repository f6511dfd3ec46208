"""What is done once before runs of an experiment are claimed: ids, data, extractors, folders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from gan_bench.atomic import remove_abandoned
from gan_bench.compare.search.confirming import with_confirm_runs
from gan_bench.config.declared import Declared
from gan_bench.config.search.search import SELECT
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import DamagedError, Say, UserError, count
from gan_bench.hardware import refuse_lacking
from gan_bench.journal.about import asked_weights, write_about
from gan_bench.journal.layout import Execution, Workspace, make_folder, remove_checkpoints
from gan_bench.journal.schema import Status
from gan_bench.journal.scores.extractor_weights import differ, to_ask_for
from gan_bench.journal.scores.missing_scores import missing_scores
from gan_bench.journal.sharing.claims import Claim
from gan_bench.journal.sharing.lock import changing_queue, settle_dead_runs
from gan_bench.journal.sharing.queue_file import FILE, write_queue, write_specs
from gan_bench.journal.shorter_runs import Beginning, beginnings, predecessor_folders
from gan_bench.journal.spec_file import rename_runs
from gan_bench.journal.status import Progress, progress_of
from gan_bench.journal.writing import Amendment, amend
from gan_bench.launcher.processes import fork_context, run_preparations
from gan_bench.launcher.reporters import Reporter
from gan_bench.tracking.runs.older_ids import take_over_older_runs
from gan_bench.tracking.store.address import is_server, resolve_uri, sqlite_path
from gan_bench.tracking.store.client import open_store


@dataclass(frozen=True)
class LaunchSettings:
    """The options of `gan-bench run` besides the experiment.

    Attributes:
        execution: Where and how each run is executed.
        slots: How many processes run at once. A process trains one run, or several on a GPU. None:
            the number of GPUs, or of cores divided by a run's threads. 0: other machines train.
        command: The command that repeats the experiment, for the notes in MLflow.
        retries: How often a run is resumed from its checkpoint after its process was killed.
        train: Whether runs are trained; else those that are trained are measured alone.
        mirrors: Whether this process copies into MLflow; a worker never does.
    """

    execution: Execution
    slots: int | None
    command: str
    retries: int = 2
    train: bool = True
    mirrors: bool = True


@dataclass(frozen=True)
class PreparedStudy:
    """An experiment that is prepared: its runs can be claimed.

    Attributes:
        runs: All its runs; `stages.add_second_stage` adds to them, and to `begun`.
        waiting: Those that are to be trained or measured.
        execution: Where and how.
        begun: By run id, the newest claim of each waiting run.
        has_second_stage: Whether runs of a second stage are added when these have a result: of a
            search, unless runs are measured alone.
        context: Forks the processes that train; None if nothing waits.
        gpus, together, here: As in `Prepared`.
    """

    runs: list[Progress]
    waiting: list[Progress]
    execution: Execution
    begun: dict[str, int]
    has_second_stage: bool = False
    context: ForkServerContext | None = None
    gpus: int = 0
    together: int = 1
    here: Mapping[str, Any] | None = None


def prepare_study(experiment: ExperimentSpec, settings: LaunchSettings, reporter: Reporter,
                  lease: Claim) -> PreparedStudy:
    """Prepare an experiment.

    Args:
        lease: Of the root's preparations. Data and extractors may take longer than another process
            waits for a sign of life; then that one prepares, and this one changes nothing more.

    Raises:
        UserError: The whole experiment is impossible; nothing has been trained.
        SupersededError: Another process prepares instead.
    """
    execution = replace(settings.execution, plugins=experiment.plugins)
    workspace, home = execution.workspace, execution.workspace.root / "runs" / experiment.name
    if settings.mirrors:
        _remove_leftovers(workspace)
    settle_dead_runs(home)
    lease.refuse_superseded()
    with _no_change_of_queue(home, reporter.say):
        experiment = _of_both_stages(experiment, workspace.root, reporter.say)
    runs, waiting = _read_runs(experiment, settings)
    declared = experiment.declared.with_changes(command=settings.command)
    if not waiting and not differ(runs):
        write_about(home, declared.under(asked_weights(home)))
        _rename(experiment, workspace, reporter)
        return PreparedStudy(runs, [], execution, {})
    found = beginnings(home, [run.spec for run in waiting if not run.is_measuring],
                       experiment.runs, experiment.annealed)
    _note_beginnings(waiting, found, reporter.say)
    execution = replace(execution, shorter_runs=predecessor_folders(found))
    # The fork server imports torch while this process imports MLflow.
    context = fork_context(experiment.runs[0].compute.threads)
    if settings.mirrors and not is_server(resolve_uri(workspace)):
        # An unusable database is reported before training.
        open_store(workspace)
    trains = settings.slots != 0
    prepared = run_preparations(experiment, execution, context, reporter, trains)
    # Folders are made only here, so a start that an error above stops leaves none.
    with _no_empty_folder_stays(home, waiting), _no_change_of_queue(home, reporter.say):
        lease.refuse_superseded()
        _make_folders(home, waiting, declared.under(to_ask_for(runs, prepared.weights)))
        waiting += _of_other_weights(runs)
        _rename(experiment, workspace, reporter)
        begun = write_specs(waiting, workspace.root)
        lease.refuse_superseded()
        if settings.train:  # workers measure what is to be trained, and leave `evaluate` alone
            kept = write_queue(home, waiting, begun, execution, settings.retries,
                               prepared.together,
                               [run.id for run in experiment.runs if run.stage == SELECT])
            if kept:
                reporter.say(f"{count(kept, 'run')} of an earlier command "
                             f"{'stays' if kept == 1 else 'stay'} in the queue of workers")
    here = prepared.here if trains and not execution.allow_drift else None
    return PreparedStudy(runs, waiting, execution, begun,
                         settings.train and experiment.search is not None, context, prepared.gpus,
                         prepared.together, here)


def _no_change_of_queue(home: Path, say: Say) -> AbstractContextManager[object]:
    """Keep workers from adding a second stage; before the first queue, there are none."""
    return changing_queue(home, say) if (home / FILE).exists() else nullcontext()


def _of_both_stages(experiment: ExperimentSpec, root: Path, say: Say) -> ExperimentSpec:
    """Return an experiment with its confirm runs, whose older runs are taken over."""
    take_over_runs(experiment.runs, root, say)
    if experiment.search is None:
        return experiment
    experiment = with_confirm_runs(experiment, root)
    take_over_runs(experiment.runs, root, say)
    return experiment


def take_over_runs(runs: Sequence[RunSpec], root: Path, say: Say) -> None:
    """Take over those of the runs that lie under ids of an earlier version, and say how many.

    Raises:
        UserError: A folder cannot be renamed.
    """
    if taken := take_over_older_runs(tuple(runs), root):
        say(f"{count(taken, 'run')} under ids of an earlier version taken over: their folders have "
            f"the present ids now")


def refuse_impossible(experiment: ExperimentSpec, settings: LaunchSettings) -> None:
    """Refuse what this machine lacks, and runs that are too short to be profiled.

    Raises:
        UserError: It lacks something, or a run is too short.
    """
    if settings.execution.profile and (short := min(run.steps for run in experiment.runs)) < 3:
        raise UserError(f"--profile needs runs of at least 3 steps, and one has {short}")
    compute = experiment.runs[0].compute
    if settings.slots != 0:
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
    runs = [read_progress(run, settings.execution.workspace.root) for run in experiment.runs]
    waiting = [run for run in runs if run.state == Status.WAITING and settings.train]
    for run in runs:
        run.is_measuring = bool(missing_scores(run))
        if run.state == Status.FINISHED and run.recording != run.spec.recording:
            _note_recording(run)
        if run.state.is_result:  # its process may have died before that
            remove_checkpoints(run.folder, run.segment, settings.execution.keep_checkpoints)
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
        UserError: They cannot be written.
    """
    make_folder(home)
    for run in waiting:
        make_folder(run.folder)
    write_about(home, declared)


@contextmanager
def _no_empty_folder_stays(home: Path, waiting: list[Progress]) -> Iterator[None]:
    """Remove the new folders that are empty when a disk without room stops the start."""
    new = [run.folder for run in waiting if not run.folder.exists()]
    new += [] if home.exists() else [home]
    try:
        yield
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


def read_progress(run: RunSpec, root: Path) -> Progress:
    """Return a run's progress; a run whose files are damaged is FAILED, and they stay as they are.
    """
    try:
        return progress_of(run, root)
    except DamagedError as error:
        return Progress(run, run.folder(root), Status.FAILED, str(error))
