"""What training does with networks besides their optimizers' updates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

StepMetrics = dict[str, Tensor]  # scalars on the device, by their names in the journal


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


def log_means(metrics: StepMetrics, seen: Sequence[StepMetrics]) -> None:
    """Add the mean of each value over the parts of a batch to what is logged."""
    for name, first in seen[0].items():
        metrics[name] = first if len(seen) == 1 else torch.stack(
            [part[name] for part in seen]).mean()


def logit_metrics(real: Tensor, fake: Tensor, boundary: float) -> dict[str, Tensor]:
    """Return the mean sigmoid of D's logits and its accuracy, relative to the boundary.

    Of a map for each example, (N, 1, H, W), both are means over the maps: each patch is judged.
    """
    return {"train/d_real": (real - boundary).sigmoid().mean(),
            "train/d_fake": (fake - boundary).sigmoid().mean(),
            "train/d_accuracy_real": (real > boundary).float().mean(),
            "train/d_accuracy_fake": (fake < boundary).float().mean()}


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


def seed_layers(seed: int, state: torch.Generator) -> None:
    """Seed what layers draw from, torch's global generators.

    Args:
        state: The run's own on its device, which it uses there: a graph of another run may still
            read the seeds of that run's.
    """
    # `torch.manual_seed` does the same but is slower: it looks at every kind of device.
    torch.default_generator.manual_seed(seed)
    if state.device.type != "cpu":
        on_device = torch.cuda.default_generators[torch.cuda.current_device()]
        on_device.graphsafe_set_state(state)
        on_device.manual_seed(seed)
