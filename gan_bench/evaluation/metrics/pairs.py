"""How near a generated image is to the target of its input: l1, psnr, ssim.

Each is the mean over the images of a score of one image. Copying the input has a score too, which
the protocol gives as `copying`: a generator that is worse has learned nothing from its pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from gan_bench.data_facts import DataFacts
from gan_bench.evaluation.features.base import FeatureError, Features
from gan_bench.evaluation.metrics.base import check
from gan_bench.registry import METRICS, MetricFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Values = NDArray[np.float64]

RANGE = 255.0  # of the levels
ROUNDING = 1 / 12  # the mean squared error of rounding to whole levels
SIDE, SIGMA = 11, 1.5  # of SSIM's window, in pixels
K1, K2 = 0.01, 0.03
CHUNK = 64  # images at a time
Shape = tuple[int, ...]


def refuses_unpaired(data: DataFacts) -> str | None:
    """Accept only pairs."""
    if not data.input:
        return ("needs inputs with their targets, and this data set has none; leave it out, or use "
                "the data set pairs")
    return None


def refuses_tiny_pairs(data: DataFacts) -> str | None:
    """Accept only pairs of images that SSIM's window fits into."""
    if data.input and data.shape[1] < SIDE:
        return f"has a window of {SIDE} pixels, and these images have {data.shape[1]}; use psnr"
    return refuses_unpaired(data)


@METRICS.register("l1", MetricFacts(
    better="lower", extractor="pixels", reference="test", matched=True, paired=True, range=(0, 2),
    refuses=refuses_unpaired))
def l1(real: Features, fake: Features, shape: Shape) -> float:
    """Mean absolute distance of an image from its target, per value, in the scale [-1, 1].

    It is what the penalty `l1` minimises, on held-out pairs. It favours the median of what is
    possible, which is blurred.

    Args:
        real: The targets, in the order of the images.
        shape: `(C, H, W)` of an image.
    """
    import numpy as np

    return _mean_score(real, fake, lambda target, image: np.abs(
        target - image).mean(axis=1)) * 2 / RANGE


@METRICS.register("psnr", MetricFacts(
    better="higher", extractor="pixels", reference="test", matched=True, paired=True,
    refuses=refuses_unpaired, protocol={"peak": 255, "least error": "that of rounding, 1/12"}))
def psnr(real: Features, fake: Features, shape: Shape) -> float:
    """Peak signal-to-noise ratio, 10 · log₁₀(255² / mean squared error), in dB.

    The mean over the images, and not the ratio of the mean error. The error of a perfect copy
    counts as that of rounding to levels, 1/12: it has 58.9 dB, and not infinitely many.

    Args:
        real: The targets, in the order of the images.
        shape: `(C, H, W)` of an image.
    """
    import numpy as np

    return _mean_score(real, fake, lambda target, image: psnr_of(
        np.square(target - image).mean(axis=1).clip(min=ROUNDING)))


def psnr_of(error: Values) -> Values:
    """Return the PSNR in dB of mean squared errors of levels, (N,); infinite for 0."""
    import numpy as np

    with np.errstate(divide="ignore"):
        decibels: Values = 10 * np.log10(RANGE**2 / error)
    return decibels


@METRICS.register("ssim", MetricFacts(
    better="higher", extractor="pixels", reference="test", matched=True, paired=True,
    range=(-1, 1), refuses=refuses_tiny_pairs, protocol={"window": "Gaussian 11×11, σ 1.5, valid"}))
def ssim(real: Features, fake: Features, shape: Shape) -> float:
    """Structural similarity: 1 for the target itself, near 0 for what is unrelated.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity",
    equation 13: means, variances and covariance under a Gaussian window of 11×11 pixels, σ 1.5,
    K 0.01 and 0.03, L 255, at all places where the window fits. Of colour images, the mean over the
    channels.

    Args:
        real: The targets, in the order of the images.
        shape: `(C, H, W)` of an image.
    """
    return _mean_score(real, fake, lambda target, image: ssim_of(
        target.reshape(-1, *shape), image.reshape(-1, *shape)))


def ssim_of(targets: Values, images: Values) -> Values:
    """Return the SSIM of each pair of images (N, C, H, W) of levels: (N,)."""
    c1, c2 = (K1 * RANGE) ** 2, (K2 * RANGE) ** 2
    mean_x, mean_y = _windowed(targets), _windowed(images)
    var_x = _windowed(targets * targets) - mean_x * mean_x
    var_y = _windowed(images * images) - mean_y * mean_y
    covariance = _windowed(targets * images) - mean_x * mean_y
    similarity: Values = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)
                          / ((mean_x * mean_x + mean_y * mean_y + c1) * (var_x + var_y + c2)))
    mean: Values = similarity.mean(axis=(1, 2, 3))
    return mean


def _windowed(values: Values) -> Values:
    """The mean under the Gaussian window at all places where it fits."""
    import numpy as np

    weights = np.exp(-np.square((np.arange(SIDE) - SIDE // 2) / SIGMA) / 2)
    weights /= weights.sum()
    for axis in (2, 3):
        places = values.shape[axis] - SIDE + 1
        values = sum((weight * values.take(range(i, i + places), axis=axis)
                      for i, weight in enumerate(weights)), start=np.zeros(()))
    return values


def _mean_score(real: Features, fake: Features, score: Callable[[Values, Values], Values],
                ) -> float:
    """Return the mean over the images of their scores.

    Args:
        score: A few targets and their images, (n, C·H·W) float64 levels → (n,).
    """
    import numpy as np

    check(real, fake)
    if len(real.values) != len(fake.values):
        raise FeatureError(f"{len(fake.values):,} images do not compare with {len(real.values):,} "
                           f"targets: each has one")
    total = 0.0
    for start in range(0, len(fake.values), CHUNK):
        rows = slice(start, start + CHUNK)
        total += float(score(real.values[rows].astype(np.float64),
                             fake.values[rows].astype(np.float64)).sum())
    return total / len(fake.values)
