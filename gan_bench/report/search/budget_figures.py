"""Which figures a report has of the budgets of a search."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from gan_bench.compare.results import Results
from gan_bench.compare.search.budgets import Budgets
from gan_bench.report.figures.budget_choice import selected_against_confirmed
from gan_bench.report.figures.budget_space import scores_against_space
from gan_bench.report.figures.budgets import (
    best_against_budget,
    best_against_seconds,
    chance_against_budget,
)
from gan_bench.report.rendering import ReportFigure, file_name


def budget_figures(experiments: Sequence[Results], tuned: Sequence[Budgets | None],
                   ) -> Iterator[ReportFigure]:
    """Yield the figures of each experiment with a search.

    Args:
        experiments: All of the report.
        tuned: The draws of each; None of one without a search.
    """
    for i, (results, budgets) in enumerate(zip(experiments, tuned, strict=True)):
        if budgets is None:
            continue
        reference = budgets.reference.variant
        for place, about, draw in (
                ("best", f"Best {budgets.label} against the budget, by variant",
                 best_against_budget),
                ("chance", f"How likely the best draw of each variant beats that of {reference}, "
                           f"against the budget", chance_against_budget),
                ("seconds", f"Best {budgets.label} at equal device-hours, by variant",
                 best_against_seconds),
                ("choice", f"{budgets.label} of the chosen draws as selected, and under fresh "
                           f"seeds", selected_against_confirmed),
                ("space", f"{budgets.label} against each drawn setting, by variant",
                 scores_against_space)):
            name = file_name(experiments, results, f"budget-{place}")
            yield ReportFigure(name, about, partial(draw, budgets), tuned=i, place=place)
