"""The draws of a search as numbers: hand values, the functions of `stats.budget`, and refusals."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from helpers.tuned import BATCH, OWN, STEPS, tuned, tuned_results

from gan_bench.compare.findings import findings
from gan_bench.compare.labels import labelled
from gan_bench.compare.search.budget_costs import cost_rows, images_shown, seconds_spent
from gan_bench.compare.search.budget_numbers import (
    budget_tests,
    confirmed_mean,
    default_percentile,
    lines_of,
    optimism,
    table_budgets,
    table_rows,
)
from gan_bench.compare.search.budget_space import diverged_shares, edges_of
from gan_bench.compare.search.budget_words import (
    budget_sentences,
    choice_notes,
    edge_warnings,
    notes_on_tests,
)
from gan_bench.compare.search.budgets import budgets_of, images_of
from gan_bench.compare.search.counted_draws import with_shared_draws
from gan_bench.compare.stats.search.budget import best_quantile, median_interval
from gan_bench.compare.stats.search.budget_pairs import probability_better_paired
from gan_bench.report.search.budget_cells import confirmed_text
from gan_bench.report.search.budget_exports import budgets_frame, draws_frame

NAN = math.nan
LOW = [9.0, *(10.0 + (7 * j) % 29 for j in range(1, 30))]  # 29 random draws: 10 … 38, shuffled
HIGH = [9.0, *(40.0 + (5 * j) % 29 for j in range(1, 30))]


def test_without_a_search_there_are_no_budgets() -> None:
    results = tuned_results({"a": [1.0, 2.0]})
    plain = replace(results, declared=results.declared.with_changes(search=None))
    assert budgets_of(plain) is None


def test_the_default_is_no_random_draw() -> None:
    one = tuned({"a": [0.5, 4.0, 1.0, 3.0, 2.0]}).variants[0]
    assert [draw.index for draw in one.random] == [1, 2, 3, 4]
    assert one.default is not None
    assert one.default.selected == 0.5
    assert one.default.values["g_optimizer.lr"] == str(OWN["g_optimizer.lr"])
    without = tuned({"a": [0.5, 4.0, 1.0, 3.0, 2.0]}, defaults=False).variants[0]
    assert [draw.index for draw in without.random] == [0, 1, 2, 3, 4]
    assert without.default is None


def test_hand_values_of_the_best_of_two() -> None:
    """{1, 2, 3, 4}, n = 2 (facts, 5.2): the mean is 10/6; of the 6 pairs 3 begin with 1."""
    (line,) = lines_of(tuned({"a": [9.0, 4.0, 1.0, 3.0, 2.0]}))
    best = line.bests[1]
    assert best.n == 2
    assert best.expected == pytest.approx(10 / 6)
    assert (best.good, best.median, best.bad) == (1.0, 1.0, 2.0)
    assert not best.has_interval


def test_a_higher_score_is_negated_and_turned_back() -> None:
    (line,) = lines_of(tuned({"a": [9.0, 4.0, 1.0, 3.0, 2.0]}, by="classifier_score"))
    best = line.bests[1]
    assert best.expected == pytest.approx(5 - 10 / 6)
    assert (best.good, best.median, best.bad) == (4.0, 4.0, 3.0)
    values = [9.0, *map(float, range(1, 24))]
    of_high = lines_of(tuned({"a": values}, by="classifier_score"))[0].bests[1]
    low, high = median_interval([-value for value in values[1:]], 2) or (NAN, NAN)
    assert (of_high.low, of_high.high) == (-high, -low)
    assert of_high.low < of_high.median < of_high.high


def test_hand_values_of_who_wins() -> None:
    """{1, 4} against {2, 3} on shared draws: A wins over draw 1 and over both, loses over draw 2.
    """
    lines = lines_of(tuned({"b": [9.0, 2.0, 3.0], "a": [9.0, 1.0, 4.0]}))
    assert lines[0].beats == ()
    assert lines[1].beats == (0.5, 1.0)


def test_draws_without_a_common_key_are_not_paired() -> None:
    """{1, 4} against {2, 3} with draws of their own: 1 wins both, 4 loses both: .5, then 1."""
    space = {"penalties.r1.gamma": {"log_uniform": [0.01, 100], "only": {"penalties": "r1"}},
             "loss.target": {"uniform": [0, 1], "only": {"loss": "lsgan"}}}
    results = tuned_results({"plain": [9.0, *([2.0, 3.0] * 4)], "r1": [9.0, *([1.0, 4.0] * 4)]},
                            space=space)
    declared = results.declared.with_changes(
        searched={"plain": ("loss.target",), "r1": ("penalties.r1.gamma",)})
    budgets = budgets_of(replace(results, declared=declared))
    assert budgets is not None
    assert not budget_tests(budgets)["r1"][0].paired
    assert lines_of(budgets)[1].beats[0] == pytest.approx(0.5)
    both = tuned({"plain": [9.0, *([2.0, 3.0] * 4)], "r1": [9.0, *([1.0, 4.0] * 4)]})
    assert budget_tests(both)["r1"][0].paired


def test_a_diverged_draw_is_infinitely_bad() -> None:
    budgets = tuned({"a": [9.0, NAN, 2.0, NAN, 1.0], "b": [NAN, 5.0, 6.0, 7.0, 8.0]})
    first, second = budgets.variants
    assert [draw.selected for draw in first.random] == [math.inf, 2.0, math.inf, 1.0]
    assert [draw.diverged for draw in first.draws] == [0, 1, 0, 1, 0]
    assert second.default is not None
    assert second.default.selected == math.inf
    line = lines_of(budgets)[0]
    assert line.bests[0].bad == math.inf
    assert line.bests[0].median == 2.0
    assert line.bests[1].expected == math.inf
    assert line.bests[2].expected < math.inf
    higher = tuned({"a": [9.0, NAN, 2.0, 3.0, 1.0]}, by="classifier_score")
    assert higher.variants[0].random[0].selected == -math.inf


def test_a_draw_is_the_mean_over_its_select_seeds() -> None:
    pairs = [[1.0, 3.0], [5.0, NAN], [4.0, 4.0]]
    one = tuned({}, select={"a": pairs}).variants[0]
    assert [draw.selected for draw in one.draws] == [2.0, math.inf, 4.0]
    assert [draw.diverged for draw in one.draws] == [0, 1, 0]
    results = tuned_results({}, select={"a": pairs})
    results.runs.loc["a-2-1", "status"] = "FAILED"  # one of its two: the draw has no score
    waiting = budgets_of(results)
    assert waiting is not None
    assert math.isnan(waiting.variants[0].draws[2].selected)


@pytest.mark.parametrize("status", ["FAILED", "KILLED", "RUNNING"])
def test_a_run_without_a_result_is_waited_for(status: str) -> None:
    results = tuned_results({"a": [3.0, 2.0, 1.0], "b": [3.0, 2.0, 1.0]})
    results.runs.loc["a-2-0", "status"] = status
    budgets = budgets_of(replace(results, choice={"b": results.choice["b"]}))
    assert budgets is not None
    first, second = budgets.variants
    assert [draw.index for draw in first.random] == [1]
    assert first.first_choice is None
    assert second.first_choice is not None
    assert second.first_choice.index == 2
    assert choice_notes(budgets, [])[-1].startswith("Draws without a score yet: 1 of 3 of a.")
    assert table_budgets(budgets) == [1]


def test_draws_with_the_same_settings_count_each() -> None:
    results = tuned_results({"a": [3.0, 2.0, 1.0, 5.0]})
    declared = results.declared.with_changes(shared={"a": ((1, 3),)})
    gone = replace(results, runs=with_shared_draws(results.runs.drop("a-3-0"), declared))
    budgets = budgets_of(gone)
    assert budgets is not None
    (one,) = budgets.variants
    assert [draw.selected for draw in one.random] == [2.0, 1.0, 2.0]
    assert one.first_choice is not None
    assert one.first_choice.index == 2
    assert one.select_seconds == pytest.approx(10 + 20 + 30)  # run once


def test_draws_with_the_settings_of_the_chosen_one_are_confirmed_with_it() -> None:
    """The chosen draw 2 was drawn again as draw 3, and the file's own setting 0 as draw 1."""
    scores, shared = [3.0, 3.0, 1.0, 1.0, 5.0], {"a": ((0, 1), (2, 3))}
    one = tuned({"a": scores}, {"a": [2.0, 4.0]}, shared=shared)
    assert [draw.rank for draw in one.variants[0].draws] == [None, None, 1, 1, None]
    assert [draw.index for draw in one.variants[0].chosen] == [2]
    assert lines_of(one)[0].bests[3].confirmed == 3.0
    own = tuned({"a": [1.0, 1.0, 2.0]}, {"a": [2.0, 4.0]}, shared={"a": ((0, 1),)})
    best = own.variants[0].best_random
    assert best is not None
    assert (best.index, best.confirmed and best.confirmed.n) == (1, 2)
    assert own.variants[0].first_choice is own.variants[0].default
    assert lines_of(own)[0].bests[1].confirmed == 3.0


