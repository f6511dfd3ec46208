"""How often verdicts are wrong and intervals miss, on simulated scores whose truth is known.

    python benchmarks/calibration.py            about twelve minutes of one core
    python benchmarks/calibration.py --quick    a few studies of each: whether it works

Every study goes through `compare` and `summarise_scores`, as those of a report; draws come from
fixed seeds. `tests/compare/test_calibration.py` runs a short form. For time, permutation tests of
more than 20 runs draw splits instead of counting them: 999, or 99 where they decide nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from targets import QUICK, say_load, say_missed

from gan_bench.compare.stats import permutation
from gan_bench.compare.stats.comparison import Comparison, compare
from gan_bench.compare.stats.summary import summarise_scores
from gan_bench.config.declared import Amount

Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Values]
RUNS = (3, 5, 10, 15, 20)
MANY = (60, 100)  # where *equivalent* can be said
STUDIES = 20 if QUICK else 1_000
PAIRED_STUDIES = 100 if QUICK else 20_000
COVERED_STUDIES = 50 if QUICK else 1_000
WRONG = 0.05


@dataclass(frozen=True)
class Kind:
    """A kind of score.

    Attributes:
        draw: Scores of so many runs; NaN for one that diverged.
        mean: The true mean.
        gap: A difference that a study with ten runs should mostly see; also a margin.
        mild: Draws of a variant without the rare event of this kind; None if there is none.
        mild_mean: The true mean of those.
        ranks: Whether a permutation test decides in some studies.
    """

    draw: Draw
    mean: float
    gap: float
    mild: Draw | None = None
    mild_mean: float = math.nan
    ranks: bool = False


def normal(rng: np.random.Generator, n: int) -> Values:
    """Return normal scores."""
    return rng.normal(20, 1, n)


def log_normal(sigma: float) -> Kind:
    """Return log-normal scores; their skewness is 1.75 with sigma 0.5, and 6.2 with 1."""
    return Kind(lambda rng, n: np.exp(sigma * rng.normal(size=n)), math.exp(sigma**2 / 2),
                2 * sigma)


def collapsing(share: float) -> Kind:
    """Return scores like a Fréchet distance: 20, but of a collapsed run 100."""
    def draw(rng: np.random.Generator, n: int) -> Values:
        return normal(rng, n) + 80 * (rng.random(n) < share)
    return Kind(draw, 20 + 80 * share, 2.0, normal, 20.0)


def modes(share: float) -> Kind:
    """Return numbers of modes: 24 or 25 of 25, but of a collapsed run 0."""
    def all_modes(rng: np.random.Generator, n: int) -> Values:
        return 25.0 - (rng.random(n) < 0.5)

    def draw(rng: np.random.Generator, n: int) -> Values:
        return all_modes(rng, n) * (rng.random(n) >= share)
    return Kind(draw, 24.5 * (1 - share), 1.0, all_modes if share else None, 24.5)


def without_spread(rng: np.random.Generator, n: int) -> Values:
    """Return scores that are all the same, as the number of covered modes often is."""
    return np.full(n, 25.0)


def flat_or_0(rng: np.random.Generator, n: int) -> Values:
    """Return scores that are all the same, but of a collapsed run 0."""
    return 25.0 * (rng.random(n) >= WRONG)


def diverging(rng: np.random.Generator, n: int) -> Values:
    """Return normal scores, of which one in ten has diverged."""
    return np.where(rng.random(n) < 0.1, math.nan, normal(rng, n))


KINDS = {
    "normal": Kind(normal, 20.0, 2.0),
    "log-normal, sigma 0.5": log_normal(0.5),
    "log-normal, sigma 1": log_normal(1.0),
    "t with 3 degrees": Kind(lambda rng, n: 20 + rng.standard_t(3, n), 20.0, 3.0),
    "5% collapse": collapsing(0.05),
    "20% collapse": collapsing(0.2),
    "modes": modes(0.0),
    "modes, 5% collapse": modes(0.05),
    "25 modes or 0": Kind(flat_or_0, 23.75, 1.0, without_spread, 25.0, ranks=True),
    "10% diverge": Kind(diverging, 20.0, 2.0, ranks=True),
}


def study(a: Values, b: Values, paired: bool = False, margin: float | None = None) -> Comparison:
    """Return the comparison of the scores of two variants; lower is better."""
    [pair] = compare({"b": dict(enumerate(b.tolist())), "a": dict(enumerate(a.tolist()))}, "lower",
                     "b", paired, None if margin is None else Amount(margin))
    return pair


def draw_fewer(kind: Kind) -> None:
    """Make permutation tests cheaper, as this module says."""
    permutation.EXACT_UP_TO, permutation.DRAWS = 20, 999 if kind.ranks else 99


def equal_pairs(kind: Kind, n: int, studies: int, paired: bool = False) -> list[Comparison]:
    """Compare variants that are the same; in a paired study, half of the scatter is the seed's."""
    rng = np.random.default_rng([n, studies, paired])
    pairs = []
    for _ in range(studies):
        seed = rng.normal(0, 1, n) if paired else 0.0
        pairs.append(study(kind.draw(rng, n) + seed, kind.draw(rng, n) + seed, paired))
    return pairs


