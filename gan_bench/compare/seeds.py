"""How many seeds it takes to find a difference, from how much the runs so far scatter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.table import Table
from scipy import optimize, stats

from gan_bench.compare.ended import Declared, Ended
from gan_bench.compare.rows import directions, final_scores
from gan_bench.compare.stats.comparison import ALPHA
from gan_bench.compare.stats.summary import Scores, mean_of, spread, survivors
from gan_bench.config.amount import Amount, parse_amount
from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import UserError
from gan_bench.journal.status import progress_of
from gan_bench.registry import nearest

POWER = 0.8
SURE = 0.8  # of the interval of the standard deviation, which few seeds tell only roughly
SHARES = 200  # of the one variance in the sum of both, in a mean over them
MOST = 100_000  # seeds: more is no plan


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


def power_of(seeds: int, effect: float, alpha: float = ALPHA, paired: bool = False) -> float:
    """Return the chance that a two-sided t-test finds a difference.

    By the noncentral t distribution (Cohen 1988, "Statistical power analysis", chapter 2). Welch's
    statistic of equally many runs of equal spread follows it too, with 2n − 2 degrees; but the
    degrees that the test supposes, and so what it asks for, depend on the share u of the one
    variance in the sum of both: (n − 1) / (u² + (1 − u)²). That share is independent of the
    statistic, and beta-distributed, so the chance is a mean over it. At 3 seeds it is .70 where a
    pooled t-test has .80 or so; from 10 on they agree to a hundredth.

    Args:
        seeds: Of each variant, at least 2.
        effect: The difference over the standard deviation (of the differences, if paired).
        alpha: The chance to find one where there is none.
        paired: Whether runs are compared seed by seed.
    """
    if paired:
        return found(stats.t.ppf(1 - alpha / 2, seeds - 1), seeds - 1,
                     effect * math.sqrt(seeds))
    middles = (np.arange(SHARES) + 0.5) / SHARES
    u = stats.beta.ppf(middles, (seeds - 1) / 2, (seeds - 1) / 2)
    edges = stats.t.ppf(1 - alpha / 2, (seeds - 1) / (u**2 + (1 - u) ** 2))
    return found(edges, 2 * seeds - 2, effect * math.sqrt(seeds / 2))


def found(edges: Any, freedom: int, shift: float) -> float:
    """Return the mean chance that |noncentral t| exceeds each of the edges.

    Its square is noncentral F, of which SciPy has better tails.
    """
    return float(np.mean(stats.ncf.sf(np.square(edges), 1, freedom, shift**2)))


def seeds_needed(difference: float, sd: float, alpha: float = ALPHA, power: float = POWER,
                 paired: bool = False) -> int | None:
    """Return the least number of seeds that finds a difference with the given power.

    None where that is more than 100,000. Where runs do not scatter at all: 2, the least that there
    is a test for.
    """
    if sd == 0:
        return 2
    low, high = 1, 2  # too few; enough, once the loop has ended
    while power_of(high, difference / sd, alpha, paired) < power:
        low, high = high, 2 * high
        if low > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if power_of(middle, difference / sd, alpha, paired) < power:
            low = middle
        else:
            high = middle
    return high if high <= MOST else None


def detectable(seeds: int, alpha: float = ALPHA, power: float = POWER, paired: bool = False,
               ) -> float:
    """Return the difference, over its standard deviation, that so many seeds find so often.

    Args:
        seeds: Of each variant, at least 2.
    """
    low, high = 0.0, 1.0
    while power_of(seeds, high, alpha, paired) < power:
        low, high = high, 2 * high
    return float(optimize.brentq(
        lambda effect: power_of(seeds, effect, alpha, paired) - power, low, high))


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


def report(spec: ExperimentSpec, root: Path, difference: str, score: str | None = None,
           ) -> Table:
    """Return what `gan-bench power` shows, from the journals under `root`.

    Raises:
        UserError: `difference` is none, or see `needs`.
    """
    try:
        wanted = parse_amount(difference)
    except ValueError as error:
        raise UserError(f"--difference: {error}") from None
    if not wanted.relative and score is None:
        raise UserError(f"a difference of {wanted} belongs to one score; name it with --score, or "
                        f"give a percentage")
    runs = [Ended.of(progress_of(run, root)) for run in spec.runs]
    declared = Declared.of(spec.declared)
    return as_table(needs(declared, runs, wanted, score), declared, wanted)


def as_table(rows: list[Need], declared: Declared, difference: Amount) -> Table:
    """Return the rows as a table for the terminal."""
    many = len(declared.variants) - 1
    share = f"5% over the {many} comparisons (Holm)" if many > 1 else "5%"
    means = ", ".join(declared.curve_means)
    table = Table(
        box=None, pad_edge=False, title_justify="left", caption_justify="left",
        title=escape(f"Seeds of each variant that find a difference of {difference} from "
                     f"{declared.baseline} with {POWER:.0%} power, two-sided at {share}"
                     f"{', paired by seed' if declared.paired else ''}"),
        caption="from … to: were the true sd at the ends of its 80% interval" + (escape(
            f"\nthe means of curves ({means}) are left out: only a report has them")
            if means else ""))
    for heading in ("score", "variant", "difference", "sd over seeds", "seeds", "from … to", ""):
        table.add_column(heading, no_wrap=heading != "")
    for one in rows:
        span = f"{_count(one.low)} to {_count(one.high)}" if one.seeds or one.low else ""
        table.add_row(one.score, escape(one.variant), _show(one.difference), _show(one.sd),
                      _count(one.seeds) if span else "", span, one.note)
    return table


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


def _show(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.4g}"


def _count(seeds: int | None) -> str:
    return f"over {MOST:,}" if seeds is None else f"{seeds:,}"
