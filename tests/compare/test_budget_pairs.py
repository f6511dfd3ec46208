"""The test at several budgets against every labelling, and budgets of cost against every order."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
from scipy import stats

from gan_bench.compare.stats.search import budget_pairs
from gan_bench.compare.stats.search.budget import best_quantile
from gan_bench.compare.stats.search.budget_cost import best_by_cost
from gan_bench.compare.stats.search.budget_pairs import (
    BudgetTest,
    budget_test,
    budget_verdicts,
    probability_better,
    probability_better_paired,
)
from gan_bench.compare.stats.summary import Values

INF = math.inf
DRAWS = {"distinct": ([1.0, 7.0, 3.0, 2.5], [4.0, 2.0, 6.0, 8.0]),
         "ties": ([1.0, 2.0, 2.0, 3.0], [2.0, 2.0, 3.0, 4.0]),
         "diverged": ([1.0, INF, 2.0, INF], [3.0, INF, 5.0, 4.0]),
         "all the same": ([1.0, 1.0, 1.0], [1.0, 1.0, 1.0]),
         "unequal numbers": ([1.0, 2.0], [3.0, 1.5, 4.0, INF])}
CASES = [(name, shared) for name in DRAWS for shared in (False, True)
         if not (shared and name == "unequal numbers")]


def labellings(a: Sequence[float], b: Sequence[float], shared: bool,
               ) -> Iterator[tuple[list[float], list[float]]]:
    """Return everything that could as well have been A and B."""
    if shared:
        for swaps in itertools.product([False, True], repeat=len(a)):
            pairs = [(y, x) if swap else (x, y)
                     for x, y, swap in zip(a, b, swaps, strict=True)]
            yield [x for x, _ in pairs], [y for _, y in pairs]
        return
    pooled = [*a, *b]
    for chosen in itertools.combinations(range(len(pooled)), len(a)):
        yield ([pooled[i] for i in chosen],
               [pooled[i] for i in range(len(pooled)) if i not in chosen])


def distances(a: Sequence[float], b: Sequence[float], budgets: Sequence[int]) -> list[float]:
    return [round(abs(probability_better(a, b, n, n) - 0.5), 9) for n in budgets]


@pytest.mark.parametrize(("name", "shared"), CASES)
def test_p_is_that_of_every_labelling(name: str, shared: bool) -> None:
    a, b = DRAWS[name]
    budgets = range(1, min(len(a), len(b)) + 1)
    got = budget_test(a, b, budgets, shared)
    observed = np.array(distances(a, b, budgets))
    null = np.array([distances(x, y, budgets) for x, y in labellings(a, b, shared)])
    p = (null >= observed).mean(axis=0)
    assert got.p == pytest.approx(p)
    least = np.array([(null >= row).mean(axis=0).min() for row in null])
    assert got.p_adjusted == pytest.approx([(least <= alone + 1e-12).mean() for alone in p])
    assert got.exact
    assert got.budgets == (*budgets,)
    better = [probability_better_paired(a, b, n) if shared else probability_better(a, b, n, n)
              for n in budgets]
    assert got.probability == pytest.approx(better)
    swapped = budget_test(b, a, budgets, shared)
    assert (swapped.p, swapped.p_adjusted) == (got.p, got.p_adjusted)
    assert swapped.sign == tuple(-sign for sign in got.sign)


def test_one_budget_is_tested_as_by_scipy() -> None:
    a, b = (np.array(side) for side in DRAWS["distinct"])

    def distance(x: Values, y: Values) -> float:
        return distances(x.tolist(), y.tolist(), [2])[0]

    for shared, kind in ((False, "independent"), (True, "samples")):
        p = stats.permutation_test((a, b), distance, permutation_type=kind, n_resamples=np.inf,
                                   vectorized=False, alternative="greater").pvalue
        got = budget_test(a, b, [2], shared)
        assert got.p == got.p_adjusted == pytest.approx((p,))


@pytest.mark.parametrize(("name", "shared"), CASES)
def test_p_is_uniform_over_labellings_that_are_as_likely(name: str, shared: bool) -> None:
    """If each is as likely to be observed, p ≤ x in a share x of studies, for each x that occurs.

    So is the least adjusted p of all budgets.
    """
    a, b = DRAWS[name]
    budgets = range(1, min(len(a), len(b)) + 1)
    tests = [budget_test(x, y, budgets, shared) for x, y in labellings(a, b, shared)]
    for column in (*np.array([test.p for test in tests]).T,
                   np.array([min(test.p_adjusted) for test in tests])):
        for x in set(column):
            assert (column <= x + 1e-12).mean() == pytest.approx(x)


def test_the_whole_budget_says_nothing() -> None:
    """One of the two has the best draw, however they are labelled."""
    got = budget_test([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0], [1, 4], paired=False)
    assert got.probability == (1, 1)
    assert got.p == pytest.approx((2 / 70, 1))
    # Beside it the other budget loses nothing.
    assert got.p_adjusted == pytest.approx((2 / 70, 1))


def test_many_labellings_are_sampled_and_agree_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(-0.8, 1, 8), rng.normal(0, 1, 8)
    a[3] = b[1] = b[2] = INF
    for shared in (False, True):
        budget_pairs._null_of_splits.cache_clear()
        every = budget_test(a, b, [1, 2, 4], shared)
        monkeypatch.setattr(budget_pairs, "EXACT_UP_TO_LABELLINGS", 100)
        budget_pairs._null_of_splits.cache_clear()
        sampled = budget_test(a, b, [1, 2, 4], shared)
        again = budget_test(a, b, [1, 2, 4], shared)
        monkeypatch.undo()
        assert (every.exact, sampled.exact) == (True, False)
        assert sampled == again
        for p, q in ((every.p, sampled.p), (every.p_adjusted, sampled.p_adjusted)):
            error = np.sqrt(np.multiply(p, np.subtract(1, p)) / 9_999)
            assert (np.abs(np.subtract(p, q)) <= 4 * error + 2e-4).all()
        assert every.probability == sampled.probability
    budget_pairs._null_of_splits.cache_clear()
    apart = budget_test(np.arange(30.0), np.arange(30.0) + 100, [1], paired=True)
    assert apart.p == (1 / 10_000,)  # at least the observed one is as far apart


@pytest.mark.parametrize("shared", [False, True])
def test_of_a_few_sampled_labellings_the_observed_one_is_as_likely(
        shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """With 19 sampled ones p is of 20, each ranked among all 20."""
    monkeypatch.setattr(budget_pairs, "EXACT_UP_TO_LABELLINGS", 1)
    monkeypatch.setattr(budget_pairs, "SAMPLED_LABELLINGS", 19)
    for seed in range(20):
        a, b = np.random.default_rng(seed).normal(size=(2, 6))
        budget_pairs._null_of_splits.cache_clear()
        got = budget_test(a, b, [1, 2, 3], shared)
        pooled = np.concatenate([a, b])
        order = np.argsort(pooled)
        if shared:
            rows = np.empty((19, 12), bool)
            rows[:, order] = budget_pairs._swaps(a, b)
        else:
            chosen = np.argsort(np.random.default_rng(0).random((19, 12)), axis=1)[:, :6]
            rows = np.zeros((19, 12), bool)
            for row, places in zip(rows, chosen, strict=True):
                row[order[places]] = True
        null = np.array([distances([*pooled[row]], [*pooled[~row]], [1, 2, 3])
                         for row in [np.arange(12) < 6, *rows]])
        p = np.array([(null >= row).mean(axis=0) for row in null])
        assert got.p == pytest.approx(p[0])
        assert got.p_adjusted == pytest.approx(
            [(p.min(axis=1) <= alone).mean() for alone in p[0]])
    budget_pairs._null_of_splits.cache_clear()


def test_sharing_draws_finds_what_their_settings_hide() -> None:
    """The figures in the module's text: 20 log-normal draws, σ 1 shared and 0.3 not, a gap of ½."""
    rng = np.random.default_rng(5)
    found = dict.fromkeys([True, False], 0.0)
    for _ in range(100):
        setting = rng.normal(size=20)
        a = np.exp(setting + 0.3 * rng.normal(size=20) - 0.5)
        b = np.exp(setting + 0.3 * rng.normal(size=20))
        for shared in found:
            test = budget_test(a, b, [3], shared)
            found[shared] += (budget_verdicts([test])[0] == ("better",)) / 100
    assert 0.78 <= found[True] <= 0.98
    assert found[False] <= 0.17


