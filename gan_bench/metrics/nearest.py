"""Distance to the nearest training image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gan_bench.features import Features
from gan_bench.metrics import refuses_nothing
from gan_bench.registry import METRICS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import DTypeLike, NDArray

FAKE_BLOCK, REAL_BLOCK = 1024, 4096  # rows; their table of distances takes 16 MB


@METRICS.register("nearest_train_mse", better=None, extractor="pixels", reference="train",
                  refuses=refuses_nothing)
def nearest_train_mse(real: Features, fake: Features) -> float:
    """Mean squared distance per pixel, in the scale [-1, 1], to the nearest training image.

    Near 0: the generator copies. It has no better side, since noise is far from everything. For
    vectors: the same per coordinate.
    """
    import numpy as np

    centre = scaled(real.values[:REAL_BLOCK], np.float64).mean(axis=0)
    total = 0.0
    for start in range(0, len(fake.values), FAKE_BLOCK):
        block = fake.values[start : start + FAKE_BLOCK]
        near = real.values[nearest(block, real.values, centre)]
        total += np.square(scaled(block, np.float64) - scaled(near, np.float64)).mean(axis=1).sum()
    return float(total / len(fake.values))


def nearest(fake: NDArray[Any], real: NDArray[Any], centre: NDArray[np.float64],
            ) -> NDArray[np.intp]:
    """Return, for each row of `fake` (N, D), the index of the nearest row of `real` (M, D).

    In float32, which finds the neighbour (or one as near up to rounding) in half the time; the
    distance to it is then taken in float64. Both are centred first: ‖a‖² - 2ab + ‖b‖² of points
    far from the origin loses the digits that matter.
    """
    import numpy as np

    middle = centre.astype(np.float32)
    points = scaled(fake, np.float32) - middle
    best = np.full(len(points), np.inf, dtype=np.float32)
    index = np.zeros(len(points), dtype=np.intp)
    for start in range(0, len(real), REAL_BLOCK):
        others = scaled(real[start : start + REAL_BLOCK], np.float32) - middle
        # ‖a‖² is the same for all b, so the order does not need it.
        distances = np.square(others).sum(axis=1) - 2 * points @ others.T
        found = distances.argmin(axis=1)
        least = distances[np.arange(len(points)), found]
        closer = least < best
        best[closer], index[closer] = least[closer], start + found[closer]
    return index


def scaled(values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Return uint8 levels on the scale [-1, 1], and vectors as they are."""
    import numpy as np

    result = values.astype(dtype)
    return result / np.asarray(127.5, dtype) - 1 if values.dtype == np.uint8 else result
