"""Whole steps of the engine give the numbers of StyleGAN2's and BigGAN's own training loops."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from helpers.float64 import in_float64  # noqa: F401
from helpers.golden_cases import assert_golden, formula_tensor, golden_case
from helpers.golden_names import BIGGAN_D, BIGGAN_G, STYLEGAN2_D, STYLEGAN2_G
from helpers.golden_networks import Names, assert_parameters, assert_scalar, fill
from torch import Tensor
from torch.nn.functional import one_hot

from gan_bench.config.spec import RunSpec
from gan_bench.registry import MODELS
from gan_bench.training.contract.base import run_spec
from gan_bench.training.step import engine as engine_module
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

pytestmark = pytest.mark.usefixtures("in_float64")
Case = dict[str, Any]


def adam(lr: float, betas: list[float], eps: float = 1e-8) -> dict[str, Any]:
    return {"name": "adam", "lr": lr, "betas": betas, "eps": eps}


def started(spec: RunSpec, case: Case, g_names: Names, d_names: Names) -> Engine:
    """The engine with the networks of the case, and G's average as a copy."""
    engine = Engine(spec, "cpu", conditions=torch.arange(1000) % 10)
    fill(engine.generator, case, "G.", g_names)
    fill(engine.discriminator, case, "D.", d_names)
    engine.start_from({"generator": engine.generator.state_dict()})
    return engine


def given_latents(monkeypatch: pytest.MonkeyPatch, latents: Iterator[Tensor]) -> None:
    monkeypatch.setattr(engine_module, "draw_latents", lambda *arguments: next(latents))


def labels(case: Case, name: str) -> Tensor:
    return torch.tensor(case["config"]["labels"][name])


