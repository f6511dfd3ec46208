"""The table of budgets that a study with a search ends with, in the terminal."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions
from rich.text import Text

from gan_bench.compare.search.budget_numbers import budget_tests, table_rows
from gan_bench.compare.search.budget_words import budget_sentences, choice_notes, edge_warnings
from gan_bench.compare.search.budgets import Budgets
from gan_bench.report.digits import MINUS, format_p, format_value, true_minus
from gan_bench.report.search.budget_cells import (
    best_text,
    budget_text,
    confirmed_text,
    hours_text,
    interval_text,
    row_verdict,
    score_decimals,
)
from gan_bench.text_table import TableColumn, grouped_lines, wrap_line


@dataclass(frozen=True)
class BudgetTable:
    """What budgets buy, as wide as the terminal that it is printed on, and what the tests say."""

    budgets: Budgets

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        """Yield the lines that fit."""
        width = options.max_width
        head, *rows = budget_lines(self.budgets, width)
        lines = [Text(title_of(self.budgets), "table.header"), Text(head, "table.header"),
                 *map(Text, rows)]
        for note in said_of(self.budgets):
            lines += [Text(line, "table.caption", overflow="fold")
                      for line in wrap_line(note, width)]
        for text in lines:
            plain = text.plain.replace(MINUS, "-").replace("≤", "<=").replace("≥", ">=")
            yield Text(plain, text.style) if options.ascii_only else text


def title_of(budgets: Budgets) -> str:
    """Return what the table is of."""
    arrow = "↑" if budgets.better == "higher" else "↓"
    return f"With their tuning, by {budgets.label} {arrow}"


def said_of(budgets: Budgets) -> list[str]:
    """Return what the tests say, and what to know of the space and of the choice, a line each."""
    sentences = [text for _, text in budget_sentences(budgets, budget_tests(budgets))]
    lines = [*sentences, *edge_warnings(budgets), *choice_notes(budgets, [budgets.score])]
    return [true_minus(line) for line in lines]


def budget_lines(budgets: Budgets, width: int | None) -> list[str]:
    """Return the table as lines, the headings first, with the columns that there is room for.

    In a terminal that is too narrow for them, medians stand without their quartiles.
    """
    lines = _lines(budgets, width, has_quartiles=True)
    is_narrow = width is not None and max(map(len, lines)) > width
    return _lines(budgets, width, has_quartiles=False) if is_narrow else lines


def _lines(budgets: Budgets, width: int | None, *, has_quartiles: bool) -> list[str]:
    """Return the table, with or without quartiles."""
    reference = budgets.reference.variant
    columns = [TableColumn("variant"), TableColumn("draws"),
               TableColumn("median [quartiles]" if has_quartiles else "median"),
               TableColumn("95% interval", 3), TableColumn("confirmed [interval]", 1),
               TableColumn(f"P(beats {reference})", 4, right=True),
               TableColumn("p", 2, right=True), TableColumn(""),
               TableColumn("device-hours", 5, right=True)]
    decimals = score_decimals(budgets)
    most = {tuned.variant: len(tuned.random) for tuned in budgets.variants}
    rows = []
    for row in table_rows(budgets, budget_tests(budgets)):
        best = best_text(row, decimals)
        rows.append([row.variant, budget_text(row, most[row.variant]),
                     best if has_quartiles else best.partition(" ")[0],
                     interval_text(row, decimals),
                     confirmed_text(budgets, row, decimals),
                     format_value(row.beats, decimals=2), format_p(row.p),
                     row_verdict(row, reference),
                     hours_text(row.hours)])
    return grouped_lines(columns, rows, 0, width)
