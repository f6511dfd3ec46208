"""The key `search`: what is drawn, which runs that makes, and every error at its place."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from helpers.searches import SEARCH, load_search
from scipy.stats import chisquare, kstest, pearsonr

from gan_bench.config.declared import comparison_tag, read_declared
from gan_bench.config.experiment import load_experiment
from gan_bench.config.run_id import id_of
from gan_bench.config.search.draws import uniform_index, uniform_share
from gan_bench.config.search.space import Distribution, parse_distribution
from gan_bench.config.spec import RunSpec
from gan_bench.errors import SpecError
from gan_bench.journal.spec_file import read_spec


def settings(run: RunSpec) -> tuple[object, ...]:
    gammas = [part.args.get("gamma") for part in run.penalties]
    return run.g_optimizer.args["lr"], run.d_steps, *gammas


def by_draw(runs: tuple[RunSpec, ...]) -> dict[tuple[str, int | None], RunSpec]:
    return {(run.variant, run.draw): run for run in runs}


def test_draw_0_is_the_files_own_setting_and_the_others_are_drawn(tmp_path: Path) -> None:
    runs = load_search(tmp_path).runs
    assert [(run.variant, run.draw, run.stage, run.seed) for run in runs] == [
        (variant, draw, "select", 0) for variant in ("unpenalised", "r1") for draw in range(3)]
    assert settings(runs[0]) == (2e-4, 1)
    assert settings(runs[3]) == (2e-4, 1, 1.0)
    for run in (*runs[1:3], *runs[4:]):
        lr, d_steps, *gammas = settings(run)
        assert 1e-5 <= lr <= 1e-3
        assert d_steps in (1, 2, 3)
        assert all(0.01 <= gamma <= 100 and gamma != 1.0 for gamma in gammas)


def test_draw_0_is_the_run_of_the_same_file_without_a_search(tmp_path: Path) -> None:
    first = load_search(tmp_path).runs[0]
    plain = load_search(tmp_path, "search=null", "seeds=[0]").runs[0]
    assert (first.id, plain.draw, plain.stage) == (plain.id, None, "")
    assert id_of(first.model_dump(mode="json")) == plain.id


def test_without_defaults_draw_0_is_drawn_too(tmp_path: Path) -> None:
    own, drawn = (by_draw(load_search(tmp_path, f"search.defaults={each}").runs)
                  for each in ("true", "false"))
    assert settings(drawn["r1", 0]) != (2e-4, 1, 1.0)
    assert own["r1", 0].id != drawn["r1", 0].id
    assert all(own[key].id == drawn[key].id for key in own if key[1])


def test_more_draws_keep_the_earlier_ones(tmp_path: Path) -> None:
    few, many = (load_search(tmp_path, f"search.draws={draws}").runs for draws in (20, 50))
    assert len(few) == 40
    assert len(many) == 100
    assert {run.id for run in few} < {run.id for run in many}
    assert all(by_draw(many)[key].id == run.id for key, run in by_draw(few).items())


def test_another_key_leaves_the_values_of_the_others(tmp_path: Path) -> None:
    before = by_draw(load_search(tmp_path, "search.draws=10").runs)
    after = by_draw(load_search(tmp_path, "search.draws=10",
                                "search.space.d_optimizer.lr={uniform: [1e-4, 2e-4]}").runs)
    for key, run in before.items():
        assert settings(after[key]) == settings(run)
        assert (after[key].id == run.id) == (key[1] == 0)


def test_variants_share_the_draws_of_the_keys_that_they_share(tmp_path: Path) -> None:
    runs = by_draw(load_search(tmp_path, "search.draws=8").runs)
    values = [settings(runs["r1", draw])[:2] for draw in range(8)]
    assert values == [settings(runs["unpenalised", draw]) for draw in range(8)]
    assert len(set(values)) == 8


def test_another_seed_of_the_search_gives_other_draws(tmp_path: Path) -> None:
    first, second = (by_draw(load_search(tmp_path, f"search.seed={seed}").runs) for seed in (7, 8))
    assert first["r1", 0].id == second["r1", 0].id
    assert settings(first["r1", 1]) != settings(second["r1", 1])


@pytest.mark.parametrize(("given", "low", "high"), [
    ({"uniform": [-2, 3]}, -2, 3), ({"log_uniform": [1e-6, 10]}, math.log(1e-6), math.log(10)),
])
def test_real_numbers_are_uniform_on_their_scale_with_four_digits(
        given: dict[str, object], low: float, high: float) -> None:
    space = parse_distribution(given)
    values = [space.drawn(3, "x", draw) for draw in range(4000)]
    assert all(float(f"{value:.4g}") == value for value in values)
    places = [math.log(value) if "log_uniform" in given else value for value in values]
    assert kstest([(place - low) / (high - low) for place in places], "uniform").pvalue > 0.01
    assert len(set(values)) > 3000


def test_integers_and_choices_are_as_likely_as_each_other_with_both_bounds() -> None:
    for given, values in (({"int_uniform": [2, 6]}, [2, 3, 4, 5, 6]),
                          ({"choice": ["a", 1, None]}, ["a", 1, None])):
        space = parse_distribution(given)
        drawn = [space.drawn(0, "key", draw) for draw in range(5000)]
        counts = [drawn.count(value) for value in values]
        assert sum(counts) == 5000
        assert chisquare(counts).pvalue > 0.01


def test_keys_draws_and_seeds_have_independent_numbers() -> None:
    shares = [uniform_share(seed, key, draw) for seed in (0, 1) for key in ("a", "b")
              for draw in range(1000)]
    assert len(set(shares)) == 4000
    assert kstest(shares, "uniform").pvalue > 0.01
    assert {uniform_index(0, "a", draw, 3) for draw in range(50)} == {0, 1, 2}


def test_the_numbers_of_keys_seeds_and_draws_are_not_correlated() -> None:
    """Between any two sequences, at the same draw and at the next one."""
    sequences = [[uniform_share(seed, key, draw) for draw in range(2000)]
                 for seed, key in ((0, "a"), (1, "a"), (0, "b"), (0, "aa"), (7, "g_optimizer.lr"))]
    for i, first in enumerate(sequences):
        for j, second in enumerate(sequences):
            for shift in (0, 1):
                if i != j or shift:
                    r = pearsonr(first[:len(first) - shift], second[shift:]).statistic
                    assert abs(r) < 4 / math.sqrt(2000), (i, j, shift)  # p = 6e-5 for each of 45


def test_a_value_is_the_same_today_and_tomorrow() -> None:
    assert parse_distribution({"log_uniform": [1e-5, 1e-3]}).drawn(7, "g_optimizer.lr", 1) == (
        0.0001654)
    assert parse_distribution({"int_uniform": [1, 100]}).drawn(7, "d_steps", 5) == 26


def test_rounding_stays_within_the_bounds() -> None:
    space = Distribution(uniform=[1.00004, 1.00005])
    assert {space.drawn(0, "x", draw) for draw in range(20)} == {1.00004}


def test_equal_draws_are_one_run(tmp_path: Path) -> None:
    text = SEARCH.replace("d_steps: {int_uniform: [1, 3]}", "").replace(
        "g_optimizer.lr: {log_uniform: [1e-5, 1e-3]}", "d_steps: {choice: [1, 2]}")
    spec = load_search(tmp_path, "search.draws=12", text=text)
    assert len([run for run in spec.runs if run.variant == "unpenalised"]) == 2
    groups = spec.declared.shared["unpenalised"]
    assert groups[0][0] == 0
    assert sorted(draw for group in groups for draw in group) == [*range(12)]
    assert "r1" not in spec.declared.shared
    assert len(spec.declared.draws["unpenalised"]) == 12


def test_a_variant_without_a_drawn_key_has_one_run(tmp_path: Path) -> None:
    text = SEARCH.replace("    g_optimizer.lr: {log_uniform: [1e-5, 1e-3]}\n", "").replace(
        "    d_steps: {int_uniform: [1, 3]}\n", "")
    spec = load_search(tmp_path, text=text)
    assert [(run.variant, run.draw) for run in spec.runs] == [
        ("unpenalised", 0), ("r1", 0), ("r1", 1), ("r1", 2)]
    assert spec.declared.shared == {"unpenalised": ((0, 1, 2),)}
    assert spec.declared.searched == {"unpenalised": (), "r1": ("penalties.r1.gamma",)}


def test_a_confirm_run_is_the_draw_under_another_seed(tmp_path: Path) -> None:
    run = load_search(tmp_path).runs[4]
    other = run.confirmed(10)
    assert (other.stage, other.draw, other.seed, other.variant) == ("confirm", 1, 10, "r1")
    assert other.settings == run.settings
    assert other.id != run.id
    assert other.id == run.with_seed(10).id  # names are no part of it
    assert read_spec(other.write(tmp_path)) == other


@pytest.mark.parametrize("search", [
    {"draws": "three"}, {}, [], "random", 3, {"draws": 3, "space": {"x": {"normal": [0, 1]}}}])
def test_a_search_that_cannot_be_read_is_no_ordinary_study(search: object) -> None:
    """Whose draws would be compared as runs, with a verdict."""
    with pytest.raises(ValueError, match=r"^search"):
        read_declared(json.dumps({"baseline": "a", "search": search}))
    assert read_declared('{"baseline": "a", "search": null}').search is None


def test_given_statistics_are_what_selects_by_a_frechet_distance(tmp_path: Path) -> None:
    np.savez(tmp_path / "real.npz", mu=np.zeros(3), sigma=np.eye(3))
    given = ("evaluate.reference={statistics: real.npz}",
             "evaluate.metrics=[fd_random, kd_random]")
    assert load_search(tmp_path, *given).declared.select_reference == "statistics"
    other = load_search(tmp_path, *given, "search.select.by=kd_random").declared
    assert other.select_reference == "train"


def test_too_many_equal_draws_are_named(tmp_path: Path) -> None:
    """The tag says which draws are equal, and that is never left out."""
    text = SEARCH.replace("d_steps: {int_uniform: [1, 3]}", "").replace(
        "g_optimizer.lr: {log_uniform: [1e-5, 1e-3]}", "d_steps: {choice: [1, 2]}")
    why = (r"search.draws: 2,000 draws have only \d+ settings in all: which draws are the same "
           r"does not fit into MLflow's tag of the experiment; take fewer draws, ")
    with pytest.raises(SpecError, match=why):
        load_search(tmp_path, "search.draws=2000", text=text)


def test_what_is_declared_survives_a_file_and_a_tag(tmp_path: Path) -> None:
    declared = load_search(tmp_path).declared
    assert declared.seeds == (10, 11)
    assert declared.select_reference == "train"
    assert read_declared(declared.model_dump_json()) == declared
    assert read_declared(comparison_tag(declared)).search == declared.search
    large = load_search(tmp_path, "search.draws=200").declared
    kept = read_declared(comparison_tag(large))
    assert (kept.search, kept.draws) == (large.search, {})
    assert json.loads(comparison_tag(declared))["search"]["space"]["d_steps"] == {
        "int_uniform": [1, 3]}


def test_optimizer_stands_for_both_and_a_whole_part_can_be_drawn(tmp_path: Path) -> None:
    text = SEARCH.replace("g_optimizer.lr: {", "optimizer.lr: {").replace(
        "d_steps: {int_uniform: [1, 3]}",
        "loss: {choice: [hinge, {name: lsgan, a: 0.0}]}")
    for run in load_search(tmp_path, text=text).runs:
        assert run.g_optimizer.args["lr"] == run.d_optimizer.args["lr"]
        assert (run.loss.name == "non_saturating") == (run.draw == 0)


def test_only_takes_names_of_variants_that_a_matrix_makes(tmp_path: Path) -> None:
    text = SEARCH.replace("only: {penalties: r1}", "only: {variants: [r1]}")
    assert [run.id for run in load_search(tmp_path, text=text).runs] == [
        run.id for run in load_search(tmp_path).runs]
    with pytest.raises(SpecError, match="no variant draws it: no value on the axis is 'r2'"):
        load_search(tmp_path, text=SEARCH.replace("penalties: r1}", "variants: r2}"))


def test_a_matrix_without_a_valid_variant_says_what_is_wrong_with_it_alone(tmp_path: Path) -> None:
    text = SEARCH.replace("penalties: [[], [{name: r1, gamma: 1.0}]]", "penalties: []")
    with pytest.raises(SpecError, match=r"^\S*tuned.yaml:\d+:\d+: matrix.penalties: ") as refused:
        load_search(tmp_path, text=text)
    assert len(str(refused.value).splitlines()) == 1


def test_an_argument_of_an_augmentation_is_drawn(tmp_path: Path) -> None:
    runs = load_search(tmp_path, "base.augmentation=[flip,{name: ada, p: 0.5}]", "search.draws=9",
                       "search.space={augmentation.ada.p: {uniform: [0.1, 0.4]}}").runs
    found = [[(part.name, part.args.get("p")) for part in run.augmentation] for run in runs[:9]]
    assert found[0] == [("flip", None), ("ada", 0.5)]
    assert [parts[0] for parts in found] == [("flip", None)] * 9
    values = [parts[1][1] for parts in found[1:]]
    assert len({*values}) == 8
    assert all(0.1 <= value <= 0.4 for value in values)


def test_only_takes_named_variants_and_several_values(tmp_path: Path) -> None:
    text = SEARCH.replace("matrix:\n  penalties: [[], [{name: r1, gamma: 1.0}]]\n",
                          "variants: {a: {}, b: {loss: hinge}, c: {loss: wgan}}\n")
    text = text.replace("    penalties.r1.gamma: {log_uniform: [0.01, 100], "
                        "only: {penalties: r1}}\n", "")
    text = text.replace("d_steps: {int_uniform: [1, 3]}",
                        "d_steps: {choice: [2, 3], only: {variants: [a, c]}}")
    declared = load_search(tmp_path, text=text).declared
    assert declared.searched["b"] == ("g_optimizer.lr",)
    assert declared.searched["a"] == declared.searched["c"] == ("g_optimizer.lr", "d_steps")


GAMMA = "penalties.r1.gamma: {log_uniform: [0.01, 100], only: {penalties: r1}}"
STEPS = "d_steps: {int_uniform: [1, 3]}"


@pytest.mark.parametrize(("old", "new", "line", "words"), [
    ("by: fd_random, seeds: [0]", "by: fd_random, seeds: [0, 11]", 19,
     "search.confirm.seeds.1: 11 is a seed of search.select too: the best draw was chosen by its "
     "luck there, so confirm it under fresh seeds"),
    ("seeds: [10, 11]", "seeds: [10, 10]", 19, "search.confirm.seeds: 10 is given twice"),
    ("seeds: [10, 11]}", "seeds: [10], best: 4}", 19,
     "search.confirm.best: 4 is more than the 3 draws"),
    ("[1e-5, 1e-3]", "[1e-3, 1e-5]", 15,
     "search.space.g_optimizer.lr: the bounds of log_uniform are reversed: [0.001, 1e-05]; write "
     "[low, high]"),
    ("[1e-5, 1e-3]", "[1e-3, 1e-3]", 15,
     "search.space.g_optimizer.lr: the bounds of log_uniform are equal: [0.001, 0.001]; write "
     "[low, high]"),
    ("[1e-5, 1e-3]", "[0, 1e-3]", 15,
     "search.space.g_optimizer.lr: log_uniform needs bounds above 0, not [0, 0.001]: they are "
     "values, and not exponents; use uniform for a range with 0"),
    ("[1e-5, 1e-3]", "[-5, -3]", 15,
     "search.space.g_optimizer.lr: log_uniform needs bounds above 0, not [-5, -3]: they are "
     "values, and not exponents; use uniform for a range with 0"),
    ("{log_uniform: [1e-5, 1e-3]}", "{log_uniform: [1e-5, .inf]}", 15,
     "search.space.g_optimizer.lr: log_uniform has two bounds, [low, high], which are numbers, not "
     "[1e-05, inf]"),
    ("{log_uniform: [1e-5, 1e-3]}", "1e-4", 15,
     "search.space.g_optimizer.lr: is a distribution, such as {log_uniform: [1e-5, 1e-3]}, not "
     "0.0001"),
    ("log_uniform: [1e-5", "normal: [1e-5", 15,
     "search.space.g_optimizer.lr: no distribution is called 'normal'; known: uniform, "
     "log_uniform, int_uniform, choice"),
    ("{int_uniform: [1, 3]}", "{int_uniform: [1, 3.5]}", 16,
     "search.space.d_steps: int_uniform has two bounds, [low, high], which are integers, not "
     "[1, 3.5]"),
    ("{int_uniform: [1, 3]}", "{choice: [1]}", 16,
     "search.space.d_steps: choice has 1 values, and needs two; put a single one into `base`"),
    ("{int_uniform: [1, 3]}", "{choice: [1, 2, 1]}", 16,
     "search.space.d_steps: choice has 1 twice"),
    ("{int_uniform: [1, 3]}", "{choice: [0, 0.5, 0]}", 16,
     "search.space.d_steps: choice has 0 twice"),
    ("{int_uniform: [1, 3]}", "{choice: [false, 1, false]}", 16,
     "search.space.d_steps: choice has False twice"),
    ("{int_uniform: [1, 3]}", "{choice: [null, 1, null]}", 16,
     "search.space.d_steps: choice has None twice"),
    ("{int_uniform: [1, 3]}", "{choice: ['', a, '']}", 16,
     "search.space.d_steps: choice has '' twice"),
    ("{int_uniform: [1, 3]}", "{choice: [[], [a], []]}", 16,
     "search.space.d_steps: choice has [] twice"),
    ("{int_uniform: [1, 3]}", "{choice: [1, 2], uniform: [1, 2]}", 16,
     "search.space.d_steps: has 2 distributions, and needs one; known: uniform, log_uniform, "
     "int_uniform, choice"),
    ("{int_uniform: [1, 3]}", "{uniform: [1, 3]}", 16,
     "search.space.d_steps: must be a whole number, not 1.0"),
    ("{int_uniform: [1, 3]}", "{int_uniform: [0, 3]}", 16,
     "search.space.d_steps: must be at least 1, not 0"),
    (STEPS, "d_stpes: {int_uniform: [1, 3]}", 16,
     "search.space.d_stpes: no such key; did you mean 'd_steps' or 'g_steps' or 'steps'?"),
    (STEPS, "d_steps.x: {int_uniform: [1, 3]}", 16,
     "search.space.d_steps.x: d_steps has no arguments: leave out .x"),
    (STEPS, "log_every: {int_uniform: [1, 3]}", 16,
     "search.space.log_every: says what is recorded, and changes no number of a run"),
    (STEPS, "recipe: {choice: [a, b]}", 16,
     "search.space.recipe: sets many keys at once: put it on an axis of `matrix`"),
    (STEPS, "optimizer.lr: {uniform: [1e-5, 1e-3]}", 16,
     "search.space.optimizer.lr: g_optimizer.lr is in `search.space`, which sets it too: keep one "
     "of them"),
    (STEPS, "penalties: {choice: [[], [r2]]}", 16,
     "search.space.penalties: penalties is in `matrix`, which sets it too: keep one of them"),
    (", only: {penalties: r1}", "", 17,
     "search.space.penalties.r1.gamma: unpenalised has no penalty r1; name the variants that have "
     "it: `only: {AXIS: VALUE}`"),
    ("r1.gamma: {log", "r1.gama: {log", 17,
     "search.space.penalties.r1.gama: the penalty r1 has no argument gama; name the variants that "
     "have it: `only: {AXIS: VALUE}`"),
    ("only: {penalties: r1}", "only: {penalties: r2}", 17,
     "search.space.penalties.r1.gamma: no variant draws it: no value on the axis is 'r2'"),
    ("only: {penalties: r1}", "only: {penalty: r1}", 17,
     "search.space.penalties.r1.gamma.only.penalty: no variant has such an axis; did you mean "
     "'penalties'?"),
    ("by: fd_random", "by: fd_rnadom", 18,
     "search.select.by: no metric gives such a score; the final measurement has no score "
     "'fd_rnadom': did you mean 'fd_random'?"),
    ("by: fd_random", "by: d_accuracy_real", 18,
     "search.select.by: of d_accuracy_real, neither higher nor lower is better; choose another "
     "score"),
    ("  draws: 3\n", "  draws: 60000\n", 12,
     "search.draws: 2 variants × (60,000 draws × 1 seed + 1 × 2 seeds) are more than 100,000 runs"),
    ("  seed: 7\n", "  sampler: tpe\n", 13,
     "search.sampler: draws are uniform and independent, because the estimators of the best of n "
     "draws need that: an adaptive sampler or an early stop makes them invalid; leave it out"),
    ("  seed: 7\n", "  pruner: median\n", 13,
     "search.pruner: draws are uniform and independent, because the estimators of the best of n "
     "draws need that: an adaptive sampler or an early stop makes them invalid; leave it out"),
    ("  seed: 7\n", "  sede: 7\n", 13,
     "search.sede: unknown key; did you mean 'seed' or 'select'?"),
    ("base:\n", "seeds: [0]\nbase:\n", 3,
     "seeds: search.select.seeds and search.confirm.seeds are the seeds of a search: leave out "
     "these"),
])
def test_an_error_is_one_line_at_its_place(tmp_path: Path, old: str, new: str, line: int,
                                           words: str) -> None:
    assert old in SEARCH
    with pytest.raises(SpecError) as caught:
        load_search(tmp_path, text=SEARCH.replace(old, new, 1))
    assert [text.replace(f"{tmp_path}/tuned.yaml:", "").partition(": ")[2] for text in
            caught.value.lines] == [words]
    assert caught.value.lines[0].startswith(f"{tmp_path}/tuned.yaml:{line}:")


def test_a_key_of_the_matrix_is_not_drawn_too(tmp_path: Path) -> None:
    text = SEARCH.replace("matrix:\n", "matrix:\n  optimizer.lr: [1e-4, 2e-4]\n")
    with pytest.raises(SpecError, match=r"tuned.yaml:16:5: search.space.g_optimizer.lr: "
                                        r"optimizer.lr is in `matrix`, which sets it too: keep"):
        load_search(tmp_path, text=text)


def test_variants_that_differ_only_in_what_is_drawn_are_refused(tmp_path: Path) -> None:
    text = SEARCH.replace("matrix:\n  penalties: [[], [{name: r1, gamma: 1.0}]]\n",
                          "variants: {slow: {}, fast: {g_optimizer: {lr: 3e-4}}}\n")
    text = text.replace(f"    {GAMMA}\n", "")
    with pytest.raises(SpecError) as caught:
        load_search(tmp_path, text=text)
    assert caught.value.lines[0].endswith(
        "search.space: draw 1 of 'slow' and draw 1 of 'fast' are the same run: the variants "
        "differ only in what is drawn")


def test_without_a_search_seeds_are_required_as_before(tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_search(tmp_path, "search=null")
    assert caught.value.lines == [f"{tmp_path}/tuned.yaml:1:1: the key 'seeds' is missing"]


def test_set_changes_a_space_and_adds_to_it(tmp_path: Path) -> None:
    file = tmp_path / "tuned.yaml"
    file.write_text(SEARCH)
    spec = load_experiment(file, tmp_path, ["search.space.g_optimizer.lr.log_uniform=[1e-3, 1e-2]",
                                            "search.space.d_optimizer.lr={choice: [0.5, 0.25]}"])
    drawn = [run for run in spec.runs if run.draw]
    assert all(run.g_optimizer.args["lr"] >= 1e-3 for run in drawn)
    assert {run.d_optimizer.args["lr"] for run in drawn} <= {0.5, 0.25}


def test_draws_that_repeat_each_other_too_often_are_refused_at_their_key(tmp_path: Path) -> None:
    few = SEARCH[:SEARCH.index("  space:")] + (
        "  space:\n    d_steps: {choice: [1, 2, 3]}\n" + SEARCH[SEARCH.index("  select:"):])
    assert load_search(tmp_path, "search.draws=60", text=few).declared.shared
    with pytest.raises(SpecError) as caught:
        load_search(tmp_path, text=few.replace("draws: 3", "draws: 2000"))
    assert [text.partition("tuned.yaml:")[2] for text in caught.value.lines] == [
        "12:3: search.draws: 2,000 draws have only 6 settings in all: which draws are the same "
        "does not fit into MLflow's tag of the experiment; take fewer draws, or let the space have "
        "more values"]
