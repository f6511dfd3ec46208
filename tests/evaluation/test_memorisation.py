"""Memorisation against all pairs and on real MNIST, and the picture of nearest neighbours."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import a_run
from PIL import Image
from scipy.spatial.distance import cdist

from gan_bench.components import data as datasets
from gan_bench.components.data import Dataset
from gan_bench.config.declared import Declared
from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import UserError
from gan_bench.evaluation.comparability import protocol_differences, refusal
from gan_bench.evaluation.evaluator import nearest_picture
from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics import nearest as module
from gan_bench.evaluation.metrics.memorisation import memorisation
from gan_bench.evaluation.metrics.nearest import nearest_rows, nearest_train_mse
from gan_bench.journal import reading
from gan_bench.registry import DATASETS
from gan_bench.training.run import prepare, run_one


def scores(real: np.ndarray, fake: np.ndarray, held_out: np.ndarray) -> tuple[float, float]:
    found = memorisation(*(Features(v, None, "pixels") for v in (real, fake, held_out)))
    assert list(found) == ["nearest_ratio", "authpct"]
    return found["nearest_ratio"], found["authpct"]


def column(*values: float) -> np.ndarray:
    return np.array(values)[:, None]


def test_closed_forms() -> None:
    real, held_out = column(0, 1, 10), column(3, 8)
    assert scores(real, real, held_out) == (0, 0)
    # 0 and 1 are 1 apart, and 10 is 9 from 1; they are 3, 2 and 2 from the held-out ones.
    # .5 from 0; 2 from 1; 90 from 10: farther than the neighbours of these are, but for the first.
    # 3.5, 0 and 92 from the held-out ones.
    assert scores(real, column(-0.5, 3, 100), held_out) == pytest.approx(
        ((0.5 + 2 + 90) / (3.5 + 0 + 92) * (3 + 2 + 2) / (1 + 1 + 9), 200 / 3))
    # Twice the neighbour 1, at 2.5, and .5 from a held-out one: 1 counts twice.
    assert scores(real, column(3.5, 3.5), held_out)[0] == pytest.approx(2.5 / 0.5 * 2 / 1)
    # As far as the nearest other training point, to the bit: not farther.
    assert scores(real, column(-1, -1), held_out)[1] == 0


def test_an_equal_distance_is_not_farther_whatever_the_rounding() -> None:
    """Seven pixels a level brighter are as far as seven others: a step is no exact float."""
    draws = np.random.default_rng(8)
    for _ in range(40):
        base = draws.integers(1, 255, 784).astype(np.uint8)
        pixels = draws.permutation(784)
        twin, fake = base.copy(), base.copy()
        twin[pixels[:7]] += 1
        fake[pixels[7:14]] += 1
        real = np.stack([base, twin, np.full(784, 255, np.uint8)])
        assert scores(real, np.stack([fake, fake]), base[None] // 2)[1] == 0
        fake[pixels[14]] += 1
        assert scores(real, np.stack([fake, fake]), base[None] // 2)[1] == 100


def test_training_images_that_are_there_twice() -> None:
    """The copy is a neighbour at distance 0, so whatever differs from it at all is authentic."""
    real = column(5, 5, 9)
    assert scores(real, column(5.01, 4.9), column(7))[1] == 100
    assert scores(real, column(5, 5), column(7))[1] == 0


@pytest.mark.parametrize("kind", ["uint8", "vectors"])
@pytest.mark.parametrize("blocks", [(1024, 4096), (7, 13), (1, 1)])
def test_all_pairs(kind: str, blocks: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """By the definitions of both scores, on the full tables of distances."""
    monkeypatch.setattr(module, "BLOCK", blocks[0])
    monkeypatch.setattr(module, "REAL_BLOCK", blocks[1])
    draws = np.random.default_rng(3)
    if kind == "uint8":
        real, fake, held_out = (draws.integers(0, 256, (n, 6), dtype=np.uint8) for n in (300, 90,
                                                                                        70))
    else:
        real, fake, held_out = (draws.standard_normal((n, 3)) + 50 for n in (300, 90, 70))
    to_real = cdist(fake.astype(float), real.astype(float))
    to_held_out, apart = (cdist(values.astype(float), held_out.astype(float)).min(axis=1)
                          for values in (fake, real))
    among = cdist(real.astype(float), real.astype(float)) + np.diag([np.inf] * len(real))
    authentic = among.min(axis=1)[to_real.argmin(axis=1)] < to_real.min(axis=1)
    assert 0.05 < authentic.mean() < 0.95
    ratio, authpct = scores(real, fake, held_out)
    nearest = to_real.argmin(axis=1)
    expected = (to_real.min(axis=1).mean() / to_held_out.mean()
                / (among.min(axis=1)[nearest].mean() / apart[nearest].mean()))
    assert ratio == pytest.approx(expected, rel=1e-9)
    assert authpct == pytest.approx(100 * authentic.mean(), rel=1e-12)
    np.testing.assert_array_equal(nearest_rows(fake, real)[0], to_real.argmin(axis=1))
    own = np.arange(len(real))[::3]
    np.testing.assert_array_equal(nearest_rows(real[own], real, own)[0], among[own].argmin(axis=1))


def test_doubles_in_the_training_set_are_no_standard() -> None:
    """A collapse next to an image that is there twice: the others are the standard then."""
    real, held_out = column(5, 5, 9, 20), column(7)
    ratio = scores(real, column(6, 6), held_out)[0]
    assert ratio == pytest.approx(1 / 1 * (2 + 2 + 2 + 13) / (0 + 0 + 4 + 11))
    with pytest.raises(UserError, match="every training image is there twice, or is held out too"):
        scores(column(5, 5, 9, 9), column(6, 6), held_out)
    with pytest.raises(UserError, match="every generated image is also held out"):
        scores(real, column(7, 7), held_out)


def test_what_cannot_be_told() -> None:
    two = column(4, 5)
    with pytest.raises(UserError, match="every held-out image is also in the training set"):
        scores(column(1, 2, 3), two, column(2, 3))
    with pytest.raises(UserError, match="at least 2 real examples are needed, and there are 1"):
        scores(column(1), two, two)
    with pytest.raises(UserError, match=r"shape \(2, 1\) do not compare with .* \(3, 2\)"):
        scores(two, np.zeros((3, 2)), two)
    for bad in (np.nan, np.inf):
        with pytest.raises(UserError, match="a real feature of pixels is not finite"):
            scores(column(1, bad), two, two)
        for arguments in (column(1, 2), column(4, bad), two), (column(1, 2), two, column(4, bad)):
            with pytest.raises(FloatingPointError, match="finite"):
                scores(*arguments)
        with pytest.raises(FloatingPointError, match="the samples are not all finite"):
            nearest_rows(column(bad), two)


def test_two_metrics_search_the_neighbours_once(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[int] = []

    def counting(points: np.ndarray, *rest: Any) -> Any:
        searched.append(len(points))
        return nearest_rows(points, *rest)

    monkeypatch.setattr(module, "nearest_rows", counting)
    real, fake, other = (Features(column(*v), None, "pixels") for v in ([0, 1, 5], [2, 4], [3, 7]))
    for _ in range(2):
        assert nearest_train_mse(real, fake) == 1
        memorisation(real, fake, other)
    assert searched == [2, 2]


@pytest.fixture(scope="module")
def mnist(mnist_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    cache = tmp_path_factory.mktemp("cache")
    part = DATASETS.parse("mnist")
    datasets.prepare_data(part, mnist_root, cache)
    return datasets.load(part, mnist_root, cache, "cpu")


@pytest.fixture(scope="module")
def mnist_scores(mnist: Dataset) -> dict[str, tuple[float, float]]:
    """Both scores of images of many kinds, seen and unseen."""
    train, test = (split.images.flatten(1).numpy() for split in (mnist.train, mnist.test))
    assert mnist.test.labels is not None
    few, unseen = train[:10_000], test[:200]  # all of them take longer and show the same
    ones = test[600:][mnist.test.labels.numpy()[600:] == 1][:200]
    mean = few.mean(axis=0)
    axes = np.linalg.svd(few[:2000] - mean, full_matrices=False)[2][:50]
    draws = np.random.default_rng(4)

    def smooth(images: np.ndarray) -> np.ndarray:
        return np.clip((images - mean) @ axes.T @ axes + mean, 0, 255).round().astype(np.uint8)

    def noisy(images: np.ndarray, deviation: float) -> np.ndarray:
        return np.clip(images + draws.normal(0, deviation, images.shape), 0, 255).astype(np.uint8)

    return {name: scores(few, fake, test[200:600]) for name, fake in {
        "copies": few[:200], "noisy copies": noisy(few[:200], 10), "held out": unseen,
        "half copies": np.concatenate([few[:100], test[100:200]]), "unseen ones": ones,
        "copies, noise 25": noisy(few[:200], 25), "smooth copies": smooth(few[:200]),
        "smooth unseen": smooth(unseen), "unseen, noise 25": noisy(unseen, 25),
        "copies of ones": few[mnist.train.labels.numpy()[:10_000] == 1][:200],
        "noise": draws.integers(0, 256, (200, 784), dtype=np.uint8)}.items()}


def test_nearest_ratio_tells_copies_from_few_classes_and_smooth_images(
    mnist_scores: dict[str, tuple[float, float]]
) -> None:
    """By the ratio to held-out images' distances alone, unseen ones had .45, as noisy copies."""
    ratios = {name: ratio for name, (ratio, _) in mnist_scores.items()}
    for name in ("held out", "unseen ones", "smooth unseen", "unseen, noise 25"):
        assert ratios[name] == pytest.approx(1, abs=0.12), name
    assert ratios["copies"] == ratios["copies of ones"] == 0
    assert ratios["half copies"] == pytest.approx(0.5, abs=0.06)
    assert 0.05 < ratios["noisy copies"] < 0.35
    assert 0.3 < ratios["copies, noise 25"] < 0.6
    assert 0.5 < ratios["smooth copies"] < 0.85
    assert 1 < ratios["noise"] < 1.5


