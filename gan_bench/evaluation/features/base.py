"""Feature extractors, and what they make of images.

An extractor is a decorated function in a module of this package that returns an `Extractor`:

    @EXTRACTORS.register("classifier")
    def classifier(data: LabelledData, cache: Path, device: str, say: Say) -> Extractor: ...
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from gan_bench.data_facts import DataFacts
from gan_bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

Say = Callable[[str], None]
BLOCK = 4096  # rows of a matrix that are centred at a time
EPSILON = 2.0 ** -52  # of float64


def fit_gaussian(values: NDArray[np.float64]) -> Gaussian:
    """Return the Gaussian with the mean and the covariance (ddof 1) of `values`, (N, D), N ≥ 2."""
    import numpy as np

    samples, width = values.shape
    mean = values.mean(axis=0)
    if samples <= width:  # the centred samples are a root of the covariance as they are
        return Gaussian(mean, (values - mean).T / np.sqrt(samples - 1))
    return Gaussian(mean, root_of(covariance(values, mean)))


def root_of(spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a root (D, R) of a covariance (D, D) of rank R: at least a column, and no rounding.

    What is 0 in the covariance up to rounding would be 1e-8 in a root, and a sum of roots would
    show it. Of full rank the root is triangular.
    """
    import numpy as np
    from scipy.linalg import lapack

    bound = len(spread) * EPSILON * float(spread.diagonal().max())
    # The largest pivot first, until what is left is rounding: without that order, the last pivot
    # of a singular matrix may be 1e-5.
    pivoted, order, rank, _ = lapack.dpstrf(spread, tol=bound, lower=1)
    if rank == len(spread):
        try:  # a triangular root takes a third of the time to use
            triangular: NDArray[Any] = np.linalg.cholesky(spread)
            return triangular
        except np.linalg.LinAlgError:  # almost singular
            pass
    factor: NDArray[np.float64] = np.zeros((len(spread), max(rank, 1)))
    factor[order - 1, :rank] = np.tril(pivoted)[:, :rank]
    return factor


def covariance(values: NDArray[np.float64], mean: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the covariance (D, D) of `values` (N, D) with the mean (D,), ddof 1."""
    return scatter(values, mean) / (len(values) - 1)


def scatter(values: NDArray[np.float64], centre: NDArray[np.float64],
            rows: NDArray[np.int64] | None = None) -> NDArray[np.float64]:
    """Return the sum of (x - centre)(x - centre)ᵀ, (D, D), without a centred copy of the values.

    Args:
        values: (N, D).
        centre: (D,).
        rows: Which of the values; by default all.
    """
    import numpy as np

    total = np.zeros((values.shape[1], values.shape[1]))
    for start in range(0, len(values if rows is None else rows), BLOCK):
        part = slice(start, start + BLOCK)
        centred = values[part if rows is None else rows[part]] - centre
        total += centred.T @ centred
    return total


def evenly(total: int, count: int) -> list[int]:
    """Return `count` ≤ `total` of the indices below `total`, evenly spread, ascending."""
    return [i * total // count for i in range(count)]


@contextmanager
def plain_float32() -> Iterator[None]:
    """Compute float32 as float32 (no TF32) with repeatable algorithms; settings are restored."""
    import torch

    matmul = torch.backends.cuda.matmul
    allowed = matmul.allow_tf32
    matmul.allow_tf32 = False
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True,
                                        allow_tf32=False):
            yield
    finally:
        matmul.allow_tf32 = allowed


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute in one thread, torch and BLAS alike: others sum in another order. As it was after."""
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1, user_api="blas"):
            yield
    finally:
        torch.set_num_threads(threads)


class FeatureError(UserError, ValueError):
    """Features that a metric cannot be computed from."""


class NonFiniteFeatures(FeatureError, FloatingPointError):
    """Features of generated samples with a NaN or an infinity: in training, the run diverged."""


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution.

    Attributes:
        mean: (D,).
        factor: (D, R), a root of the covariance: `factor @ factor.T` is the covariance.
    """

    mean: NDArray[np.float64]
    factor: NDArray[np.float64]


@dataclass(frozen=True)
class Features:
    """What a set of examples looks like to a metric.

    Attributes:
        values: (N, D) float64. Only the view `pixels` keeps images as the uint8 they are, since a
            training set in float64 would take eight times the memory.
        logits: (N, K) float64 class scores before the softmax; None where there are none.
        extractor: What made them, its weights included; features of two extractors do not compare.
        kept: What metrics have derived from them and will need again, by whatever key.
    """

    values: NDArray[Any]
    logits: NDArray[np.float64] | None
    extractor: str
    kept: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def gaussian(self) -> Gaussian:
        """The Gaussian fitted to the values; kept, since every comparison needs the reference's."""
        return fit_gaussian(self.values)

    def spread(self, count: int) -> Features:
        """Return at most `count` of the examples, evenly spread: a file's parts may differ."""
        if len(self.values) <= count:
            return self
        rows = evenly(len(self.values), count)
        return Features(self.values[rows], None if self.logits is None else self.logits[rows],
                        self.extractor)


@dataclass(frozen=True)
class Extractor:
    """A network in eval mode that turns uint8 images (N, C, H, W) into (values, logits).

    Attributes:
        name: Its name in the registry.
        weights: The first 12 hex digits of the sha256 of its weights' file (of the weights
            themselves, where there is no such file).
        network: (n, C, H, W) uint8 on `device` → float32 (n, D) values and (n, K) logits, or None
            in the place of the logits, always.
        device: Where it runs.
        batch_size: Images at a time; fixed, since float32 results vary with it in the last digit.
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
            raise FloatingPointError(f"{self.id} made features that are not finite")
        return features


def hash_of(network: torch.nn.Module) -> str:
    """Return the first 12 hex digits of the sha256 of a network's weights: names, shapes, values.
    """
    import hashlib

    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        array = tensor.detach().cpu().contiguous().numpy()
        digest.update(f"{name} {array.shape} {array.dtype.str}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()[:12]


class LabelledImages(Protocol):
    """One split of a data set, as an extractor sees it."""

    @property
    def images(self) -> torch.Tensor:
        """(N, C, H, W) uint8."""

    @property
    def labels(self) -> torch.Tensor | None:
        """(N,) int64, or None."""


class LabelledData(Protocol):
    """A data set, as an extractor sees it: `gan_bench.components.data.Dataset` is one."""

    @property
    def name(self) -> str:
        """Its name in the registry."""

    @property
    def facts(self) -> DataFacts:
        """Shape, sizes and gate."""

    @property
    def train(self) -> LabelledImages:
        """The training split."""

    @property
    def test(self) -> LabelledImages:
        """The held-out split."""

    @property
    def fingerprint(self) -> str:
        """Changes with the content."""

    @property
    def channel(self) -> LabelledData | None:
        """The grey data set that is the whole of the first channel, if this is a stack of it."""
