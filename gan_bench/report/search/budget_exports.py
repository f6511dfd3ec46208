"""The draws of searches, and what budgets buy, as tables for machines and as lines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pandas as pd

from gan_bench.compare.search.budget_numbers import (
    HOUR,
    BestOf,
    Line,
    TableRow,
    budget_tests,
    confirmed_mean,
    lines_of,
    optimism,
    table_rows,
)
from gan_bench.compare.search.budgets import Budgets, Draw, TunedVariant


def budgets_frame(searched: Sequence[Budgets]) -> pd.DataFrame:
    """Return a row for each experiment, variant and budget in random draws.

    Budget 0 is the file's own setting. p and the verdict are given at the budgets of the table,
    which are tested together. Infinite: so many draws diverged. Empty: there is no such number.
    """
    return pd.DataFrame([record for budgets in searched for record in _budget_records(budgets)])


def _budget_records(budgets: Budgets) -> list[dict[str, object]]:
    tests = budget_tests(budgets)
    in_table = {(row.variant, row.n): row for row in table_rows(budgets, tests)}
    lines = {line.variant: line for line in lines_of(budgets)}
    records = []
    for tuned in budgets.variants:
        if tuned.default:
            records.append({**_names(budgets, tuned), "budget": 0,
                            **_of_row(budgets, in_table[tuned.variant, 0])})
        if tuned.variant in lines:
            line = lines[tuned.variant]
            records += [{**_names(budgets, tuned), "budget": best.n,
                         **_of_best(budgets, tuned, line, best),
                         **_of_row(budgets, in_table.get((tuned.variant, best.n)))}
                        for best in line.bests]
    return records


def _names(budgets: Budgets, tuned: TunedVariant) -> dict[str, object]:
    name_of = budgets.results.declared.name_of
    return {"experiment": budgets.results.experiment, "score": budgets.score,
            "better": budgets.better or "", "variant": name_of(tuned.variant),
            "label": tuned.variant, "reference": name_of(budgets.reference.variant)}


def _of_best(budgets: Budgets, tuned: TunedVariant, line: Line, best: BestOf,
             ) -> dict[str, object]:
    beats = line.beats[best.n - 1] if best.n <= len(line.beats) else math.nan
    costs = tuned.costs
    return {"median": best.median, "quartile_better": best.good, "quartile_worse": best.bad,
            "median_low": best.low, "median_high": best.high, "expected": best.expected,
            "confirmed": best.confirmed, "p_beats": beats,
            "device_hours": best.n * float(costs.mean()) / HOUR}


def _of_row(budgets: Budgets, row: TableRow | None) -> dict[str, object]:
    """Return what the table alone has at a budget; empty if it is none of the table's."""
    if row is None:
        return {}
    record: dict[str, object] = {"p_adjusted": row.p, "verdict": row.verdict}
    if row.n == 0 and row.draw:
        record |= {"median": row.draw.selected, "device_hours": row.hours}
    if row.draw:
        record |= _confirmed(budgets, row.draw)
    return record


def _confirmed(budgets: Budgets, draw: Draw) -> dict[str, object]:
    """Return a draw's scores under the confirm seeds; empty if it has none.

    One that diverged under some of them is infinitely bad, and has no interval.
    """
    if draw.confirmed is None:
        return {}
    mean, lost = draw.confirmed.mean, draw.confirmed.diverged
    return {"confirmed": confirmed_mean(budgets, draw),
            "confirmed_low": math.nan if lost else mean.low,
            "confirmed_high": math.nan if lost else mean.high,
            "confirmed_seeds": draw.confirmed.n, "confirmed_diverged": lost}


def draws_frame(searched: Sequence[Budgets]) -> pd.DataFrame:
    """Return a row for each experiment, variant and draw: its settings, scores and cost."""
    return pd.DataFrame([
        {**_names(budgets, tuned), "draw": draw.index,
         "is_default": tuned.has_default and draw.index == 0,
         **{f"drawn.{key}": value for key, value in draw.values.items()},
         "selected": draw.selected, "diverged": draw.diverged, "device_seconds": draw.seconds,
         "images": draw.images,
         "chosen": draw.rank, **_confirmed(budgets, draw), "optimism": optimism(budgets, draw)}
        for budgets in searched for tuned in budgets.variants for draw in tuned.draws])
