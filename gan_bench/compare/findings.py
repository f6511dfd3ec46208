"""The numbers of a report: everything about each score of an experiment, in one record."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from gan_bench.compare.ended import RunResult
from gan_bench.compare.frames import PARAM
from gan_bench.compare.results import Results
from gan_bench.compare.rows import Row, final_scores, ranked, summarise
from gan_bench.compare.stats.comparison import Comparison, compare
from gan_bench.compare.stats.noise import Noise, measure_noise
from gan_bench.compare.stats.summary import Estimate, Reason
from gan_bench.compare.training_curves import (
    CurveSummary,
    scores_by_latents,
    summarise_curves,
    training_curves,
)
from gan_bench.errors import UserError
from gan_bench.evaluation.score_directions import directions
from gan_bench.journal.schema import RESULTS, Status
from gan_bench.registry import METRICS, Better, nearest, scores_of


@dataclass(frozen=True)
class Finding:
    """One score of one experiment.

    Attributes:
        results: The experiment's results.
        score: The name of the score.
        better: Which direction is better; None if neither is.
        rows: A row for each variant, the best mean first.
        collapsed: How many runs of each variant collapsed; None if that was not counted.
        curves: A summary of each variant's training curves.
        noise: Seed and sampling noise by variant; empty if latents were drawn once.
        pairs: All pairs of variants that were measured alike. They are Holm's family.
    """

    results: Results
    score: str
    better: Better
    rows: list[Row]
    collapsed: dict[str, int | None]
    curves: dict[str, CurveSummary]
    noise: dict[str, Noise]
    pairs: list[Comparison]

    @property
    def label(self) -> str:
        """What readers see in place of the score's name."""
        return self.results.declared.label(self.score)

    @property
    def comparisons(self) -> list[Comparison]:
        """Each variant against the baseline."""
        return [row.comparison for row in self.rows if row.comparison]


def findings(results: Results, first: str | None = None) -> list[Finding]:
    """Return a finding for each score; the score that decides comes first.

    Args:
        results: The results of one experiment.
        first: The score to put first; None for the order of the experiment's metrics.

    Raises:
        UserError: No run has such a score, or no run has ended in a result.
    """
    results = results.compared()
    ended = results.ended()
    if not any(run.status in RESULTS for run in ended):
        command = results.declared.command.replace("\n", "; ") or "gan-bench run"
        raise UserError(f"{results.experiment} has no finished run yet ({_states(results)}); wait "
                        f"for one, or continue: {command}")
    names = ordered_scores(results)
    if first is not None and first not in names:
        hint = f"; {nearest(first, names)}" if names else ""
        raise UserError(f"no finished run of {results.experiment} has a score {first!r}{hint}")
    names.sort(key=lambda name: name != first)  # stable
    by_score: dict[str, list[Row]] = {name: [] for name in names}
    for row in summarise(ended, results.declared):
        by_score[row.metric].append(row)
    collapsed = _count_collapsed(ended)
    return [_finding(results, ended, name, by_score[name], collapsed) for name in names]


def why_no_score(experiments: Sequence[Results]) -> str:
    """Return why results without a finding have none, as a sentence without its full stop."""
    if any((results.runs["status"] == Status.FINISHED).any() for results in experiments):
        return ("no score was measured: name metrics in evaluate.metrics, or add scores with "
                "gan-bench evaluate RUN --metric A,B --log")
    return "every run diverged: there is no score to compare"


def _finding(results: Results, ended: list[RunResult], score: str, rows: list[Row],
             collapsed: dict[str, int | None]) -> Finding:
    declared = results.declared
    better = directions(declared).get(score)
    refused = {row.variant: row.refused for row in rows if row.refused}
    comparable = {variant: scores for variant, scores in final_scores(ended, score).items()
                  if variant not in refused}
    pairs = compare(comparable, better, None, declared.paired, declared.margin_of(score))
    curves = [curve for curve in training_curves(results, score) if curve.variant in comparable]
    summaries = summarise_curves(curves, better, declared.baseline)
    for variant, reason in refused.items():  # the table beside the comparison is refused too
        missing = Estimate(math.nan, missing=Reason.REFUSED, details=(reason,))
        summaries[variant] = CurveSummary(missing, missing, math.nan)
    noise = {variant: measure_noise(by_seed)
             for variant, by_seed in scores_by_latents(results, score).items()
             if any(len(values) > 1 for values in by_seed.values())}
    return Finding(results, score, better, ranked(rows, better), collapsed, summaries, noise, pairs)


def ordered_scores(results: Results) -> list[str]:
    """Return the scores in the order of the experiment's metrics.

    Scores with a better direction come first: the others describe, and decide nothing.
    """
    listed = [*results.declared.final.scores] if results.declared.final else []
    for text in results.runs.get(PARAM + "evaluate.metrics", pd.Series(dtype=str)).unique():
        for name in _metric_names(text):
            if name in METRICS.names():
                listed += scores_of(METRICS[name])
    scores, better = results.scores, directions(results.declared)
    ordered = [name for name in dict.fromkeys(listed) if name in scores]
    ordered += [name for name in scores if name not in ordered]
    return sorted(ordered, key=lambda name: better.get(name) is None)


def _metric_names(text: str) -> list[str]:
    """Return the names in a JSON list; none if the text is another thing."""
    try:
        names = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(names, list):
        return []
    return [name for name in names if isinstance(name, str)]


def _count_collapsed(ended: Sequence[RunResult]) -> dict[str, int | None]:
    counts: dict[str, int | None] = {}
    for run in ended:
        counts.setdefault(run.variant, None)
        if run.collapsed is not None:
            counts[run.variant] = (counts[run.variant] or 0) + run.collapsed
    return counts


def _states(results: Results) -> str:
    counts = results.runs["status"].value_counts()
    why = next((f": {why}" for why in results.runs["why"] if why), "")
    return ", ".join(f"{n} {state}" for state, n in counts.items()) + why


def with_baseline(results: Results, baseline: str | None, variants: list[str]) -> Results:
    """Return the results of the chosen variants, compared with the chosen baseline.

    Args:
        baseline: The baseline; None for the declared one, or for the first of the variants if the
            declared one is not among them.
        variants: The variants to keep; empty for all.

    Raises:
        UserError: A named variant has no runs.
    """
    if baseline is not None and baseline not in results.variants:
        raise UserError(f"--baseline: {results.experiment} has no runs of a variant {baseline!r}; "
                        f"{nearest(baseline, results.variants)}")
    if baseline is not None and variants and baseline not in variants:
        raise UserError(f"--baseline: {baseline} is not among --variants")
    if variants:
        left_out = [name for name in results.variants if name not in variants]
        results = results.only(variants)
        if left_out:
            note = f"left out by --variants: {', '.join(left_out)}"
            results = replace(results, notes=(*results.notes, note))
    chosen = baseline or results.baseline
    if chosen not in results.variants:
        chosen = results.variants[0]
        note = f"the baseline {results.baseline} is not among --variants: compared with {chosen}"
        results = replace(results, notes=(*results.notes, note))
    declared = results.declared.with_changes(baseline=chosen)
    if chosen != results.declared.baseline:  # the sweeps are around another variant
        declared = declared.with_changes(sweeps={})
    return replace(results, declared=declared)
