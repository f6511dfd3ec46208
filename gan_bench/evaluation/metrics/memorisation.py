"""Whether the generator copies the training images.

The distance is in pixels (or coordinates), so an exact copy has distance 0. The picture `nearest`
shows these pairs. For photographs this distance misses a copy that is shifted or recoloured.
"""

from __future__ import annotations

from gan_bench.errors import UserError
from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics.base import check, refuses_nothing
from gan_bench.evaluation.metrics.nearest import nearest_rows, neighbours
from gan_bench.registry import METRICS, MetricFacts


@METRICS.register("memorisation", MetricFacts(
    better=None, extractor="pixels", reference="train", held_out=True, picture="nearest",
    refuses=refuses_nothing, returns=("nearest_ratio", "authpct"),
    protocol={"distance": "euclidean"}))
def memorisation(real: Features, fake: Features, held_out: Features) -> dict[str, float]:
    """Distance to the nearest training image: `nearest_ratio`, `authpct`, and a picture of pairs.

    `nearest_ratio`: the mean distance of generated images over the mean distance of held-out
    images. Below 1: memorised, because held-out images are as near as unseen images of the same
    source come. Above 1: less like the data than held-out images are.

    `authpct`: the percentage of authentic images. A generated image is authentic if it is farther
    from its nearest training image than that image is from its nearest neighbour in the training
    set (Alaa et al. 2022, "How faithful is your synthetic data?"; as a percentage of features in
    Stein et al. 2023, "Exposing flaws of generative model evaluation metrics"). 0 for copies, 100
    for noise.

    Args:
        real: Training images, (M, D), M ≥ 2.
        fake: Generated images, (N, D), N ≥ 2.
        held_out: Held-out images, (L, D).

    Raises:
        FeatureError: As `check`.
        UserError: Every held-out image is also a training image.
    """
    import numpy as np

    check(real, fake)
    neighbour, squared = neighbours(real, fake)
    held_out_distance = np.sqrt(neighbours(real, held_out)[1]).mean()
    if held_out_distance == 0:
        raise UserError("memorisation cannot be measured: every held-out image is also in the "
                        "training set; hold out other images, or leave the metric out")
    rows, position = np.unique(neighbour, return_inverse=True)
    of_neighbour = nearest_rows(real.values[rows], real.values, excluded=rows)[1][position]
    return {"nearest_ratio": float(np.sqrt(squared).mean() / held_out_distance),
            "authpct": 100 * float((of_neighbour < squared).mean())}
