"""Contracts over the registry of models: a new entry is tested without a new test."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gan_bench.components.models import Networks, build_networks, r3
from gan_bench.registry import MODELS, Entry, ModelFacts

ENTRIES = [pytest.param(entry, id=entry.name) for entry in MODELS
           if entry.facts.takes == "class"]
SHAPES = [(channels, side, side) for channels in (1, 3) for side in (16, 28, 32, 64)] + [(2,)]


def serves(entry: Entry[object, ModelFacts], shape: tuple[int, ...]) -> bool:
    return entry.facts.refuses(shape) is None


@pytest.mark.parametrize(("entry", "shape"), [
    pytest.param(entry, shape, id=f"{entry.name}-{shape}")
    for entry in MODELS for shape in SHAPES
    if entry.facts.takes == "class" and serves(entry, shape)])
def test_builds_what_it_serves(entry: Entry[object, ModelFacts], shape: tuple[int, ...]) -> None:
    part = MODELS.parse({"name": entry.name, "width": 8, "latent_dim": 20})
    networks = build_networks(part, shape, 0)
    made = networks.generator(torch.randn(3, 20))
    assert made.shape == (3, *shape)
    if len(shape) == 3 and entry.facts.bounded:
        assert made.abs().max() <= 1
    assert networks.discriminator(made).shape == (3,)


def test_every_family_serves_what_the_documentation_says() -> None:
    served = {entry.name: [shape for shape in SHAPES if serves(entry, shape)] for entry in MODELS}
    images = SHAPES[:-1]
    for name in ("mlp", "mlp_dropout"):
        assert served[name] == SHAPES
    for name in ("mlp_conv", "dcgan", "dcgan_upsample"):
        assert served[name] == images
    assert served["biggan"] == [shape for shape in images if shape[1] in (32, 64)]
    assert serves(MODELS["biggan"], (3, 128, 128))
    assert not any(serves(MODELS["biggan"], (1, side, side)) for side in (8, 31, 48, 256))
    assert served["resnet"] == [shape for shape in images if shape[1] in (32, 64)]
    assert served["stylegan2"] == [shape for shape in images if shape[1] != 28]
    assert all(serves(MODELS["stylegan2"], (3, side, side)) for side in (128, 256, 1024))
    assert not any(serves(MODELS["stylegan2"], (1, side, side)) for side in (8, 24, 96, 2048))
    assert served["r3"] == [shape for shape in images if shape[1] != 28]
    assert not any(serves(MODELS["r3"], (1, side, side)) for side in (4, 8, 24, 48, 128))
    assert not any(serves(MODELS["resnet"], (1, side, side)) for side in (31, 48, 128))
    assert not serves(MODELS["dcgan"], (1, 20, 20))
    assert not serves(MODELS["dcgan_upsample"], (1, 18, 18))
    assert not serves(MODELS["mlp_conv"], (1, 7, 7))


@pytest.mark.parametrize("entry", ENTRIES)
def test_parameters_are_registered_in_forward_order(entry: Entry[object, ModelFacts]) -> None:
    """Gradients reach the last layer first, so the order is seen backward."""
    part = MODELS.parse(entry.name)
    networks = build_networks(part, (1, 32, 32), 0)
    networks.generator.eval()
    for network, given in ((networks.generator, torch.randn(2, part.args["latent_dim"])),
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
    first = build_networks(part, (1, 16, 16), 3)
    torch.manual_seed(99)
    torch.randn(7)
    again = build_networks(part, (1, 16, 16), 3)
    other = build_networks(part, (1, 16, 16), 4)
    for a, b in zip(first.generator.parameters(), again.generator.parameters(), strict=True):
        assert torch.equal(a, b)
    assert not torch.equal(next(first.generator.parameters()), next(other.generator.parameters()))
    torch.set_rng_state(before)
    build_networks(part, (1, 16, 16), 3)
    assert torch.equal(torch.get_rng_state(), before)


def test_generators_of_a_seed_are_equal_whatever_the_discriminator() -> None:
    plain = build_networks(MODELS.parse("dcgan_upsample"), (1, 16, 16), 0)
    other = build_networks(MODELS.parse({"name": "dcgan_upsample", "dropout": 0.0}), (1, 16, 16), 0)
    for a, b in zip(plain.generator.parameters(), other.generator.parameters(), strict=True):
        assert torch.equal(a, b)


def test_normal_initialisation_is_that_of_radford() -> None:
    networks = build_networks(MODELS.parse({"name": "dcgan", "width": 64}), (3, 64, 64), 0)
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
    generator = build_networks(MODELS.parse("dcgan"), (3, 64, 64), 0).generator
    shapes = []
    given = torch.randn(2, 100)
    for layer in generator:  # type: ignore[attr-defined]
        given = layer(given)
        if isinstance(layer, nn.ConvTranspose2d):
            shapes.append(tuple(given.shape[1:]))
    assert shapes == [(1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32), (3, 64, 64)]


def test_mlp_has_the_published_widths() -> None:
    networks = build_networks(MODELS.parse("mlp"), (1, 28, 28), 0)
    widths = [(m.in_features, m.out_features) for n in (networks.generator, networks.discriminator)
              for m in n.modules() if isinstance(m, nn.Linear)]
    assert widths == [(100, 128), (128, 256), (256, 512), (512, 1024), (1024, 784),
                      (784, 512), (512, 256), (256, 1)]
    norms = [m.eps for m in networks.generator.modules() if isinstance(m, nn.BatchNorm1d)]
    assert norms == [1e-5] * 3


def on_meta(part: dict[str, Any], shape: tuple[int, ...]) -> Networks:
    with torch.device("meta"):
        networks: Networks = MODELS.build(MODELS.parse(part), shape)
    return networks


def convolutions(network: nn.Module, size: int) -> list[tuple[int, int]]:
    """The channels (in, out) of the convolutions with kernels of this size, in forward order."""
    return [(layer.in_channels, layer.out_channels) for layer in network.modules()
            if isinstance(layer, nn.Conv2d) and layer.kernel_size == (size, size)]


def test_resnet_has_the_published_channels() -> None:
    """Miyato et al. 2018, table 4, and the published code for 64 pixels."""
    small = on_meta({"name": "resnet", "bn_eps": 0.8}, (3, 32, 32))
    large = on_meta({"name": "resnet"}, (3, 64, 64))
    assert convolutions(small.generator, 3) == [(256, 256)] * 6 + [(256, 3)]
    assert convolutions(small.generator, 1) == [(256, 256)] * 3
    assert convolutions(small.discriminator, 3) == [(3, 128)] + [(128, 128)] * 7
    assert convolutions(small.discriminator, 1) == [(3, 128), (128, 128)]
    assert convolutions(large.generator, 1) == [(1024, 512), (512, 256), (256, 128), (128, 64)]
    assert convolutions(large.generator, 3) == [
        (1024, 512), (512, 512), (512, 256), (256, 256), (256, 128), (128, 128), (128, 64),
        (64, 64), (64, 3)]
    assert convolutions(large.discriminator, 3) == [
        (3, 64), (64, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256), (256, 512),
        (512, 512), (512, 1024)]
    for networks, channels in ((small, 256), (large, 1024)):
        first = next(m for m in networks.generator.modules() if isinstance(m, nn.Linear))
        assert (first.in_features, first.out_features) == (128, 16 * channels)
    for networks, eps in ((small, 0.8), (large, 1e-5)):
        assert not any(isinstance(m, nn.BatchNorm2d) for m in networks.discriminator.modules())
        norms = [m.eps for m in networks.generator.modules() if isinstance(m, nn.BatchNorm2d)]
        assert norms == [eps] * (2 * len(convolutions(networks.generator, 1)) + 1)


def test_resnet_rectifies_before_every_convolution_but_of_the_images_and_sums_pixels() -> None:
    networks = build_networks(MODELS.parse({"name": "resnet", "width": 8}), (1, 32, 32), 0)
    images = torch.randn(4, 1, 32, 32)
    *blocks, relu, pool, linear, _ = networks.discriminator  # type: ignore[misc]
    assert not torch.allclose(blocks[0].branch(images), blocks[0].branch(images.relu()))
    features = blocks[0](images)
    sides = [features.shape[2]]
    for block in blocks[1:]:
        assert torch.equal(block.branch(features), block.branch(features.relu()))
        assert not torch.equal(block.shortcut(features), block.shortcut(features.relu()))
        features = block(features)
        sides.append(features.shape[2])
    assert sides == [16, 8, 8, 8]
    summed = pool(relu(features))
    torch.testing.assert_close(summed, features.clamp(min=0).sum((2, 3)))
    torch.testing.assert_close(networks.discriminator(images), linear(summed).flatten())


def test_xavier_initialisation_is_that_of_the_resnet() -> None:
    """Uniform, gain √2 within blocks and 1 elsewhere; biases 0 (Chainer's GlorotUniform)."""
    networks = build_networks(MODELS.parse({"name": "resnet", "width": 32}), (3, 64, 64), 0)
    checked = []
    for network in (networks.generator, networks.discriminator):
        for name, layer in network.named_modules():
            if isinstance(layer, (nn.Conv2d, nn.Linear)):
                fans = sum(layer.weight.shape[:2]) * layer.weight[0, 0].numel()
                gain = 2**0.5 if ".branch." in name else 1.0
                bound = gain * (6 / fans) ** 0.5
                assert layer.weight.abs().max().item() <= bound
                if layer.weight.numel() > 10000:
                    checked.append(gain)
                    assert layer.weight.abs().max().item() > 0.99 * bound
                    assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.03)
                assert layer.bias is not None
                assert (layer.bias == 0).all()
    assert {gain: checked.count(gain) for gain in checked} == {1.0: 5, 2**0.5: 14}


