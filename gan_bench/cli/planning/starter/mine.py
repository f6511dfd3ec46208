"""A loss, a network and a metric of your own. `gan-bench check mine.py` checks them."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from gan_bench.components.losses import Loss
from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics.base import refuses_vectors
from gan_bench.registry import LOSSES, METRICS, MODELS, MetricFacts


# A loss: two functions of D's logits, each a mean over the batch. The arguments after `*` are keys
# of the YAML; their types and bounds are checked before anything is trained.
@LOSSES.register("my_loss")
def my_loss(*, temperature: Annotated[float, Field(gt=0)] = 2.0) -> Loss:
    """The non-saturating loss of logits that are divided by a temperature."""

    def discriminator(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        # −log σ(real) and −log(1 − σ(fake)), written so that they stay finite at large logits.
        return softplus(-real / temperature).mean(), softplus(fake / temperature).mean()

    def generator(fake: Tensor, real: Tensor | None) -> Tensor:
        return softplus(-fake / temperature).mean()

    return Loss(discriminator, generator)


# A model: a generator of latents (N, latent_dim), whose images lie in -1..1, and a discriminator,
# which gives a logit for each example. `shape` is that of the data: (channels, height, width).
@MODELS.register("my_net")
def my_net(
    shape: tuple[int, ...], *, latent_dim: Annotated[int, Field(ge=1)] = 32,
    width: Annotated[int, Field(ge=1)] = 128,
) -> tuple[nn.Module, nn.Module]:
    """Two layers each, with noise in D."""
    size = 1
    for length in shape:
        size *= length
    generator = nn.Sequential(
        nn.Linear(latent_dim, width), nn.ReLU(),
        nn.Linear(width, size), nn.Tanh(), nn.Unflatten(1, shape))
    discriminator = nn.Sequential(
        nn.Flatten(), nn.Linear(size, width), nn.LeakyReLU(0.2), nn.Dropout(0.2),
        nn.Linear(width, 1), nn.Flatten(0))
    return generator, discriminator


# A metric: it gets real and generated images as rows of pixels in 0..255. With another extractor,
# "inception" say, they are rows of features. A metric added later measures finished runs too.
@METRICS.register("my_metric", MetricFacts(
    better="lower", extractor="pixels", reference="test", refuses=refuses_vectors))
def my_metric(real: Features, fake: Features) -> float:
    """Mean difference between the average real and the average generated image, in grey levels."""
    return float(np.abs(real.values.mean(axis=0) - fake.values.mean(axis=0)).mean())
