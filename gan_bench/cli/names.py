"""The options of the commands about what a YAML can name: list, show, schema, check, init,
extractor.

As in app.py, each command imports the file beside this one that does it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gan_bench.cli.completion import complete_kind, complete_part
from gan_bench.cli.options import (
    DATA,
    ROOT,
    DataRoot,
    ImageSize,
    Plugins,
    Root,
    parse_data_set,
    terminal_width,
    to_stderr,
    use_plugin_files,
)
from gan_bench.errors import printable
from gan_bench.journal.layout import Workspace

if TYPE_CHECKING:
    from gan_bench.training.contract import CheckResult


def add_name_commands(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(name="list")(list_names)
    app.command(name="show")(show_name)
    app.command()(schema)
    app.command(name="check")(check_code)
    app.command()(init)
    extractor = typer.Typer(no_args_is_help=True,
                            help="The feature extractors that are trained here.")
    extractor.command()(train)
    app.add_typer(extractor, name="extractor")


def list_names(
    kind: Annotated[str | None, typer.Argument(
        metavar="KIND", autocompletion=complete_kind,
        help="One of datasets, models, losses, penalties, augmentations, optimizers, extractors, "
        "metrics, recipes, experiments. \\[default: all]")] = None,
    plugins: Plugins = [],
) -> None:
    """Show every name that a YAML can hold, with what it is and its arguments.

    `gan-bench show NAME` says more of one.
    """
    from gan_bench.cli.planning.list import list_lines

    use_plugin_files(plugins)
    for line in list_lines(kind, terminal_width()):
        print(printable(line))


def show_name(
    name: Annotated[str, typer.Argument(
        metavar="NAME", autocompletion=complete_part,
        help="A name of `gan-bench list`: a loss, a model, a metric, a recipe.")],
    plugins: Plugins = [],
) -> None:
    """Show what a name stands for: its kind, equation and source, arguments and defaults."""
    from gan_bench.cli.planning.show import show_lines

    use_plugin_files(plugins)
    for line in show_lines(name, terminal_width()):
        print(printable(line))


def schema(plugins: Plugins = []) -> None:
    """Print the JSON schema of experiment files."""
    from gan_bench.cli.planning.schema import json_schema

    use_plugin_files(plugins)
    print(json.dumps(json_schema(), indent=1))


def check_code(
    files: Annotated[list[Path], typer.Argument(
        metavar="FILE…", help="Python files with losses, models or other parts of your own.")],
    data: DataRoot = DATA,
) -> None:
    """Check the parts of your own files: shapes, gradients, repeatability, resuming.

    Each is checked with its arguments at their defaults. Exit status: 0 all checks pass; 1 one
    fails; 2 a file cannot be imported.
    """
    from gan_bench.cli.planning.check import check_lines

    results: list[CheckResult] = []
    for line in check_lines(files, data, results):
        print(printable(line), flush=True)
    if any(result.problem and not result.is_note for result in results):
        raise typer.Exit(1)


def init(
    name: Annotated[str | None, typer.Argument(
        metavar="NAME", help="A new folder, and the name of its experiment. \\[default: study, in "
        "the working folder]")] = None,
) -> None:
    """Write a first experiment, and a Python file with a loss and a network of your own.

    The folder must be new or empty. Both files are commented, and run as they are.
    """
    from gan_bench.cli.planning.init import write_starter

    file, study = write_starter(name)
    print(f"{file}: an experiment")
    print(f"{file.parent / 'mine.py'}: a loss and a network")
    there = f"cd {name} && " if name is not None else ""
    print(f"Look at it, train it: {there}gan-bench run {study}.yaml")


def train(
    data_set: Annotated[str, typer.Argument(metavar="DATASET", help="A name, or {name: …, …}.")],
    image_size: ImageSize = None,
    out: Annotated[Path | None, typer.Option(
        metavar="FOLDER", help="Keep the weights, in a new folder below this one. \\[default: "
        "keep none]")] = None,
    root: Root = ROOT,
    data: DataRoot = DATA,
) -> None:
    """Retrain a data set's classifier; compare its bits with the shipped weights."""
    from gan_bench.cli.running.extractor import retrain

    print(retrain(parse_data_set(data_set, image_size), out, Workspace(root, data), to_stderr))
