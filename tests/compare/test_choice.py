"""Which draws of a search are confirmed."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from helpers.searches import SEARCH, load_search

from gan_bench.compare.search.choice import (
    Choice,
    SelectRun,
    choice_of,
    choose,
    diverged_line,
    draw_score,
    select_score,
    selection_sentence,
)
from gan_bench.compare.search.confirming import confirm_runs
from gan_bench.config.declared import Declared
from gan_bench.journal.schema import Status

NAN = math.nan


def test_the_best_mean_is_chosen_and_ties_go_to_the_lower_index() -> None:
    scores = {0: 3.0, 1: 1.0, 2: 1.0, 3: 2.0}
    assert choose(scores, "lower", 1) == (1,)
    assert choose(scores, "lower", 3) == (1, 2, 3)
    assert choose(scores, "higher", 2) == (0, 3)
    assert choose(dict(reversed(scores.items())), "lower", 9) == (1, 2, 3, 0)


def test_a_draw_of_which_any_run_diverged_is_the_worst() -> None:
    assert draw_score([1.0, 2.0], "lower") == 1.5
    assert draw_score([1.0, NAN], "lower") == math.inf
    assert draw_score([NAN, 9.0], "higher") == -math.inf
    assert choose({0: math.inf, 1: 5.0}, "lower", 1) == (1,)
    assert choose({0: -math.inf, 1: 5.0}, "higher", 1) == (1,)


def test_a_draw_that_diverged_takes_no_place_of_several(tmp_path: Path) -> None:
    scores = {0: math.inf, 1: 5.0, 2: math.inf, 3: 4.0}
    assert choose(scores, "lower", 3) == (3, 1)
    assert choose({draw: -score for draw, score in scores.items()}, "higher", 3) == (3, 1)
    assert choose({0: math.inf, 1: math.inf}, "lower", 1) == ()
    declared = load_search(tmp_path).declared
    runs = selected({("unpenalised", draw): [NAN] for draw in range(3)} | {
        ("r1", draw): [1.0 if draw == 2 else NAN] for draw in range(3)})
    assert choice_of(runs, declared) == Choice({"r1": (2,)}, {}, ("unpenalised",))
    assert diverged_line(("unpenalised", "r1")) == (
        "every draw of unpenalised, r1 diverged: there is none to confirm")
    assert diverged_line(()) == ""


def test_the_order_of_seeds_changes_no_mean() -> None:
    values = [0.1, 1e16, 0.3, -1e16, 0.7]
    assert draw_score(values, "lower") == draw_score(values[::-1], "lower")
    assert draw_score(values, "lower") == pytest.approx(0.22, rel=1e-12)


@pytest.mark.parametrize(("status", "scores", "score"), [
    (Status.FINISHED, {"fid": 3.5}, 3.5), (Status.FINISHED, {}, None),
    (Status.FAILED, {"fid": 3.5}, None), (Status.KILLED, {"fid": 3.5}, None),
    (Status.RUNNING, {"fid": 3.5}, None), (Status.WAITING, {}, None)])
def test_only_a_result_counts(status: Status, scores: dict[str, float], score: float | None,
                              ) -> None:
    assert select_score(status, scores, "fid") == score


@pytest.mark.parametrize(("status", "value"), [
    (Status.DIVERGED, 3.5), (Status.FINISHED, math.inf), (Status.FINISHED, 1e70),
    (Status.FINISHED, NAN)])
def test_divergence_and_scores_that_are_no_numbers_are_nan(status: Status, value: float) -> None:
    score = select_score(status, {"fid": value}, "fid")
    assert score is not None
    assert math.isnan(score)


def selected(scores: dict[tuple[str, int], list[float | None]]) -> list[SelectRun]:
    return [SelectRun(variant, draw, seed, score) for (variant, draw), values in scores.items()
            for seed, score in enumerate(values)]


def test_a_variant_chooses_when_all_of_its_runs_have_a_result(tmp_path: Path) -> None:
    declared = load_search(tmp_path, "search.select.seeds=[0, 1]").declared
    runs = selected({("unpenalised", 0): [3.0, 3.0], ("unpenalised", 1): [1.0, 1.5],
                     ("unpenalised", 2): [0.5, NAN],
                     ("r1", 0): [3.0, 3.0], ("r1", 1): [1.0, None]})  # draw 2 has not begun
    assert choice_of(runs, declared) == Choice({"unpenalised": (1,)}, {"r1": 3})
    runs += selected({("r1", 1): [1.0, 2.0], ("r1", 2): [9.0, 9.0]})
    runs += selected({("r1", 3): [0.0, 0.0], ("other", 0): [0.0, 0.0]})  # of no draw of the file
    assert choice_of(runs, declared) == Choice({"unpenalised": (1,), "r1": (1,)}, {})


def test_equal_draws_are_chosen_once(tmp_path: Path) -> None:
    text = SEARCH.replace("    g_optimizer.lr: {log_uniform: [1e-5, 1e-3]}\n", "").replace(
        "d_steps: {int_uniform: [1, 3]}", "d_steps: {choice: [1, 2]}")
    declared = load_search(tmp_path, "search.draws=6", "search.confirm.best=2", text=text).declared
    (zero, *_), (other, *_) = declared.shared["unpenalised"]
    runs = selected({("unpenalised", zero): [2.0], ("unpenalised", other): [1.0]})
    assert choice_of(runs, declared).draws == {"unpenalised": (other, zero)}


def test_without_a_search_nothing_is_chosen() -> None:
    assert choice_of([], Declared(variants=("a",))) == Choice({}, {})


def test_confirm_runs_are_those_of_the_chosen_draws(tmp_path: Path) -> None:
    spec = load_search(tmp_path, "search.confirm.best=2")
    runs = confirm_runs(spec.runs, Choice({"r1": (2, 0)}, {"unpenalised": 1}), spec.declared)
    assert [(run.variant, run.draw, run.stage, run.seed) for run in runs] == [
        ("r1", draw, "confirm", seed) for draw in (2, 0) for seed in (10, 11)]
    assert runs[0].settings == spec.declared.draws["r1"][2]
    assert not {run.id for run in runs} & {run.id for run in spec.runs}


def test_a_report_says_by_what_examples_draws_were_selected(tmp_path: Path) -> None:
    declared = load_search(tmp_path).declared
    assert "against the same training examples; scores against test examples had no part" in (
        selection_sentence(declared))
    tested = declared.with_changes(select_reference="test")
    assert "so fd_random is optimistic by what suits these examples" in selection_sentence(tested)
    given = selection_sentence(declared.with_changes(select_reference="statistics"))
    assert "against the same given statistics, so fd_random is optimistic by what suits" in given
    neither = selection_sentence(declared.with_changes(select_reference=""))
    assert neither.endswith("the reported score is that of other seeds.")
    assert selection_sentence(Declared()) == ""
