"""Features of which only the mean and the covariance are known: those in a file of statistics."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.config.spec import EvaluateSpec
from gan_bench.config.statistics_file import Statistics, read_statistics
from gan_bench.errors import UserError
from gan_bench.evaluation.features.base import Extractor, Features
from gan_bench.evaluation.features.gaussian import Gaussian, root_of
from gan_bench.evaluation.features.repeatable import one_thread
from gan_bench.registry import METRICS, MetricEntry

if TYPE_CHECKING:
    from torch import Tensor

NEGATIVE = 1e-4  # of the trace: what rounding to float32 may leave of eigenvalues below 0


def statistics_of(evaluate: EvaluateSpec, metrics: Iterable[str] | None = None,
                  ) -> Statistics | None:
    """Return the statistics that a specification names; None if it names none, or no metric takes.

    Args:
        evaluate: The specification.
        metrics: Names of metrics; None: those of the specification.

    Raises:
        UserError: The file is missing, or another than when the specification was read.
    """
    names = evaluate.all_metrics if metrics is None else metrics
    if evaluate.reference is None or not any(METRICS[name].facts.gaussian for name in names):
        return None
    statistics = read_statistics(Path(evaluate.reference.statistics))
    if statistics.sha256 != evaluate.reference.sha256:
        raise UserError(f"{statistics.file}: has changed (its sha256 is {statistics.sha256:.12}, "
                        f"and {evaluate.reference.sha256:.12} is asked for); put the file back, "
                        f"or repeat the command")
    return statistics


def takes(metric: MetricEntry, statistics: Statistics | None) -> bool:
    """Whether statistics take the place of a metric's real examples."""
    return statistics is not None and metric.facts.gaussian


def given_features(statistics: Statistics, extractor: Extractor, images: Tensor) -> Features:
    """Return features that have a Gaussian alone, after comparing it with the extractor.

    Args:
        images: (N, C, H, W) uint8, N ≥ 1; the first shows how many features the extractor has.

    Raises:
        UserError: The extractor has another number of features, or sigma has eigenvalues below 0.
    """
    import numpy as np

    width, needed = len(statistics.mean), extractor(images[:1]).values.shape[1]
    if width != needed:
        raise UserError(f"{statistics.file}: has statistics of {width:,} features, and the "
                        f"extractor {extractor.name} has {needed:,}; leave out the Fréchet "
                        f"distances of {extractor.name}, or give statistics of its features")
    with one_thread():  # the bits must not depend on the threads of a command
        factor = root_of(statistics.spread)
    lost = float(np.trace(statistics.spread) - np.square(factor).sum())
    if abs(lost) > NEGATIVE * float(np.trace(statistics.spread)):
        raise UserError(f"{statistics.file}: sigma has eigenvalues below 0, so it is no "
                        f"covariance; compute the statistics anew")
    return Features(np.empty((0, width)), None, extractor.id,
                    fitted=Gaussian(statistics.mean, factor))
