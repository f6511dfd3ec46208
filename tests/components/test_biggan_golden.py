"""BigGAN gives the numbers of its original program, to the last digits, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.golden_cases import assert_golden, formula_tensor, golden_case
from helpers.golden_names import BIGGAN_D, BIGGAN_G
from helpers.golden_networks import Names, assert_gradients, assert_scalar, fill
from torch import Tensor, nn
from torch.nn.functional import one_hot, relu

from gan_bench.components import layers
from gan_bench.components.models import build_networks
from gan_bench.registry import MODELS

CASES = ["biggan.hierarchical", "biggan.cifar_script"]


class Pair:
    """The networks of a case, and its inputs."""

    def __init__(self, name: str) -> None:
        self.case = golden_case("biggan", name)
        config = self.case["config"]
        part = MODELS.parse({
            "name": "biggan", "width": config["ch"], "latent_dim": config["dim_z_used"],
            "hierarchical": config["hierarchical"], "shared_dim": config["shared_dim"],
            "attention": int(config["attention_at"]) or None})
        networks = build_networks(part, (3, 32, 32), 0, "projection", 10)
        self.g, self.d = networks.generator, networks.discriminator
        fill(self.g, self.case, "G.", BIGGAN_G)
        if any(key.startswith("D.") for key in self.case["tensors"]):
            fill(self.d, self.case, "D.", BIGGAN_D)

    def latents(self, name: str = "") -> Tensor:
        return torch.cat([formula_tensor(self.case, f"{name}z"),
                          one_hot(self.labels(f"{name}y"), 10)], 1)

    def labels(self, name: str) -> Tensor:
        return torch.tensor(self.case["config"]["labels"][name])

    def golden(self, name: str, found: Tensor) -> None:
        assert_golden(self.case, name, found)


@pytest.fixture(params=CASES)
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


def test_images_and_what_a_training_pass_moves(pair: Pair) -> None:
    with torch.no_grad():
        images = pair.g.eval()(pair.latents())
        pair.golden("G.image.eval", images)
        assert torch.equal(pair.g(pair.latents()), images)
        first: Any = pair.g.train()
        pair.golden("G.image.train", first(pair.latents()))
        after = "after_one_train_forward.G"
        for ours, theirs in ((first.linear, "linear"), (first.blocks[1].conv1, "block1.conv1")):
            pair.golden(f"{after}.{theirs}.u", ours.u[None])
        for norm, theirs in ((first.blocks[0].norm1.norm, "block0.bn1"), (first.norm, "output.bn")):
            pair.golden(f"{after}.{theirs}.stored_mean", norm.running_mean)
            pair.golden(f"{after}.{theirs}.stored_var", norm.running_var)
        pair.golden("G.image.eval_after_one_train_forward", pair.g.eval()(pair.latents()))


def test_logits(pair: Pair) -> None:
    real, labels = formula_tensor(pair.case, "x"), pair.labels("y_real")
    with torch.no_grad():
        pair.golden("D.logits.real.eval", pair.d.eval()(real, labels)[:, None])
        fake = pair.g.eval()(pair.latents())
        pair.golden("D.logits.fake.eval", pair.d(fake, pair.labels("y"))[:, None])
        pair.golden("D.logits.real.train", pair.d.train()(real, labels)[:, None])
        pair.golden("D.logits.real.train.second_forward", pair.d(real, labels)[:, None])


def test_the_phases(pair: Pair) -> None:
    """Their losses and gradients; D judges fake and real examples in one batch."""
    case = pair.case
    with torch.no_grad():
        fake = pair.g.train()(pair.latents())
    both = torch.cat([fake, formula_tensor(case, "x")])
    logits = pair.d.train()(both, torch.cat([pair.labels("y"), pair.labels("y_real")]))
    of_fake, of_real = logits.chunk(2)
    pair.golden("D_phase.fake_logits", of_fake[:, None])
    pair.golden("D_phase.real_logits", of_real[:, None])
    terms = relu(1 - of_real).mean(), relu(1 + of_fake).mean()
    assert_scalar(case, "D_phase.loss_real", terms[0])
    assert_scalar(case, "D_phase.loss_fake", terms[1])
    sum(terms).backward()  # type: ignore[union-attr]
    assert_gradients(case, "D_phase.gradients", pair.d, "D.", BIGGAN_D)


def test_the_phase_of_the_generator(pair: Pair) -> None:
    logits = pair.d.train()(pair.g.train()(pair.latents()), pair.labels("y"))
    pair.golden("G_phase.fake_logits", logits[:, None])
    assert_scalar(pair.case, "G_phase.loss", -logits.mean())
    (-logits.mean()).backward()
    assert_gradients(pair.case, "G_phase.gradients", pair.g, "G.", BIGGAN_G)


def test_standing_statistics() -> None:
    """The means of three training passes; the original's own batch norm takes biased variances."""
    pair = Pair("biggan.standing_statistics")
    norms = {name: layer for name, layer in pair.g.named_modules()
             if isinstance(layer, nn.BatchNorm2d)}
    sizes: dict[str, int] = {}
    for name, norm in norms.items():
        norm.reset_running_stats()
        norm.momentum = None
        norm.register_forward_hook(lambda layer, args, made, name=name: sizes.update(
            {name: made.numel() // made.shape[1]}))
    pair.g.train()
    with torch.no_grad():
        for i in range(3):
            pair.g(pair.latents(f"standing{i}."))
        for name, norm in norms.items():
            assert norm.running_var is not None
            norm.running_var *= (sizes[name] - 1) / sizes[name]
        first: Any = pair.g.eval()
        pair.golden("standing.mean.block0.bn1", first.blocks[0].norm1.norm.running_mean)
        pair.golden("standing.var.block0.bn1", first.blocks[0].norm1.norm.running_var)
        pair.golden("standing.3passes.G.image.eval", pair.g(pair.latents()))


def test_attention() -> None:
    case = golden_case("biggan", "biggan.attention")
    layer = layers.SelfAttention(16, layers.SpectralConv2d).eval()
    names: Names = {r"^attention\.": "", r"^gamma": "gate.gamma", "theta": "query", "phi": "key",
                    r"^g\.": "value.", r"^o\.": "back."}
    fill(layer, case, "attention.", names)
    x = formula_tensor(case, "x").requires_grad_()
    made = layer(x)
    assert_golden(case, "output", made)
    (made * formula_tensor(case, "cot")).sum().backward()
    assert x.grad is not None
    assert_golden(case, "grad_x", x.grad)
    assert_gradients(case, "gradients", layer, "attention.", names)


@pytest.mark.parametrize("name", ["conv", "linear", "embedding"])
def test_spectral_norm(name: str) -> None:
    """A pass in evaluation, three in training, and the gradient of a fourth."""
    case = golden_case("biggan", "biggan.spectral_norm")
    layer = {"conv": layers.SpectralConv2d(5, 6, 3), "linear": layers.SpectralLinear(9, 7),
             "embedding": layers.SpectralEmbedding(6, 5)}[name]
    fill(layer, case, f"{name}.", {})
    x = torch.tensor([0, 2, 5, 2]) if name == "embedding" else formula_tensor(case, f"{name}.x")

    def made() -> Tensor:
        out: Tensor = layer(x)  # that of the original has no margin
        return out[..., 1:-1, 1:-1] if name == "conv" else out

    layer.eval()
    assert_golden(case, f"{name}.eval.output", made())
    assert_golden(case, f"{name}.eval.u_unchanged", layer.u[None])
    layer.train()
    for i in (1, 2, 3):
        out = made()
        if i != 2:
            assert_golden(case, f"{name}.output_{i}", out)
            assert_golden(case, f"{name}.u_after_{i}", layer.u[None])
    (made() * formula_tensor(case, f"{name}.cot")).sum().backward()
    assert layer.weight.grad is not None
    assert_golden(case, f"{name}.grad_weight_4th_forward", layer.weight.grad)
    true = float(torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2))
    assert true == pytest.approx(case["numbers"][f"{name}.true_sigma"]["value"], rel=1e-9)
    for _ in range(300):
        layer.sigma()
    assert float(layer.sigma().detach()) == pytest.approx(true, rel=1e-9)
