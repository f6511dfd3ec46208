"""`experiments/seeds/` against the scripts and the text that they are, in float64, over 50 steps.

Networks and loops are written here from their descriptions, and from nothing of gan-bench. Only
initial weights, batches, and the seeds of latents and dropout are those of the run.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from helpers.float64 import in_float64 as in_float64
from torch import Tensor, nn
from torch.nn.functional import kl_div

from gan_bench import rng
from gan_bench.components import data as datasets
from gan_bench.components.data import Dataset
from gan_bench.components.models import build_networks
from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import RunSpec
from gan_bench.journal.writing import Journal
from gan_bench.training.loop import Training
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

pytestmark = pytest.mark.usefixtures("in_float64")

FOLDER = Path(__file__).parents[2] / "experiments" / "seeds"
STEPS, SIDE = 50, 16
SMALL = (f"dataset={{name: digits, image_size: {SIDE}}}", "base.epochs=null", f"base.steps={STEPS}",
         "base.batch_size=32", "base.sample_every=null", "seeds=[3]", "compute.device=cpu",
         "evaluate={}")


class Trained(NamedTuple):
    """The losses of D and G at each step, and the networks in the end."""

    losses: list[tuple[float, float]]
    generator: nn.Module
    discriminator: nn.Module

    def numbers(self) -> Tensor:
        """Return all losses and weights, one after the other."""
        weights = [p.detach().flatten() for network in self[1:] for p in network.parameters()]
        return torch.cat([torch.tensor(self.losses).flatten(), *weights])



@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("digits")
    part = run_of("gan_script", "gan").dataset
    datasets.prepare_data(part, folder, folder, lambda line: None)
    return datasets.load(part, folder, folder, "cpu")


def run_of(file: str, variant: str, *overrides: str) -> RunSpec:
    spec = load_experiment(FOLDER / f"{file}.yaml", FOLDER, [*SMALL, *overrides])
    return next(run for run in spec.runs if run.variant == variant)


def trained(spec: RunSpec, data: Dataset, folder: Path) -> tuple[Trained, list[StepBatch]]:
    """Return what the run is after its steps, and what it was trained on, in float64."""
    torch.set_default_dtype(torch.float32)
    training = Training(Engine(spec, "cpu"), data, lambda g, d: {}, [],
                        Journal(spec.write(folder)), start=1)
    given = [training._batch(step) for step in range(1, STEPS + 1)]
    batches = [StepBatch([real.double() for real in batch.real],
                         g_real=None if batch.g_real is None else batch.g_real.double())
               for batch in given]
    torch.set_default_dtype(torch.float64)
    engine = Engine(spec, "cpu")
    seen = [engine.step(step, batch, observe=True) for step, batch in enumerate(batches, start=1)]
    losses = [(float(values["train/d_loss"]), float(values["train/g_loss"])) for values in seen]
    return Trained(losses, engine.generator, engine.discriminator), batches


def with_weights_of(spec: RunSpec, *networks: nn.Module) -> tuple[nn.Module, ...]:
    """Give G and D the initial weights of the run, in the order of their layers."""
    made = build_networks(spec.model, spec.data.shape, spec.seed)
    for network, initial in zip(networks, (made.generator, made.discriminator), strict=True):
        with torch.no_grad():
            for ours, theirs in zip(network.parameters(), initial.parameters(), strict=True):
                assert ours.shape == theirs.shape
                ours.copy_(theirs)
    return networks


def adams(*networks: nn.Module, beta1: float = 0.5) -> list[torch.optim.Optimizer]:
    return [torch.optim.Adam(n.parameters(), lr=0.0002, betas=(beta1, 0.999)) for n in networks]


def gan_networks(width: int) -> tuple[nn.Module, nn.Module]:
    """Type GAN: 0.8 stands in the place of batch norm's second argument, its epsilon."""
    layers: list[nn.Module] = [nn.Linear(100, width), nn.LeakyReLU(0.2)]
    for before, after in pairwise([width, 2 * width, 4 * width, 8 * width]):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after, 0.8), nn.LeakyReLU(0.2)]
    generator = nn.Sequential(*layers, nn.Linear(8 * width, SIDE * SIDE), nn.Tanh(),
                              nn.Unflatten(1, (1, SIDE, SIDE)))
    discriminator = nn.Sequential(
        nn.Flatten(), nn.Linear(SIDE * SIDE, 4 * width), nn.LeakyReLU(0.2),
        nn.Linear(4 * width, 2 * width), nn.LeakyReLU(0.2), nn.Linear(2 * width, 1), nn.Sigmoid())
    return generator, discriminator


