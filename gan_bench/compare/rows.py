"""The table at the end of a run: which variant did better, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gan_bench.compare.ended import Ended
from gan_bench.compare.stats.comparison import Comparison, Verdict, compare
from gan_bench.compare.stats.summary import ANYTHING, Estimate, Scores, Summary, describe
from gan_bench.config.declared import Declared
from gan_bench.evaluation.protocol import refusal
from gan_bench.evaluation.scores import directions, ranges
from gan_bench.journal.schema import Status


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


