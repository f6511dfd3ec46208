"""The minibatch standard deviation: what lets D see whether a batch is varied."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MinibatchDeviation(nn.Module):
    """Appends channels that say how much the examples of a group differ.

    Karras et al. 2018, "Progressive growing of GANs", section 3, in the form of StyleGAN2: the
    standard deviation over a group of each value, averaged over pixels and over the channels of a
    feature. A batch of N has M = ⌈N / group⌉ groups, and example i belongs to group i mod M. Where
    M does not divide N, as in a measurement, some groups have one example less.

    Args:
        group: The number of examples in a group; a smaller batch is a single group.
        features: The number of appended channels, which divides the number of channels.
    """

    def __init__(self, group: int, features: int = 1) -> None:
        super().__init__()
        self.group, self.features = group, features

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, C + features, H, W) for (N, C, H, W)."""
        n, _, height, width = x.shape
        groups = -(-n // self.group)
        if n % groups == 0:
            spread = self._spread(x.reshape(n // groups, groups, *x.shape[1:]))
        else:
            spread = torch.cat([self._spread(x[i::groups, None]) for i in range(groups)])
        of_each = spread.repeat(-(-n // groups), 1)[:n].to(x.dtype)
        return torch.cat([x, of_each[..., None, None].expand(-1, -1, height, width)], 1)

    def _spread(self, members: Tensor) -> Tensor:
        """Return (M, features) for (members of a group, M, C, H, W)."""
        # The squares of bfloat16 differences would keep two digits.
        wide = members.to(torch.promote_types(members.dtype, torch.float32))
        deviation = (wide.var(0, correction=0) + 1e-8).sqrt()
        return deviation.reshape(len(deviation), self.features, -1).mean(2)
