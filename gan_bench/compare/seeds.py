"""How many seeds it takes to find a difference, from how much the runs so far scatter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from gan_bench.compare.ended import Ended
from gan_bench.compare.rows import final_scores
from gan_bench.compare.stats.comparison import ALPHA
from gan_bench.compare.stats.power import seeds_needed
from gan_bench.compare.stats.summary import Scores, mean_of, spread, survivors
from gan_bench.config.declared import Amount, Declared
from gan_bench.errors import UserError
from gan_bench.evaluation.scores import directions
from gan_bench.registry import nearest

SURE = 0.8  # of the interval of the standard deviation, which few seeds tell only roughly


@dataclass(frozen=True)
class Need:
    """How many seeds a comparison under one score would take.

    Attributes:
        score, variant, against: What is compared.
        difference: What is to be found, in the units of the score; NaN where that is not known.
        sd: Observed standard deviation over seeds: of both variants, pooled, or of the paired
            differences.
        seeds: Of each variant, to find the difference with 80% power. None where sd is not known,
            or more than 100,000 are needed.
        low, high: The same for the ends of sd's 80% interval (chi-squared).
        note: Why there is no number, and what it leaves out.
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


def needs(declared: Declared, runs: Sequence[Ended], difference: Amount,
          score: str | None = None) -> list[Need]:
    """Return how many seeds each variant's comparison with the baseline would take.

    Every comparison is to hold at Holm's strictest step, 5% over the number of comparisons.

    Args:
        declared: Its baseline, its variants and its `paired` count.
        runs: Its runs, finished or not.
        difference: What is to be found; a percentage is of the baseline's mean.
        score: The score; None: all of which a direction is better.

    Raises:
        UserError: There is no such score, or no finished run, or nothing to compare.
    """
    better = directions()
    known = list(dict.fromkeys(name for run in runs for name in run.scores))
    if not known:
        raise UserError("there is no finished run to learn the scatter of scores from; train a "
                        "few seeds first: gan-bench run")
    if score is not None and score not in known:
        raise UserError(f"no run has the score {score!r}; {nearest(score, known)}")
    if len(declared.variants) < 2:
        raise UserError("there is one variant, and nothing to compare it with")
    rows = []
    for name in [score] if score else [n for n in known if better.get(n)]:
        scores = final_scores(runs, name, [declared.baseline, *declared.variants])
        alpha = strictest(declared)
        for variant in declared.variants:
            if variant != declared.baseline:
                rows.append(_need(name, variant, declared.baseline, scores[variant],
                                  scores[declared.baseline], difference, alpha, declared.paired))
    if not rows:
        raise UserError(f"of none of the scores is a direction better: {', '.join(known)}; name "
                        f"one with --score")
    return rows


def strictest(declared: Declared) -> float:
    """Return Holm's strictest level, at which every comparison with the baseline holds."""
    return ALPHA / max(1, len(declared.variants) - 1)


def _need(score: str, variant: str, baseline: str, a: Scores, b: Scores, wanted: Amount,
          alpha: float, paired: bool) -> Need:
    x, y = survivors(a), survivors(b)
    lost = len(a) + len(b) - len(x) - len(y)
    if paired:
        both = [s for s in a if s in b and math.isfinite(a[s]) and math.isfinite(b[s])]
        gaps = survivors({s: a[s] - b[s] for s in both})
        freedom, sd = len(gaps) - 1, spread(gaps)
    else:
        parts = [(len(v) - 1, spread(v)) for v in (x, y) if len(v) > 1]
        freedom = sum(n for n, _ in parts)
        sd = math.sqrt(sum(n * s**2 for n, s in parts) / freedom) if freedom else math.nan
    gap = wanted.value * (abs(mean_of(y).value) if wanted.relative else 1.0)
    notes = [f"{lost} diverged runs are left out"] if lost else []
    if not gap > 0:
        notes.append(f"{wanted} of the baseline's mean is "
                     f"{'0' if gap == 0 else 'not known: it has no finite score'}")
    elif math.isnan(sd):
        notes.append("fewer than two runs: sd is not known")
    elif sd == 0:
        notes.append("all runs so far score the same: sd is not known")
    else:
        ends = np.sqrt(freedom * sd**2 / stats.chi2.ppf([(1 + SURE) / 2, (1 - SURE) / 2], freedom))
        least, likely, most = (seeds_needed(gap, float(s), alpha, paired=paired)
                               for s in (ends[0], sd, ends[1]))
        return Need(score, variant, baseline, gap, sd, likely, least, most, "; ".join(notes))
    return Need(score, variant, baseline, gap or math.nan, sd, None, None, None, "; ".join(notes))


