"""Classes, modes and D's gap: closed forms on both sides, and the Evaluator on real digits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from helpers.images import Brightness, Replay, named

from gan_bench.components import data as datasets
from gan_bench.components.data import Dataset
from gan_bench.components.data.gaussians import modes
from gan_bench.config.spec import ComputeSpec, EvaluateSpec, RunSpec
from gan_bench.errors import UserError
from gan_bench.evaluation.evaluator import Evaluator, prepare_metrics
from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics.classes import class_kl, classes_covered
from gan_bench.evaluation.metrics.discriminator import d_accuracy, d_gap
from gan_bench.evaluation.metrics.modes import high_quality, modes_covered
from gan_bench.registry import DATASETS


def shares(*values: float) -> Features:
    return Features(np.array(values)[:, None], None, "labels")


def test_class_kl_is_that_of_generated_from_training_frequencies() -> None:
    skewed = shares(0.9, 0.1)
    expected = 0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1)
    assert class_kl(skewed, named([0, 1, 0, 1], 2)) == pytest.approx(expected, rel=1e-12)
    other_way = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert abs(expected - other_way) > 0.1
    assert class_kl(skewed, named([0] * 9 + [1], 2)) == pytest.approx(0, abs=1e-12)


def test_classes_that_are_never_generated_add_nothing() -> None:
    even = shares(*[0.1] * 10)
    one, five = named([3] * 40, 10), named([0, 2, 4, 6, 8] * 8, 10)
    assert class_kl(even, one) == pytest.approx(math.log(10), rel=1e-12)
    assert class_kl(even, five) == pytest.approx(math.log(2), rel=1e-12)
    assert (classes_covered(None, one), classes_covered(None, five)) == (1, 5)
    assert classes_covered(None, named(list(range(10)), 10)) == 10
    assert class_kl(even, named(list(range(10)), 10)) == pytest.approx(0, abs=1e-12)


def test_a_perfect_sampler_of_1000_modes_at_26000_samples() -> None:
    even = shares(*[0.001] * 1000)
    draws = np.random.default_rng(1)
    found = [named(draws.integers(1000, size=26_000), 1000) for _ in range(3)]
    assert [classes_covered(None, fake) for fake in found] == [1000] * 3
    floor = 999 / 2 / 26_000  # .0192, with a standard deviation of .0009
    assert np.mean([class_kl(even, fake) for fake in found]) == pytest.approx(floor, abs=0.002)


def test_bad_classes_are_named() -> None:
    with pytest.raises(UserError, match=r"infinite: .* images of class 2, .* leave class_kl out"):
        class_kl(shares(0.5, 0.5, 0), named([0, 1, 2], 3))
    assert class_kl(shares(0.5, 0.5, 0), named([0, 1], 3)) == pytest.approx(0, abs=1e-12)
    for bad in (np.nan, np.inf):
        fake = named([0, 1, 2], 3)
        assert fake.logits is not None
        fake.logits[1, 1] = bad
        for score in (lambda f=fake: classes_covered(None, f), lambda f=fake: class_kl(
                shares(0.5, 0.25, 0.25), f)):
            with pytest.raises(FloatingPointError, match="logits of test are not all finite"):
                score()
        judged = Features(np.array([[bad], [1.0]]), None, "discriminator")
        fine = Features(np.ones((2, 1)), None, "discriminator")
        for arguments in (judged, fine), (fine, judged):
            with pytest.raises(FloatingPointError, match="logits are not all finite"):
                d_accuracy(*arguments)
        for three in (judged, fine, fine), (fine, fine, judged):
            with pytest.raises(FloatingPointError, match="logits are not all finite"):
                d_gap(*three)
        for mode_score in (high_quality, modes_covered):
            with pytest.raises(FloatingPointError, match="samples are not all finite"):
                mode_score(fine, judged)


@pytest.mark.parametrize(("kind", "count"), [("ring", 8), ("grid", 25)])
def test_a_perfect_sampler_of_gaussians_at_2500_samples(kind: str, count: int) -> None:
    """Within 3σ in two dimensions lies 1 - exp(-9/2) = .98889 of a Gaussian."""
    centres, sigma = modes(kind)  # type: ignore[arg-type]
    real = Features(np.array(centres) / sigma, None, "coordinates")
    draws, found = np.random.default_rng(2), []
    for _ in range(20):
        points = np.array(centres)[draws.integers(count, size=2500)]
        points = points + sigma * draws.standard_normal(points.shape)
        fake = Features(points / sigma, None, "coordinates")
        found.append(high_quality(real, fake))
        assert modes_covered(real, fake) == count
    assert np.mean(found) == pytest.approx(1 - math.exp(-4.5), abs=0.002)
    assert abs(np.mean(found) - 0.98889) < 0.002


def test_d_gap_is_train_minus_held_out() -> None:
    train, held_out, fake = (Features(np.array(v)[:, None], None, "discriminator")
                             for v in ([3.0, 5.0], [1.0, 2.0, 0.0], [9.0]))
    assert d_gap(train, fake, held_out) == 3
    assert d_gap(held_out, fake, train) == -3
    assert d_gap(train, fake, train) == 0


# --- the Evaluator --------------------------------------------------------------------------------

METRICS = ["class_kl", "classes_covered", "d_accuracy", "d_gap"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def digits(cache: Path) -> Dataset:
    part = DATASETS.parse("digits")
    datasets.prepare_data(part, cache, cache)
    data = datasets.load(part, cache, cache, "cpu")
    prepare_metrics(METRICS, data, cache, print)
    assert not (cache / "features").exists()  # the labels do, no reference features are needed
    return data


def evaluator(digits: Dataset, cache: Path, samples: int) -> Evaluator:
    spec = RunSpec(
        experiment="e", variant="v", seed=0, dataset={"name": "digits"}, data=digits.facts, steps=1,
        model={"name": "mlp", "latent_dim": 4},
        evaluate=EvaluateSpec(samples=samples, metrics=METRICS), compute=ComputeSpec())
    return Evaluator(spec, digits, cache, "cpu")


def test_classes_of_real_digits(digits: Dataset, cache: Path) -> None:
    count = len(digits.train.images)
    measure = evaluator(digits, cache, count)
    whole = measure(Replay(digits.train.images), Brightness())
    assert whole["eval/classes_covered"] == 10
    assert 0 <= whole["eval/class_kl"] < 1e-3  # but for the classifier's few errors
    assert digits.train.labels is not None
    threes = digits.train.images[digits.train.labels == 3]
    one = measure(Replay(threes), Brightness())
    assert 1 <= one["eval/classes_covered"] <= 3
    assert math.log(10) - 0.15 < one["eval/class_kl"] < math.log(10) + 0.05


def test_d_gap_of_real_digits(digits: Dataset, cache: Path) -> None:
    measure = evaluator(digits, cache, len(digits.train.images))
    scores = measure(Replay(digits.test.images), Brightness())
    train, test = (split.images.double().mean() / 127.5 - 1 for split in (digits.train,
                                                                         digits.test))
    assert abs(train - test) > 1e-4
    assert scores["eval/d_gap"] == pytest.approx(float(train - test), abs=1e-6)


def test_the_protocol_of_classes_and_gap(digits: Dataset, cache: Path) -> None:
    protocol = evaluator(digits, cache, 300).protocol
    kl, gap = protocol["eval/class_kl"], protocol["eval/d_gap"]
    assert (kl["extractor"], kl["real"], kl["split"]) == ("classifier", 1438, "train")
    assert (gap["extractor"], gap["real"], gap["split"], gap["held_out"]) == (
        "discriminator", 300, "train", 300)
    covered = protocol["eval/classes_covered"]
    assert (covered["real"], covered["split"], "held_out" in covered) == (0, None, False)
    real = protocol["eval/d_accuracy_real"]
    assert (real["real"], real["split"], "held_out" in real) == (300, "test", False)
