"""Class-conditional training for every family: the label goes into G's input and into D.

G is any family's generator, its latents lengthened by the label as a one-hot vector (Mirza and
Osindero 2014, "Conditional generative adversarial nets"); so whoever samples needs nothing but
longer latents. D is told the label in one of two ways:

- `concat`: beside its input, as one more plane of an image, learnt for each class, or as a one-hot
  vector beside a vector (Mirza and Osindero 2014).
- `projection`: as the inner product of an embedding of the label with D's last features, summed
  over what is left of height and width (Miyato and Koyama 2018, "cGANs with projection
  discriminator", equation 3).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from gan_bench.components.models.base import Networks, Shape, initialise
from gan_bench.errors import UserError
from gan_bench.registry import MODELS, Part
from gan_bench.rng import derive

if TYPE_CHECKING:
    from torch import Tensor, nn

Condition = Literal["none", "concat", "projection"]


def make_networks(part: Part, shape: Shape, condition: Condition = "none", classes: int = 0,
                  ) -> Networks:
    """Return the networks of a model, not initialised; D takes (examples, labels) if conditional.

    Args:
        shape: `(C, H, W)` or `(D,)`.
        classes: Number of classes; of a conditional model, the latents are as much longer.
    """
    if condition == "none":
        plain: Networks = MODELS.build(part, shape)
        return plain
    longer = part.model_copy(update={"args": {
        **part.args, "latent_dim": part.args["latent_dim"] + classes}})
    made: Networks = MODELS.build(longer, shape)
    if condition == "projection":
        return Networks(made.generator, _projection(made.discriminator, classes), made.init)
    extra = 1 if len(shape) == 3 else classes
    wider: Networks = MODELS.build(part, (shape[0] + extra, *shape[1:]))
    return Networks(made.generator, _concat(wider.discriminator, shape, classes), made.init)


def build_networks(part: Part, shape: Shape, seed: int, condition: Condition = "none",
                   classes: int = 0) -> Networks:
    """Build and initialise the networks of a run, on the CPU.

    The weights are drawn there from the streams `init/generator` and `init/discriminator` of
    `seed`, so they are the same on every device, and variants that share a generator start from
    the same one whatever D they use. The global random state is left as it was.
    """
    import torch

    with torch.device("meta"):
        networks = make_networks(part, shape, condition, classes)
    with torch.random.fork_rng(devices=[]):
        for name in ("generator", "discriminator"):
            module: nn.Module = getattr(networks, name).to_empty(device="cpu")
            torch.default_generator.manual_seed(derive(seed, f"init/{name}"))
            initialise(module, networks.init)
    return networks


def with_labels(latents: Tensor, labels: Tensor | None, classes: int) -> Tensor:
    """Return (N, latent_dim + classes): the latents, and beside each its label as one-hot.

    Without labels, the latents alone.
    """
    if labels is None:
        return latents
    import torch
    from torch.nn.functional import one_hot

    return torch.cat([latents, one_hot(labels, classes).to(latents)], dim=1)


def _concat(discriminator: nn.Module, shape: Shape, classes: int) -> nn.Module:
    import torch
    from torch import nn
    from torch.nn.functional import one_hot

    class Concat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.discriminator = discriminator
            size = shape[1] * shape[2] if len(shape) == 3 else 0
            self.planes = nn.Embedding(classes, size) if size else None

        def forward(self, examples: Tensor, labels: Tensor) -> Tensor:
            if self.planes is None:
                told = one_hot(labels, classes).to(examples)
            else:
                told = self.planes(labels).unflatten(1, (1, *shape[1:]))
            logits: Tensor = self.discriminator(torch.cat([examples, told], dim=1))
            return logits

    return Concat()


def _projection(discriminator: nn.Module, classes: int) -> nn.Module:
    from torch import nn

    # Every family's D ends so, and what is before is its features.
    layers = list(discriminator.children())
    if not (isinstance(discriminator, nn.Sequential) and len(layers) > 2
            and isinstance(layers[-1], nn.Flatten)
            and isinstance(layers[-2], (nn.Linear, nn.Conv2d))):
        raise UserError("condition: projection needs a D that is a Sequential whose last two "
                        "layers are a linear or convolutional one and Flatten, and that of this "
                        "model is not; set condition: concat")
    *features, head, flat = layers
    width: Any = head.in_features if isinstance(head, nn.Linear) else head.in_channels

    class Projection(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(*features)
            self.head = nn.Sequential(head, flat)
            self.embedding = nn.Embedding(classes, width)

        def forward(self, examples: Tensor, labels: Tensor) -> Tensor:
            seen = self.features(examples)
            pooled = seen.flatten(2).sum(2) if seen.dim() == 4 else seen
            logits: Tensor = self.head(seen) + (self.embedding(labels) * pooled).sum(1)
            return logits

    return Projection()
