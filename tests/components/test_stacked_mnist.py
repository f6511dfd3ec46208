"""Stacked MNIST: its 1000 modes, and how MNIST's own classifier counts them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gan_bench.components import data as datasets
from gan_bench.components.data import Dataset
from gan_bench.config.spec import ComputeSpec, EvaluateSpec, RunSpec
from gan_bench.evaluation.evaluator import Evaluator, prepare_metrics
from gan_bench.evaluation.features.base import Extractor
from gan_bench.evaluation.features.classifier import classifier
from gan_bench.evaluation.features.per_channel import per_channel
from gan_bench.registry import DATASETS

METRICS = ["classes_covered", "class_kl"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def load(name: str, root: Path, cache: Path) -> Dataset:
    part = DATASETS.parse(name)
    datasets.prepare_data(part, root, cache)
    return datasets.load(part, root, cache, "cpu")


@pytest.fixture(scope="module")
def stacks(mnist_root: Path, cache: Path) -> Dataset:
    return load("stacked_mnist", mnist_root, cache)


@pytest.fixture(scope="module")
def mnist(mnist_root: Path, cache: Path) -> Dataset:
    return load("mnist", mnist_root, cache)


def test_each_channel_is_a_permutation_of_mnist(stacks: Dataset, mnist: Dataset) -> None:
    for stack, grey in ((stacks.train, mnist.train), (stacks.test, mnist.test)):
        assert stack.labels is not None
        assert grey.labels is not None
        assert stack.images.shape == (len(grey.images), 3, 28, 28)
        known = {image.tobytes(): int(label) for image, label in zip(
            grey.images.numpy(), grey.labels, strict=True)}
        images = sorted(known)
        for channel, digit in ((0, stack.labels // 100), (1, stack.labels // 10 % 10),
                               (2, stack.labels % 10)):
            found = [image.tobytes() for image in stack.images[:, channel].numpy()]
            assert sorted(set(found)) == images
            assert [known[image] for image in found] == digit.tolist()
        assert torch.equal(stack.images[:, :1], grey.images)
        for one, other in ((0, 1), (1, 2), (0, 2)):
            same = (stack.images[:, one] == stack.images[:, other]).flatten(1).all(dim=1)
            assert same.sum() < 10  # a random permutation leaves one in its place


def test_the_modes_are_about_equally_frequent(stacks: Dataset) -> None:
    assert stacks.train.labels is not None
    counts = torch.bincount(stacks.train.labels, minlength=1000)
    assert len(counts) == 1000
    assert counts.min() > 20
    digits = torch.bincount(stacks.train.labels % 10).double() / 60_000
    tenths = torch.bincount(stacks.train.labels // 100).double() / 60_000
    assert torch.equal(digits, tenths)
    together = torch.bincount(stacks.train.labels % 100).double() / 60_000
    expected = (digits[:, None] * digits).flatten()
    assert (together - expected).abs().max() < 5 * math.sqrt(0.01 / 60_000)


def test_the_stacks_are_the_same_everywhere(stacks: Dataset) -> None:
    assert stacks.fingerprint == "3ee2b71a36aa9e95"


def test_the_first_channel_is_mnist(stacks: Dataset, mnist: Dataset) -> None:
    channel = stacks.channel
    assert channel is not None
    assert (channel.name, channel.facts, channel.fingerprint) == (
        mnist.name, mnist.facts, mnist.fingerprint)
    assert torch.equal(channel.test.images, mnist.test.images)
    assert stacks.fingerprint != mnist.fingerprint
    assert mnist.channel is None


class Pixels(nn.Module):
    """A classifier of 1×1 images into 3 classes, whose values are two powers of the pixel."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        level = images.float().flatten(1)
        return torch.cat([level, level**2], dim=1), -(level - torch.arange(3.0)).square()


def test_joint_logits_are_those_of_independent_channels() -> None:
    grey = Extractor("pixels", "none", Pixels().eval(), "cpu", batch_size=5)
    stacks = torch.cartesian_prod(*[torch.arange(3)] * 3).to(torch.uint8)[:, :, None, None]
    found = per_channel(grey)(stacks)
    assert found.logits is not None
    assert found.logits.shape == (27, 27)
    np.testing.assert_array_equal(found.logits.argmax(axis=1), np.arange(27))
    np.testing.assert_allclose(np.exp(found.logits).sum(axis=1), 1, rtol=1e-6)
    alone = grey(torch.arange(3, dtype=torch.uint8)[:, None, None, None])
    assert alone.logits is not None
    p = np.exp(alone.logits) / np.exp(alone.logits).sum(axis=1, keepdims=True)
    one, two, three = 2, 0, 1  # the stack number 2·9 + 0·3 + 1, taken for 1, 0, 2
    assert np.exp(found.logits[19, 1 * 9 + 0 * 3 + 2]) == pytest.approx(
        p[one, 1] * p[two, 0] * p[three, 2], rel=1e-5)
    np.testing.assert_array_equal(found.values[19], [2, 4, 0, 0, 1, 1])


class Replay(nn.Module):
    """A generator that makes given images, whatever its latents."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images, self.next = images.float() / 127.5 - 1, 0

    def forward(self, latents: Tensor) -> Tensor:
        self.next += len(latents)
        return self.images[self.next - len(latents) : self.next]


def test_modes_are_counted_by_mnists_classifier(stacks: Dataset, mnist: Dataset, cache: Path,
                                                ) -> None:
    prepare_metrics(METRICS, stacks, cache, print)
    assert classifier(stacks, cache, "cpu", print).id == classifier(mnist, cache, "cpu", print).id
    spec = RunSpec(
        experiment="e", variant="v", seed=0, dataset={"name": "stacked_mnist"}, data=stacks.facts,
        steps=1, model={"name": "mlp", "latent_dim": 4},
        evaluate=EvaluateSpec(samples=600, metrics=METRICS), compute=ComputeSpec())
    measure = Evaluator(spec, stacks, cache, "cpu")
    assert measure.protocol["eval/class_kl"]["real"] == 60_000

    def scores(images: Tensor) -> tuple[float, float]:
        found = measure(Replay(images), nn.Flatten())
        return found["eval/classes_covered"], found["eval/class_kl"]

    assert stacks.test.labels is not None
    labels = stacks.test.labels
    true = len(labels[:600].unique())
    covered, some = scores(stacks.test.images[:600])
    assert 400 < true < 500
    assert covered == pytest.approx(true, abs=20)
    by_labels = torch.bincount(labels[:600], minlength=1000).double() / 600
    assert stacks.train.labels is not None
    frequencies = torch.bincount(stacks.train.labels).double() / 60_000
    expected = float(torch.special.xlogy(by_labels, by_labels / frequencies).sum())
    assert some == pytest.approx(expected, abs=0.1)

    thirty = torch.cat([torch.nonzero(labels % 100 == 42).flatten()] * 10)[:600]
    few, much = scores(stacks.test.images[thirty])
    assert 10 <= few <= 20  # x42 for the ten x, and a few errors
    assert much == pytest.approx(math.log(100), abs=0.4)
