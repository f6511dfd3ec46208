"""Layers whose first weights or buffers do not depend on a model's `init`."""

from __future__ import annotations

from torch import nn


class OwnWeights(nn.Module):
    """A layer that draws what it holds itself; `initialise` calls `draw` for it.

    Models are built on torch's `meta` device, where tensors have no values, so that a constructor
    cannot draw. A layer that is also one of PyTorch's has its weight and its bias drawn by `init`
    first.
    """

    def draw(self) -> None:
        """Set the values of this layer's own parameters and buffers, from torch's global state."""
        raise NotImplementedError
