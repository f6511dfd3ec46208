"""The Scorer computes the features of samples once per extractor, then every metric of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from gan_bench.components.data import Dataset
from gan_bench.components.value_range import to_float
from gan_bench.errors import UserError
from gan_bench.evaluation.features.base import Extractor, Features, Say, evenly
from gan_bench.evaluation.features.cache import reference_features
from gan_bench.evaluation.metrics.conditional import Labels, check_classes
from gan_bench.registry import DATASETS, EXTRACTORS, MetricEntry, Part, scores_of

Discriminator = Callable[[Tensor], Tensor]
Key = tuple[str, str | None]  # a metric's extractor or view, and its reference
BATCH = 250  # examples that G generates, or D sees, at a time


def _silent(line: str) -> None:
    pass


def extractors_of(entries: Sequence[MetricEntry], data: Dataset, cache: Path, say: Say,
                  ) -> dict[str, Extractor]:
    """Return the registered extractors that the metrics need, by name."""
    needed = {entry.facts.extractor for entry in entries} & set(EXTRACTORS.names())
    device = str(data.train.images.device)
    return {name: EXTRACTORS[name].factory(data, cache, device, say) for name in sorted(needed)}


def references_of(entries: Sequence[MetricEntry], extractors: dict[str, Extractor], data: Dataset,
                  cache: Path, say: Say) -> dict[Key, Features]:
    """Return the features of real images that the metrics need, by extractor and split."""
    needed = {(entry.facts.extractor, entry.facts.reference) for entry in entries}
    return {(name, split): reference_features(extractors[name], getattr(data, split).images,
                                              f"{data.fingerprint}/{split}", cache, say)
            for name, split in sorted(needed, key=str)
            if name in extractors and split in ("train", "test")}


def _frequencies(data: Dataset) -> Features:
    """The share of each class among the training labels, (K, 1)."""
    assert data.train.labels is not None
    counts = torch.bincount(data.train.labels.cpu(), minlength=data.facts.classes).numpy()
    return Features(counts[:, None] / counts.sum(), None, "labels")


def _pixels(images: Tensor) -> Features:
    return Features(images.flatten(1).cpu().numpy(), None, "pixels")


def _logits(discriminator: Discriminator | None, images: Tensor) -> Features:
    """D's logits (N, 1) of uint8 images or of vectors."""
    assert discriminator is not None, "the caller leaves out the metrics that need D"
    logits = []
    for batch in torch.split(images, BATCH):
        logits.append(discriminator(to_float(batch)).float().reshape(-1, 1))
    return Features(torch.cat(logits).cpu().numpy().astype(np.float64), None, "discriminator")


def _spread(images: Tensor, count: int) -> Tensor:
    """At most `count` of the images, evenly spread: the first may be easier than the others."""
    if len(images) <= count:
        return images
    return images[evenly(len(images), count)]


