"""The final table of an experiment, in the terminal."""

from __future__ import annotations

import math

from rich.markup import escape
from rich.table import Table

from gan_bench.compare.rows import Row
from gan_bench.compare.stats.comparison import Comparison
from gan_bench.compare.stats.doubt import SEEN_FROM, unseen_share
from gan_bench.compare.stats.summary import Estimate
from gan_bench.compare.stats.words import left_out_words, tests_of
from gan_bench.errors import joined
from gan_bench.evaluation.score_directions import directions

OUT_OF_BOUNDS, UNTRUSTED = "*", "†"


def summary_table(rows: list[Row], baseline: str) -> Table:
    """Return the rows as a table for the terminal, best variant of each score first."""
    better = directions()
    table = Table(box=None, pad_edge=False, title_justify="left", caption_justify="left",
                  caption="\n".join(map(escape, table_notes(rows, baseline))))
    against = f"against {escape(baseline)}"
    for heading in ("score", "variant", "mean [95% interval]", "n", against, "p", ""):
        # On a narrow terminal lines are broken: a number cut short would be another number.
        table.add_column(heading, justify="right" if heading in ("n", "p") else "left",
                         no_wrap=heading in ("n", "p", ""), overflow="fold")
    for metric in dict.fromkeys(row.metric for row in rows):
        direction = better.get(metric) or ""
        sign = {"lower": 1, "higher": -1}.get(direction, 0)
        arrow = {"lower": " ↓", "higher": " ↑"}.get(direction, "")
        block = [row for row in rows if row.metric == metric]
        block.sort(key=lambda row: math.inf if math.isnan(row.summary.mean.value)
                   else sign * row.summary.mean.value)
        for i, row in enumerate(block):
            n, total = row.summary.n - row.summary.diverged, row.summary.n + row.absent
            table.add_row(
                metric + arrow if i == 0 else "", escape(row.variant),
                escape(_interval(row.summary.mean)),
                f"{n} of {total}" if n < total else str(n), *_comparison_cells(row, baseline),
                row.verdict or "", end_section=i == len(block) - 1,
                style={"better": "green", "worse": "red"}.get(row.verdict or ""))
    return table


def _comparison_cells(row: Row, baseline: str) -> tuple[str, str]:
    """Return the difference from the baseline, or the reason why there is none, and p."""
    pair = row.comparison
    if pair is None:
        return row.refused or ("baseline" if row.variant == baseline else ""), ""
    p = "" if math.isnan(pair.p_adjusted) else f"{pair.p_adjusted:.2g}"
    return escape(_interval(pair.difference, signed=True)), p


def table_notes(rows: list[Row], baseline: str) -> list[str]:
    """Return remarks that explain the numbers of the table, a line each."""
    lines = []
    comparisons = [row.comparison for row in rows if row.comparison]
    tested = [pair for pair in comparisons if pair.permutation and not math.isnan(pair.p)]
    if tested:
        smallest = max(pair.permutation.smallest for pair in tested if pair.permutation)
        holm = _family_words(tested)
        n = min(min(pair.n, pair.n_against) for pair in tested)
        unseen = f", and a failure of up to {unseen_share(n):.0%} of the runs may be unseen"
        lines.append(f"p: of no difference from {baseline}, by {tests_of(tested)}{holm}; with so "
                     f"few runs an exact test reaches no p below {smallest:.2g}"
                     f"{unseen if n < SEEN_FROM else ''}")
        if any(pair.verdict == "equivalent" for pair in tested):
            lines.append("p of an equivalent variant: of a difference beyond the margin, the "
                         "larger of two one-sided tests")
    for variant in dict.fromkeys(row.variant for row in rows):
        variant_rows = [row for row in rows if row.variant == variant]
        lost, n = max((row.summary.diverged, row.summary.n) for row in variant_rows)
        if lost:
            lines.append(f"{variant}: {lost} of {n} runs diverged; means are over the others, and "
                         f"tests of ranks have diverged runs last")
        if absent := max(row.absent for row in variant_rows):
            runs = "1 run has" if absent == 1 else f"{absent} runs have"
            lines.append(f"{variant}: {runs} no result (yet): not finished, or failed, or without "
                         f"a score")
    lines += [line for line in dict.fromkeys(map(left_out_words, comparisons)) if line]
    shown = [row.summary.mean for row in rows] + [pair.difference for pair in comparisons]
    if any(estimate.is_marked for estimate in shown):
        lines.append(f"{UNTRUSTED} The scores are skewed, or some runs collapsed: such an interval "
                     f"may miss in more than 5% of studies")
    if any(OUT_OF_BOUNDS in _interval(row.summary.mean) for row in rows):
        lines.append(f"{OUT_OF_BOUNDS} The interval reaches beyond the bounds of the score: near a "
                     f"bound a t-interval is rough")
    return lines


def _family_words(tested: list[Comparison]) -> str:
    """Return over how many comparisons Holm's correction is, within each sweep of a grid."""
    families = {pair.sweep: pair.family for pair in tested}
    if max(families.values()) < 2:
        return ""
    others = families.pop("", 0)
    sizes = [f"{size} of the sweep of {sweep}" for sweep, size in families.items()]
    if others:
        sizes.append(f"{others} others" if families else f"{others} comparisons")
    return f", by Holm over {joined(sizes)} a score"


def marks(estimate: Estimate) -> str:
    """Return the marks behind an interval, which `table_notes` explains."""
    return (OUT_OF_BOUNDS * estimate.out_of_bounds) + (UNTRUSTED * estimate.is_marked)


def _interval(estimate: Estimate, signed: bool = False) -> str:
    def text(value: float) -> str:
        return f"{value:+.4g}" if signed else f"{value:.4g}"

    if math.isnan(estimate.value):
        return "–"
    if math.isnan(estimate.low):
        return f"{text(estimate.value)} [{estimate.why_missing}]"
    mark = marks(estimate)
    return f"{text(estimate.value)} [{text(estimate.low)}, {text(estimate.high)}]{mark}"
