"""The figures of budgets: what is drawn is what the draws hold, at every size."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from helpers.tuned import tuned, tuned_results
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gan_bench.compare.labels import labelled
from gan_bench.compare.search.budget_numbers import lines_of
from gan_bench.compare.search.budgets import Budgets, budgets_of
from gan_bench.report.figures import Look, drawn_for, render
from gan_bench.report.figures.budget_choice import selected_against_confirmed
from gan_bench.report.figures.budget_space import scores_against_space
from gan_bench.report.figures.budgets import (
    best_against_budget,
    best_against_seconds,
    chance_against_budget,
)

NAN = math.nan
ALL = (best_against_budget, best_against_seconds, chance_against_budget, scores_against_space,
       selected_against_confirmed)
LOW = [9.0, *(10.0 + (7 * j) % 29 for j in range(1, 30))]
LOST = [50.0, *(NAN if j % 4 == 0 else 40.0 + (5 * j) % 29 for j in range(1, 30))]


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """Nothing may put a warning on a user's screen."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def panel(figure: Figure) -> Axes:
    axes: Axes = figure.axes[0]
    return axes


def line(axes: Axes, label: str) -> tuple[list[float], list[float]]:
    (one,) = [each for each in axes.lines if each.get_label() == label]
    return list(one.get_xdata()), list(one.get_ydata())


def notes(figure: Figure) -> str:
    return " ".join(figure.caption)  # type: ignore[attr-defined]


def test_the_line_is_the_median_and_the_band_its_interval() -> None:
    budgets = tuned({"plain": LOST, "r1": LOW})
    axes = panel(best_against_budget(budgets))
    bests = lines_of(budgets)[1].bests
    bounded = [best for best in bests if best.has_interval]
    assert len(bounded) == 5  # of 29 draws: 29 / 5.32
    x, y = line(axes, "_bounded r1")
    assert x == [best.n for best in bounded]
    assert y == [best.median for best in bounded]
    x, y = line(axes, "_beyond r1")
    assert x == [best.n for best in bests[4:]]
    assert y == [best.median for best in bests[4:]]
    (band,) = [each for each in axes.collections if each.get_label() == "_band r1"]
    corners = band.get_paths()[0].vertices
    for best in bounded:
        at = corners[corners[:, 0] == best.n, 1]
        assert (at.min(), at.max()) == (best.low, best.high)
    assert axes.get_xscale() == "log"
    (dashed,) = [each for each in axes.lines if each.get_label() == "_beyond r1"]
    (solid,) = [each for each in axes.lines if each.get_label() == "_bounded r1"]
    assert dashed.get_linestyle() != solid.get_linestyle() == "-"


def test_the_default_and_the_budgets_of_the_table_are_marked() -> None:
    axes = panel(best_against_budget(tuned({"plain": LOST, "r1": LOW})))
    assert set(line(axes, "_default plain")[1]) == {50.0}
    assert set(line(axes, "_default r1")[1]) == {9.0}
    marks = [each.get_xdata()[0] for each in axes.lines if each.get_label() == "_budget"]
    assert marks == [1, 5, 10, 29]
    low, high = axes.get_ylim()
    assert low < 9.0
    assert high > 50.0
    far = panel(best_against_budget(tuned({"plain": [300.0, *LOW[1:]]})))
    assert far.get_ylim()[1] > 300.0
    drawn = panel(best_against_budget(tuned({"plain": LOST, "r1": LOW}, defaults=False)))
    assert not [each for each in drawn.lines if str(each.get_label()).startswith("_default")]


def test_a_line_begins_where_its_median_is_finite() -> None:
    lost = [9.0, *(NAN if j % 4 else 1.0 + j for j in range(1, 17))]  # 12 of 16 diverged
    figure = best_against_budget(tuned({"plain": lost}))
    _, y = line(panel(figure), "_beyond plain")
    first = next(best.n for best in lines_of(tuned({"plain": lost}))[0].bests
                 if math.isfinite(best.median))
    assert first == 3
    assert list(np.isfinite(line(panel(figure), "_bounded plain")[1])) == [False, False, True]
    assert "half of the draws diverged" in notes(figure)
    assert np.isfinite(y[-1])


def test_the_chance_is_drawn_with_its_two_levels() -> None:
    budgets = tuned({"plain": LOST, "r1": LOW})
    axes = panel(chance_against_budget(budgets))
    beats = lines_of(budgets)[1].beats
    parts = [each for each in axes.lines if each.get_label() == "_beats r1"]
    assert [list(each.get_ydata()) for each in parts] == [list(beats[:14]), list(beats[13:])]
    levels = [each.get_ydata()[0] for each in axes.lines if each.get_label() == "_level"]
    assert levels == [0.5, 0.75]
    alone = chance_against_budget(tuned({"plain": LOW}))
    assert not alone.axes[0].lines


