"""The training examples of a step, and the conditions of a conditional run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepBatch:
    """The real examples of one step, and the conditions of a conditional run.

    A condition is a class, labels `(N,)` int64, or an image, inputs `(N, C, H, W)` float32 in
    [-1, 1] whose targets are the real examples.

    Attributes:
        real: One batch for each update of D, `(N, C, H, W)` in [-1, 1] or `(N, D)`, float32.
        conditions: Of each batch of `real`; D's fakes have the same. None if unconditional.
        g_real: The batches for G's updates, one after the other; None unless the loss compares
            fakes with them.
        g_conditions: For G's fakes, one batch after the other: those of `g_real` if there is one,
            and else those of `real` in turn.
    """

    real: list[Tensor]
    conditions: list[Tensor] | None = None
    g_real: Tensor | None = None
    g_conditions: Tensor | None = None

    def targets(self, count: int) -> list[Tensor]:
        """Return the real examples that have the conditions of each of G's `count` updates."""
        if self.g_real is not None:
            return [*self.g_real.chunk(count)]
        return [self.real[i % len(self.real)] for i in range(count)]

    def of_g(self, count: int) -> list[tuple[Tensor | None, Tensor | None]]:
        """Return the real examples and the conditions of each of G's `count` updates, or Nones."""
        def parts(tensor: Tensor | None) -> Sequence[Tensor | None]:
            return [None] * count if tensor is None else tensor.chunk(count)

        return list(zip(parts(self.g_real), parts(self.g_conditions), strict=True))

    def tensors(self) -> list[Tensor]:
        """Return all tensors, in a fixed order."""
        of_g = [tensor for tensor in (self.g_real, self.g_conditions) if tensor is not None]
        return [*self.real, *(self.conditions or ()), *of_g]

    def empty_like(self) -> StepBatch:
        """Return a batch of the same shapes whose values are undefined."""
        def empty(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else torch.empty_like(tensor)

        conditions = None
        if self.conditions is not None:
            conditions = [torch.empty_like(tensor) for tensor in self.conditions]
        return StepBatch([torch.empty_like(tensor) for tensor in self.real], conditions,
                         empty(self.g_real), empty(self.g_conditions))
