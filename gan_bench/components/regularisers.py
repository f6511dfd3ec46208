"""What penalties compute from a whole network: its weights, or how its images follow its styles."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gan_bench.components.models.base import SHARED_EMBEDDING


def overlap(network: nn.Module) -> Tensor:
    """Return Σ_{i≠j} ⟨wᵢ, wⱼ⟩² over the rows of each weight, summed over a network's weights.

    Brock et al. 2019, "Large scale GAN training for high fidelity natural image synthesis",
    equation 3: ‖WᵀW ∘ (1 − I)‖², with one row of W for each output, as in the published code.
    """
    total = next(network.parameters()).new_zeros(())
    for weight in _matrices(network):
        total = total + _overlap_of_rows(weight)
    return total


def _overlap_of_rows(weight: Tensor) -> Tensor:
    """Return Σ_{i≠j} ⟨wᵢ, wⱼ⟩² over the rows of a matrix."""
    rows, columns = weight.shape
    if rows <= 2 * columns:  # one half of the sum, so that rows nearly apart do not cancel
        return 2 * (weight @ weight.t()).triu(1).square().sum()
    # BigGAN's first layer has 24,576 rows of 20: their products would take 2.4 GB. ‖WWᵀ‖ = ‖WᵀW‖.
    lengths = weight.square().sum(1)
    return (weight.t() @ weight).square().sum() - lengths.square().sum()


def distance_from_mean_length(generator: Any, latents: Tensor, draws: torch.Generator,
                              mean: Tensor, decay: float) -> Tensor:
    """Return the mean squared distance of path lengths from their running mean, which it moves.

    Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", equation 4. The
    mean is moved before distances are taken, and gradients pass through its move.

    Args:
        generator: With `styles` and `synthesis`, as `ModelFacts.styles` describes them.
        latents: (N, …), labels included.
        mean: Float64 scalar.
        decay: The share of the mean that this batch replaces.
    """
    lengths = path_lengths(generator, latents, draws)
    moved = torch.lerp(mean.to(lengths.dtype), lengths.mean(), decay)
    mean.copy_(moved.detach())
    return (lengths - moved).square().mean()


def path_lengths(generator: Any, latents: Tensor, draws: torch.Generator) -> Tensor:
    """Return how far each image moves with its styles in a random direction, (N,)."""
    styles = generator.styles(latents)
    images = generator.synthesis(styles)
    noise = torch.randn(images.shape, generator=draws, device=images.device, dtype=images.dtype)
    moved = (images * noise).sum() / math.sqrt(math.prod(images.shape[2:]))
    (slope,) = torch.autograd.grad(moved, styles, create_graph=True)
    # The derivative of the root is infinite at 0, for example where all of an image is clamped.
    tiny = 1e-24 if slope.dtype.itemsize > 4 else 1e-12
    lengths: Tensor = (slope.square().sum(2).mean(1) + tiny).sqrt()
    return lengths


def _matrices(network: nn.Module) -> Iterator[Tensor]:
    """Yield each parameter of two or more axes as a matrix with one row for each output."""
    for module in network.modules():
        if getattr(module, SHARED_EMBEDDING, False):
            continue
        for parameter in module.parameters(recurse=False):
            if parameter.dim() >= 2:
                is_transposed = isinstance(module, nn.ConvTranspose2d)
                yield (parameter.transpose(0, 1) if is_transposed else parameter).flatten(1)
