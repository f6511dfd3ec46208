"""Options that several commands share, how they are parsed, and their text in a hint."""

from __future__ import annotations

import inspect
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

import gan_bench
from gan_bench.cli.completion import complete_experiment
from gan_bench.errors import UserError, printable
from gan_bench.journal.layout import KeepCheckpoints
from gan_bench.paths import normal_path
from gan_bench.text_table import wrap_line

if TYPE_CHECKING:
    from rich.console import Console

    from gan_bench.journal.layout import Workspace
    from gan_bench.registry import Part


ROOT, DATA = Path("mlruns"), Path("data")  # the defaults of --root and --data-root
FRAMED = 80  # columns that a help in frames needs
# Other spellings of options, which no help shows.
SPELLINGS = {"data": "data-root", "data-set": "dataset", "metrics": "metric", "score": "metric"}


def present_spelling(name: str) -> str:
    """Return the name of an option, without its dashes, as the help spells it."""
    name = name.replace("_", "-")
    return SPELLINGS.get(name, name)


CONTEXT = {"help_option_names": ["-h", "--help"], "token_normalize_func": present_spelling}


def fill_help(app: typer.Typer) -> None:
    """Let each command's help be paragraphs, which fill the terminal, and not a docstring's lines.
    """
    for command in app.registered_commands:
        text = inspect.getdoc(command.callback) or ""
        command.help = "\n\n".join(" ".join(lines.split()) for lines in text.split("\n\n"))
    for group in app.registered_groups:
        if group.typer_instance is not None:
            fill_help(group.typer_instance)


def fit_help(command: Any) -> None:
    """Let the help of a command, and of those below it, be plain text on a narrow terminal.

    Rich's frames leave too little room there: it cuts the names of options short.

    Args:
        command: Typer's.
    """
    if (terminal_width() or FRAMED) >= FRAMED:
        return
    command.rich_markup_mode = None
    command.short_help = (command.help or "").partition("\n\n")[0]  # which is not cut short
    for param in command.params:
        if getattr(param, "help", None):
            param.help = param.help.replace("\\[", "[")
    for below in getattr(command, "commands", {}).values():
        fit_help(below)


def print_version(context: typer.Context, wanted: bool) -> None:
    """Print the version and end the program, if that is wanted and no shell completes a word."""
    if wanted and not context.resilient_parsing:
        print(f"gan-bench {gan_bench.__version__}")
        raise typer.Exit


def check_data_root(folder: Path) -> Path:
    """Refuse the name of a data set in place of the folder of the data sets."""
    if folder == DATA or len(folder.parts) != 1 or folder.exists():
        return folder
    from gan_bench.registry import DATASETS

    if folder.name in DATASETS.names():
        raise UserError(f"--data-root {folder}: there is no such folder, and {folder} is a data "
                        f"set: --data-root is the folder that holds data sets; choose one with "
                        f"evaluate --dataset {folder}, or with dataset in an experiment")
    return folder


File = Annotated[Path, typer.Argument(
    metavar="EXPERIMENT", autocompletion=complete_experiment,
    help="The experiment's YAML file, or a name of `gan-bench list experiments`.")]
Root = Annotated[Path, typer.Option("--root", metavar="FOLDER", envvar="GAN_BENCH_ROOT",
                                    help="Folder of everything that runs produce.")]
DataRoot = Annotated[Path, typer.Option(
    "--data-root", metavar="FOLDER", envvar="GAN_BENCH_DATA", callback=check_data_root,
    help="Folder of the data sets.")]
Set = Annotated[list[str], typer.Option("--set", metavar="A.B=VALUE",
                                        help="Override a value of the file; may be repeated.")]
Plugins = Annotated[list[Path], typer.Option(
    "--plugin", metavar="FILE", help="A Python file with losses, models or other parts of your "
    "own; may be repeated.")]
Uri = Annotated[str | None, typer.Option(
    "--tracking-uri", metavar="ADDRESS", envvar="MLFLOW_TRACKING_URI",
    help="MLflow's store. \\[default: mlflow.db in the root]")]
