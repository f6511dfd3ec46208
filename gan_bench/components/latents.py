"""The distributions that latents are drawn from."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Latents = Literal["normal", "uniform"]


def draw_latents(distribution: Latents, count: int, size: int, draws: torch.Generator) -> Tensor:
    """Return latents (count, size), on the device of `draws`.

    `normal` is N(0, 1) for each value; `uniform` is uniform in [-1, 1).
    """
    if distribution == "uniform":
        return torch.rand(count, size, generator=draws, device=draws.device) * 2 - 1
    return torch.randn(count, size, generator=draws, device=draws.device)
