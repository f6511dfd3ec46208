"""What all the families share: the pair of networks, how it is built and initialised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

if TYPE_CHECKING:
    from torch import nn

Shape = tuple[int, ...]
Count = Annotated[int, Field(ge=1, le=4096)]
Eps = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Init = Literal["default", "normal"]
Norm = Literal["batch", "none"]


@dataclass(frozen=True)
class Networks:
    """A generator and a discriminator, their parameters registered in forward order.

    Attributes:
        generator: latents (N, latent_dim) float32 → images (N, C, H, W) in [-1, 1], or vectors
            (N, D), unbounded.
        discriminator: images in [-1, 1], or vectors → logits (N,).
        init: `default` (PyTorch's own), or `normal`: weights N(0, 0.02), batch-norm scales
            N(1, 0.02), biases 0 (Radford et al. 2015, section 3, and its published code).
    """

    generator: nn.Module
    discriminator: nn.Module
    init: Init


def initialise(module: nn.Module, init: Init) -> None:
    """Draw all weights from torch's global random state."""
    from torch import nn

    weighted = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    for layer in module.modules():
        if isinstance(layer, (*weighted, nn.BatchNorm1d, nn.BatchNorm2d)):
            layer.reset_parameters()
            if init == "normal":
                nn.init.normal_(layer.weight, 0.0 if isinstance(layer, weighted) else 1.0, 0.02)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Embedding):  # so that a label weighs as much as one feature
            size = 0.02 if init == "normal" else float(layer.embedding_dim) ** -0.5
            nn.init.normal_(layer.weight, 0.0, size)


def size_of(shape: Shape) -> int:
    """Return the number of values in one example."""
    size = 1
    for side in shape:
        size *= side
    return size
