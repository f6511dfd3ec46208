"""The table at the end of a run: which variant did better, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from gan_bench.compare.ended import Declared, Ended
from gan_bench.compare.stats.comparison import Comparison, Verdict, compare
from gan_bench.compare.stats.summary import ANYTHING, Better, Estimate, Scores, Summary, describe
from gan_bench.evaluation.protocol import refusal
from gan_bench.journal.schema import Status
from gan_bench.registry import METRICS, scores_of

OUT_OF_BOUNDS = "*"


@dataclass(frozen=True)
class Row:
    """One variant under one score.

    Attributes:
        summary: Of the runs that finished or diverged; empty where `refused`.
        comparison: With the baseline; None for the baseline itself, and where `refused`.
        absent: How many runs are no result: failed, killed, not finished, or without this score.
        refused: Why there is no mean and no comparison: the runs behind it, the baseline's
            included, were not all measured alike. Empty where they were.
    """

    variant: str
    metric: str
    summary: Summary
    comparison: Comparison | None
    absent: int
    refused: str = ""

    @property
    def mean(self) -> Estimate:
        """The mean over the runs that have a score."""
        return self.summary.mean

    @property
    def gap(self) -> Estimate | None:
        """The difference from the baseline's mean, where there is a comparison."""
        return self.comparison.difference if self.comparison else None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict, where there is a comparison and a direction is better."""
        return self.comparison.verdict if self.comparison else None


def directions(declared: Declared | None = None) -> dict[str, Better]:
    """Return for every score which way is better: lower, higher or None.

    Args:
        declared: Of an experiment: with its curves' means.
    """
    known: dict[str, Better] = {name: entry.facts.better for entry in METRICS
                                for name in scores_of(entry)}
    means = declared.curve_means if declared else {}
    return {**known, **{name: mean.better for name, mean in means.items()}}


def ranges() -> dict[str, tuple[float, float]]:
    """Return for every score that has bounds the least and the greatest that there can be."""
    return {name: entry.facts.range for entry in METRICS if entry.facts.range is not None
            for name in scores_of(entry)}


def final_scores(runs: Sequence[Ended], metric: str, variants: Sequence[str] = (),
                 ) -> dict[str, dict[int, float]]:
    """Return each variant's final scores by seed: NaN for runs that diverged.

    Runs that are no result, or have not got the score, are not in it.

    Args:
        variants: Names that have a place even if no run of theirs has started.
    """
    scores: dict[str, dict[int, float]] = {
        name: {} for name in [*variants, *(run.variant for run in runs)]}
    for run in runs:
        if run.status == Status.DIVERGED:  # what it last scored is no final score
            scores[run.variant][run.seed] = math.nan
        elif run.status == Status.FINISHED and metric in run.scores:
            scores[run.variant][run.seed] = run.scores[metric]
    return scores


def summarise(runs: Sequence[Ended], declared: Declared) -> list[Row]:
    """Return a row for every score and variant, in the order of the runs."""
    baseline = declared.baseline
    better, bounds = directions(declared), ranges()
    metrics = list(dict.fromkeys(name for run in runs for name in run.scores))
    rows = []
    for metric in metrics:
        scores = final_scores(runs, metric)
        refused = {v: _clash(metric, [run for run in runs if run.variant in (v, baseline)
                                      and run.seed in scores[run.variant]])
                   for v in scores}
        alike: dict[str, Scores] = {v: own for v, own in scores.items() if not refused[v]}
        found = compare(alike, better.get(metric), baseline, declared.paired,
                        declared.margin_of(metric)) if baseline in alike else []
        compared = {one.variant: one for one in found}
        for v, own in scores.items():
            total = sum(run.variant == v for run in runs)
            rows.append(Row(v, metric, describe({} if refused[v] else own, better.get(metric),
                                                bounds.get(metric, ANYTHING)),
                            compared.get(v), total - len(own), refused[v]))
    return rows


def _clash(metric: str, runs: list[Ended]) -> str:
    """Why these runs' scores cannot be put together; empty if they can.

    Raw or averaged weights may differ: that is the variants' own declared setting `ema`.
    """
    known = [run.protocols[metric] for run in runs
             if run.status == Status.FINISHED and metric in run.protocols]
    reasons = (refusal(protocol, known[0], but=("generator",)) for protocol in known)
    return next((reason for reason in reasons if reason), "")


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
