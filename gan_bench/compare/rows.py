"""The rows of the final table: which variant did better, and how certain that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gan_bench.compare.ended import RunResult
from gan_bench.compare.stats.comparison import Comparison, Verdict, compare
from gan_bench.compare.stats.overflow import within_range
from gan_bench.compare.stats.summary import (
    UNBOUNDED,
    Scores,
    Summary,
    summarise_scores,
)
from gan_bench.config.declared import Declared
from gan_bench.evaluation.comparability import GENERATOR_KEYS, Protocol, refusal
from gan_bench.evaluation.score_directions import directions, ranges
from gan_bench.journal.schema import Status
from gan_bench.registry import Better


@dataclass(frozen=True)
class Row:
    """One variant under one score.

    Attributes:
        summary: Of the runs that finished or diverged; empty if `refused`.
        comparison: With the baseline; None for the baseline itself, and if `refused`.
        absent: How many runs have no result: failed, killed, not finished, or without this score.
        refused: Why there is no mean and no comparison: the runs of the variant and the baseline
            were not all measured alike. Empty if they were.
    """

    variant: str
    metric: str
    summary: Summary
    comparison: Comparison | None
    absent: int
    refused: str = ""

    @property
    def verdict(self) -> Verdict | None:
        """The verdict; None without a comparison, or if neither direction is better."""
        return self.comparison.verdict if self.comparison else None


def final_scores(runs: Sequence[RunResult], metric: str, variants: Sequence[str] = (),
                 ) -> dict[str, dict[int, float]]:
    """Return each variant's final scores by seed: NaN if the run diverged.

    Runs without a result, or without the score, are left out. A score that is too large to compare
    counts as that of a diverged run.

    Args:
        variants: Names that are in the result even if none of their runs has started.
    """
    scores: dict[str, dict[int, float]] = {
        name: {} for name in [*variants, *(run.variant for run in runs)]}
    for run in runs:
        if run.status == Status.DIVERGED:  # its last score is not a final score
            scores[run.variant][run.seed] = math.nan
        elif run.status == Status.FINISHED and metric in run.scores:
            scores[run.variant][run.seed] = float(within_range(run.scores[metric]))
    return scores


def summarise(runs: Sequence[RunResult], declared: Declared) -> list[Row]:
    """Return a row for every score and variant, in the order of the runs."""
    baseline = declared.baseline
    better, bounds = directions(declared), ranges()
    metrics = list(dict.fromkeys(name for run in runs for name in run.scores))
    rows = []
    for metric in metrics:
        scores = final_scores(runs, metric)
        refused = {}
        for variant in scores:
            measured = [run for run in runs if run.variant in (variant, baseline)
                        and run.seed in scores[run.variant]]
            refused[variant] = _refusal(metric, measured)
        comparable: dict[str, Scores] = {
            variant: by_seed for variant, by_seed in scores.items() if not refused[variant]}
        comparisons: dict[str, Comparison] = {}
        if baseline in comparable:
            comparisons = {pair.variant: pair for pair in compare(
                comparable, better.get(metric), baseline, declared.paired,
                declared.margin_of(metric), declared.sweep_of)}
        for variant, by_seed in scores.items():
            collapsed = sum(bool(run.collapsed) for run in runs
                            if run.variant == variant and run.seed in by_seed)
            summary = summarise_scores(comparable.get(variant, {}), better.get(metric),
                                       bounds.get(metric, UNBOUNDED), collapsed)
            total = sum(run.variant == variant for run in runs)
            rows.append(Row(variant, metric, summary, comparisons.get(variant),
                            total - len(by_seed), refused[variant]))
    return rows


def ranked(rows: Sequence[Row], better: Better) -> list[Row]:
    """Return the rows of a score with the best mean first, and those without a mean last.

    If neither direction is better, the others keep their order. Tables have their rows so.
    """
    sign = {"lower": 1.0, "higher": -1.0}.get(better or "", 0.0)

    def place(row: Row) -> float:
        mean = row.summary.mean.value
        return math.inf if math.isnan(mean) else sign * mean

    return sorted(rows, key=place)


def _refusal(metric: str, runs: list[RunResult]) -> str:
    """Return why the scores of these runs cannot be compared; empty if they can.

    Variants may differ in two declared settings: whether G's raw or averaged weights are measured
    (`ema`), and how the average gets its batch-norm statistics (`ema_statistics`). Runs of one
    variant may differ in nothing.
    """
    protocols = [(run.variant, run.protocols[metric]) for run in runs
                 if run.status == Status.FINISHED and metric in run.protocols]
    first_of: dict[str, Protocol] = {}
    for variant, protocol in protocols:
        first = first_of.setdefault(variant, protocol)
        reason = refusal(protocol, protocols[0][1], but=GENERATOR_KEYS) or refusal(protocol, first)
        if reason:
            return reason
    return ""
