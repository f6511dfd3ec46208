"""The draws of a search: what each scored, what it cost, and which were chosen and confirmed.

The unit is the draw. A variant is compared as a method together with its tuning, so nothing here
takes draws for seeds; `budget_numbers` says what a budget of n draws buys.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from gan_bench.compare.frames import PARAM, PROTOCOL, SCORE
from gan_bench.compare.results import Results
from gan_bench.compare.search.budget_space import Dimension, dimensions_of, values_of
from gan_bench.compare.search.choice import draw_score, select_score
from gan_bench.compare.search.counted_draws import each_once
from gan_bench.compare.stats.summary import Summary, Values, summarise_scores
from gan_bench.config.search.search import CONFIRM, SELECT, SearchSpec
from gan_bench.evaluation.score_directions import directions
from gan_bench.journal.schema import Status
from gan_bench.registry import Better


@dataclass(frozen=True)
class Draw:
    """One draw of one variant.

    Attributes:
        index: Its number; 0 is the file's own setting where that takes part.
        selected: The mean over the select seeds of the score that selects; infinitely bad if one
            of these runs diverged; NaN while one of them has no result.
        diverged: How many of its select runs diverged.
        seconds: Of its select runs together, all attempts of each.
        images: Real examples that D was shown in these runs; NaN if unknown.
        values: The drawn settings, as text, by key.
        rank: Among the chosen draws, from 1; None if it was not chosen. Draws with the same
            settings have one rank.
        confirmed: Its scores under the confirm seeds; None if no such run has a result.
        select_scores, confirm_scores: Those of its own runs that have a result, by seed; NaN if a
            run diverged. A draw whose settings an earlier one has confirms nothing of its own.
    """

    index: int
    selected: float
    diverged: int
    seconds: float
    images: float
    values: Mapping[str, str]
    rank: int | None = None
    confirmed: Summary | None = None
    select_scores: tuple[float, ...] = ()
    confirm_scores: tuple[float, ...] = ()

    @property
    def is_scored(self) -> bool:
        """Whether all of its select runs have a result."""
        return not math.isnan(self.selected)


@dataclass(frozen=True)
class TunedVariant:
    """A variant with its tuning.

    Attributes:
        variant: Its name, or its label.
        draws: All that have begun, by index.
        has_default: Whether draw 0 is the file's own setting, and no random draw.
        dimensions: The settings that are drawn for it.
        select_seconds, confirm_seconds: Of all its runs in either stage, all attempts.
        images: Real examples that D was shown in the runs of the first stage.
    """

    variant: str
    draws: tuple[Draw, ...]
    has_default: bool
    dimensions: tuple[Dimension, ...]
    select_seconds: float
    confirm_seconds: float
    images: float

    @property
    def random(self) -> tuple[Draw, ...]:
        """The random draws that have a score: the sample that all estimators are of."""
        return tuple(draw for draw in self.draws
                     if draw.is_scored and not (self.has_default and draw.index == 0))

    @property
    def default(self) -> Draw | None:
        """The file's own setting, if it has a score."""
        first = next((draw for draw in self.draws if draw.index == 0), None)
        return first if first and self.has_default and first.is_scored else None

    @property
    def chosen(self) -> tuple[Draw, ...]:
        """The chosen draws, the best first; of those with the same settings, the earliest."""
        by_rank: dict[int, Draw] = {}
        for draw in self.draws:
            if draw.rank is not None:
                by_rank.setdefault(draw.rank, draw)
        return tuple(by_rank[rank] for rank in sorted(by_rank))

    @property
    def first_choice(self) -> Draw | None:
        """The first of the chosen draws."""
        return next(iter(self.chosen), None)

    @property
    def best_random(self) -> Draw | None:
        """The best of the chosen draws that is a random one."""
        return min((draw for draw in self.random if draw.rank is not None),
                   key=lambda draw: draw.rank or 0, default=None)

    @property
    def costs(self) -> Values:
        """What each random draw cost, in device-seconds."""
        return np.array([draw.seconds for draw in self.random], float)

    @property
    def scores(self) -> Values:
        """The score of each random draw; infinitely bad if it diverged."""
        return np.array([draw.selected for draw in self.random], float)


