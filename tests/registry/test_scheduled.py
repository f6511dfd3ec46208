"""Numbers that change over a run: their values, and what is refused of them."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from helpers.runs import a_run, write_experiment

from gan_bench.config.annealing import annealed_keys
from gan_bench.config.experiment import load_experiment
from gan_bench.errors import SpecError
from gan_bench.registry import AUGMENTATIONS, OPTIMIZERS, PENALTIES, Scheduled


def test_a_line_and_half_a_cosine_between_points() -> None:
    points = [[10, 1.0], [20, 3.0], [40, 2.0]]
    line = Scheduled(points=points)
    assert [line.at(done + 1, 99, 1) for done in (0, 9, 10, 13, 20, 25, 39, 40, 90)] == (
        pytest.approx([1, 1, 1, 1.6, 3, 2.75, 2.05, 2, 2], rel=1e-15))
    wave = Scheduled(points=points, shape="cosine")
    assert wave.at(16, 99, 1) == pytest.approx(2, rel=1e-15)  # half-way
    assert wave.at(14, 99, 1) == pytest.approx(2 - math.cos(0.3 * math.pi), rel=1e-15)
    assert wave.at(31, 99, 1) == pytest.approx(2.5, rel=1e-15)
    assert (wave.at(21, 99, 1), wave.at(41, 99, 1), wave.first) == (3, 2, 1)


def test_places_are_steps_images_or_shares_of_the_run() -> None:
    """The first step has nothing done; the last has all but one."""
    assert Scheduled(points=[[0, 0], [64, 1]]).at(17, 32, 8) == 0.25
    assert Scheduled(points=[[0, 0], [64, 1]], unit="images").at(5, 32, 8) == 0.5
    assert Scheduled(points=[[0, 0], [1, 1]], unit="run").at(9, 32, 8) == 0.25
    assert Scheduled(points=[[0, 0], [0.5, 1]], unit="run").at(9, 32, 8) == 0.5


POINTS = "{points: [[0, 0.5], [3, 0.2]]}"


@pytest.mark.parametrize(("key", "given", "message"), [
    ("penalties", "[{name: r1, gamma: {points: [[0, 1], [4, 2], [4, 3]]}}]",
     "the places of its points must increase, but 4 follows 4"),
    ("penalties", "[{name: r1, gamma: {points: [[3, 1], [2, 2]]}}]",
     "the places of its points must increase, but 2 follows 3"),
    ("penalties", "[{name: r1, gamma: {points: [[-1, 1], [2, 2]]}}]",
     "its points begin at 0 or later, not at -1"),
    ("penalties", "[{name: r1, gamma: {points: [[0, 1], [2, 0]]}}]",
     "its values must be greater than 0, and that at 2 is 0"),
    ("penalties", "[{name: r1, gamma: {points: [[0, 1], [2, 3]], unit: run}}]",
     "with unit run, places are shares of the run from 0 to 1, not 2"),
    ("penalties", "[{name: r1, gamma: {points: [[0, 1]]}}]",
     "points: must have at least 2 values, not [[0, 1]]"),
    ("penalties", "[{name: r1, gamma: {start: 1, end: 2}}]",
     "a number that changes has points: [[0, 0.1], [2000, 0.01]]"),
    ("penalties", "[{name: r1, gamma: {points: [[0, 1], [2, 3]], every: 3}}]",
     "a number that changes has points, shape and unit, but no every"),
    ("penalties", "[{name: gradient_penalty, target: {points: [[0, 1], [2, 3]]}}]",
     "must be a number"),
    ("penalties", "[{name: r1, gamma: {points: [[6, 1], [9, 3]]}}]",
     "r1: gamma begins to change after 6 steps, when the run of 6 steps is over"),
    ("ema", "{half_life: {points: [[3, 1], [2, 2]]}}",
     "base.ema: the places of its points must increase, but 2 follows 3\n"),
    ("ema", "{half_life: {points: [[6, 9], [9, 3]]}}",
     "base.ema: half_life begins to change after 6 steps, when the run of 6 steps is over"),
    ("g_optimizer", f"{{lr: {POINTS}, schedule: linear}}",
     "adam: lr is given at points, and schedule linear would change it too: leave out one of them"),
    ("g_optimizer", "{betas: [0, {points: [[0, 0.9], [3, 1.0]]}]}",
     "its values must be less than 1, and that at 3 is 1"),
    ("augmentation", f"[{{name: ada, p: {POINTS}, ramp: 3}}]",
     "ramp has no effect on a p that is given at points: leave it out"),
    ("augmentation", f"[{{name: ada, p: {POINTS}, kimg: 3}}]",
     "kimg would move an adaptive p, but p is given at points: leave it out"),
    ("augmentation", "[{name: ada, p: {points: [[0, 0], [2, 1.5]]}}]",
     "its values must be at most 1, and that at 2 is 1.5"),
])
def test_what_cannot_be_is_refused_with_its_line(tmp_path: Path, key: str, given: str,
                                                 message: str) -> None:
    file = write_experiment(tmp_path)
    file.write_text(file.read_text().replace("  steps: 6\n", f"  steps: 6\n  {key}: {given}\n"))
    with pytest.raises(SpecError) as caught:
        load_experiment(file, tmp_path)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{file}:8:")
    assert message in f"{line}\n"


def test_a_number_that_changes_late_is_accepted_until_it_never_does(tmp_path: Path) -> None:
    """The bounds of the refusal, in each unit: 6 steps of 32 images."""
    for unit, last in (("steps", "4"), ("images", "159"), ("run", "0.8")):
        penalty = f"base.penalties=[{{name: r1, gamma: {{points: [[{last}, 1], [AFTER, 2]], " \
                  f"unit: {unit}}}}}]"
        a_run(tmp_path, penalty.replace("AFTER", "1" if unit == "run" else "500"))
    for unit, last in (("steps", "5"), ("images", "160"), ("run", "0.84")):
        penalty = f"base.penalties=[{{name: r1, gamma: {{points: [[{last}, 1], [AFTER, 2]], " \
                  f"unit: {unit}}}}}]"
        with pytest.raises(SpecError, match="r1: gamma begins to change after "):
            a_run(tmp_path, penalty.replace("AFTER", "1" if unit == "run" else "500"))


def test_points_from_0_on_are_accepted_in_a_run_of_a_single_step(tmp_path: Path) -> None:
    a_run(tmp_path, "base.penalties=[{name: r1, gamma: {points: [[0, 1], [9, 2]]}}]",
          "base.ema={half_life: {points: [[0, 1], [9, 2]]}}", "base.ema_ramp=null", "base.steps=1",
          "evaluate.every=null")
    with pytest.raises(SpecError, match="r1: gamma begins to change after "):
        a_run(tmp_path, "base.penalties=[{name: r1, gamma: {points: [[1, 1], [9, 2]]}}]",
              "base.steps=1", "evaluate.every=null")


def test_parts_say_which_of_their_numbers_change() -> None:
    part = OPTIMIZERS.parse({"name": "adam", "betas": [0.0, {"points": [[0, 0.9], [9, 0.99]]}]})
    assert {**OPTIMIZERS.scheduled(part)} == {
        "betas": [Scheduled(points=[[0, 0.9], [9, 0.99]])]}
    assert OPTIMIZERS.parse(part) == part
    plain = PENALTIES.parse({"name": "r1", "gamma": 3})
    assert (plain.args["gamma"], PENALTIES.scheduled(plain)) == (3.0, {})
    ada = AUGMENTATIONS.parse({"name": "ada", "p": {"points": [[0, 0], [9, 0.5]]}})
    assert [*AUGMENTATIONS.scheduled(ada)] == ["p"]


@pytest.mark.parametrize(("settings", "keys"), [
    (["base.penalties=[{name: r1, gamma: {points: [[0, 1], [1, 2]], unit: run}}]"], ["penalties"]),
    (["base.augmentation=[{name: ada, p: {points: [[0, 0], [1, 1]], unit: run}}]"],
     ["augmentation"]),
    (["base.d_optimizer.betas=[0, {points: [[0, 0.9], [1, 0.99]], unit: run}]"],
     ["d_optimizer.betas"]),
    (["base.g_optimizer.lr={points: [[0, 0.9], [1, 0.99]], unit: run}"], ["g_optimizer.lr"]),
    (["base.penalties=[{name: r1, gamma: {points: [[0, 1], [1, 2]]}}]",
      "base.g_optimizer.lr={points: [[0, 0.9], [99, 0.99]], unit: images}"], []),
], ids=str)
def test_only_shares_of_the_run_depend_on_its_length(tmp_path: Path, settings: list[str],
                                                     keys: list[str]) -> None:
    """A longer run cannot continue from a shorter one then."""
    assert annealed_keys(a_run(tmp_path, *settings)) == keys
