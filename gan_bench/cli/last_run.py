"""Which settings the last `gan-bench run` of an experiment in a root had."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

from gan_bench.cli.options import set_options
from gan_bench.journal.about import read_about


def last_command(home: Path) -> str:
    """Return the command of the last run; empty where it is unknown."""
    with suppress(ValueError):  # a damaged file
        command = read_about(home).command
        return "" if "\n" in command else command
    return ""


def other_settings_line(home: Path, given: Sequence[str] | None) -> str:
    """Return which settings the last run had, where readers may take them for others.

    Args:
        home: The folder of the experiment's runs.
        given: The settings of this command; None of one that names the experiment, and so is about
            the last run.
    """
    command = last_command(home)
    with suppress(ValueError):  # quotes that do not close
        words = shlex.split(command)
        settings = [value for word, value in pairwise(words) if word == "--set"]
        said = " ".join(set_options(settings))
        if given is None:
            return f"these are the runs of the last `gan-bench run`, with {said}" if said else ""
        if command and [*given] != settings:
            return (f"the last `gan-bench run` of {home.name} had {said or 'no --set'}: give the "
                    f"same, or the name in place of the file, to see its runs")
    return ""
