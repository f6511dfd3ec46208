"""The residual networks of the spectral-normalisation paper."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from gan_bench.components.models.base import (
    Count,
    Eps,
    Init,
    Networks,
    Shape,
    each_eps,
    miscounts_eps,
    residual,
    with_gain,
)
from gan_bench.registry import MODELS, ModelFacts

if TYPE_CHECKING:
    from torch import Tensor, nn

# For each size: the channels of G from 4 pixels and of D from its first block, in units of `width`,
# and the number of D's blocks that halve the resolution.
PLANS = {
    32: ((4, 4, 4, 4), (2, 2, 2, 2), 2),
    64: ((16, 8, 4, 2, 1), (1, 2, 4, 8, 16), 5),
}
GAIN = 2**0.5  # of the convolutions in a block; shortcuts and all other layers have 1


def _is_32_or_64(shape: Shape, **args: Any) -> str | None:
    if len(shape) != 3:
        return "it is convolutional; use mlp or mlp_dropout for vectors"
    if shape[1] not in PLANS:
        return "it is designed for an image_size of 32 or 64"
    blocks = len(PLANS[shape[1]][0]) - 1
    return miscounts_eps(2 * blocks + 1, args)


@MODELS.register("resnet", ModelFacts(refuses=_is_32_or_64))
def resnet(
    shape: Shape, *, latent_dim: Count = 128, width: Count = 64, d_width: Count | None = None,
    bn_eps: Eps = 1e-5, init: Init = "xavier",
) -> Networks:
    """The SNGAN's residual pair for 32 and 64 pixels; D has no norm.

    Miyato et al. 2018, "Spectral normalization for generative adversarial networks", appendix B.4,
    after Gulrajani et al. 2017, appendix; channels and initialisation are those of the published
    code for 64 pixels and of Mimicry (Lee and Town 2020). The default `width` of 64 gives the
    papers' channels: for 32 pixels G has 4 w throughout and D 2 w; for 64 pixels G falls from 16 w
    at 4×4 to w, and D rises from w to 16 w. D's w is `d_width` where that is given.

    G: linear → 4×4, blocks (batch norm, ReLU, nearest ×2, conv 3×3, batch norm, ReLU, conv 3×3; on
    the shortcut nearest ×2 and conv 1×1), batch norm, ReLU, conv 3×3, tanh. D: blocks (ReLU,
    conv 3×3, ReLU, conv 3×3, mean over 2×2; conv 1×1 on the shortcut), ReLU, sum over all pixels,
    linear. The first block lacks its first ReLU. For 32 pixels, the last two blocks keep the
    resolution and have an identity as the shortcut.

    Differences: spectral norm is the penalty `spectral_norm`, and D has none without it. Mimicry
    upsamples bilinearly and keeps PyTorch's initial biases; in the published code they are 0, and
    batch norm has an ε of 2e-5. The 1×1 convolution is on the cheaper side of the resampling, with
    which it commutes.
    """
    from torch import nn

    from gan_bench.components.layers import ConvToImage

    image_channels, side, _ = shape
    g_units, d_units, halvings = PLANS[side]
    eps = each_eps(bn_eps)
    wide = [width * units for units in g_units]
    generator: list[nn.Module] = [nn.Linear(latent_dim, 16 * wide[0]),
                                  nn.Unflatten(1, (wide[0], 4, 4))]
    generator += [_upwards(before, after, eps) for before, after in pairwise(wide)]
    generator += [nn.BatchNorm2d(wide[-1], eps=next(eps)), nn.ReLU(),
                  ConvToImage(wide[-1], image_channels), nn.Tanh()]

    discriminator: list[nn.Module] = []
    d_widths = [image_channels, *((d_width or width) * units for units in d_units)]
    for i, (before, after) in enumerate(pairwise(d_widths)):
        discriminator.append(_downwards(before, after, halve=i < halvings, first=i == 0))
    discriminator += [nn.ReLU(), _sum_of_pixels(), nn.Linear(d_widths[-1], 1), nn.Flatten(0)]
    return Networks(nn.Sequential(*generator), nn.Sequential(*discriminator), init)


def _upwards(before: int, after: int, eps: Iterator[float]) -> nn.Module:
    """A block of G, which doubles the resolution."""
    from torch import nn

    from gan_bench.components.layers import UpsampledConv2d

    branch = nn.Sequential(
        nn.BatchNorm2d(before, eps=next(eps)), nn.ReLU(),
        with_gain(UpsampledConv2d(before, after), GAIN),
        nn.BatchNorm2d(after, eps=next(eps)), nn.ReLU(),
        with_gain(nn.Conv2d(after, after, 3, padding=1), GAIN))
    return residual(branch, nn.Sequential(nn.Conv2d(before, after, 1), nn.Upsample(scale_factor=2)))


def _downwards(before: int, after: int, halve: bool, first: bool) -> nn.Module:
    """A block of D. The first block reads the images, so it begins without a ReLU."""
    from torch import nn

    hidden = after if first else before
    branch: list[nn.Module] = [] if first else [nn.ReLU()]
    branch += [with_gain(nn.Conv2d(before, hidden, 3, padding=1), GAIN), nn.ReLU(),
               with_gain(nn.Conv2d(hidden, after, 3, padding=1), GAIN)]
    if not halve:
        return residual(nn.Sequential(*branch), nn.Identity())
    return residual(nn.Sequential(*branch, nn.AvgPool2d(2)),
                    nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(before, after, 1)))


def _sum_of_pixels() -> nn.Module:
    from torch import nn

    class SumOfPixels(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.sum((2, 3))

    return SumOfPixels()
