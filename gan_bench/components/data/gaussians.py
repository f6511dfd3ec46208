"""Mixtures of Gaussians in the plane: small data whose lost modes can be counted."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gan_bench.components.data.arrays import Arrays, ArraySplit
from gan_bench.data_facts import DataFacts
from gan_bench.errors import Say
from gan_bench.registry import DATASETS, DatasetFacts
from gan_bench.rng import derive

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

TEST = 10_000


def modes(kind: Literal["ring", "grid"], **_: object) -> tuple[list[tuple[float, float]], float]:
    """Return the centres of the modes and their common standard deviation per axis.

    `ring`: 8 modes on the unit circle, sigma 0.01. `grid`: 5 by 5 modes, spacing 2, sigma 0.05.
    Both as in Lin et al. 2018 (PacGAN), section 4.1, after Srivastava et al. 2017 (VEEGAN).
    """
    if kind == "ring":
        angles = [2 * math.pi * k / 8 for k in range(8)]
        return [(math.cos(a), math.sin(a)) for a in angles], 0.01
    axis = [-4.0, -2.0, 0.0, 2.0, 4.0]
    return [(x, y) for x in axis for y in axis], 0.05


def describe_gaussians(data_root: Path, *, kind: str, samples: int) -> DataFacts:
    """Return the facts.

    The labels are the modes, but the facts declare no classes, so that no classifier is trained:
    the distance to the known centres says more about a sample than a classifier's features.
    """
    return DataFacts(shape=(2,), classes=0, train=samples, test=TEST, digest="gaussians-1")


@DATASETS.register("gaussians", DatasetFacts(describe=describe_gaussians, modes=modes))
def gaussians(
    data_root: Path, say: Say, *, kind: Literal["ring", "grid"] = "ring",
    samples: Annotated[int, Field(ge=1, le=10_000_000)] = 50_000,
) -> Arrays:
    """2-D mixtures of equally likely Gaussians: a `ring` of 8, or a `grid` of 25.

    The examples are the same for every run and seed, like those of any data set.
    """
    return Arrays(_draw(kind, "train", samples), _draw(kind, "test", TEST))


def _draw(kind: Literal["ring", "grid"], split: str, count: int) -> ArraySplit:
    import numpy as np

    centres, sigma = modes(kind)
    rng = np.random.default_rng(derive(0, f"gaussians/{kind}/{split}"))
    labels: NDArray[np.int64] = rng.integers(len(centres), size=count)
    points = np.array(centres)[labels] + sigma * rng.standard_normal((count, 2))
    return ArraySplit(points.astype(np.float32), labels)
