"""Gaussians fitted to features."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

EPSILON = 2.0 ** -52  # of float64

BLOCK = 4096  # rows of a matrix that are centred at a time


def fit_gaussian(values: NDArray[np.float64]) -> Gaussian:
    """Return the Gaussian with the mean and the covariance (ddof 1) of `values`, (N, D), N ≥ 2."""
    import numpy as np

    samples, width = values.shape
    mean = values.mean(axis=0)
    if samples <= width:  # the centred samples are already a root of the covariance
        return Gaussian(mean, (values - mean).T / np.sqrt(samples - 1))
    return Gaussian(mean, root_of(covariance(values, mean)))


def covariance(values: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the covariance (D, D) of `values` (N, D) with the mean (D,), ddof 1."""
    return scatter(values, mean) / (len(values) - 1)


def scatter(values: NDArray[np.float64], centre: NDArray[np.float64],
            rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Return the sum of (x - centre)(x - centre)ᵀ, (D, D), without a centred copy of the values.

    Args:
        values: (N, D).
        centre: (D,).
        rows: Indices of the values to use; all by default.
    """
    import numpy as np

    total = np.zeros((values.shape[1], values.shape[1]))
    count = len(values) if rows is None else len(rows)
    for start in range(0, count, BLOCK):
        part = slice(start, start + BLOCK)
        centred = (values[part] if rows is None else values[rows[part]]) - centre
        total += centred.T @ centred
    return total


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution.

    Attributes:
        mean: (D,).
        factor: (D, R), a root of the covariance: `factor @ factor.T` is the covariance.
    """

    mean: NDArray[np.float64]
    factor: NDArray[np.float64]


def root_of(spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a root (D, max(R, 1)) of a covariance (D, D) of rank R, free of rounding noise.

    A value that is 0 up to rounding in the covariance would be 1e-8 in its root, and a sum of roots
    would show it. The root of a covariance of full rank is triangular.
    """
    import numpy as np
    from scipy.linalg import lapack

    bound = len(spread) * EPSILON * float(spread.diagonal().max())
    # The largest pivot first, until only rounding remains: without that order, the last pivot
    # of a singular matrix may be 1e-5.
    pivoted, order, rank, _ = lapack.dpstrf(spread, tol=bound, lower=1)
    if rank == len(spread):
        try:  # computing with a triangular root takes a third of the time
            triangular: NDArray[Any] = np.linalg.cholesky(spread)
            return triangular
        except np.linalg.LinAlgError:  # almost singular
            pass
    factor: NDArray[np.float64] = np.zeros((len(spread), max(rank, 1)))
    factor[order - 1, :rank] = np.tril(pivoted)[:, :rank]
    return factor