def test_the_table_has_the_numbers_of_the_functions() -> None:
    budgets = tuned({"a": HIGH, "b": LOW})
    assert table_budgets(budgets) == [1, 5, 10, 29]
    rows = table_rows(budgets, budget_tests(budgets))
    assert [(row.variant, row.n) for row in rows] == [
        (name, n) for name in ("a", "b") for n in (0, 1, 5, 10, 29)]
    by_place = {(row.variant, row.n): row for row in rows}
    for n in (1, 5, 10, 29):
        best = by_place["b", n].best
        assert best is not None
        assert best.median == best_quantile(LOW[1:], n)
        assert (best.low, best.high) == pytest.approx(median_interval(LOW[1:], n) or (NAN, NAN),
                                                      nan_ok=True)
    row = by_place["b", 10]
    assert row.beats == probability_better_paired(LOW[1:], HIGH[1:], 10) == pytest.approx(1)
    assert row.verdict == "better"
    assert row.p <= 0.001
    assert by_place["a", 10].verdict == ""
    assert math.isnan(by_place["b", 29].p)  # with all draws one of the two has the best
    assert row.hours == pytest.approx(10 * np.mean([10.0 * (1 + j) for j in range(1, 30)]) / 3600)


@pytest.mark.parametrize(("random", "expected"), [
    (1, [1]), (2, [1, 2]), (3, [1, 3]), (6, [1, 6]), (9, [1, 9]), (10, [1, 5, 10]),
    (19, [1, 5, 19]), (40, [1, 5, 10, 20, 40])])