def test_authpct_of_copies_held_out_images_and_noise(
    mnist_scores: dict[str, tuple[float, float]]
) -> None:
    authpct = {name: percent for name, (_, percent) in mnist_scores.items()}
    assert authpct["copies"] == 0
    assert authpct["noisy copies"] < 5
    assert authpct["half copies"] == pytest.approx(authpct["held out"] / 2, abs=10)
    assert 30 < authpct["held out"] < 80
    assert 30 < authpct["unseen ones"] < 80
    assert authpct["noise"] == 100


# --- the picture ----------------------------------------------------------------------------------


def test_the_picture_shows_each_sample_beside_its_neighbour(mnist: Dataset) -> None:
    chosen = mnist.train.images[[5, 70, 900, 30_000, 59_999]]
    fainter = (chosen.float() / 127.5 - 1) * 0.9 - 0.1
    picture = np.array(Image.open(io.BytesIO(nearest_picture(fainter, mnist))))[:, :, 0]
    factor = picture.shape[1] // (4 * (2 * 28 + 6) + 6)
    picture = picture[::factor, ::factor]
    assert picture.shape == (2 * (28 + 6) + 6, 4 * (2 * 28 + 6) + 6)
    for place, (sample, original) in enumerate(zip(fainter, chosen, strict=True)):
        top, left = 6 + place // 4 * (28 + 6), 6 + place % 4 * (2 * 28 + 6)
        shown = picture[top : top + 28, left : left + 56]
        np.testing.assert_array_equal(shown[:, 28:], original[0])
        np.testing.assert_array_equal(shown[:, :28], (sample[0] * 127.5 + 128).to(torch.uint8))
    assert not np.array_equal(shown[:, :28], shown[:, 28:])


