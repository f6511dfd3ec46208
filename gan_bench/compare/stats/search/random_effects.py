"""Two nested sources of scatter, separated: between groups, and within them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gan_bench.compare.stats.summary import Values, spread


@dataclass(frozen=True)
class VarianceParts:
    """The variances of the one-way random-effects model.

    Attributes:
        between: Of what a group adds; negative if groups differ by less than their values would
            make them. NaN with fewer than 2 groups, or without `within`.
        within: Of what each value of a group adds; NaN if no group has 2 values.
    """

    between: float
    within: float


def variance_parts(groups: Sequence[Values], repeats: Sequence[Values] = ()) -> VarianceParts:
    """Separate the scatter between groups from that within them, by analysis of variance.

    Each value is a mean, plus what its group adds, plus what is its own. The mean squares within
    and between groups have known expectations (Searle, Casella and McCulloch 1992, "Variance
    components", section 3.6, for unequal sizes too); the two equations are solved for the two
    variances.

    Args:
        groups: The finite values of each group, at least one a group.
        repeats: Further values that tell of the scatter within groups alone, such as those of
            groups that were picked for their values.
    """
    sizes = np.array([len(x) for x in groups])
    total, number = int(sizes.sum()), len(groups)
    repeated = [x for x in (*groups, *repeats) if len(x) > 1]
    freedom = sum(len(x) - 1 for x in repeated)
    squares = sum((len(x) - 1) * spread(x) ** 2 for x in repeated)
    within = float(squares / freedom) if freedom else math.nan
    if number < 2 or math.isnan(within):
        return VarianceParts(math.nan, within)
    means = np.array([x.mean() for x in groups])
    centre = (sizes * means).sum() / total
    square = float((sizes * (means - centre) ** 2).sum() / (number - 1))
    typical = (total - (sizes**2).sum() / total) / (number - 1)
    return VarianceParts(float((square - within) / typical), within)
