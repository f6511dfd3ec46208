"""The schedule `plateau`: when a network's loss no longer falls, its learning rate is lowered."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from gan_bench.registry import Part

THRESHOLD = 1e-4  # the share by which a loss must fall to count, as in PyTorch's ReduceLROnPlateau


class Plateau:
    """How often a learning rate has been lowered, which the losses so far decide.

    The mean of what an optimizer minimises, over each `every` steps, is compared with the lowest
    such mean before. After more than `patience` periods without a lower one the rate is lowered.

    The sum is kept on the device, where a captured step adds to it, and is read once in a period.
    It does not depend on what is logged. `state` holds all of it, so a resumed run lowers its rate
    at the same steps.

    Args:
        every: The number of steps in a period.
        patience: The number of periods without a lower mean that leave the rate as it is.
        updates: The number of losses in a step.
        device: Where the losses are.
    """

    def __init__(self, every: int, patience: int, updates: int, device: str) -> None:
        self._every, self._patience, self._count = every, patience, every * updates
        self._sum = torch.zeros((), dtype=torch.float64, device=device)
        self._lowest, self._idle, self._cuts, self._seen = math.inf, 0, 0, 0

    def add(self, loss: Tensor) -> None:
        """Add the loss of an update, without waiting for it."""
        self._sum += loss.detach()

    def cuts(self, step: int) -> int:
        """Return how often the rate has been lowered before `step` begins.

        It waits for the device at the first step of a period.
        """
        if (step - 1) % self._every == 0 and step - 1 > self._seen:
            self._seen = step - 1
            self._end_period(float(self._sum) / self._count)
            self._sum.zero_()
        return self._cuts

    def state(self) -> dict[str, Any]:
        """Return all that the later steps depend on, as plain values."""
        return {"sum": float(self._sum), "lowest": self._lowest, "idle": self._idle,
                "cuts": self._cuts, "seen": self._seen}

    def load(self, state: dict[str, Any]) -> None:
        """Continue from what `state` has returned."""
        self._sum.fill_(state["sum"])
        self._lowest, self._idle = state["lowest"], state["idle"]
        self._cuts, self._seen = state["cuts"], state["seen"]

    def _end_period(self, mean: float) -> None:
        fall = THRESHOLD if self._lowest >= 0 else -THRESHOLD
        if mean < self._lowest * (1 - fall):
            self._lowest, self._idle = mean, 0
        else:
            self._idle += 1
        if self._idle > self._patience:
            self._cuts, self._idle = self._cuts + 1, 0


def plateaus_of(optimizers: Mapping[nn.Module, Part], updates: Mapping[nn.Module, int],
                device: str) -> dict[nn.Module, Plateau]:
    """Return the plateau of each network whose optimizer has that schedule.

    Args:
        updates: How often each network is updated in a step.
    """
    return {network: Plateau(part.args["decay_every"], part.args["decay_patience"],
                             updates[network], device)
            for network, part in optimizers.items() if part.args["schedule"] == "plateau"}
