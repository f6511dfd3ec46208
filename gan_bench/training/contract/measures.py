"""The checks of metrics, extractors and data sets."""

from __future__ import annotations

import math
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gan_bench.components.data import Arrays, Dataset, Split
from gan_bench.data_facts import DataFacts
from gan_bench.evaluation.features.base import Extractor, Features
from gan_bench.evaluation.metrics.conditional import Labels
from gan_bench.journal.scores.score_names import CLASS
from gan_bench.registry import DATASETS, Entry, Part, scores_of
from gan_bench.training.contract.base import Checks, random_state

WIDTH, CLASSES = 8, 4  # of the features, and of their logits


def check_metric(checks: Checks, entry: Entry[Any, Any], part: Part) -> None:
    """Check a metric on features that it could meet."""
    data = DataFacts(shape=(1, 16, 16), classes=CLASSES, train=2000, test=400, digest="check",
                     input=(1, 16, 16) if entry.facts.paired else ())
    checks.check("says which data it refuses", lambda: _refusal_problem(entry, data))
    results: list[dict[str, float]] = []

    def measure() -> str | None:
        before = random_state()
        results.append(_measured(entry))
        if random_state() != before:
            return "it draws from a global random state: use gan_bench.rng"
        missing = {*scores_of(entry)} ^ {name for name in results[0] if not name.startswith(CLASS)}
        if missing:
            return f"it returns other names than its facts: {', '.join(sorted(missing))}"
        bad = [name for name, value in results[0].items() if not math.isfinite(value)]
        return f"{bad[0]} is not finite" if bad else None

    if checks.check("gives finite scores", measure):
        def repeat() -> str | None:
            random.seed(1)
            np.random.seed(1)  # what a metric must not use
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(1)
                again = _measured(entry)
            return None if again == results[0] else "it gives other scores for the same features"

        checks.check("repeats itself", repeat)


def _refusal_problem(entry: Entry[Any, Any], data: DataFacts) -> str | None:
    reason = entry.facts.refuses(data)
    return None if reason is None or isinstance(reason, str) else (
        f"refuses returns {type(reason).__name__}: return a reason, or None")


def _measured(entry: Entry[Any, Any]) -> dict[str, float]:
    """Return the scores of imaginary features; the same at each call, in objects of their own."""
    facts = entry.facts
    count = max(64, facts.least, (facts.least_per_feature or 0) * WIDTH,
                (facts.least_per_class or 0) * CLASSES)
    draws = np.random.default_rng(0)
    real_labels = np.arange(300 * CLASSES) % CLASSES
    real = _features(facts.extractor, draws, len(real_labels), 0.0)
    if facts.matched:
        real = real.spread(count)
    if facts.reference == "modes":
        real = Features(np.array([[0.0, 0.0], [100.0, 0.0]]), None, facts.extractor)
    elif facts.reference == "frequencies":
        real = Features(np.full((CLASSES, 1), 1 / CLASSES), None, "labels")
    if facts.paired:
        targets, made = (Features(draws.integers(0, 256, (count, 256)).astype(np.uint8), None,
                                  facts.extractor) for _ in range(2))
        return _named(entry, entry.factory(targets, made, (1, 16, 16)))
    arguments: list[object] = [real if facts.reference else None,
                               _features(facts.extractor, draws, count, 0.1)]
    if facts.held_out:
        arguments.append(_features(facts.extractor, draws, count, 0.0))
    if facts.asked:
        arguments.append(Labels(np.arange(count) % CLASSES,
                                real_labels if facts.reference else None))
    return _named(entry, entry.factory(*arguments))


def _named(entry: Entry[Any, Any], score: Any) -> dict[str, float]:
    return score if isinstance(score, dict) else {entry.name: float(score)}


def _features(extractor: str, draws: np.random.Generator, count: int, shift: float) -> Features:
    if extractor == "pixels":
        return Features(draws.integers(0, 256, (count, WIDTH)).astype(np.uint8), None, extractor)
    if extractor in ("coordinates", "discriminator"):
        width = 2 if extractor == "coordinates" else 1
        return Features(draws.normal(shift, 1, (count, width)), None, extractor)
    return Features(draws.normal(shift, 1, (count, WIDTH)),
                    draws.normal(0, 1, (count, CLASSES)), extractor)


