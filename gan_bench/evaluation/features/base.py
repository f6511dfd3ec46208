"""Feature extractors, and the features that they compute of images.

An extractor is a decorated function in a module of this package that returns an `Extractor`:

    @EXTRACTORS.register("classifier")
    def classifier(data: Dataset, cache: Path, device: str, say: Say) -> Extractor: ...

`gan_bench.errors.Say` is the function that shows a line of progress.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from gan_bench.components.data.decoded import hash_arrays
from gan_bench.errors import UserError
from gan_bench.evaluation.features.gaussian import Gaussian, fit_gaussian
from gan_bench.evaluation.features.repeatable import plain_float32

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


def evenly(total: int, count: int) -> list[int]:
    """Return `count` ≤ `total` of the indices below `total`, evenly spread, ascending."""
    return [i * total // count for i in range(count)]


class FeatureError(UserError, ValueError):
    """A metric cannot be computed from these features."""


class NonFiniteFeatures(FeatureError, FloatingPointError):
    """Features of generated samples hold a NaN or an infinity: in training, the run diverged."""


@dataclass(frozen=True, eq=False)
class Features:
    """The features of a set of examples; two sets are equal only if they are the same object.

    Attributes:
        values: (N, D) float64. Only the view `pixels` keeps images as uint8, because a training
            set in float64 takes eight times the memory.
        logits: (N, K) float64 class scores before the softmax; None if the extractor has none.
        extractor: The extractor and its weights; features of two extractors do not compare.
        fitted: The Gaussian of the values, if a cache holds it already.
    """

    values: NDArray[Any]
    logits: NDArray[np.float64] | None
    extractor: str
    fitted: Gaussian | None = field(default=None, repr=False)

    @property
    def has_examples(self) -> bool:
        """Whether more is known than a Gaussian from a file of statistics."""
        return self.fitted is None or len(self.values) > 0

    @cached_property
    def gaussian(self) -> Gaussian:
        """The Gaussian fitted to the values; cached, because every comparison needs it."""
        return fit_gaussian(self.values) if self.fitted is None else self.fitted

    def spread(self, count: int) -> Features:
        """Return at most `count` of the examples, evenly spread: a file's parts may differ."""
        if len(self.values) <= count:
            return self
        rows = evenly(len(self.values), count)
        logits = None if self.logits is None else self.logits[rows]
        return Features(self.values[rows], logits, self.extractor)


@dataclass(frozen=True)
class Extractor:
    """A network in eval mode that turns uint8 images (N, C, H, W) into (values, logits).

    Attributes:
        name: Its name in the registry.
        weights: The first 12 hex digits of the sha256 of its weights' file (of the weights
            themselves, if they come from no file).
        network: (n, C, H, W) uint8 on `device` → float32 (n, D) values and (n, K) logits. A network
            without logits always returns None in their place.
        device: Where it runs.
        batch_size: Images at a time; fixed, because the last digit of float32 depends on it.
    """

    name: str
    weights: str
    network: torch.nn.Module
    device: str
    batch_size: int

    @property
    def id(self) -> str:
        """The name and the weights."""
        return f"{self.name}-{self.weights}"

    def __call__(self, images: torch.Tensor) -> Features:
        """Return the features of uint8 images (N, C, H, W), N ≥ 1.

        Raises:
            FloatingPointError: A feature is not finite.
        """
        import numpy as np
        import torch

        assert not any(module.training for module in self.network.modules())
        values: list[NDArray[np.float64]] = []
        logits: list[NDArray[np.float64]] = []
        with torch.no_grad(), plain_float32():
            for batch in torch.split(images, self.batch_size):
                for rows, out in zip((values, logits), self.network(batch.to(self.device)),
                                     strict=True):
                    if out is not None:
                        rows.append(out.cpu().numpy().astype(np.float64))
        features = Features(np.concatenate(values), np.concatenate(logits) if logits else None,
                            self.id)
        if not np.isfinite(features.values).all():
            raise FloatingPointError(f"{self.id} gives features that are not finite")
        return features


def hash_of(network: torch.nn.Module) -> str:
    """Return the first 12 hex digits of the sha256 of a network's weights: names, shapes, values.
    """
    return hash_arrays({name: tensor.detach().cpu().numpy()
                        for name, tensor in sorted(network.state_dict().items())})[:12]
