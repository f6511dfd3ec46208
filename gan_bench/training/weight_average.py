"""The running average of G's weights, which is measured in G's place."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from gan_bench.config.averaging import decay_at
from gan_bench.config.spec import RunSpec


class WeightAverage:
    """The average of a run that has one; it begins as a copy of G.

    Args:
        spec: The run's specification, whose `ema` is a number.
        generator: G, on its device.
    """

    def __init__(self, spec: RunSpec, generator: nn.Module, device: str) -> None:
        assert spec.ema is not None
        self._ema, self._ramp = spec.ema, spec.ema_ramp
        self._average = copy.deepcopy(generator).requires_grad_(False)
        # On the device, where a CUDA graph reads it.
        self._share_of_g = torch.zeros((), device=device)

    @property
    def network(self) -> nn.Module:
        """The average, as it is measured and saved."""
        return self._average

    def begin(self, step: int) -> None:
        """Set how far the average moves at a step. Does not wait for the device."""
        self._share_of_g.fill_(1 - decay_at(self._ema, self._ramp, step))

    @torch.no_grad()
    def follow(self, generator: nn.Module) -> None:
        """Move the average's parameters towards those of G; copy the buffers."""
        averages: list[Tensor] = list(self._average.parameters())
        targets: list[Tensor] = list(generator.parameters())
        ways = torch._foreach_sub(targets, averages)
        torch._foreach_mul_(ways, self._share_of_g)
        torch._foreach_add_(averages, ways)
        for kept, buffer in zip(self._average.buffers(), generator.buffers(), strict=True):
            kept.copy_(buffer)  # batch-norm statistics

    def load(self, state: dict[str, Any]) -> None:
        """Restore the average of a checkpoint."""
        self._average.load_state_dict(state)
