"""The numbers of a run that change from step to step, where its parts read them."""

from __future__ import annotations

import torch
from torch import Tensor

from gan_bench.config.spec import RunSpec
from gan_bench.registry import Scheduled


class ChangingNumbers:
    """Scalar tensors with the values of a step.

    They are written before the step begins, in place, so a captured step reads those of its replay.
    They depend on the number of the step alone, so a checkpoint holds none of them.
    """

    def __init__(self, spec: RunSpec, device: str) -> None:
        self._spec, self._device = spec, device
        self._all: list[tuple[Scheduled, Tensor]] = []

    def follow(self, number: Scheduled) -> Tensor:
        """Return the scalar that has the number's value at each step; a part is built with it."""
        value = torch.full((), number.first, device=self._device)
        self._all.append((number, value))
        return value

    def begin(self, step: int) -> None:
        """Write the values of a step, without waiting for the device."""
        for number, value in self._all:
            value.fill_(number.at(step, self._spec.steps, self._spec.images_per_step))
