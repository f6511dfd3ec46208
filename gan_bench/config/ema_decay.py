"""The decay of G's weight average at each step, from `ema` and `ema_ramp`. No torch."""

from __future__ import annotations

from math import fsum, log, log2

MOST_INITIAL = 0.01  # a larger share of random weights in an average is refused
EULER = 0.5772156649015329


def decay_at(ema: float, ramp: float | None, step: int) -> float:
    """Return the weight that the average has at a step against G's weights, below 1.

    With a ramp, the half-life of the average is at most `ramp` times the steps so far, as in
    StyleGAN2's training loop (Karras et al. 2020, "Analyzing and improving the image quality of
    StyleGAN", `ema_rampup`).
    """
    return ema if ramp is None else min(ema, 0.5 ** (1 / (ramp * step)))


def initial_share(ema: float, ramp: float | None, steps: int) -> float:
    """Return the share, 0..1, that G's initial weights have in the average after `steps`.

    It is the product of `decay_at` over the steps, as a sum of logarithms in base 2: the k-th step
    of the ramp adds 1 / (ramp · k), and each later one the inverse of the half-life.
    """
    half_life = -1 / log2(ema)
    ramped = 0 if ramp is None else int(min(steps, half_life / ramp))
    halvings = (steps - ramped) / half_life
    if ramp is not None:
        halvings += _harmonic(ramped) / ramp
    return float(2.0 ** -halvings)


def _harmonic(n: int) -> float:
    """1 + 1/2 + … + 1/n; of many terms by Euler's expansion, whose error is then below 1e-13."""
    if n <= 1_000:
        return fsum(1 / k for k in range(1, n + 1))
    return log(n) + EULER + 1 / (2 * n) - 1 / (12 * n * n)
