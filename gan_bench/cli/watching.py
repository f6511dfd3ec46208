"""The options of the commands that read the journals of an experiment: status, logs, power.

As in app.py, each command imports the file beside this one that does it.
"""

from __future__ import annotations

from typing import Annotated

import typer

from gan_bench.cli.completion import complete_experiment, complete_run
from gan_bench.cli.options import (
    DATA,
    ROOT,
    AsJson,
    DataRoot,
    File,
    Plugins,
    Root,
    Set,
    advised,
    print_text,
    run_command,
    terminal_width,
    wide_console,
)
from gan_bench.journal.layout import Workspace


def add_watching_commands(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(name="status")(show_status)
    app.command(name="logs")(show_log)
    app.command(name="power")(show_power)


def show_status(
    experiment: Annotated[str | None, typer.Argument(
        metavar="EXPERIMENT", autocompletion=complete_experiment,
        help="An experiment's name, or its YAML file. \\[default: a line for each experiment of "
        "the root]")] = None,
    settings: Set = [],
    plugins: Plugins = [],
    root: Root = ROOT,
    data: DataRoot = DATA,
    as_json: AsJson = False,
) -> None:
    """Show which runs are done, running, waiting or failed, and since when.

    It reads the journals alone, also while the experiment runs. Given a file, it shows the runs
    of that file; given a name, those of the last `gan-bench run`.
    """
    from gan_bench.cli.running.status import status_lines, warn_of_store

    workspace = Workspace(root, data)
    print_text("\n".join(status_lines(experiment, workspace, settings, plugins, as_json,
                                      terminal_width())))
    warn_of_store(workspace)


def show_log(
    run: Annotated[str, typer.Argument(
        metavar="RUN", autocompletion=complete_run,
        help="A run's id, or its first characters, or its folder.")],
    follow: Annotated[bool, typer.Option(
        "--follow", "-f", help="Go on until the run ends; Ctrl-C ends it before.")] = False,
    root: Root = ROOT,
) -> None:
    """Show a run's log: a line for every `log_every` steps, and the traceback of an error.

    It is the log of the last attempt. Every loss and score is in the journal, and in MLflow.
    """
    from gan_bench.cli.running.logs import print_log

    print_log(Workspace(root).root, run, follow)


def show_power(
    experiment: File,
    difference: Annotated[str, typer.Option(
        metavar="AMOUNT", help="The difference to detect: a share of the baseline's mean, such as "
        "5%, or in a score's units.")],
    metric: Annotated[str | None, typer.Option(
        metavar="NAME", help="The score. \\[default: all that have a better direction; of a "
        "search, the one that selects]")] = None,
    settings: Set = [],
    plugins: Plugins = [],
    root: Root = ROOT,
    data: DataRoot = DATA,
) -> None:
    """Show how many seeds detect a difference, given the spread of the existing runs.

    Of an experiment with a search: how many draws at each budget, and how many confirm seeds.
    """
    from gan_bench.cli.mistakes import check_experiment
    from gan_bench.cli.planning.power import power_table
    from gan_bench.config.experiment import load_experiment

    home = Workspace(root).root
    spec = load_experiment(check_experiment(experiment, home), data, settings, plugins, root=root)
    command = advised(run_command(experiment, settings, plugins), Workspace(root, data))
    console = wide_console()
    console.print(power_table(spec, home, difference, metric, command, console.width))
