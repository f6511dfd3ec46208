"""The convolutional families."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gan_bench.components.models.base import (
    Count,
    Eps,
    Init,
    Networks,
    Norm,
    Rate,
    Shape,
    each_eps,
    miscounts_eps,
)
from gan_bench.registry import MODELS, ModelFacts

if TYPE_CHECKING:
    from torch import nn


def _doublings(side: int) -> tuple[int, int] | None:
    """Return (first side, number of doublings) from 4 or 7 pixels to `side`; None if impossible."""
    for first in (4, 7):
        times, current = 0, first
        while current < side:
            times, current = times + 1, 2 * current
        if current == side and times >= 1:
            return first, times
    return None


def _doubles_from_4_or_7(shape: Shape, **args: Any) -> str | None:
    if len(shape) != 3:
        return "it is convolutional; use mlp or mlp_dropout for vectors"
    plan = _doublings(shape[1])
    if plan is None:
        return ("it doubles 4 or 7 pixels repeatedly, so image_size must be one of "
                "8, 14, 16, 28, 32, 56, 64, 112, 128, …")
    of_d = plan[1] - 1 if args.get("d_norm", "batch") == "batch" else 0
    return miscounts_eps(plan[1] + of_d, args)


def _mixes(*, d_norm: str, **_: Any) -> bool:
    """Whether D mixes the examples of a batch."""
    return d_norm == "batch"


@MODELS.register("dcgan", ModelFacts(refuses=_doubles_from_4_or_7, mixes=_mixes))
def dcgan(
    shape: Shape, *, latent_dim: Count = 100, width: Count = 128, d_width: Count | None = None,
    bn_eps: Eps = 1e-5, d_norm: Norm = "batch", init: Init = "normal",
) -> Networks:
    """The DCGAN: strided 4×4 convolutions in both networks, batch norm, N(0, 0.02).

    Radford et al. 2015, "Unsupervised Representation Learning with Deep Convolutional GANs",
    section 3 and figure 1. `width` is the number of channels at the largest inner resolution;
    128 gives the figure's 1024 at 4×4 for 64 pixels; `d_width` is that of D, if it differs. G's
    output layer and D's input layer have no norm; with `d_norm: none`, no layer of D has one.
    """
    from torch import nn

    from gan_bench.components.layers import DeconvToImage, FromOnePixel, ToOnePixel

    channels, side, _ = shape
    plan = _doublings(side)
    assert plan is not None, "refused when planned"
    first, times = plan
    widest, d_width, eps = width << (times - 1), d_width or width, each_eps(bn_eps)

    def block(conv: nn.Module, out: int, activation: nn.Module) -> list[nn.Module]:
        return [conv, nn.BatchNorm2d(out, eps=next(eps)), activation]

    generator: list[nn.Module] = [
        nn.Unflatten(1, (latent_dim, 1, 1)),
        *block(FromOnePixel(latent_dim, widest, first), widest, nn.ReLU()),
    ]
    for i in range(1, times):
        wide, narrow = widest >> (i - 1), widest >> i
        generator += block(nn.ConvTranspose2d(wide, narrow, 4, 2, 1, bias=False), narrow, nn.ReLU())
    generator += [DeconvToImage(width, channels), nn.Tanh()]
    discriminator: list[nn.Module] = [nn.Conv2d(channels, d_width, 4, 2, 1), nn.LeakyReLU(0.2)]
    for i in range(1, times):
        before, after = d_width << (i - 1), d_width << i
        if d_norm == "batch":
            discriminator += block(nn.Conv2d(before, after, 4, 2, 1, bias=False), after,
                                   nn.LeakyReLU(0.2))
        else:  # without batch norm, the bias is not redundant
            discriminator += [nn.Conv2d(before, after, 4, 2, 1), nn.LeakyReLU(0.2)]
    discriminator += [ToOnePixel(d_width << (times - 1), 1, first), nn.Flatten(0)]
    return Networks(nn.Sequential(*generator), nn.Sequential(*discriminator), init)


def _multiple_of_4(shape: Shape, **args: Any) -> str | None:
    if len(shape) != 3:
        return "it is convolutional; use mlp or mlp_dropout for vectors"
    if shape[1] % 4 or shape[1] < 8:
        return "it doubles a quarter of the size twice, so image_size must be a multiple of 4, ≥ 8"
    return miscounts_eps(6 if args.get("d_norm", "batch") == "batch" else 3, args)


@MODELS.register("dcgan_upsample", ModelFacts(refuses=_multiple_of_4, mixes=_mixes))
def dcgan_upsample(
    shape: Shape, *, latent_dim: Count = 100, width: Count = 64, d_width: Count | None = None,
    dropout: Rate = 0.25, bn_eps: Eps = 1e-5, d_norm: Norm = "batch", init: Init = "default",
) -> Networks:
    """The DCGAN of the copied scripts: nearest-neighbour upsampling, dropout in D.

    G: linear → 2w × (s/4)², batch norm, twice (nearest ×2, conv 3×3, batch norm, LeakyReLU 0.2)
    with 2w then w channels, conv 3×3, tanh. D: conv 3×3 stride 2 with w/4, w/2, w, 2w channels,
    LeakyReLU 0.2, dropout2d, batch norm on all but the first (or on none: `d_norm`); linear. D's w
    is `d_width` where that is given. The architecture is that of `dcgan.py` in PyTorch-GAN
    (E. Linder-Norén). That script passes 0.8 as the epsilon of all batch norms but G's first:
    `bn_eps: [1e-5, 0.8, 0.8, 0.8, 0.8, 0.8]`. It draws the weights of convolutions and batch norms
    with a deviation of 0.02, and all else as PyTorch does: `init: normal_conv`.
    """
    from torch import nn

    from gan_bench.components.layers import ConvToImage, UpsampledConv2d

    channels, side, _ = shape
    d_width, eps = d_width or width, each_eps(bn_eps)
    generator: list[nn.Module] = [
        nn.Linear(latent_dim, 2 * width * (side // 4) ** 2),
        nn.Unflatten(1, (2 * width, side // 4, side // 4)),
        nn.BatchNorm2d(2 * width, eps=next(eps)),
    ]
    for before, after in ((2 * width, 2 * width), (2 * width, width)):
        generator += [
            UpsampledConv2d(before, after), nn.BatchNorm2d(after, eps=next(eps)),
            nn.LeakyReLU(0.2),
        ]
    generator += [ConvToImage(width, channels), nn.Tanh()]

    discriminator: list[nn.Module] = []
    widths = [channels, max(1, d_width // 4), max(1, d_width // 2), d_width, 2 * d_width]
    for i in range(4):
        discriminator += [nn.Conv2d(widths[i], widths[i + 1], 3, 2, 1), nn.LeakyReLU(0.2),
                          nn.Dropout2d(dropout)]
        if i > 0 and d_norm == "batch":
            discriminator.append(nn.BatchNorm2d(widths[i + 1], eps=next(eps)))
    last = 2 * d_width * (-(-side // 16)) ** 2  # four halvings, each rounded up
    discriminator += [nn.Flatten(), nn.Linear(last, 1), nn.Flatten(0)]
    return Networks(nn.Sequential(*generator), nn.Sequential(*discriminator), init)
