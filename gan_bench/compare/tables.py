"""The table at the end of a run: which variant did better, and how sure that is."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.markup import escape
from rich.table import Table

from gan_bench.compare.stats import Estimate, Verdict, difference, mean_of, verdict
from gan_bench.outcome import Progress
from gan_bench.protocol import refusal
from gan_bench.registry import METRICS


@dataclass(frozen=True)
class Row:
    """One variant under one score.

    Attributes:
        values: The final scores of the seeds that finished, in the order of the seeds.
        gap: The difference from the baseline's mean; None for the baseline itself.
        lost: How many runs have no score: diverged, failed or killed.
        refused: Why there is no mean and no comparison: the runs behind it, the baseline's
            included, were not all measured alike. Empty where they were.
    """

    variant: str
    metric: str
    values: list[float]
    mean: Estimate
    gap: Estimate | None
    verdict: Verdict | None
    lost: int
    refused: str = ""


def directions() -> dict[str, str | None]:
    """Return for every score that a metric may log which way is better: lower, higher or None."""
    return {name: entry.facts["better"] for entry in METRICS
            for name in entry.facts.get("returns", (entry.name,))}


def summarise(runs: list[Progress], baseline: str) -> list[Row]:
    """Return a row for every score and variant, in the order of the runs."""
    better = directions()
    variants = list(dict.fromkeys(run.spec.variant for run in runs))
    metrics = list(dict.fromkeys(name for run in runs for name in run.scores))
    rows = []
    for metric in metrics:
        scored = {v: [run for run in runs if run.spec.variant == v
                      and run.state == "FINISHED" and metric in run.scores] for v in variants}
        values = {v: [run.scores[metric] for run in scored[v]] for v in variants}
        for v in variants:
            total = sum(run.spec.variant == v for run in runs)
            if refused := _clash(metric, [*scored[baseline], *scored[v]]):
                rows.append(Row(v, metric, values[v], mean_of([]), None, None,
                                total - len(values[v]), refused))
                continue
            gap = difference(values[v], values[baseline]) if v != baseline else None
            way = better.get(metric)
            rows.append(Row(
                v, metric, values[v], mean_of(values[v]), gap,
                verdict(gap, way == "lower") if gap is not None and way else None,
                total - len(values[v])))
    return rows


def _clash(metric: str, runs: list[Progress]) -> str:
    """Why these runs' scores cannot be put together; empty if they can.

    Raw or averaged weights may differ: that is the variants' own declared setting `ema`.
    """
    reasons = (refusal(run.protocols[metric], runs[0].protocols[metric], but=("generator",))
               for run in runs)
    return next((reason for reason in reasons if reason), "")


def summary_table(rows: list[Row], baseline: str) -> Table:
    """Return the rows as a table for the terminal, best variant of each score first."""
    better = directions()
    table = Table(box=None, pad_edge=False, title_justify="left")
    against = f"against {escape(baseline)}"
    for heading in ("score", "variant", "mean [95% interval]", "n", against, ""):
        table.add_column(heading, justify="right" if heading == "n" else "left", no_wrap=True)
    for metric in dict.fromkeys(row.metric for row in rows):
        way = better.get(metric)
        sign = -1 if way == "higher" else 1 if way == "lower" else 0
        block = [row for row in rows if row.metric == metric]
        block.sort(key=lambda row: math.inf if math.isnan(row.mean.value)
                   else sign * row.mean.value)
        arrow = {"lower": " ↓", "higher": " ↑"}.get(way or "", "")
        for i, row in enumerate(block):
            table.add_row(
                metric + arrow if i == 0 else "", escape(row.variant), escape(_interval(row.mean)),
                str(len(row.values)) + (f" of {len(row.values) + row.lost}" if row.lost else ""),
                row.refused or ("baseline" if row.gap is None else
                                escape(_interval(row.gap, signed=True))),
                row.verdict or "", end_section=i == len(block) - 1,
                style={"better": "green", "worse": "red"}.get(row.verdict or ""))
    return table


def _interval(estimate: Estimate, signed: bool = False) -> str:
    def show(value: float) -> str:
        return f"{value:+.4g}" if signed else f"{value:.4g}"

    if math.isnan(estimate.value):
        return "–"
    if math.isnan(estimate.low):
        return f"{show(estimate.value)} [one seed: no interval]"
    return f"{show(estimate.value)} [{show(estimate.low)}, {show(estimate.high)}]"
