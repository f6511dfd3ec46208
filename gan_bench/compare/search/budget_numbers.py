"""What a budget buys: the best of n draws of each variant, and whose best is better.

All numbers are of the score that selects, over the random draws of a search. A draw that diverged
is infinitely bad. Nothing takes draws for seeds: the tests permute the labels of draws.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gan_bench.compare.search.budgets import Budgets, Draw, TunedVariant
from gan_bench.compare.stats.search.budget import (
    best_quantile,
    expected_best,
    median_interval,
    percentile_of_default,
    selected_then_confirmed,
    usual_budgets,
)
from gan_bench.compare.stats.search.budget_pairs import (
    BudgetTest,
    BudgetVerdict,
    budget_test,
    budget_verdicts,
    probability_better,
    probability_better_paired,
)
from gan_bench.compare.stats.summary import Estimate, Values

HOUR = 3600.0
# By variant: its test against the reference, and the verdict at each of the test's budgets.
Tests = dict[str, tuple[BudgetTest, tuple[BudgetVerdict, ...]]]


@dataclass(frozen=True)
class BestOf:
    """The best of n random draws.

    Attributes:
        n: The budget.
        median, good, bad: Its median and quartiles, `good` the better one; infinite if so many
            draws diverged.
        low, high: The exact 95% interval of the median, from below; NaN where so few draws give
            none, and infinite where diverged draws bound it.
        expected: Its mean, infinite if n draws may all diverge.
        confirmed: The mean under fresh seeds of the draw that is selected as the best of n; NaN if
            one that was not confirmed may be selected.
    """

    n: int
    median: float
    good: float
    bad: float
    low: float
    high: float
    expected: float
    confirmed: float

    @property
    def has_interval(self) -> bool:
        """Whether the draws bound the median."""
        return not math.isnan(self.low)


@dataclass(frozen=True)
class Line:
    """The best of n draws of a variant at every budget.

    Attributes:
        variant: Whose.
        bests: At n = 1, 2, …, as many as it has random draws.
        beats: The probability that its best of n is better than the reference's best of n, ties
            counted half, for each n that both have; empty of the reference itself.
    """

    variant: str
    bests: tuple[BestOf, ...]
    beats: tuple[float, ...]


@dataclass(frozen=True)
class TableRow:
    """A variant at a budget of the table.

    Attributes:
        variant: Whose.
        n: The budget in random draws; 0 stands for the file's own setting.
        best: The best of n random draws; None of the file's own setting.
        draw: The draw that is selected at this budget: the file's own setting, or of all random
            draws the best; None where another may be selected each time.
        beats: As of `Line`; NaN where there is no test.
        p: Of no difference from the reference at this budget, for all budgets of the table
            together; NaN where there is no test.
        verdict: better, worse or inconclusive, by Holm over the variants; empty without a test.
        hours: Device-hours that so many draws cost on the average.
    """

    variant: str
    n: int
    best: BestOf | None
    draw: Draw | None
    beats: float
    p: float
    verdict: str
    hours: float


def lines_of(budgets: Budgets) -> list[Line]:
    """Return what every budget buys, for each variant that has a random draw with a score."""
    lines = []
    for tuned in budgets.variants:
        draws = range(1, len(tuned.random) + 1)
        if not draws:
            continue
        beats: tuple[float, ...] = ()
        if tuned.variant != budgets.reference.variant:
            a, b, paired = compared_draws(budgets, tuned)
            chance = probability_better_paired if paired else _apart
            beats = tuple(chance(a, b, n) for n in range(1, min(len(a), len(b)) + 1))
        lines.append(Line(tuned.variant, tuple(_best_of(budgets, tuned, n) for n in draws), beats))
    return lines


def _apart(a: Values, b: Values, n: int) -> float:
    """Return the chance that A's best of n beats B's, where each has draws of its own."""
    return probability_better(a, b, n, n)


def _best_of(budgets: Budgets, tuned: TunedVariant, n: int) -> BestOf:
    """Return what is known of the best of n draws."""
    sign = budgets.sign
    scores = sign * tuned.scores
    interval = median_interval(scores, n) or (math.nan, math.nan)
    low, high = sorted((sign * interval[0], sign * interval[1]))
    means = sign * np.array([confirmed_mean(budgets, draw) for draw in tuned.random])
    median, good, bad = (sign * best_quantile(scores, n, q) for q in (0.5, 0.25, 0.75))
    return BestOf(n, median, good, bad, low, high, sign * expected_best(scores, n),
                  sign * selected_then_confirmed(scores, means, n))


def confirmed_mean(budgets: Budgets, draw: Draw) -> float:
    """Return a draw's mean under the confirm seeds; infinitely bad if one of these runs diverged.

    NaN if it has no confirm run with a result.
    """
    if draw.confirmed is None:
        return math.nan
    return budgets.sign * math.inf if draw.confirmed.diverged else draw.confirmed.mean.value


def compared_draws(budgets: Budgets, tuned: TunedVariant) -> tuple[Values, Values, bool]:
    """Return the scores of a variant and of the reference, to minimise, and whether draws are
    shared: then both are of the same draws, in the same order."""
    reference = budgets.reference
    keys = {each.key for each in tuned.dimensions}
    paired = any(each.key in keys for each in reference.dimensions)
    a = {draw.index: budgets.sign * draw.selected for draw in tuned.random}
    b = {draw.index: budgets.sign * draw.selected for draw in reference.random}
    if paired:
        common = [index for index in a if index in b]
        a, b = ({index: scores[index] for index in common} for scores in (a, b))
    return np.array([*a.values()], float), np.array([*b.values()], float), paired


def table_budgets(budgets: Budgets) -> list[int]:
    """Return the budgets of the table: those of the tests, and as many random draws as all have."""
    most = _fewest_draws(budgets)
    return [*usual_budgets(most), *([most] if most else [])]


def _fewest_draws(budgets: Budgets) -> int:
    """Return how many random draws with a score each variant has at least."""
    return min((len(tuned.random) for tuned in budgets.variants), default=0)


def budget_tests(budgets: Budgets) -> Tests:
    """Return the test of each variant against the reference, and its verdict at each budget.

    The budgets are 1, 5, 10, 20, … up to half of the draws.
    """
    tests: dict[str, BudgetTest] = {}
    for tuned in budgets.variants:
        if tuned.variant == budgets.reference.variant:
            continue
        a, b, paired = compared_draws(budgets, tuned)
        if tested := usual_budgets(min(_fewest_draws(budgets), len(a), len(b))):
            tests[tuned.variant] = budget_test(a, b, tested, paired)
    verdicts = budget_verdicts([*tests.values()])
    return {name: (test, words) for (name, test), words
            in zip(tests.items(), verdicts, strict=True)}


def table_rows(budgets: Budgets, tests: Tests) -> list[TableRow]:
    """Return the table at its budgets, each variant's rows together."""
    rows = []
    for tuned in budgets.variants:
        if tuned.default:
            rows.append(TableRow(tuned.variant, 0, None, tuned.default, math.nan, math.nan, "",
                                 tuned.default.seconds / HOUR))
        mean_cost = float(tuned.costs.mean()) if len(tuned.random) else math.nan
        for n in table_budgets(budgets):
            beats, p, verdict = _tested(tests, tuned.variant, n)
            best = tuned.best_random if n == len(tuned.random) else None
            rows.append(TableRow(tuned.variant, n, _best_of(budgets, tuned, n), best, beats, p,
                                 verdict, n * mean_cost / HOUR))
    return rows


def _tested(tests: Tests, variant: str, n: int) -> tuple[float, float, str]:
    """Return the probability, p and the verdict of a variant at a budget."""
    if variant in tests and n in tests[variant][0].budgets:
        test, verdicts = tests[variant]
        place = test.budgets.index(n)
        return test.probability[place], test.p_adjusted[place], verdicts[place]
    return math.nan, math.nan, ""


def default_percentile(budgets: Budgets, tuned: TunedVariant) -> Estimate | None:
    """Return the share of the space than which the file's own setting is better; None without it.
    """
    if tuned.default is None or not tuned.random:
        return None
    return percentile_of_default(budgets.sign * tuned.default.selected,
                                 budgets.sign * tuned.scores)


def optimism(budgets: Budgets, draw: Draw) -> float:
    """Return by how much a draw was selected as better than its confirmed mean.

    Infinite if it diverged under a confirm seed; NaN if unknown.
    """
    if not math.isfinite(draw.selected):
        return math.nan
    return budgets.sign * (confirmed_mean(budgets, draw) - draw.selected)
