"""The features of stacks: images whose channels are grey images, each with its own class."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gan_bench.evaluation.features.base import Extractor

if TYPE_CHECKING:
    from torch import Tensor, nn


def per_channel(grey: Extractor) -> Extractor:
    """Return the extractor that applies `grey` to every channel separately.

    The literature counts the modes of stacked MNIST in this way, by a classifier of single digits
    (Metz et al. 2017, section 3.3; Srivastava et al. 2017, section 4.2).

    Args:
        grey: Takes (n, 1, H, W); D values and K logits.

    Returns:
        Takes (n, C, H, W); C·D values, channel after channel, and K^C logits. These are the sums of
        the channels' log-probabilities; the first channel's class is the leading digit.
    """
    from torch import nn

    class PerChannel(nn.Module):
        def __init__(self, single: nn.Module) -> None:
            super().__init__()
            self.single = single

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            count = len(images)
            values, logits = self.single(images.flatten(0, 1)[:, None])
            first, *others = logits.log_softmax(1).view(count, images.shape[1], -1).unbind(1)
            for other in others:
                first = (first[:, :, None] + other[:, None, :]).flatten(1)
            return values.view(count, -1), first

    return replace(grey, network=PerChannel(grey.network).eval())
