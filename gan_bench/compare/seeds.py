"""How many seeds find a difference, estimated from the scatter of the runs so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gan_bench.compare.ended import RunResult
from gan_bench.compare.rows import final_scores
from gan_bench.compare.stats.power import seeds_needed
from gan_bench.compare.stats.summary import ALPHA, Scores, Values, mean_of, spread, survivors
from gan_bench.config.declared import Amount, Declared
from gan_bench.errors import UserError
from gan_bench.evaluation.score_directions import directions
from gan_bench.registry import nearest

SD_LEVEL = 0.8  # of the interval of the standard deviation, which few seeds estimate roughly


@dataclass(frozen=True)
class Need:
    """How many seeds a comparison under one score needs.

    Attributes:
        score, variant, against: What is compared.
        difference: The difference to find, in the units of the score; NaN if unknown.
        sd: Observed standard deviation over seeds: pooled over both variants, or of the paired
            differences.
        seeds: How many each variant needs to find the difference with 80% power. None if sd is
            unknown, or if more than 100,000 are needed.
        low, high: The same for the ends of sd's 80% interval (chi-squared).
        note: Why there is no number, and which runs it leaves out.
    """

    score: str
    variant: str
    against: str
    difference: float
    sd: float
    seeds: int | None
    low: int | None
    high: int | None
    note: str = ""


def needs(declared: Declared, runs: Sequence[RunResult], difference: Amount,
          score: str | None = None) -> list[Need]:
    """Return how many seeds each variant's comparison with the baseline needs.

    Every comparison must hold at Holm's strictest step, 5% over the comparisons of the largest
    family.

    Args:
        declared: The experiment; its baseline, its variants and its `paired` are used.
        runs: The runs of the experiment, finished or not.
        difference: The difference to find; a percentage is of the baseline's mean.
        score: The score; None for all scores with a better direction.

    Raises:
        UserError: There is no such score, or no finished run, or nothing to compare.
    """
    better = directions()
    measured = list(dict.fromkeys(name for run in runs for name in run.scores))
    if not measured:
        raise UserError("no finished run shows the scatter of scores; train a few seeds first: "
                        f"{declared.command or 'gan-bench run'}")
    if score is not None and score not in measured:
        raise UserError(f"no run has the score {score!r}; {nearest(score, measured)}")
    if len(declared.variants) < 2:
        raise UserError("there is only one variant: nothing to compare it with")
    rows = []
    directed = [name for name in measured if better.get(name)]
    for name in [score] if score else directed:
        scores = final_scores(runs, name, [declared.baseline, *declared.variants])
        alpha = strictest(declared)
        for variant in declared.variants:
            if variant != declared.baseline:
                rows.append(_need(name, variant, declared.baseline, scores[variant],
                                  scores[declared.baseline], difference, alpha, declared.paired))
    if not rows:
        raise UserError(f"no score has a better direction: {', '.join(measured)}; name one with "
                        f"--metric")
    return rows


def strictest(declared: Declared) -> float:
    """Return Holm's strictest level, at which every comparison of each family holds."""
    sweeps = [len(names) for names in declared.sweeps.values()]
    return ALPHA / max(1, *sweeps, len(declared.variants) - 1 - sum(sweeps))


def _need(score: str, variant: str, baseline: str, a: Scores, b: Scores, difference: Amount,
          alpha: float, paired: bool) -> Need:
    x, y = survivors(a), survivors(b)
    lost = len(a) + len(b) - len(x) - len(y)
    freedom, sd = _paired_sd(a, b) if paired else _pooled_sd(x, y)
    unit = abs(mean_of(y).value) if difference.relative else 1.0
    gap = difference.value * unit
    notes = [f"{lost} diverged runs are left out"] if lost else []
    if not gap > 0:
        result = "0" if gap == 0 else "unknown: it has no finite score"
        notes.append(f"{difference} of the baseline's mean is {result}")
    elif math.isnan(sd):
        notes.append("fewer than two runs: sd is unknown")
    elif sd == 0:
        notes.append("all runs so far have the same score: sd is unknown")
    else:
        quantiles = stats.chi2.ppf([(1 + SD_LEVEL) / 2, (1 - SD_LEVEL) / 2], freedom)
        sd_low, sd_high = np.sqrt(freedom * sd**2 / quantiles)
        low, seeds, high = (seeds_needed(gap, float(value), alpha, paired=paired)
                            for value in (sd_low, sd, sd_high))
        return Need(score, variant, baseline, gap, sd, seeds, low, high, "; ".join(notes))
    return Need(score, variant, baseline, gap or math.nan, sd, None, None, None, "; ".join(notes))


def _paired_sd(a: Scores, b: Scores) -> tuple[int, float]:
    """Return the degrees of freedom and the standard deviation of the paired differences."""
    shared = [seed for seed in a
              if seed in b and math.isfinite(a[seed]) and math.isfinite(b[seed])]
    gaps = survivors({seed: a[seed] - b[seed] for seed in shared})
    return len(gaps) - 1, spread(gaps)


def _pooled_sd(x: Values, y: Values) -> tuple[int, float]:
    """Return the degrees of freedom and the pooled standard deviation of two variants."""
    parts = [(len(values) - 1, spread(values)) for values in (x, y) if len(values) > 1]
    freedom = sum(n for n, _ in parts)
    if not freedom:
        return 0, math.nan
    return freedom, math.sqrt(sum(n * sd**2 for n, sd in parts) / freedom)
