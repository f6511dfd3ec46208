"""How often the verdict is wrong, and the intervals miss, on scores whose truth is known.

Two thousand comparisons a case, from fixed seeds. A share of 5% of 2,000 has a standard error of
half a point, so 6% is two above it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from gan_bench.compare.stats import permutation
from gan_bench.compare.stats.comparison import Comparison, compare
from gan_bench.compare.stats.improvement import improvement
from gan_bench.compare.stats.summary import mean_of, survivors

COMPARISONS = 2_000
SIGMA = 0.5  # of the log-normal scores: skewness 1.75
Draw = Callable[[np.random.Generator, int], "np.ndarray[tuple[int], np.dtype[np.float64]]"]
SCATTER: dict[str, tuple[Draw, float]] = {  # and the true mean
    "normal": (lambda rng, n: 10 + rng.normal(size=n), 10.0),
    "log-normal": (lambda rng, n: np.exp(SIGMA * rng.normal(size=n)), math.exp(SIGMA**2 / 2))}


@pytest.fixture
def calibration(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The sweep of which this is the short form."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("calibration")


@dataclass
class Shares:
    """Over many comparisons: how often what was so."""

    claims: float
    permutation: float
    difference_covers: float
    mean_covers: float
    diverged: float


def simulate(scatter: str, n: int, m: int, gap: float = 0.0, diverges: float = 0.0,
             paired: bool = False) -> Shares:
    """Compare variants that differ by `gap`, whose every run diverges with chance `diverges`."""
    draw, mean = SCATTER[scatter]
    rng = np.random.default_rng([n, m, len(scatter)])
    found: list[Comparison] = []
    means = []
    for _ in range(COMPARISONS):
        a, b = draw(rng, n) + gap, draw(rng, m)
        for x in a, b:
            x[rng.random(len(x)) < diverges] = math.nan
        scores = {"b": dict(enumerate(b)), "a": dict(enumerate(a))}
        found += compare(scores, "lower", "b", paired)
        means.append(mean_of(survivors(scores["a"])))
    told = [one.difference for one in found if not math.isnan(one.difference.low)]
    means = [one for one in means if not math.isnan(one.low)]
    return Shares(
        claims=float(np.mean([one.verdict in ("better", "worse") for one in found])),
        permutation=float(np.mean([one.permutation is not None and one.permutation.p <= 0.05
                                   for one in found])),
        difference_covers=float(np.mean([one.low <= gap <= one.high for one in told])),
        mean_covers=float(np.mean([one.low <= mean + gap <= one.high for one in means])),
        diverged=float(np.mean([one.basis == "permutation" for one in found])))


@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("scatter", ["normal", "log-normal"])
def test_equals_are_seldom_told_apart_and_intervals_cover(scatter: str, n: int) -> None:
    got = simulate(scatter, n, n)
    assert 0.015 <= got.claims <= 0.06
    assert got.permutation <= 0.06
    assert (got.permutation > 0.02) == (n > 3)  # of three runs each it can tell nothing
    low, high = (0.93, 0.97) if scatter == "normal" else (0.90, 0.97)
    assert low <= got.mean_covers <= high
    assert low <= got.difference_covers <= (high if scatter == "normal" else 0.985)


@pytest.mark.long
@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("scatter", ["normal", "log-normal"])
def test_neither_are_equals_some_of_whose_runs_diverge(scatter: str, n: int) -> None:
    got = simulate(scatter, n, n, diverges=0.1)
    assert 0.4 <= got.diverged <= 0.95
    assert got.claims <= 0.06
    assert got.claims >= (0.005 if n == 3 else 0.015)


@pytest.mark.long
@pytest.mark.parametrize("n", [3, 5, 10])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_a_variant_that_loses_its_worst_runs_gains_nothing_by_it(share: float, n: int) -> None:
    """The same scores, but the worst of the one variant's runs diverge instead."""
    rng = np.random.default_rng(n)
    better = of_survivors = 0
    for _ in range(COMPARISONS):
        a, b = rng.normal(size=n), rng.normal(size=n)
        a[a > stats.norm.ppf(1 - share)] = math.nan
        [got] = compare({"b": dict(enumerate(b)), "a": dict(enumerate(a))}, "lower", "b")
        better += got.verdict == "better"
        of_survivors += got.difference.high < 0
    assert better / COMPARISONS <= 0.032  # 2.5%, and two standard errors
    if n == 10 and share >= 0.3:  # what a test of survivors would have said
        assert of_survivors / COMPARISONS >= 0.1


def test_nor_are_equals_with_unequal_numbers_of_runs() -> None:
    assert 0.015 <= simulate("log-normal", 3, 10).claims <= 0.06


def test_nor_are_equals_compared_by_seed() -> None:
    assert 0.03 <= simulate("normal", 5, 5, paired=True).claims <= 0.06
    assert 0.02 <= simulate("normal", 10, 10, paired=True, diverges=0.1).claims <= 0.06


