"""Class-conditional training for every family: the label goes into G's input and into D.

G is any family's generator: the label as a one-hot vector extends its latents (Mirza and Osindero
2014, "Conditional generative adversarial nets"). So sampling only needs longer latents. D receives
the label in one of two ways:

- `concat`: with its input, as an additional plane of an image, learnt for each class, or as a
  one-hot vector after a vector (Mirza and Osindero 2014). Under `spectral_norm` the planes are
  bounded as a value for each class is that fills its plane, which published code with spectral
  norm has: by the root of the number of pixels.
- `projection`: as the inner product of an embedding of the label with D's last features, summed
  over the remaining height and width (Miyato and Koyama 2018, "cGANs with projection
  discriminator", equation 3).

A family with a way of its own (`ModelFacts.labelled`) builds its G, and its D of `projection`.

The condition of a family that `takes` an image is an image, which follows the latents flattened;
its D receives it beside the example.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from gan_bench.components.models.base import (
    Networks,
    Shape,
    initialise,
    with_spectral_bound,
)
from gan_bench.errors import UserError, explained, shown
from gan_bench.registry import MODELS, Part
from gan_bench.rng import derive

if TYPE_CHECKING:
    from torch import Tensor, nn

Condition = Literal["none", "concat", "projection"]


def make_networks(part: Part, shape: Shape, condition: Condition = "none", classes: int = 0,
                  input_shape: Shape = ()) -> Networks:
    """Return the uninitialised networks of a model; a conditional D takes (examples, conditions).

    Args:
        shape: `(C, H, W)` or `(D,)`.
        classes: Number of classes; the latents of a conditional model are `classes` values longer.
        input_shape: `(C, H, W)` of the image that a model that takes one makes others from.
    """
    if MODELS[part.name].facts.takes == "image":
        return _build(part, shape, input_shape)
    if condition == "none":
        return _build(part, shape)
    extra = 1 if len(shape) == 3 else classes
    wide = (shape[0] + extra, *shape[1:])
    if MODELS[part.name].facts.labelled:
        built = _build(part, shape, classes)
        if condition == "projection":
            return built
        return Networks(built.generator, _concat(_build(part, wide).discriminator, shape, classes),
                        built.init)
    longer = part.model_copy(update={"args": {
        **part.args, "latent_dim": part.args["latent_dim"] + classes}})
    built = _build(longer, shape)
    if condition == "projection":
        return Networks(built.generator, _projection(built.discriminator, classes), built.init)
    return Networks(built.generator, _concat(_build(part, wide).discriminator, shape, classes),
                    built.init)


def build_networks(part: Part, shape: Shape, seed: int, condition: Condition = "none",
                   classes: int = 0, input_shape: Shape = ()) -> Networks:
    """Build and initialise the networks of a run, on the CPU.

    The weights are drawn on the CPU from the streams `init/generator` and `init/discriminator` of
    `seed`, so they are the same on every device. Variants with the same generator start from the
    same weights of G, also with different D. The global random state does not change.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        with torch.device("meta"):
            networks = make_networks(part, shape, condition, classes, input_shape)
        init = networks.init
        if MODELS[part.name].origin is not None:
            # Not emptied: nothing here initialises buffers that only its own code knows.
            networks = _constructed(part, shape, seed, condition, classes, input_shape)
        for name in ("generator", "discriminator") if init != "constructed" else ():
            module: nn.Module = getattr(networks, name)
            if MODELS[part.name].origin is None:
                module.to_empty(device="cpu")
            torch.default_generator.manual_seed(derive(seed, f"init/{name}"))
            initialise(module, init)
    return networks


def _constructed(part: Part, shape: Shape, seed: int, condition: Condition, classes: int,
                 input_shape: Shape) -> Networks:
    """Return networks whose weights their factory draws: each network from its own stream."""
    import torch

    def construct(stream: str) -> Networks:
        torch.default_generator.manual_seed(derive(seed, stream))
        return make_networks(part, shape, condition, classes, input_shape)

    return Networks(construct("init/generator").generator,
                    construct("init/discriminator").discriminator)


