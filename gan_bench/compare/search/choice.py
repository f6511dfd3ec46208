"""Which draws of a search are confirmed: one rule, for the launcher and for reports.

The choice is derived from the scores of the first stage each time, and stored nowhere: so it is the
same after an interruption, and for every worker.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from gan_bench.config.declared import Declared
from gan_bench.config.search.search import CONFIRM, SELECT, SearchSpec
from gan_bench.evaluation.score_directions import directions
from gan_bench.journal.schema import Status
from gan_bench.registry import Better


class SelectRun(NamedTuple):
    """A run of the first stage.

    Attributes:
        variant, draw, seed: The run's.
        score: The score that selects; NaN if the run diverged, None while there is no result.
    """

    variant: str
    draw: int
    seed: int
    score: float | None


@dataclass(frozen=True)
class Choice:
    """What is chosen.

    Attributes:
        draws: By variant, the chosen draws, the best first; only of variants whose select runs all
            have a result, and of which a draw did not diverge.
        waiting: By variant, how many select runs have none; variants without such runs are absent.
        diverged: The variants of which every draw diverged: they have none to confirm.
    """

    draws: Mapping[str, tuple[int, ...]]
    waiting: Mapping[str, int]
    diverged: tuple[str, ...] = ()


def select_score(status: Status, scores: Mapping[str, float], by: str) -> float | None:
    """Return the score that selects, as `SelectRun` holds it.

    A score that is too large to compare counts as that of a diverged run. A run that failed, for
    want of a disk say, or was killed has no result: it is repeated, and no draw is the worst for
    its machine's sake.

    Args:
        status: How the run ended, if it has.
        scores: Its final scores.
        by: The name of the score.
    """
    if status == Status.DIVERGED:
        return math.nan
    if status != Status.FINISHED or by not in scores:
        return None
    from gan_bench.compare.stats.overflow import within_range  # NumPy: `status` does without

    return float(within_range(scores[by]))


def draw_score(values: Sequence[float], better: Better) -> float:
    """Return a draw's score: the mean over its select seeds; infinitely bad if a run diverged.

    It is rounded once, so the order of the seeds does not matter.

    Args:
        values: At least one; NaN stands for a run that diverged.
        better: Which direction is better: lower or higher.
    """
    if any(map(math.isnan, values)):
        return -math.inf if better == "higher" else math.inf
    return math.fsum(values) / len(values)


def choose(scores: Mapping[int, float], better: Better, best: int) -> tuple[int, ...]:
    """Return the best draws, the best first; of equal ones the draw with the lower index.

    A draw that diverged is never chosen, so there is none if all did.

    Args:
        scores: `draw_score` by draw.
        better: Which direction is better.
        best: How many to choose; all that did not diverge if there are fewer.
    """
    sign = -1.0 if better == "higher" else 1.0
    finite = [draw for draw, score in scores.items() if math.isfinite(score)]
    return tuple(sorted(finite, key=lambda draw: (sign * scores[draw], draw))[:best])


def different_draws(declared: Declared, search: SearchSpec, variant: str) -> list[int]:
    """Return the draws of a variant without those that repeat the settings of an earlier one."""
    later = {draw for group in declared.shared.get(variant, ()) for draw in group[1:]}
    return [draw for draw in range(search.draws) if draw not in later]


class RunPlace(NamedTuple):
    """What a run of a search is: `stage` is select or confirm."""

    variant: str
    draw: int
    stage: str
    seed: int


def run_places(declared: Declared, search: SearchSpec, draws: Mapping[str, Sequence[int]],
               ) -> Iterator[RunPlace]:
    """Yield the runs of both stages, in the order of tables: the first stage before the second.

    Args:
        draws: By variant, those that are chosen.
    """
    every = {variant: different_draws(declared, search, variant) for variant in declared.variants}
    for stage, by_variant, seeds in ((SELECT, every, search.select.seeds),
                                     (CONFIRM, draws, search.confirm.seeds)):
        for variant in declared.variants:
            for draw in by_variant.get(variant, ()):
                yield from (RunPlace(variant, draw, stage, seed) for seed in seeds)


def draws_by_settings(declared: Declared) -> dict[str, tuple[str, int]]:
    """Return by what stands for its settings each draw's variant and its index.

    Of draws with the same settings it is the first; it is empty if the settings are not declared.
    """
    found: dict[str, tuple[str, int]] = {}
    for variant, digests in declared.draws.items():
        for draw, settings in enumerate(digests):
            found.setdefault(settings, (variant, draw))
    return found


def choice_of(runs: Iterable[SelectRun], declared: Declared) -> Choice:
    """Return what the runs of the first stage choose.

    Draws with the same settings are one: the first of them stands for all.

    Args:
        runs: Those that there are; runs of other draws and seeds do not count.
        declared: What the experiment declares; without a search nothing is chosen.
    """
    search = declared.search
    if search is None:
        return Choice({}, {})
    better = directions(declared).get(search.select.by)
    scores = {(run.variant, run.draw, run.seed): run.score for run in runs}
    chosen, waiting, diverged = {}, {}, []
    for variant in declared.variants:
        by_draw = {draw: [scores.get((variant, draw, seed)) for seed in search.select.seeds]
                   for draw in different_draws(declared, search, variant)}
        lacking = sum(value is None for values in by_draw.values() for value in values)
        if lacking:
            waiting[variant] = lacking
            continue
        means = {draw: draw_score([value for value in values if value is not None], better)
                 for draw, values in by_draw.items()}
        if best := choose(means, better, search.confirm.best):
            chosen[variant] = best
        else:
            diverged.append(variant)
    return Choice(chosen, waiting, tuple(diverged))


def diverged_line(variants: Sequence[str]) -> str:
    """Return that these variants have no draw to confirm; empty if there are none."""
    return (f"every draw of {', '.join(variants)} diverged: there is none to confirm" if variants
            else "")


def selection_sentence(declared: Declared) -> str:
    """Return what a report has to say of the score that selects; empty without a search.

    Confirm runs are new, but a draw that was chosen by a score against some real examples is good
    against these examples in particular, and the same score of its confirm runs is measured against
    them too.
    """
    search = declared.search
    if search is None:
        return ""
    by, examples = search.select.by, declared.select_reference
    sentence = f"The draws were selected by {by}, which is reported too"
    if examples == "statistics":
        return (f"{sentence}, on other seeds against the same given statistics, so {by} is "
                f"optimistic by what suits the examples that these are of.")
    if examples not in ("train", "test"):
        return f"{sentence}: the reported score is that of other seeds."
    if examples == "train":
        return (f"{sentence}, on other seeds against the same training examples; scores against "
                f"test examples had no part in the selection.")
    return (f"{sentence}, against the same test examples: on other seeds, but no examples were "
            f"held out from the selection, so {by} is optimistic by what suits these examples.")
