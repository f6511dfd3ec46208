"""Whether the generator copies the training images.

In pixels (or coordinates), where a copy is at distance 0, and which is where the picture `nearest`
shows the pairs. For photographs a copy that is shifted or recoloured escapes such a distance.
"""

from __future__ import annotations

from gan_bench.errors import UserError
from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics.base import check, refuses_nothing
from gan_bench.evaluation.metrics.nearest import nearest, neighbours
from gan_bench.registry import METRICS, MetricFacts


@METRICS.register("memorisation", MetricFacts(
    better=None, extractor="pixels", reference="train", held_out=True, picture="nearest",
    refuses=refuses_nothing, returns=("nearest_ratio", "authpct"),
    protocol={"distance": "euclidean"}))
def memorisation(real: Features, fake: Features, held_out: Features) -> dict[str, float]:
    """Distance to the nearest training image: `nearest_ratio`, `authpct`, and a picture of pairs.

    `nearest_ratio`: the mean distance of generated images, over that of held-out ones. Below 1:
    memorised, for who has not seen the training images comes no nearer to them than others of the
    same source do. Above 1: less like the data than held-out images are.

    `authpct`: the percentage of generated images that are authentic: farther from their nearest
    training image than that one is from its own nearest other one (Alaa et al. 2022, "How faithful
    is your synthetic data?"; as a percentage in Stein et al. 2023, "Exposing flaws of generative
    model evaluation metrics", there on features). 0 for copies, 100 for noise.

    Args:
        real: Training images, (M, D), M ≥ 2.
        fake: Generated images, (N, D), N ≥ 2.
        held_out: Held-out images, (L, D).

    Raises:
        FeatureError: As `check`.
        UserError: Every held-out image is among the training images too.
    """
    import numpy as np

    check(real, fake)
    neighbour, squared = neighbours(real, fake)
    usual = np.sqrt(neighbours(real, held_out)[1]).mean()
    if usual == 0:
        raise UserError("memorisation cannot be told: every held-out image is in the training set "
                        "too; hold out others, or leave it out")
    copied, where = np.unique(neighbour, return_inverse=True)
    apart = nearest(real.values[copied], real.values, own=copied)[1][where]
    return {"nearest_ratio": float(np.sqrt(squared).mean() / usual),
            "authpct": 100 * float((apart < squared).mean())}
