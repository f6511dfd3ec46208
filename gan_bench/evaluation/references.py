"""Prepares what metrics compare samples with: extractors, and the features of real images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from gan_bench.components.data import Dataset
from gan_bench.config.statistics_file import Statistics
from gan_bench.errors import Say
from gan_bench.evaluation.features.given_statistics import given_features, takes
from gan_bench.evaluation.views import extractors_of, features_of_split
from gan_bench.registry import MetricEntry


def prepare_references(metrics: Sequence[MetricEntry], data: Dataset, cache: Path, say: Say,
                       statistics: Statistics | None = None) -> dict[str, str]:
    """Prepare the extractors, and in the cache the features of real images, that metrics need.

    Returns:
        The hash of each extractor's weights, by its name.
    """
    extractors = extractors_of(metrics, data, cache, say)
    if statistics is not None:
        for name in sorted({each.facts.extractor for each in metrics if each.facts.gaussian}):
            given_features(statistics, extractors[name], data.train.images)
    needed = {(metric.facts.extractor, metric.facts.reference) for metric in metrics
              if not takes(metric, statistics)}
    for name, split in sorted(needed, key=str):
        if name in extractors and split in ("train", "test"):
            features_of_split(extractors[name], data, split, cache, say)
    return {name: extractor.weights for name, extractor in extractors.items()}
