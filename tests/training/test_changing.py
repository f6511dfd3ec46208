"""Numbers that change, in the step: what each part is given at each step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.runs import a_run
from torch import Tensor

from gan_bench.components.optimizers import FALLS
from gan_bench.registry import OPTIMIZERS
from gan_bench.training.contract.base import run_spec
from gan_bench.training.contract.networks import resume_problem
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

LINE = "{points: [[0, 0.5], [4, 2.5]]}"
STILL = ["base.g_optimizer.lr=1e-12", "base.d_optimizer.lr=1e-12", "variants={}"]


def reals(step: int) -> Tensor:
    draws = torch.Generator().manual_seed(step)
    return torch.rand(32, 1, 16, 16, generator=draws) * 2 - 1


def logged(folder: Path, name: str, *settings: str) -> list[float]:
    engine = Engine(a_run(folder, *settings), "cpu")
    return [float(engine.step(step, StepBatch([reals(step)]), True)[name]) for step in range(1, 7)]


@pytest.mark.parametrize(("name", "penalty"), [
    ("train/d_penalty", "name: r1, gamma: "), ("train/d_penalty", "name: r2, gamma: "),
    ("train/d_penalty", "name: dragan, weight: "), ("train/d_penalty", "name: orthogonal_d, "
                                                                       "weight: "),
    ("train/d_penalty", "name: gradient_penalty, weight: "),
    ("train/g_penalty", "name: orthogonal_g, weight: ")])
def test_a_term_has_the_weight_of_its_step(tmp_path: Path, name: str, penalty: str) -> None:
    """Against a run of the same weights, which do not move, where it is 1."""
    ones = logged(tmp_path, name, *STILL, f"base.penalties=[{{{penalty}1}}]")
    found = logged(tmp_path, name, *STILL, f"base.penalties=[{{{penalty}{LINE}}}]")
    ratios = [a / b for a, b in zip(found, ones, strict=True)]
    assert ratios == pytest.approx([0.5, 1, 1.5, 2, 2.5, 2.5], rel=1e-5)


def test_rates_betas_and_p_are_those_of_their_step(tmp_path: Path) -> None:
    spec = a_run(tmp_path, "base.augmentation=[{name: ada, p: {points: [[0, 0], [64, 0.5]], "
                           "unit: images}}]", "base.batch_size=8", "base.steps=12",
                 "base.g_optimizer.lr={points: [[0, 1e-3], [1, 0]], unit: run, shape: cosine}"
                 .replace("[1, 0]", "[1, 1e-4]"),
                 "base.d_optimizer.betas=[0, {points: [[2, 0.9], [4, 0.99]]}]")
    engine = Engine(spec, "cpu")
    keys = []
    for step in range(1, 11):
        keys.append(engine.graph_key(step))
        seen = engine.step(step, StepBatch([reals(step)[:8]]), True)
        assert float(seen["train/augment_p"]) == pytest.approx(min(0.5, (step - 1) / 16))
        (of_g,), (of_d,) = (engine._optimizing.of[network].param_groups
                            for network in (engine.generator, engine.discriminator))
        assert of_g["lr"] == pytest.approx(1e-4 + 9e-4 * FALLS["cosine"].at(step, 12, 8))
        assert of_d["betas"] == pytest.approx((0, min(0.99, max(0.9, 0.9 + 0.045 * (step - 3)))))
        assert of_g["betas"] == (0.5, 0.999)
    # A captured step holds betas fast: none is captured while they change.
    assert keys[:2] == [(0.0, 0.9, False)] * 2
    assert keys[2:4] == [None] * 2
    assert keys[4:] == [(0.0, 0.99, False)] * 6


def test_the_scalar_is_written_in_place_before_the_step(tmp_path: Path) -> None:
    """So a captured step, which reads the same memory, is given the value of its replay."""
    engine = Engine(a_run(tmp_path, f"base.penalties=[{{name: r1, gamma: {LINE}}}]"), "cpu")
    [(_, scalar)] = engine._changing._all
    place = scalar.data_ptr()
    for step, value in ((1, 0.5), (5, 2.5), (2, 1.0)):
        engine.begin(step)
        assert (scalar.data_ptr(), float(scalar)) == (place, value)


def test_a_run_with_numbers_that_change_resumes_to_the_bit() -> None:
    line = {"points": [[0, 0.01], [4, 0.05]], "shape": "cosine"}
    adam = OPTIMIZERS.parse({"name": "adam", "lr": line, "betas": [line, 0.9]})
    spec = run_spec(penalties=[{"name": "r1", "gamma": line}], g_optimizer=adam, d_optimizer=adam)
    assert resume_problem(spec) is None
