"""How much memory a run is expected to need: which runs stand for others, and which step is taken.

A GPU that is not there shows no memory, but it shows the step.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.absent_device import absent_device, without_backward
from torch._subclasses.fake_tensor import FakeTensorMode

from gan_bench.config.spec import RunSpec
from gan_bench.registry import AUGMENTATIONS, OPTIMIZERS, PENALTIES
from gan_bench.training import packing
from gan_bench.training.contract.base import run_spec
from gan_bench.training.packing import fullest_step, of_different_size
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

POINTS = {"points": [[0, 0.1], [4, 0.5]]}


def settings_of(given: dict[str, Any]) -> RunSpec:
    """Return a run whose parts have all their arguments, as those of a file do."""
    settings = dict(given)
    for key, registry in (("penalties", PENALTIES), ("augmentation", AUGMENTATIONS)):
        if key in settings:
            settings[key] = [registry.parse(part) for part in settings[key]]
    if "g_optimizer" in settings:
        settings["g_optimizer"] = OPTIMIZERS.parse(settings["g_optimizer"])
    return run_spec((1, 16, 16), **settings)


def r1(**arguments: Any) -> dict[str, Any]:
    return {"penalties": [{"name": "r1", **arguments}]}


def ada(**arguments: Any) -> dict[str, Any]:
    return {"augmentation": [{"name": "ada", **arguments}]}


@pytest.mark.parametrize(("one", "other"), [
    ({}, ada()), (ada(), ada(transforms=["blit"])), ({}, {"augmentation": ["diffaugment"]}),
    ({}, r1()), (r1(), r1(every=2)), (r1(every=2), r1(every=2, own_step=True)),
    ({"penalties": ["path_length"]}, {"penalties": [{"name": "path_length", "batch_shrink": 1}]}),
    ({}, {"accumulate": 2}), ({}, {"one_pass": True}), ({}, {"ema": 0.9}),
    ({"share_fakes": True}, {"share_fakes": True, "order": "g_first"}),
    ({"g_optimizer": "sgd"}, {"g_optimizer": {"name": "sgd", "momentum": 0.5}})], ids=str)
def test_what_takes_other_memory_is_measured_too(one: dict[str, Any], other: dict[str, Any],
                                                 ) -> None:
    runs = [settings_of(one), settings_of(other)]
    assert of_different_size(runs) == runs


@pytest.mark.parametrize(("one", "other"), [
    (r1(gamma=1.0), r1(gamma=2.0)), (r1(gamma=POINTS), r1(gamma={"points": [[0, 1], [3, 2]]})),
    (ada(kimg=1.0), ada(kimg=2.0)), ({"joint_weight": 0.5}, {"joint_weight": 1.0}),
    ({"g_optimizer": {"name": "adam", "lr": 1e-3}}, {"g_optimizer": {"name": "adam", "lr": 1e-4}}),
    ({"ema": 0.9}, {"ema": {"half_life": 100}}), ({}, {"seed": 1})], ids=str)
def test_rates_and_weights_take_no_memory(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert len(of_different_size([settings_of(one), settings_of(other)])) == 1


@pytest.mark.parametrize(("every", "step"), [([], 1), ([1], 1), ([16], 16), ([4, 6], 12)])
def test_the_fullest_step_has_all_penalties(every: list[int], step: int) -> None:
    names = ("r1", "gradient_penalty")
    spec = settings_of({"penalties": [{"name": name, "every": k}
                                      for name, k in zip(names, every, strict=False)]})
    assert fullest_step(spec) == step


def test_memory_is_that_of_the_fullest_step(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    step = Engine.step

    def noted(engine: Engine, number: int, batch: StepBatch, observe: bool = False) -> Any:
        seen.append(step(engine, number, batch, observe))
        return seen[-1]

    monkeypatch.setattr(Engine, "step", noted)
    memory = iter([5, 12])
    for name in ("memory_allocated", "max_memory_allocated"):
        monkeypatch.setattr(torch.cuda, name, lambda: next(memory))
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    spec = settings_of(r1(every=3))
    with absent_device("cuda") as patch, FakeTensorMode():
        without_backward(patch)
        assert packing._memory_of(spec, "float32") == 7
    assert ["train/d_penalty" in each for each in seen] == [True]
