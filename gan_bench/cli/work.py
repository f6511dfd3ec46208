"""`gan-bench work` and `stop`: workers on any number of machines share the runs of an experiment.

The names of shipped experiments and YAML files are prepared as `run` does it, unless another
process has done so. The name of an experiment in the root is what was prepared there.
"""

from __future__ import annotations

import re
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from gan_bench.cli.completion import complete_experiment
from gan_bench.cli.options import (
    DATA,
    ROOT,
    AllowDrift,
    AsJson,
    CheckpointEvery,
    DataRoot,
    Keep,
    Plugins,
    Retries,
    Root,
    Set,
    Slots,
    print_fitting,
    run_command,
)
from gan_bench.cli.running.run import choose_reporter
from gan_bench.config.search.search import SELECT
from gan_bench.config.shipped import is_experiment
from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import RUNS_LEFT, Say, Stopped, UserError, count, unwritable
from gan_bench.journal.about import read_about
from gan_bench.journal.layout import Execution, Workspace, claimed_folders, make_root
from gan_bench.journal.schema import Status
from gan_bench.journal.sharing.claims import holder_of
from gan_bench.journal.sharing.lock import preparing
from gan_bench.journal.sharing.queue_file import FILE, STOP, read_queue
from gan_bench.journal.status import Progress, state_of
from gan_bench.launcher.clusters.slurm_job import leave_job, noted_signals
from gan_bench.launcher.launch import LaunchResult, work_on_queue
from gan_bench.launcher.preparation import LaunchSettings, prepare_study, refuse_impossible
from gan_bench.launcher.reporters import Reporter
from gan_bench.registry import nearest

SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

Experiment = Annotated[str, typer.Argument(
    metavar="EXPERIMENT", autocompletion=complete_experiment,
    help="The name of an experiment that was prepared in the root, or its YAML file.")]


def add_work_commands(app: typer.Typer) -> None:
    """Add the commands to the program."""
    @app.command()
    def work(
        experiment: Experiment,
        period: Annotated[str | None, typer.Option(
            "--for", metavar="TIME", help="When the time is over, all runs write a checkpoint and "
            "are left to others: 4h, 30m, 1h30m. \\[default: until no run is left]")] = None,
        settings: Set = [],
        plugins: Plugins = [],
        root: Root = ROOT,
        data: DataRoot = DATA,
        slots: Slots = None,
        retries: Retries = 2,
        checkpoint_every: CheckpointEvery = None,
        keep_checkpoints: Keep = "last",
        allow_drift: AllowDrift = False,
        as_json: AsJson = False,
    ) -> None:
        """Claim runs of an experiment, train them, and take the next; beside other workers.

        Any number of workers on any number of machines share a root. MLflow receives nothing from
        them: `gan-bench run` and `gan-bench sync` copy what they record. An experiment that
        another process has prepared keeps the options that it was prepared with.

        Exit status: 0 no run is left; 1 a run failed; 2 nothing could be done; 75 runs are left;
        130 and 143 stopped.
        """
        until = None if period is None else time.monotonic() + parse_period(period)
        reporter = choose_reporter(as_json)
        execution = Execution(Workspace(root, data), checkpoint_every, allow_drift,
                              keep_checkpoints=keep_checkpoints)
        launch = LaunchSettings(execution, slots, run_command(Path(experiment), settings, plugins),
                                retries, mirrors=False)
        home = prepare_work(experiment, launch, settings, plugins, reporter)
        if status := _report_work(_work(home, slots, reporter, until), reporter.say):
            raise typer.Exit(status)

    @app.command()
    def stop(experiment: Experiment, root: Root = ROOT) -> None:
        """Ask all workers of an experiment, on all machines, to write checkpoints and to leave.

        `gan-bench run` goes on with it, to the same bits.
        """
        for line in stop_workers(Workspace(root).root, experiment):
            print_fitting(line)


def parse_period(text: str) -> float:
    """Return the seconds that a text such as `1h30m` stands for.

    Raises:
        UserError: It is no period.
    """
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)([smhd])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise UserError(f"--for {text}: is no time; write 4h, 30m, 90s or 1h30m")
    return sum(float(number) * SECONDS[unit] for number, unit in parts)


