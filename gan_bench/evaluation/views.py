"""The views: how metrics see samples, and the real examples that they compare them with.

A metric names its view as the fact `extractor`: `pixels`, `coordinates`, `discriminator`, or a
registered extractor.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from gan_bench.components.data import Dataset, Split
from gan_bench.components.value_range import to_float
from gan_bench.config.statistics_file import Statistics
from gan_bench.errors import Say, UserError
from gan_bench.evaluation.features.base import Extractor, Features, evenly
from gan_bench.evaluation.features.cache import reference_features
from gan_bench.evaluation.features.given_statistics import given_features, takes
from gan_bench.registry import DATASETS, EXTRACTORS, VIEWS, MetricEntry, Part, Reference

Discriminator = Callable[[Tensor], Tensor]
BATCH = 250  # examples that D sees at a time


@dataclass(frozen=True)
class RealExamples:
    """The data that samples are measured against.

    Attributes:
        dataset: The part that names the data set.
        data: The data set.
        samples: Number of samples.
    """

    dataset: Part
    data: Dataset
    samples: int

    @cached_property
    def few(self) -> dict[Reference, Tensor]:
        """At most as many examples of each split as there are samples.

        They are evenly spread, because the first may be easier than the others.
        """
        splits: tuple[Reference, ...] = ("train", "test")
        return {split: _spread(split_of(self.data, split).images, self.samples) for split in splits}


class View(ABC):
    """How the metrics that name a view, or an extractor, see examples.

    Attributes:
        weights: The hash of the extractor's weights; None for a view.
    """

    weights: str | None = None

    @abstractmethod
    def see(self, examples: Tensor, discriminator: Discriminator | None) -> Features:
        """Return the features of uint8 images (N, C, H, W), or of float32 vectors (N, D)."""

    @abstractmethod
    def real(self, metric: MetricEntry, discriminator: Discriminator | None) -> Features | None:
        """Return the real examples that a metric compares with; None if it needs only samples."""

    @abstractmethod
    def held_out(self, discriminator: Discriminator | None) -> Features:
        """Return held-out real examples: as many as there are samples, or all."""

    @abstractmethod
    def real_count(self, metric: MetricEntry) -> int:
        """Return the number of real examples that a metric compares with."""


class DiscriminatorView(View):
    """D's logits (N, 1); a map of logits counts as its mean.

    They change in training, so those of real examples are not stored.

    D sees as many real examples as samples.
    """

    def __init__(self, examples: RealExamples, metrics: Sequence[MetricEntry]) -> None:
        self._few = examples.few

    def see(self, examples: Tensor, discriminator: Discriminator | None) -> Features:
        """Return D's logits, as the class says."""
        assert discriminator is not None, "the caller leaves out the metrics that need D"
        logits = [discriminator(to_float(batch)).float().reshape(len(batch), -1).mean(1, True)
                  for batch in torch.split(examples, BATCH)]
        return Features(torch.cat(logits).cpu().numpy().astype(np.float64), None, "discriminator")

    def real(self, metric: MetricEntry, discriminator: Discriminator | None) -> Features | None:
        """Return D's logits of the real examples."""
        split = metric.facts.reference
        return None if split is None else self.see(self._few[split], discriminator)

    def held_out(self, discriminator: Discriminator | None) -> Features:
        """Return D's logits of the held-out examples."""
        return self.see(self._few["test"], discriminator)

    def real_count(self, metric: MetricEntry) -> int:
        """Return the number of real examples that D sees."""
        split = metric.facts.reference
        return 0 if split is None else len(self._few[split])


class StoredView(View):
    """A view in which real examples never change: their features are computed once and stored.

    Results that follow from them, such as their distances to each other, are stored with them.

    Args:
        examples: The real examples.
        metrics: The metrics that name this view.
    """

    def __init__(self, examples: RealExamples, metrics: Sequence[MetricEntry]) -> None:
        self._examples = examples
        # In a fixed order, because a slow one says a line.
        references = sorted({metric.facts.reference for metric in metrics}, key=str)
        self._references: dict[Reference, Features] = {
            reference: self._reference(reference) for reference in references
            if reference is not None}
        self._matched: dict[Reference, Features] = {
            reference: self._references[reference].spread(examples.samples)
            for reference in {metric.facts.reference for metric in metrics if metric.facts.matched}}
        self._held_out = (self.see(examples.few["test"], None)
                          if any(metric.facts.held_out for metric in metrics) else None)

    @abstractmethod
    def _reference(self, reference: Reference) -> Features:
        """The features of all real examples that this reference names."""

    def real(self, metric: MetricEntry, discriminator: Discriminator | None) -> Features | None:
        """Return the stored features: all, or as many as there are samples if `matched`."""
        stored = self._matched if metric.facts.matched else self._references
        return stored.get(metric.facts.reference)

    def held_out(self, discriminator: Discriminator | None) -> Features:
        """Return the stored features of held-out examples."""
        assert self._held_out is not None, "no metric of this view asks for them"
        return self._held_out

    def real_count(self, metric: MetricEntry) -> int:
        """Return the number of stored examples."""
        real = self.real(metric, None)
        return 0 if real is None else len(real.values)


class PixelView(StoredView):
    """The images themselves, or the vectors."""

    def see(self, examples: Tensor, discriminator: Discriminator | None) -> Features:
        """Return the images as rows."""
        return Features(examples.flatten(1).cpu().numpy(), None, "pixels")

    def _reference(self, reference: Reference) -> Features:
        return self.see(split_of(self._examples.data, reference).images, None)


