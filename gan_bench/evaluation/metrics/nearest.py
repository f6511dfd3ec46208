"""Distance to the nearest training image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics.base import check_finite, once, refuses_nothing
from gan_bench.registry import METRICS, MetricFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike, NDArray

BLOCK, REAL_BLOCK = 1024, 4096  # rows; their table of distances takes 16 MB


@METRICS.register("nearest_train_mse", MetricFacts(
    better=None, extractor="pixels", reference="train", refuses=refuses_nothing))
def nearest_train_mse(real: Features, fake: Features) -> float:
    """Mean squared distance per pixel, in the scale [-1, 1], to the nearest training image.

    Near 0: the generator copies. Neither direction is better, because noise is far from everything.
    For vectors, the distance is per coordinate.
    """
    _, squared = neighbours(real, fake)
    return float(squared.mean())


@once
def neighbours(real: Features, fake: Features,
               ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the nearest training image of each sample, as `nearest_rows` does."""
    return nearest_rows(fake.values, real.values)


def nearest_rows(points: NDArray[Any], real: NDArray[Any],
                 excluded: NDArray[np.intp] | None = None,
                 ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find the nearest row of `real` (M, D) for each row of `points` (N, D).

    The search is in float32, which finds the neighbour (or one equally near up to rounding) in half
    the time; the distance to it is in float64. Both sets are centred first, because
    ‖a‖² - 2ab + ‖b‖² of points far from the origin loses the digits that matter.

    Args:
        points: uint8 levels, read on the scale [-1, 1], or vectors.
        real: The same kind.
        excluded: (N,), for each point the row of `real` that does not count: its own, if the
            points are rows of `real`.

    Returns:
        The index of the neighbour, (N,), and the mean squared distance per coordinate, (N,).

    Raises:
        NonFiniteFeatures: A coordinate is not finite.
    """
    import numpy as np

    check_finite(points, "the samples")
    check_finite(real, "the training examples")
    centre = scaled(real[:REAL_BLOCK], np.float64).mean(axis=0).astype(np.float32)
    index = np.empty(len(points), np.intp)
    squared = np.empty(len(points))
    for start in range(0, len(points), BLOCK):
        rows = slice(start, start + BLOCK)
        skipped = None if excluded is None else excluded[rows]
        index[rows] = _nearest_of_block(points[rows], real, centre, skipped)
        gaps = scaled(points[rows], np.float64) - scaled(real[index[rows]], np.float64)
        squared[rows] = np.square(gaps).mean(axis=1)
    return index, squared


def scaled(values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return uint8 levels on the scale [-1, 1], and vectors as they are."""
    import numpy as np

    result = values.astype(dtype)
    return result / np.asarray(127.5, dtype) - 1 if values.dtype == np.uint8 else result


def _nearest_of_block(points: NDArray[Any], real: NDArray[Any], centre: NDArray[np.float32],
                      excluded: NDArray[np.intp] | None) -> NDArray[np.intp]:
    import numpy as np

    block = scaled(points, np.float32) - centre
    best = np.full(len(block), np.inf, dtype=np.float32)
    index = np.zeros(len(block), dtype=np.intp)
    for start in range(0, len(real), REAL_BLOCK):
        others = scaled(real[start : start + REAL_BLOCK], np.float32) - centre
        # ‖a‖² is the same for all b, so it does not change the order.
        distances = np.square(others).sum(axis=1) - 2 * block @ others.T
        if excluded is not None:
            inside = (excluded >= start) & (excluded < start + len(others))
            rows = np.flatnonzero(inside)
            distances[rows, excluded[rows] - start] = np.inf
        nearest = distances.argmin(axis=1)
        least = distances[np.arange(len(block)), nearest]
        closer = least < best
        best[closer], index[closer] = least[closer], start + nearest[closer]
    return index
