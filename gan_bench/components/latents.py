"""The distributions that latents are drawn from."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Latents = Literal["normal", "uniform"]


LEAST_LIMIT = 0.1  # of truncated values: of N(0, 1), one in 13 lies within it


def within_limit(latents: Tensor, limit: float, draws: torch.Generator) -> Tensor:
    """Return normal latents whose values beyond ±limit are drawn anew until they lie within.

    Brock et al. 2019, "Large scale GAN training for high fidelity natural image synthesis",
    section 3.1, the truncation trick.

    Args:
        latents: (N, D), on the CPU.
        limit: At least `LEAST_LIMIT`.
    """
    latents = latents.clone()
    while bool((beyond := latents.abs() > limit).any()):
        latents[beyond] = torch.randn(int(beyond.sum()), generator=draws)
    return latents


def draw_latents(distribution: Latents, count: int, size: int, draws: torch.Generator) -> Tensor:
    """Return latents (count, size), on the device of `draws`.

    `normal` is N(0, 1) for each value; `uniform` is uniform in [-1, 1).
    """
    if distribution == "uniform":
        return torch.rand(count, size, generator=draws, device=draws.device) * 2 - 1
    return torch.randn(count, size, generator=draws, device=draws.device)
