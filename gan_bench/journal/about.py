"""`about.json`: what an experiment declares, kept beside its runs."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from gan_bench.atomic import replacing
from gan_bench.config.declared import Declared, read_declared
from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import unwritable
from gan_bench.journal.layout import Workspace, make_folder, make_root

ABOUT = "about.json"  # in an experiment's folder


def write_about(experiment: Path, declared: Declared) -> None:
    """Write what MLflow and comparisons need of an experiment besides its runs.

    Raises:
        UserError: It cannot be written.
    """
    try:
        with replacing(experiment / ABOUT) as temporary:
            temporary.write_text(declared.model_dump_json(indent=1) + "\n", "utf-8")
    except OSError as error:
        raise unwritable(experiment / ABOUT, error) from error


def read_about(experiment: Path) -> Declared:
    """Return what `write_about` has kept, as far as it is what it should be.

    Raises:
        ValueError: See `read_declared`.
    """
    try:
        text = (experiment / ABOUT).read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        text = ""
    return read_declared(text)


def read_varied(experiment: Path) -> tuple[str, ...]:
    """Return the settings in which the runs of an experiment differ; empty if that is unknown."""
    try:
        return read_about(experiment).varied
    except ValueError:
        return ()


def declare(experiment: ExperimentSpec, workspace: Workspace) -> None:
    """Write what an experiment declares into its folder; keep the command of an earlier launch.

    Raises:
        UserError: The root cannot be written to.
    """
    make_root(workspace.root)
    home = workspace.root / "runs" / experiment.name
    make_folder(home)
    command = ""
    with suppress(ValueError):  # what is invalid is replaced
        command = read_about(home).command
    write_about(home, experiment.declared.with_changes(command=command))
