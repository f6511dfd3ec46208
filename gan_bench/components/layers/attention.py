"""Self-attention over the pixels of an image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import max_pool2d, softmax

from gan_bench.components.layers.own_weights import OwnWeights


class ZeroGate(OwnWeights):
    """Multiplies by a learned scalar `gamma` that starts at 0."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(()))

    def draw(self) -> None:
        """Set it to 0."""
        nn.init.zeros_(self.gamma)

    def forward(self, x: Tensor) -> Tensor:
        return self.gamma * x


class SelfAttention(nn.Module):
    """Adds to each pixel what it attends to: (N, C, H, W) → the same shape, with even sides.

    Zhang et al. 2019, "Self-attention generative adversarial networks", section 3, in the form of
    BigGAN: keys and values are halved by max-pooling, queries and keys have an eighth of the
    channels and values a half, and the sum's factor starts at 0.

    Args:
        conv: (before, after, size, bias) → a convolution.
    """

    def __init__(self, channels: int, conv: Callable[[int, int, int, bool], nn.Module]) -> None:
        super().__init__()
        few, half = max(1, channels // 8), max(1, channels // 2)
        self.query, self.key = conv(channels, few, 1, False), conv(channels, few, 1, False)
        self.value, self.back = conv(channels, half, 1, False), conv(half, channels, 1, False)
        self.gate = ZeroGate()

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2)  # (N, C / 8, pixels)
        key = max_pool2d(self.key(x), 2).flatten(2)  # (N, C / 8, pixels / 4)
        value = max_pool2d(self.value(x), 2).flatten(2)
        shares = softmax(query.transpose(1, 2) @ key, 2)  # of each pixel's attention
        seen = (value @ shares.transpose(1, 2)).view(x.shape[0], -1, *x.shape[2:])
        added: Tensor = x + self.gate(self.back(seen))
        return added
