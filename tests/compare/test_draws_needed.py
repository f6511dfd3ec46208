"""How many draws and seeds a search needs, against simulation, and what is read from its runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from helpers.searches import load_search
from helpers.tuned import tuned

from gan_bench.compare.search.budget_numbers import budget_tests
from gan_bench.compare.search.choice import Choice
from gan_bench.compare.search.confirming import confirm_runs
from gan_bench.compare.search.draws_needed import (
    DrawScores,
    draws_needed,
    score_to_plan,
    scores_of_draws,
    spread_of_draws,
)
from gan_bench.compare.stats.power import seeds_needed
from gan_bench.compare.stats.search.budget import draws_for_interval, expected_best, usual_budgets
from gan_bench.compare.stats.search.budget_pairs import budget_test, budget_verdicts
from gan_bench.compare.stats.search.budget_power import best_contributions, select_seeds
from gan_bench.compare.stats.search.random_effects import variance_parts
from gan_bench.compare.stats.summary import Values
from gan_bench.config.declared import Amount, Declared
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError
from gan_bench.journal.schema import Status
from gan_bench.journal.status import Progress

NAN = math.nan
SHARED = Declared(baseline="plain", variants=("plain", "r1"),
                  searched={"plain": ("lr",), "r1": ("lr", "gamma")})
APART = SHARED.with_changes(searched={"plain": ("lr",), "r1": ("gamma",)})


def search_of(scores: Values) -> DrawScores:
    """Return draws with one select seed."""
    return DrawScores({draw: [float(x)] for draw, x in enumerate(scores, start=1)})


def test_what_draws_add_to_the_best() -> None:
    """By hand: of {1, 2, 4} the best of 2 is 4/3; without one of them 2, 1, 1."""
    assert best_contributions([1.0, 2.0, 4.0], 2) == pytest.approx([0, 2, 2])
    x = np.random.default_rng(0).lognormal(size=12)
    assert best_contributions(x, 1) == pytest.approx(x)
    for n in (1, 3, 6):
        assert best_contributions(x, n).mean() == pytest.approx(expected_best(x, n))
    for bad, n in (([1.0, math.inf], 1), ([1.0, 2.0], 2), ([1.0, NAN], 1)):
        with pytest.raises(ValueError, match="draw"):
            best_contributions(bad, n)


@pytest.mark.parametrize("n", [1, 5])
def test_their_spread_is_that_of_the_expected_best(n: int) -> None:
    """Of 40 log-normal draws, by 500 searches."""
    x = np.random.default_rng(n).lognormal(size=(500, 40))
    spread = np.std([expected_best(row, n) for row in x], ddof=1)
    told = np.mean([best_contributions(row, n).std(ddof=1) for row in x[:100]]) / math.sqrt(40)
    assert told == pytest.approx(spread, rel=0.2)


def test_select_seeds_against_simulation() -> None:
    """One, unless seeds scatter more than settings; with 40 runs of normal scores."""
    rng = np.random.default_rng(3)
    for between, within in ((1.0, 0.1), (1.0, 1.0), (1.0, 9.0), (1.0, 40.0)):
        gains = {}
        for seeds in (1, 2, 4, 5, 8, 10, 20):
            shape = 4_000, 40 // seeds
            truth = math.sqrt(between) * rng.normal(size=shape)
            shown = truth + math.sqrt(within / seeds) * rng.normal(size=shape)
            chosen = np.argmin(shown, axis=1)[:, None]
            gains[seeds] = -np.take_along_axis(truth, chosen, axis=1).mean()
        got = select_seeds(40, between, within)
        nearest = min(gains, key=lambda seeds, got=got: abs(seeds - got))  # type: ignore[misc]
        assert gains[nearest] >= max(gains.values()) - 0.06
        if within < between:
            assert got == 1
        if within > 4 * between:
            assert 2 <= got <= 20
    assert (select_seeds(40, 0.0, 1.0), select_seeds(40, -1.0, 1.0), select_seeds(1, 1.0, 1.0)
            ) == (1, 1, 1)


def test_variances_of_draws_and_seeds_are_unbiased() -> None:
    """2,000 searches of 8 draws with 2 seeds each; then with 1, and seeds of chosen draws."""
    rng = np.random.default_rng(4)
    between, within = 4.0, 1.0
    for seeds in (2, 1):
        found = []
        for _ in range(2_000):
            settings = math.sqrt(between) * rng.normal(size=8)
            draws = settings[:, None] + rng.normal(size=(8, seeds))
            best = settings[np.argmin(draws.mean(axis=1))] + rng.normal(size=5)
            parts = variance_parts([*draws], [best])
            found.append((parts.between, parts.within))
        error = np.std(found, axis=0, ddof=1) / math.sqrt(len(found))
        assert (np.abs(np.mean(found, axis=0) - [between, within]) < 4 * error).all()
        assert (error < 0.1).all()
    alone = variance_parts([np.array([1.0]), np.array([2.0])])
    assert math.isnan(alone.within)
    assert math.isnan(alone.between)


@pytest.mark.parametrize("kind", ["log-normal", pytest.param("normal", marks=pytest.mark.long)])
def test_so_many_draws_find_it_about_as_often_as_promised(kind: str) -> None:
    """Draws that both variants share, planned by the median of 20 searches of 40 draws."""
    rng = np.random.default_rng(5)

    def search(draws: int, gap: float) -> tuple[Values, Values]:
        setting = rng.normal(size=draws)
        a, b = (setting + 0.3 * rng.normal(size=draws) for _ in range(2))
        if kind == "normal":
            return 10 + a - gap, 10 + b
        return np.exp(a - gap), np.exp(b)

    gap = Amount(0.3) if kind == "normal" else Amount(1 - math.exp(-0.3), relative=True)
    planned = []
    for _ in range(20):
        a, b = search(40, 0.0)
        rows = draws_needed({"plain": search_of(b), "r1": search_of(a)}, SHARED, gap, "lower")
        planned += [row.needed for row in rows if row.budget == 5]
    assert len(planned) == 20
    draws = int(np.median(np.array(planned, float)))
    assert draws < 200
    found = 0
    for _ in range(60):
        a, b = search(draws, 0.3)
        test = budget_test(a, b, usual_budgets(draws), paired=True)
        found += budget_verdicts([test])[0][1] == "better"
    assert 33 <= found <= 59


def test_a_budget_needs_what_its_contributions_need() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.normal(5, 1, 41), rng.normal(5, 1, 41)
    scores = {"plain": search_of(b), "r1": search_of(a)}
    for declared, paired in ((SHARED, True), (APART, False)):
        one, five, ten, twenty, confirmed = draws_needed(scores, declared, Amount(0.2, True),
                                                         "lower")
        assert [row.budget for row in (one, five, ten, twenty, confirmed)] == [
            1, 5, 10, 20, None]
        assert one.difference == pytest.approx(0.2 * b.mean())
        assert five.difference == pytest.approx(0.2 * expected_best(b, 5))
        sd = (a - b).std(ddof=1) if paired else math.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2)
        assert one.sd == pytest.approx(sd)
        # All four budgets hold together.
        assert one.needed == seeds_needed(one.difference, sd, 0.05 / 4, paired=paired)
        x, y = best_contributions(a, 5), best_contributions(b, 5)
        sd = (x - y).std(ddof=1) if paired else math.sqrt((x.var(ddof=1) + y.var(ddof=1)) / 2)
        assert five.needed == max(seeds_needed(five.difference, sd, 0.05 / 4, paired=paired) or 0,
                                  draws_for_interval(5))
        assert confirmed.needed is None  # no setting has two runs
        assert confirmed.difference == pytest.approx(0.2 * b.min())
    higher = draws_needed({name: search_of(-values) for name, values in (("plain", b), ("r1", a))},
                          SHARED, Amount(0.2, True), "higher")
    assert [row.needed for row in higher] == [
        row.needed for row in draws_needed(scores, SHARED, Amount(0.2, True), "lower")]
    fewer = {name: search_of(values[:39]) for name, values in (("plain", b), ("r1", a))}
    assert [row.budget for row in draws_needed(fewer, SHARED, Amount(0.2), "lower")] == [
        1, 5, 10, None]
    large = draws_needed(scores, SHARED, Amount(50.0), "lower")
    assert [row.needed for row in large[:4]] == [draws_for_interval(n) for n in (1, 5, 10, 20)]
    assert large[0].note == "for an interval; the difference takes fewer"
    assert draws_needed(scores, SHARED, Amount(1e-9), "lower")[0].needed is None


def test_the_plan_is_for_the_tests_of_the_report() -> None:
    """The budgets of draws: Holm over all variants. Of confirmed settings: the largest sweep."""
    rng = np.random.default_rng(8)
    values = {name: rng.normal(5, 1, (10, 2)) for name in ("plain", "a", "b", "c", "d")}
    scores = {name: DrawScores({draw: [*each] for draw, each in enumerate(pairs)})
              for name, pairs in values.items()}
    declared = Declared(baseline="plain", variants=tuple(values), sweeps={"x": ("a", "b", "c")},
                        searched=dict.fromkeys(values, ("lr",)))
    one, five, confirmed = draws_needed(scores, declared, Amount(0.1), "lower")[:3]
    results = tuned({}, select={name: [[9.0, 9.0], *map(list, pairs)]
                                for name, pairs in values.items()})
    assert [one.budget, five.budget] == [*budget_tests(results)["a"][0].budgets]
    assert one.needed == seeds_needed(0.1, one.sd, 0.05 / (4 * 2), paired=True)
    assert confirmed.needed == seeds_needed(0.1, confirmed.sd, 0.05 / 3)


def test_diverged_draws_are_made_up_for() -> None:
    rng = np.random.default_rng(7)
    a, b = rng.normal(5, 1, 20), rng.normal(5, 1, 20)
    whole = draws_needed({"plain": search_of(b), "r1": search_of(a)}, SHARED, Amount(0.5), "lower")
    lost = {"plain": search_of(np.array([*b, *[NAN] * 5])),
            "r1": search_of(np.array([*a, *[1.0] * 5]))}
    got = draws_needed(lost, SHARED, Amount(0.5), "lower")
    assert whole[0].needed is not None
    assert got[0].needed == math.ceil(whole[0].needed / 0.8)
    assert "20% of the draws diverged, and are made up for" in got[0].note
    assert "diverged" not in whole[0].note


def test_confirm_seeds_find_a_difference_between_chosen_settings() -> None:
    """The scatter of bad settings is not asked where the chosen ones show theirs."""
    plain = DrawScores({1: [9.0, 19.0], 2: [20.0, 60.0]}, [[9.0, 10.0, 11.0]])
    tuned = DrawScores({1: [9.0, 29.0], 2: [20.0, 50.0]}, [[5.0, 7.0, NAN]])
    row = draws_needed({"plain": plain, "r1": tuned}, SHARED, Amount(0.1, True), "lower")[-1]
    sd = math.sqrt((2 + 2) / 3)  # squares about 10 and about 6, 3 degrees of freedom
    assert (row.difference, row.sd) == pytest.approx((1.0, sd))
    assert row.needed == seeds_needed(1.0, sd)
    assert row.note == "1 diverged confirm run left out"
    early = {name: DrawScores(each.select) for name, each in (("plain", plain), ("r1", tuned))}
    row = draws_needed(early, SHARED, Amount(5.0), "lower")[-1]
    assert row.sd == pytest.approx(math.sqrt((50 + 800 + 200 + 450) / 4))
    alone = {name: search_of(np.array([1.0, 2.0])) for name in ("plain", "r1")}
    assert "no setting has two runs" in draws_needed(alone, SHARED, Amount(5.0), "lower")[-1].note
    few = draws_needed({"plain": search_of(np.array([1.0])), "r1": search_of(np.array([2.0]))},
                       SHARED, Amount(1.0), "lower")
    assert "fewer than two random draws" in few[0].note
    none = draws_needed({"plain": DrawScores(), "r1": search_of(np.ones(4))}, SHARED,
                        Amount(0.1, True), "lower")
    assert none[-1].note == "no run of plain has a score that a percentage could be of"
    same = draws_needed({name: search_of(np.ones(4)) for name in ("plain", "r1")}, SHARED,
                        Amount(1.0), "lower")
    assert same[0].note == "all draws so far have the same score: sd is unknown"


def test_where_the_scatter_comes_from() -> None:
    spread = spread_of_draws("r1", DrawScores({1: [0.0, 2.0], 2: [10.0, 12.0], 3: [NAN, 3.0]},
                                              [[1.0, 2.0, 3.0]]))
    # Within: (2 + 2 + 2) / 4; between: (50·2 − 1.5) / 2.
    assert (spread.seeds, spread.draws) == pytest.approx((math.sqrt(1.5), math.sqrt(49.25)))
    assert spread.select_seeds == 1
    seeds_alone = spread_of_draws("r1", DrawScores({1: [0.0, 9.0], 2: [9.0, 0.0]}))
    assert (seeds_alone.draws, seeds_alone.select_seeds) == (0, 1)
    unknown = spread_of_draws("r1", search_of(np.array([1.0, 2.0])))
    assert math.isnan(unknown.draws)
    assert math.isnan(unknown.seeds)
    assert unknown.select_seeds is None
    assert math.isnan(spread_of_draws("r1", DrawScores()).draws)


def ended(run: RunSpec, score: float | None) -> Progress:
    """Return a run that finished with a score, diverged (NaN), or is still running."""
    if score is None:
        return Progress(run, Path("x"), Status.RUNNING)
    if math.isnan(score):
        return Progress(run, Path("x"), Status.DIVERGED)
    return Progress(run, Path("x"), Status.FINISHED,
                    scores={"fd_random": score, "d_accuracy_real": 0.5})


def test_draws_are_read_from_runs_of_both_stages(tmp_path: Path) -> None:
    spec = load_search(tmp_path, "search.select.seeds=[0, 1]", "search.draws=4")
    values = {("unpenalised", 0): 1.0, ("unpenalised", 1): 2.0, ("unpenalised", 2): NAN,
              ("r1", 1): 5.0, ("r1", 2): 6.0, ("r1", 3): None}
    runs = [ended(run, values.get((run.variant, run.draw or 0), 3.0)) for run in spec.runs
            if (run.variant, run.draw, run.seed) != ("unpenalised", 3, 1)]  # waits for its turn
    chosen = confirm_runs(spec.runs, Choice({"unpenalised": (0,), "r1": (1, 2)}, {}), spec.declared)
    runs += [ended(run, 10.0 + run.seed) for run in chosen]
    got = scores_of_draws(runs, spec.declared, "fd_random")
    assert {draw: [*own] for draw, own in got["r1"].select.items()} == {1: [5, 5], 2: [6, 6]}
    assert got["r1"].means == {1: 5, 2: 6}
    assert [[*own] for own in got["r1"].confirm] == [[20, 21], [20, 21]]
    plain = got["unpenalised"]  # without the file's own setting
    assert [*plain.select] == [1, 2]
    assert plain.means == {1: 2}
    assert [[*own] for own in plain.confirm] == [[20, 21]]
    # A draw that repeats another's settings counts as often as it was drawn.
    twice = spec.declared.with_changes(shared={"r1": ((1, 3),)})
    assert [*scores_of_draws(runs, twice, "fd_random")["r1"].select] == [1, 2, 3]
    drawn = spec.declared.with_changes(search=spec.declared.search.model_copy(  # type: ignore[union-attr]
        update={"defaults": False}))
    assert [*scores_of_draws(runs, drawn, "fd_random")["unpenalised"].select] == [0, 1, 2]


def test_a_score_that_has_no_best_draw_is_an_error(tmp_path: Path) -> None:
    spec = load_search(tmp_path)
    declared = spec.declared.with_changes(command="gan-bench run tuned.yaml")
    runs = [ended(run, 3.0) for run in spec.runs]
    assert score_to_plan(runs, declared, None) == "fd_random"
    for some, score, message in (
            ([], None, "train a few draws first: gan-bench run tuned.yaml"),
            (runs, "fd_randm", "no run has the score 'fd_randm'; did you mean 'fd_random'"),
            (runs, "d_accuracy_real", "neither direction of d_accuracy_real is better")):
        with pytest.raises(UserError, match=message):
            score_to_plan(some, declared, score)
    with pytest.raises(UserError, match="only one variant"):
        score_to_plan(runs, declared.with_changes(variants=("r1",)), None)
