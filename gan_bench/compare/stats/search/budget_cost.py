"""The best within a budget of device-seconds or images, where draws cost unequally much.

As in `budget`: scores are minimised, a diverged draw is +inf, draw 0 is left out. How many draws a
budget pays for depends on which come first, so there is no closed form: the numbers are over random
orders of the draws.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gan_bench.compare.stats.search.budget import valid_draws
from gan_bench.compare.stats.summary import Values

EXACT_UP_TO_ORDERS = 5_040  # 7!
SAMPLED_ORDERS = 5_000
SLACK = 1e-9  # relative: sums of costs in another order


@dataclass(frozen=True)
class CostCurve:
    """The best draw that each budget pays for.

    Attributes:
        low, median, high: (N,) quartiles of the best, as in `best_quantile`; +inf if a budget pays
            for no draw that does not diverge.
        draws: (N,) the expected number of draws that end within the budget.
    """

    low: Values
    median: Values
    high: Values
    draws: Values


def best_by_cost(scores: ArrayLike, costs: ArrayLike, budgets: ArrayLike) -> CostCurve:
    """Return the best draw that ends within a budget, over random orders of the draws.

    Draws are trained one after the other; the one under way when the budget ends does not count. If
    none has ended, the best is +inf. All orders are counted up to 7 draws, else 5,000 from a fixed
    seed: independent draws come in any order with the same chance. Beyond the cost of all draws
    together nothing is known.

    Args:
        scores: (B,) to minimise; +inf for a diverged draw.
        costs: (B,) of each draw in device-seconds or images, above 0; what a diverged draw cost
            until it diverged, and all seeds of a draw together.
        budgets: (N,) in the same unit, 0..the sum of the costs.

    Raises:
        ValueError: A score is NaN or -inf, a cost is not finite and above 0, the lengths differ, or
            a budget is out of its range.
    """
    x, price = valid_draws(scores), np.asarray(costs, dtype=np.float64)
    limits = np.asarray(budgets, dtype=np.float64)
    if x.shape != price.shape or not (np.isfinite(price) & (price > 0)).all():
        raise ValueError("each draw has a cost, finite and above 0")
    total = float(price.sum())
    if not ((limits >= 0) & (limits <= total * (1 + SLACK))).all():
        raise ValueError(f"all draws together cost {total:g}; a budget is from 0 to that")
    orders = _orders(len(x))
    spent = price[orders].cumsum(axis=1)
    best = np.concatenate([np.full((len(orders), 1), np.inf),
                           np.minimum.accumulate(x[orders], axis=1)], axis=1)
    ended = np.stack([(spent <= limit * (1 + SLACK)).sum(axis=1) for limit in limits], axis=1)
    reached = np.sort(np.take_along_axis(best, ended, axis=1), axis=0)
    low, median, high = (reached[math.ceil(q * len(orders)) - 1] for q in (0.25, 0.5, 0.75))
    return CostCurve(low, median, high, ended.mean(axis=0))


def _orders(draws: int) -> np.ndarray[tuple[int, int], np.dtype[np.intp]]:
    """Return orders of the draws, a row each: all, or many of them."""
    if math.factorial(draws) <= EXACT_UP_TO_ORDERS:
        return np.array([*itertools.permutations(range(draws))], dtype=np.intp)
    rng = np.random.default_rng(0)
    return np.argsort(rng.random((SAMPLED_ORDERS, draws)), axis=1)
