"""`about.json`: what an experiment declares, kept beside its runs."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
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


def asked_weights(experiment: Path) -> Mapping[str, str]:
    """Return the weights of extractors under which an experiment's scores count, by score.

    They are known once the extractors are prepared: one is trained from the data, another is the
    file that a variable names, a third belongs to a plug-in. So the preparations of the last launch
    wrote them here, where it had found scores of other weights; any count for a score without.
    """
    try:
        now = (experiment / ABOUT).stat()
    except OSError:
        return {}
    return _weights(experiment, (now.st_ino, now.st_mtime_ns, now.st_size))


@lru_cache(maxsize=16)
def _weights(experiment: Path, version: tuple[int, ...]) -> Mapping[str, str]:
    """Return the weights in a version of the file, which all runs of the experiment ask for."""
    with suppress(ValueError):
        final = read_about(experiment).final
        return final.weights if final else {}
    return {}


def declare(experiment: ExperimentSpec, workspace: Workspace, weights: Mapping[str, str]) -> None:
    """Write what an experiment declares into its folder; keep the command of an earlier launch.

    Args:
        weights: Of extractors, under which its scores count, by score.

    Raises:
        UserError: The root cannot be written to.
    """
    make_root(workspace.root)
    home = workspace.root / "runs" / experiment.name
    make_folder(home)
    command = ""
    with suppress(ValueError):  # what is invalid is replaced
        command = read_about(home).command
    write_about(home, experiment.declared.with_changes(command=command).under(weights))
