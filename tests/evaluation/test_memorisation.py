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
    real, held_out = column(0, 1, 10), column(3, 8)  # the held-out ones are 2 away
    assert scores(real, real, held_out) == (0, 0)
    assert scores(real, held_out, held_out) == pytest.approx((1, 50))  # 2 > 1, but 2 < 9
    # .5 from 0, whose neighbour is 1 away; 2 from 1; 90 from 10, whose neighbour is 9 away.
    assert scores(real, column(-0.5, 3, 100), held_out) == pytest.approx(
        ((0.5 + 2 + 90) / 3 / 2, 200 / 3))
    # As far as the nearest other training point, to the bit: not farther.
    assert scores(real, column(-1, -1), held_out)[1] == 0


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
    to_real, usual = cdist(fake.astype(float), real.astype(float)), cdist(
        held_out.astype(float), real.astype(float)).min(axis=1).mean()
    among = cdist(real.astype(float), real.astype(float)) + np.diag([np.inf] * len(real))
    authentic = among.min(axis=1)[to_real.argmin(axis=1)] < to_real.min(axis=1)
    assert 0.05 < authentic.mean() < 0.95
    ratio, authpct = scores(real, fake, held_out)
    assert ratio == pytest.approx(to_real.min(axis=1).mean() / usual, rel=1e-9)
    assert authpct == pytest.approx(100 * authentic.mean(), rel=1e-12)
    np.testing.assert_array_equal(nearest_rows(fake, real)[0], to_real.argmin(axis=1))
    own = np.arange(len(real))[::3]
    np.testing.assert_array_equal(nearest_rows(real[own], real, own)[0], among[own].argmin(axis=1))


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


def test_mnist_copies_held_out_and_noise(mnist: Dataset) -> None:
    train, test = (split.images.flatten(1).numpy() for split in (mnist.train, mnist.test))
    few = train[:10_000]  # all of them take longer and show the same
    draws = np.random.default_rng(4)
    half = np.concatenate([few[:100], test[100:200]])
    noisy = np.clip(few[:200] + draws.normal(0, 10, (200, 784)), 0, 255).astype(np.uint8)
    noise = draws.integers(0, 256, (200, 784), dtype=np.uint8)
    held_out = test[200:600]
    found = {name: scores(few, fake, held_out) for name, fake in {
        "copies": few[:200], "noisy copies": noisy, "half copies": half, "held out": test[:200],
        "noise": noise}.items()}
    ratios = {name: ratio for name, (ratio, _) in found.items()}
    assert ratios["copies"] == 0
    assert 0.1 < ratios["noisy copies"] < 0.6
    assert 0.4 < ratios["half copies"] < 0.6
    assert 0.9 < ratios["held out"] < 1.1
    assert ratios["noise"] > 1.5
    authpct = {name: percent for name, (_, percent) in found.items()}
    assert authpct["copies"] == 0
    assert authpct["noisy copies"] < 5
    assert authpct["half copies"] == pytest.approx(authpct["held out"] / 2, abs=10)
    assert 30 < authpct["held out"] < 80
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
    assert measured[-1]["values"]["eval/nearest_ratio"] > 1  # hardly trained: nothing like digits
    protocol = next(r["protocol"] for r in with_it if r["kind"] == "protocol")
    assert protocol["eval/authpct"]["held_out"] == 50
    assert protocol["eval/authpct"]["real"] == 1438


def test_points_have_the_scores_and_no_picture(tmp_path: Path) -> None:
    records, _ = recorded(tmp_path / "ring", "dataset={name: gaussians, samples: 500}",
                          "evaluate.metrics=[memorisation]")
    assert any("eval/authpct" in r.get("values", {}) for r in records)
    assert {r["name"] for r in records if r["kind"] == "image"} == {"samples"}
