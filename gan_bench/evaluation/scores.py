"""Which way a score is better, and what it can be."""

from __future__ import annotations

from gan_bench.config.declared import Declared
from gan_bench.registry import METRICS, Better, scores_of


def directions(declared: Declared | None = None) -> dict[str, Better]:
    """Return for every score which way is better: lower, higher or None.

    Args:
        declared: Of an experiment: with its curves' means.
    """
    known: dict[str, Better] = {name: entry.facts.better for entry in METRICS
                                for name in scores_of(entry)}
    means = declared.curve_means if declared else {}
    return {**known, **{name: mean.better for name, mean in means.items()}}


def ranges() -> dict[str, tuple[float, float]]:
    """Return for every score that has bounds the least and the greatest that there can be."""
    return {name: entry.facts.range for entry in METRICS if entry.facts.range is not None
            for name in scores_of(entry)}