SyncTo = Annotated[str | None, typer.Option(
    "--to", "--tracking-uri", metavar="ADDRESS", envvar="MLFLOW_TRACKING_URI",
    help="MLflow's store. \\[default: mlflow.db in the root]")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON lines, for machines.")]
Slots = Annotated[int | None, typer.Option(
    min=1, metavar="N", help="Processes at once: a run each, or on a GPU compute.pack. "
    "\\[default: one per core, or per GPU]")]
Retries = Annotated[int, typer.Option(
    min=0, metavar="N", help="How often a run whose process was killed is resumed.")]
CheckpointEvery = Annotated[float | None, typer.Option(
    min=0, metavar="SECONDS", help="Time between checkpoints. \\[default: 30, or longer to keep "
    "their cost below 1 %]")]
Keep = Annotated[KeepCheckpoints, typer.Option(
    help="last: a finished run keeps the state after its last step, from which a run with more "
    "steps continues. none: it keeps no state.")]
AllowDrift = Annotated[bool, typer.Option(
    "--allow-drift", help="Resume checkpoints of another version or device; the journal records "
    "it.")]
Profile = Annotated[bool, typer.Option(
    "--profile", help="Write a table and a trace of the time of some steps, as artifacts of each "
    "run that begins.")]
DataSetName = Annotated[str | None, typer.Option(
    "--dataset", metavar="NAME",
    help="The real data: a name, or {name: …, …}. \\[default: the run's]")]
MetricNames = Annotated[str | None, typer.Option(
    "--metric", metavar="A,B", help="Names of `gan-bench list metrics`. \\[default: the run's, or "
    "for images a standard set]")]
NumberOfSamples = Annotated[int | None, typer.Option(
    "--samples", min=2, max=1_000_000, metavar="N",
    help="Number of samples. \\[default: the run's, or all images]")]
ImageSize = Annotated[int | None, typer.Option(
    min=8, max=256, metavar="PIXELS", help="The data set's image_size. \\[default: its own]")]
StatisticsFile = Annotated[Path | None, typer.Option(
    "--statistics", metavar="FILE.npz",
    help="mu and sigma of real features, which Fréchet distances compare with. \\[default: those "
    "of the data set]")]
FigureWidth = Annotated[float | None, typer.Option(
    "--width", min=2.5, max=20, metavar="INCHES", help="Width of the figures in figures/: 3.25 "
    "for a column of a paper. \\[default: 8]")]
FigureFont = Annotated[Literal["sans", "serif"], typer.Option(
    "--font", help="Font of these figures.")]
FigureTitles = Annotated[bool, typer.Option(
    "--titles/--no-titles", help="Titles and notes in these figures, or in captions.md beside "
    "them.")]
TableSpread = Annotated[Literal["sd", "interval"], typer.Option(
    "--spread", help="What follows a mean in table-wide and table-narrow: ± its standard deviation "
    "over the seeds, or its 95% interval.")]
Version = Annotated[bool, typer.Option("--version", callback=print_version, is_eager=True,
                                       help="Print the version, and nothing else.")]


def parse_data_set(text: str, image_size: int | None) -> Part:
    """Return the part of DATASETS that a name or a YAML mapping stands for.

    Raises:
        UserError: It is no data set, or its arguments are invalid.
    """
    from gan_bench.config.yaml_source import parse_value
    from gan_bench.registry import DATASETS, PartError

    value = parse_value(text, f"data set {text!r}")
    if image_size is not None:
        value = {**(value if isinstance(value, dict) else {"name": value}),
                 "image_size": image_size}
    try:
        return DATASETS.parse(value)
    except PartError as error:
        problems = []
        for problem, argument in error.problems:
            place = f"{argument}: " if argument else ""
            problems.append(f"data set {text!r}: {place}{problem}")
        raise UserError("; ".join(problems)) from None


def to_stderr(line: str) -> None:
    """Print a line of progress, so that stdout holds the result alone."""
    print(printable(line), file=sys.stderr, flush=True)


def print_text(text: str) -> None:
    """Print text line by line; what came from journals or MLflow moves no cursor."""
    print("\n".join(map(printable, text.split("\n"))))


def print_fitting(text: str) -> None:
    """Print text as `print_text`, with lines that the terminal has room for."""
    for line in text.split("\n"):
        print("\n".join(wrap_line(printable(line), terminal_width())))


def terminal_width() -> int | None:
    """Return how many columns there is room for: COLUMNS if it is set, or the terminal's.

    None: a file or a pipe, where lines stay whole.
    """
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns):
        return int(columns)
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def wide_console() -> Console:
    """Return the console of stdout: as wide as the terminal, 120 columns in a file or a pipe."""
    from rich.console import Console

    # Of a terminal Rich reads the width itself, each time: its window may be resized.
    return Console(width=None if sys.stdout.isatty() else terminal_width() or 120)


def set_options(settings: Sequence[str]) -> list[str]:
    """Return the options that override values of a file, as the shell reads them."""
    return [f"--set {shlex.quote(setting)}" for setting in settings]


def plugin_options(plugins: Sequence[Path]) -> list[str]:
    """Return the options that name plug-in files, as the shell reads them."""
    return [f"--plugin {shlex.quote(str(file))}" for file in plugins]


def run_command(experiment: Path, settings: Sequence[str], plugins: Sequence[Path] = ()) -> str:
    """Return the command that repeats a run, for the notes in MLflow."""
    return " ".join(["gan-bench run", shlex.quote(str(experiment)), *set_options(settings),
                     *plugin_options(plugins)])


def advised(command: str, workspace: Workspace) -> str:
    """Return a command that repeats a run, with the places that the user has named."""
    return (f"{command}{root_option(workspace)}{data_option(workspace)}"
            f"{store_option(workspace, '--tracking-uri')}")


def use_plugin_files(plugins: Sequence[Path]) -> None:
    """Let the registries hold the parts of these files.

    Raises:
        UserError: One is missing, cannot be imported, registers nothing or takes a name.
    """
    from gan_bench.registry import read_plugins, use_plugins

    use_plugins(read_plugins(plugins))


def root_option(workspace: Workspace) -> str:
    """Return the option that names the root; empty for the default one."""
    root = workspace.root
    return "" if root == normal_path(ROOT) else f" --root {shlex.quote(str(root))}"


def data_option(workspace: Workspace) -> str:
    """Return the option that names the folder of the data sets; empty for the usual one."""
    usual = normal_path(os.environ.get("GAN_BENCH_DATA") or DATA)
    folder = workspace.data_root
    return "" if folder == usual else f" --data-root {shlex.quote(str(folder))}"


def store_option(workspace: Workspace, option: str = "--to") -> str:
    """Return the option that names the store, without its password; empty if the environment does.
    """
    from gan_bench.tracking.store.address import without_password

    uri = workspace.tracking_uri
    if uri is None or uri == os.environ.get("MLFLOW_TRACKING_URI"):
        return ""
    return f" {option} {shlex.quote(without_password(uri))}"