def dcgan_networks(width: int) -> tuple[nn.Module, nn.Module]:
    """Type DCGAN: G's first batch norm alone has the usual epsilon."""
    generator = nn.Sequential(
        nn.Linear(100, 2 * width * 4 * 4), nn.Unflatten(1, (2 * width, 4, 4)),
        nn.BatchNorm2d(2 * width),
        nn.Upsample(scale_factor=2), nn.Conv2d(2 * width, 2 * width, 3, stride=1, padding=1),
        nn.BatchNorm2d(2 * width, 0.8), nn.LeakyReLU(0.2),
        nn.Upsample(scale_factor=2), nn.Conv2d(2 * width, width, 3, stride=1, padding=1),
        nn.BatchNorm2d(width, 0.8), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 1, 3, stride=1, padding=1), nn.Tanh())
    layers: list[nn.Module] = []
    for before, after in pairwise([1, width // 4, width // 2, width, 2 * width]):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.LeakyReLU(0.2), nn.Dropout2d(0.25)]
        if before > 1:
            layers.append(nn.BatchNorm2d(after, 0.8))
    discriminator = nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * width, 1), nn.Sigmoid())
    return generator, discriminator


def mlp_networks(g_width: int, d_width: int) -> tuple[nn.Module, nn.Module]:
    """The dropout script: no norm, dropout of 0.3 after each hidden layer of D."""
    up = [100, g_width, 2 * g_width, 4 * g_width]
    down = [SIDE * SIDE, 4 * d_width, 2 * d_width, d_width]
    layers: list[nn.Module] = []
    for before, after in pairwise(up):
        layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
    generator = nn.Sequential(*layers, nn.Linear(up[-1], SIDE * SIDE), nn.Tanh(),
                              nn.Unflatten(1, (1, SIDE, SIDE)))
    layers = [nn.Flatten()]
    for before, after in pairwise(down):
        layers += [nn.Linear(before, after), nn.LeakyReLU(0.2), nn.Dropout(0.3)]
    return generator, nn.Sequential(*layers, nn.Linear(d_width, 1))


def gan_script(spec: RunSpec, batches: list[StepBatch]) -> Trained:
    """G first; D sees the same fakes, and half the sum of its losses."""
    width = spec.model.args["width"]
    build = gan_networks if spec.variant == "gan" else dcgan_networks
    generator, discriminator = with_weights_of(spec, *build(width))
    optimizer_g, optimizer_d = adams(generator, discriminator)
    adversarial_loss, losses = nn.BCELoss(), []
    for step, batch in enumerate(batches, start=1):
        torch.manual_seed(rng.derive(spec.seed, "dropout", step))
        (real,) = batch.real
        valid, fake = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        z = torch.randn(len(real), 100, generator=rng.generator(spec.seed, "latents", step))
        optimizer_g.zero_grad()
        made = generator(z)
        g_loss = adversarial_loss(discriminator(made), valid)
        g_loss.backward()
        optimizer_g.step()
        optimizer_d.zero_grad()
        d_loss = (adversarial_loss(discriminator(real), valid)
                  + adversarial_loss(discriminator(made.detach()), fake)) / 2
        d_loss.backward()
        optimizer_d.step()
        losses.append((d_loss.item(), g_loss.item()))
    return Trained(losses, generator, discriminator)


def dropout_script(spec: RunSpec, batches: list[StepBatch]) -> Trained:
    """D first, on the sum of its two losses; G has fakes of its own, whose latents come first."""
    width = spec.model.args["width"]
    generator, logits = with_weights_of(spec, *mlp_networks(width, width))
    discriminator = nn.Sequential(logits, nn.Sigmoid())
    optimizer_g, optimizer_d = adams(generator, discriminator, beta1=0.9)
    criterion, losses = nn.BCELoss(), []
    for step, batch in enumerate(batches, start=1):
        torch.manual_seed(rng.derive(spec.seed, "dropout", step))
        draws = rng.generator(spec.seed, "latents", step)
        (real,) = batch.real
        ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)
        z_of_g, z_of_d = (torch.randn(len(real), 100, generator=draws) for _ in range(2))
        discriminator.zero_grad()
        d_loss = criterion(discriminator(real), ones) + criterion(
            discriminator(generator(z_of_d)), zeros)
        d_loss.backward()
        optimizer_d.step()
        generator.zero_grad()
        g_loss = criterion(discriminator(generator(z_of_g)), ones)
        g_loss.backward()
        optimizer_g.step()
        losses.append((d_loss.item(), g_loss.item()))
    return Trained(losses, generator, discriminator)


def symmetric_kl(real: Tensor, fake: Tensor) -> Tensor:
    """Both directions of KL between D's outputs of two batches, each as a distribution."""
    p, q = real.softmax(0), fake.softmax(0)
    return kl_div(q.log(), p, reduction="sum") + kl_div(p.log(), q, reduction="sum")


