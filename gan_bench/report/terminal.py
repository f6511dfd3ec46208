"""The table that a study ends with, in the terminal."""

from __future__ import annotations

import math

from rich.markup import escape
from rich.table import Table

from gan_bench.compare.rows import Row
from gan_bench.compare.stats.summary import Estimate
from gan_bench.evaluation.scores import directions

OUT_OF_BOUNDS = "*"


def summary_table(rows: list[Row], baseline: str) -> Table:
    """Return the rows as a table for the terminal, best variant of each score first."""
    better = directions()
    table = Table(box=None, pad_edge=False, title_justify="left", caption_justify="left",
                  caption="\n".join(map(escape, notes(rows, baseline))))
    against = f"against {escape(baseline)}"
    for heading in ("score", "variant", "mean [95% interval]", "n", against, "p", ""):
        # On a narrow terminal lines are broken: a number cut short would be another number.
        table.add_column(heading, justify="right" if heading in ("n", "p") else "left",
                         no_wrap=heading in ("n", "p", ""), overflow="fold")
    for metric in dict.fromkeys(row.metric for row in rows):
        way = better.get(metric)
        sign = -1 if way == "higher" else 1 if way == "lower" else 0
        block = [row for row in rows if row.metric == metric]
        block.sort(key=lambda row: math.inf if math.isnan(row.mean.value)
                   else sign * row.mean.value)
        arrow = {"lower": " ↓", "higher": " ↑"}.get(way or "", "")
        for i, row in enumerate(block):
            one, n = row.comparison, row.summary.n - row.summary.diverged
            total = row.summary.n + row.absent
            table.add_row(
                metric + arrow if i == 0 else "", escape(row.variant), escape(_interval(row.mean)),
                f"{n} of {total}" if n < total else str(n),
                row.refused or (escape(_interval(one.difference, signed=True)) if one else
                                "baseline" if row.variant == baseline else ""),
                "" if one is None or math.isnan(one.p_adjusted) else f"{one.p_adjusted:.2g}",
                row.verdict or "", end_section=i == len(block) - 1,
                style={"better": "green", "worse": "red"}.get(row.verdict or ""))
    return table


def notes(rows: list[Row], baseline: str) -> list[str]:
    """Return what the table's numbers cannot say for themselves, in lines."""
    lines = []
    found = [row.comparison for row in rows if row.comparison]
    tested = [one for one in found if one.permutation and not math.isnan(one.p)]
    if tested:
        family = max(one.family for one in tested)
        reach = max(one.permutation.smallest for one in tested if one.permutation)
        lines.append(
            f"p: of no difference from {baseline}, by a "
            f"{'paired' if tested[0].paired else 'Welch'} t-test"
            + (f", by Holm over {family} comparisons a score" if family > 1 else "")
            + f"; with so few runs an exact test reaches no p below {reach:.2g}")
        if any(one.verdict == "equivalent" for one in tested):
            lines.append("p of what is called equivalent: of a difference beyond the margin, the "
                         "larger of two one-sided tests")
    for variant in dict.fromkeys(row.variant for row in rows):
        own = [row for row in rows if row.variant == variant]
        lost, n = max((row.summary.diverged, row.summary.n) for row in own)
        if lost:
            lines.append(f"{variant}: {lost} of {n} runs diverged; means are over the others, and "
                         f"verdicts by an exact test of ranks, these last")
        if absent := max(row.absent for row in own):
            what = "1 run is" if absent == 1 else f"{absent} runs are"
            lines.append(f"{variant}: {what} no result (yet): not finished, or failed, or without "
                         f"a score")
    if any(OUT_OF_BOUNDS in _interval(row.mean) for row in rows):
        lines.append(f"{OUT_OF_BOUNDS} The interval reaches beyond what the score can be: so near "
                     f"a bound a t-interval is rough")
    return lines


def _interval(estimate: Estimate, signed: bool = False) -> str:
    def show(value: float) -> str:
        return f"{value:+.4g}" if signed else f"{value:.4g}"

    if math.isnan(estimate.value):
        return "–"
    if math.isnan(estimate.low):
        return f"{show(estimate.value)} [{estimate.why_missing}]"
    mark = OUT_OF_BOUNDS if estimate.out_of_bounds else ""
    return f"{show(estimate.value)} [{show(estimate.low)}, {show(estimate.high)}]{mark}"
