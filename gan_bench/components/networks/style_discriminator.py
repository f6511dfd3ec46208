"""The discriminators of StyleGAN2.

Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", section 4.1 and figure
7, and the published code of Karras et al. 2020, "Training generative adversarial networks with
limited data", which joins the labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping as Table

from torch import Tensor, nn
from torch.nn.functional import one_hot

from gan_bench.components.layers import (
    EqualisedConv2d,
    EqualisedLinear,
    MinibatchDeviation,
    halved,
)
from gan_bench.components.networks.style_mapping import StyleMapping

HALF = math.sqrt(0.5)  # keeps the variance of a sum of two paths
MAPPING_LAYERS = 8


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
        self.mapping = (StyleMapping(0, classes, last, MAPPING_LAYERS, averaged=False)
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
