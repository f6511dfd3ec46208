"""StyleGAN2 gives the numbers of its original program, to the last digits, in float64."""

from __future__ import annotations

import pytest
import torch
from helpers.golden_cases import assert_golden, formula_tensor, golden_case
from helpers.golden_names import STYLEGAN2_D, STYLEGAN2_G
from helpers.golden_networks import assert_gradients, assert_scalar, fill
from torch import Tensor
from torch.nn.functional import one_hot, softplus

from gan_bench.components.models import build_networks
from gan_bench.components.networks.style_mapping import truncated
from gan_bench.components.networks.stylegan2 import StyleGenerator
from gan_bench.registry import MODELS

CASES = ["stylegan2.unconditional.orig", "stylegan2.conditional10.resnet",
         "stylegan2.unconditional.resnet"]
MIXING = "stylegan2.style_mixing.conditional10.resnet"


class Pair:
    """The networks of a case, and its inputs."""

    def __init__(self, name: str) -> None:
        self.case = golden_case("stylegan2", name)
        config = self.case["config"]
        part = MODELS.parse({
            "name": "stylegan2", "latent_dim": config["z_dim"], "width": config["channel_max"],
            "w_dim": config["w_dim"], "mapping_layers": config["g_mapping_layers"],
            "d_architecture": config["d_architecture"], "group": config["mbstd_group"],
            "noise": "constant"})
        self.classes = config["c_dim"]
        networks = build_networks(part, (3, 32, 32), 0, "projection" if self.classes else "none",
                                  self.classes)
        assert isinstance(networks.generator, StyleGenerator)
        self.g, self.d = networks.generator, networks.discriminator
        fill(self.g, self.case, "G.", STYLEGAN2_G)
        fill(self.d, self.case, "D.", STYLEGAN2_D)

    def latents(self, name: str = "z", count: int | None = None) -> Tensor:
        latents, labels = formula_tensor(self.case, name), self.labels("c")
        if labels is not None:
            latents = torch.cat([latents, one_hot(labels, self.classes)[:len(latents)]], 1)
        return latents[:count]

    def labels(self, name: str) -> Tensor | None:
        return torch.tensor(self.case["config"]["labels"][name]) if self.classes else None

    def logits(self, images: Tensor, labels: str) -> Tensor:
        return self.d(images) if not self.classes else self.d(images, self.labels(labels))

    def golden(self, name: str, found: Tensor) -> None:
        assert_golden(self.case, name, found)


@pytest.fixture(params=CASES)
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


def test_images_and_logits(pair: Pair) -> None:
    g, real = pair.g.eval(), formula_tensor(pair.case, "real")
    with torch.no_grad():
        ws = g.styles(pair.latents())
        pair.golden("G.mapping.w", ws[:, 0])
        images = g(pair.latents())
        pair.golden("G.image.psi1", images)
        for psi in (0.7, 0):
            pair.golden(f"G.image.psi{psi}", g.synthesis(truncated(ws, g.mapping.average, psi)))
        pair.golden("G.image.psi0.5.first4layers",
                    g.synthesis(truncated(ws, g.mapping.average, 0.5, first=4)))
        assert torch.equal(g.synthesis(truncated(ws, g.mapping.average, 1.0)), images)
        pair.golden("D.logits.real", pair.logits(real, "c")[:, None])
        pair.golden("D.logits.fake", pair.logits(images, "c")[:, None])
        for name, parameter in g.named_parameters():
            if name.endswith("strength"):
                parameter.zero_()
        pair.golden("G.image.no_noise", g(pair.latents()))


def test_the_phases_of_the_discriminator(pair: Pair) -> None:
    """Their losses and gradients; each training pass of G moves the mean w."""
    case, real = pair.case, formula_tensor(pair.case, "real")
    fake = pair.g.train()(pair.latents()).detach()
    fake_logits, real_logits = pair.logits(fake, "c"), pair.logits(real, "c_real")
    pair.golden("Dmain.fake_logits", fake_logits[:, None])
    pair.golden("Dmain.real_logits", real_logits[:, None])
    loss = softplus(fake_logits).mean() + softplus(-real_logits).mean()
    assert_scalar(case, "Dmain.loss_real_plus_fake", loss)
    loss.backward()
    assert_gradients(case, "Dmain.gradients", pair.d, "D.", STYLEGAN2_D)
    assert pair.g.mapping.average is not None
    pair.golden("Dmain.w_avg_after", pair.g.mapping.average)

    pair.d.zero_grad()
    real.requires_grad_()
    (slope,) = torch.autograd.grad(pair.logits(real, "c_real").sum(), real, create_graph=True)
    squares = slope.square().sum((1, 2, 3))
    pair.golden("Dreg.r1_penalty", squares)
    penalty = case["config"]["r1_gamma"] / 2 * squares.mean()
    assert_scalar(case, "Dreg.loss", penalty)
    penalty.backward()
    assert_gradients(case, "Dreg.gradients", pair.d, "D.", STYLEGAN2_D,
                     scale=case["config"]["d_reg_interval"])


def mixed(pair: Pair, count: int | None = None) -> Tensor:
    """The styles of a batch: with those of other latents from a layer on, if the case mixes."""
    ws, first = pair.g.styles(pair.latents(count=count)), pair.case["config"]["style_mixing"]
    if first is None:
        return ws
    others = pair.g.styles(pair.latents("z_mix", count), track=False)
    return torch.cat([ws[:, :first], others[:, first:]], 1)


@pytest.mark.parametrize("name", [*CASES[:2], MIXING])
def test_the_phases_of_the_generator(name: str) -> None:
    """The main loss, and the path length with the mean that it moves."""
    pair = Pair(name)
    case, config = pair.case, pair.case["config"]
    logits = pair.logits(pair.g.train().synthesis(mixed(pair)), "c")
    pair.golden("Gmain.fake_logits", logits[:, None])
    loss = softplus(-logits).mean()
    assert_scalar(case, "Gmain.loss", loss)
    loss.backward()
    assert_gradients(case, "Gmain.gradients", pair.g, "G.", STYLEGAN2_G)
    assert pair.g.mapping.average is not None
    pair.golden("Gmain.w_avg_after", pair.g.mapping.average)

    pair = Pair(name)
    ws = mixed(pair, config["batch"] // config["pl_batch_shrink"])
    images = pair.g.synthesis(ws)
    noise = formula_tensor(case, "pl_noise") / 32
    (slope,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)
    lengths = slope.square().sum(2).mean(1).sqrt()
    mean = config["pl_mean_start"] + config["pl_decay"] * (lengths.mean() - config["pl_mean_start"])
    assert_scalar(case, "Greg.pl_mean_after", mean)
    pair.golden("Greg.pl_penalty", (lengths - mean).square())
    penalty = config["pl_weight"] * (lengths - mean).square().mean()
    assert_scalar(case, "Greg.loss_times_weight", penalty)
    penalty.backward()
    assert_gradients(case, "Greg.gradients", pair.g, "G.", STYLEGAN2_G,
                     scale=config["g_reg_interval"])
    assert pair.g.mapping.average is not None
    pair.golden("Greg.w_avg_after", pair.g.mapping.average)
