"""The networks of StyleGAN2.

Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", and the settings of
its published code and that of Karras et al. 2020, "Training generative adversarial networks with
limited data".
"""

from __future__ import annotations

import math
from collections.abc import Mapping as Table
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gan_bench.components.layers import (
    BiasedLeakyReLU,
    EqualisedConv2d,
    EqualisedLinear,
    MinibatchDeviation,
    ModulatedConv2d,
    NoisePlane,
    OwnWeights,
    doubled,
    halved,
    unit_moment,
)

SPEED = 0.01  # the learning-rate multiplier of the mapping networks
KEPT = 0.995  # of the mean w at each step
HALF = math.sqrt(0.5)  # keeps the variance of a sum of two paths
D_MAPPING_LAYERS = 8


class StyleMapping(OwnWeights):
    """The mapping network: latents and labels to styles w.

    Args:
        latent_dim: The length of the latents; 0 if labels alone are mapped.
        classes: The number of classes; 0 if there are no labels.
        w_dim: The length of w.
        layers: The number of layers.
        averaged: Whether it keeps the mean of w, `average`, over the training's batches.
    """

    average: Tensor | None

    def __init__(self, latent_dim: int, classes: int, w_dim: int, layers: int,
                 averaged: bool) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.embedding = EqualisedLinear(classes, w_dim) if classes else None
        first = latent_dim + (w_dim if classes else 0)
        self.layers = nn.Sequential(*(
            EqualisedLinear(before, after, SPEED, active=True)
            for before, after in pairwise([first, *[w_dim] * layers])))
        self.register_buffer("average", torch.empty(w_dim) if averaged else None)

    def draw(self) -> None:
        """Set the mean of w to 0."""
        if self.average is not None:
            nn.init.zeros_(self.average)

    def forward(self, latents: Tensor, track: bool = True) -> Tensor:
        """Return w (N, w_dim).

        Args:
            latents: (N, latent_dim + classes), the label as a one-hot vector.
            track: Whether the mean of w follows, if in training mode.
        """
        parts = [unit_moment(latents[:, :self.latent_dim])] if self.latent_dim else []
        if self.embedding is not None:
            parts.append(unit_moment(self.embedding(latents[:, self.latent_dim:])))
        w: Tensor = self.layers(torch.cat(parts, 1))
        if track and self.training and self.average is not None:
            self.average.lerp_(w.detach().mean(0), 1 - KEPT)
        return w


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
        x, image = self.resolutions[0](self.pattern(len(ws)), of_layer[:2])
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


def truncated(ws: Tensor, average: Tensor, psi: float, first: int | None = None) -> Tensor:
    """Return styles that lie nearer to their mean: average + psi · (w − average).

    Karras et al. 2019, "A style-based generator architecture", appendix B.

    Args:
        ws: (N, layers, w_dim).
        average: (w_dim,), as `StyleMapping` keeps it.
        psi: 0 is the mean, 1 changes nothing.
        first: How many layers it is for; None: all.
    """
    if psi == 1:
        return ws
    near = torch.lerp(average, ws[:, :first], psi)
    return near if first is None else torch.cat([near, ws[:, first:]], 1)


class Halving(nn.Module):
    """A block of D: two 3×3 convolutions, the second of which halves the resolution.

    Args:
        image_channels: Those of an image that is added to the input; 0 if there is none.
        residual: Whether a 1×1 convolution joins input and output.
    """

    def __init__(self, before: int, after: int, image_channels: int, residual: bool) -> None:
        super().__init__()
        self.from_image = EqualisedConv2d(image_channels, before, 1) if image_channels else None
        self.shortcut = EqualisedConv2d(before, after, 1, halve=True, biased=False, active=False,
                                        gain=HALF) if residual else None
        self.first = EqualisedConv2d(before, before, 3)
        self.second = EqualisedConv2d(before, after, 3, halve=True, gain=HALF if residual else 1.0)

    def forward(self, x: Tensor | None, image: Tensor) -> Tensor:
        """Return (N, after, H / 2, W / 2).

        Args:
            x: (N, before, H, W); None in the first block.
            image: (N, image_channels, H, W), which a block that reads no image ignores.
        """
        if self.from_image is not None:
            seen = self.from_image(image)
            x = seen if x is None else x + seen
        shortcut = None if self.shortcut is None else self.shortcut(x)
        made: Tensor = self.second(self.first(x))
        return made if shortcut is None else made + shortcut


class StyleDiscriminator(nn.Module):
    """D: blocks down to 4×4, the minibatch standard deviation, and two linear layers.

    Args:
        channels: By resolution, from 4 on.
        architecture: `orig` reads the image at the largest resolution; `resnet` does, and has
            residual blocks; `skip` reads it at every resolution, filtered down.
        group: That of `MinibatchDeviation`; None if there is none.
        classes: The number of classes; 0 if it takes no labels. Otherwise, the logit is the product
            of D's features and the mapped label (Miyato and Koyama 2018).
    """

    def __init__(self, channels: Table[int, int], image_channels: int, architecture: str,
                 group: int | None, classes: int) -> None:
        super().__init__()
        self.classes, last = classes, channels[4]
        self.blocks = nn.ModuleList()
        sides = sorted(channels, reverse=True)
        self.is_skip = architecture == "skip"
        for side in sides[:-1]:
            reads = image_channels if self.is_skip or side == sides[0] else 0
            self.blocks.append(Halving(channels[side], channels[side // 2], reads,
                                       architecture == "resnet"))
        self.from_image = EqualisedConv2d(image_channels, last, 1) if self.is_skip else None
        self.deviation = MinibatchDeviation(group) if group else nn.Identity()
        self.conv = EqualisedConv2d(last + 1 if group else last, last, 3)
        self.linear = EqualisedLinear(16 * last, last, active=True)
        self.head = EqualisedLinear(last, last if classes else 1)
        self.mapping = (StyleMapping(0, classes, last, D_MAPPING_LAYERS, averaged=False)
                        if classes else None)

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N,)."""
        x: Tensor | None = None
        for block in self.blocks:
            x = block(x, image)
            if self.is_skip:
                image = halved(image)
        if self.from_image is not None:
            x = x + self.from_image(image)
        features: Tensor = self.linear(self.conv(self.deviation(x)).flatten(1))
        logits: Tensor = self.head(features)
        if self.mapping is None or labels is None:
            return logits.flatten()
        mapped = self.mapping(one_hot(labels, self.classes).to(logits))
        product: Tensor = (logits * mapped).sum(1) / math.sqrt(mapped.shape[1])
        return product
