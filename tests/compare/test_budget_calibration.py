"""How often what is said of a budget is wrong, on draws whose truth is known.

Shares of 2,000 searches, from fixed seeds. Bounds lie four standard errors to either side of what
theory says; a share of 5% of 2,000 has a standard error of half a point.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from gan_bench.compare.stats.search.budget import expected_best, interval_ranks, median_interval
from gan_bench.compare.stats.search.budget_pairs import budget_test, budget_verdicts
from gan_bench.compare.stats.summary import Values

SEARCHES = 2_000
INF = math.inf


def error_of(share: float, n: int = SEARCHES) -> float:
    return math.sqrt(share * (1 - share) / n)


@pytest.mark.parametrize("n", [5, 10, 20])
def test_the_expected_best_is_unbiased_and_the_plug_in_is_not(n: int) -> None:
    """Log-normal draws, B = 20. The plug-in draws with replacement (Dodge et al. 2019)."""
    truth, _ = integrate.quad(lambda x: stats.lognorm.sf(x, 1) ** n, 0, 50, limit=200)
    draws = np.random.default_rng(n).lognormal(size=(SEARCHES, 20))
    got = np.array([expected_best(row, n) for row in draws])
    error = got.std(ddof=1) / math.sqrt(SEARCHES)
    assert error < 0.006
    assert abs(got.mean() - truth) < 4 * error
    left = np.arange(20, -1, -1) / 20
    plug_in = (np.sort(draws, axis=1) @ -np.diff(left**n)).mean()
    assert 1.07 <= plug_in / truth <= 1.28
    assert plug_in - truth > 4 * error


@pytest.mark.parametrize(("draws", "n"), [(6, 1), (20, 1), (20, 3), (50, 2), (50, 9), (100, 18)])
@pytest.mark.parametrize("kind", ["log-normal", "a third diverges", "rounded"])
def test_the_interval_of_the_median_covers_as_often_as_it_says(draws: int, n: int, kind: str,
                                                               ) -> None:
    """The binomial formula gives how often, exactly; where scores are equal, at least so often."""
    ranks = interval_ranks(draws, n)
    assert ranks is not None
    quantile = 1 - 0.5 ** (1 / n)
    below = stats.binom(draws, quantile)
    exact = below.cdf(ranks[1] - 1) - below.cdf(ranks[0] - 1)
    assert 0.95 <= exact <= 0.9875
    assert (exact <= 0.97) or draws / n < 7  # the fewer draws, the coarser
    rng = np.random.default_rng([draws, n])
    scores = rng.lognormal(size=(SEARCHES, draws))
    truth = float(stats.lognorm.ppf(quantile, 1))
    if kind == "a third diverges":
        scores[rng.random(scores.shape) < 1 / 3] = INF
        truth = float(stats.lognorm.ppf(quantile * 1.5, 1))
    if kind == "rounded":
        scores, truth = np.ceil(scores * 4), math.ceil(truth * 4)
    ends = np.array([median_interval(row, n) for row in scores], dtype=np.float64)
    covered = ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()
    assert covered >= exact - 4 * error_of(exact)
    if kind != "rounded":
        assert covered <= exact + 4 * error_of(exact)
        misses = (truth < ends[:, 0]).mean(), (truth > ends[:, 1]).mean()
        assert max(misses) <= 0.025 + 4 * error_of(0.025)


def scores_of(rng: np.random.Generator, variants: int, draws: int, diverges: float, shared: bool,
              ) -> Values:
    """Return (SEARCHES, variants, draws) log-normal scores of variants that are the same."""
    setting = rng.normal(size=(SEARCHES, 1, draws)) if shared else 0
    noise = rng.normal(size=(SEARCHES, variants, draws))
    scores: Values = np.exp(setting + (0.3 if shared else 1) * noise)
    # Bad settings diverge more often than good ones, and a bad score is the more likely to.
    scores[rng.random(scores.shape) < 2 * diverges * stats.norm.cdf(np.log(scores))] = INF
    return scores


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("diverges", [0.0, 0.3])
def test_p_is_uniform_if_variants_are_the_same(shared: bool, diverges: float) -> None:
    """Alone at each budget, and the least adjusted one of all together."""
    draws, budgets = (8, [1, 2]) if shared else (20, [1, 3, 5])
    rng = np.random.default_rng([draws, round(10 * diverges)])
    tests = [budget_test(a, b, budgets, shared)
             for a, b in scores_of(rng, 2, draws, diverges, shared)]
    columns = {n: [test.p[i] for test in tests] for i, n in enumerate(budgets)}
    columns[0] = [min(test.p_adjusted) for test in tests]
    for values in columns.values():
        p = np.array(values)
        for level in (0.05, 0.1, 0.25, 0.5, 0.75):
            # p is discrete: it stays below the level, by more where there are 256 swaps.
            below = level / 2 if shared else 0.02
            assert level - below - 4 * error_of(level) <= (p <= level).mean()
            assert (p <= level).mean() <= level + 4 * error_of(level)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("diverges", [0.3, *(pytest.param(share, marks=pytest.mark.long)
                                             for share in (0.0, 0.1, 0.5))])
def test_equals_are_seldom_told_apart_at_any_budget(shared: bool, diverges: float) -> None:
    """Three variants against a baseline, at all budgets that are shown: *better* or *worse*."""
    draws, budgets = (8, [1, 2, 4, 6]) if shared else (20, [1, 2, 5, 10, 15])
    rng = np.random.default_rng([draws, round(10 * diverges), 1])
    wrong = better = 0
    for baseline, *variants in scores_of(rng, 4, draws, diverges, shared):
        tests = [budget_test(scores, baseline, budgets, shared) for scores in variants]
        words = {word for verdicts in budget_verdicts(tests) for word in verdicts}
        wrong += bool(words & {"better", "worse"})
        better += "better" in words
    assert wrong >= 0.003 * SEARCHES  # the less, the more pairs of draws diverged both
    assert wrong <= (0.05 + 4 * error_of(0.05)) * SEARCHES
    assert 0.2 * wrong <= better <= 0.05 * SEARCHES  # about half of the errors of each direction


@pytest.mark.long
@pytest.mark.parametrize(("scale", "n", "shift"), [(2, 1, 0.0), (4, 1, 0.0), (2, 5, 1.11),
                                                   (4, 5, 3.35)])
@pytest.mark.parametrize("draws", [20, 50])
def test_unequal_scatter_is_seldom_taken_for_better(scale: float, n: int, shift: float, draws: int,
                                                    ) -> None:
    """Normal scores of which one scatters more, so placed that both are as likely to win at n."""
    rng = np.random.default_rng([draws, n, round(scale)])
    best = rng.normal(size=(2, 100_000, n)).min(axis=2)
    assert (best[0] < scale * best[1] + shift).mean() == pytest.approx(0.5, abs=0.01)
    found = 0
    for _ in range(500):
        a, b = rng.normal(size=draws), scale * rng.normal(size=draws) + shift
        budgets = [1] if n == 1 else [1, 5, 10]
        verdicts = budget_verdicts([budget_test(a, b, budgets, paired=False)])[0]
        found += verdicts[budgets.index(n)] != "inconclusive"
    assert 0.005 <= found / 500 <= 0.08 + 4 * error_of(0.08, 500)