def better_pairs(kind: Kind, n: int, studies: int) -> list[Comparison]:
    """Compare a variant with one whose scores are lower by `gap`."""
    rng = np.random.default_rng([n, studies, 2])
    return [study(kind.draw(rng, n) - kind.gap, kind.draw(rng, n)) for _ in range(studies)]


def edges(kind: Kind) -> Iterator[tuple[str, Draw, Draw, float]]:
    """Return variants whose means differ by a margin: their names, both draws, and the margin."""
    yield "shifted", lambda rng, n: kind.draw(rng, n) + kind.gap, kind.draw, kind.gap
    if kind.mild:
        yield "one of two", kind.draw, kind.mild, abs(kind.mean - kind.mild_mean)
    elif not math.isnan(kind.mean):
        yield ("scaled", lambda rng, n: kind.mean + 2 * (kind.draw(rng, n) - kind.mean) + kind.gap,
               kind.draw, kind.gap)


def edge_pairs(a: Draw, b: Draw, margin: float, n: int, studies: int, paired: bool = False,
               ) -> list[Comparison]:
    """Compare variants whose means differ by the margin."""
    rng = np.random.default_rng([n, studies, 3])
    return [study(a(rng, n), b(rng, n), paired, margin) for _ in range(studies)]


def share(pairs: Sequence[Comparison], *verdicts: str) -> float:
    """Return the share of comparisons with one of these verdicts."""
    return float(np.mean([pair.verdict in verdicts for pair in pairs]))


def against_sign(n: int, studies: int) -> tuple[int, int]:
    """Return of paired studies with divergences: the verdicts, and those against their statistic.

    Seeds scatter 10 times as much as pairs differ. The statistic is computed here once more.
    """
    rng = np.random.default_rng(n)
    verdicts = wrong = 0
    for _ in range(studies):
        b = rng.normal(0, 10, n)
        a = b + rng.normal(rng.choice([-0.8, 0.0, 0.8]), 1, n)
        for x in a, b:
            x[rng.random(n) < 0.1] = math.nan
        pair = study(a, b, paired=True)
        if pair.verdict in ("better", "worse"):
            verdicts += 1
            statistic = signed_rank_sum(a, b)
            wrong += not (statistic < 0 if pair.verdict == "better" else statistic > 0)
    return verdicts, wrong


def signed_rank_sum(a: Values, b: Values) -> float:
    """Return the sum of signed ranks by definition; of the differences, if no run diverged."""
    gaps = [0.0 if math.isnan(x) and math.isnan(y) else math.inf if math.isnan(x)
            else -math.inf if math.isnan(y) else x - y for x, y in zip(a, b, strict=True)]
    if all(map(math.isfinite, [*a, *b])):
        return sum(gaps)
    sizes = [abs(gap) for gap in gaps]
    return sum(math.copysign(sum(size < abs(gap) for size in sizes)
                             + (sum(size == abs(gap) for size in sizes) + 1) / 2, gap)
               for gap in gaps if gap)


@dataclass(frozen=True)
class Coverage:
    """Of the intervals of a mean: the shares that cover, are marked or trusted, and mislead.

    Attributes:
        covers: Of all intervals, those with the true mean in them.
        marked: Of all intervals, those that the report marks: skewed scores.
        trusted: Of all intervals, those against which nothing stands.
        misleads: Of all studies, those with an interval that is trusted and misses.
    """

    covers: float
    marked: float
    trusted: float
    misleads: float


