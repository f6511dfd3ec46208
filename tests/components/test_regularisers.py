"""Penalties of a whole network: closed forms, and the numbers of the original programs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.golden_cases import formula_tensor, golden_case
from helpers.golden_names import BIGGAN_D, BIGGAN_G, STYLEGAN2_G
from helpers.golden_networks import assert_gradients, assert_scalar
from test_biggan_golden import Pair
from test_stylegan2_golden import CASES as STYLE_CASES
from test_stylegan2_golden import Pair as StylePair
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gan_bench.components.penalties import Penalty
from gan_bench.components.regularisers import overlap, path_lengths
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
    assert_gradients(case, "orthogonal_regularisation.strength1e-4.G", pair.g, "G.", BIGGAN_G)
    weights_term = build("orthogonal_d").weights_term
    assert weights_term is not None
    weights_term(pair.d).backward()
    assert_gradients(case, "orthogonal_regularisation.strength1e-4.D", pair.d, "D.", BIGGAN_D)


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


@pytest.mark.parametrize("shape", [(4, 6), (7, 3)])
def test_the_gradient_is_the_published_one(shape: tuple[int, int]) -> None:
    """2 · weight · ((W Wᵀ ∘ (1 − I)) W), with more columns than rows and fewer."""
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    layer = layer_of(rows)
    g_term(build("orthogonal_g", weight=0.3), layer, torch.empty(0)).backward()
    written_out = 2 * 0.3 * ((rows @ rows.t()) * (1 - torch.eye(len(rows)))) @ rows
    assert isinstance(layer.weight, nn.Parameter)
    assert layer.weight.grad is not None
    torch.testing.assert_close(layer.weight.grad, written_out, rtol=1e-12, atol=1e-12)


def test_orthogonal_rows_have_no_overlap_in_float32_either() -> None:
    """The difference of two sums of about 200 would be wrong by 1e-5, and may be negative."""
    for seed in range(5):
        torch.manual_seed(seed)
        layer = nn.Linear(256, 200)
        nn.init.orthogonal_(layer.weight)
        assert 0 < overlap(layer).item() < 1e-8


class Largest(TorchDispatchMode):
    """Remembers how many values the largest tensor has that a computation makes."""

    size = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor):
            self.size = max(self.size, made.numel())
        return made


def test_many_short_rows_take_no_more_memory_than_they_have() -> None:
    layer = nn.Linear(3, 500)
    with Largest() as largest:
        overlap(layer).backward()
    assert largest.size == 1500


def test_a_row_is_an_output_of_a_transposed_convolution_too() -> None:
    forward, backward = nn.Conv2d(3, 2, 4), nn.ConvTranspose2d(3, 2, 4)
    backward.weight.data.copy_(forward.weight.data.transpose(0, 1))
    torch.testing.assert_close(overlap(backward), overlap(forward))


@pytest.mark.parametrize("name", STYLE_CASES[:2])
def test_path_length_is_that_of_the_original(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its value, its gradients, and the means of lengths and of w that it moves."""
    pair = StylePair(name)
    case, config = pair.case, pair.case["config"]
    noise, mean = formula_tensor(case, "pl_noise"), torch.tensor(config["pl_mean_start"]).double()
    penalty = build("path_length", weight=config["pl_weight"], decay=config["pl_decay"],
                    batch_shrink=config["pl_batch_shrink"], every=config["g_reg_interval"])
    monkeypatch.setattr(torch, "randn", lambda *shape, **given: noise)
    term = g_term(penalty, pair.g.train(), pair.latents(), mean)
    assert_scalar(case, "Greg.loss_times_weight", term)
    assert_scalar(case, "Greg.pl_mean_after", mean)
    (penalty.every * term).backward()
    assert_gradients(case, "Greg.gradients", pair.g, "G.", STYLEGAN2_G)
    assert pair.g.mapping.average is not None
    pair.golden("Greg.w_avg_after", pair.g.mapping.average)


class Rotation(nn.Module):
    """An image of C channels and 4×4 pixels, a times an orthogonal matrix of one w."""

    def __init__(self, a: float) -> None:
        super().__init__()
        draws = torch.Generator().manual_seed(0)
        square = torch.randn((48, 48), generator=draws, dtype=torch.float64)
        self.matrix = nn.Parameter(a * torch.linalg.qr(square).Q)

    def styles(self, latents: Tensor) -> Tensor:
        return latents[:, None]

    def synthesis(self, styles: Tensor) -> Tensor:
        return (styles[:, 0] @ self.matrix.t()).unflatten(1, (3, 4, 4))


def test_lengths_of_a_rotation_are_known() -> None:
    """E length² = a² · C: the noise has variance 1 / (H·W) in each of C·H·W values."""
    latents = torch.randn((4000, 48), dtype=torch.float64,
                          generator=torch.Generator().manual_seed(1)).requires_grad_()
    lengths = path_lengths(Rotation(2.0), latents, torch.Generator().manual_seed(2))
    assert lengths.shape == (4000,)
    assert lengths.square().mean().item() == pytest.approx(2.0**2 * 3, rel=0.02)


def test_the_mean_follows_the_lengths_and_distances_are_from_it(
        monkeypatch: pytest.MonkeyPatch) -> None:
    """Constant lengths L give the mean L (1 − 0.99^k), and no distance from a mean of L."""
    g, latents = Rotation(2.0), torch.randn(8, 48).double().requires_grad_()
    monkeypatch.setattr(torch, "randn", lambda shape, **given: torch.ones(shape).double())
    length, mean = 2 * 3**0.5, torch.zeros((), dtype=torch.float64)
    penalty = build("path_length", weight=3.0)
    for k in range(1, 6):
        term = g_term(penalty, g, latents, mean)
        now = length * (1 - 0.99**k)
        assert mean.item() == pytest.approx(now, rel=1e-12)
        assert term.item() == pytest.approx(3 * (length - now)**2, rel=1e-12)
    mean.fill_(length)
    assert g_term(penalty, g, latents, mean).item() == pytest.approx(0, abs=1e-20)


def test_path_length_looks_at_a_share_of_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    g = Rotation(1.0)
    monkeypatch.setattr(g, "styles", lambda z: (seen.append(len(z)), z[:, None])[1])
    for shrink in (1, 2, 3, 16):
        g_term(build("path_length", batch_shrink=shrink), g,
               torch.ones((8, 48), dtype=torch.float64).requires_grad_())
    assert seen == [8, 4, 3, 1]
