"""Scores that are too large to be compared: their squares and products overflow."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LARGEST = 1e60  # the fourth power, in the degrees of freedom of Welch's test, stays below 1e308


def within_range(values: ArrayLike) -> NDArray[np.float64]:
    """Return the values; NaN in place of those that are infinite or too large."""
    x = np.asarray(values, dtype=np.float64)
    return np.where(np.abs(x) <= LARGEST, x, np.nan)