@pytest.mark.parametrize("name", ["stylegan2.unconditional.orig", "stylegan2.conditional10.resnet"])
def test_stylegan2(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its four phases, the second iteration without the lazy ones; here they end a period."""
    case = golden_case("stylegan2", name)
    config, has_labels = case["config"], case["config"]["c_dim"] > 0
    optimizer = adam(config["train"]["base_lr"], config["train"]["base_betas"])
    spec = run_spec(
        (3, 32, 32), 10 if has_labels else 0, steps=100, batch_size=8, order="g_first",
        d_loss_reduction="sum", condition="projection" if has_labels else "none",
        fake_labels="independent" if has_labels else "beside", model=MODELS.parse({
            "name": "stylegan2", "latent_dim": 32, "width": 32, "w_dim": 32, "group": 4,
            "mapping_layers": config["g_mapping_layers"], "noise": "constant",
            "d_architecture": config["d_architecture"]}),
        penalties=[{"name": "path_length", "weight": config["pl_weight"], "every": 4,
                    "own_step": True},
                   {"name": "r1", "gamma": config["r1_gamma"], "every": 16, "own_step": True}],
        g_optimizer=optimizer, d_optimizer=optimizer, ema_statistics="copied", ema_ramp=None,
        ema={"half_life": config["train"]["ema_half_life_images"]})
    engine = started(spec, case, STYLEGAN2_G, STYLEGAN2_D)
    given_latents(monkeypatch, (formula_tensor(case, f"it{z}.z") for z in (
        "0.Gmain", "0.Dmain", "0.Greg", "1.Gmain", "1.Dmain")))
    noise = formula_tensor(case, "it0.Greg.pl_noise")
    monkeypatch.setattr(torch, "randn", lambda *shape, **more: noise)
    for i in range(2):
        batch = StepBatch([formula_tensor(case, f"it{i}.real")])
        if has_labels:
            own = labels(case, "it0.Greg.c")
            batch = StepBatch(batch.real, [labels(case, f"it{i}.c_real")], None, labels(
                case, f"it{i}.Gmain.c"), [labels(case, f"it{i}.Dmain.c")], own)
        seen = engine.step(16 + i, batch, True)
        assert_scalar(case, f"train.it{i}.Gmain.loss", seen["train/g_loss"], 1e-7)
        assert_scalar(case, f"train.it{i}.Dmain.loss", seen["train/d_loss"], 1e-7)
        if i == 0:
            assert_scalar(case, "train.it0.Greg.loss", seen["train/g_penalty"] / 4, 1e-7)
            assert_scalar(case, "train.it0.Dreg.loss", seen["train/d_penalty"] / 16, 1e-7)
        else:
            assert not {"train/g_penalty", "train/d_penalty"} & {*seen}
    assert engine.ema is not None
    assert_parameters(case, "train.G_after", engine.generator, "G.", STYLEGAN2_G)
    assert_parameters(case, "train.D_after", engine.discriminator, "D.", STYLEGAN2_D)
    assert_parameters(case, "train.G_ema_after", engine.ema, "G.", STYLEGAN2_G)
    average: Any = engine.generator
    assert_golden(case, "train.w_avg_after", average.mapping.average, 1e-7)
    memory = engine.state()["g_penalties"]["path_length"]
    assert_scalar(case, "train.pl_mean_after", torch.tensor(memory), 1e-7)
    z = formula_tensor(case, "z")
    with torch.no_grad():
        ema, d = engine.ema.eval(), engine.discriminator
        if has_labels:
            z = torch.cat([z, one_hot(labels(case, "c"), 10)], 1)
            logits = d(formula_tensor(case, "real"), labels(case, "c"))
        else:
            logits = d(formula_tensor(case, "real"))
        assert_golden(case, "train.G_ema.image_after", ema(z), 1e-7)
        assert_golden(case, "train.D_logits_after", logits[:, None], 1e-7)


@pytest.mark.parametrize("name", ["biggan.hierarchical", "biggan.cifar_script"])
def test_biggan(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """D judges fakes and reals in one pass; the average is a copy until its start."""
    case = golden_case("biggan", name)
    config, train = case["config"], case["config"]["train"]
    d_steps, iterations = train["D_steps"], train["iterations"]
    spec = run_spec(
        (3, 32, 32), 10, steps=100, batch_size=8, d_steps=d_steps, loss="hinge", one_pass=True,
        d_loss_reduction="sum", condition="projection", fake_labels="independent",
        model=MODELS.parse({
            "name": "biggan", "width": config["ch"], "latent_dim": config["dim_z_used"],
            "hierarchical": config["hierarchical"], "shared_dim": config["shared_dim"],
            "attention": int(config["attention_at"]) or None}),
        g_optimizer=adam(train["G_lr"], train["betas"], train["adam_eps"]),
        d_optimizer=adam(train["D_lr"], train["betas"], train["adam_eps"]),
        ema=train["ema_decay"], ema_ramp=None, ema_start=max(1, train["ema_start"]),
        ema_statistics="averaged")
    engine = started(spec, case, BIGGAN_G, BIGGAN_D)
    given_latents(monkeypatch, (formula_tensor(case, f"it{i}.draw{j}.z") for i in range(iterations)
                                for j in (d_steps, *range(d_steps))))
    for i in range(iterations):
        seen = engine.step(i + 1, StepBatch(
            [formula_tensor(case, f"it{i}.x{j}") for j in range(d_steps)],
            [labels(case, f"it{i}.y_real{j}") for j in range(d_steps)], None,
            labels(case, f"it{i}.draw{d_steps}.y"),
            [labels(case, f"it{i}.draw{j}.y") for j in range(d_steps)]), True)
        assert_scalar(case, f"train.it{i}.G_loss", seen["train/g_loss"], 1e-7)
        assert_scalar(case, f"train.it{i}.D_loss_real", seen["train/d_loss_real"], 1e-7)
        assert_scalar(case, f"train.it{i}.D_loss_fake", seen["train/d_loss_fake"], 1e-7)
        if i in (0, iterations - 1):
            after = f"train.after{i + 1}"
            assert engine.ema is not None
            for network, module, prefix, names in (
                    ("G", engine.generator, "G.", BIGGAN_G),
                    ("D", engine.discriminator, "D.", BIGGAN_D),
                    ("G_ema", engine.ema, "G.", BIGGAN_G)):
                assert_parameters(case, f"{after}.{network}", module, prefix, names)
                assert_parameters(case, f"{after}.{network}_buffers", module, prefix, names)
    assert engine.ema is not None
    z = torch.cat([formula_tensor(case, "z"), one_hot(labels(case, "y"), 10)], 1)
    with torch.no_grad():
        assert_golden(case, "train.G_ema.image.eval", engine.ema.eval()(z), 1e-7)
