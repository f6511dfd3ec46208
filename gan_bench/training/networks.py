"""What training does with networks besides their optimizers' updates."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@torch.no_grad()
def samples_of(generator: nn.Module, latents: Tensor) -> Tensor:
    """Return the samples of a generator in eval mode, on the CPU; its mode is restored."""
    was_training = generator.training
    generator.eval()
    samples: Tensor = generator(latents).cpu()
    generator.train(was_training)
    return samples


def seed_layers(seed: int, device: str, draws: torch.Generator) -> None:
    """Seed torch's global generators, which layers draw from.

    `torch.manual_seed` does the same but is slower: it looks at every kind of device.

    Args:
        draws: The run's own state on a GPU: a graph of another run may still read its seeds.
    """
    torch.default_generator.manual_seed(seed)
    if device != "cpu":
        on_device = torch.cuda.default_generators[torch.cuda.current_device()]
        on_device.graphsafe_set_state(draws)
        on_device.manual_seed(seed)


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
