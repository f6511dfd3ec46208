"""Whether lower or higher scores are better, and the bounds of each score."""

from __future__ import annotations

from gan_bench.config.declared import Declared
from gan_bench.registry import METRICS, Better, scores_of


def directions(declared: Declared | None = None) -> dict[str, Better]:
    """Return for every score which direction is better: lower, higher or None.

    Args:
        declared: What an experiment declares; its curve means are added as scores.
    """
    by_score: dict[str, Better] = {name: entry.facts.better for entry in METRICS
                                   for name in scores_of(entry)}
    if declared:
        by_score |= {name: mean.better for name, mean in declared.curve_means.items()}
    return by_score


def ranges() -> dict[str, tuple[float, float]]:
    """Return the least and the greatest possible value of every score that has bounds."""
    return {name: entry.facts.range for entry in METRICS if entry.facts.range is not None
            for name in scores_of(entry)}
