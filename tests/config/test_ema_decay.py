"""How much of a weight average is random initial weights, against the product of its decays."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
from helpers.runs import DIGITS, a_run, write_experiment

from gan_bench.cli.planning.plan import plan_text
from gan_bench.config.annealing import annealed_keys
from gan_bench.config.ema_decay import Averaging, HalfLife
from gan_bench.config.experiment import load_experiment
from gan_bench.errors import SpecError
from gan_bench.journal.spec_file import read_spec
from gan_bench.registry import Scheduled


@pytest.mark.parametrize("ramp", [None, 1e-3, 0.05, 1.0, 7.5, 1e3])
@pytest.mark.parametrize("ema", [1e-9, 0.3, 0.9, 0.999, 1 - 1e-7])
def test_the_share_of_the_initial_weights_is_the_product_of_the_decays(ema: float,
                                                                       ramp: float | None) -> None:
    for steps in (1, 2, 13, 14, 1_000, 20_000):
        product = prod(Averaging(ema, ramp).decay(step) for step in range(1, steps + 1))
        share = Averaging(ema, ramp, steps=steps).initial_share()
        assert share == pytest.approx(product, rel=1e-9, abs=1e-300)


def test_the_default_ramp_holds_at_any_length(tmp_path: Path) -> None:
    default = a_run(tmp_path, "base.ema=0.9").ema_ramp
    assert default == 0.05
    for ema in (0.5, 0.999, 1 - 1e-12, 1 - 2**-53):
        for steps in (1, 10, 1_000, 10_000):
            assert Averaging(ema, default, steps=steps).initial_share() < 1e-5


@pytest.mark.parametrize(("ema", "ramp", "steps", "refused"), [
    (0.999, "null", 1_000, True), (0.999, "null", 4_604, False), (0.999, "null", 4_602, True),
    (0.9, "null", 44, False), (0.9, "null", 43, True), (0.999, "0.05", 1, False),
    (0.999, "1000.0", 1_000, True), (0.999, "0.2", 20, False),
])
def test_an_average_of_initial_weights_is_refused_by_its_line(
        tmp_path: Path, ema: float, ramp: str, steps: int, refused: bool) -> None:
    settings = [f"base.ema={ema}", f"base.ema_ramp={ramp}", f"base.steps={steps}"]
    if not refused:
        assert a_run(tmp_path, *settings).ema == ema
        return
    with pytest.raises(SpecError) as error:
        a_run(tmp_path, *settings)
    [line] = str(error.value).splitlines()
    assert f"after {steps:,} steps" in line
    assert "random initial weights" in line
    assert line.startswith("--set base.ema=")


def test_the_place_is_a_line_of_the_file(tmp_path: Path) -> None:
    text = DIGITS.replace("  steps: 6\n", "  steps: 6\n  ema: 0.999\n  ema_ramp: null\n")
    with pytest.raises(SpecError, match=r"tiny\.yaml:8:\d+: base\.ema: after 6 steps 0\.99 of"):
        a_run(tmp_path, text=text)


@pytest.mark.parametrize(("settings", "words"), [
    (["base.ema_ramp=0.1"], "base.ema_ramp: has no effect without ema: leave it out, or give ema"),
    (["base.ema_ramp=null"], "base.ema_ramp: has no effect without ema: leave it out, or give ema"),
    (["base.ema_statistics=copied"], "base.ema_statistics: has no effect without ema: leave it "),
])
def test_keys_of_an_average_are_refused_without_one(tmp_path: Path, settings: list[str],
                                                    words: str) -> None:
    with pytest.raises(SpecError) as error:
        a_run(tmp_path, *settings)
    [line] = str(error.value).splitlines()
    assert words in line
    assert a_run(tmp_path, *settings, "base.ema=0.3").ema == 0.3


def test_without_an_average_its_keys_change_no_id(tmp_path: Path) -> None:
    defaults = ["base.ema_ramp=0.05", "base.ema_statistics=estimated"]
    assert a_run(tmp_path, *defaults).id == a_run(tmp_path).id
    averaged = a_run(tmp_path, "base.ema=0.9")
    assert a_run(tmp_path, "base.ema=0.9", "base.ema_ramp=0.05").id == averaged.id
    assert a_run(tmp_path, "base.ema=0.9", "base.ema_ramp=0.1").id != averaged.id


def test_the_published_decays_of_a_half_life() -> None:
    """StyleGAN2's settings for CIFAR: 500 thousand images, ramp 0.05, batches of 64."""
    rule = Averaging(HalfLife(half_life=500_000.0), 0.05, steps=10**9, images=64)
    assert rule.decay(1) == 0  # the first step copies
    assert rule.decay(64_000 // 64 + 1) == pytest.approx(0.98623, abs=5e-6)
    assert rule.decay(10**7) == pytest.approx(0.99991128, abs=5e-9)
    alone = Averaging(HalfLife(half_life=6_400.0), steps=100, images=64)
    assert prod(alone.decay(step) for step in range(1, 101)) == pytest.approx(0.5, rel=1e-12)
    assert alone.initial_share() == pytest.approx(0.5, rel=1e-12)
    assert Averaging(HalfLife(half_life=6_400.0), 0.05, 1, 100, 64).initial_share() == 0


def test_a_half_life_may_change() -> None:
    """As R3GAN's, which rises from 0."""
    points = Scheduled(points=[[0, 0], [640, 6400]], shape="cosine", unit="images")
    rule = Averaging(HalfLife(half_life=points), None, steps=100, images=64)
    assert (rule.decay(1), rule.decay(6)) == (0, pytest.approx(0.5 ** (64 / 3200)))
    assert rule.decay(11) == rule.decay(99) == pytest.approx(0.5 ** 0.01)


def test_before_its_start_the_average_is_a_copy() -> None:
    rule = Averaging(0.999, None, start=10, steps=20)
    assert [rule.decay(step) for step in (1, 9, 10, 20)] == [0, 0, 0.999, 0.999]
    assert rule.initial_share() == 0


@pytest.mark.parametrize(("settings", "words"), [
    (["base.ema={half_life: 0}"], "base.ema: half_life must be a number of images above 0, or "),
    (["base.ema={half_life: yes}"], "base.ema: half_life must be a number of images above 0"),
    (["base.ema={kimg: 3}"], "base.ema: must be a number, or a mapping with half_life, a "),
    (["base.ema={half_life: {points: [[3, 1], [3, 2]]}}"],
     "base.ema: the places of its points must increase, but 3 follows 3"),
    (["base.ema={half_life: {points: [[0, -1], [3, 2]]}}"],
     "base.ema: its values must be at least 0, and that at 0 is -1"),
    (["base.ema=1.0"], "base.ema: must be less than 1, not 1.0"),
    (["base.ema=high"], "base.ema: must be a number, not 'high'"),
    (["base.ema={half_life: 32}", "base.ema_ramp=null"],
     "base.ema: after 6 steps 0.016 of the average would be G's random initial weights (ema with "
     "a half-life, ema_ramp null): leave out ema_ramp, or lower half_life"),
    (["base.ema_start=3"], "base.ema_start: has no effect without ema: leave it out, or give ema"),
    (["base.ema=0.9", "base.ema_start=7"],
     "base.ema_start: the average would be a copy of G until step 7, and the run has 6: lower it"),
])
def test_what_an_average_cannot_be_is_refused(tmp_path: Path, settings: list[str], words: str,
                                              ) -> None:
    with pytest.raises(SpecError) as error:
        a_run(tmp_path, *settings)
    [line] = str(error.value).splitlines()
    assert words in line


def test_a_half_life_is_in_the_id_and_in_spec_json(tmp_path: Path) -> None:
    ids = set()
    for ema in ("0.9", "{half_life: 9}", "{half_life: 8}",
                "{half_life: {points: [[0, 1], [9, 8]]}}"):
        run = a_run(tmp_path, f"base.ema={ema}")
        run.write(tmp_path)
        assert read_spec(run.folder(tmp_path)) == run
        ids.add(run.id)
    assert len(ids) == 4
    assert a_run(tmp_path, "base.ema=0.9", "base.ema_start=1").id in ids
    assert a_run(tmp_path, "base.ema=0.9", "base.ema_start=2").id not in ids
    over_the_run = "base.ema={half_life: {points: [[0, 1], [1, 8]], unit: run}}"
    assert annealed_keys(a_run(tmp_path, over_the_run)) == ["ema"]


def test_plan_says_how_far_a_ramp_lets_a_half_life_grow(tmp_path: Path) -> None:
    spec = load_experiment(write_experiment(tmp_path), tmp_path, ["base.ema={half_life: 500}"])
    assert ("average   half_life 500: ema_ramp 0.05 lets it grow to 8 images in 6 steps\n"
            in plan_text(spec, tmp_path))
