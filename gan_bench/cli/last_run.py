"""Which settings the last `gan-bench run` of an experiment in a root had."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from gan_bench.cli.options import set_options
from gan_bench.errors import UserError
from gan_bench.journal.about import read_about


def last_command(home: Path) -> str:
    """Return the command of the last run; empty where it is unknown."""
    with suppress(ValueError):  # a damaged file
        command = read_about(home).command
        return "" if "\n" in command else command
    return ""


def other_settings_line(home: Path, given: Sequence[str] | None) -> str:
    """Return which settings the last run had, where readers may take them for others.

    Those of `evaluate` choose no runs, and `gan-bench evaluate` adds some of its own, so they are
    left out.

    Args:
        home: The folder of the experiment's runs.
        given: The settings of this command; None of one that names the experiment, and so is about
            the last run.
    """
    command = last_command(home)
    with suppress(ValueError, UserError):  # quotes that do not close, or values that are no YAML
        words = shlex.split(command)
        settings = [value for word, value in pairwise(words) if word == "--set"]
        said = " ".join(set_options([text for text in settings if not _measures(text)]))
        if given is None:
            return f"these are the runs of the last `gan-bench run`, with {said}" if said else ""
        if command and _values(given) != _values(settings):
            return (f"the last `gan-bench run` of {home.name} had {said or 'no --set'}: give the "
                    f"same, or the name in place of the file, to see its runs")
    return ""


def _measures(setting: str) -> bool:
    """Whether an `a.b=value` says what is measured."""
    return setting.partition("=")[0].strip().split(".")[0] == "evaluate"


def _values(settings: Sequence[str]) -> dict[str, Any]:
    """Return what settings come to, however they are written, as the keys of a file."""
    from gan_bench.config.yaml_source import YamlSource

    source = YamlSource("", {}, {})
    for setting in settings:
        if not _measures(setting):
            source.override(setting)
    return source.data
