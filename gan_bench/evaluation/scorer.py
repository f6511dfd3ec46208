"""The Scorer computes the features of samples once per extractor, then every metric of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.linalg  # noqa: F401  a limit on threads holds only for a BLAS that is loaded
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from gan_bench.components.data import Dataset
from gan_bench.config.statistics_file import Statistics
from gan_bench.errors import Say, UserError
from gan_bench.evaluation.features.base import Features, evenly
from gan_bench.evaluation.features.given_statistics import takes
from gan_bench.evaluation.metrics.conditional import Labels, check_classes
from gan_bench.evaluation.sample_grid import as_channels
from gan_bench.evaluation.views import Discriminator, RealExamples, View, views_of, whole_split
from gan_bench.registry import MetricEntry, Part, Reference, code_of, scores_of


def _labels_of(data: Dataset, reference: Reference) -> NDArray[np.int64] | None:
    """The classes of the real examples of a reference; None without one."""
    if reference is None:
        return None
    labels = whole_split(data, reference).labels
    assert labels is not None, "metrics of labels refuse data without them"
    array: NDArray[np.int64] = labels.cpu().numpy()
    return array


class Scorer:
    """Measures samples of any source: features once per extractor, then every metric.

    Args:
        metrics: Entries of METRICS that do not refuse the data.
        count: Number of samples.
        dataset: The part that names the data set.
        data: The data set.
        cache: Where trained extractors and reference features are kept.
        say: Receives a line before each slow step.
        statistics: What takes the place of real examples for metrics of a Gaussian.

    Raises:
        UserError: As `gan_bench.evaluation.evaluator.prepare_metrics`; or the data set states no
            modes, or there are too few samples for a metric.
    """

    def __init__(self, metrics: Sequence[MetricEntry], count: int, dataset: Part, data: Dataset,
                 cache: Path, say: Say = lambda line: None,
                 statistics: Statistics | None = None) -> None:
        self._metrics, self._count, self._data = metrics, count, data
        self._statistics = statistics
        self._examples = RealExamples(dataset, data, count)
        self._views = views_of(metrics, self._examples, cache, say, statistics)
        # The same array at each call: the Gaussians of the classes are remembered for it.
        self._real_labels = {reference: _labels_of(data, reference) for reference in
                             {entry.facts.reference for entry in metrics if entry.facts.asked}}
        self._widths: dict[str, int] = {}  # numbers of features, by extractor, once measured
        self._check_counts()

    def __call__(self, samples: Tensor, discriminator: Discriminator | None = None,
                 asked: Tensor | None = None) -> dict[str, float]:
        """Return the scores of `count` samples by name, and those of classes as `class/…`.

        Args:
            samples: uint8 (count, C, H, W), or float32 (count, D).
            discriminator: In eval mode, examples → logits, 0 at the boundary; for the metrics that
                need D.
            asked: (count,) int64, the class that each sample was generated for; for the metrics
                that need labels.

        Raises:
            FloatingPointError: A feature is not finite.
            UserError: A metric cannot be computed from these samples, or from the real examples:
                a class has too few, or all are the same.
        """
        # BLAS has its own threads, and its sums depend on their number too.
        with torch.no_grad(), threadpool_limits(torch.get_num_threads(), user_api="blas"):
            fakes: dict[str, Features] = {}
            results: dict[str, float] = {}
            for entry in self._metrics:
                view = self._view(entry)
                fake = fakes.get(entry.facts.extractor)
                if fake is None:
                    fake = fakes[entry.facts.extractor] = view.see(samples, discriminator)
                    self._widths[entry.facts.extractor] = fake.values.shape[1]
                arguments: list[object] = [view.real(entry, discriminator), fake]
                if entry.facts.held_out:
                    arguments.append(view.held_out(discriminator))
                if entry.facts.asked:
                    arguments.append(self._labels(entry, asked))
                if entry.facts.paired:
                    arguments.append(self._data.facts.shape)
                score = entry.factory(*arguments)
                results |= score if isinstance(score, dict) else {entry.name: score}
        return results

    def thin_gaussians(self) -> dict[str, int]:
        """Return the measured scores of Gaussians that have no more samples than features.

        Their covariance cannot have full rank, so a distance is far larger than with many samples
        (Chong & Forsyth 2020, "Effectively unbiased FID and Inception Score").

        Returns:
            The number of features, by the name of the score.
        """
        return {name: width for entry in self._metrics if entry.facts.gaussian
                and (width := self._widths.get(entry.facts.extractor, 0)) >= self._count
                for name in scores_of(entry)}

    @property
    def data(self) -> Dataset:
        """The data set that samples are measured against."""
        return self._data

    def check_labels(self, asked: Tensor | None) -> None:
        """Refuse, before training, labels of samples from which a metric cannot be computed.

        Raises:
            UserError: A class has too few samples, or too few real examples.
        """
        for entry in self._metrics:
            if asked is not None and entry.facts.asked and entry.facts.reference:
                check_classes(self._labels(entry, asked))

    def protocol(self, **how: object) -> dict[str, dict[str, object]]:
        """Return how each score is measured, by its name; `how` says where samples come from."""
        return {name: {**self._measured_by(entry), **self._baseline(entry), **how,
                       **entry.facts.protocol,
                       **entry.facts.score_protocols.get(name, {})}
                for entry in self._metrics for name in scores_of(entry)}

    def _baseline(self, entry: MetricEntry) -> dict[str, object]:
        """The score of the inputs in the place of the images that are made from them."""
        if not entry.facts.paired:
            return {}
        view, inputs = self._view(entry), self._data.test.inputs
        assert inputs is not None, "metrics of pairs refuse data without them"
        rows = evenly(len(inputs), self._count)
        copies = view.see(as_channels(inputs[rows], self._data.facts.shape[0]), None)
        score = entry.factory(view.real(entry, None), copies, self._data.facts.shape)
        return {"copying": float(f"{score:.6g}")}

    def _check_counts(self) -> None:
        """Refuse, before training, metrics that need a larger number of samples."""
        for entry in self._metrics:
            least = entry.facts.least
            if per_feature := entry.facts.least_per_feature:
                real = self._view(entry).real(entry, None)
                assert real is not None, "such metrics compare with a split"
                least = per_feature * real.values.shape[1]
            if per_class := entry.facts.least_per_class:
                least = per_class * self._data.facts.classes
            if self._count < least:
                raise UserError(f"{entry.name} needs at least {least:,} samples, and there are "
                                f"{self._count:,}; give more, or leave it out")

    def _view(self, entry: MetricEntry) -> View:
        return self._views[entry.facts.extractor]

    def _labels(self, entry: MetricEntry, asked: Tensor | None) -> Labels:
        """The classes of the samples, and of the real examples that a metric compares with."""
        assert asked is not None, "the caller leaves out the metrics that need labels"
        return Labels(asked.cpu().numpy(), self._real_labels[entry.facts.reference])

    def _measured_by(self, entry: MetricEntry) -> dict[str, object]:
        view, reference, data = self._view(entry), entry.facts.reference, self._data
        code = {"code": hashed} if (hashed := code_of(entry)) else {}
        if self._statistics is not None and takes(entry, self._statistics):
            return {"extractor": entry.facts.extractor, "weights": view.weights,
                    "generated": self._count, "data": self._statistics.name, "real": None,
                    "split": None, **code}
        held_out = {"held_out": len(self._examples.few["test"])} if entry.facts.held_out else {}
        return {
            "extractor": entry.facts.extractor,
            "weights": view.weights,
            "generated": self._count,
            "data": f"{data.name} {data.fingerprint}" if reference else None,
            "real": view.real_count(entry),
            "split": "train" if reference == "frequencies" else reference,
            **held_out,
            **code,
        }
