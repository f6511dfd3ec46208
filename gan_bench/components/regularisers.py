"""What penalties compute from a whole network: its weights, or how its images follow its styles."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor, nn

from gan_bench.components.models.base import SHARED_EMBEDDING


def overlap(network: nn.Module) -> Tensor:
    """Return Σ_{i≠j} ⟨wᵢ, wⱼ⟩² over the rows of each weight, summed over a network's weights.

    Brock et al. 2019, "Large scale GAN training for high fidelity natural image synthesis",
    equation 3: ‖WᵀW ∘ (1 − I)‖², with one row of W for each output, as in the published code.
    """
    total = next(network.parameters()).new_zeros(())
    for weight in _matrices(network):
        products = weight @ weight.t()
        total = total + products.square().sum() - products.diagonal().square().sum()
    return total


def _matrices(network: nn.Module) -> Iterator[Tensor]:
    """Yield each parameter of two or more axes as a matrix with one row for each output."""
    for module in network.modules():
        if getattr(module, SHARED_EMBEDDING, False):
            continue
        for parameter in module.parameters(recurse=False):
            if parameter.dim() >= 2:
                is_transposed = isinstance(module, nn.ConvTranspose2d)
                yield (parameter.transpose(0, 1) if is_transposed else parameter).flatten(1)
