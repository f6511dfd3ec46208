"""The best of the draws that an equal cost pays for, in device-seconds or in images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gan_bench.compare.search.budget_numbers import table_budgets
from gan_bench.compare.search.budgets import Budgets, TunedVariant
from gan_bench.compare.stats.search.budget_cost import SLACK, best_by_cost
from gan_bench.compare.stats.summary import Values

CostOf = Callable[[TunedVariant], Values]  # of each random draw of a variant, (B,)


@dataclass(frozen=True)
class CostRow:
    """A variant at a budget in device-seconds or images.

    Attributes:
        variant: Whose.
        cost: The budget: what `n` draws of the reference cost on the average.
        n: So many draws of the reference.
        draws: How many draws of the variant that pays on the average.
        median, good, bad: Of the best of them, as of `BestOf`.
    """

    variant: str
    cost: float
    n: int
    draws: float
    median: float
    good: float
    bad: float


def seconds_spent(tuned: TunedVariant) -> Values:
    """Return what each random draw cost, in device-seconds."""
    return tuned.costs


def images_shown(tuned: TunedVariant) -> Values:
    """Return how many real images D was shown in each random draw; NaN if unknown."""
    return np.array([draw.images for draw in tuned.random], float)


def by_cost(budgets: Budgets, tuned: TunedVariant, cost_of: CostOf, paid: Values,
            ) -> tuple[Values, Values, Values, Values]:
    """Return the median and the quartiles (better, worse) of the best that a budget pays for, and
    how many draws it pays for.

    All are NaN beyond what a variant's draws cost together, and where a cost is unknown.

    Args:
        cost_of: The unit.
        paid: (N,) budgets in it.
    """
    costs = cost_of(tuned)
    results = np.full((4, len(paid)), math.nan)
    if len(costs) and (np.isfinite(costs) & (costs > 0)).all():
        known = paid <= costs.sum() * (1 + SLACK)
        if known.any():
            curve = best_by_cost(budgets.sign * tuned.scores, costs, paid[known])
            results[:, known] = [budgets.sign * curve.median, budgets.sign * curve.low,
                                 budgets.sign * curve.high, curve.draws]
    median, good, bad, draws = results
    return median, good, bad, draws


def cost_rows(budgets: Budgets, cost_of: CostOf) -> list[CostRow]:
    """Return the table at equal cost: what each budget costs the reference."""
    costs, numbers = cost_of(budgets.reference), table_budgets(budgets)
    if not numbers or not len(costs):
        return []
    paid = float(costs.mean()) * np.array(numbers)
    rows = []
    for tuned in budgets.variants:
        columns = zip(numbers, paid, *by_cost(budgets, tuned, cost_of, paid), strict=True)
        rows += [CostRow(tuned.variant, float(cost), n, float(draws), float(median), float(good),
                         float(bad))
                 for n, cost, median, good, bad, draws in columns]
    return rows