@dataclass(frozen=True)
class Budgets:
    """The draws of an experiment with a search.

    Attributes:
        results: All its runs.
        search: What was asked for.
        better: Which direction of the score that selects is better.
        variants: In the experiment's order.
    """

    results: Results
    search: SearchSpec
    better: Better
    variants: tuple[TunedVariant, ...]

    @property
    def score(self) -> str:
        """The name of the score that selects."""
        return self.search.select.by

    @property
    def label(self) -> str:
        """What readers see in place of it."""
        return self.results.declared.label(self.score)

    @property
    def sign(self) -> float:
        """What turns the score into one to minimise: 1 or −1."""
        return -1.0 if self.better == "higher" else 1.0

    @property
    def reference(self) -> TunedVariant:
        """The variant that the others are compared with."""
        return next(each for each in self.variants if each.variant == self.results.baseline)

    @property
    def is_begun(self) -> bool:
        """Whether any draw has a score."""
        return any(draw.is_scored for tuned in self.variants for draw in tuned.draws)

    @property
    def has_default(self) -> bool:
        """Whether draw 0 is the file's own setting."""
        return self.variants[0].has_default


def budgets_of(results: Results) -> Budgets | None:
    """Return the draws of an experiment with a search; None of one without."""
    declared = results.declared
    search = declared.search
    if search is None:
        return None
    variants = tuple(_tuned(name, results, search) for name in results.variants)
    return Budgets(results, search, directions(declared).get(search.select.by), variants)


def _tuned(variant: str, results: Results, search: SearchSpec) -> TunedVariant:
    """Return a variant with its draws.

    Draws with the same settings share their runs, of both stages, and each counts as a draw: the
    sample of the space is of as many draws as were drawn.
    """
    declared = results.declared
    runs = results.runs[results.runs["variant"] == variant]
    dimensions = dimensions_of(search, declared.searched.get(variant, tuple(search.space)))
    better = directions(declared).get(search.select.by)
    ranks = {index: rank for rank, index in enumerate(results.choice.get(variant, ()), start=1)}
    by_index = {int(index): _draw(int(index), of_draw, search, better, dimensions)
                for index, of_draw in runs.groupby("draw", sort=True)}
    run_as = {index: group[0] for group in declared.shared.get(variant, ()) for index in group}
    draws = []
    for index, draw in by_index.items():
        trained = run_as.get(index, index)
        draws.append(replace(draw, rank=ranks.get(trained),
                             confirmed=by_index.get(trained, draw).confirmed))
    once = each_once(runs)
    select, confirm = (once[once["stage"] == stage] for stage in (SELECT, CONFIRM))
    return TunedVariant(variant, tuple(draws), search.defaults, dimensions,
                        _seconds(select), _seconds(confirm),
                        images_of(select))


def _draw(index: int, runs: pd.DataFrame, search: SearchSpec, better: Better,
          dimensions: Sequence[Dimension]) -> Draw:
    """Return one draw from its runs."""
    select = runs[(runs["stage"] == SELECT) & runs["seed"].isin(search.select.seeds)]
    confirm = runs[(runs["stage"] == CONFIRM) & runs["seed"].isin(search.confirm.seeds)]
    by_seed = _scores_by_seed(select, search.select.by)
    is_whole = len(by_seed) == len(search.select.seeds)
    confirmed = _scores_by_seed(confirm, search.select.by)
    return Draw(index, draw_score([*by_seed.values()], better) if is_whole else math.nan,
                sum(map(math.isnan, by_seed.values())), _seconds(select),
                images_of(select), values_of(search, index, dimensions, runs),
                confirmed=summarise_scores(confirmed, better) if confirmed else None,
                select_scores=(*by_seed.values(),), confirm_scores=(*confirmed.values(),))


def _seconds(runs: pd.DataFrame) -> float:
    """Return how long runs took together, without the time between their attempts if known."""
    return float(runs["device_seconds" if "device_seconds" in runs else "seconds"].sum())


def _scores_by_seed(runs: pd.DataFrame, score: str) -> dict[int, float]:
    """Return the score of each run with a result, by seed: NaN if it diverged."""
    by_seed = {int(run["seed"]): _score(run, score) for _, run in runs.iterrows()}
    return {seed: value for seed, value in by_seed.items() if value is not None}


def _score(run: pd.Series, score: str) -> float | None:
    """Return the score of a run: NaN if it diverged, None while it has no result."""
    value = float(run.get(SCORE + score, math.nan))
    is_measured = bool(run.get(PROTOCOL + score, "")) or not math.isnan(value)
    return select_score(Status(run["status"]), {score: value} if is_measured else {}, score)


def images_of(runs: pd.DataFrame) -> float:
    """Return how many real examples D was shown in these runs; NaN if their settings are unknown.
    """
    factors = [runs["step"]]
    for key in ("batch_size", "d_steps"):
        factors.append(pd.to_numeric(runs.get(PARAM + key, pd.Series(dtype=float)),
                                     errors="coerce"))
    steps, batch, d_steps = factors
    return float((steps * batch * d_steps).sum(skipna=False))
