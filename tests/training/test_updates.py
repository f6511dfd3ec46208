"""Several updates of G within a step, and the joint phase: against plain loops, in float64."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.float64 import in_float64 as in_float64
from helpers.runs import a_run
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import softplus

from gan_bench import rng
from gan_bench.components import data as datasets
from gan_bench.components.models import build_networks
from gan_bench.config.spec import RunSpec
from gan_bench.journal.writing import Journal
from gan_bench.training.loop import Training
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

STEPS = 6


def reals(spec: RunSpec, step: int, stream: str, count: int) -> list[Tensor]:
    draws = rng.generator(spec.seed, stream, step)
    return [torch.rand(32, 1, 16, 16, generator=draws) * 2 - 1 for _ in range(count)]


def engine_losses(spec: RunSpec) -> list[tuple[float, float]]:
    engine, losses = Engine(spec, "cpu"), []
    for step in range(1, STEPS + 1):
        g_real = torch.cat(reals(spec, step, "g", spec.g_steps)) if engine.needs_real else None
        batch = StepBatch(reals(spec, step, "d", spec.d_steps), g_real=g_real)
        seen = engine.step(step, batch, observe=True)
        losses.append((float(seen["train/d_loss"]), float(seen["train/g_loss"])))
    return losses


def several_updates(spec: RunSpec) -> list[tuple[float, float]]:
    """Cross-entropy; D sees fresh fakes, or the last that G was updated on."""
    networks = build_networks(spec.model, spec.data.shape, spec.seed)
    g, d = networks.generator, networks.discriminator
    g_adam, d_adam = (torch.optim.Adam(n.parameters(), 2e-4, (0.5, 0.999)) for n in (g, d))
    ones, zeros = torch.ones(32), torch.zeros(32)
    losses = []
    for step in range(1, STEPS + 1):
        draws = rng.generator(spec.seed, "latents", step)
        latents = [torch.randn(32, 100, generator=draws)]
        of_d = [] if spec.share_fakes else [torch.randn(32, 100, generator=draws)
                                            for _ in range(spec.d_steps)]
        latents += [torch.randn(32, 100, generator=draws) for _ in range(spec.g_steps - 1)]
        shared = g(latents[0])

        def train_g(latents: list[Tensor] = latents, first: Tensor = shared) -> float:
            nonlocal shared
            for i, z in enumerate(latents):
                shared = first if i == 0 and spec.share_fakes else g(z)
                loss = bce(d(shared), ones)
                g_adam.zero_grad()
                loss.backward()
                g_adam.step()
            return loss.item()

        g_loss = train_g() if spec.order == "g_first" else 0.0
        for i, real in enumerate(reals(spec, step, "d", spec.d_steps)):
            fake = shared if spec.share_fakes else g(of_d[i])
            loss = bce(d(real), ones) + bce(d(fake.detach()), zeros)
            d_adam.zero_grad()
            loss.backward()
            d_adam.step()
        losses.append((loss.item(), train_g() if spec.order == "d_first" else g_loss))
    return losses


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("settings", [
    ["base.order=d_first"], ["base.order=g_first"], ["base.order=g_first", "base.d_steps=3"],
    ["base.order=g_first", "base.share_fakes=true"],
    ["base.order=d_first", "base.share_fakes=true"],
])
def test_g_is_updated_several_times_in_a_step(tmp_path: Path, settings: list[str]) -> None:
    # Without batch norm, making fakes leaves no trace in G.
    model = "base.model={name: mlp_dropout, width: 8, dropout: 0.0}"
    spec = a_run(tmp_path, model, "base.g_steps=2", "base.d_loss_reduction=sum", *settings)
    once = a_run(tmp_path, model, "base.d_loss_reduction=sum", *settings)
    theirs = several_updates(spec)
    assert torch.tensor(engine_losses(spec)).allclose(torch.tensor(theirs), rtol=0, atol=1e-12)
    assert torch.tensor(engine_losses(once)).allclose(torch.tensor(several_updates(once)), rtol=0,
                                                      atol=1e-12)
    assert not torch.tensor(engine_losses(once)).allclose(torch.tensor(theirs), rtol=0, atol=1e-5)


def joint_phase(spec: RunSpec) -> list[tuple[float, float]]:
    """Relativistic pairing; G descends it on one batch of fakes, and γ times on a second."""
    networks = build_networks(spec.model, spec.data.shape, spec.seed)
    g, d = networks.generator, networks.discriminator
    g_sgd, d_sgd = (torch.optim.SGD(n.parameters(), 1.0) for n in (g, d))
    losses = []
    for step in range(1, STEPS + 1):
        draws = rng.generator(spec.seed, "latents", step)
        first, of_d, *more = (torch.randn(32, 100, generator=draws)
                              for _ in range(2 * spec.g_steps + 1))
        latents = [first, *more]
        firsts, seconds = latents[:spec.g_steps], latents[spec.g_steps:]
        made = d(g(of_d).detach())
        d_loss = softplus(made - d(reals(spec, step, "d", 1)[0])).mean()
        d_sgd.zero_grad()
        d_loss.backward()
        d_sgd.step()
        for first, second, real in zip(firsts, seconds, reals(spec, step, "g", spec.g_steps),
                                       strict=True):
            g_loss = softplus(d(real) - d(g(first))).mean()
            joint_loss = softplus(d(real) - d(g(second))).mean()
            own = torch.autograd.grad(g_loss, list(g.parameters()))
            joint = torch.autograd.grad(joint_loss, list(g.parameters()))
            for parameter, a, b in zip(g.parameters(), own, joint, strict=True):
                parameter.grad = a + spec.joint_weight * b
            g_sgd.step()
        losses.append((d_loss.item(), g_loss.item()))
    return losses


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("g_steps", [1, 2])
def test_the_joint_phase_adds_the_gradient_on_a_second_batch_of_fakes(tmp_path: Path,
                                                                      g_steps: int) -> None:
    settings = ("base.model={name: mlp_dropout, width: 8, dropout: 0.0}", f"base.g_steps={g_steps}",
                "base.loss=relativistic_pairing", "base.optimizer={name: sgd, lr: 1.0}")
    losses = []
    for weight in (0.5, 2.0):
        spec = a_run(tmp_path, f"base.joint_weight={weight}", *settings)
        losses.append(torch.tensor(joint_phase(spec)))
        assert torch.tensor(engine_losses(spec)).allclose(losses[-1], rtol=0, atol=1e-12)
    assert not losses[0].allclose(losses[1], rtol=0, atol=1e-6)


@pytest.mark.parametrize("setting", ["base.g_steps=2", "base.joint_weight=0.5"])
def test_d_sees_the_same_fakes_however_g_is_updated(tmp_path: Path, setting: str) -> None:
    """So variants of one seed differ in nothing else at first."""
    losses = [engine_losses(a_run(tmp_path, "base.d_steps=2", *more))
              for more in ((), (setting,))]
    assert losses[0][0][0] == losses[1][0][0]
    assert losses[0][1][0] != losses[1][1][0]


@pytest.mark.parametrize("loss", ["non_saturating", "relativistic_pairing"])
@pytest.mark.parametrize("condition", ["none", "concat"])
def test_every_update_of_g_has_a_batch_of_its_own(tmp_path: Path, loss: str, condition: str,
                                                  ) -> None:
    spec = a_run(tmp_path, f"base.loss={loss}", f"base.condition={condition}", "base.g_steps=3",
                 "base.d_steps=2", "evaluate.metrics=[nearest_train_mse]")
    datasets.prepare_data(spec.dataset, tmp_path, tmp_path, lambda line: None)
    data = datasets.load(spec.dataset, tmp_path, tmp_path, "cpu")
    assert data.train.labels is not None
    training = Training(Engine(spec, "cpu"), data, lambda g, d: {}, [],
                        Journal(spec.write(tmp_path)), start=1)
    batch = training._batch(2)
    if loss == "relativistic_pairing":
        assert batch.g_real is not None
        places = torch.cat([training._g_batches.places(i) for i in range(3, 6)])
        assert torch.equal(batch.g_real, data.train.images[places] / 127.5 - 1)
        labels = data.train.labels[places]
    else:
        assert batch.g_real is None
        labels = torch.cat([data.train.labels[training._batches.places(i)] for i in (2, 3, 2)])
    if condition == "none":
        assert batch.g_labels is None
    else:
        assert batch.g_labels is not None
        assert torch.equal(batch.g_labels, labels)
    assert training.step()
