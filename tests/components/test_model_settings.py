"""Epsilons, widths and initialisation: what one network has apart from the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from gan_bench.components.models import Networks, build_networks
from gan_bench.registry import MODELS, Entry, ModelFacts, PartError


def on_meta(part: dict[str, Any], shape: tuple[int, ...]) -> Networks:
    with torch.device("meta"):
        networks: Networks = MODELS.build(MODELS.parse(part), shape)
    return networks


def norms_of(networks: Networks) -> list[float]:
    """The epsilons of all batch norms, G's first, in forward order."""
    return [layer.eps for network in (networks.generator, networks.discriminator)
            for layer in network.modules() if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d))]


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.name) for entry in MODELS
                                   if "bn_eps" in entry.schema.model_fields])
def test_every_batch_norm_has_an_epsilon_of_its_own(entry: Entry[object, ModelFacts]) -> None:
    for shape in ((1, 32, 32), (1, 64, 64)):
        for norm in ({}, {"d_norm": "none"}) if "d_norm" in entry.schema.model_fields else ({},):
            small = {"name": entry.name, "width": 4, **norm}
            count = len(norms_of(on_meta({**small, "bn_eps": 0.25}, shape)))
            assert count > 1
            values = [1 / 2**i for i in range(count)]
            assert norms_of(on_meta({**small, "bn_eps": values}, shape)) == values
            assert norms_of(on_meta({**small, "bn_eps": 0.25}, shape)) == [0.25] * count
            assert entry.facts.refuses(shape, **norm, bn_eps=values) is None
            for wrong in (values[1:], [*values, 0.5]):
                assert f"lists {len(wrong)} values, and its networks have {count} batch norms" in (
                    entry.facts.refuses(shape, **norm, bn_eps=wrong) or "")


@pytest.mark.parametrize("wrong", [0, -1.0, "x", True, [], [0.8, 0], [[0.8]]])
def test_an_epsilon_that_is_none_is_refused_in_one_line(wrong: object) -> None:
    with pytest.raises(PartError) as caught:
        MODELS.parse({"name": "mlp", "bn_eps": wrong})
    ((message, argument),) = caught.value.problems
    assert argument == "bn_eps"
    assert message.startswith("must be a number greater than 0, or a list of such numbers")


@pytest.mark.parametrize("entry", [pytest.param(entry, id=entry.name) for entry in MODELS
                                   if "d_width" in entry.schema.model_fields
                                   and entry.facts.takes == "class"])
def test_g_and_d_have_widths_apart(entry: Entry[object, ModelFacts]) -> None:
    def shapes(**widths: int) -> tuple[list[torch.Size], ...]:
        made = on_meta({"name": entry.name, **widths}, (1, 32, 32))
        return tuple([p.shape for p in network.parameters()]
                     for network in (made.generator, made.discriminator))

    wide, narrow, apart = shapes(width=16), shapes(width=8), shapes(width=16, d_width=8)
    assert apart == (wide[0], narrow[1])
    assert wide[0] != narrow[0]
    assert wide[1] != narrow[1]


def test_initialisation_of_the_copied_scripts() -> None:
    """Convolutions and 2-D batch norms as in Radford et al.; all else is PyTorch's own."""
    part = {"name": "dcgan_upsample", "width": 64}
    ours = build_networks(MODELS.parse({**part, "init": "normal_conv"}), (1, 32, 32), 0)
    default = build_networks(MODELS.parse(part), (1, 32, 32), 0)
    for network, plain in ((ours.generator, default.generator),
                           (ours.discriminator, default.discriminator)):
        for layer, other in zip(network.modules(), plain.modules(), strict=True):
            if isinstance(layer, nn.Conv2d) and layer.weight.numel() > 10000:
                assert 0.0195 < layer.weight.std() < 0.0205
                assert isinstance(other, nn.Conv2d)
                assert layer.bias is not None
                bound = layer.weight[0].numel() ** -0.5
                assert 0.8 * bound < layer.bias.abs().max() <= bound  # PyTorch's, and not 0
            if isinstance(layer, nn.BatchNorm2d):
                assert abs(layer.weight.mean() - 1) < 0.01
                assert 0.005 < layer.weight.std() < 0.04
                assert (layer.bias == 0).all()
            if isinstance(layer, nn.Linear):
                bound = layer.in_features ** -0.5
                assert 0.9 * bound < layer.weight.abs().max() <= bound
                assert 0.95 < layer.weight.std() * 3**0.5 / bound < 1.05
