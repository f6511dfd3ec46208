"""A whole step of every registered part on a device that is not there: what only a GPU would show.

A tensor made on the wrong device, a look at a value, a branch on it, or a shape that depends on it
fails here without a GPU. Kernels, their speed and their bits are for test_gpu.py.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.absent_device import absent_device, forward_on_cuda, train_on_meta
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from gan_bench.components.augmentations.ada.bands import filter_bank
from gan_bench.config.spec import RunSpec
from gan_bench.registry import AUGMENTATIONS, LOSSES, MODELS, OPTIMIZERS, PENALTIES, Part
from gan_bench.training.contract.base import run_spec, takes_image
from gan_bench.training.step.engine import Engine

SMALL = {"width": 4, "latent_dim": 20, "mapping_layers": 2}
COLOURS, SMALL_COLOURS, GREY, POINTS = (3, 32, 32), (3, 16, 16), (1, 16, 16), (2,)
CONDITIONS = ("none", "concat", "projection")
ADA = {"name": "ada", "kimg": 0.1,
       "transforms": ["blit", "geometry", "color", "filter", "noise", "cutout"]}
LINE = {"points": [[0, 0.1], [4, 0.5]]}
OWN_STEP = {name: {"name": name, "every": 2, "own_step": True} for name in ("r1", "path_length")}


def small(name: str) -> Part:
    """A small network of this family, with the arguments of SMALL that it takes."""
    taken = {*MODELS[name].schema.model_fields}
    if MODELS[name].facts.takes == "image":
        taken -= {"latent_dim"}
    return MODELS.parse({"name": name} | {key: value for key, value in SMALL.items()
                                          if key in taken})


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
        for condition in ("concat",) if takes_image(small(model)) else CONDITIONS:
            found[f"{model}-{condition}"] = COLOURS, {
                "model": small(model), "condition": condition}
    for loss in LOSSES.names():
        found[loss] = POINTS, {"model": small("mlp_dropout"), "loss": loss, "g_steps": 2}
    for entry in PENALTIES:
        model = ("stylegan2" if entry.facts.needs_styles else
                 "unet" if entry.facts.needs_targets else "mlp_conv")
        found[entry.name] = COLOURS, {"model": small(model), "penalties": [lazy(entry.name)]}
    for augmentation in AUGMENTATIONS.names():
        for shape in (SMALL_COLOURS, GREY):
            found[f"{augmentation}-{shape[0]}"] = shape, {
                "model": small("dcgan"), "penalties": [lazy("r1")],
                "augmentation": [ADA if augmentation == "ada" else augmentation]}
    for optimizer in OPTIMIZERS.names():
        for given in scheduled(optimizer):
            found[f"{optimizer}-{given['schedule']}"] = POINTS, {
                "model": small("mlp"), "g_optimizer": given, "d_optimizer": given}
    found |= changing() | {name: (GREY, settings) for name, settings in of_the_step().items()}
    return found


def of_the_step() -> dict[str, dict[str, Any]]:
    """Settings of what is done in a step: their name → the settings."""
    batches = {"condition": "concat", "d_steps": 2}
    return {
        name: {"model": small("dcgan_upsample"), **settings} for name, settings in {
            "g_first": {"order": "g_first", "share_fakes": True, "d_loss_reduction": "sum"},
            "shared": {"share_fakes": True, "d_steps": 2, "latents": "uniform"},
            "joint": {"d_steps": 2, "g_steps": 2, "joint_weight": 0.5, "condition": "concat"},
            "estimated": {"ema": 0.9},
            "copied": {"ema": 0.9, "ema_statistics": "copied"},
            "averaged": {"ema": 0.9, "ema_statistics": "averaged"},
            "half_life": {"ema": {"half_life": LINE}},
            "accumulate": {"accumulate": 2, "penalties": [lazy("r1")], **batches},
            "one_pass": {"one_pass": True, **batches},
            "independent": {"fake_labels": "independent", **batches},
            "in_parts": {"accumulate": 2, "one_pass": True, "fake_labels": "independent",
                         "penalties": [OWN_STEP["r1"]], **batches},
            "own_r1": {"penalties": [OWN_STEP["r1"]]},
            "own_path_length": {
                "model": small("stylegan2"), "penalties": [OWN_STEP["path_length"]],
                "condition": "projection", "fake_labels": "independent", "accumulate": 2}}.items()}


def changing() -> dict[str, tuple[tuple[int, ...], dict[str, Any]]]:
    """Runs in which numbers change: their name → the shape of their data, and their settings."""
    adam = {"name": "adam", "lr": LINE, "betas": [LINE, 0.9]}
    return {
        "changing_weight": (GREY, {"model": small("mlp"),
                                   "penalties": [{"name": "r1", "gamma": LINE}]}),
        "changing_p": (GREY, {"model": small("dcgan"), "augmentation": [
            {"name": "ada", "p": LINE, "transforms": ["blit"]}]}),
        "changing_rate": (POINTS, {"model": small("mlp"), "g_optimizer": adam,
                                   "d_optimizer": adam})}


Fault = Callable[[Tensor], Tensor]
BOTH = ("meta", "cuda")
CASES = cases()
# Seconds each: a power iteration in every layer, and filters that are written tap by tap. A label
# in D's input is the same in all families.
SLOW = {"biggan-none", "ada-1"} | {
    f"{model}-concat" for model in MODELS.names() if model not in ("mlp", "dcgan")}
NAMES = [pytest.param(name, id=name, marks=[pytest.mark.long] * (name in SLOW)) for name in CASES]
OPTIMIZED = {name for name, (_, settings) in CASES.items() if "g_optimizer" in settings}


def spec_of(name: str) -> RunSpec:
    shape, settings = CASES[name]
    labelled = settings.get("condition", "none") != "none" and not takes_image(settings["model"])
    classes = 10 if labelled else 0
    return run_spec(shape, classes, **settings)


@pytest.mark.parametrize("name", NAMES)
def test_a_step_runs_where_no_tensor_has_a_value(name: str) -> None:
    train_on_meta(spec_of(name))


@pytest.mark.parametrize("name", [name for name in NAMES if name.id not in OPTIMIZED])
def test_a_forward_pass_runs_on_a_gpu_that_is_not_there(name: str) -> None:
    # Without an average, for modules of fake tensors cannot be copied.
    forward_on_cuda(spec_of(name).model_copy(update={"ema": None}), "bfloat16")


def branched(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def looked_at_in_backward(x: Tensor) -> Tensor:
    if x.requires_grad:
        x.register_hook(lambda gradient: gradient * gradient.sum().item())
    return x


PLACE = "lies on|not on the expected device|same device"
VALUE = r"item\(\)|_local_scalar_dense|copy out of meta|to numpy|\.numpy\(\)"
SHAPE = "nonzero|unique"
# Each gives a tensor like the one that it is given, and would do it on the CPU: the fault, what is
# said of it, and the devices on which it is found.
FAULTS: dict[str, tuple[Callable[[Tensor], Tensor], str, tuple[str, ...]]] = {
    "made on the CPU": (lambda x: x * torch.ones(x.shape), PLACE, BOTH),
    "a scalar made on the CPU": (lambda x: x * torch.tensor(2.0), PLACE, BOTH),
    # It is made on `meta` at once, and on CUDA copied there.
    "copied from the CPU": (lambda x: x * torch.tensor(2.0, device=x.device), PLACE, ("cuda",)),
    "cpu": (lambda x: x.cpu().to(x.device), f"{PLACE}|{VALUE}", BOTH),
    "item": (lambda x: x * x.sum().item(), VALUE, BOTH),
    "float": (lambda x: x * float(x.sum()), VALUE, BOTH),
    "tolist": (lambda x: x * sum(x.flatten().tolist()), VALUE, BOTH),
    "numpy": (lambda x: x * float(x.detach().numpy().sum()), VALUE, BOTH),
    "a branch": (branched, VALUE, BOTH),
    "a comparison": (lambda x: x * max(x.sum(), x.mean()), VALUE, BOTH),
    "a mask": (lambda x: x * x[x > 0].sum(), SHAPE, BOTH),
    "nonzero": (lambda x: x + x.nonzero().sum(), SHAPE, BOTH),
    "unique": (lambda x: x + x.unique().sum(), SHAPE, BOTH),
    "in the backward pass": (looked_at_in_backward, VALUE, ("meta",)),
}


def in_g(engine: Engine, fault: Fault) -> None:
    engine.generator.register_forward_hook(lambda module, given, made: fault(made))


def in_d(engine: Engine, fault: Fault) -> None:
    engine.discriminator.register_forward_hook(lambda module, given, made: fault(made))


def in_loss_of_g(engine: Engine, fault: Fault) -> None:
    loss = engine._g_updates._loss
    engine._g_updates._loss = replace(loss, generator=lambda fake, real: loss.generator(
        fault(fake), real))


def in_loss_of_d(engine: Engine, fault: Fault) -> None:
    loss = engine._d_updates._loss
    engine._d_updates._loss = replace(loss, discriminator=lambda real, fake: loss.discriminator(
        fault(real), fake))


def in_penalty(engine: Engine, fault: Fault) -> None:
    penalty, = engine._d_updates._penalties
    term = penalty.term
    assert term is not None
    engine._d_updates._penalties = [replace(penalty, term=lambda d, real, fake, draws: term(
        d, fault(real), fake, draws))]


def in_augmentation(engine: Engine, fault: Fault) -> None:
    active, = engine._augmenting._all
    apply = active.part.apply
    engine._augmenting._all = [replace(active, part=replace(
        active.part, apply=lambda examples, draws, p: fault(apply(examples, draws, p))))]


def take_all_steps(device: str, plant: Callable[[Engine], object]) -> None:
    """Take the steps of a run with a part of each kind, after a plant in its engine."""
    spec = run_spec(GREY, model=small("mlp"), penalties=[{"name": "r1", "every": 2}],
                    augmentation=["flip"])
    if device == "meta":
        train_on_meta(spec, plant)
    else:
        forward_on_cuda(spec, "float32", plant)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("device", BOTH)
def test_a_planted_fault_is_found(fault: str, device: str) -> None:
    plant, message, devices = FAULTS[fault]
    plant(torch.rand(2, *GREY))  # a CPU does not notice it
    with pytest.raises(Exception, match=message) if device in devices else nullcontext():
        take_all_steps(device, lambda engine: in_g(engine, plant))


@pytest.mark.parametrize("place", [in_g, in_d, in_loss_of_g, in_loss_of_d, in_penalty,
                                   in_augmentation])
@pytest.mark.parametrize("device", BOTH)
def test_a_fault_is_found_wherever_it_is_planted(place: Callable[[Engine, Fault], None],
                                                 device: str) -> None:
    take_all_steps(device, lambda engine: place(engine, lambda x: x * 2))
    with pytest.raises(Exception, match=VALUE):
        take_all_steps(device, lambda engine: place(engine, FAULTS["item"][0]))


def test_nothing_of_the_absent_device_is_left_behind() -> None:
    """Constants without values would break what is computed later in this process."""
    generator, autocast = torch.Generator, torch.autocast
    with absent_device("cuda"), FakeTensorMode():
        assert type(filter_bank()) is not Tensor
    assert (torch.Generator, torch.autocast) == (generator, autocast)
    assert type(filter_bank()) is Tensor
    assert filter_bank().sum(1)[0].item() == pytest.approx(1)
