"""When an interval cannot be trusted to cover in 95% of studies.

A t-interval (Student 1908) covers as it says where scores scatter evenly to both sides. From
log-normal scores with sigma 1 it covers the mean in 82 to 87% of studies of 3 to 20 runs; if 20% of
runs collapse, in 48, 67 and 89% of studies of 3, 5 and 10 (`benchmarks/calibration.py`). No other
interval does better there: a failure that no run shows leaves no trace in the scores (Bahadur and
Savage 1956, theorem 1). So the interval stays, and says what stands against it:

- fewer than `SEEN_FROM` = 59 runs: a failure of 5% of the runs may have stayed unseen. If none of n
  runs fails, the upper limit of the share of failures is 1 - 0.05^(1/n) (Clopper and Pearson 1934,
  "The use of confidence or fiducial limits illustrated in the case of the binomial"; Hanley and
  Lippman-Hand 1983, "If nothing goes wrong, is everything all right?");
- a sample skewness m₃/m₂^1.5 beyond 1, which Bulmer (1979, "Principles of statistics", chapter 4)
  calls highly skewed. Fewer than 4 runs cannot reach it;
- runs that collapsed or diverged.

Of the intervals that nothing stands against, at most 5% of all studies miss, for every kind of
score in the sweep.
"""

from __future__ import annotations

import math
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
ALPHA = round(1 - LEVEL, 10)
RARE = 0.05  # the share of failing runs from which on none may stay unseen
SEEN_FROM = math.ceil(math.log(ALPHA) / math.log(1 - RARE))
SKEWED_FROM = 1.0


class Doubt(StrEnum):
    """What stands against an interval, for readers."""

    FEW = "few runs"
    SKEWED = "skewed scores"
    COLLAPSED = "some runs collapsed"
    DIVERGED = "without the diverged runs"


def unseen_share(runs: int) -> float:
    """Return the share of failures that so many runs without a failure do not rule out, at 95%."""
    return 1 - float(ALPHA ** (1 / runs)) if runs else 1.0


def doubts_of(values: NDArray[np.float64], *others: NDArray[np.float64]) -> tuple[Doubt, ...]:
    """Return what the scores of one variant, or of two, say against the interval of a mean.

    For two variants it is the skewness of the difference between a run of the one and of the other.
    """
    doubts = []
    if min(map(len, (values, *others))) < SEEN_FROM:
        doubts.append(Doubt.FEW)
    second = third = 0.0
    for sign, scores in zip((1, -1), (values, *others), strict=False):
        away = scores - scores.mean()
        second += float(np.mean(away**2))
        third += sign * float(np.mean(away**3))
    if second > 0 and abs(third) > SKEWED_FROM * second**1.5:
        doubts.append(Doubt.SKEWED)
    return tuple(doubts)
