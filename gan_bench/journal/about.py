"""`about.json`: what an experiment declares, kept beside its runs."""

from __future__ import annotations

from pathlib import Path

from gan_bench.atomic import replacing
from gan_bench.config.declared import Declared, read_declared

ABOUT = "about.json"  # in an experiment's folder


def write_about(experiment: Path, declared: Declared) -> None:
    """Keep what MLflow, and whoever compares, must know of an experiment beside its runs.

    Raises:
        OSError: It cannot be written.
    """
    with replacing(experiment / ABOUT) as temporary:
        temporary.write_text(declared.model_dump_json(indent=1) + "\n", "utf-8")


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