def test_budgets_are_up_to_half_of_the_draws(random: int, expected: list[int]) -> None:
    scores = [9.0, *map(float, range(random))]
    budgets = tuned({"a": scores, "b": scores})
    assert table_budgets(budgets) == expected
    tests = budget_tests(budgets)
    assert [*tests["b"][0].budgets] == expected[:-1] if random > 1 else not tests


def test_verdicts_are_of_permuted_draws() -> None:
    better, tied = tuned({"a": HIGH, "b": LOW}), tuned({"a": LOW, "b": LOW})
    ((verdict, text),) = budget_sentences(better, budget_tests(better))
    assert verdict == "better"
    assert "b, with its tuning, is better than a at a budget of 1, 5 and 10 draws: its" in text
    assert "wins with probability 1.00, p ≤ 0.0001" in text
    worse = tuned({"b": LOW, "a": HIGH})
    ((verdict, text),) = budget_sentences(worse, budget_tests(worse))
    assert verdict == "worse"
    assert "probability 0.00" in text
    ((verdict, text),) = budget_sentences(tied, budget_tests(tied))
    assert verdict == "inconclusive"
    assert "is not decisive at a budget of 1, 5 and 10 draws" in text
    assert "p ≥ 1" in text
    few = tuned({"a": LOW[:4], "b": LOW[:4]})
    ((_, text),) = budget_sentences(few, budget_tests(few))
    assert "at a budget of 1 draw: its best" in text


def test_what_is_said_with_too_few_draws_or_variants() -> None:
    for scores, lacking, needed in (
            ({"a": [1.0, 2.0], "b": [1.0, 2.0]}, "a has 1 random draw and b has 1 random draw", 6),
            ({"a": LOW, "b": HIGH, "c": [1.0, 2.0]}, "c has 1 random draw", 7),
            ({"a": LOW, "b": HIGH, "c": [1.0]}, "c has 0 random draws", 7)):
        few = tuned(scores)
        verdict, text = budget_sentences(few, budget_tests(few))[0]
        assert verdict == ""
        assert text == (f"b and a, with their tuning, are not compared: {lacking} with a score; a "
                        f"comparison takes at least 2 of each, a decisive difference at least "
                        f"{needed}")
    whole = tuned_results({"a": LOW[:5], "b": LOW[:5]})
    gone = [f"{name}-{index}-0" for name, index in (("a", 1), ("a", 2), ("b", 3))]
    apart = budgets_of(replace(whole, runs=whole.runs.drop(index=gone)))
    assert apart is not None
    ((_, text),) = budget_sentences(apart, budget_tests(apart))
    assert "not compared: they share 1 random draw with a score; a comparison takes" in text
    alone = tuned({"a": LOW})
    assert budget_sentences(alone, budget_tests(alone)) == [
        ("", "There is only one variant: no other to compare its tuning with.")]


