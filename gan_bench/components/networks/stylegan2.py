"""The generator of StyleGAN2.

Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", section 2.2 and figure
7 (output skips), and the settings of the published code of Karras et al. 2020, "Training generative
adversarial networks with limited data".
"""

from __future__ import annotations

import math
from collections.abc import Mapping as Table
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gan_bench.components.layers import (
    BiasedLeakyReLU,
    EqualisedLinear,
    ModulatedConv2d,
    NoisePlane,
    OwnWeights,
    doubled,
)
from gan_bench.components.networks.style_mapping import StyleMapping


class StyledConv(nn.Module):
    """A modulated 3×3 convolution, noise, bias and leaky ReLU, under one w."""

    def __init__(self, before: int, after: int, side: int, w_dim: int, noise: str,
                 doubles: bool) -> None:
        super().__init__()
        self.affine = EqualisedLinear(w_dim, before, bias=1.0)
        self.conv = ModulatedConv2d(before, after, 3, doubles=doubles)
        self.noise = nn.Identity() if noise == "none" else NoisePlane(side, noise)
        self.activation = BiasedLeakyReLU(after)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        made: Tensor = self.activation(self.noise(self.conv(x, self.affine(w))))
        return made


class ToImage(nn.Module):
    """A modulated 1×1 convolution to the channels of the image, without normalised weights."""

    def __init__(self, before: int, image_channels: int, w_dim: int) -> None:
        super().__init__()
        self.affine = EqualisedLinear(w_dim, before, bias=1.0)
        self.conv = ModulatedConv2d(before, image_channels, 1, normalise=False, biased=True)
        self.scale = 1 / math.sqrt(before)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        image: Tensor = self.conv(x, self.affine(w) * self.scale)
        return image


class LearnedPattern(OwnWeights):
    """The 4×4 pattern (C, 4, 4) that every image begins with."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pattern = nn.Parameter(torch.empty(channels, 4, 4))

    def draw(self) -> None:
        """Draw N(0, 1)."""
        nn.init.normal_(self.pattern)

    def forward(self, count: int) -> Tensor:
        return self.pattern.expand(count, -1, -1, -1)


class Resolution(nn.Module):
    """The layers of G at one resolution, and their image.

    Args:
        before: The channels of the resolution below; None at 4×4.
        after: The channels here.
    """

    def __init__(self, before: int | None, after: int, side: int, image_channels: int, w_dim: int,
                 noise: str) -> None:
        super().__init__()
        self.doubling = (None if before is None else
                         StyledConv(before, after, side, w_dim, noise, doubles=True))
        self.conv = StyledConv(after, after, side, w_dim, noise, doubles=False)
        self.to_image = ToImage(after, image_channels, w_dim)

    def forward(self, x: Tensor, ws: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Return the activations and the image, both at this resolution.

        Args:
            x: The activations of the resolution below; at 4×4, the pattern.
            ws: One w for each convolution, and one for the image.
        """
        if self.doubling is not None:
            x = self.doubling(x, ws[0])
        x = self.conv(x, ws[-2])
        return x, self.to_image(x, ws[-1])


class Synthesis(nn.Module):
    """The synthesis network: a w for each layer → images.

    Each resolution has two layers (4×4 one), and adds an image to the doubled one before it.

    Args:
        channels: By resolution, from 4 on.
        noise: As for `NoisePlane`, or `none`.

    Attributes:
        layers: How many w an image has: one for each convolution, and one for the last image.
    """

    def __init__(self, channels: Table[int, int], image_channels: int, w_dim: int,
                 noise: str) -> None:
        super().__init__()
        self.layers = 2 * len(channels)
        self.pattern = LearnedPattern(channels[4])
        befores = [None, *channels.values()]
        self.resolutions = nn.ModuleList(
            Resolution(before, after, side, image_channels, w_dim, noise)
            for before, (side, after) in zip(befores, channels.items(), strict=False))

    def forward(self, ws: Tensor) -> Tensor:
        """Return images (N, C, H, W), unbounded, for ws (N, layers, w_dim)."""
        of_layer = ws.unbind(1)
        image: Tensor
        x, image = self.resolutions[0](self.pattern(ws.shape[0]), of_layer[:2])
        for i, resolution in enumerate(self.resolutions[1:]):
            # The image of a resolution has the same w as the convolution after it.
            x, added = resolution(x, of_layer[2 * i + 1:2 * i + 4])
            image = doubled(image) + added
        return image


class StyleGenerator(nn.Module):
    """G: `mapping` gives w, `synthesis` the image.

    A path-length penalty differentiates `synthesis(styles(latents))` by `styles(latents)`; styles
    are mixed by joining the columns of two of them.
    """

    def __init__(self, mapping: StyleMapping, synthesis: Synthesis) -> None:
        super().__init__()
        self.mapping, self.synthesis = mapping, synthesis

    def styles(self, latents: Tensor, track: bool = True) -> Tensor:
        """Return the w of each layer, (N, layers, w_dim); `track` is that of the mapping."""
        w: Tensor = self.mapping(latents, track)
        return w[:, None].expand(-1, self.synthesis.layers, -1)

    def forward(self, latents: Tensor) -> Tensor:
        images: Tensor = self.synthesis(self.styles(latents))
        return images
