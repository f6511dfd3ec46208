"""The families whose generator is fully connected."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import TYPE_CHECKING, Any

from gan_bench.components.models.base import (
    Count,
    Eps,
    Init,
    Networks,
    Rate,
    Shape,
    each_eps,
    miscounts_eps,
)
from gan_bench.registry import MODELS, ModelFacts

if TYPE_CHECKING:
    from torch import nn


def _serves_all(shape: Shape, **_: Any) -> None:
    return None


def _has_three_norms(shape: Shape, **args: Any) -> str | None:
    return miscounts_eps(3, args)


@MODELS.register("mlp", ModelFacts(refuses=_has_three_norms))
def mlp(
    shape: Shape, *, latent_dim: Count = 100, width: Count = 128, d_width: Count | None = None,
    bn_eps: Eps = 1e-5, init: Init = "default",
) -> Networks:
    """The vanilla GAN of the tutorials: G with batch norm, four hidden layers; D with two.

    G: latent → w → 2w → 4w → 8w → data, D: data → 4w → 2w → 1, LeakyReLU 0.2 throughout; D's w
    is `d_width` where that is given. The widely copied PyTorch-GAN script passes 0.8 as `bn_eps`.
    """
    from torch import nn

    widths, d_width, eps = [width << i for i in range(4)], d_width or width, each_eps(bn_eps)
    layers: list[nn.Module] = [nn.Linear(latent_dim, widths[0]), nn.LeakyReLU(0.2)]
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after, eps=next(eps)),
                   nn.LeakyReLU(0.2)]
    discriminator = nn.Sequential(
        nn.Flatten(),
        nn.Linear(prod(shape), 4 * d_width), nn.LeakyReLU(0.2),
        nn.Linear(4 * d_width, 2 * d_width), nn.LeakyReLU(0.2),
        nn.Linear(2 * d_width, 1), nn.Flatten(0),
    )
    return Networks(nn.Sequential(*layers, *_output(8 * width, shape)), discriminator, init)


@MODELS.register("mlp_dropout", ModelFacts(refuses=_serves_all))
def mlp_dropout(
    shape: Shape, *, latent_dim: Count = 100, width: Count = 256, d_width: Count | None = None,
    dropout: Rate = 0.3, init: Init = "default",
) -> Networks:
    """Fully connected without any norm, dropout in D: the other common vanilla GAN.

    G: latent → w → 2w → 4w → data; D: data → 4w → 2w → w → 1, each with dropout; D's w is
    `d_width` where that is given.
    """
    from torch import nn

    d_width = d_width or width
    generator, discriminator = [], []
    for before, after in ((latent_dim, width), (width, 2 * width), (2 * width, 4 * width)):
        generator += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
    for before, after in ((prod(shape), 4 * d_width), (4 * d_width, 2 * d_width),
                          (2 * d_width, d_width)):
        discriminator += [nn.Linear(before, after), nn.LeakyReLU(0.2), nn.Dropout(dropout)]
    return Networks(
        nn.Sequential(*generator, *_output(4 * width, shape)),
        nn.Sequential(nn.Flatten(), *discriminator, nn.Linear(d_width, 1), nn.Flatten(0)),
        init,
    )


def _halves_three_times(shape: Shape, **args: Any) -> str | None:
    if len(shape) != 3:
        return "its discriminator is convolutional; use mlp or mlp_dropout for vectors"
    if shape[1] < 8:
        return "its three poolings need at least 8 pixels"
    return miscounts_eps(2, args)


@MODELS.register("mlp_conv", ModelFacts(refuses=_halves_three_times))
def mlp_conv(
    shape: Shape, *, latent_dim: Count = 100, width: Count = 256, bn_eps: Eps = 1e-5,
    init: Init = "default",
) -> Networks:
    """A fully connected G against a convolutional D.

    G: latent → w → 2w → image, batch norm after the activation; D: three times conv 3×3 (16, 32,
    64 channels), LeakyReLU 0.2, max-pool 2, then linear.
    """
    from torch import nn

    channels, side, _ = shape
    eps = each_eps(bn_eps)
    features: list[nn.Module] = []
    for before, after in ((channels, 16), (16, 32), (32, 64)):
        features += [nn.Conv2d(before, after, 3, padding=1), nn.LeakyReLU(0.2), nn.MaxPool2d(2)]
    generator = nn.Sequential(
        nn.Linear(latent_dim, width), nn.LeakyReLU(0.2), nn.BatchNorm1d(width, eps=next(eps)),
        nn.Linear(width, 2 * width), nn.LeakyReLU(0.2), nn.BatchNorm1d(2 * width, eps=next(eps)),
        *_output(2 * width, shape),
    )
    last = 64 * (side // 8) ** 2
    discriminator = nn.Sequential(*features, nn.Flatten(), nn.Linear(last, 1), nn.Flatten(0))
    return Networks(generator, discriminator, init)


def _output(width: int, shape: Shape) -> list[nn.Module]:
    """The last layer of G, with tanh and reshaping for images; vectors are unbounded."""
    from torch import nn

    last = nn.Linear(width, prod(shape))
    if len(shape) == 1:
        return [last]
    return [last, nn.Tanh(), nn.Unflatten(1, shape)]