def test_seconds_end_where_the_draws_are_spent() -> None:
    budgets = tuned({"plain": [9.0, 3.0, 2.0, 1.0]})
    x, y = line(panel(best_against_seconds(budgets)), "_paid plain")
    assert x[0] == pytest.approx(30 / 3600)
    assert x[-1] == pytest.approx(90 / 3600)
    assert (y[0], y[-1]) == (3.0, 1.0)


def test_each_setting_is_on_the_scale_of_its_distribution() -> None:
    budgets = tuned({"plain": LOST, "r1": LOW})
    figure = scores_against_space(budgets)
    upper = [axes for axes in figure.axes if any(
        str(each.get_label()).startswith("_draws") for each in axes.lines)]
    assert [axes.get_xscale() for axes in upper] == ["log", "linear", "linear", "log"]
    shown = [[str(each.get_label()) for each in axes.lines] for axes in upper]
    assert "_draws plain" in shown[0]
    assert "_draws plain" not in shown[3]  # it lacks the key
    x, y = line(upper[0], "_draws r1")
    of_r1 = budgets.variants[1]
    assert x == [float(draw.values["g_optimizer.lr"]) for draw in of_r1.random]
    assert y == [draw.selected for draw in of_r1.random]


def test_diverged_draws_are_ticks_beyond_the_worst_score() -> None:
    budgets = tuned({"plain": LOST, "r1": LOW})
    figure = scores_against_space(budgets)
    x, y = line(figure.axes[0], "_diverged plain")
    lost = [draw for draw in budgets.variants[0].random if math.isinf(draw.selected)]
    assert len(x) == len(lost) == 7
    worst = max(draw.selected for draw in budgets.variants[0].random
                if math.isfinite(draw.selected))
    assert min(y) > worst
    assert max(y) < figure.axes[0].get_ylim()[1]
    assert "7 of 29 diverged" in figure.legends[0].get_texts()[0].get_text()
    higher = scores_against_space(tuned({"plain": LOST}, by="classifier_score"))
    _, y = line(higher.axes[0], "_diverged plain")
    assert max(y) < 40.0
    assert "below the scores" in notes(higher)


def test_the_chosen_draw_is_ringed_unless_it_lies_outside() -> None:
    inside = scores_against_space(tuned({"plain": LOST}))
    assert any(each.get_label() == "_chosen plain" for each in inside.axes[0].lines)
    results = tuned_results({"plain": [1.0, *LOST[1:]]})  # the file's own setting
    results.runs["params.g_optimizer.lr"] = "5.0"  # beyond the upper bound
    results.runs["params.d_steps"] = "3"  # no option
    outside = budgets_of(results)
    assert outside is not None
    assert outside.variants[0].first_choice is outside.variants[0].default
    figure = scores_against_space(outside)
    of_chosen = [axes for axes in figure.axes
                 if any(each.get_label() == "_chosen plain" for each in axes.lines)]
    assert len(of_chosen) == 1  # of model.width, which is inside


def test_selected_against_confirmed() -> None:
    budgets = tuned({"plain": [9.0, 4.0, 1.0], "r1": [9.0, 2.0, 5.0]},
                    {"plain": [2.0, 4.0], "r1": [1.5, 2.5]})
    axes = panel(selected_against_confirmed(budgets))
    assert line(axes, "_selected plain") == ([1.0], [0])
    assert line(axes, "_confirmed plain")[0] == [3.0]
    assert line(axes, "_confirmed r1")[0] == [2.0]
    assert [each.get_text() for each in axes.get_yticklabels()] == [
        "plain\ndraw 2", "r1\ndraw 1"]


def several(n: int) -> Budgets:
    rng = np.random.default_rng(1)
    return tuned({f"variant-{i}": list(rng.lognormal(3, 0.3, 25)) for i in range(n)},
                 {f"variant-{i}": list(rng.lognormal(3, 0.3, 3)) for i in range(n)})


@pytest.mark.parametrize("draw", ALL)
@pytest.mark.parametrize("look", [Look(), Look(3.25, "serif", has_titles=False)],
                         ids=["page", "column"])
def test_every_figure_can_be_drawn(draw: Callable[[Budgets], Figure], look: Look) -> None:
    waiting = tuned_results({"plain": [3.0, 2.0], "r1": [3.0, 2.0]})
    waiting.runs["status"] = "RUNNING"
    early = budgets_of(waiting)
    assert early is not None
    for budgets in (several(2), several(11), tuned({"plain": [NAN] * 6}), tuned({"plain": [1.0]}),
                    early, tuned({"plain": [-1.0, -2.0, -2.0], "r1": [0.0, 0.0, 0.0]})):
        with drawn_for(look):
            figure = draw(budgets)
            assert render(figure, "svg") == render(draw(budgets), "svg")


def test_labels_stand_in_the_figures() -> None:
    budgets = budgets_of(labelled(tuned_results({"plain": LOST, "r1": LOW},
                                                labels={"r1": "R1 $x_1$"})))
    assert budgets is not None
    texts = b"".join(render(draw(budgets), "svg") for draw in ALL[:2])
    assert b"R1 $x_1$" in texts
