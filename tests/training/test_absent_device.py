"""A whole step of every registered part on a device that is not there: what only a GPU would show.

A tensor made on the wrong device, a look at a value, a branch on it, or a shape that depends on it
fails here without a GPU. Kernels, their speed and their bits are for test_gpu.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers.absent_device import forward_on_cuda, train_on_meta
from torch import Tensor

from gan_bench.config.spec import RunSpec
from gan_bench.registry import AUGMENTATIONS, LOSSES, MODELS, OPTIMIZERS, PENALTIES
from gan_bench.training.contract.base import run_spec
from gan_bench.training.step.engine import Engine

SMALL = {"width": 4, "latent_dim": 20, "mapping_layers": 2}
COLOURS, GREY, POINTS = (3, 32, 32), (1, 16, 16), (2,)
CONDITIONS = ("none", "concat", "projection")
ADA = {"name": "ada", "kimg": 0.1,
       "transforms": ["blit", "geometry", "color", "filter", "noise", "cutout"]}


def small(name: str) -> dict[str, Any]:
    """The arguments of a small network of this family, as far as it takes them."""
    return {"name": name} | {key: value for key, value in SMALL.items()
                             if key in MODELS[name].schema.model_fields}


def lazy(name: str) -> dict[str, Any]:
    """A penalty that acts in every second step, if it can: in those that are observed."""
    return {"name": name} | ({"every": 2} if "every" in PENALTIES[name].schema.model_fields else {})


def scheduled(name: str) -> list[dict[str, Any]]:
    """An optimizer with each schedule; a plateau waits at the end of its period alone."""
    every = {"step": 2, "plateau": 1000}
    return [{"name": name, "schedule": schedule} | (
                {"decay_every": every[schedule]} if schedule in every else {})
            for schedule in ("constant", "linear", "cosine", "step", "plateau")]


def cases() -> dict[str, tuple[tuple[int, ...], dict[str, Any]]]:
    """Return the runs: their name → the shape of their data, and their settings."""
    found: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {}
    for model in MODELS.names():
        for condition in CONDITIONS:
            found[f"{model}-{condition}"] = COLOURS, {
                "model": small(model), "condition": condition, "ema": 0.9}
    for loss in LOSSES.names():
        found[loss] = POINTS, {"model": small("mlp_dropout"), "loss": loss, "g_steps": 2}
    for entry in PENALTIES:
        model = "stylegan2" if entry.facts.needs_styles else "mlp_conv"
        found[entry.name] = COLOURS, {"model": small(model), "penalties": [lazy(entry.name)]}
    for augmentation in AUGMENTATIONS.names():
        for shape in (COLOURS, GREY):
            found[f"{augmentation}-{shape[0]}"] = shape, {
                "model": small("dcgan"), "penalties": [lazy("r1")],
                "augmentation": [ADA if augmentation == "ada" else augmentation]}
    for optimizer in OPTIMIZERS.names():
        for given in scheduled(optimizer):
            found[f"{optimizer}-{given['schedule']}"] = POINTS, {
                "model": small("mlp"), "g_optimizer": given, "d_optimizer": given}
    for name, settings in {
            "g_first": {"order": "g_first", "share_fakes": True, "d_loss_reduction": "sum"},
            "shared": {"share_fakes": True, "d_steps": 2, "latents": "uniform"},
            "joint": {"d_steps": 2, "g_steps": 2, "joint_weight": 0.5, "condition": "concat"},
            "copied": {"ema": 0.9, "ema_statistics": "copied"},
            "averaged": {"ema": 0.9, "ema_statistics": "averaged"}}.items():
        found[name] = GREY, {"model": small("dcgan_upsample"), **settings}
    return found


CASES = cases()


def spec_of(name: str) -> RunSpec:
    shape, settings = CASES[name]
    classes = 10 if settings.get("condition", "none") != "none" else 0
    return run_spec(shape, classes, **settings)


@pytest.mark.parametrize("name", CASES)
def test_a_step_runs_where_no_tensor_has_a_value(name: str) -> None:
    train_on_meta(spec_of(name))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", CASES)
def test_a_forward_pass_runs_on_a_gpu_that_is_not_there(name: str, precision: str) -> None:
    forward_on_cuda(spec_of(name), precision)
