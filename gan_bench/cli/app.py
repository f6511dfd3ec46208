"""The command line: options only. Each command imports the file beside this one that does it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gan_bench.cli.clean import add_clean_command
from gan_bench.cli.generators import add_generator_commands
from gan_bench.cli.names import add_name_commands
from gan_bench.cli.options import (
    DATA,
    ROOT,
    AllowDrift,
    AsJson,
    CheckpointEvery,
    DataRoot,
    FigureFont,
    FigureTitles,
    FigureWidth,
    File,
    ImageSize,
    Keep,
    Plugins,
    Profile,
    Retries,
    Root,
    Set,
    Slots,
    StatisticsFile,
    SyncTo,
    TableSpread,
    Uri,
    Version,
    advised,
    print_text,
    run_command,
    to_stderr,
    wide_console,
)
from gan_bench.config.shipped import is_experiment
from gan_bench.errors import UserError, printable
from gan_bench.journal.layout import Execution, Workspace

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

add_clean_command(app)
add_generator_commands(app)
add_name_commands(app)


@app.callback()
def program(version: Version = False) -> None:
    """Compare GAN variants over fixed seeds, tracked in MLflow."""


@app.command()
def run(
    experiment: File,
    settings: Set = [],
    plugins: Plugins = [],
    root: Root = ROOT,
    data: DataRoot = DATA,
    slots: Slots = None,
    tracking_uri: Uri = None,
    retries: Retries = 2,
    checkpoint_every: CheckpointEvery = None,
    keep_checkpoints: Keep = "last",
    allow_drift: AllowDrift = False,
    profile: Profile = False,
    as_json: AsJson = False,
) -> None:
    """Train, measure and track every unfinished run, from its last checkpoint or a shorter run's.

    Ctrl-C lets each run write a checkpoint; the same command resumes from there, to the same bits.

    Exit status: 0 all finished or diverged; 1 a run failed; 2 nothing could be run; 3 all is
    trained, but MLflow lacks some of it; 130 and 143 stopped, 141 as nothing reads the output.
    """
    from gan_bench.cli.run import run_experiment
    from gan_bench.config.experiment import load_experiment
    from gan_bench.launcher.launch import LaunchSettings

    execution = Execution(Workspace(root, data, tracking_uri), checkpoint_every, allow_drift,
                          profile, keep_checkpoints)
    command = run_command(experiment, settings, plugins)
    launch = LaunchSettings(execution, slots, command, retries)
    spec = load_experiment(experiment, data, settings, plugins, root=root)
    if status := run_experiment(spec, launch, as_json):
        raise typer.Exit(status)


@app.command()
def plan(
    experiment: File,
    settings: Set = [],
    plugins: Plugins = [],
    root: Root = ROOT, data: DataRoot = DATA,
    as_json: AsJson = False,
) -> None:
    """Show the runs, their ids and states, and what differs between variants; train nothing."""
    from gan_bench.cli.plan import plan_records, plan_text
    from gan_bench.config.experiment import load_experiment
    from gan_bench.hardware import refuse_lacking

    spec = load_experiment(experiment, data, settings, plugins, root=root)
    compute = spec.runs[0].compute
    refuse_lacking(compute.device, compute.precision, compute.pack)
    root = Workspace(root).root
    print_text("\n".join(map(json.dumps, plan_records(spec, root))) if as_json
               else plan_text(spec, root))


@app.command()
def power(
    experiment: File,
    difference: Annotated[str, typer.Option(
        help="The difference to detect: a share of the baseline's mean, such as 5%, or in a "
        "score's units.")],
    score: Annotated[str | None, typer.Option(
        help="The score. \\[default: all that have a better direction]")] = None,
    settings: Set = [],
    plugins: Plugins = [],
    root: Root = ROOT, data: DataRoot = DATA,
) -> None:
    """Show how many seeds detect a difference, given the spread of the existing runs."""
    from gan_bench.cli.power import power_table
    from gan_bench.config.experiment import load_experiment

    spec = load_experiment(experiment, data, settings, plugins, root=root)
    workspace = Workspace(root, data)
    command = advised(run_command(experiment, settings, plugins), workspace)
    wide_console().print(power_table(spec, workspace.root, difference, score, command))


@app.command(name="report")
def report_experiments(
    experiments: Annotated[list[str], typer.Argument(
        metavar="EXPERIMENT…", help="Names in MLflow, or YAML files.")],
    out: Annotated[Path | None, typer.Option(
        metavar="FOLDER", help="\\[default: reports/EXPERIMENT in the root]")] = None,
    formats: Annotated[str, typer.Option(
        "--format", metavar="A,B", help="What to write.")] = "html,csv,tex,md,parquet,figures",
    metric: Annotated[str | None, typer.Option(
        help="The main score. \\[default: the first that the experiment lists]")] = None,
    baseline: Annotated[str | None, typer.Option(
        help="The variant to compare with. \\[default: as the experiment declares]")] = None,
    variants: Annotated[str | None, typer.Option(
        metavar="A,B", help="Only these. \\[default: all]")] = None,
    width: FigureWidth = None,
    font: FigureFont = "sans",
    titles: FigureTitles = True,
    spread: TableSpread = "sd",
    show: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    settings: Set = [],
    plugins: Plugins = [],
    root: Root = ROOT,
    data: DataRoot = DATA,
    tracking_uri: Uri = None,
) -> None:
    """Write the report of an experiment: a page, tables and figures.

    It may combine experiments that were measured in the same way. Exit status: 0 written; 2
    nothing could be written; 3 runs that MLflow hides, or lost pictures, are left out.
    """
    from gan_bench.cli.report import Asked, make_report, open_page, report_command

    asked = Asked(experiments, settings, metric, baseline, variants, formats, out, plugins,
                  width, font, titles, spread)
    done = make_report(asked, Workspace(root, data, tracking_uri), report_command(asked), to_stderr)
    for line in done.lines:
        print(printable(line))
    if show:
        open_page(done)
    if not done.is_complete:
        raise typer.Exit(3)


@app.command()
def sync(
    root: Root = ROOT,
    tracking_uri: SyncTo = None,
    anew: Annotated[bool, typer.Option(
        "--anew", help="Copy again the runs that were deleted or moved in MLflow.")] = False,
) -> None:
    """Copy missing runs of the root into MLflow, or all runs into another store.

    Exit status: 0 nothing is missing; 2 nothing could be done; 3 something is missing or hidden.
    """
    from gan_bench.tracking.sync import sync_runs

    done = sync_runs(Workspace(root, tracking_uri=tracking_uri), to_stderr, anew=anew)
    print(f"{done.runs} runs, {done.brought} brought up to date")
    for line in [*done.missing, *done.hidden]:
        to_stderr(line)
    if done.missing or done.hidden:
        raise typer.Exit(3)


@app.command(name="evaluate")
def evaluate_source(
    source: Annotated[str, typer.Argument(
        metavar="SOURCE", help="An experiment's YAML file, or a shipped experiment's name: all its "
        "trained runs. Or a run's id or its first characters, its folder, final.safetensors or "
        "checkpoint.pt; or images of any origin: a folder, .zip, .tar, .npz or .npy.")],
    data_set: Annotated[str | None, typer.Option(
        help="The real data: a name, or {name: …, …}. \\[default: the run's]")] = None,
    image_size: ImageSize = None,
    experiment: Annotated[Path | None, typer.Option(
        help="Take data set, metrics and number of samples from this file.")] = None,
    metrics: Annotated[str | None, typer.Option(
        metavar="A,B", help="Names of `gan-bench list metrics`. \\[default: the run's, or for "
        "images a standard set]")] = None,
    samples: Annotated[int | None, typer.Option(
        min=2, max=1_000_000,
        help="Number of samples. \\[default: the run's, or all images]")] = None,
    split: Annotated[str | None, typer.Option(
        help="train or test: the real images in metrics of features. \\[default: train]")] = None,
    statistics: StatisticsFile = None,
    resize: Annotated[bool, typer.Option(
        "--resize", help="Resample images of another size; the protocol records it.")] = False,
    log: Annotated[bool, typer.Option(
        "--log", help="Add the scores to the run's journal and to MLflow; always done for an "
        "experiment's file.")] = False,
    settings: Set = [],
    slots: Slots = None,
    plugins: Plugins = [],
    root: Root = ROOT,
    data: DataRoot = DATA,
    tracking_uri: Uri = None,
    as_json: AsJson = False,
) -> None:
    """Measure a run, or images of any origin, against a data set; show how it was measured.

    Of an experiment's file, measure all trained runs by what they lack, and log it.

    Exit status: 0 measured; 1 a run of the file could not be measured; 2 nothing measured, or not
    logged; 3 logged, but runs of the file are left out, as they are not trained, or MLflow lacks
    or hides it.
    """
    from gan_bench.cli import evaluate

    options = evaluate.EvaluateOptions(
        data_set=data_set, image_size=image_size, experiment=experiment, metrics=metrics,
        samples=samples, split=split, resize=resize, log=log, statistics=statistics,
        plugins=plugins)
    workspace = Workspace(root, data, tracking_uri)
    if is_experiment(source):
        if status := evaluate.evaluate_experiment(Path(source), options, settings, workspace, slots,
                                                  as_json):
            raise typer.Exit(status)
        return
    if settings or slots is not None:
        raise UserError("--set and --slots belong to an experiment's file; leave them out")
    shown = evaluate.as_json if as_json else evaluate.as_text
    lacking = evaluate.evaluate_and_log(source, options, workspace, to_stderr,
                                        lambda report: print_text(shown(report)))
    for line in lacking:
        to_stderr(line)
    if lacking:
        raise typer.Exit(3)


@app.command()
def ui(
    root: Root = ROOT,
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
    tracking_uri: Uri = None,
) -> None:
    """Open MLflow's page on the store of the root, on 127.0.0.1."""
    from gan_bench.cli.ui import serve

    serve(Workspace(root, tracking_uri=tracking_uri), port)


def main() -> NoReturn:
    """Run the program: a user's error is one line and status 2, never a traceback."""
    from gan_bench.cli.exit import run_program

    sys.exit(run_program(app))
