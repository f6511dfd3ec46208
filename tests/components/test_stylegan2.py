"""StyleGAN2 and its layers: published sizes, and what follows from their definitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.golden_cases import FOLDER
from helpers.runs import DIGITS, a_run
from scipy.signal import upfirdn
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gan_bench.components import layers
from gan_bench.components.models import Networks, build_networks, make_networks
from gan_bench.components.networks.style_discriminator import StyleDiscriminator
from gan_bench.components.networks.style_mapping import truncated
from gan_bench.components.networks.stylegan2 import StyleGenerator
from gan_bench.errors import SpecError
from gan_bench.registry import MODELS

COUNTS: dict[str, dict[str, Any]] = json.loads((FOLDER / "stylegan2.json").read_text())[
    "parameter_counts"]
TEXT = DIGITS.replace("{name: mlp, width: 16}", "{name: stylegan2, width: 8}")
SMALL = {"name": "stylegan2", "width": 8, "latent_dim": 6, "mapping_layers": 2}


def small(classes: int = 0, seed: int = 0, **args: object,
          ) -> tuple[StyleGenerator, StyleDiscriminator]:
    """Return a small pair for 16×16 grey images, in float64."""
    networks = build_networks(MODELS.parse({**SMALL, **args}), (1, 16, 16), seed,
                              "projection" if classes else "none", classes)
    g, d = networks.generator.double(), networks.discriminator.double()
    assert isinstance(g, StyleGenerator)
    assert isinstance(d, StyleDiscriminator)
    return g, d


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_are_counted_to_the_unit(name: str) -> None:
    said, settings = COUNTS[name], COUNTS[name]["settings"]
    part = MODELS.parse({
        "name": "stylegan2", "latent_dim": settings["z_dim"], "w_dim": settings["w_dim"],
        "width": settings["channel_max"], "mapping_layers": settings["mapping_layers"],
        "widest_until": settings["channel_base"] // settings["channel_max"],
        "d_architecture": settings["d_architecture"]})
    side, classes = settings["resolution"], settings["classes"]
    with torch.device("meta"):
        networks: Networks = make_networks(part, (3, side, side), "projection" if classes else
                                           "none", classes)
    g = networks.generator
    assert isinstance(g, StyleGenerator)
    assert (count(g), count(networks.discriminator)) == (said["G"], said["D"])
    assert (count(g.mapping), count(g.synthesis)) == (said["mapping"], said["synthesis"])
    assert g.synthesis.layers == said["num_ws"]


def test_a_discriminator_with_skips_has_a_reader_at_each_resolution() -> None:
    """Beside `orig`, and each reader is a 1×1 convolution with a bias."""
    _, orig = small(d_architecture="orig")
    _, skip = small(d_architecture="skip")
    assert count(skip) - count(orig) == 2 * (8 + 8)  # at 8 and at 4 pixels
    x = torch.randn(4, 1, 16, 16, dtype=torch.float64)
    # Blocks that give nothing: what is left has read the image at 4 pixels, twice halved.
    for name, parameter in skip.named_parameters():
        if name.startswith("blocks"):
            nn.init.zeros_(parameter)
    seen = skip.from_image(layers.halved(layers.halved(x)))  # type: ignore[misc]
    expected = skip.head(skip.linear(skip.conv(skip.deviation(seen)).flatten(1))).flatten()
    torch.testing.assert_close(skip(x), expected, rtol=1e-12, atol=0)


def test_groups_of_the_deviation_are_strided() -> None:
    """Contiguous groups {0, 1}, {4, 9} would give .5, .5, 2.5, 2.5."""
    x = torch.tensor([0.0, 1, 4, 9]).double().reshape(4, 1, 1, 1)
    feature = layers.MinibatchDeviation(2)(x)[:, 1].flatten()
    torch.testing.assert_close(feature, torch.tensor([2.0, 4, 2, 4]).double(), rtol=1e-8, atol=0)


def test_every_example_has_a_group_whatever_the_batch() -> None:
    """Five examples in groups of two: {0, 3}, {1, 4} and {2} alone."""
    x = torch.tensor([0.0, 1, 2, 4, 9]).double().reshape(5, 1, 1, 1)
    feature = layers.MinibatchDeviation(2)(x)[:, 1].flatten()
    expected = torch.tensor([2.0, 4, 1e-4, 2, 4]).double()
    torch.testing.assert_close(feature, expected, rtol=1e-8, atol=1e-9)


def test_an_impulse_is_doubled_to_its_filter() -> None:
    image = torch.zeros(1, 1, 9, 9).double()
    image[..., 4, 4] = 1
    line = torch.tensor([0.25, 0.75, 0.75, 0.25]).double()
    made = layers.doubled(image)[0, 0]
    assert torch.equal(made[7:11, 7:11], line[:, None] * line)
    assert made.sum() == 4


def test_resampling_keeps_constants_and_has_a_triple_zero_at_the_highest_frequency() -> None:
    ones = torch.ones(1, 1, 8, 8).double()
    assert torch.equal(layers.doubled(ones)[..., 1:-1, 1:-1], torch.ones(1, 1, 14, 14).double())
    assert torch.equal(layers.halved(ones)[..., 1:-1, 1:-1], torch.ones(1, 1, 2, 2).double())
    taps = layers.bilinear_taps(ones)
    for frequency in (0.0, 0.7, 2.0, 3.1):
        response = sum(float(tap) * np.exp(-1j * frequency * k) for k, tap in enumerate(taps))
        assert abs(response) == pytest.approx(np.cos(frequency / 2) ** 3, abs=1e-14)


@pytest.mark.parametrize(("taps", "up", "down"), [(4, 2, 1), (4, 1, 2), (5, 3, 2), (12, 2, 2)])
def test_resampling_is_that_of_scipy(taps: int, up: int, down: int) -> None:
    draws = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 7, 10, generator=draws, dtype=torch.float64)
    h = torch.randn(taps, generator=draws, dtype=torch.float64)
    found = layers.upfirdn2d(x, h, up, down, (taps - 1,) * 4).numpy()
    expected = upfirdn(h.numpy(), upfirdn(h.numpy(), x.numpy(), up, down, axis=3), up, down, axis=2)
    height, width = expected.shape[2:]
    np.testing.assert_allclose(found[..., :height, :width], expected, rtol=0, atol=1e-12)


def weights_of(layer: layers.ModulatedConv2d, styles: Tensor) -> Tensor:
    """The kernel of each example, (N, after, before, K, K)."""
    kernels = layer.weight * styles[:, None, :, None, None]
    if layer.normalise:
        kernels = kernels / (kernels.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()
    return kernels


@pytest.mark.parametrize("normalise", [True, False])
def test_a_modulated_convolution_has_a_kernel_for_each_example(normalise: bool) -> None:
    torch.manual_seed(0)  # the norm's distance from 1 is 1e-8 over what is normalised
    layer = layers.ModulatedConv2d(4, 5, 3, normalise=normalise).double()
    layer.draw()
    x, styles = torch.randn(3, 4, 6, 6).double(), torch.randn(3, 4).double()
    kernels = weights_of(layer, styles)
    grouped = nn.functional.conv2d(x.reshape(1, 12, 6, 6), kernels.flatten(0, 1), padding=1,
                                   groups=3).reshape(3, 5, 6, 6)
    torch.testing.assert_close(layer(x, styles), grouped, rtol=1e-12, atol=1e-12)
    if normalise:
        norms = kernels.square().sum((2, 3, 4))
        torch.testing.assert_close(norms, torch.ones(3, 5).double(), rtol=0, atol=1e-8)
        assert (norms - 1).abs().max() > 0
        torch.testing.assert_close(layer(x, 7 * styles), grouped, rtol=1e-6, atol=1e-7)
    else:
        torch.testing.assert_close(layer(x, 7 * styles), 7 * grouped)


@pytest.mark.parametrize("width", [16, 256])
@pytest.mark.parametrize("speed", [1.0, 0.01])
def test_an_equalised_layer_keeps_the_variance_and_learns_at_its_speed(width: int, speed: float,
                                                                       ) -> None:
    torch.manual_seed(0)
    layer = layers.EqualisedLinear(width, 400, speed)
    layer.draw()
    layer.requires_grad_(False)
    assert float(layer(torch.randn(500, width)).var()) == pytest.approx(1, abs=0.1)
    conv = layers.EqualisedConv2d(width, 100, 3, active=False)
    conv.draw()
    conv.requires_grad_(False)
    assert float(conv(torch.randn(4, width, 12, 12))[..., 1:-1, 1:-1].var()) == pytest.approx(
        1, abs=0.1)
    # A step of 1 in each stored weight moves the sum of an input of ones by speed · √width.
    ones = torch.ones(1, width)
    before = float(layer(ones)[0, 0])
    layer.weight += 1
    assert float(layer(ones)[0, 0]) - before == pytest.approx(speed * width**0.5, rel=1e-3)


def test_the_mean_w_follows_in_training_alone_and_truncation_ends_there() -> None:
    g, _ = small()
    mapping, z = g.mapping, torch.randn(5, 6).double()
    assert mapping.average is not None
    assert not mapping.average.any()
    with torch.no_grad():
        g.eval()(z)
        assert not mapping.average.any()
        g.train().styles(z, track=False)
        assert not mapping.average.any()
        for k in range(1, 4):
            ws = g.styles(z)
            expected = (1 - 0.995**k) * ws[:, 0].mean(0)
            torch.testing.assert_close(mapping.average, expected, rtol=1e-12, atol=0)
        g.eval()
        images = g.synthesis(truncated(ws, mapping.average, 0.0))
        assert torch.equal(images, images[:1].expand_as(images))
        assert torch.equal(g.synthesis(truncated(ws, mapping.average, 1.0)), g(z))
        assert not torch.equal(images, g(z))


def test_noise_is_drawn_in_training_and_constant_in_evaluation() -> None:
    z = torch.randn(3, 6).double()
    made = {}
    for kind in ("random", "constant", "none"):
        g, _ = small(noise=kind)
        with torch.no_grad():
            for name, parameter in g.named_parameters():
                if name.endswith("noise.strength"):
                    assert parameter == 0
                    parameter.fill_(0.5)
            torch.manual_seed(1)
            made[kind] = [g.train()(z), g(z), g.eval()(z), g(z)]
            torch.manual_seed(1)
            assert torch.equal(g.train()(z), made[kind][0])
    first, second, constant, again = made["random"]
    assert not torch.equal(first, second)
    assert torch.equal(constant, again)
    assert not torch.equal(first, constant)
    assert all(torch.equal(images, made["constant"][0]) for images in made["constant"])
    assert all(torch.equal(images, made["none"][0]) for images in made["none"])
    assert not torch.equal(made["none"][2], made["constant"][2])


def test_labels_reach_the_styles_and_the_logit_of_their_class() -> None:
    g, d = small(classes=3)
    z, labels = torch.randn(4, 6).double(), torch.tensor([0, 1, 2, 2])
    told = torch.cat([z, one_hot(labels, 3)], 1)
    w = g.styles(told)[:, 0]
    other = g.styles(torch.cat([z, one_hot((labels + 1) % 3, 3)], 1))[:, 0]
    assert ((w - other).abs().amax(1) > 1e-3).all()
    # Latents and embedding are scaled to mean square 1: their length does not count.
    longer = g.styles(torch.cat([3 * z, one_hot(labels, 3)], 1))[:, 0]
    torch.testing.assert_close(longer, w, rtol=1e-6, atol=1e-7)
    images = torch.randn(4, 1, 16, 16).double()
    assert d(images, labels).shape == (4,)
    assert not torch.equal(d(images, labels), d(images, (labels + 1) % 3))


@pytest.mark.parametrize(("overrides", "message"), [
    (["base.model.group=5"], "tiny.yaml:5:3: base.model: stylegan2 judges 5 examples together, "
     "but a batch has 32: choose a group that divides batch_size, such as 4"),
    (["base.penalties=[spectral_norm]"], "base.penalties: spectral_norm cannot divide the weights "
     "of the D of stylegan2 by their norm: its layers scale their weights when they use them "
     "(equalised learning rate): leave spectral_norm out"),
    (["dataset.image_size=24"], "tiny.yaml:5:3: base.model: stylegan2 cannot make 1×24×24 images"),
])
def test_what_it_cannot_do_is_refused_with_the_line(tmp_path: Path, overrides: list[str],
                                                    message: str) -> None:
    with pytest.raises(SpecError) as error:
        a_run(tmp_path, *overrides, text=TEXT)
    assert message in str(error.value)
    # A group larger than the batch is the whole batch, and R1 is published with groups.
    for allowed in (["base.model.group=64"], ["base.penalties=[r1]"], ["base.model.group=null"]):
        a_run(tmp_path, *allowed, text=TEXT)


def test_a_discriminator_without_a_group_judges_each_image_alone() -> None:
    for group, alone in ((None, True), (4, False)):
        _, d = small(group=group)
        x = torch.randn(8, 1, 16, 16).double()
        logits = d(x)
        assert torch.allclose(d(x[:4]), logits[:4], rtol=1e-10) == alone
