"""What `gan-bench power` does for an experiment with a search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from gan_bench.compare.search.confirming import with_confirm_runs
from gan_bench.compare.search.draws_needed import (
    DrawNeed,
    DrawSpread,
    draws_needed,
    score_to_plan,
    scores_of_draws,
    spread_of_draws,
)
from gan_bench.compare.seeds import strictest
from gan_bench.compare.stats.doubt import ALPHA
from gan_bench.compare.stats.power import MAX_SEEDS, POWER
from gan_bench.config.declared import Amount, Declared
from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import count
from gan_bench.evaluation.score_directions import directions
from gan_bench.journal.status import progress_of
from gan_bench.launcher.reporters import format_number
from gan_bench.text_table import GAP, TableColumn, fit_cells, fit_columns

COLUMNS = (TableColumn("variant", least=12), TableColumn("compared"), TableColumn("difference", 2),
           TableColumn("sd", 1), TableColumn("needs"))
NOTE = 24  # columns that notes take at least


def draws_table(spec: ExperimentSpec, root: Path, difference: Amount, score: str | None,
                command: str, width: int | None = None) -> Table:
    """Return the table of an experiment with a search, from the journals under `root`.

    Args:
        spec: The experiment.
        root: Where its runs are.
        difference: The difference to detect.
        score: The score; None for the one that selects.
        command: The command that trains the experiment.
        width: Of the terminal; None: no column is left out.

    Raises:
        UserError: See `score_to_plan`.
    """
    declared = spec.declared.with_changes(command=command)
    runs = [progress_of(run, root) for run in with_confirm_runs(spec, root).runs]
    name = score_to_plan(runs, declared, score)
    scores = scores_of_draws(runs, declared, name)
    rows = draws_needed(scores, declared, difference, directions(declared)[name] or "lower")
    spreads = [spread_of_draws(variant, scores[variant]) for variant in declared.variants]
    return needed_draws_table(rows, spreads, declared, name, difference, width)


def needed_draws_table(rows: Sequence[DrawNeed], spreads: Sequence[DrawSpread],
                       declared: Declared, score: str, difference: Amount,
                       width: int | None = None) -> Table:
    """Return the rows as a table for the terminal, with the columns that there is room for."""
    many, confirmed = len(declared.variants) - 1, round(ALPHA / strictest(declared))
    share = f"5% over {count(many, 'comparison')} and all budgets" if many > 1 else \
        "5% over all budgets"
    if confirmed != many:
        share += f" (confirmed: over {count(confirmed, 'comparison')})"
    table = Table(
        box=None, pad_edge=False, title_justify="left", caption_justify="left",
        title=escape(f"Draws and seeds of each variant that find a difference of {difference} in "
                     f"{score} from {declared.baseline} with {POWER:.0%} power, two-sided at "
                     f"{share}"),
        caption=escape("\n".join([
            "sd: of what one draw adds to the best of n; of a confirm seed",
            *(_spread_line(spread) for spread in spreads)])))
    cells = [[need.variant, _compared(need), format_number(need.difference),
              format_number(need.sd), _needed(need)] for need in rows]
    fill_with_notes(table, COLUMNS, [(row, need.note)
                                     for row, need in zip(cells, rows, strict=True)], width, NOTE)
    return table


def fill_with_notes(table: Table, columns: Sequence[TableColumn],
                    rows: Sequence[tuple[Sequence[str], str]], width: int | None,
                    note_width: int) -> None:
    """Add the columns that fit, the rows, and a last column of notes.

    Args:
        table: Without columns.
        columns: Those of the cells.
        rows: The cells and the note of each.
        width: Of the terminal; None: it has no end.
        note_width: What notes take at least, if there are any.
    """
    cells = [[*row] for row, _ in rows]
    has_notes = any(note for _, note in rows)
    kept = fit_columns(columns, cells,
                       width - note_width - GAP if width is not None and has_notes else width)
    for i, size in kept:
        table.add_column(columns[i].heading, no_wrap=True, min_width=size)
    table.add_column("")
    for (_, note), fitting in zip(rows, fit_cells(columns, cells, kept), strict=True):
        table.add_row(*map(escape, fitting), escape(note))


def _spread_line(spread: DrawSpread) -> str:
    """Return where a variant's scatter comes from, and how many seeds a draw should have."""
    if math.isnan(spread.draws):
        return (f"{spread.variant}: settings and seeds cannot be told apart before two draws, and "
                f"two runs of one, have a score")
    line = (f"{spread.variant}: settings scatter by {format_number(spread.draws)}, training seeds "
            f"of one by {format_number(spread.seeds)}")
    if spread.draws == 0 or spread.select_seeds is None:
        return f"{line}: seeds explain all of it"
    return f"{line}: most is gained with {count(spread.select_seeds, 'select seed')} a draw"


def _compared(need: DrawNeed) -> str:
    return "confirmed" if need.budget is None else f"best of {need.budget}"


def _needed(need: DrawNeed) -> str:
    """Return how many are needed; empty if it is unknown."""
    units = "seed" if need.budget is None else "draw"
    if need.needed is not None:
        return count(need.needed, units)
    return "" if need.note else f"over {MAX_SEEDS:,} {units}s"