@pytest.mark.parametrize(("random", "apart", "variants"), [
    (5, False, "ab"), (6, False, "ab"), (6, False, "abc"), (7, False, "abc"),
    (3, True, "ab"), (4, True, "ab")])
def test_from_so_many_draws_on_a_difference_can_be_decisive(random: int, apart: bool,
                                                             variants: str) -> None:
    budgets = tuned({name: [9.0, *(10.0 * place + j for j in range(random))]
                     for place, name in enumerate(variants)})
    if apart:  # b draws another key
        declared = budgets.results.declared.with_changes(
            searched={**budgets.results.declared.searched, "b": ()})
        budgets = budgets_of(replace(budgets.results, declared=declared))
        assert budgets is not None
    tests = budget_tests(budgets)
    (verdict, text), *_ = budget_sentences(budgets, tests)
    enough = random in (4, 7) or (random, variants) == (6, "ab")
    assert (verdict == "worse") == enough
    needed = {"ab": 6, "abc": 7}[variants] if not apart else 4
    assert text.endswith(f"; {random} draws can decide nothing: a decisive difference takes at "
                         f"least {needed} of each") != enough
    assert ("can decide nothing" in text) != enough
    assert ("P is over the same n draws of both" in notes_on_tests(budgets, tests)[0]) != apart


def test_selected_and_confirmed() -> None:
    budgets = tuned({"a": [9.0, 4.0, 1.0, 3.0], "b": [1.0, 4.0, 5.0, 6.0]},
                    {"a": [2.0, 4.0], "b": [1.5, NAN]})
    first, second = budgets.variants
    assert first.first_choice is not None
    assert (first.first_choice.index, first.first_choice.rank) == (2, 1)
    assert first.first_choice.confirmed is not None
    assert first.first_choice.confirmed.mean.value == 3.0
    assert optimism(budgets, first.first_choice) == 2.0
    assert second.first_choice is not None
    assert second.first_choice.index == 0
    assert second.best_random is None
    assert second.first_choice.confirmed is not None
    assert (second.first_choice.confirmed.n, second.first_choice.confirmed.diverged) == (2, 1)
    rows = {(row.variant, row.n): row for row in table_rows(budgets, {})}
    assert rows["a", 3].draw is first.first_choice
    assert rows["b", 3].draw is None  # the best of all is the file's own setting
    assert rows["b", 0].draw is second.first_choice
    best = rows["a", 3].best
    assert best is not None
    assert best.confirmed == 3.0
    lost = table_rows(tuned({"a": [9.0, 4.0, 1.0]}, {"a": [2.0, NAN]}), {})[-1]
    assert lost.best is not None
    assert lost.best.confirmed == math.inf  # the mean of a setting that may diverge
    again = tuned({"a": [9.0, 4.0, 1.0]}, {"a": [2.0, NAN]})
    assert lost.draw is not None
    assert confirmed_mean(again, lost.draw) == optimism(again, lost.draw) == math.inf
    assert confirmed_text(again, lost, 2) == "∞ (1 of 2 diverged)"
    (of_draws,) = draws_frame([again]).query("chosen == 1").to_dict("records")
    (of_budgets,) = budgets_frame([again]).query("budget == 2").to_dict("records")
    for row in of_draws, of_budgets:
        assert (row["confirmed"], row["confirmed_diverged"]) == (math.inf, 1)
        assert math.isnan(row["confirmed_low"])
    higher = tuned({"a": [0.0, 1.0, 4.0]}, {"a": [3.0, 3.5]}, by="classifier_score")
    assert higher.variants[0].first_choice is not None
    assert optimism(higher, higher.variants[0].first_choice) == pytest.approx(0.75)
    lost_higher = tuned({"a": [0.0, 1.0, 4.0]}, {"a": [3.0, NAN]}, by="classifier_score")
    assert lost_higher.variants[0].first_choice is not None
    assert confirmed_mean(lost_higher, lost_higher.variants[0].first_choice) == -math.inf
    assert optimism(lost_higher, lost_higher.variants[0].first_choice) == math.inf