class CoordinateView(StoredView):
    """Points in units of the modes' standard deviation.

    Raises:
        UserError: The data set states no modes.
    """

    def __init__(self, examples: RealExamples, metrics: Sequence[MetricEntry]) -> None:
        modes = DATASETS[examples.dataset.name].facts.modes
        if modes is None:
            raise UserError(f"{metrics[0].name} needs known modes, but the data set "
                            f"{examples.dataset} states none")
        centres, self._sigma = modes(**examples.dataset.args)
        self._centres = torch.tensor(centres, dtype=torch.float64)
        super().__init__(examples, metrics)

    def see(self, examples: Tensor, discriminator: Discriminator | None) -> Features:
        """Return the points in these units."""
        points = examples.cpu().numpy().astype(np.float64)
        return Features(points / self._sigma, None, "coordinates")

    def _reference(self, reference: Reference) -> Features:
        return self.see(self._centres, None)


class ExtractorView(StoredView):
    """The features that a registered extractor computes; those of real images come from the cache.

    Args:
        extractor: The extractor.
        examples: As in `StoredView`.
        metrics: As in `StoredView`.
        cache: Where reference features are kept.
        say: Receives a line before each slow step.
        statistics: What takes the place of real examples for metrics of a Gaussian.
    """

    def __init__(self, extractor: Extractor, examples: RealExamples,
                 metrics: Sequence[MetricEntry], cache: Path, say: Say,
                 statistics: Statistics | None = None) -> None:
        self.weights = extractor.weights
        self._extractor, self._cache, self._say = extractor, cache, say
        self._given: Features | None = None
        of_examples = [metric for metric in metrics if not takes(metric, statistics)]
        if statistics is not None and len(of_examples) < len(metrics):
            self._given = given_features(statistics, extractor, examples.data.train.images)
        super().__init__(examples, of_examples)

    def real(self, metric: MetricEntry, discriminator: Discriminator | None) -> Features | None:
        """Return the stored features, or the statistics if the metric takes them."""
        if metric.facts.gaussian and self._given is not None:
            return self._given
        return super().real(metric, discriminator)

    def see(self, examples: Tensor, discriminator: Discriminator | None) -> Features:
        """Return the extractor's features."""
        return self._extractor(examples)

    def _reference(self, reference: Reference) -> Features:
        data = self._examples.data
        if reference == "frequencies":
            return _frequencies(data)
        return features_of_split(self._extractor, data, reference, self._cache, self._say)

    def real_count(self, metric: MetricEntry) -> int:
        """Return the number of stored examples, or of training labels for their frequencies."""
        if metric.facts.reference == "frequencies":
            return len(self._examples.data.whole.images)
        return super().real_count(metric)


NAMED: dict[str, Callable[[RealExamples, Sequence[MetricEntry]], View]] = {
    "pixels": PixelView, "coordinates": CoordinateView, "discriminator": DiscriminatorView}


def views_of(metrics: Sequence[MetricEntry], examples: RealExamples, cache: Path, say: Say,
             statistics: Statistics | None = None) -> dict[str, View]:
    """Return the views that the metrics name.

    Args:
        metrics: Entries of METRICS that do not refuse the data.
        examples: The real examples.
        cache: Where trained extractors and reference features are kept.
        say: Receives a line before each slow step.
        statistics: As in `ExtractorView`.

    Raises:
        UserError: As `gan_bench.evaluation.evaluator.prepare_metrics`; or the data set states no
            modes.
    """
    extractors = extractors_of(metrics, examples.data, cache, say)
    views: dict[str, View] = {}
    for name in sorted({metric.facts.extractor for metric in metrics}):
        of_view = [metric for metric in metrics if metric.facts.extractor == name]
        if name in NAMED:
            views[name] = NAMED[name](examples, of_view)
        else:
            views[name] = ExtractorView(extractors[name], examples, of_view, cache, say,
                                        statistics)
    return views


def extractors_of(metrics: Sequence[MetricEntry], data: Dataset, cache: Path, say: Say,
                  ) -> dict[str, Extractor]:
    """Return the registered extractors that the metrics need, by name."""
    needed = {metric.facts.extractor for metric in metrics} - {*VIEWS}
    device = str(data.train.images.device)
    return {name: _extractor(name, data, cache, device, say) for name in sorted(needed)}


def _extractor(name: str, data: Dataset, cache: Path, device: str, say: Say) -> Extractor:
    """Return an extractor; the hash of a third-party one's code stands beside that of its weights.

    So stored features of older code are not used.
    """
    entry = EXTRACTORS[name]
    extractor: Extractor = entry.factory(data, cache, device, say)
    if not entry.source:
        return extractor
    return replace(extractor, weights=f"{extractor.weights}-{entry.source}")


def features_of_split(extractor: Extractor, data: Dataset, split: Reference, cache: Path, say: Say,
                      ) -> Features:
    """Return the features of the real images of a split, from the cache if it has them."""
    return reference_features(extractor, whole_split(data, split).images,
                              f"{data.examples[1]}/{split}", cache, say)


def split_of(data: Dataset, reference: Reference) -> Split:
    """Return the split that a reference names, `train` (of the networks) or `test`."""
    return {"train": data.train, "test": data.test}[str(reference)]


def whole_split(data: Dataset, reference: Reference) -> Split:
    """Return the split that features are compared with: all training examples, or `test`."""
    return {"train": data.whole, "test": data.test}[str(reference)]


def _frequencies(data: Dataset) -> Features:
    """The share of each class among the training labels, (K, 1)."""
    assert data.whole.labels is not None
    counts = torch.bincount(data.whole.labels.cpu(), minlength=data.facts.classes).numpy()
    return Features(counts[:, None] / counts.sum(), None, "labels")


def _spread(images: Tensor, count: int) -> Tensor:
    if len(images) <= count:
        return images
    return images[evenly(len(images), count)]
