"""The layers' own forms are PyTorch's layers: the same values, and gradients of any order."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from gan_bench.components import layers


def plain(layer: nn.Module, x: Tensor) -> Tensor:
    """What PyTorch makes of it, layer by layer."""
    if isinstance(layer, layers.UpsampledConv2d):
        x = nn.functional.interpolate(x, scale_factor=2)
    made: Tensor = next(base for base in (nn.Conv2d, nn.ConvTranspose2d)
                        if isinstance(layer, base)).forward(layer, x)
    return made


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "upsampled": (lambda: layers.UpsampledConv2d(3, 5), (6, 3, 4, 4)),
    "upsampled, not square": (lambda: layers.UpsampledConv2d(8, 2), (6, 8, 1, 7)),
    "from one pixel": (lambda: layers.FromOnePixel(7, 5, 4), (6, 7, 1, 1)),
    "to one pixel": (lambda: layers.ToOnePixel(7, 1, 4), (6, 7, 4, 4)),
    "to grey": (lambda: layers.ConvToImage(8, 1), (6, 8, 5, 5)),
    "to colours, not square": (lambda: layers.ConvToImage(8, 3), (6, 8, 2, 7)),
    "doubled to grey": (lambda: layers.DeconvToImage(8, 1), (6, 8, 5, 5)),
    "doubled to colours, not square": (lambda: layers.DeconvToImage(8, 3), (6, 8, 2, 7)),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("name", LAYERS)
def test_values_and_gradients_are_those_of_the_plain_layer(
        name: str, dtype: torch.dtype, tolerance: float) -> None:
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    layer = make().to(dtype)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    wanted = [x, *layer.parameters()]
    weigh = torch.randn_like(plain(layer, x))

    def all_of(made: Tensor) -> list[Tensor]:
        first = torch.autograd.grad((made * weigh).square().sum(), wanted, create_graph=True)
        # As a gradient penalty has it: the gradient of a gradient's size.
        second = torch.autograd.grad(first[0].square().sum(), wanted[:2])
        return [made, *first, *second]

    for ours, theirs in zip(all_of(layer(x)), all_of(plain(layer, x)), strict=True):
        assert ours.shape == theirs.shape
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()
        assert theirs.abs().max() > 1e-3


@pytest.mark.parametrize("name", LAYERS)
def test_under_bfloat16_they_are_as_near_as_the_plain_layer(name: str) -> None:
    """Within a half of the plain layer's error.

    With kernels for bfloat16 both layers round weight, input and result: three roundings. Without
    them (an older processor) a transposed convolution also rounds the partial sums of a pixel's
    four products: three more, so the root mean square error is sqrt(6 / 3) = 1.41 times as large.
    """
    make, shape = LAYERS[name]
    torch.manual_seed(0)
    layer, x = make(), torch.randn(64, *shape[1:])
    with torch.no_grad():
        exact = plain(layer, x)
        with torch.autocast("cpu", torch.bfloat16):
            ours, theirs = layer(x).float(), plain(layer, x).float()
    off, usual = ((made - exact).square().mean().sqrt() for made in (ours, theirs))
    assert 0 < off <= 1.5 * usual < 0.015 * exact.square().mean().sqrt()
