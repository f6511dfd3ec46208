"""The Fréchet distance between Gaussians fitted to features."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from gan_bench import rng
from gan_bench.evaluation.features.base import FeatureError, Features
from gan_bench.evaluation.features.gaussian import EPSILON, Gaussian, covariance, root_of, scatter
from gan_bench.evaluation.metrics.base import check, on_extractors, once

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIZES = 15  # as in Chong and Forsyth 2020
LARGEST_OVER_SMALLEST = 10  # there too: 50,000 samples, and 5,000, which is 2.4 for each feature
SMALLEST_PER_FEATURE = 2  # samples; below, the bias is far from proportional to 1/N
LEAST_PER_FEATURE = 10  # with fewer, the line is steeper than the bias at the sizes that matter


@on_extractors("fd_{}", inception="fid", better="lower", range=(0, math.inf), reference="train",
               gaussian=True)
@once
def frechet_distance(real: Features, fake: Features) -> float:
    """Fréchet distance of Gaussians fitted to features (FID on Inception, Heusel et al. 2017).

    ‖μ₁ - μ₂‖² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁Σ₂)^½, covariances with ddof 1: Dowson and Landau 1982,
    equation 4. Not clamped at 0.

    Args:
        real: (N, D), N ≥ 2; its Gaussian is fitted once.
        fake: (M, D), M ≥ 2.

    Raises:
        FeatureError: The features do not compare.
    """
    check(real, fake)
    return distance_from(real.gaussian, fake.values)


@on_extractors("fd_{}_norm", inception="fid_norm", better="lower", range=(0, math.inf),
               reference="train", gaussian=True)
def frechet_distance_norm(real: Features, fake: Features) -> float:
    """Fréchet distance over the trace of the real covariance: independent of the features' scale.

    A generator whose samples all equal the real mean has 1.
    """
    import numpy as np

    return frechet_distance(real, fake) / float(np.square(real.gaussian.factor).sum())


@on_extractors("fd_{}_inf", inception="fid_inf", better="lower", reference="train", gaussian=True,
               least_per_feature=LEAST_PER_FEATURE,
               protocol={"sizes": SIZES, "smallest": "a tenth, at least 2 for each feature"})
def frechet_distance_inf(real: Features, fake: Features) -> float:
    """Fréchet distance extrapolated to infinitely many generated samples; may be negative.

    Chong and Forsyth 2020, section 4: the distance at N samples is biased by about c/N. So it is
    computed at 15 evenly spaced sizes, from a tenth of the samples (but at least 2 D) to all of
    them, each time on a new random subset. A line in 1/N is fitted by least squares.

    Towards 2 D the bias grows faster than 1/N, so the line takes off too much: of the bias about a
    tenth up to 20 samples a feature, and half of that at 30. For Gaussians whose covariances differ
    by the factor 1.44, that is 18 % of the distance at 4 samples a feature, 14 at 5, 8 at 8, 5 at
    10 and 1 at 30. So fewer than 10 are refused.

    Args:
        real: (N, D); the bias of its size N stays.
        fake: (M, D), M ≥ 10 D.

    Raises:
        FeatureError: The features do not compare, or there are fewer than 10 D samples.
    """
    import numpy as np
    import torch

    check(real, fake)
    samples, width = fake.values.shape
    if samples < LEAST_PER_FEATURE * width:
        raise FeatureError(f"an extrapolation over {width:,} features needs "
                           f"{LEAST_PER_FEATURE * width:,} generated samples, and there are "
                           f"{samples:,}: with fewer, it takes off too much; generate more")
    smallest = max(samples // LARGEST_OVER_SMALLEST, SMALLEST_PER_FEATURE * width)
    sizes = np.linspace(smallest, samples, SIZES).astype(int)
    values, mean = fake.values, fake.values.mean(axis=0)
    whole = scatter(values, mean)
    distances = []
    for i, size in enumerate(sizes):
        order = torch.randperm(samples, generator=rng.generator(0, "fd_inf", i)).numpy()
        # Sums over the smaller part only: those of both parts add up to the whole.
        sign, rows = (1, order[:size]) if 2 * size <= samples else (-1, order[size:])
        spread = sign * scatter(values, mean, rows) + (whole if sign < 0 else 0)
        shift = sign * ((np.bincount(rows, minlength=samples) @ values) - len(rows) * mean) / size
        spread = (spread - size * np.outer(shift, shift)) / (size - 1)
        distances.append(distance_between(real.gaussian, mean + shift, spread))
    return float(np.polyfit(1 / sizes, distances, 1)[1])


def distance_from(real: Gaussian, values: NDArray[Any]) -> float:
    """Return the Fréchet distance of `values` (M, D) from a Gaussian."""
    import numpy as np

    samples, width = values.shape
    mean = values.mean(axis=0)
    if samples > width:
        return distance_between(real, mean, covariance(values, mean))
    # Σ₂ is singular, and an eigenvalue that is 0 up to rounding has a root far from 0. The singular
    # values of F₂ᵀF₁ are these roots without the rounding.
    root: NDArray[np.float64] = (values - mean) / np.sqrt(samples - 1)
    roots: NDArray[Any] = np.linalg.svd(root @ real.factor, compute_uv=False)
    return _distance_of_parts(real, mean, np.square(root).sum(), roots)


def distance_between(real: Gaussian, mean: NDArray[np.float64], spread: NDArray[np.float64],
                     ) -> float:
    """Return the Fréchet distance of a Gaussian from that of `mean` (D,) and `spread` (D, D).

    With Σ₁ = FFᵀ the trace of (Σ₁Σ₂)^½ is the sum of the roots of the eigenvalues of FᵀΣ₂F. That
    matrix is symmetric, so there is no matrix root and no complex number.
    """
    import numpy as np

    eigenvalues = np.linalg.eigvalsh(_congruent(spread, real.factor))
    if eigenvalues[0] > len(eigenvalues) * EPSILON * eigenvalues[-1]:
        roots = np.sqrt(eigenvalues)
    else:  # an eigenvalue may be 0 up to rounding: as in `distance_from`
        roots = np.linalg.svd(real.factor.T @ root_of(spread), compute_uv=False)
    return _distance_of_parts(real, mean, float(np.trace(spread)), roots)


def _distance_of_parts(real: Gaussian, mean: NDArray[np.float64], trace: float,
                       roots: NDArray[np.float64]) -> float:
    """The distance from its parts: the second mean and trace, and the roots of the eigenvalues."""
    import numpy as np

    means = np.square(real.mean - mean).sum()
    return float(means + np.square(real.factor).sum() + trace - 2 * roots.sum())


def _congruent(spread: NDArray[np.float64], factor: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return FᵀΣF, perhaps only its lower triangle: eigvalsh reads no more."""
    import numpy as np
    from scipy.linalg import lapack

    rows, columns = factor.shape
    if rows != columns or np.triu(factor, 1).any():
        return factor.T @ spread @ factor
    # LAPACK stores by columns: our L is its U, and it returns the transpose.
    product, _ = lapack.dsygst(spread, factor.T, itype=2, lower=0)
    congruent: NDArray[np.float64] = product.T
    return congruent