def prepare_work(experiment: str, launch: LaunchSettings, settings: list[str],
                 plugins: list[Path], reporter: Reporter) -> Path:
    """Return the folder of an experiment that is prepared; prepare a YAML file's, if need be.

    Raises:
        UserError: There is no such experiment, or it is impossible.
    """
    workspace = launch.execution.workspace
    home = workspace.root / "runs" / experiment
    is_name = "/" not in experiment and (home / FILE).exists() and not settings and not plugins
    if is_name or not is_experiment(experiment):
        if settings or plugins:
            raise UserError("--set and --plugin change what a file says; give the experiment's "
                            "YAML")
        _refuse_unknown(workspace.root, experiment)
        return home
    from gan_bench.cli.mistakes import check_experiment
    from gan_bench.config.experiment import load_experiment

    file = check_experiment(Path(experiment), workspace.root)
    spec = load_experiment(file, workspace.data_root, settings, plugins, root=workspace.root)
    refuse_impossible(spec, launch)
    make_root(workspace.root)
    home = workspace.root / "runs" / spec.name
    if not is_prepared(spec, home):
        with preparing(workspace.root, reporter.say) as lease:
            if not is_prepared(spec, home):
                prepare_study(spec, launch, reporter, lease)
    return home


def _work(home: Path, slots: int | None, reporter: Reporter, until: float | None) -> LaunchResult:
    """Work on a queue; in a job of SLURM, leave it so that it is started again.

    Raises:
        UserError: The experiment is not prepared, or was stopped.
        Stopped: The user, or a scheduler, stopped it before a run was begun.
    """
    with noted_signals() as signals:
        try:
            ended = work_on_queue(home, slots, reporter, until)
        except Stopped as stop:
            signals.add(stop.status - 128)
            leave_job(signals, not (home / STOP).exists(), reporter.say)
            raise
        if ended.stopped is not None:
            signals.add(ended.stopped - 128)
            is_over = all(map(_is_over, ended.runs)) or (home / STOP).exists()
            leave_job(signals, not is_over, reporter.say)
        return ended


def is_prepared(spec: ExperimentSpec, home: Path) -> bool:
    """Whether the queue holds every run of a file that has no result, and knows its search.

    Args:
        home: The experiment's folder.

    Raises:
        UserError: The queue is damaged.
    """
    if not (home / FILE).exists():
        return False
    queue, root = read_queue(home), home.parents[1]
    if {*queue.select} != {run.id for run in spec.runs if run.stage == SELECT}:
        return False
    if spec.search is not None and not _knows_search(spec, home):
        return False
    return all(run.id in queue.begun or state_of(run, root)[0].is_result for run in spec.runs)


def _knows_search(spec: ExperimentSpec, home: Path) -> bool:
    """Whether the second stage, which follows what is declared in the folder, is the file's."""
    try:
        declared = read_about(home)
    except ValueError:
        return False
    return declared.search == spec.search


def _refuse_unknown(root: Path, name: str) -> None:
    names = [path.name for path in (root / "runs").glob("*") if (path / FILE).exists()]
    if name not in names:
        hint = nearest(name, names) if names else "give its YAML file, or another --root"
        raise UserError(f"{root} holds no prepared experiment {name!r}; {hint}")


def _report_work(ended: LaunchResult, say: Say) -> int:
    """Say how the work ended; return the exit status.

    Raises:
        Stopped: The user stopped it.
    """
    over = [run for run in ended.runs if _is_over(run)]
    failed = [run for run in ended.runs if run.state == Status.FAILED or run.unmeasured]
    say(f"{len(over)} of {count(len(ended.runs), 'run')} that waited are over"
        f"{f', {len(failed)} failed' if failed else ''}"
        f"{f'; left: {ended.left.why}' if ended.left.why else ''}")
    if ended.stopped:
        raise Stopped(ended.stopped)
    if failed:
        return 1
    return RUNS_LEFT if ended.left.unchosen or len(over) < len(ended.runs) else 0


def _is_over(run: Progress) -> bool:
    return run.state.is_result and not run.unmeasured


def stop_workers(root: Path, experiment: str) -> list[str]:
    """Ask all workers of an experiment to leave; return who works on it, a line each.

    Raises:
        UserError: There is no such experiment, its file has no name, or its folder cannot be
            written.
    """
    name = experiment
    if is_experiment(experiment):
        from gan_bench.cli.mistakes import check_experiment
        from gan_bench.config.shipped import experiment_file
        from gan_bench.config.yaml_source import read_name

        name = read_name(experiment_file(check_experiment(Path(experiment), root)))
    _refuse_unknown(root, name)
    home = root / "runs" / name
    try:
        (home / STOP).touch()
    except OSError as error:
        raise unwritable(home / STOP, error) from None
    holders = Counter(str(holder) for folder in claimed_folders(home)
                      if (holder := holder_of(folder)) is not None)
    if not holders:
        return [f"nobody works on {name}; workers that start leave at once, until `gan-bench run`"]
    return [f"{holder} is asked to write {count(number, 'checkpoint')} and to leave"
            for holder, number in holders.items()]
