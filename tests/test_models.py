"""Contracts over the registry of models: a new entry is tested without a new test."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gan_bench.models import build_networks
from gan_bench.registry import MODELS, Entry

ENTRIES = [pytest.param(entry, id=entry.name) for entry in MODELS]
SHAPES = [(channels, side, side) for channels in (1, 3) for side in (16, 28, 32, 64)] + [(2,)]


def serves(entry: Entry[object], shape: tuple[int, ...]) -> bool:
    return entry.facts["refuses"](shape) is None


@pytest.mark.parametrize(("entry", "shape"), [
    pytest.param(entry, shape, id=f"{entry.name}-{shape}")
    for entry in MODELS for shape in SHAPES if serves(entry, shape)])
def test_builds_what_it_serves(entry: Entry[object], shape: tuple[int, ...]) -> None:
    part = MODELS.parse({"name": entry.name, "width": 8, "latent_dim": 5})
    networks = build_networks(part, shape, 0, "cpu")
    made = networks.generator(torch.randn(3, 5))
    assert made.shape == (3, *shape)
    if len(shape) == 3:
        assert made.abs().max() <= 1
    assert networks.discriminator(made).shape == (3,)


def test_every_family_serves_what_the_documentation_says() -> None:
    served = {entry.name: [shape for shape in SHAPES if serves(entry, shape)] for entry in MODELS}
    images = SHAPES[:-1]
    for name in ("mlp", "mlp_dropout"):
        assert served[name] == SHAPES
    for name in ("mlp_conv", "dcgan", "dcgan_upsample"):
        assert served[name] == images
    assert not serves(MODELS["dcgan"], (1, 20, 20))
    assert not serves(MODELS["dcgan_upsample"], (1, 18, 18))
    assert not serves(MODELS["mlp_conv"], (1, 7, 7))


@pytest.mark.parametrize("entry", ENTRIES)
def test_parameters_are_registered_in_forward_order(entry: Entry[object]) -> None:
    """Gradients reach the last layer first, so the order is seen backward."""
    networks = build_networks(MODELS.parse(entry.name), (1, 32, 32), 0, "cpu")
    networks.generator.eval()
    for network, given in ((networks.generator, torch.randn(2, 100)),
                           (networks.discriminator, torch.randn(2, 1, 32, 32))):
        reached: list[nn.Parameter] = []
        for parameter in network.parameters():
            parameter.register_post_accumulate_grad_hook(reached.append)
        network(given).sum().backward()
        forward = [id(p) for p in network.parameters()]
        layers = {id(p): i for i, m in enumerate(network.modules())
                  for p in m.parameters(recurse=False)}
        order = [layers[id(p)] for p in reversed(reached)]
        assert order == sorted(order)
        assert len(reached) == len(forward)


def test_weights_depend_on_the_seed_alone_and_leave_the_global_state() -> None:
    before = torch.get_rng_state()
    part = MODELS.parse("dcgan_upsample")
    first = build_networks(part, (1, 16, 16), 3, "cpu")
    torch.manual_seed(99)
    torch.randn(7)
    again = build_networks(part, (1, 16, 16), 3, "cpu")
    other = build_networks(part, (1, 16, 16), 4, "cpu")
    for a, b in zip(first.generator.parameters(), again.generator.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(first.generator.parameters()), next(other.generator.parameters()))
    torch.set_rng_state(before)
    build_networks(part, (1, 16, 16), 3, "cpu")
    assert torch.equal(torch.get_rng_state(), before)


def test_generators_of_a_seed_are_equal_whatever_the_discriminator() -> None:
    plain = build_networks(MODELS.parse("dcgan_upsample"), (1, 16, 16), 0, "cpu")
    other = build_networks(MODELS.parse({"name": "dcgan_upsample", "dropout": 0.0}), (1, 16, 16), 0,
                           "cpu")
    for a, b in zip(plain.generator.parameters(), other.generator.parameters(), strict=True):
        assert torch.equal(a, b)


def test_normal_initialisation_is_that_of_radford() -> None:
    networks = build_networks(MODELS.parse({"name": "dcgan", "width": 64}), (3, 64, 64), 0, "cpu")
    for network in (networks.generator, networks.discriminator):
        for layer in network.modules():
            if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)) and layer.weight.numel() > 10000:
                assert 0.0195 < layer.weight.std() < 0.0205
                assert abs(layer.weight.mean()) < 0.001
            if isinstance(layer, nn.BatchNorm2d):
                assert abs(layer.weight.mean() - 1) < 0.01
                assert 0.014 < layer.weight.std() < 0.026
                assert (layer.bias == 0).all()


def test_dcgan_has_the_channels_of_figure_1() -> None:
    """1024 at 4x4, 512 at 8x8, 256 at 16x16, 128 at 32x32, the image at 64x64."""
    generator = build_networks(MODELS.parse("dcgan"), (3, 64, 64), 0, "cpu").generator
    shapes = []
    given = torch.randn(2, 100)
    for layer in generator:  # type: ignore[attr-defined]
        given = layer(given)
        if isinstance(layer, nn.ConvTranspose2d):
            shapes.append(tuple(given.shape[1:]))
    assert shapes == [(1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32), (3, 64, 64)]


def test_mlp_has_the_published_widths() -> None:
    networks = build_networks(MODELS.parse("mlp"), (1, 28, 28), 0, "cpu")
    widths = [(m.in_features, m.out_features) for n in (networks.generator, networks.discriminator)
              for m in n.modules() if isinstance(m, nn.Linear)]
    assert widths == [(100, 128), (128, 256), (256, 512), (512, 1024), (1024, 784),
                      (784, 512), (512, 256), (256, 1)]
    norms = [m.eps for m in networks.generator.modules() if isinstance(m, nn.BatchNorm1d)]
    assert norms == [1e-5] * 3
