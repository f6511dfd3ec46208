"""The options of the commands about what a YAML can name: list, schema.

As in app.py, each command imports the file beside this one that does it.
"""

from __future__ import annotations

import json
from typing import Annotated

import typer


def add_name_commands(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(name="list")(list_names)
    app.command()(schema)


def list_names(
    kind: Annotated[str | None, typer.Argument(
        help="One of datasets, models, losses, penalties, optimizers, extractors, "
        "metrics, recipes.")] = None,
) -> None:
    """Show every registered name with its summary and its arguments."""
    from gan_bench.cli.list import list_lines

    for line in list_lines(kind):
        print(line)


def schema() -> None:
    """Print the JSON schema of experiment files."""
    from gan_bench.cli.schema import json_schema

    print(json.dumps(json_schema(), indent=1))
