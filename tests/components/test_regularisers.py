"""Penalties of a whole network: closed forms, and the numbers of the original programs."""

from __future__ import annotations

import pytest
import torch
from helpers.golden_cases import golden_case
from helpers.golden_networks import assert_gradients
from test_biggan_golden import D_NAMES, G_NAMES, Pair
from torch import Tensor, nn

from gan_bench.components.penalties import Penalty
from gan_bench.components.regularisers import overlap
from gan_bench.registry import PENALTIES


def build(name: str, **arguments: object) -> Penalty:
    penalty: Penalty = PENALTIES.build(PENALTIES.parse({"name": name, **arguments}))
    return penalty


def g_term(penalty: Penalty, g: nn.Module, latents: Tensor, memory: Tensor | None = None) -> Tensor:
    assert penalty.g_term is not None
    if memory is None:
        memory = torch.zeros((), dtype=torch.float64)
    return penalty.g_term(g, latents, torch.Generator().manual_seed(0), memory)


@pytest.mark.parametrize("name", ["biggan.hierarchical", "biggan.cifar_script"])
def test_orthogonal_is_that_of_the_original(name: str) -> None:
    """What it adds to the gradients of both networks; G's shared embedding is left out."""
    pair, case = Pair(name), golden_case("biggan", name)
    g_term(build("orthogonal_g"), pair.g, torch.empty(0)).backward()
    assert_gradients(case, "orthogonal_regularisation.strength1e-4.G", pair.g, "G.", G_NAMES)
    weights_term = build("orthogonal_d").weights_term
    assert weights_term is not None
    weights_term(pair.d).backward()
    assert_gradients(case, "orthogonal_regularisation.strength1e-4.D", pair.d, "D.", D_NAMES)


def layer_of(weight: Tensor) -> nn.Module:
    layer = nn.Linear(weight.shape[1], weight.shape[0]).double()
    layer.weight.data.copy_(weight)
    return layer


def test_rows_are_drawn_apart_and_keep_their_lengths() -> None:
    assert overlap(layer_of(torch.tensor([[3.0, 0.0], [0.0, 0.5]]))).item() == 0
    # Each of the two pairs of rows counts twice: (i, j) and (j, i).
    rows = torch.tensor([[1.0, 2.0, 0.0], [3.0, 0.0, 1.0], [0.0, 0.0, 4.0]])
    assert overlap(layer_of(rows)).item() == 2 * (3.0**2 + 4.0**2)
    both = nn.Sequential(layer_of(rows), nn.BatchNorm1d(3).double(), layer_of(rows))
    assert overlap(both).item() == 100


def test_the_gradient_is_the_published_one() -> None:
    """2 · weight · ((W Wᵀ ∘ (1 − I)) W)."""
    rows = torch.randn((4, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layer = layer_of(rows)
    g_term(build("orthogonal_g", weight=0.3), layer, torch.empty(0)).backward()
    written_out = 2 * 0.3 * ((rows @ rows.t()) * (1 - torch.eye(4))) @ rows
    assert isinstance(layer.weight, nn.Parameter)
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, written_out, rtol=1e-12, atol=1e-12)


def test_a_row_is_an_output_of_a_transposed_convolution_too() -> None:
    forward, backward = nn.Conv2d(3, 2, 4), nn.ConvTranspose2d(3, 2, 4)
    backward.weight.data.copy_(forward.weight.data.transpose(0, 1))
    torch.testing.assert_close(overlap(backward), overlap(forward))
