"""What training does with networks besides their optimizers' updates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@torch.no_grad()
def average_into(average: nn.Module, network: nn.Module, decay: float) -> None:
    """Move the parameters of `average` towards those of `network`; copy the buffers.

    Args:
        decay: The weight of the present average, 0..1.
    """
    torch._foreach_lerp_(list(average.parameters()), list(network.parameters()), 1 - decay)
    for mean, buffer in zip(average.buffers(), network.buffers(), strict=True):
        mean.copy_(buffer)  # batch-norm statistics


@torch.no_grad()
def samples_of(generator: nn.Module, latents: Tensor) -> Tensor:
    """Return the samples of a generator in eval mode, on the CPU; its mode is restored."""
    was_training = generator.training
    generator.eval()
    samples: Tensor = generator(latents).cpu()
    generator.train(was_training)
    return samples


def grad_norm(network: nn.Module) -> Tensor:
    """Return the norm of all gradients of a network: a scalar on its device."""
    grads = [p.grad for p in network.parameters() if p.grad is not None]
    return torch.nn.utils.get_total_norm(grads)


@contextmanager
def frozen(network: nn.Module) -> Iterator[None]:
    """Skip the gradients of the network's parameters, which G's step does not need of D."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    for p in parameters:
        p.requires_grad_(False)
    try:
        yield
    finally:
        for p in parameters:
            p.requires_grad_(True)
