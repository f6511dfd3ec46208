"""The section of a page on budgets: the draws of a search, as tables and sentences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

import jinja2
from markupsafe import Markup, escape

from gan_bench.compare.search.budget_costs import CostOf, cost_rows, images_shown, seconds_spent
from gan_bench.compare.search.budget_numbers import (
    HOUR,
    TableRow,
    Tests,
    budget_tests,
    default_percentile,
    optimism,
    table_rows,
)
from gan_bench.compare.search.budget_space import all_dimensions
from gan_bench.compare.search.budget_words import (
    Said,
    budget_sentences,
    choice_notes,
    draw_name,
    edge_warnings,
    notes_on_tests,
    settings_words,
)
from gan_bench.compare.search.budgets import Budgets, Draw, TunedVariant
from gan_bench.errors import count, joined
from gan_bench.report.alignment import aligned_cells
from gan_bench.report.digits import (
    DASH,
    format_p,
    format_value,
    true_minus,
)
from gan_bench.report.matrix import SIGNS
from gan_bench.report.search.budget_cells import (
    best_text,
    budget_text,
    confirmed_text,
    hours_text,
    interval_text,
    mean_text,
    quartiles_text,
    row_verdict,
    score_decimals,
)

TEMPLATE = "budgets.html"


@dataclass(frozen=True)
class Table:
    """A table of the section.

    Attributes:
        label: What it shows, for readers who cannot see it.
        heads: The headings; the first column holds the names of rows.
        rows: The cells.
        numbers: For each column whether it holds numbers.
        verdicts: Of each row, for the cell under `verdict_at`; empty if there is no such column.
        verdict_at: The column of verdicts.
    """

    label: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Markup, ...], ...]
    numbers: tuple[bool, ...]
    verdicts: tuple[str, ...] = ()
    verdict_at: int = -1


@dataclass(frozen=True)
class BudgetSection:
    """What a page says of the budgets of one experiment.

    Attributes:
        title: What the sentences are about.
        says: Of each variant with its tuning, for the top of the page too.
        html: The section.
    """

    title: str
    says: list[Said]
    html: Markup


def budget_section(budgets: Budgets, reported: Sequence[str], drawings: Sequence[dict[str, str]],
                   several: bool) -> BudgetSection:
    """Return the section.

    Args:
        budgets: The draws.
        reported: The scores that are reported of the confirmed runs.
        drawings: The figures, as the page has them, in the order of `budget_figures`.
        several: Whether the page has other experiments.
    """
    tests = budget_tests(budgets)
    rows = table_rows(budgets, tests)
    says = budget_sentences(budgets, tests)
    templates = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                   undefined=jinja2.StrictUndefined)
    templates.filters |= {"minus": true_minus}
    source = files("gan_bench.report").joinpath(TEMPLATE).read_text(encoding="utf-8")
    html = templates.from_string(source).render(
        experiment=budgets.results.experiment if several else "", label=budgets.label,
        intro=_intro(budgets), warnings=edge_warnings(budgets), says=says, signs=SIGNS,
        choice_notes=choice_notes(budgets, reported),
        table=_budget_table(budgets, rows), table_notes=_table_notes(budgets, rows, tests),
        seconds=_cost_table(budgets, "device-hours", seconds_spent),
        images=_cost_table(budgets, "images", images_shown), chosen=_chosen_table(budgets),
        space=_space_table(budgets), spent=_spent_table(budgets), draws=_draws_table(budgets),
        has_default=budgets.has_default, drawings=drawings)
    of = f" in {budgets.results.experiment}" if several else ""
    return BudgetSection(f"With their tuning{of}, by {budgets.label}", says, Markup(html))


def _intro(budgets: Budgets) -> str:
    """Return what the search did, in a few sentences."""
    search = budgets.search
    own = " (draw 0 is the file's own setting)" if search.defaults else ""
    best = "the best draw" if search.confirm.best == 1 else f"the {search.confirm.best} best draws"
    return (f"Each variant is compared as a method with its tuning: {search.draws} draws of each"
            f"{own}, trained under {count(len(search.select.seeds), 'seed')}; {best} by "
            f"{budgets.label}, trained again under "
            f"{count(len(search.confirm.seeds), 'fresh seed')}. The budget is the number of "
            f"random draws; draws are no seeds.")


def _table(label: str, heads: Sequence[tuple[str, bool]], rows: Sequence[Sequence[str]],
           verdicts: Sequence[str] = (), verdict_at: int = -1) -> Table:
    """Return a table with its numbers aligned.

    Args:
        heads: Each heading, and whether its column holds numbers.
    """
    columns = [[row[i] for row in rows] for i in range(len(heads))]
    cells = [_column(column, is_number)
             for column, (_, is_number) in zip(columns, heads, strict=True)]
    texts, numbers = zip(*heads, strict=True)
    return Table(label, texts, tuple(zip(*cells, strict=True)), numbers, tuple(verdicts),
                 verdict_at)


def _column(texts: Sequence[str], is_number: bool) -> list[Markup]:
    """Return the cells of a column."""
    return aligned_cells(texts) if is_number else [escape(true_minus(text)) for text in texts]


def _budget_table(budgets: Budgets, rows: Sequence[TableRow]) -> Table:
    reference = budgets.reference.variant
    heads = (("Variant", False), ("Budget in draws", True),
             ("Median best [quartiles]", True), ("Its 95% interval", True),
             ("Confirmed, mean [95% interval]", True), (f"P(beats {reference})", True),
             ("p", True), ("Verdict", False), ("Device-hours", True))
    most = {tuned.variant: len(tuned.random) for tuned in budgets.variants}
    decimals = score_decimals(budgets)
    cells = [(row.variant, budget_text(row, most[row.variant]), best_text(row, decimals),
              interval_text(row, decimals), confirmed_text(budgets, row, decimals),
              format_value(row.beats, decimals=2), format_p(row.p),
              row_verdict(row, reference),
              hours_text(row.hours)) for row in rows]
    return _table(f"What a budget buys, by {budgets.label}", heads, cells,
                  [row.verdict for row in rows], 7)


def _table_notes(budgets: Budgets, rows: Sequence[TableRow], tests: Tests) -> list[str]:
    """Return remarks that explain the numbers of the table."""
    notes = []
    if any(row.best and not row.best.has_interval for row in rows):
        notes.append("No interval of the median (–): 95% needs 5.3 draws for each draw of the "
                     "budget; with fewer, better values cannot be excluded.")
    if any(row.best and math.isinf(row.best.bad) for row in rows):
        notes.append("∞: in so many of the choices of n draws all of them diverged.")
    notes.append("Confirmed: of the draw that is selected at this budget, where that is the same "
                 "each time; its interval is over the fresh seeds. Device-hours: what so many "
                 "draws cost on the average, all attempts of each run.")
    return notes + notes_on_tests(budgets, tests)


def _cost_table(budgets: Budgets, unit: str, cost_of: CostOf) -> Table | None:
    reference = budgets.reference.variant
    heads = (("Variant", False), (unit.capitalize(), True), (f"Draws of {reference}", True),
             ("Draws paid for", True), ("Median best [quartiles]", True))
    decimals = score_decimals(budgets)
    rows = [(row.variant, _cost_words(row.cost, cost_of), str(row.n),
             format_value(row.draws, decimals=1),
             quartiles_text(row.median, row.good, row.bad, decimals))
            for row in cost_rows(budgets, cost_of)]
    return _table(f"The same at equal {unit}", heads, rows) if rows else None


def _cost_words(cost: float, cost_of: CostOf) -> str:
    return _images(cost) if cost_of is images_shown else hours_text(cost / HOUR)


def _chosen_table(budgets: Budgets) -> Table | None:
    heads = (("Variant", False), ("Draw", True), ("As selected", True),
             ("Confirmed, mean [95% interval]", True), ("Optimism", True), ("Diverged", True),
             ("Settings", False))
    decimals = score_decimals(budgets)
    rows = [(tuned.variant, draw_name(tuned, draw), format_value(draw.selected, decimals=decimals),
             mean_text(budgets, draw), format_value(optimism(budgets, draw), True, decimals),
             _lost_words(draw),
             settings_words(draw))
            for tuned in budgets.variants for draw in tuned.chosen]
    return _table("The chosen draws", heads, rows) if rows else None


def _lost_words(draw: Draw) -> str:
    return f"{draw.confirmed.diverged} of {draw.confirmed.n}" if draw.confirmed else DASH


def _space_table(budgets: Budgets) -> Table:
    variants = budgets.variants
    rows = []
    for dimension in all_dimensions(variants):
        users = [tuned.variant for tuned in variants
                 if any(each.key == dimension.key for each in tuned.dimensions)]
        names = "all" if len(users) == len(variants) else joined(users)
        rows.append((dimension.key, dimension.words, names))
    return _table("The space", (("Setting", False), ("Distribution", False),
                                ("Drawn for", False)), rows)


def _spent_table(budgets: Budgets) -> Table:
    heads = [("Variant", False), ("Settings drawn", True), ("Draws with a score", True),
             ("Diverged", True), ("Device-hours, selection", True),
             ("Device-hours, confirmation", True), ("Real images, selection", True)]
    if budgets.has_default:
        heads.append(("Of the space, the file's own is better than", True))
    rows = []
    for tuned in budgets.variants:
        scored = sum(draw.is_scored for draw in tuned.draws)
        lost = sum(draw.diverged > 0 for draw in tuned.draws if draw.is_scored)
        row = [tuned.variant, str(len(tuned.dimensions)), f"{scored} of {budgets.search.draws}",
               str(lost), hours_text(tuned.select_seconds / HOUR),
               hours_text(tuned.confirm_seconds / HOUR), _images(tuned.images)]
        if budgets.has_default:
            row.append(_percentile_words(budgets, tuned))
        rows.append(row)
    return _table("What each variant was given", heads, rows)


def _images(number: float) -> str:
    return DASH if math.isnan(number) else f"{number:,.0f}"


def _percentile_words(budgets: Budgets, tuned: TunedVariant) -> str:
    """Return the share of the space that the file's own setting beats, in percent."""
    share = default_percentile(budgets, tuned)
    if share is None:
        return DASH
    return f"{share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"


def _draws_table(budgets: Budgets) -> Table:
    decimals = score_decimals(budgets)
    keys = [dimension.key for dimension in all_dimensions(budgets.variants)]
    heads = (("Variant", False), ("Draw", True), *((key, True) for key in keys),
             ("As selected", True), ("Seconds", True), ("Chosen", True))
    rows = [(tuned.variant, draw_name(tuned, draw),
             *(draw.values.get(key, "") or DASH for key in keys), _score_words(draw, decimals),
             format_value(draw.seconds), str(draw.rank or ""))
            for tuned in budgets.variants for draw in tuned.draws]
    return _table("Every draw", heads, rows)


def _score_words(draw: Draw, decimals: int | None) -> str:
    if not draw.is_scored:
        return f"{DASH} (no result yet)"
    return "diverged" if math.isinf(draw.selected) else (
        format_value(draw.selected, decimals=decimals))