def coverage(kind: Kind, n: int, studies: int) -> Coverage:
    """Return how the intervals of means fare; runs that diverged have no part in them."""
    rng = np.random.default_rng([n, studies, 4])
    means = [summarise_scores(dict(enumerate(kind.draw(rng, n).tolist())), "lower").mean
             for _ in range(studies)]
    given = [mean for mean in means if not math.isnan(mean.low)]
    missed = [not mean.low <= kind.mean <= mean.high for mean in given]
    trusted = [mean.is_trusted for mean in given]
    both = sum(miss and trust for miss, trust in zip(missed, trusted, strict=True))
    return Coverage(1 - float(np.mean(missed)), float(np.mean([mean.is_marked for mean in given])),
                    float(np.mean(trusted)), both / studies)


def allowed(studies: int) -> float:
    """Return the largest share that a true 5% gives in so many studies: two standard errors."""
    return WRONG + 2 * math.sqrt(WRONG * (1 - WRONG) / studies)


def say_table(title: str, runs: Sequence[int], cell: Callable[[Kind, int], str]) -> None:
    """Print a table: a row for each kind of score, a column for each number of runs."""
    print(f"\n{title}\n\n| scores | " + " | ".join(f"{n} runs" for n in runs) + " |")
    print("|---|" + "---|" * len(runs))
    for name, kind in KINDS.items():
        draw_fewer(kind)
        print(f"| {name} | " + " | ".join(cell(kind, n) for n in runs) + " |", flush=True)


def main() -> None:
    """Print all tables, and which shares are above 5%."""
    say_load()
    missed: list[str] = []

    def checked(what: str, kind: Kind, n: int, wrong: float, studies: int) -> str:
        if wrong > allowed(studies):
            name = next(name for name, other in KINDS.items() if other is kind)
            missed.append(f"{what}: {name}, {n} runs: {wrong:.1%}, target ≤ 5%")
        return f"{100 * wrong:.1f}"

    def equals(paired: bool) -> Callable[[Kind, int], str]:
        def cell(kind: Kind, n: int) -> str:
            wrong = share(equal_pairs(kind, n, STUDIES, paired), "better", "worse")
            return checked("equal variants", kind, n, wrong, STUDIES)
        return cell

    def power(kind: Kind, n: int) -> str:
        pairs = better_pairs(kind, n, STUDIES // 4)
        wrong = share(pairs, "worse")
        checked("the worse is called better", kind, n, wrong, STUDIES // 4)
        return f"{100 * share(pairs, 'better'):.0f} ({100 * wrong:.1f})"

    def at_edge(kind: Kind, n: int) -> str:
        studies = STUDIES if n in MANY else STUDIES // 10
        return " / ".join(
            checked(f"equivalent, {edge}", kind, n,
                    share(edge_pairs(a, b, margin, n, studies), "equivalent"), studies)
            for edge, a, b, margin in edges(kind))

    def same(kind: Kind, n: int) -> str:
        pairs = edge_pairs(kind.draw, kind.draw, kind.gap, n, STUDIES // 10)
        return f"{100 * share(pairs, 'equivalent'):.0f}"

    def covers(kind: Kind, n: int) -> str:
        of = coverage(kind, n, COVERED_STUDIES)
        wrong = checked("interval of a mean", kind, n, of.misleads, COVERED_STUDIES)
        return f"{100 * of.covers:.0f} / {100 * of.marked:.0f} / {100 * of.trusted:.0f} / {wrong}"

    say_table("Equal variants: *better* or *worse*, % of studies", RUNS, equals(paired=False))
    say_table("The same, compared seed by seed", RUNS, equals(paired=True))
    say_table("A better variant: *better* (*worse*), % of studies", RUNS, power)
    say_table("Means that differ by the margin: *equivalent*, % of studies: all scores of one are "
              "shifted / they also scatter twice as much, or only one of the two collapses",
              (*RUNS, *MANY), at_edge)
    say_table("Equal variants with a margin: *equivalent*, % of studies", MANY, same)
    say_table("95% intervals of means: % that cover / are marked as skewed / are trusted; % of "
              "studies with a trusted one that misses", (*RUNS, *MANY), covers)
    print("\nPaired studies with diverged runs: verdicts, and those against their own statistic\n")
    for n in RUNS:
        verdicts, wrong = against_sign(n, PAIRED_STUDIES // len(RUNS))
        print(f"{n} runs: {verdicts} of {PAIRED_STUDIES // len(RUNS)} studies, {wrong} against")
        if wrong:
            missed.append(f"paired verdicts, {n} runs: {wrong} against their own statistic, "
                          f"target 0")
    say_missed(missed)


if __name__ == "__main__":
    main()
