"""The parts that all model families share: the pair of networks and its initialisation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import Field

if TYPE_CHECKING:
    from torch import Tensor, nn

Layer = TypeVar("Layer", bound="nn.Module")
Shape = tuple[int, ...]
Count = Annotated[int, Field(ge=1, le=4096)]
Eps = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Init = Literal["default", "normal", "xavier", "fan_in"]
Norm = Literal["batch", "none"]
_GAIN = "initial_gain"


@dataclass(frozen=True)
class Networks:
    """A generator and a discriminator, their parameters registered in forward order.

    Attributes:
        generator: latents (N, latent_dim) float32 → images (N, C, H, W) in [-1, 1], or vectors
            (N, D), unbounded.
        discriminator: images in [-1, 1], or vectors → logits (N,).
        init: `default` (PyTorch's own); `normal`: weights N(0, 0.02), batch-norm scales N(1, 0.02),
            biases 0 (Radford et al. 2015, section 3, and its published code); `xavier`: weights
            uniform in ±g √(6 / (fan-in + fan-out)), biases 0 (Glorot and Bengio 2010, equation 16);
            `fan_in`: weights N(0, g / √fan-in), biases 0 (He et al. 2015, section 2.2). The gain g
            is 1, unless the family sets another for a layer.
    """

    generator: nn.Module
    discriminator: nn.Module
    init: Init


def initialise(module: nn.Module, init: Init) -> None:
    """Draw all weights from torch's global random state."""
    from torch import nn

    weighted = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    for layer in module.modules():
        if isinstance(layer, nn.Embedding):  # a label then weighs as much as one feature
            size = 0.02 if init == "normal" else float(layer.embedding_dim) ** -0.5
            nn.init.normal_(layer.weight, 0.0, size)
        if not isinstance(layer, (*weighted, nn.BatchNorm1d, nn.BatchNorm2d)):
            continue
        layer.reset_parameters()
        gain: float = getattr(layer, _GAIN, 1.0)
        if init == "normal":
            mean = 0.0 if isinstance(layer, weighted) else 1.0
            nn.init.normal_(layer.weight, mean, 0.02)
        elif init == "xavier" and isinstance(layer, weighted):
            nn.init.xavier_uniform_(layer.weight, gain)
        elif init == "fan_in" and isinstance(layer, weighted):
            nn.init.normal_(layer.weight, 0.0, gain / layer.weight[0].numel() ** 0.5)
        if init != "default" and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def with_gain(layer: Layer, gain: float) -> Layer:
    """Return `layer` with a gain: `xavier` and `fan_in` draw its weights `gain` times as large."""
    setattr(layer, _GAIN, gain)
    return layer


def residual(branch: nn.Module, shortcut: nn.Module) -> nn.Module:
    """Return the module that adds the outputs of `branch` and `shortcut`."""
    from torch import nn

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.branch, self.shortcut = branch, shortcut

        def forward(self, x: Tensor) -> Tensor:
            total: Tensor = self.branch(x) + self.shortcut(x)
            return total

    return Residual()
