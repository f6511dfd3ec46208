"""The Fréchet distance between Gaussians fitted to features."""

from __future__ import annotations

from gan_bench.features import Features, covariance
from gan_bench.metrics import refuses_unlabelled, refuses_vectors
from gan_bench.registry import METRICS


@METRICS.register("fid", better="lower", extractor="inception", reference="train",
                  refuses=refuses_vectors)
def fid(real: Features, fake: Features) -> float:
    """Fréchet Inception distance (Heusel et al. 2017, equation 6)."""
    return frechet_distance(real, fake)


@METRICS.register("fd_classifier", better="lower", extractor="classifier", reference="train",
                  refuses=refuses_unlabelled)
def fd_classifier(real: Features, fake: Features) -> float:
    """Fréchet distance between features of the embedded classifier."""
    return frechet_distance(real, fake)


def frechet_distance(real: Features, fake: Features) -> float:
    """Return ‖μ₁ - μ₂‖² + tr Σ₁ + tr Σ₂ - 2 tr (Σ₁Σ₂)^½, covariances with ddof 1.

    Dowson and Landau 1982, equation 4. With Σ₁ = FFᵀ the last trace is the sum of the roots of the
    eigenvalues of FᵀΣ₂F, which is symmetric: no matrix root, nothing complex. Not clamped at 0.

    Args:
        real: (N, D), N ≥ 2; its Gaussian is the one fitted once.
        fake: (M, D), M ≥ 2.

    Raises:
        ValueError: The two come from different extractors.
    """
    import numpy as np

    if real.extractor != fake.extractor:
        raise ValueError(f"features of {real.extractor} do not compare with {fake.extractor}'s")
    mean, factor = real.gaussian.mean, real.gaussian.factor
    fake_mean = fake.values.mean(axis=0)
    samples, width = fake.values.shape
    if samples > width:
        spread = covariance(fake.values, fake_mean)
        fake_trace = np.trace(spread)
        roots = np.sqrt(np.linalg.eigvalsh(factor.T @ spread @ factor).clip(min=0))
    else:
        # Σ₂ is singular, and the root of an eigenvalue that is 0 up to rounding is not nearly 0:
        # take the singular values of F₂ᵀF₁ instead, whose squares those eigenvalues are.
        root = (fake.values - fake_mean) / np.sqrt(samples - 1)
        fake_trace = np.square(root).sum()
        roots = np.linalg.svd(root @ factor, compute_uv=False)
    means = np.square(mean - fake_mean).sum()
    return float(means + np.square(factor).sum() + fake_trace - 2 * roots.sum())