def test_only_confirm_runs_of_the_best_draw_are_compared_by_seed() -> None:
    results = tuned_results({"a": [9.0, 4.0, 1.0], "b": [9.0, 2.0, 5.0]},
                            {"a": [2.0, 4.0, 3.0], "b": [1.5, 2.5, 2.0]})
    budgets = budgets_of(results)
    assert budgets is not None
    compared = results.compared()
    assert sorted(compared.runs.index) == [f"{name}-{draw}-{seed}" for name, draw in
                                           (("a", 2), ("b", 1)) for seed in (10, 11, 12)]
    (finding,) = findings(compared)
    assert {row.variant: row.summary.n for row in finding.rows} == {"a": 3, "b": 3}
    early = tuned_results({"a": [9.0, 4.0, 1.0]})
    assert not len(early.compared().runs)


def test_equal_device_seconds() -> None:
    """Draw j costs 10 (1 + j): 20, 30 and 40 s. The mean is 30 s, all three 90 s."""
    budgets = tuned({"a": [9.0, 3.0, 2.0, 1.0]})
    one, row = cost_rows(budgets, seconds_spent)
    assert (one.n, one.cost) == (1, 30.0)
    assert (row.n, row.cost, row.draws, row.median) == (3, 90.0, 3.0, 1.0)
    slow = tuned_results({"a": [9.0, 3.0, 2.0, 1.0], "b": [9.0, 3.0, 2.0, 1.0]})
    slow.runs["seconds"] = slow.runs["seconds"].where(slow.runs["variant"] == "a",
                                                      3 * slow.runs["seconds"])
    both = budgets_of(slow)
    assert both is not None
    of_b = cost_rows(both, seconds_spent)[-1]
    # 60, 90 and 120 s: 90 s pay for one draw in 4 of 6 orders, and for none if 120 s come first.
    assert of_b.draws == pytest.approx(4 / 6)
    assert of_b.median == 3.0


def test_equal_images() -> None:
    """D is shown 64 images a step of 100 steps, times d_steps, here 1, 2, 4 in draws 1, 2, 3."""
    results = tuned_results({"a": [9.0, 3.0, 2.0, 1.0]})
    results.runs["params.d_steps"] = ["1", "1", "2", "4"]
    budgets = budgets_of(results)
    assert budgets is not None
    unit = BATCH * STEPS
    assert [draw.images for draw in budgets.variants[0].draws] == [unit, unit, 2 * unit, 4 * unit]
    one, row = cost_rows(budgets, images_shown)
    assert (one.n, one.cost) == (1, pytest.approx(7 / 3 * unit))
    # 7/3 pay for a first draw of 1 (2 orders) or 2 units (2 orders), and for none if 4 come first.
    assert (one.draws, one.good, one.median) == (pytest.approx(4 / 6), 2.0, 3.0)
    assert (row.n, row.cost, row.draws, row.median) == (3, 7 * unit, 3.0, 1.0)
    results.runs["params.d_steps"] = ""
    unknown = budgets_of(results)
    assert unknown is not None
    assert math.isnan(cost_rows(unknown, images_shown)[0].median)


def test_costs_beyond_what_is_known() -> None:
    cheap = tuned_results({"a": [9.0, 3.0, 2.0, 1.0], "b": [9.0, 3.0, 2.0, 1.0]})
    cheap.runs["seconds"] = cheap.runs["seconds"].where(cheap.runs["variant"] == "a",
                                                        0.5 * cheap.runs["seconds"])
    budgets = budgets_of(cheap)
    assert budgets is not None
    assert math.isnan(cost_rows(budgets, seconds_spent)[-1].median)
    unknown = tuned_results({"a": [9.0, 3.0, 2.0, 1.0]}, seconds=0.0)
    budgets = budgets_of(unknown)
    assert budgets is not None
    assert math.isnan(cost_rows(budgets, seconds_spent)[0].median)


