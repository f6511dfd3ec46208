"""The parts that all model families share: the pair of networks and its initialisation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

if TYPE_CHECKING:
    from torch import Tensor, nn

Layer = TypeVar("Layer", bound="nn.Module")
Shape = tuple[int, ...]
Count = Annotated[int, Field(ge=1, le=4096)]
Positive = Annotated[float, Field(gt=0)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Init = Literal["default", "normal", "normal_conv", "xavier", "fan_in", "orthogonal"]
Norm = Literal["batch", "none"]
_GAIN = "initial_gain"
SPECTRAL_BOUND = "spectral_bound"
SHARED_EMBEDDING = "is_shared_embedding"  # of labels, for all layers of G


def _check_eps(value: object) -> object:
    """Refuse in one line what is neither an epsilon nor a list of them."""
    values = value if isinstance(value, list) else [value]
    for item in values or [None]:
        if isinstance(item, bool) or not isinstance(item, int | float) or not item > 0:
            raise PydanticCustomError("eps", "must be a number greater than 0, or a list "
                                             "of such numbers with one for each batch norm")
    return value


# One number for all batch norms, or a list in forward order: those of G, then those of D.
Eps = Annotated[Positive | list[Positive], BeforeValidator(_check_eps)]


@dataclass(frozen=True)
class Networks:
    """A generator and a discriminator, their parameters registered in forward order.

    Attributes:
        generator: latents (N, latent_dim) float32, then the condition (`with_condition`) → images
            (N, C, H, W) in [-1, 1] (unbounded if `ModelFacts.bounded` says so), or vectors (N, D),
            unbounded.
        discriminator: images in [-1, 1], or vectors, then the labels or the inputs if conditional →
            logits, (N,) or a map for each example, (N, 1, H', W').
        init: `default` (PyTorch's own); `normal`: weights N(0, 0.02), batch-norm scales N(1, 0.02),
            biases 0 (Radford et al. 2015, section 3, and its published code); `normal_conv`: the
            same for convolutions' weights and 2-D batch norms, and PyTorch's own for all else, as
            copied scripts have it; `xavier`: weights uniform in ±g √(6 / (fan-in + fan-out)),
            biases 0 (Glorot and Bengio 2010, equation 16); `fan_in`: weights N(0, g / √fan-in),
            biases 0 (He et al. 2015, section 2.2); `orthogonal`: weights as a matrix (outputs, all
            else) with orthonormal rows or columns, times g, biases 0 (Saxe et al. 2014, section 3).
            The gain g is 1, unless the family sets another for a layer. `constructed`: the weights
            stay as the factory has made them.
    """

    generator: nn.Module
    discriminator: nn.Module
    init: Init | Literal["constructed"] = "constructed"


def initialise(module: nn.Module, init: Init | Literal["constructed"]) -> None:
    """Draw all weights from torch's global random state."""
    from torch import nn

    from gan_bench.components.layers import OwnWeights

    weighted = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    for layer in module.modules():
        if isinstance(layer, OwnWeights):
            layer.draw()
        if isinstance(layer, nn.Embedding) and init == "orthogonal":
            nn.init.orthogonal_(layer.weight)
        elif isinstance(layer, nn.Embedding):  # a label then weighs as much as one feature
            size = 0.02 if init == "normal" else float(layer.embedding_dim) ** -0.5
            nn.init.normal_(layer.weight, 0.0, size)
        if not isinstance(layer, (*weighted, nn.BatchNorm1d, nn.BatchNorm2d)):
            continue
        layer.reset_parameters()
        gain: float = getattr(layer, _GAIN, 1.0)
        if init == "normal_conv":
            _initialise_as_scripts_do(layer)
        elif init == "normal" and layer.weight is not None:
            mean = 0.0 if isinstance(layer, weighted) else 1.0
            nn.init.normal_(layer.weight, mean, 0.02)
        elif init == "xavier" and isinstance(layer, weighted):
            nn.init.xavier_uniform_(layer.weight, gain)
        elif init == "fan_in" and isinstance(layer, weighted):
            nn.init.normal_(layer.weight, 0.0, gain / layer.weight[0].numel() ** 0.5)
        elif init == "orthogonal" and isinstance(layer, weighted):
            nn.init.orthogonal_(layer.weight, gain)
        if init not in ("default", "normal_conv") and layer.bias is not None:
            nn.init.zeros_(layer.bias)


def _initialise_as_scripts_do(layer: nn.Module) -> None:
    """Draw what `normal_conv` draws anew, and leave all else of the layer as it is."""
    from torch import nn

    if isinstance(layer, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)
        nn.init.zeros_(layer.bias)


def each_eps(bn_eps: float | list[float]) -> Iterator[float]:
    """Yield the epsilon of each batch norm in turn."""
    if isinstance(bn_eps, list):
        yield from bn_eps
    else:
        while True:
            yield bn_eps


def miscounts_eps(count: int, args: dict[str, Any]) -> str | None:
    """Return why the list `bn_eps` of a model's arguments does not fit its batch norms, or None.

    Args:
        count: The number of batch norms of both networks.
    """
    bn_eps = args.get("bn_eps")
    if not isinstance(bn_eps, list) or len(bn_eps) == count:
        return None
    return (f"bn_eps lists {len(bn_eps)} values, and its networks have {count} batch norms: give "
            f"one value for each, those of G first, or a single number for all")


def with_gain(layer: Layer, gain: float) -> Layer:
    """Return `layer` with a gain: `xavier` and `fan_in` draw its weights `gain` times as large."""
    setattr(layer, _GAIN, gain)
    return layer


def with_spectral_bound(layer: Layer, bound: float) -> Layer:
    """Return `layer` with a bound: `spectral_norm` makes it the largest singular value, not 1."""
    setattr(layer, SPECTRAL_BOUND, bound)
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