class Scorer:
    """Measures samples of any source: features once per extractor, then every metric.

    Args:
        metrics: Entries of METRICS that do not refuse the data.
        count: Number of samples.
        dataset: The part that names the data set.
        data: The data set.
        cache: Where trained extractors and reference features are kept.
        say: Receives a line before each slow step.

    Raises:
        UserError: As `gan_bench.evaluation.evaluator.prepare_metrics`; or the data set states no
            modes, or there are too few samples for a metric.
    """

    def __init__(self, metrics: Sequence[MetricEntry], count: int, dataset: Part, data: Dataset,
                 cache: Path, say: Say = _silent) -> None:
        self._metrics, self._count, self._data = metrics, count, data
        self._extractors = extractors_of(self._metrics, data, cache, say)
        self._references = references_of(self._metrics, self._extractors, data, cache, say)
        self._sigma = 1.0
        for entry in self._metrics:
            match entry.facts.extractor, entry.facts.reference:
                case "coordinates" as view, split:
                    modes = DATASETS[dataset.name].facts.modes
                    if modes is None:
                        raise UserError(f"{entry.name} needs known modes, and the data set "
                                        f"{dataset} states none")
                    centres, self._sigma = modes(**dataset.args)
                    if split == "modes":
                        self._references[view, split] = self._coordinates(np.array(centres))
                case "pixels" as view, ("train" | "test") as split:
                    self._references[view, split] = _pixels(getattr(data, split).images)
                case view, "frequencies" as split:
                    self._references[view, split] = _frequencies(data)
        self._check_counts()
        self._matched = {key: self._references[key].spread(count) for key in
                         {(entry.facts.extractor, entry.facts.reference)
                          for entry in metrics if entry.facts.matched}}
        # As many real examples as samples: D sees those of either split, and metrics the held-out.
        self._real = {split: _spread(getattr(data, split).images, count)
                      for split in ("train", "test")}
        # Stored, because their distances to the training images are stored with them. D's logits
        # of them change in training.
        self._held_out = {view: self._view(view, self._real["test"], None)
                          for view in {entry.facts.extractor for entry in metrics
                                       if entry.facts.held_out} - {"discriminator"}}

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
                view, reference = entry.facts.extractor, entry.facts.reference
                if view not in fakes:
                    fakes[view] = self._view(view, samples, discriminator)
                real = self._reference(entry)
                if view == "discriminator" and reference is not None:
                    real = _logits(discriminator, self._real[reference])
                arguments: list[object] = [real, fakes[view]]
                if entry.facts.held_out:
                    held_out = self._held_out.get(view)
                    arguments.append(held_out or _logits(discriminator, self._real["test"]))
                if entry.facts.asked:
                    arguments.append(self._labels(entry, asked))
                score = entry.factory(*arguments)
                results |= score if isinstance(score, dict) else {entry.name: score}
        return results

    @property
    def train_labels(self) -> Tensor | None:
        """The labels of the training examples, (N,) int64; None if they have no labels."""
        return self._data.train.labels

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
        return {name: {**self._measured_by(entry), **how, **entry.facts.protocol,
                       **entry.facts.score_protocols.get(name, {})}
                for entry in self._metrics for name in scores_of(entry)}

    def _check_counts(self) -> None:
        """Refuse, before training, metrics that need a larger number of samples."""
        for entry in self._metrics:
            least = entry.facts.least
            if per_feature := entry.facts.least_per_feature:
                real = self._references[entry.facts.extractor, entry.facts.reference]
                least = per_feature * real.values.shape[1]
            if per_class := entry.facts.least_per_class:
                least = per_class * self._data.facts.classes
            if self._count < least:
                raise UserError(f"{entry.name} needs at least {least:,} samples, and there are "
                                f"{self._count:,}; give more, or leave it out")

    def _reference(self, entry: MetricEntry) -> Features | None:
        """The real examples that a metric compares with; None without any, or if D sees them."""
        references = self._matched if entry.facts.matched else self._references
        return references.get((entry.facts.extractor, entry.facts.reference))

    def _labels(self, entry: MetricEntry, asked: Tensor | None) -> Labels:
        """The classes of the samples, and of the real examples that a metric compares with."""
        assert asked is not None, "the caller leaves out the metrics that need labels"
        split = entry.facts.reference
        real = getattr(self._data, split).labels.cpu().numpy() if split else None
        return Labels(asked.cpu().numpy(), real)

    def _view(self, view: str, samples: Tensor, discriminator: Discriminator | None) -> Features:
        """The samples as the metrics of one view or extractor see them."""
        match view:
            case "pixels":
                return _pixels(samples)
            case "discriminator":
                return _logits(discriminator, samples)
            case "coordinates":
                return self._coordinates(samples.cpu().numpy())
        return self._extractors[view](samples)

    def _coordinates(self, points: np.ndarray[Any, Any]) -> Features:
        return Features(points.astype(np.float64) / self._sigma, None, "coordinates")

    def _measured_by(self, entry: MetricEntry) -> dict[str, object]:
        view, reference = entry.facts.extractor, entry.facts.reference
        real = self._reference(entry)
        extractor = self._extractors.get(view)
        held_out = {"held_out": len(self._real["test"])} if entry.facts.held_out else {}
        match view, reference:
            case "discriminator", ("train" | "test") as split:
                count = len(self._real[split])
            case _, "frequencies":
                count = self._data.facts.train
            case _:
                count = len(real.values) if real else 0
        return {
            "extractor": view,
            "weights": extractor.weights if extractor else None,
            "generated": self._count,
            "data": f"{self._data.name} {self._data.fingerprint}" if reference else None,
            "real": count,
            "split": "train" if reference == "frequencies" else reference,
            **held_out,
        }
