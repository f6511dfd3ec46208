"""The networks of pix2pix: from an image to an image, and a discriminator of patches.

Isola et al. 2017, "Image-to-image translation with conditional adversarial networks", sections 3.2,
6.1 and its published code. Names count from the outside of the U-Net, and from D's input.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

SLOPE = 0.2  # of the leaky ReLUs
WIDEST = 8  # times the width: no layer has more channels

Norm = Literal["batch", "instance", "none"]


def normalisation(norm: Norm, channels: int) -> nn.Module:
    """Return batch norm, instance norm (without weights or statistics), or nothing."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    return nn.InstanceNorm2d(channels) if norm == "instance" else nn.Identity()


class Block(nn.Module):
    """An activation, a convolution, a norm, and dropout; each may be absent.

    The convolution has a bias unless batch norm follows, which has its own.

    Args:
        before: The activation; None for none.
        conv: The convolution, made with `bias`.
    """

    def __init__(self, before: nn.Module | None, conv: nn.Module, norm: nn.Module | None = None,
                 dropout: float = 0.0) -> None:
        super().__init__()
        self.before = before or nn.Identity()
        self.conv = conv
        self.norm = norm or nn.Identity()
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return the features, (N, C, H, W)."""
        made: Tensor = self.dropout(self.norm(self.conv(self.before(x))))
        return made


class UNet(nn.Module):
    """G: halves an image `downs` times and doubles it again; each size is joined with its like.

    Channels double from `width` up to 8 times it. The first and the innermost convolution on the
    way down have no norm. Dropout acts on the way up at the sizes between the innermost and the
    fourth, as in the published code.

    Args:
        input_shape: `(C, H, W)` of the image that it starts from.
        channels: Of the image that it makes.
    """

    def __init__(self, input_shape: tuple[int, ...], channels: int, width: int, downs: int,
                 dropout: float, norm: Norm) -> None:
        super().__init__()
        self.input_shape = input_shape
        sizes = [width * min(WIDEST, 2**i) for i in range(downs)]
        has_bias = norm != "batch"
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for i, size in enumerate(sizes):
            is_outer, is_inner = i == 0, i == downs - 1
            narrow = input_shape[0] if is_outer else sizes[i - 1]
            down.append(Block(
                None if is_outer else nn.LeakyReLU(SLOPE),
                nn.Conv2d(narrow, size, 4, 2, 1, bias=has_bias),
                None if is_outer or is_inner else normalisation(norm, size)))
            back = channels if is_outer else sizes[i - 1]
            up.append(Block(
                nn.ReLU(),
                nn.ConvTranspose2d(size if is_inner else 2 * size, back, 4, 2, 1,
                                   bias=has_bias or is_outer),
                None if is_outer else normalisation(norm, back),
                dropout if 4 <= i < downs - 1 else 0.0))
        self.down, self.up = nn.ModuleList(down), nn.ModuleList(up)

    def forward(self, given: Tensor) -> Tensor:
        """Return images in [-1, 1] of inputs (N, C·H·W), flattened."""
        x = given.reshape(-1, *self.input_shape)
        joined: list[Tensor] = []
        for block in self.down:
            x = block(x)
            joined.append(x)
        x = joined.pop()
        for block in reversed(self.up):
            x = block(x)
            if joined:
                x = torch.cat([joined.pop(), x], dim=1)
        return torch.tanh(x)


class PatchDiscriminator(nn.Module):
    """D: a map of logits, each of which judges a patch of an image together with its input's.

    `layers` convolutions of stride 2 and two of stride 1, all 4×4: a logit sees 16, 34, 70, 142 or
    286 pixels for 1 to 5 layers. With `layers: pixel` all are 1×1, and a logit sees one pixel.

    Args:
        channels: Of an image and its input together.
    """

    def __init__(self, channels: int, width: int, layers: int | Literal["pixel"],
                 norm: Norm) -> None:
        super().__init__()
        has_bias = norm != "batch"

        def leaky() -> nn.Module:
            return nn.LeakyReLU(SLOPE)

        if layers == "pixel":
            blocks = [Block(None, nn.Conv2d(channels, width, 1)),
                      Block(leaky(), nn.Conv2d(width, 2 * width, 1, bias=has_bias),
                            normalisation(norm, 2 * width)),
                      Block(leaky(), nn.Conv2d(2 * width, 1, 1, bias=has_bias))]
        else:
            sizes = [width * min(WIDEST, 2**i) for i in range(layers + 1)]
            blocks = [Block(None, nn.Conv2d(channels, width, 4, 2, 1))]
            for i in range(1, layers + 1):
                stride = 2 if i < layers else 1
                blocks.append(Block(
                    leaky(), nn.Conv2d(sizes[i - 1], sizes[i], 4, stride, 1, bias=has_bias),
                    normalisation(norm, sizes[i])))
            blocks.append(Block(leaky(), nn.Conv2d(sizes[-1], 1, 4, 1, 1)))
        self.layers = nn.ModuleList(blocks)

    def forward(self, examples: Tensor, inputs: Tensor) -> Tensor:
        """Return the logits (N, 1, H', W') of images, each made from its input (N, C', H, W)."""
        x = torch.cat([inputs, examples], dim=1)
        for block in self.layers:
            x = block(x)
        return x
