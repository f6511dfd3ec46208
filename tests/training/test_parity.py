"""gan-bench against the scripts that people would write, in float64, over fifty steps.

The loops are written from the published descriptions: sigmoid, binary cross-entropy, two Adams.
Initial weights, latents and batches are the same; all else is theirs.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.float64 import in_float64 as in_float64
from helpers.runs import a_run
from torch import Tensor, nn

from gan_bench import rng
from gan_bench.components import data as datasets
from gan_bench.components.data import Dataset
from gan_bench.components.models import build_networks
from gan_bench.config.spec import RunSpec
from gan_bench.training.loop import Batches
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

pytestmark = pytest.mark.usefixtures("in_float64")

STEPS = 50
MODELS = {"mlp": "{name: mlp, width: 16, bn_eps: 0.8}",
          "dcgan_upsample": "{name: dcgan_upsample, width: 8, dropout: 0.0, bn_eps: 0.8}"}


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("digits")
    part = a_run(folder).dataset
    datasets.prepare_data(part, folder, folder, lambda line: None)
    return datasets.load(part, folder, folder, "cpu")


def networks_of(spec: RunSpec) -> tuple[nn.Module, nn.Module]:
    made = build_networks(spec.model, spec.data.shape, spec.seed)
    return made.generator, nn.Sequential(made.discriminator, nn.Sigmoid())


def adams(*networks: nn.Module) -> list[torch.optim.Optimizer]:
    return [torch.optim.Adam(n.parameters(), lr=0.0002, betas=(0.5, 0.999)) for n in networks]


def script(spec: RunSpec, batches: list[Tensor]) -> list[tuple[float, float]]:
    """`gan.py` of PyTorch-GAN: G first; D sees the same fakes, and half the sum of its losses."""
    generator, discriminator = networks_of(spec)
    optimizer_g, optimizer_d = adams(generator, discriminator)
    adversarial_loss = nn.BCELoss()
    losses = []
    for step, real in enumerate(batches, start=1):
        valid, fake = torch.ones(len(real)), torch.zeros(len(real))
        z = torch.randn(len(real), 100, generator=rng.generator(spec.seed, "latents", step))
        optimizer_g.zero_grad()
        made = generator(z)
        g_loss = adversarial_loss(discriminator(made), valid)
        g_loss.backward()
        optimizer_g.step()
        optimizer_d.zero_grad()
        real_loss = adversarial_loss(discriminator(real), valid)
        fake_loss = adversarial_loss(discriminator(made.detach()), fake)
        d_loss = (real_loss + fake_loss) / 2
        d_loss.backward()
        optimizer_d.step()
        losses.append((d_loss.item(), g_loss.item()))
    return losses


def paper(spec: RunSpec, batches: list[Tensor]) -> list[tuple[float, float]]:
    """Algorithm 1 of Goodfellow et al. 2014: D first, its two terms summed, then G, fresh fakes."""
    generator, discriminator = networks_of(spec)
    optimizer_g, optimizer_d = adams(generator, discriminator)
    losses = []
    for step, real in enumerate(batches, start=1):
        draws = rng.generator(spec.seed, "latents", step)
        for_g, for_d = (torch.randn(len(real), 100, generator=draws) for _ in range(2))
        optimizer_d.zero_grad()
        with torch.no_grad():
            made = generator(for_d)
        d_loss = -(discriminator(real).log().mean() + (1 - discriminator(made)).log().mean())
        d_loss.backward()
        optimizer_d.step()
        optimizer_g.zero_grad()
        g_loss = -discriminator(generator(for_g)).log().mean()
        g_loss.backward()
        optimizer_g.step()
        losses.append((d_loss.item(), g_loss.item()))
    return losses


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize(("loop", "settings"), [
    (script, ["recipe=pytorch_gan_script"]),
    (paper, ["order=d_first", "share_fakes=false", "d_loss_reduction=sum"]),
])
def test_losses_are_those_of_a_plain_loop(tmp_path: Path, digits: Dataset, model: str, loop: object,
                                          settings: list[str]) -> None:
    spec = a_run(tmp_path, "variants={}", f"base.model={MODELS[model]}", f"base.steps={STEPS}",
                 "base.batch_size=32", *(f"base.{setting}" for setting in settings))
    order = Batches(digits.train.images, 32, spec.seed)
    batches = [order[i].double() for i in range(STEPS)]
    engine = Engine(spec, "cpu")
    ours = [engine.step(i + 1, StepBatch([batch]), observe=True) for i, batch in enumerate(batches)]
    theirs = loop(spec, batches)  # type: ignore[operator]
    for name, column in (("train/d_loss", 0), ("train/g_loss", 1)):
        torch.testing.assert_close(torch.stack([seen[name] for seen in ours]),
                                   torch.tensor([pair[column] for pair in theirs]),
                                   rtol=0, atol=1e-9)
    assert theirs[0] != pytest.approx(theirs[-1], abs=1e-3)  # they have learnt
