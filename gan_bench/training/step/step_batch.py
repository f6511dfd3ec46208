"""The training examples of a step, and the labels of a conditional run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepBatch:
    """The real examples of one step, and the labels of a conditional run.

    Attributes:
        real: One batch for each update of D, `(N, C, H, W)` in [-1, 1] or `(N, D)`, float32.
        labels: Of each batch of `real`, `(N,)` int64; D's fakes have the same labels. None if
            unconditional.
        g_real: The batches for G's updates, one after the other; None unless the loss compares
            fakes with them.
        g_labels: `(g_steps × N,)` int64 for G's fakes: those of `g_real` if there is one.
    """

    real: list[Tensor]
    labels: list[Tensor] | None = None
    g_real: Tensor | None = None
    g_labels: Tensor | None = None

    def of_g(self, count: int) -> list[tuple[Tensor | None, Tensor | None]]:
        """Return the real examples and the labels of each of G's `count` updates, or Nones."""
        def parts(tensor: Tensor | None) -> Sequence[Tensor | None]:
            return [None] * count if tensor is None else tensor.chunk(count)

        return list(zip(parts(self.g_real), parts(self.g_labels), strict=True))

    def tensors(self) -> list[Tensor]:
        """Return all tensors, in a fixed order."""
        of_g = [tensor for tensor in (self.g_real, self.g_labels) if tensor is not None]
        return [*self.real, *(self.labels or ()), *of_g]

    def empty_like(self) -> StepBatch:
        """Return a batch of the same shapes whose values are undefined."""
        def empty(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else torch.empty_like(tensor)

        labels = None
        if self.labels is not None:
            labels = [torch.empty_like(tensor) for tensor in self.labels]
        return StepBatch([torch.empty_like(tensor) for tensor in self.real], labels,
                         empty(self.g_real), empty(self.g_labels))
