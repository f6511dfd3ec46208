"""The views of samples and of real examples, on real digits and on points."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from gan_bench.components import data as datasets
from gan_bench.components.data import Dataset
from gan_bench.components.data.gaussians import modes
from gan_bench.evaluation.references import prepare_references
from gan_bench.evaluation.scorer import Scorer
from gan_bench.evaluation.views import NAMED, RealExamples, View, views_of
from gan_bench.registry import DATASETS, METRICS, VIEWS, MetricEntry, Part

DIGITS = DATASETS.parse({"name": "digits", "image_size": 8})
RING = DATASETS.parse({"name": "gaussians", "kind": "ring", "samples": 500})
SAMPLES = 100


def load(part: Part, cache: Path) -> Dataset:
    datasets.prepare_data(part, cache, cache)
    return datasets.load(part, cache, cache, "cpu")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def digits(cache: Path) -> Dataset:
    return load(DIGITS, cache)


def view_of(part: Part, data: Dataset, cache: Path, *names: str) -> tuple[View, list[MetricEntry]]:
    metrics = [METRICS[name] for name in names]
    [view] = views_of(metrics, RealExamples(part, data, SAMPLES), cache, lambda line: None).values()
    return view, metrics


def brightness(examples: Tensor) -> Tensor:
    return examples.flatten(1).mean(dim=1)


def test_every_view_that_a_metric_may_name_has_a_class() -> None:
    assert set(NAMED) == set(VIEWS)


def test_pixels_are_the_rows_of_the_images(digits: Dataset, cache: Path) -> None:
    view, [memorisation] = view_of(DIGITS, digits, cache, "memorisation")
    real = view.real(memorisation, None)
    assert real is not None
    np.testing.assert_array_equal(real.values, digits.train.images.flatten(1).numpy())
    assert view.real(memorisation, None) is real
    assert view.real_count(memorisation) == len(digits.train.images) > SAMPLES
    held_out = view.held_out(None)
    rows = [i * len(digits.test.images) // SAMPLES for i in range(SAMPLES)]
    np.testing.assert_array_equal(held_out.values, digits.test.images[rows].flatten(1).numpy())
    assert view.weights is None


def test_coordinates_are_in_units_of_the_modes(cache: Path) -> None:
    centres, sigma = modes("ring")
    view, [covered] = view_of(RING, load(RING, cache), cache, "modes_covered")
    real = view.real(covered, None)
    assert real is not None
    np.testing.assert_array_equal(real.values, np.array(centres) / sigma)
    assert view.real_count(covered) == 8
    seen = view.see(torch.tensor([[sigma, -2 * sigma]]), None)
    np.testing.assert_allclose(seen.values, [[1, -2]], rtol=1e-6)


def test_the_discriminator_sees_as_many_real_examples_as_samples(digits: Dataset, cache: Path,
                                                                 ) -> None:
    view, [gap, accuracy] = view_of(DIGITS, digits, cache, "d_gap", "d_accuracy")
    for metric, split in (gap, digits.train), (accuracy, digits.test):
        rows = [i * len(split.images) // SAMPLES for i in range(SAMPLES)]
        expected = brightness(split.images[rows].float() / 127.5 - 1)
        real = view.real(metric, brightness)
        assert real is not None
        np.testing.assert_allclose(real.values[:, 0], expected.numpy(), rtol=1e-5, atol=1e-6)
        assert view.real_count(metric) == SAMPLES
    halved = view.real(gap, lambda examples: brightness(examples) / 2)
    real = view.real(gap, brightness)
    assert real is not None
    assert halved is not None
    np.testing.assert_allclose(halved.values, real.values / 2, rtol=1e-6)  # not stored
    held_out = view.held_out(brightness).values
    accuracy_real = view.real(accuracy, brightness)
    assert accuracy_real is not None
    np.testing.assert_array_equal(held_out, accuracy_real.values)


def test_an_extractor_compares_with_all_real_images_or_with_as_many_as_samples(
    digits: Dataset, cache: Path
) -> None:
    names = ["fd_classifier", "kd_classifier", "class_kl", "classifier_score"]
    prepare_references([METRICS[name] for name in names], digits, cache, lambda line: None)
    view, [fd, kd, kl, score] = view_of(DIGITS, digits, cache, *names)
    real, matched, shares = (view.real(metric, None) for metric in (fd, kd, kl))
    assert real is not None
    assert matched is not None
    assert shares is not None
    assert (len(real.values), len(matched.values)) == (len(digits.train.images), SAMPLES)
    rows = [i * len(real.values) // SAMPLES for i in range(SAMPLES)]
    np.testing.assert_array_equal(matched.values, real.values[rows])
    assert digits.train.labels is not None
    counts = torch.bincount(digits.train.labels).numpy()
    np.testing.assert_allclose(shares.values[:, 0], counts / counts.sum())
    assert view.real(score, None) is None
    assert [view.real_count(metric) for metric in (fd, kd, kl, score)] == [
        len(digits.train.images), SAMPLES, digits.facts.train, 0]
    assert isinstance(view.weights, str)


def test_a_metric_that_looks_at_samples_alone_works_in_every_view(digits: Dataset, cache: Path,
                                                                  ) -> None:
    """A reference of None takes no real examples, whatever the view."""
    seen = {}
    for name in ("pixels", "discriminator", "classifier"):
        facts = replace(METRICS["classifier_score"].facts, extractor=name)

        def brightest(real: object, fake: object, name: str = name) -> float:
            seen[name] = real, fake
            return 1.0

        entry = replace(METRICS["classifier_score"], name="brightest", facts=facts,
                        factory=brightest)
        scorer = Scorer([entry], SAMPLES, DIGITS, digits, cache)
        assert scorer(digits.test.images[:SAMPLES], brightness) == {"brightest": 1.0}
        protocol = scorer.protocol()["brightest"]
        assert (protocol["real"], protocol["data"], protocol["split"]) == (0, None, None)
    assert [real for real, _ in seen.values()] == [None] * 3
