"""The command line: options only. Each command imports the file beside this one that does it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from typer.main import get_command

from gan_bench.cli.completion import complete_experiment
from gan_bench.cli.generators import add_generator_commands
from gan_bench.cli.names import add_name_commands
from gan_bench.cli.options import (
    CONTEXT,
    DATA,
    ROOT,
    AsJson,
    DataRoot,
    DataSetName,
    FigureFont,
    FigureTitles,
    FigureWidth,
    File,
    ImageSize,
    MetricNames,
    NumberOfSamples,
    Plugins,
    Root,
    Set,
    Slots,
    StatisticsFile,
    SyncTo,
    TableSpread,
    Uri,
    Version,
    fill_help,
    fit_help,
    print_fitting,
    print_text,
    terminal_width,
    to_stderr,
)
from gan_bench.cli.run_options import add_run_command
from gan_bench.cli.running.clean import add_clean_command
from gan_bench.cli.watching import add_watching_commands
from gan_bench.cli.work import add_work_commands
from gan_bench.config.shipped import is_experiment
from gan_bench.errors import UserError
from gan_bench.journal.layout import Workspace
from gan_bench.journal.sharing.claims import lease

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, context_settings=CONTEXT)


@app.callback()
def program(version: Version = False) -> None:
    """Compare GAN variants over fixed seeds, tracked in MLflow."""
    lease()  # refuses a mistake before a thread counts by it


add_run_command(app)


@app.command()
def plan(
    experiment: File,
    settings: Set = [],
    plugins: Plugins = [],
    root: Root = ROOT, data: DataRoot = DATA,
    as_json: AsJson = False,
) -> None:
    """Show the runs, their ids and states, and what differs between variants; train nothing."""
    from gan_bench.cli.mistakes import check_experiment
    from gan_bench.cli.planning.plan import plan_records, plan_text
    from gan_bench.compare.search.confirming import with_confirm_runs
    from gan_bench.config.experiment import load_experiment
    from gan_bench.hardware import refuse_lacking

    root = Workspace(root).root
    spec = load_experiment(check_experiment(experiment, root), data, settings, plugins, root=root)
    compute = spec.runs[0].compute
    refuse_lacking(compute.device, compute.precision, compute.pack)
    spec = with_confirm_runs(spec, root)
    print_text("\n".join(map(json.dumps, plan_records(spec, root))) if as_json
               else plan_text(spec, root, terminal_width()))


@app.command(name="report")
def report_experiments(
    experiments: Annotated[list[str], typer.Argument(
        metavar="EXPERIMENT…", autocompletion=complete_experiment,
        help="Names in MLflow, or YAML files.")],
    out: Annotated[Path | None, typer.Option(
        metavar="FOLDER", help="Where to write the report. \\[default: reports/EXPERIMENT in the "
        "root]")] = None,
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

    MLflow's run `study` then shows the report of one whole experiment.

    It may combine experiments that were measured in the same way. Exit status: 0 written; 2
    nothing could be written; 3 runs that MLflow hides, or lost pictures, are left out.
    """
    from gan_bench.cli.mistakes import check_files
    from gan_bench.cli.results.report import Asked, make_report, open_page, report_command

    check_files(experiments, Workspace(root).root)
    asked = Asked(experiments, settings, metric, baseline, variants, formats, out, plugins,
                  width, font, titles, spread)
    done = make_report(asked, Workspace(root, data, tracking_uri), report_command(asked), to_stderr)
    for line in done.lines:
        print_fitting(line)
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

    The run `study` of each experiment then shows what its runs there say.

    Exit status: 0 nothing is missing; 2 nothing could be done; 3 something is missing or hidden.
    """
    from gan_bench.cli.results.sync import sync_root

    done = sync_root(Workspace(root, tracking_uri=tracking_uri), to_stderr, anew)
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
    data_set: DataSetName = None,
    image_size: ImageSize = None,
    experiment: Annotated[Path | None, typer.Option(
        metavar="FILE", help="Take data set, metrics and number of samples from this file. "
        "\\[default: the options]")] = None,
    metrics: MetricNames = None,
    samples: NumberOfSamples = None,
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
    or hides it; 75 runs are left, for another machine say.
    """
    from gan_bench.cli.mistakes import check_experiment
    from gan_bench.cli.running import evaluate

    options = evaluate.EvaluateOptions(
        data_set=data_set, image_size=image_size, experiment=experiment, metrics=metrics,
        samples=samples, split=split, resize=resize, log=log, statistics=statistics,
        plugins=plugins)
    workspace = Workspace(root, data, tracking_uri)
    if is_experiment(source):
        check_experiment(Path(source), workspace.root)
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
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the page.")] = 5000,
    host: Annotated[str, typer.Option(
        help="Where to listen. MLflow has no authentication: reach a remote machine by `ssh -L "
        "5000:127.0.0.1:5000`, not by 0.0.0.0.")] = "127.0.0.1",
    tracking_uri: Uri = None,
) -> None:
    """Serve MLflow's page on the store of the root; print each experiment's prepared address.

    Exit status: 1 the port is busy; 2 there is no store to serve.
    """
    from gan_bench.cli.results.ui import serve

    serve(Workspace(root, tracking_uri=tracking_uri), port, host)


def main() -> NoReturn:
    """Run the program: a user's error is one line and status 2, never a traceback."""
    from gan_bench.cli.exit import run_program

    def answer() -> object:
        command = get_command(app)
        fit_help(command)  # it asks stdout for its width, which may be closed until now
        return command(prog_name="gan-bench", standalone_mode=False)

    sys.exit(run_program(answer))


add_generator_commands(app)
add_watching_commands(app)
add_name_commands(app)
add_clean_command(app)
add_work_commands(app)
fill_help(app)
