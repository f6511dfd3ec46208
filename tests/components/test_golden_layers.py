"""The layers of StyleGAN2 give the numbers of its original program, in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.golden_cases import assert_golden, formula_tensor, golden_case
from torch import Tensor

from gan_bench.components import layers

FILTERS = golden_case("stylegan2", "ops.upfirdn2d")["config"]["filters"]
RESAMPLED = golden_case("stylegan2", "ops.upfirdn2d")["config"]["calls"]
MODULATED = golden_case("stylegan2", "ops.modulated_conv")["config"]["calls"]
DEVIATIONS = [name for name in golden_case("stylegan2", "ops.minibatch_std")["numbers"]
              if not name.endswith("grad_x")]


def padding_of(name: str, call: dict[str, Any], size: int) -> list[int]:
    """That of a call; of those without, the padding that doubles, halves or keeps the size."""
    if "padding" in call or name.startswith("upfirdn"):
        return list(call.get("padding", [0] * 4))
    if name.startswith("up"):
        up = call.get("up", 2)
        pair = [(size + up - 1) // 2, (size - up) // 2]
    else:
        down = call.get("down", 2) if name.startswith("down") else 1
        pair = [(size - down + 1) // 2, (size - down) // 2]
    return pair * 2


@pytest.mark.parametrize("name", RESAMPLED)
def test_resampling(name: str) -> None:
    case, call = golden_case("stylegan2", "ops.upfirdn2d"), RESAMPLED[name]
    taps = torch.tensor(FILTERS[call["filter"]], dtype=torch.float64)
    taps = taps / taps.sum()
    plain = name.startswith("upfirdn")
    up = call.get("up", 2 if name.startswith("up") and not plain else 1)
    down = call.get("down", 2 if name.startswith("down") else 1)
    gain = call.get("gain", 1 if plain else up**2)
    left, right, top, bottom = padding_of(name, call, len(taps))
    found = layers.upfirdn2d(formula_tensor(case, "x"), taps, up, down, (left, right, top, bottom),
                             call.get("flip_filter", False), gain)
    assert_golden(case, name, found)
    x = formula_tensor(case, "x")
    if name == "upsample2d":
        assert_golden(case, name, layers.doubled(x))
    elif name == "downsample2d":
        assert_golden(case, name, layers.halved(x))


@pytest.mark.parametrize("name", [name for name in MODULATED if name != "down2.demod"])
def test_modulated_convolutions(name: str) -> None:
    """All but the one that halves, which no network has."""
    case, call = golden_case("stylegan2", "ops.modulated_conv"), MODULATED[name]
    size = call["kernel"]
    layer = layers.ModulatedConv2d(4, 5, size, doubles=call["up"] == 2,
                                   normalise=call["demodulate"]).double()
    weight = formula_tensor(case, f"w{size}").requires_grad_()
    layer.weight = torch.nn.Parameter(weight)
    x, styles = (formula_tensor(case, key).requires_grad_() for key in ("x", "s"))
    made = layer(x, styles)
    if call["noise"]:
        made = made + formula_tensor(case, "noise8")
    assert_golden(case, name, made)
    (made * formula_tensor(case, f"cot{made.shape[2]}.{size}")).sum().backward()
    for key, tensor in (("x", x), ("w", layer.weight), ("s", styles)):
        assert tensor.grad is not None
        assert_golden(case, f"{name}.grad_{key}", tensor.grad)


@pytest.mark.parametrize("name", DEVIATIONS)
def test_minibatch_deviation(name: str) -> None:
    case = golden_case("stylegan2", "ops.minibatch_std")
    group, features = (part.removeprefix(word) for part, word in
                       zip(name.split(".")[-2:], ("group", "features"), strict=True))
    x = formula_tensor(case, f"{name}.x").requires_grad_()
    layer = layers.MinibatchDeviation(len(x) if group == "None" else int(group), int(features))
    made = layer(x)
    assert torch.equal(made[:, :x.shape[1]], x)
    assert_golden(case, name, made[:, x.shape[1]:])
    (made * formula_tensor(case, f"{name}.cot")).sum().backward()
    assert x.grad is not None
    assert_golden(case, f"{name}.grad_x", x.grad)


def equalised(name: str) -> torch.nn.Module:
    return {
        "fc.lrelu": lambda: layers.EqualisedLinear(7, 5, speed=0.5, active=True),
        "fc.linear": lambda: layers.EqualisedLinear(7, 5),
        "conv.down2": lambda: layers.EqualisedConv2d(4, 5, 3, halve=True),
        "conv.1x1.down2": lambda: layers.EqualisedConv2d(4, 5, 1, halve=True, biased=False,
                                                         active=False),
    }[name]()


@pytest.mark.parametrize("name", ["fc.lrelu", "fc.linear", "conv.down2", "conv.1x1.down2"])
def test_equalised_layers(name: str) -> None:
    """All but the convolution that doubles, which no network has."""
    case, layer = golden_case("stylegan2", "ops.equalised_layers"), equalised(name).double()
    for key, parameter in layer.named_parameters():
        parameter.data.copy_(formula_tensor(case, f"{name}.{key}"))
    x: Tensor = formula_tensor(case, "x.3_7" if name.startswith("fc") else "x.2_4_6_6")
    assert_golden(case, name, layer(x))
