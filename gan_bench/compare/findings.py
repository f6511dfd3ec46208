"""What a report says in numbers: everything about each score of an experiment, in one record."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from gan_bench.compare.courses import Course, courses, curves, repeated
from gan_bench.compare.ended import Ended
from gan_bench.compare.results import PARAM, Results
from gan_bench.compare.rows import Row, final_scores, summarise
from gan_bench.compare.stats.comparison import Comparison, compare
from gan_bench.compare.stats.noise import Noise, noise
from gan_bench.compare.stats.summary import Estimate, Reason
from gan_bench.errors import UserError
from gan_bench.evaluation.scores import directions
from gan_bench.journal.schema import RESULTS
from gan_bench.registry import METRICS, Better, nearest, scores_of


@dataclass(frozen=True)
class Finding:
    """One score of one experiment.

    Attributes:
        results: Of which experiment.
        score: Its name.
        better: Which way is better; None where neither is.
        rows: A row for each variant.
        collapsed: How many runs of each variant collapsed; None where it was not counted.
        courses: How each variant came there.
        noise: Seed and sampling noise by variant; empty where latents were drawn once.
        pairs: Every variant with every other that was measured alike; Holm's family are all these.
    """

    results: Results
    score: str
    better: Better
    rows: list[Row]
    collapsed: dict[str, int | None]
    courses: dict[str, Course]
    noise: dict[str, Noise]
    pairs: list[Comparison]

    @property
    def comparisons(self) -> list[Comparison]:
        """Each variant against the baseline."""
        return [row.comparison for row in self.rows if row.comparison]


def findings(results: Results, first: str | None = None) -> list[Finding]:
    """Return what there is to say of each score, the one that decides first.

    Args:
        results: Of one experiment.
        first: The score to put first; None: as the experiment lists its metrics.

    Raises:
        UserError: No run has such a score, or none has ended in a result.
    """
    ended = results.ended()
    if not any(run.status in RESULTS for run in ended):
        raise UserError(f"{results.experiment} has no finished run yet ({_states(results)}); wait "
                        f"for one, or go on: gan-bench run")
    names = in_order(results)
    if first is not None and first not in names:
        raise UserError(f"no finished run of {results.experiment} has a score {first!r}" + (
            f"; {nearest(first, names)}" if names else ""))
    names.sort(key=lambda name: name != first)  # stable
    by_score: dict[str, list[Row]] = {name: [] for name in names}
    for row in summarise(ended, results.declared):
        by_score[row.metric].append(row)
    collapsed = _collapsed(ended)
    return [_finding(results, ended, name, by_score[name], collapsed) for name in names]


def _finding(results: Results, ended: list[Ended], score: str, rows: list[Row],
             collapsed: dict[str, int | None]) -> Finding:
    declared = results.declared
    better = directions(declared).get(score)
    alike = {variant: own for variant, own in final_scores(ended, score).items()
             if not next(row.refused for row in rows if row.variant == variant)}
    pairs = compare(alike, better, None, declared.paired, declared.margin_of(score))
    sets = repeated(results, score)
    ways = courses([one for one in curves(results, score) if one.variant in alike], better,
                   declared.baseline)
    # What cannot be compared has no place beside the comparison either.
    ways |= {row.variant: Course(nothing, nothing, math.nan) for row in rows if row.refused
             for nothing in [Estimate(math.nan, missing=Reason.REFUSED, details=(row.refused,))]}
    return Finding(results, score, better, rows, collapsed,
                   ways, {variant: noise(own) for variant, own in sets.items()
                          if any(len(values) > 1 for values in own.values())}, pairs)


def in_order(results: Results) -> list[str]:
    """Return the scores in the order of the experiment's metrics; a direction goes first.

    A score that no direction is better of describes, and decides nothing.
    """
    wanted: list[str] = []
    for text in results.runs.get(PARAM + "evaluate.metrics", pd.Series(dtype=str)).unique():
        for name in _names(text):
            if name in METRICS.names():
                wanted += scores_of(METRICS[name])
    known, better = results.scores, directions(results.declared)
    ordered = [name for name in dict.fromkeys(wanted) if name in known]
    ordered += [name for name in known if name not in ordered]
    return sorted(ordered, key=lambda name: better.get(name) is None)


def _names(text: str) -> list[str]:
    try:
        found = json.loads(text)
    except ValueError:
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _collapsed(ended: Sequence[Ended]) -> dict[str, int | None]:
    counts: dict[str, int | None] = {}
    for run in ended:
        counts.setdefault(run.variant, None)
        if run.collapsed is not None:
            counts[run.variant] = (counts[run.variant] or 0) + run.collapsed
    return counts


def _states(results: Results) -> str:
    counts = results.runs["status"].value_counts()
    why = next((why for why in results.runs["why"] if why), "")
    return ", ".join(f"{n} {state}" for state, n in counts.items()) + (f": {why}" if why else "")


def with_baseline(results: Results, baseline: str | None, variants: list[str]) -> Results:
    """Return the results of some variants alone, compared with a baseline of one's own.

    Args:
        baseline: None: the declared one; where it is not among the variants, the first of these.
        variants: Empty: all.

    Raises:
        UserError: There are no runs of a variant that is named.
    """
    if baseline is not None and baseline not in results.variants:
        raise UserError(f"--baseline: {results.experiment} has no runs of a variant {baseline!r}; "
                        f"{nearest(baseline, results.variants)}")
    if baseline is not None and variants and baseline not in variants:
        raise UserError(f"--baseline: {baseline} is not among --variants")
    if variants:
        left = [name for name in results.variants if name not in variants]
        results = results.only(variants)
        results = replace(results, notes=(*results.notes, *(
            [f"left out by --variants: {', '.join(left)}"] if left else [])))
    chosen = baseline or results.baseline
    if chosen not in results.variants:
        chosen = results.variants[0]
        results = replace(results, notes=(*results.notes, f"the baseline {results.baseline} is not "
                                          f"among --variants: compared with {chosen}"))
    return replace(results, declared=results.declared.with_changes(baseline=chosen))