def adjusted(p: Sequence[float], sign: Sequence[int]) -> BudgetTest:
    """Return a test of these adjusted p; those of each budget alone decide nothing."""
    budgets = (*range(1, len(p) + 1),)
    half, alone = ((value,) * len(p) for value in (0.5, 0.001))
    return BudgetTest(budgets, half, alone, (*p,), (*sign,), paired=False, exact=True)


def test_verdicts_hold_for_all_variants_and_budgets_together() -> None:
    got = budget_verdicts([adjusted([0.024, 0.026, 0.001], [1, 1, -1]),
                           adjusted([0.2, 0.03], [1, 1])])
    # The first at 5% / 2; the second alone at 5%.
    assert got == [("better", "inconclusive", "worse"), ("inconclusive", "better")]
    assert budget_verdicts([adjusted([0.03], [1])] * 2) == [("inconclusive",)] * 2
    assert budget_verdicts([adjusted([0.05, 0.051, 0.01], [1, 1, 0])]) == [
        ("better", "inconclusive", "inconclusive")]
    assert budget_verdicts([]) == []


def test_no_verdict_where_two_numbers_point_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The statistic compares all draws with each other, what is shown those of one setting."""
    rng = np.random.default_rng(0)
    apart = 0
    for _ in range(400):
        a, b = rng.normal(size=(2, 5))
        got = budget_test(a, b, [1], paired=True)
        across, shown = probability_better(a, b, 1, 1) - 0.5, got.probability[0] - 0.5
        assert got.sign == (int(np.sign(shown)) if across * shown > 1e-9 else 0,)
        apart += across * shown < -1e-9
    assert apart > 5


def test_a_budget_of_cost_is_that_of_every_order() -> None:
    scores, costs = [3.0, 1.0, INF, 2.0], [1.0, 5.0, 2.5, 2.0]
    budgets = np.array([0.5, 1.0, 3.0, 3.5, 7.5, 9.0, 10.5])
    got = best_by_cost(scores, costs, budgets)
    for i, budget in enumerate(budgets):
        best, ended = [], []
        for order in itertools.permutations(range(4)):
            spent = np.cumsum([costs[j] for j in order])
            n = int((spent <= budget).sum())
            best.append(min([INF, *(scores[j] for j in order[:n])]))
            ended.append(n)
        ordered = sorted(best)
        assert got.draws[i] == pytest.approx(np.mean(ended))
        assert (got.low[i], got.median[i], got.high[i]) == (ordered[5], ordered[11], ordered[17])
    assert (got.median[-1], got.draws[-1]) == (1, 4)
    assert got.low[0] == INF


def test_of_draws_that_cost_the_same_it_is_the_best_of_n() -> None:
    few = [2.0, 5.0, 1.0, 4.0, 3.0]
    got = best_by_cost(few, [0.1] * 5, np.arange(1, 6) * 0.1)
    assert [*got.median] == [best_quantile(few, n) for n in range(1, 6)]
    assert got.draws == pytest.approx(range(1, 6))
    many = np.random.default_rng(6).lognormal(size=30)
    sampled = best_by_cost(many, [2.0] * 30, np.arange(1, 31) * 2.0)
    for n in (1, 3, 10, 30):
        for values, q in ((sampled.low, 0.25), (sampled.median, 0.5), (sampled.high, 0.75)):
            least, most = (best_quantile(many, n, q + by) for by in (-0.03, 0.03))  # 4 errors
            assert least <= values[n - 1] <= most
    # One more in the unit of cost, and a variant that costs more has fewer draws.
    dearer = best_by_cost(many, [2.6] * 30, [20.0])
    assert dearer.draws == pytest.approx([7])
    assert sampled.draws[9] == pytest.approx(10)
