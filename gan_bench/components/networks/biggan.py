"""The networks of BigGAN, and of SAGAN.

Brock et al. 2019, "Large scale GAN training for high fidelity natural image synthesis", appendix
B, and its published code; Zhang et al. 2019, "Self-attention generative adversarial networks".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, relu

from gan_bench.components.layers import (
    ConditionalBatchNorm2d,
    SelfAttention,
    SpectralConv2d,
    SpectralConvToImage,
    SpectralEmbedding,
    SpectralLinear,
    SpectralUpsampledConv2d,
    UnconditionalBatchNorm2d,
)
from gan_bench.components.models.base import SHARED_EMBEDDING


def plain_conv(before: int, after: int, size: int, bias: bool = True) -> nn.Module:
    """Return a convolution that keeps the size."""
    return nn.Conv2d(before, after, size, padding=size // 2, bias=bias)


@dataclass(frozen=True)
class Kinds:
    """The classes of a discriminator's layers: with spectral norm or without."""

    conv: Callable[..., nn.Module]
    linear: Callable[..., nn.Module]
    embedding: Callable[[int, int], nn.Module]


NORMED = Kinds(SpectralConv2d, SpectralLinear, SpectralEmbedding)
PLAIN = Kinds(plain_conv, nn.Linear, nn.Embedding)


@dataclass(frozen=True)
class Conditioning:
    """What the batch norms of G depend on.

    Attributes:
        latent_dim: The length of the latents.
        classes: The number of classes; 0 if there are no labels.
        shared: The length of the embedding that all norms share; 0 if each has its own table.
        slots: In how many chunks the latents are split: the first is G's input, and each block gets
            one with the label; 1 if they are not split.
    """

    latent_dim: int
    classes: int
    shared: int
    slots: int

    @property
    def chunk(self) -> int:
        """The length of a chunk of the latents."""
        return self.latent_dim // self.slots

    def norm(self, channels: int) -> nn.Module:
        """Return a batch norm of a block."""
        size = (self.shared if self.classes else 0) + (self.chunk if self.slots > 1 else 0)
        if size:
            return ConditionalBatchNorm2d(channels, SpectralLinear(size, channels, bias=False),
                                          SpectralLinear(size, channels, bias=False))
        if self.classes:
            return ConditionalBatchNorm2d(channels, nn.Embedding(self.classes, channels),
                                          nn.Embedding(self.classes, channels))
        return UnconditionalBatchNorm2d(channels)


class BigBlockOfG(nn.Module):
    """A residual block that doubles the resolution, and attention after it on request."""

    def __init__(self, before: int, after: int, conditioning: Conditioning, attends: bool) -> None:
        super().__init__()
        self.norm1 = conditioning.norm(before)
        self.conv1 = SpectralUpsampledConv2d(before, after)
        self.norm2 = conditioning.norm(after)
        self.conv2 = SpectralConv2d(after, after, 3)
        self.shortcut = SpectralConv2d(before, after, 1)
        self.attention = SelfAttention(after, SpectralConv2d) if attends else nn.Identity()

    def forward(self, x: Tensor, condition: Tensor | None) -> Tensor:
        """Return (N, after, 2H, 2W) for (N, before, H, W)."""
        branch = self.conv1(relu(self.norm1(x, condition)))
        branch = self.conv2(relu(self.norm2(branch, condition)))
        # A 1×1 convolution commutes with the doubling, and is cheaper before it.
        doubled = interpolate(self.shortcut(x), scale_factor=2)
        made: Tensor = self.attention(branch + doubled)
        return made