def test_all_draws_of_the_reference_are_paid_for_by_their_own_cost() -> None:
    """These costs sum to less than 3 times their mean, by the last bit."""
    costs = [0.1, 0.6, 0.1]
    assert np.sum(costs) < np.mean(costs) * 3
    results = tuned_results({"a": [9.0, 3.0, 2.0, 1.0]})
    results.runs["seconds"] = [1.0, *costs]
    budgets = budgets_of(results)
    assert budgets is not None
    row = cost_rows(budgets, seconds_spent)[-1]
    assert (row.n, row.draws, row.median) == (3, 3.0, 1.0)


def test_what_a_variant_was_given() -> None:
    budgets = tuned({"plain": [9.0, 3.0, NAN], "r1": [9.0, 3.0, 2.0]}, {"r1": [2.0, 3.0]})
    plain, r1 = budgets.variants
    assert len(plain.dimensions) == 3
    assert len(r1.dimensions) == 4
    assert plain.select_seconds == 60.0
    assert (plain.confirm_seconds, r1.confirm_seconds) == (0.0, 20.0)
    steps = [STEPS, STEPS, STEPS // 2]
    d_steps = [1, *(int(draw.values["d_steps"]) for draw in plain.random)]
    assert plain.images == sum(n * d * BATCH for n, d in zip(steps, d_steps, strict=True))
    assert math.isnan(images_of(budgets.results.runs.drop(columns="params.batch_size")))


def test_how_much_of_the_space_the_default_beats() -> None:
    budgets = tuned({"a": [5.0, *[9.0] * 8, *[1.0] * 2]})
    share = default_percentile(budgets, budgets.variants[0])
    assert share is not None
    assert share.value == 0.8
    assert (share.low, share.high) == pytest.approx((0.4439, 0.9748), abs=1e-4)  # Clopper–Pearson
    assert default_percentile(budgets, replace(budgets.variants[0], has_default=False)) is None


@pytest.mark.parametrize("side", ["upper", "lower"])
def test_best_draws_at_a_bound_are_named(side: str) -> None:
    """Scores that fall towards one bound on the logarithmic scale, and none that does not."""
    n = 60
    blank = tuned({"a": [1.0] * n}).variants[0]
    (lr,) = [each for each in blank.dimensions if each.key == "g_optimizer.lr"]
    places = [lr.place(float(draw.values[lr.key])) for draw in blank.random]
    edge = [place if side == "lower" else 1 - place for place in places]
    budgets = tuned({"a": [9.0, *edge]})
    (warned,) = edges_of(budgets.variants[0], budgets.sign)
    assert (warned.key, warned.is_upper) == ("g_optimizer.lr", side == "upper")
    assert warned.of == 6  # a tenth of 59
    assert warned.near == 6
    best = min(zip(edge, blank.random, strict=True), key=lambda pair: pair[0])[1]
    assert warned.value == best.values[lr.key]
    assert warned.bound == (1e-1 if side == "upper" else 1e-5)
    (line,) = edge_warnings(budgets)
    assert f"within 5% of the {side} bound, {warned.bound:g}, and 6 of the 6 best" in line
    middle = tuned({"a": [9.0, *(abs(place - 0.5) for place in places)]})
    assert not edges_of(middle.variants[0], middle.sign)
    # The best alone at the bound, and the others in the middle: chance.
    alone = [0.0 if place == min(edge) else 1 + abs(place - 0.5) for place in edge]
    assert not edges_of(tuned({"a": [9.0, *alone]}).variants[0], 1.0)
    # The best in the quarter beside the bound, and none within 5% of it.
    beside = [abs(place - 0.1) if place > 0.06 else 1.0 for place in edge]
    assert not edges_of(tuned({"a": [9.0, *beside]}).variants[0], 1.0)
    mostly_lost = tuned({"a": [9.0, *([NAN] * (n - 2)), 1.0]})
    assert not edges_of(mostly_lost.variants[0], mostly_lost.sign)  # one draw says nothing


@pytest.mark.parametrize(("low", "high"), [(2, 3), (2, 6), (2, 12), (2, 40)])
def test_integers_at_a_bound_by_chance_are_seldom_named(low: int, high: int) -> None:
    """1,000 searches of 20 draws whose scores have nothing to do with the setting."""
    space = {"d_steps": {"int_uniform": [low, high]}}
    one = tuned({"a": [9.0, *[1.0] * 20]}, space=space).variants[0]
    rng, named = np.random.default_rng(high), 0
    for _ in range(1_000):
        draws = [replace(draw, selected=float(score), values={
            "d_steps": str(rng.integers(low, high + 1))})
            for draw, score in zip(one.draws, rng.normal(size=21), strict=True)]
        named += bool(edges_of(replace(one, draws=tuple(draws)), 1.0))
    assert named <= 65  # 4% and four standard errors


@pytest.mark.parametrize(("low", "high", "best", "expected"), [
    (1, 5, 5, [5.0]), (1, 5, 1, []), (2, 6, 2, [2.0]), (2, 6, 6, [6.0])])
def test_integers_that_get_better_up_to_a_bound(low: int, high: int, best: int,
                                                expected: list[float]) -> None:
    """The setting d_steps itself ends at 1: a wider space has no lower values."""
    space = {"d_steps": {"int_uniform": [low, high]}}
    one = tuned({"a": [9.0, *[1.0] * 30]}, space=space).variants[0]
    draws = [replace(draw, selected=abs(int(draw.values["d_steps"]) - best) + draw.index / 100)
             for draw in one.draws]
    edges = edges_of(replace(one, draws=tuple(draws)), 1.0)
    assert [edge.bound for edge in edges] == expected
    width = {"model.width": {"int_uniform": [1, 4096]}}  # both are the limits of every model
    wide = tuned({"a": [9.0, *[1.0] * 20]}, space=width).variants[0]
    for near in ("1", "4096"):
        draws = [replace(draw, values={"model.width": near}) for draw in wide.draws]
        assert not edges_of(replace(wide, draws=tuple(draws)), 1.0)


def test_places_on_the_scale_of_the_distribution() -> None:
    (lr, steps, width) = tuned({"a": [1.0, 2.0]}).variants[0].dimensions
    assert lr.place(1e-3) == pytest.approx(0.5)
    assert width.place(36) == 0.5
    assert steps.options == ("1", "2", "5")
    assert not steps.is_number


def test_where_draws_diverge() -> None:
    n = 40
    blank = tuned({"a": [1.0] * n}).variants[0]
    lr, steps, _ = blank.dimensions
    lost = [lr.place(float(draw.values[lr.key])) >= 0.8 for draw in blank.random]
    budgets = tuned({"a": [1.0, *(NAN if each else 2.0 for each in lost)]})
    edges, shares = diverged_shares(budgets.variants[0], lr)
    assert edges == pytest.approx([1e-5 * 10 ** (0.8 * i) for i in range(6)])
    assert list(shares) == [0, 0, 0, 0, 1]
    edges, shares = diverged_shares(budgets.variants[0], steps)
    assert list(edges) == [0, 1, 2, 3]
    of_five = [each for each, draw in zip(lost, blank.random, strict=True)
               if draw.values["d_steps"] == "5"]
    assert shares[2] == pytest.approx(np.mean(of_five))
    few = tuned({"a": [1.0, 2.0]}).variants[0]
    assert np.isnan(diverged_shares(few, lr)[1]).sum() == 4


def test_labels_reach_the_draws() -> None:
    results = tuned_results({"plain": LOW, "r1": HIGH}, labels={"r1": "With R1"})
    budgets = budgets_of(labelled(results))
    assert budgets is not None
    assert [each.variant for each in budgets.variants] == ["plain", "With R1"]
    shown = budgets.variants[1]
    assert len(shown.dimensions) == 4
    assert shown.first_choice is not None


def test_selection_on_the_reported_measure_is_said() -> None:
    budgets = tuned({"a": [9.0, 4.0, 1.0]})
    (sentence,) = choice_notes(budgets, ["fd_classifier"])
    assert "selected by fd_classifier, which is reported too" in sentence
    assert choice_notes(budgets, ["other"]) == []


def test_na_draws_are_no_draws() -> None:
    """A run of another grid in the frame, as MLflow may hold one, is left out."""
    results = tuned_results({"a": [9.0, 4.0, 1.0]})
    extra = results.runs.iloc[[0]].assign(draw=pd.NA, stage="")
    extra.index = ["other"]
    runs = pd.concat([results.runs, extra])
    runs["draw"] = runs["draw"].astype("Int64")
    budgets = budgets_of(replace(results, runs=runs))
    assert budgets is not None
    assert len(budgets.variants[0].draws) == 3
