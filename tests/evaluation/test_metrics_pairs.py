"""l1, psnr and ssim by closed forms, and what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from gan_bench.data_facts import DataFacts
from gan_bench.evaluation.comparability import refusal
from gan_bench.evaluation.features.base import FeatureError, Features
from gan_bench.evaluation.metrics.pairs import l1, psnr, psnr_of, ssim, ssim_of
from gan_bench.registry import METRICS, MetricFacts

GREY, COLOUR = (1, 16, 16), (3, 16, 16)
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def features(images: NDArray[np.generic]) -> Features:
    return Features(images.reshape(len(images), -1).astype(np.uint8), None, "pixels")


def drawn(shape: tuple[int, ...] = GREY, count: int = 100, low: int = 0, high: int = 256,
          seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(low, high, (count, *shape))


@pytest.mark.parametrize("shape", [GREY, COLOUR])
def test_the_target_itself_has_the_best_scores(shape: tuple[int, ...]) -> None:
    same = features(drawn(shape)), features(drawn(shape))
    assert l1(*same, shape) == 0
    assert ssim(*same, shape) == pytest.approx(1, abs=1e-12)
    assert psnr(*same, shape) == pytest.approx(10 * math.log10(255**2 * 12), abs=1e-12)
    assert psnr_of(np.zeros(1))[0] == math.inf


@pytest.mark.parametrize("shift", [1, 7, 50])
def test_a_shift_of_all_levels(shift: int) -> None:
    targets = drawn(high=200)
    pair = features(targets), features(targets + shift)
    assert l1(*pair, GREY) == pytest.approx(shift / 127.5, rel=1e-12)
    assert psnr(*pair, GREY) == pytest.approx(20 * math.log10(255 / shift), rel=1e-12)


@pytest.mark.parametrize(("level", "shift"), [(100, 30), (0, 255), (7, 1)])
def test_ssim_of_two_even_images_is_the_term_of_their_means(level: int, shift: int) -> None:
    x, y = float(level), float(level + shift)
    expected = (2 * x * y + C1) / (x**2 + y**2 + C1)
    even = np.full((2, *GREY), x)
    assert ssim_of(even, even + shift) == pytest.approx([expected] * 2, rel=1e-9)


def test_ssim_of_a_checkerboard_and_its_negative() -> None:
    """Equal means and variances, covariance −variance, by hand under the window."""
    board = np.indices((21, 21)).sum(0) % 2 * 255.0
    offsets = np.arange(11) - 5
    weights = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights = np.outer(weights, weights) / weights.sum() ** 2
    patch = board[5:16, 5:16]
    mean_x, mean_y = (weights * patch).sum(), (weights * (255 - patch)).sum()
    variance = (weights * patch**2).sum() - mean_x**2
    one_place = ((2 * mean_x * mean_y + C1) * (C2 - 2 * variance)
                 / ((mean_x**2 + mean_y**2 + C1) * (2 * variance + C2)))
    found = ssim_of(board[None, None], 255 - board[None, None])[0]
    assert found == pytest.approx(one_place, abs=1e-4)  # the two phases of the board differ little
    assert found < -0.99


@pytest.mark.parametrize("level", [30, 255])
def test_ssim_of_a_point_depends_on_the_weight_of_the_middle(level: int) -> None:
    """One window, against black: the mean is w·level, the variance (w − w²)·level²."""
    point = np.zeros((1, 1, 11, 11))
    point[0, 0, 5, 5] = level
    weight = 1 / sum(math.exp(-(i**2) / (2 * 1.5**2)) for i in range(-5, 6)) ** 2
    mean, variance = weight * level, (weight - weight**2) * level**2
    expected = C1 / (mean**2 + C1) * C2 / (variance + C2)
    assert ssim_of(point, np.zeros_like(point)) == pytest.approx([expected], rel=1e-12)


def test_ssim_is_computed_where_the_window_fits_and_of_each_channel() -> None:
    targets, images = drawn(COLOUR, 3).astype(float), drawn(COLOUR, 3, seed=1).astype(float)
    of_channels = [ssim_of(targets[:, [c]], images[:, [c]]) for c in range(3)]
    assert ssim_of(targets, images) == pytest.approx(np.mean(of_channels, axis=0), rel=1e-12)
    changed = images.copy()
    changed[:, :, 0, 0] = 255 - changed[:, :, 0, 0]  # in one window alone, at its least weight
    difference = np.abs(ssim_of(targets, changed) - ssim_of(targets, images))
    assert (difference > 0).all()
    assert (difference < 1e-4).all()


def test_each_image_counts_alike_and_in_its_place() -> None:
    targets = drawn()
    images = targets.copy()
    images[0] = 255 - images[0]
    pair = features(targets), features(images)
    alone = features(targets[:1]), features(images[:1])
    assert l1(*pair, GREY) == pytest.approx(
        np.abs(targets[0] - images[0]).mean() / 127.5 / 100, rel=1e-12)
    error = np.square(targets[0] - images[0]).mean()
    perfect = 10 * math.log10(255**2 * 12)
    assert psnr(*pair, GREY) == pytest.approx(
        (10 * math.log10(255**2 / error) + 99 * perfect) / 100, rel=1e-12)
    shuffled = features(images[::-1])
    assert l1(pair[0], shuffled, GREY) > 10 * l1(*pair, GREY)
    assert alone[0].values.shape == (1, 256)


def test_images_without_a_target_each_are_refused() -> None:
    with pytest.raises(FeatureError, match="90 images do not compare with 100 targets"):
        l1(features(drawn()), features(drawn(count=90)), GREY)


@pytest.mark.parametrize("name", ["l1", "psnr", "ssim"])
def test_data_without_pairs_is_refused(name: str) -> None:
    refuses = METRICS[name].facts.refuses
    assert "needs inputs with their targets" in (refuses(DataFacts(GREY, 0, 10, 10, "x")) or "")
    assert refuses(DataFacts(GREY, 0, 10, 10, "x", input=GREY)) is None
    small = DataFacts((1, 8, 8), 0, 10, 10, "x", input=(1, 8, 8))
    assert (refuses(small) is None) == (name != "ssim")


@pytest.mark.parametrize("wrong", [{"extractor": "random"}, {"reference": "train"},
                                   {"matched": False}])
def test_facts_that_contradict_pairs_are_refused(wrong: dict[str, object]) -> None:
    right: dict[str, object] = {"extractor": "pixels", "reference": "test", "matched": True}
    make = {"better": None, "refuses": lambda data: None, "paired": True, **right}
    MetricFacts(**make)
    with pytest.raises(ValueError, match="paired goes with"):
        MetricFacts(**{**make, **wrong})


def test_the_score_of_copying_says_nothing_of_how_it_was_measured() -> None:
    assert refusal({"generated": 50, "copying": 0.1}, {"generated": 50, "copying": 0.10001}) == ""
    assert refusal({"generated": 50, "copying": 0.1}, {"generated": 51, "copying": 0.1})
