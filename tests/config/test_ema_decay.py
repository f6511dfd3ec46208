"""How much of a weight average is random initial weights, against the product of its decays."""

from __future__ import annotations

from math import prod
from pathlib import Path

import pytest
from helpers.runs import DIGITS, a_run

from gan_bench.config.ema_decay import decay_at, initial_share
from gan_bench.errors import SpecError


@pytest.mark.parametrize("ramp", [None, 1e-3, 0.05, 1.0, 7.5, 1e3])
@pytest.mark.parametrize("ema", [1e-9, 0.3, 0.9, 0.999, 1 - 1e-7])
def test_the_share_of_the_initial_weights_is_the_product_of_the_decays(ema: float,
                                                                       ramp: float | None) -> None:
    for steps in (1, 2, 13, 14, 1_000, 20_000):
        product = prod(decay_at(ema, ramp, step) for step in range(1, steps + 1))
        assert initial_share(ema, ramp, steps) == pytest.approx(product, rel=1e-9, abs=1e-300)


def test_the_default_ramp_holds_at_any_length(tmp_path: Path) -> None:
    default = a_run(tmp_path, "base.ema=0.9").ema_ramp
    assert default == 0.05
    for ema in (0.5, 0.999, 1 - 1e-12, 1 - 2**-53):
        for steps in (1, 10, 1_000, 10_000):
            assert initial_share(ema, default, steps) < 1e-5


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