def _build(part: Part, shape: Shape, given: int | Shape = 0) -> Networks:
    """Return what a model's factory returns; a pair has the weights that it was made with.

    Args:
        given: The number of classes for a family that is told the labels in its own way, and the
            shape of the input for one that takes an image.

    A third-party model is never built on torch's `meta` device, where tensors have no values.

    Raises:
        UserError: The factory raises, or returns neither `Networks` nor a pair of modules.
    """
    import torch
    from torch import nn

    facts = MODELS[part.name].facts
    data = (shape, given) if facts.labelled or facts.takes == "image" else (shape,)
    if MODELS[part.name].origin is None:
        networks: Networks = MODELS.build(part, *data)
        return networks
    try:
        with torch.device("cpu"):
            built = MODELS.build(part, *data)
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"model {part} cannot be built for data of shape {shape}: "
                        f"{explained(error)}") from error
    if isinstance(built, Networks):
        return built
    if isinstance(built, tuple) and len(built) == 2 and all(
            isinstance(network, nn.Module) for network in built):
        return Networks(*built)
    raise UserError(f"model {part}: its factory returns {shown(built)}: return (generator, "
                    f"discriminator), two torch modules")


def with_condition(latents: Tensor, condition: Tensor | None, classes: int) -> Tensor:
    """Return what G receives: each latent, then its condition.

    Args:
        latents: (N, latent_dim).
        condition: Labels (N,) int64, which become one-hot vectors; or images (N, C, H, W) float32
            in [-1, 1], which are flattened; None if unconditional.
        classes: The number of classes, for labels.

    Returns:
        (N, latent_dim + size of a condition).
    """
    if condition is None:
        return latents
    import torch
    from torch.nn.functional import one_hot

    flat = one_hot(condition, classes) if condition.dim() == 1 else condition.flatten(1)
    return torch.cat([latents, flat.to(latents)], dim=1)


def _concat(discriminator: nn.Module, shape: Shape, classes: int) -> nn.Module:
    import torch
    from torch import nn
    from torch.nn.functional import one_hot

    class Concat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.discriminator = discriminator
            size = shape[1] * shape[2] if len(shape) == 3 else 0
            self.planes = None
            if size:
                self.planes = with_spectral_bound(nn.Embedding(classes, size), size**0.5)

        def forward(self, examples: Tensor, labels: Tensor) -> Tensor:
            if self.planes is None:
                extra = one_hot(labels, classes).to(examples)
            else:
                extra = self.planes(labels).unflatten(1, (1, *shape[1:]))
            logits: Tensor = self.discriminator(torch.cat([examples, extra], dim=1))
            return logits

    return Concat()


def _projection(discriminator: nn.Module, classes: int) -> nn.Module:
    from torch import nn

    # Every built-in family's D ends with these two layers, and the layers before give its features.
    layers = list(discriminator.children())
    is_sequence = isinstance(discriminator, nn.Sequential) and len(layers) > 2
    if not (is_sequence and isinstance(layers[-1], nn.Flatten)
            and isinstance(layers[-2], (nn.Linear, nn.Conv2d))):
        raise UserError("condition: projection needs a D that is a Sequential and ends with a "
                        "linear or convolutional layer and Flatten; the D of this model does not; "
                        "set condition: concat")
    *features, head, flat = layers
    width: Any = head.in_features if isinstance(head, nn.Linear) else head.in_channels

    class Projection(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(*features)
            self.head = nn.Sequential(head, flat)
            self.embedding = nn.Embedding(classes, width)

        def forward(self, examples: Tensor, labels: Tensor) -> Tensor:
            features = self.features(examples)
            pooled = features.flatten(2).sum(2) if features.dim() == 4 else features
            logits: Tensor = self.head(features) + (self.embedding(labels) * pooled).sum(1)
            return logits

    return Projection()