def check_extractor(checks: Checks, entry: Entry[Any, Any], part: Part) -> None:
    """Check an extractor on a few images."""
    images = torch.randint(256, (40, 1, 16, 16), dtype=torch.uint8,
                           generator=torch.Generator().manual_seed(0))
    labels = torch.arange(40) % CLASSES
    facts = DataFacts((1, 16, 16), CLASSES, 40, 40, "check")
    data = Dataset("check", facts, Split(images, labels), Split(images, labels), "0" * 16)
    built: list[Extractor] = []

    def build() -> str | None:
        with tempfile.TemporaryDirectory() as cache:
            extractor = entry.factory(data, Path(cache), "cpu", lambda line: None)
        if not isinstance(extractor, Extractor):
            return f"its factory returns {type(extractor).__name__}: return Extractor(…)"
        if extractor.network.training:
            return "its network is in training mode: call .eval()"
        built.append(extractor)
        return None

    def features() -> str | None:
        seen = built[0](images)
        if seen.values.ndim != 2 or len(seen.values) != len(images):
            return f"the features of 40 images have the shape {seen.values.shape}: make (40, D)"
        return None

    def repeat() -> str | None:
        before = random_state()
        first, second = built[0](images), built[0](images)
        if random_state() != before:
            return "it draws from a global random state"
        return None if np.array_equal(first.values, second.values) else (
            "it gives other features for the same images")

    if checks.check("returns an Extractor in eval mode", build) and checks.check(
            "gives finite features (N, D)", features):
        checks.check("repeats itself", repeat)


def check_dataset(checks: Checks, entry: Entry[Any, Any], part: Part, data_root: Path) -> None:
    """Check that a data set is what its facts say."""
    described: list[DataFacts] = []
    decoded: list[Arrays] = []

    def describe() -> str | None:
        facts = entry.facts.describe(data_root, **part.args)
        if not isinstance(facts, DataFacts):
            return f"describe returns {type(facts).__name__}: return DataFacts(…)"
        described.append(facts)
        return None

    def decode() -> str | None:
        arrays = DATASETS.build(part, data_root, lambda line: None)
        if not isinstance(arrays, Arrays):
            return f"its factory returns {type(arrays).__name__}: return Arrays(…)"
        decoded.append(arrays)
        return _arrays_problem(arrays, described[0])

    def repeat() -> str | None:
        again = DATASETS.build(part, data_root, lambda line: None)
        for split in ("train", "test"):
            first, second = getattr(decoded[0], split), getattr(again, split)
            if not np.array_equal(first.images, second.images):
                return f"the examples of {split} differ the second time"
            if first.inputs is not None and not np.array_equal(first.inputs, second.inputs):
                return f"the inputs of {split} differ the second time"
        return None

    if checks.check("is described before it is read", describe) and checks.check(
            "is as described", decode):
        checks.check("repeats itself", repeat)


def _arrays_problem(arrays: Arrays, facts: DataFacts) -> str | None:
    for split, count in (("train", facts.train), ("test", facts.test)):
        images, labels = getattr(arrays, split).images, getattr(arrays, split).labels
        kind = np.uint8 if facts.is_image else np.float32
        if images.shape != (count, *facts.shape) or images.dtype != kind:
            return (f"{split} holds {images.dtype} {images.shape}: make {kind.__name__} "
                    f"{(count, *facts.shape)}, as described")
        if facts.classes and (labels is None or labels.shape != (count,)
                              or labels.dtype != np.int64 or labels.min() < 0
                              or labels.max() >= facts.classes):
            return f"the labels of {split} are not int64 ({count},) below {facts.classes}"
        inputs = getattr(arrays, split).inputs
        if facts.input and (inputs is None or inputs.dtype != np.uint8
                            or inputs.shape != (count, *facts.input)):
            return f"the inputs of {split} are not uint8 {(count, *facts.input)}, as described"
    return None
