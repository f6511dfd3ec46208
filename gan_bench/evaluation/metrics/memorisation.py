"""Whether the generator copies the training images.

The distance is in pixels (or coordinates), so an exact copy has distance 0. The picture `nearest`
shows these pairs. For photographs this distance misses a copy that is shifted or recoloured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_bench.errors import UserError
from gan_bench.evaluation.features.base import Features, evenly
from gan_bench.evaluation.metrics.base import check, refuses_nothing
from gan_bench.evaluation.metrics.nearest import nearest_rows, neighbours
from gan_bench.registry import METRICS, MetricFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SPREAD = 1000  # training images that stand for all, where the neighbours cannot be a standard
ROUNDING = 1e-12  # relative: two distances that differ by less are equal


@METRICS.register("memorisation", MetricFacts(
    better=None, extractor="pixels", reference="train", held_out=True, picture="nearest",
    refuses=refuses_nothing, returns=("nearest_ratio", "authpct"),
    protocol={"distance": "euclidean"},
    score_protocols={"nearest_ratio": {"ratio": "train / held out, over that of the neighbours"}}))
def memorisation(real: Features, fake: Features, held_out: Features) -> dict[str, float]:
    """Distance to the nearest training image: `nearest_ratio`, `authpct`, and a picture of pairs.

    `nearest_ratio`: how much nearer the generated images come to the training images than to the
    held-out ones. It is the mean distance to the nearest training image over that to the nearest
    held-out image, divided by the same ratio of the training images that are the neighbours, each
    compared with the others. So the number of images, classes that are missing and images that are
    smooth hardly matter: 1 for images that come no nearer to the training set than its members do
    to each other, 0 for copies, about 1/2 where half are copies. Of MNIST (24,000 training and
    2,000 held-out images): unseen images 1.03, unseen ones alone 1.03, unseen images in 50
    principal components 1.05, blurred ones 1.07; half copies .53; copies with noise of 25 levels
    .45, blurred .78, in 50 principal components .72; uniform noise 1.15.

    What it cannot tell: copies that are altered by more than neighbours differ (with noise of 100
    levels: 1.06), or are shifted or recoloured; copies of a few images among many others, as means
    over 1,000 samples differ by 2 or 3 % by chance; whether samples are good. If the held-out
    images are of another kind than the training images (other writers: -2 to +3 % on MNIST), a
    value other than 1 may show just that.

    `authpct`: the percentage of authentic images. A generated image is authentic if it is farther
    from its nearest training image than that image is from its nearest neighbour in the training
    set (Alaa et al. 2022, "How faithful is your synthetic data?"; as a percentage of features in
    Stein et al. 2023, "Exposing flaws of generative model evaluation metrics"). 0 for copies, 100
    for noise. Unseen images do not reach 100, because the nearest of many images is seldom a
    lonely one: 65 on MNIST, 48 in 50 principal components. So compare it between generators, or
    with the score of held-out images.

    Args:
        real: Training images, (M, D), M ≥ 2.
        fake: Generated images, (N, D), N ≥ 2.
        held_out: Held-out images, (L, D).

    Raises:
        FeatureError: As `check`.
        UserError: Every held-out image is also a training image, or every generated image a
            held-out one, or every training image is there twice.
    """
    import numpy as np

    check(real, fake)
    neighbour, squared = neighbours(real, fake)
    if not neighbours(real, held_out)[1].any():
        raise UserError("memorisation cannot be measured: every held-out image is also in the "
                        "training set; hold out other images, or leave the metric out")
    to_held_out = nearest_rows(fake.values, held_out.values)[1]
    if not to_held_out.any():
        raise UserError("memorisation cannot be measured: every generated image is also held out; "
                        "hold out other images, or leave the metric out")
    rows, position = np.unique(neighbour, return_inverse=True)
    among, apart = (squares[position] for squares in _of_training(real, held_out, rows))
    authentic = among * (1 + ROUNDING) < squared
    if not (among.any() and apart.any()):
        among, apart = _of_all(real, held_out)
    ratio = _mean_root(squared) / _mean_root(to_held_out)
    return {"nearest_ratio": ratio * _mean_root(apart) / _mean_root(among),
            "authpct": 100 * float(authentic.mean())}


def _of_training(real: Features, held_out: Features, rows: NDArray[np.intp],
                 ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Squared distances of some training images to the nearest other one, and held-out image."""
    values = real.values[rows]
    return (nearest_rows(values, real.values, excluded=rows)[1],
            nearest_rows(values, held_out.values)[1])


def _of_all(real: Features, held_out: Features,
            ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The same of training images that are evenly spread over all.

    They are the standard where every neighbour is there twice: after a collapse, for example.
    """
    import numpy as np

    total = len(real.values)
    among, apart = _of_training(real, held_out, np.array(evenly(total, min(total, SPREAD))))
    if not (among.any() and apart.any()):
        raise UserError("memorisation cannot be measured: every training image is there twice, or "
                        "is held out too; remove the doubles, or leave the metric out")
    return among, apart


def _mean_root(squared: NDArray[np.float64]) -> float:
    import numpy as np

    return float(np.sqrt(squared).mean())