class BigGenerator(nn.Module):
    """G: latents, with the label as a one-hot vector after them → images in [-1, 1].

    Args:
        widths: The channels from 4×4 on, one more than there are blocks.
        attention: The resolution after whose block it attends; None if it does not.
    """

    def __init__(self, widths: Sequence[int], image_channels: int, conditioning: Conditioning,
                 attention: int | None) -> None:
        super().__init__()
        self.conditioning = conditioning
        is_shared = conditioning.classes and conditioning.shared
        self.shared = (nn.Embedding(conditioning.classes, conditioning.shared) if is_shared
                       else None)
        if self.shared is not None:
            setattr(self.shared, SHARED_EMBEDDING, True)
        self.linear = SpectralLinear(conditioning.chunk, 16 * widths[0])
        self.blocks = nn.ModuleList(
            BigBlockOfG(before, after, conditioning, attends=8 << i == attention)
            for i, (before, after) in enumerate(pairwise(widths)))
        self.norm = nn.BatchNorm2d(widths[-1])
        self.to_image = SpectralConvToImage(widths[-1], image_channels)

    def conditions(self, latents: Tensor) -> tuple[Tensor, list[Tensor | None]]:
        """Return the input of the linear layer, (N, chunk), and the condition of each block.

        A condition is the shared embedding and the block's chunk of the latents, as far as there
        are such, or else the label (N,); None if there is neither.
        """
        size = self.conditioning.latent_dim
        labels = latents[:, size:].argmax(1) if self.conditioning.classes else None
        first, *chunks = latents[:, :size].chunk(self.conditioning.slots, 1)
        if labels is None:
            return first, [*chunks] or [None] * len(self.blocks)
        if self.shared is None:
            return first, [labels] * len(self.blocks)
        embedded = self.shared(labels)
        if not chunks:
            return first, [embedded] * len(self.blocks)
        return first, [torch.cat([embedded, chunk], 1) for chunk in chunks]

    def forward(self, latents: Tensor) -> Tensor:
        first, conditions = self.conditions(latents)
        x = self.linear(first).unflatten(1, (-1, 4, 4))
        for block, condition in zip(self.blocks, conditions, strict=True):
            x = block(x, condition)
        image: Tensor = self.to_image(relu(self.norm(x)))
        return image.tanh()


class BigBlockOfD(nn.Module):
    """A residual block, and attention after it on request.

    Args:
        halves: Whether it halves the resolution, by means over 2×2.
        first: Whether it reads the image, and begins without a ReLU.
    """

    def __init__(self, before: int, after: int, kinds: Kinds, halves: bool, first: bool,
                 attends: bool) -> None:
        super().__init__()
        self.conv1, self.conv2 = kinds.conv(before, after, 3), kinds.conv(after, after, 3)
        self.shortcut = (kinds.conv(before, after, 1) if halves or before != after
                         else nn.Identity())
        self.attention = SelfAttention(after, kinds.conv) if attends else nn.Identity()
        self.halves, self.first = halves, first

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, after, H, W), or half the sides, for (N, before, H, W)."""
        branch = self.conv2(relu(self.conv1(x if self.first else relu(x))))
        if self.halves:
            branch, x = avg_pool2d(branch, 2), avg_pool2d(x, 2)
        made: Tensor = self.attention(branch + self.shortcut(x))
        return made


class BigDiscriminator(nn.Module):
    """D: images, and labels if it has classes → logits (N,).

    The logit is a linear function of the features, summed over the pixels, plus their product with
    an embedding of the label (Miyato and Koyama 2018, "cGANs with projection discriminator").

    Args:
        widths: The channels of the image and of each block's result.
        halvings: How many blocks halve the resolution.
        attends: Of each block, whether attention follows.
    """

    def __init__(self, widths: Sequence[int], halvings: int, attends: Sequence[bool], kinds: Kinds,
                 classes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(
            BigBlockOfD(before, after, kinds, i < halvings, i == 0, attends[i])
            for i, (before, after) in enumerate(pairwise(widths))))
        self.head = kinds.linear(widths[-1], 1)
        self.embedding = kinds.embedding(classes, widths[-1]) if classes else None

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        """Return logits (N,)."""
        features = relu(self.blocks(images)).sum((2, 3))
        logits: Tensor = self.head(features).flatten()
        if self.embedding is not None and labels is not None:
            logits = logits + (self.embedding(labels) * features).sum(1)
        return logits
