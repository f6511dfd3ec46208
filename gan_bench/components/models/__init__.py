"""Networks only: no loss, no optimizer, no logging.

A registered factory takes the shape of the data and the model's arguments, of which `latent_dim` is
the length of the latents, and returns a `Networks`, or the pair (generator, discriminator) alone.
Its `ModelFacts` may hold `refuses(shape, **args)`: the reason why this model cannot generate such
data, or None. It needs no torch. The factories import torch themselves, so that `plan` is fast.
"""

from gan_bench.components.models.base import Networks
from gan_bench.components.models.conditional import build_networks, make_networks, with_condition

__all__ = ["Networks", "build_networks", "make_networks", "with_condition"]
