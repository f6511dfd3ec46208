"""Networks, and networks only: no loss, no optimizer, no logging.

A registered factory takes the shape of the data and the model's arguments and returns a `Networks`.
Its `ModelFacts` hold `refuses(shape, **args)`, the reason why this model cannot make such data, or
None; it needs no torch. Torch is imported within the factories, so that `plan` is quick.
"""

from gan_bench.components.models.base import Networks
from gan_bench.components.models.conditional import build_networks, make_networks, with_labels

__all__ = ["Networks", "build_networks", "make_networks", "with_labels"]