def symmetric_kl_text(spec: RunSpec, batches: list[StepBatch]) -> Trained:
    """D ascends the divergence; G descends it twice, each time with γ times a second batch."""
    args = spec.model.args
    generator, discriminator = with_weights_of(spec, *mlp_networks(args["width"], args["d_width"]))
    optimizer_g, optimizer_d = adams(generator, discriminator)
    every, losses = spec.g_optimizer.args["decay_every"], []
    schedulers: list[object] = [torch.optim.lr_scheduler.StepLR(optimizer, every, 0.5)
                                for optimizer in (optimizer_g, optimizer_d)]
    watching = spec.variant == "plateau"
    if watching:
        schedulers = [torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
                      for optimizer in (optimizer_g, optimizer_d)]
    sums = [0.0, 0.0]
    for step, batch in enumerate(batches, start=1):
        torch.manual_seed(rng.derive(spec.seed, "dropout", step))
        draws = rng.generator(spec.seed, "latents", step)

        def uniform(draws: torch.Generator = draws) -> Tensor:
            return torch.rand(32, 100, generator=draws) * 2 - 1

        first, of_d, again = uniform(), uniform(), uniform()
        firsts = [first, again]
        seconds = [uniform(), uniform()] if spec.joint_weight else [None, None]
        optimizer_d.zero_grad()
        made = generator(of_d).detach()
        d_loss = -symmetric_kl(discriminator(batch.real[0]), discriminator(made))
        d_loss.backward()
        optimizer_d.step()
        sums[1] += d_loss.item()
        assert batch.g_real is not None
        for first, second, real in zip(firsts, seconds, batch.g_real.split(32), strict=True):
            optimizer_g.zero_grad()
            fake_logits, real_logits = discriminator(generator(first)), discriminator(real)
            g_loss = symmetric_kl(real_logits, fake_logits)
            total = g_loss
            if second is not None:
                total = g_loss + 0.5 * symmetric_kl(real_logits, discriminator(generator(second)))
            total.backward()
            optimizer_g.step()
            sums[0] += total.item() / 2
        losses.append((d_loss.item(), g_loss.item()))
        for i, scheduler in enumerate(schedulers):
            if not watching:
                scheduler.step()  # type: ignore[attr-defined]
            elif step % every == 0:
                scheduler.step(sums[i] / every)  # type: ignore[attr-defined]
                sums[i] = 0.0
    # G's loss rises under a D that learns; that of D only falls, so that it has no plateau.
    rates = [optimizer.param_groups[0]["lr"] for optimizer in (optimizer_g, optimizer_d)]
    assert rates[0] < 0.0002
    assert watching is (rates[1] == 0.0002)
    return Trained(losses, generator, discriminator)


Loop = Callable[[RunSpec, list[StepBatch]], Trained]


@pytest.mark.parametrize(("file", "variant", "loop", "overrides"), [
    ("gan_script", "gan", gan_script, ["base.model.width=16"]),
    ("gan_script", "dcgan", gan_script, ["variants.dcgan.model.width=8",
                                         "variants.dcgan.model.init=default"]),
    ("dropout_script", "script", dropout_script, ["base.model.width=16"]),
    *[("symmetric_kl", variant, symmetric_kl_text, [
        "base.model.width=16", "base.model.d_width=8", "base.optimizer.decay_every=15",
        "variants.plateau.optimizer.decay_every=4", "variants.plateau.optimizer.decay_patience=0",
    ]) for variant in ("alone", "joint", "plateau")],
])
def test_losses_are_those_of_the_script(tmp_path: Path, digits: Dataset, file: str, variant: str,
                                        loop: Loop, overrides: list[str]) -> None:
    spec = run_of(file, variant, *overrides)
    ours, batches = trained(spec, digits, tmp_path)
    theirs = loop(spec, batches)
    torch.testing.assert_close(ours.numbers(), theirs.numbers(), rtol=0, atol=1e-9)
    assert theirs.losses[0] != pytest.approx(theirs.losses[-1], rel=1e-3)  # they have learnt


def test_every_file_is_compared_with_its_script() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == {
        "gan_script", "dropout_script", "symmetric_kl"}


def test_with_another_epsilon_it_is_another_script(tmp_path: Path, digits: Dataset) -> None:
    spec = run_of("gan_script", "dcgan", "variants.dcgan.model.width=8",
                  "variants.dcgan.model.bn_eps=0.8", "variants.dcgan.model.init=default")
    ours, batches = trained(spec, digits, tmp_path)
    theirs = gan_script(spec, batches)
    assert 1e-4 < (ours.numbers() - theirs.numbers()).abs().max() < 1
