"""What MLflow's study run shows of the budgets of a search: a table, verdicts, and sentences."""

from __future__ import annotations

from gan_bench.compare.labels import labelled
from gan_bench.compare.search.budget_numbers import (
    TableRow,
    Tests,
    budget_tests,
    confirmed_mean,
    table_rows,
)
from gan_bench.compare.search.budget_words import budget_sentences
from gan_bench.compare.search.budgets import Budgets, budgets_of
from gan_bench.tracking.pages.study_run import Cell, Table

COLUMNS = ("score", "better", "variant", "draws", "median best", "quartile better",
           "quartile worse", "low", "high", "confirmed", "confirmed low", "confirmed high",
           "P(beats reference)", "p", "verdict")


def budget_table(budgets: Budgets, tests: Tests) -> Table:
    """Return the table at its budgets in random draws; 0 is the file's own setting.

    It holds no times, which the runs' journals and MLflow may round in different ways.
    """
    return COLUMNS, tuple(_cells(budgets, row) for row in table_rows(budgets, tests))


def _cells(budgets: Budgets, row: TableRow) -> tuple[Cell, ...]:
    best, draw = row.best, row.draw
    bests: tuple[Cell, ...] = (draw.selected if draw else None, None, None, None, None)
    if best:
        bests = best.median, best.good, best.bad, best.low, best.high
    confirmed: tuple[Cell, ...] = (best.confirmed if best else None, None, None)
    if draw and draw.confirmed:
        mean, lost = draw.confirmed.mean, draw.confirmed.diverged
        confirmed = (confirmed_mean(budgets, draw), None if lost else mean.low,
                     None if lost else mean.high)
    is_reference = row.variant == budgets.reference.variant
    return (budgets.score, budgets.better or "", row.variant, row.n, *bests, *confirmed,
            row.beats, row.p, "reference" if is_reference else row.verdict)


def has_scores(budgets: Budgets | None) -> bool:
    """Whether any draw has a score."""
    return budgets is not None and any(draw.is_scored for tuned in budgets.variants
                                       for draw in tuned.draws)


def said_of_budgets(budgets: Budgets) -> list[str]:
    """Return what the tests say, of variants under their labels, a sentence each."""
    shown = budgets_of(labelled(budgets.results))
    assert shown is not None, "an experiment under its labels has the same search"
    return [text for _, text in budget_sentences(shown, budget_tests(shown))]


def budget_verdict_tags(budgets: Budgets, tests: Tests) -> dict[str, str]:
    """Return the verdict of each variant with its tuning: `<score>.<variant>.budget_<n>` → better.
    """
    return {f"{budgets.score}.{row.variant}.budget_{row.n}": row.verdict
            for row in table_rows(budgets, tests) if row.verdict}
