"""The training examples of a step, and the conditions of a conditional run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class StepBatch:
    """The real examples of one step, and the conditions of a conditional run.

    Conditions are called labels here, and are `(N,)` int64; those of pairs are inputs,
    `(N, C, H, W)` float32 in [-1, 1], whose targets are the real examples.

    Attributes:
        real: One batch for each update of D, `(N, C, H, W)` in [-1, 1] or `(N, D)`, float32.
        labels: Of each batch of `real`. None if unconditional.
        g_real: The batches for G's updates, one after the other; None unless the loss compares
            fakes with them.
        g_labels: For G's fakes, one batch after the other: those of `g_real` if there is one, and
            else those of `real` in turn.
        fake_labels: Of D's fakes, as `labels`; None if they have the same.
        own_labels: For the latents of a penalty of G with a step of its own; None if
            they are those of G's first update.
    """

    real: list[Tensor]
    labels: list[Tensor] | None = None
    g_real: Tensor | None = None
    g_labels: Tensor | None = None
    fake_labels: list[Tensor] | None = None
    own_labels: Tensor | None = None

    def targets(self, count: int) -> list[Tensor]:
        """Return the real examples that have the conditions of each of G's `count` updates."""
        if self.g_real is not None:
            return [*self.g_real.chunk(count)]
        return [self.real[i % len(self.real)] for i in range(count)]

    def of_g(self, count: int) -> list[tuple[Tensor | None, Tensor | None]]:
        """Return the real examples and the labels of each of G's `count` updates, or Nones."""
        return list(zip(in_parts(self.g_real, count), in_parts(self.g_labels, count), strict=True))

    def of_d(self) -> list[tuple[Tensor, Tensor | None, Tensor | None]]:
        """Return for each of D's updates the real examples, their labels and those of its fakes."""
        nones: list[None] = [None] * len(self.real)
        return list(zip(self.real, self.labels or nones, self.fake_labels or self.labels or nones,
                        strict=True))

    def tensors(self) -> list[Tensor]:
        """Return all tensors, in a fixed order."""
        found: list[Tensor] = []
        for each in fields(self):
            value = getattr(self, each.name)
            found += value if isinstance(value, list) else [value]
        return [tensor for tensor in found if tensor is not None]

    def empty_like(self) -> StepBatch:
        """Return a batch of the same shapes whose values are undefined."""
        def empty(value: Any) -> Any:
            if isinstance(value, list):
                return [torch.empty_like(tensor) for tensor in value]
            return None if value is None else torch.empty_like(value)

        return StepBatch(**{each.name: empty(getattr(self, each.name)) for each in fields(self)})


@dataclass(frozen=True)
class Judged:
    """What D judges in an update.

    Attributes:
        real, fake: (N, …), without gradients.
        labels, fake_labels: The conditions of each, as in `StepBatch`; None if unconditional.
    """

    real: Tensor
    fake: Tensor
    labels: Tensor | None
    fake_labels: Tensor | None

    def parts(self, count: int) -> Iterator[Judged]:
        """Yield `count` parts of equal size, one after the other."""
        whole = (self.real, self.fake, self.labels, self.fake_labels)
        for real, fake, labels, fake_labels in zip(*(in_parts(each, count) for each in whole),
                                                   strict=True):
            assert real is not None, "there are real examples"
            assert fake is not None, "and fake ones"
            yield Judged(real, fake, labels, fake_labels)


def in_parts(tensor: Tensor | None, count: int) -> Sequence[Tensor | None]:
    """Return `count` parts of equal size, or as many Nones."""
    if count == 1:
        return [tensor]
    return [None] * count if tensor is None else tensor.chunk(count)
