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

    Near 0: the generator copies. It has no better side, since noise is far from everything. For
    vectors: the same per coordinate.
    """
    _, squared = neighbours(real, fake)
    return float(squared.mean())


@once
def neighbours(real: Features, fake: Features,
               ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return `nearest` of samples to training images."""
    return nearest(fake.values, real.values)


def nearest(points: NDArray[Any], real: NDArray[Any], own: NDArray[np.intp] | None = None,
            ) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Find the nearest row of `real` (M, D) for each row of `points` (N, D).

    Found in float32, which gives the neighbour (or one as near up to rounding) in half the time;
    the distance to it is then taken in float64. Both are centred first: ‖a‖² - 2ab + ‖b‖² of
    points far from the origin loses the digits that matter.

    Args:
        points: uint8 levels, read on the scale [-1, 1], or vectors.
        real: The same kind.
        own: (N,), for points that are rows of `real` themselves: which, for none is its own
            neighbour.

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
        index[rows] = _nearest_of_block(points[rows], real, centre,
                                        None if own is None else own[rows])
        gaps = scaled(points[rows], np.float64) - scaled(real[index[rows]], np.float64)
        squared[rows] = np.square(gaps).mean(axis=1)
    return index, squared


def scaled(values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return uint8 levels on the scale [-1, 1], and vectors as they are."""
    import numpy as np

    result = values.astype(dtype)
    return result / np.asarray(127.5, dtype) - 1 if values.dtype == np.uint8 else result


def _nearest_of_block(points: NDArray[Any], real: NDArray[Any], centre: NDArray[np.float32],
                      own: NDArray[np.intp] | None) -> NDArray[np.intp]:
    import numpy as np

    block = scaled(points, np.float32) - centre
    best = np.full(len(block), np.inf, dtype=np.float32)
    index = np.zeros(len(block), dtype=np.intp)
    for start in range(0, len(real), REAL_BLOCK):
        others = scaled(real[start : start + REAL_BLOCK], np.float32) - centre
        # ‖a‖² is the same for all b, so the order does not need it.
        distances = np.square(others).sum(axis=1) - 2 * block @ others.T
        if own is not None:
            here = np.flatnonzero((own >= start) & (own < start + len(others)))
            distances[here, own[here] - start] = np.inf
        found = distances.argmin(axis=1)
        least = distances[np.arange(len(block)), found]
        closer = least < best
        best[closer], index[closer] = least[closer], start + found[closer]
    return index
