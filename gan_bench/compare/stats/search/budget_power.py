"""How many draws, and how many seeds of each, find a difference between two tuned variants.

Scores are minimised, of random draws that did not diverge.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from gan_bench.compare.stats.search.budget import expected_best, valid_draws
from gan_bench.compare.stats.search.budget_pairs import holm_level
from gan_bench.compare.stats.summary import Values


def best_contributions(scores: ArrayLike, n: int) -> Values:
    """Return what each draw contributes to the expected best of n: its pseudo-values.

    B U_n - (B - 1) U_n without the draw (the jackknife, Tukey 1958; of U-statistics Arvesen 1969,
    "Jackknifing U-statistics"). They scatter as the scores do at n = 1. Their mean is U_n, whose
    standard error is about their standard deviation over the root of B. Far from n = B, that is: at
    n > B/2, U_n rests on too few draws.

    Args:
        scores: (B,) finite, to minimise, at least 2.
        n: The budget, 1..B - 1.

    Returns:
        (B,), in the order of the scores.

    Raises:
        ValueError: A score is NaN or infinite, or n is not in 1..B - 1.
    """
    x = valid_draws(scores, n + 1)
    if not np.isfinite(x).all():
        raise ValueError("a draw that diverged has no contribution")
    draws = len(x)
    whole = draws * expected_best(x, n)
    return np.array([whole - (draws - 1) * expected_best(np.delete(x, j), n)
                     for j in range(draws)])


def select_seeds(runs: int, between: float, within: float) -> int:
    """Return how many seeds of each draw select the best setting with so many runs in all.

    With k seeds, runs/k settings are tried, and selected by means of k. If both sources of scatter
    are normal, the selected setting is better than an average one by
    σ_d ρ_k m(runs/k), ρ_k² = σ_d² / (σ_d² + σ_s²/k), where m(B) is the expected largest of B
    normal numbers (Blom 1958's approximation, Φ⁻¹((B - ⅜) / (B + ¼))). More settings nearly always
    beat more seeds: 1, unless seeds scatter more than settings do.

    Args:
        runs: Of a variant, at least 1.
        between: Variance between draws σ_d².
        within: Variance between seeds of a draw σ_s².

    Returns:
        The number with the largest gain, at most half of the runs; 1 if draws do not scatter.
    """
    if not between > 0:
        return 1
    seeds = np.arange(1, max(1, runs // 2) + 1)
    draws = runs / seeds
    largest = stats.norm.ppf((draws - 3 / 8) / (draws + 1 / 4))
    gains = largest * np.sqrt(between / (between + within / seeds))
    return int(seeds[np.argmax(gains)])


def draws_for_verdict(paired: bool, comparisons: int) -> int:
    """Return how many draws of each variant the least p of a test takes that can be decisive.

    The least p is two labellings, that of the draws and its opposite, of all: of 2^B swaps within
    shared draws, of C(2B, B) splits of others.
    """
    def labellings(draws: int) -> int:
        return 2**draws if paired else math.comb(2 * draws, draws)

    return next(draws for draws in itertools.count(2)
                if 2 / labellings(draws) <= holm_level(comparisons))
