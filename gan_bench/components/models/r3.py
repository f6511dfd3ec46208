"""Residual networks without any normalisation, after R3GAN."""

from __future__ import annotations

from itertools import pairwise
from math import gcd
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from gan_bench.components.models.base import Count, Init, Networks, Shape, residual, with_gain
from gan_bench.registry import MODELS, ModelFacts

if TYPE_CHECKING:
    from torch import Tensor, nn

Blocks = Annotated[int, Field(ge=1, le=16)]
SIDES = (16, 32, 64)
SLOPE = 0.2  # of LeakyReLU
GROUP = 16  # channels in a group of the 3×3 convolutions


def _doubles_from_4(shape: Shape, **_: Any) -> str | None:
    if len(shape) != 3:
        return "it is convolutional; use mlp or mlp_dropout for vectors"
    return None if shape[1] in SIDES else "it is designed for an image_size of 16, 32 or 64"


def _zeros(*, init: str, **_: Any) -> bool:
    """Whether D begins with layers that are 0."""
    return init in ("fan_in", "xavier")


@MODELS.register("r3", ModelFacts(refuses=_doubles_from_4, zeros=_zeros))
def r3(
    shape: Shape, *, latent_dim: Count = 64, width: Count = 32, d_width: Count | None = None,
    blocks: Blocks = 1, init: Init = "fan_in",
) -> Networks:
    """A small residual pair without normalisation, after R3GAN; for 16, 32 and 64 pixels.

    Huang et al. 2024, "The GAN is dead; long live the GAN! A modern GAN baseline", section 4 and
    its published code. Both networks have `blocks` residual blocks at every resolution from 4
    pixels on: conv 1×1 to twice the channels, LeakyReLU 0.2, conv 3×3 in groups of 16 channels,
    LeakyReLU 0.2, conv 1×1; only the first two have biases. There are `width` channels up to 32
    pixels (in D `d_width`, where that is given), and half of them at 64. Between the resolutions
    lies bilinear resampling, and a conv 1×1 where the number of channels changes. G begins with a
    learned 4×4 pattern for each channel, times a linear map of the latent; D ends with a depthwise
    conv 4×4 and a linear map.

    The initialisation is that of the paper, after Fixup (Zhang et al. 2019): the last convolution
    of a block is 0, and the others are L^(-1/4) times as large as in He et al. 2015, for a network
    of L blocks; G's patterns are N(0, 1). An `init` other than `fan_in` ignores or replaces this.

    Differences: R3GAN has 768 channels (384 at 64 pixels), two blocks at each resolution, and no
    tanh at G's end; it augments D's input, and computes the large resolutions in half precision.
    Its loss and penalties are registered separately: `relativistic_pairing`, `r1`, `r2`.
    """
    from torch import nn

    image_channels, side, _ = shape
    sides = [4 << i for i in range(SIDES.index(side) + 3)]
    d_width = d_width or width
    widths, d_widths = [width] * len(sides), [d_width] * len(sides)
    if side == 64:
        widths[-1], d_widths[-1] = max(1, width // 2), max(1, d_width // 2)
    count = blocks * len(sides)

    def stage(channels: int) -> list[nn.Module]:
        return [_block(channels, count) for _ in range(blocks)]

    generator: list[nn.Module] = [
        nn.Linear(latent_dim, width, bias=False), nn.Unflatten(1, (width, 1, 1)),
        # Every output comes from one input, but PyTorch counts 16: the gain makes it N(0, 1).
        with_gain(nn.ConvTranspose2d(width, width, 4, groups=width, bias=False), 4.0),
        *stage(width),
    ]
    for before, after in pairwise(widths):
        generator += [*_change(before, after), _resampled(double=True), *stage(after)]
    generator += [nn.Conv2d(widths[-1], image_channels, 1, bias=False), nn.Tanh()]

    d_widths.reverse()
    discriminator: list[nn.Module] = [nn.Conv2d(image_channels, d_widths[0], 1, bias=False),
                                      *stage(d_widths[0])]
    for before, after in pairwise(d_widths):
        discriminator += [_resampled(double=False), *_change(before, after), *stage(after)]
    discriminator += [nn.Conv2d(d_width, d_width, 4, groups=d_width, bias=False), nn.Flatten(),
                      nn.Linear(d_width, 1, bias=False), nn.Flatten(0)]
    return Networks(nn.Sequential(*generator), nn.Sequential(*discriminator), init)


def _block(channels: int, count: int) -> nn.Module:
    """One of `count` residual blocks."""
    from torch import nn

    inner = 2 * channels
    gain = (2 / (1 + SLOPE**2)) ** 0.5 * count**-0.25
    return residual(nn.Sequential(
        with_gain(nn.Conv2d(channels, inner, 1), gain), nn.LeakyReLU(SLOPE),
        with_gain(nn.Conv2d(inner, inner, 3, padding=1, groups=inner // gcd(inner, GROUP)), gain),
        nn.LeakyReLU(SLOPE),
        with_gain(nn.Conv2d(inner, channels, 1, bias=False), 0.0),
    ), nn.Identity())


def _change(before: int, after: int) -> list[nn.Module]:
    """A convolution that changes the number of channels; no layer if it stays the same."""
    from torch import nn

    return [] if before == after else [nn.Conv2d(before, after, 1, bias=False)]


def _resampled(double: bool) -> nn.Module:
    """Double or halve the resolution by the filter (1, 3, 3, 1) / 8 along either axis."""
    import torch
    from torch import nn
    from torch.nn.functional import conv2d, conv_transpose2d

    class Resampled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            channels = x.shape[1]
            # Computed each time: a stored filter would be clipped, normalised or saved as a weight.
            axis = (2 - (torch.arange(4, device=x.device, dtype=x.dtype) - 1.5).abs()) / 4
            kernel = (axis[:, None] * axis).repeat(channels, 1, 1, 1)
            if double:  # each pixel is spread over four
                return conv_transpose2d(x, 4 * kernel, stride=2, padding=1, groups=channels)
            return conv2d(x, kernel, stride=2, padding=1, groups=channels)

    return Resampled()