def test_r3_has_the_published_layout() -> None:
    """768 channels, 384 at 64 pixels, 1×1 → 3×3 in groups of 16 → 1×1 at twice the channels."""
    networks = on_meta({"name": "r3", "width": 768, "blocks": 2}, (3, 64, 64))
    for network in (networks.generator, networks.discriminator):
        middle = [m for m in network.modules()
                  if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)]
        outer = {(768, 384), (384, 768)} & set(convolutions(network, 1))
        assert len(middle) == 10
        assert [m.out_channels for m in middle].count(768) == 2  # at 64 pixels
        assert [m.groups for m in middle].count(48) == 2
        assert [(m.in_channels, m.out_channels, m.groups) for m in middle].count(
            (1536, 1536, 96)) == 8
        assert len(outer) == 2  # one of a block at 64 pixels, the other between 64 and 32
        assert not any(isinstance(m, (nn.BatchNorm2d, nn.BatchNorm1d)) for m in network.modules())
    first, last = networks.generator[2], networks.discriminator[-4]  # type: ignore[index]
    assert first.weight.shape == last.weight.shape == (768, 1, 4, 4)


def test_r3_starts_as_fixup_says() -> None:
    part = MODELS.parse({"name": "r3", "width": 64, "blocks": 2})
    networks = build_networks(part, (3, 32, 32), 0)
    gain = (2 / 1.04) ** 0.5 * 8**-0.25  # eight blocks: two at each of 4, 8, 16 and 32 pixels
    for network in (networks.generator, networks.discriminator):
        blocks = [m.branch for m in network.modules() if hasattr(m, "branch")]
        assert len(blocks) == 8
        for first, _, second, _, third in blocks:
            assert first.weight.std().item() == pytest.approx(gain / 64**0.5, rel=0.05)
            assert second.weight.std().item() == pytest.approx(gain / (9 * 16) ** 0.5, rel=0.05)
            assert (third.weight == 0).all()
            assert (first.bias == 0).all()
            assert (second.bias == 0).all()
            assert third.bias is None
    assert networks.generator[2].weight.std().item() == pytest.approx(1, rel=0.1)  # type: ignore[index]
    # Its blocks add nothing yet, and all else is linear and without a bias.
    x, y = torch.randn(2, 5, 3, 32, 32).double()
    linear = networks.discriminator.double()
    torch.testing.assert_close(linear(2 * x - y), 2 * linear(x) - linear(y), rtol=0, atol=1e-12)
    u, v = torch.randn(2, 5, 64).double()
    before_tanh = networks.generator.double()[:-1]  # type: ignore[index]
    torch.testing.assert_close(before_tanh(2 * u - v), 2 * before_tanh(u) - before_tanh(v),
                               rtol=0, atol=1e-12)


def test_r3_resamples_bilinearly() -> None:
    """As PyTorch does away from the border, where zeros enter."""
    x = torch.randn(2, 3, 8, 8)
    for layer, factor, side in ((r3._resampled(double=True), 2.0, 16),
                                (r3._resampled(double=False), 0.5, 4)):
        found = layer(x)
        expected = nn.functional.interpolate(x, scale_factor=factor, mode="bilinear",
                                             antialias=True)
        assert found.shape == (2, 3, side, side)
        torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])
        assert not torch.allclose(found, expected)
        assert not layer.state_dict()