@pytest.mark.parametrize("n", [6, 12])
def test_no_paired_verdict_is_against_the_sign_of_its_statistic(n: int) -> None:
    """Seeds scatter 10 times as much as pairs differ; one run in ten diverges."""
    rng = np.random.default_rng(n)
    verdicts = 0
    for _ in range(COMPARISONS // 2):
        b = rng.normal(0, 10, n)
        a = b + rng.normal(-0.8, 1, n)
        for x in a, b:
            x[rng.random(n) < 0.1] = math.nan
        [got] = compare({"b": dict(enumerate(b)), "a": dict(enumerate(a))}, "lower", "b", True)
        if got.signed_ranks and got.verdict in ("better", "worse"):
            verdicts += 1
            assert (got.verdict == "better") == (got.signed_ranks[0] > got.signed_ranks[1])
    assert verdicts >= COMPARISONS // 40


def test_two_standard_deviations_are_found_with_ten_seeds() -> None:
    got = simulate("normal", 10, 10, gap=2)
    assert 0.95 <= got.claims <= 1
    assert 0.93 <= got.difference_covers <= 0.97


@pytest.mark.parametrize("n", [3, 20, 60])
def test_a_difference_as_large_as_the_margin_is_seldom_called_equivalent(
        n: int, calibration: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of fewer than 59 runs nothing is; of 60, up to 5%, also where one of two collapses."""
    monkeypatch.setattr(permutation, "EXACT_UP_TO", 20)
    monkeypatch.setattr(permutation, "DRAWS", 99)
    studies = 50 if n < 59 else 300
    worst = ("normal", "log-normal, sigma 1", "5% collapse", "modes, 5% collapse")
    given = {}
    for name, kind in calibration.KINDS.items():
        for edge, a, b, margin in calibration.edges(kind):
            if n > 59 and (name not in worst or edge == "shifted"):
                continue
            pairs = calibration.edge_pairs(a, b, margin, n, studies)
            given[name, edge] = calibration.share(pairs, "equivalent")
    assert max(given.values()) <= (0.05 + 2 * math.sqrt(0.05 * 0.95 / studies) if n > 59 else 0)
    if n > 59:  # and it is given to equals
        assert given["5% collapse", "one of two"] >= 0.02
        kind = calibration.KINDS["normal"]
        pairs = calibration.edge_pairs(kind.draw, kind.draw, 1.0, n, 50)
        assert calibration.share(pairs, "equivalent") >= 0.95


def test_equals_of_every_kind_are_seldom_told_apart(
        calibration: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(permutation, "DRAWS", 999)
    for name, kind in calibration.KINDS.items():
        for paired in (False, True):
            pairs = calibration.equal_pairs(kind, 5, 200, paired)
            claims = calibration.share(pairs, "better", "worse")
            assert claims <= calibration.allowed(200), (name, paired)


@pytest.mark.parametrize("n", [5, 60])
def test_an_interval_that_is_trusted_seldom_misses(calibration: ModuleType, n: int) -> None:
    """Of 5 runs none is, for nothing shows how often a run fails; of 60, those that look even."""
    of = {name: calibration.coverage(kind, n, 400) for name, kind in calibration.KINDS.items()}
    for name, coverage in of.items():
        assert coverage.misleads <= calibration.allowed(400), name
        assert n > 59 or coverage.trusted == 0, name
    if n == 5:  # what a t-interval alone would claim to be 95%
        assert of["log-normal, sigma 1"].covers < 0.87
        assert of["20% collapse"].covers < 0.75
    else:
        assert of["normal"].trusted > 0.95
        assert of["log-normal, sigma 1"].marked > 0.95
        assert of["5% collapse"].marked > 0.9


def test_the_probability_of_improvement_is_covered() -> None:
    """Where runs scatter alike, where one variant scatters 4 times as much, where some diverge."""
    rng = np.random.default_rng(3)
    for n, gap, scale, lost in ((3, 0.0, 1, 0.0), (3, 2.0, 1, 0.15), (5, 1.0, 4, 0.0),
                                (10, 1.0, 1, 0.0), (10, 2.0, 4, 0.15)):
        win = stats.norm.cdf(gap / math.hypot(1, scale))
        true = (1 - lost) ** 2 * win + (1 - lost) * lost + lost**2 / 2
        a, b = rng.normal(size=(COMPARISONS, n)), rng.normal(gap, scale, (COMPARISONS, n))
        for x in a, b:
            x[rng.random(x.shape) < lost] = math.inf
        told = [improvement(x, y, "lower") for x, y in zip(a, b, strict=True)]
        assert np.mean([one.low <= true <= one.high for one in told]) >= 0.93
        assert np.mean([one.high - one.low for one in told]) < {3: 0.8, 5: 0.65, 10: 0.5}[n]
