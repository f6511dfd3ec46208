"""BigGAN and its layers: published sizes, and what follows from their definitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.golden_cases import FOLDER
from helpers.runs import DIGITS, a_run
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gan_bench.components import layers
from gan_bench.components.models import Networks, build_networks, make_networks
from gan_bench.components.networks.biggan import BigDiscriminator, BigGenerator
from gan_bench.errors import SpecError
from gan_bench.registry import MODELS
from gan_bench.training.step.engine import Engine

COUNTS: dict[str, dict[str, Any]] = json.loads((FOLDER / "biggan.json").read_text())[
    "parameter_counts"]
TEXT = DIGITS.replace("{name: mlp, width: 16}", "{name: biggan, width: 4}").replace(
    "image_size: 16", "image_size: 32")


def small(classes: int = 0, shape: tuple[int, ...] = (1, 32, 32), **args: object,
          ) -> tuple[BigGenerator, BigDiscriminator]:
    """Return a small pair in float64, in evaluation."""
    part = MODELS.parse({"name": "biggan", "width": 4, "latent_dim": 20, "shared_dim": 6, **args})
    networks = build_networks(part, shape, 0, "projection" if classes else "none", classes)
    g, d = networks.generator.double().eval(), networks.discriminator.double().eval()
    assert isinstance(g, BigGenerator)
    assert isinstance(d, BigDiscriminator)
    return g, d


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_counted_to_the_unit(name: str) -> None:
    said, settings = COUNTS[name], COUNTS[name]["settings"]
    part = MODELS.parse({
        "name": "biggan", "width": settings["G_ch"], "latent_dim": settings["dim_z"],
        "hierarchical": settings["hier"], "shared_dim": settings["shared_dim"] or None,
        "attention": int(settings["G_attn"]) or None})
    side = settings["resolution"]
    with torch.device("meta"):
        networks: Networks = make_networks(part, (3, side, side), "projection",
                                           settings["n_classes"])
    counts = [sum(parameter.numel() for parameter in network.parameters())
              for network in (networks.generator, networks.discriminator)]
    assert counts == [said["G"], said["D"]]


@pytest.mark.parametrize(("side", "of_g", "of_d"), [
    (32, [8, 16, 32], [16, 8, 8, 8]), (64, [8, 16, 32, 64], [32, 16, 8, 4, 4]),
    (128, [8, 16, 32, 64, 128], [64, 32, 16, 8, 4, 4]),
])
def test_blocks_and_attention_have_the_published_resolutions(
        side: int, of_g: list[int], of_d: list[int]) -> None:
    latent_dim = 4 * (len(of_g) + 1)
    g, d = small(shape=(3, side, side), latent_dim=latent_dim, width=2)
    seen: list[list[int]] = [[], []]
    for blocks, sides in zip((g.blocks, d.blocks), seen, strict=True):
        for block in blocks:
            block.register_forward_hook(lambda layer, args, made, sides=sides: sides.append(
                made.shape[-1]))
    with torch.no_grad():
        d(g(torch.randn(2, latent_dim).double()))
    assert seen == [of_g, of_d]
    attends = [[isinstance(block.attention, layers.SelfAttention) for block in blocks]
               for blocks in (g.blocks, d.blocks)]
    assert attends[0] == [at == side // 2 for at in of_g]
    # At 32 pixels the published code counts 16 for all blocks of D.
    assert attends[1] == ([True] * 4 if side == 32 else [at == side // 2 for at in of_d])


def test_attention_whose_factor_is_0_changes_nothing() -> None:
    g, d = small()
    gates = [layer for network in (g, d) for layer in network.modules()
             if type(layer).__name__ == "ZeroGate"]
    assert len(gates) == 5
    assert not any(bool(gate.gamma) for gate in gates)  # type: ignore[arg-type]
    layer, x = g.blocks[1].attention, torch.randn(2, 16, 16, 16).double()
    assert torch.equal(layer(x), x)
    nn.init.ones_(layer.gate.gamma)  # type: ignore[union-attr, arg-type]
    assert not torch.equal(layer(x), x)


def test_each_chunk_of_the_latents_reaches_its_block_and_those_after_it() -> None:
    """The first reaches all; chunk i has no influence on the blocks before block i."""
    g, _ = small(classes=3, attention=None)
    for name, parameter in g.named_parameters():  # a block's norms depend on its chunk
        assert name.startswith(("shared", "linear", "blocks", "norm", "to_image"))
        assert parameter.dim() < 2 or parameter.any()
    label = one_hot(torch.tensor([1]), 3).double()
    outputs: list[Tensor] = []
    for block in g.blocks:
        block.register_forward_hook(lambda layer, args, made: outputs.append(made.flatten()))

    def through(z: Tensor) -> tuple[Tensor, ...]:
        outputs.clear()
        g(torch.cat([z[None], label], 1))
        return tuple(outputs)

    slopes = torch.autograd.functional.jacobian(through, torch.randn(20).double())
    reached = [[bool(slope[:, 5 * chunk:5 * chunk + 5].any()) for slope in slopes]
               for chunk in range(4)]
    assert reached == [[True, True, True], [True, True, True], [False, True, True],
                       [False, False, True]]


@pytest.mark.parametrize("args", [{}, {"hierarchical": False}, {"hierarchical": False,
                                                                 "shared_dim": None}])
def test_labels_scale_and_shift_the_norms_and_add_to_the_logit(args: dict[str, object]) -> None:
    g, d = small(classes=3, **args)
    z, x = torch.randn(2, 20).double(), torch.randn(2, 1, 32, 32).double()
    with torch.no_grad():
        images = [g(torch.cat([z, one_hot(torch.full((2,), label), 3)], 1)) for label in range(3)]
        assert not torch.equal(images[0], images[1])
        table = d.embedding.weight  # type: ignore[union-attr]
        labels = torch.tensor([0, 2])
        features = d.blocks(x).relu().sum((2, 3))
        told = d(x, labels) - d(x)
        weight = table / d.embedding.sigma()  # type: ignore[union-attr, operator]
        torch.testing.assert_close(told, (weight[labels] * features).sum(1))
        condition = g.conditions(torch.cat([z, one_hot(labels, 3)], 1))[1][0]
        assert condition is not None
        hidden, norm = torch.randn(2, 16, 4, 4).double(), g.blocks[0].norm1
        gain, shift = norm.gain(condition), norm.bias(condition)  # type: ignore[union-attr, operator]
        assert (gain[0] - gain[1]).abs().max() > 1e-3
        expected = (1 + gain)[..., None, None] * norm.norm(hidden) + shift[..., None, None]  # type: ignore[union-attr, operator]
        torch.testing.assert_close(norm(hidden, condition), expected)  # type: ignore[operator]


def test_a_spectral_layer_has_the_largest_singular_value_of_a_known_matrix() -> None:
    """From u = (1, 1) and the matrix diag(2, 1): σ after k steps in closed form."""
    layer = layers.SpectralLinear(2, 2, bias=False).double()
    layer.weight.data.copy_(torch.diag(torch.tensor([2.0, 1.0])))
    layer.u.fill_(1)
    for k in range(1, 6):
        # u is then (4^k, 1), and v was (2 · 4^(k-1), 1), each over its length.
        u = torch.tensor([4.0**k, 1]).double()
        v = torch.tensor([2 * 4.0 ** (k - 1), 1]).double()
        expected = (u[0] * 2 * v[0] + u[1] * v[1]) / (u.norm() * v.norm())
        assert float(layer.sigma().detach()) == pytest.approx(float(expected), rel=1e-12)
        torch.testing.assert_close(layer.u, u / u.norm())
    before = layer.u.clone()
    layer.eval()
    assert layer.sigma() == layer.sigma()
    assert torch.equal(layer.u, before)


def test_d_has_spectral_norm_unless_it_is_left_to_a_penalty() -> None:
    for kind, is_normed in (("both", True), ("generator", False)):
        g, d = small(classes=3, spectral_norm=kind)
        wrapped = [isinstance(layer, layers.SpectralConv2d | layers.SpectralLinear
                              | layers.SpectralEmbedding)
                   for layer in d.modules() if isinstance(layer, nn.Conv2d | nn.Linear
                                                          | nn.Embedding)]
        assert wrapped == [is_normed] * len(wrapped)
        plain = [name for name, layer in g.named_modules() if isinstance(
            layer, nn.Conv2d | nn.Linear | nn.Embedding) and not hasattr(layer, "u")]
        assert plain == ["shared"]


def test_orthogonal_weights_are_orthonormal_rows_or_columns() -> None:
    g, _ = small(classes=3, init="orthogonal")
    checked = 0
    for layer in g.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            matrix = layer.weight.flatten(1)
            rows, columns = matrix.shape
            gram = matrix @ matrix.t() if rows <= columns else matrix.t() @ matrix
            torch.testing.assert_close(gram, torch.eye(min(rows, columns)).double(), rtol=0,
                                       atol=1e-5)
            assert getattr(layer, "bias", None) is None or not layer.bias.any()  # type: ignore[union-attr, operator]
            checked += 1
    assert checked == 28


def test_statistics_of_an_average_are_estimated_for_all_norms(tmp_path: Path) -> None:
    """Standing statistics, of conditional norms too; a copy of G's would be 0 and 1 here."""
    spec = a_run(tmp_path, "base.ema=0.9", "base.ema_statistics=estimated", "base.batch_size=8",
                 "base.model.attention=null", text=TEXT)
    average = Engine(spec, "cpu").ema
    assert average is not None
    norms = [layer for layer in average.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert len(norms) == 7
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.running_mean.abs().min() > 0
        assert (norm.running_var - 1).abs().min() > 1e-6
        assert norm.momentum == 0.1


@pytest.mark.parametrize(("overrides", "message"), [
    (["base.model.latent_dim=10"], "tiny.yaml:5:3: base.model: biggan cannot make 1×32×32 images: "
     "its latents are split into 4 chunks of equal length: choose a latent_dim that 4 divides, "
     "such as 8, or hierarchical: false"),
    (["base.model.shared_dim=null"], "give shared_dim, or hierarchical: false"),
    (["base.model.attention=32"], "its networks have no attention at 32 pixels: choose attention "
     "from 16, half or null"),
    (["base.model.attention=16", "dataset.image_size=48"], "an image_size of 32, 64 or 128"),
    (["base.penalties=[spectral_norm]"], "base.penalties: spectral_norm cannot divide the weights "
     "of the D of biggan by their norm: it has spectral norm of its own: leave spectral_norm out, "
     "or give the model `spectral_norm: generator`"),
])
def test_what_it_cannot_do_is_refused_with_the_line(tmp_path: Path, overrides: list[str],
                                                    message: str) -> None:
    with pytest.raises(SpecError) as error:
        a_run(tmp_path, *overrides, text=TEXT)
    assert message in str(error.value)
    for allowed in (["base.model.latent_dim=10", "base.model.hierarchical=false"],
                    ["base.model.attention=16"], ["base.model.attention=null"],
                    ["base.model.spectral_norm=generator", "base.penalties=[spectral_norm]"]):
        a_run(tmp_path, *allowed, text=TEXT)