def recorded(folder: Path, *overrides: str) -> tuple[list[dict[str, Any]], bytes]:
    folder.mkdir()
    spec = a_run(folder, *overrides)
    study = ExperimentSpec(name="tiny", declared=Declared(baseline=spec.variant), runs=(spec,))
    prepare(study, folder, folder, print)
    assert run_one(spec, folder, folder).status == "FINISHED"
    run = spec.folder(folder)
    return reading.read_records(run)[0], (run / "final.safetensors").read_bytes()


def test_a_run_that_asks_for_it_ends_with_the_picture(tmp_path: Path) -> None:
    with_it, weights = recorded(tmp_path / "a", "evaluate.metrics=[memorisation, d_gap]")
    without, same_weights = recorded(tmp_path / "b", "evaluate.metrics=[d_accuracy]",
                                     "evaluate.every=null")
    shown = [(r["step"], r["name"]) for r in with_it if r["kind"] == "image"]
    assert shown == [(0, "samples"), (3, "samples"), (6, "samples"), (6, "nearest")]
    assert "nearest" not in {r["name"] for r in without if r["kind"] == "image"}
    assert weights == same_weights  # measuring changes nothing
    measured = [r for r in with_it if "eval/nearest_ratio" in r.get("values", {})]
    assert [r["step"] for r in measured] == [3, 6]
    assert set(measured[0]["values"]) == {"eval/nearest_ratio", "eval/authpct", "eval/d_gap"}
    assert measured[-1]["values"]["eval/nearest_ratio"] > 0.9  # hardly trained: no copies
    protocol = next(r["protocol"] for r in with_it if r["kind"] == "protocol")
    assert protocol["eval/authpct"]["held_out"] == 50
    assert protocol["eval/authpct"]["real"] == 1438
    # The ratio has another definition than at first, so it has another protocol; authpct has not.
    ratio = protocol["eval/nearest_ratio"]
    assert protocol_differences(protocol["eval/authpct"], ratio) == {"ratio": (
        None, "train / held out, over that of the neighbours")}
    older = {key: value for key, value in ratio.items() if key != "ratio"}
    assert refusal(older, ratio).startswith("not measured alike: ratio nothing against train /")


def test_points_have_the_scores_and_no_picture(tmp_path: Path) -> None:
    records, _ = recorded(tmp_path / "ring", "dataset={name: gaussians, samples: 500}",
                          "evaluate.metrics=[memorisation]")
    assert any("eval/authpct" in r.get("values", {}) for r in records)
    assert {r["name"] for r in records if r["kind"] == "image"} == {"samples"}
