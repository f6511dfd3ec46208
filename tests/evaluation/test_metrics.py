"""Closed forms on both sides, and equality with torch-fidelity's own functions."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gan_bench.components import data as datasets
from gan_bench.components.data.arrays import Arrays, ArraySplit
from gan_bench.components.data.gaussians import modes
from gan_bench.config.experiment import load_experiment
from gan_bench.data_facts import DataFacts
from gan_bench.errors import SpecError, UserError
from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.features.gaussian import covariance, fit_gaussian
from gan_bench.evaluation.metrics.base import refuses_nothing
from gan_bench.evaluation.metrics.discriminator import d_accuracy
from gan_bench.evaluation.metrics.frechet import frechet_distance
from gan_bench.evaluation.metrics.inception_score import class_score, inception_score
from gan_bench.evaluation.metrics.modes import high_quality, modes_covered
from gan_bench.evaluation.metrics.nearest import nearest_train_mse
from gan_bench.evaluation.scorer import Scorer
from gan_bench.registry import DATASETS, EXTRACTORS, METRICS, DatasetFacts, MetricFacts

LABELLED = DataFacts((1, 8, 8), 10, 100, 100, "a")
UNLABELLED = DataFacts((3, 8, 8), 0, 100, 100, "b")
POINTS = DataFacts((2,), 0, 100, 100, "c")


def features(values: np.ndarray, logits: np.ndarray | None = None) -> Features:
    return Features(values, logits, "test")


def white(samples: int, width: int, seed: int) -> np.ndarray:
    """Samples whose mean is 0 and whose covariance (ddof 1) is I, exactly."""
    draws = np.random.default_rng(seed).standard_normal((samples, width))
    orthonormal, _ = np.linalg.qr(draws - draws.mean(axis=0))
    return (orthonormal - orthonormal.mean(axis=0)) * math.sqrt(samples - 1)


def turn(width: int, seed: int) -> np.ndarray:
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((width, width)))[0]


@pytest.mark.parametrize("samples", [50, 5000], ids=["one block", "several blocks"])
def test_covariance_is_numpys(samples: int) -> None:
    values = np.random.default_rng(0).gamma(2.0, size=(samples, 20)) + 100
    expected = np.cov(values, rowvar=False)
    np.testing.assert_allclose(covariance(values, values.mean(axis=0)), expected, rtol=1e-12,
                               atol=1e-12)


@pytest.mark.parametrize(("samples", "width"), [(300, 12), (12, 12), (9, 12)])
def test_the_factor_is_a_root_of_the_covariance(samples: int, width: int) -> None:
    values = np.random.default_rng(1).standard_normal((samples, width)) * np.arange(width)
    factor = fit_gaussian(values).factor
    # The first feature is always 0: of more samples than features, it has no column in the root.
    assert factor.shape == (width, min(samples, width - (samples > width)))
    np.testing.assert_allclose(factor @ factor.T, np.cov(values, rowvar=False), atol=1e-10)


def test_frechet_of_commuting_covariances() -> None:
    scales = np.array([0.5, 1, 2, 3]), np.array([1, 1, 0, 5.0])
    shift = np.array([1, -2, 0, 0.5])
    base = turn(4, 2)
    real = features(white(60, 4, 3) * scales[0] @ base)
    fake = features((white(80, 4, 4) * scales[1] + shift) @ base)
    expected = np.square(shift).sum() + np.square(scales[0] - scales[1]).sum()
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=1e-10)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize(("width", "rank", "samples"), [
    (512, 1, 600), (512, 20, 600), (512, 50, 600), (512, 511, 600), (512, 20, 40),
    (2048, 50, 2100)])
def test_frechet_of_a_collapsed_generator(width: int, rank: int, samples: int) -> None:
    """Samples that fill a few of many directions: the others add nothing, in either order.

    The bound is 1e-12 of the two traces. Sums and singular values round to some `width` ε of them
    at worst, which at 2048 is half of it. A single eigenvalue that rounds to 4 ε and not to 0
    would add 2 x 2 √ε = 6e-8 to the sum, which is 28 times the bound there and 100 times at 512.
    """
    real = features(white(width + 60, width, 31))
    plane = turn(width, 32)[:rank]
    fake = features(white(samples, rank, 33) * 2 @ plane + 0.5)
    expected = 0.25 * width + width + 4 * rank - 2 * 2 * rank
    bound = 1e-12 * (width + 4 * rank)
    assert frechet_distance(real, fake) == pytest.approx(expected, rel=0, abs=bound)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=0, abs=bound)
    assert frechet_distance(fake, fake) == pytest.approx(0, abs=bound)


@pytest.mark.parametrize("dead", [1, 40])
def test_frechet_where_features_are_dead(dead: int) -> None:
    """Features that are 0 in both, or in the generated samples alone. The bounds: see above."""
    real, fake = white(700, 512, 34), white(800, 512, 35) * 3
    fake[:, 100:100 + dead] = 0
    one, two = features(real), features(fake)
    for first, second in ((one, two), (two, one)):
        assert frechet_distance(first, second) == pytest.approx(
            4 * (512 - dead) + dead, rel=0, abs=1e-12 * 5120)
    real = real.copy()
    real[:, 100:100 + dead] = 0
    assert frechet_distance(features(real), two) == pytest.approx(
        4 * (512 - dead), rel=0, abs=1e-12 * 5120)


def test_a_root_of_no_variance_is_a_column_of_0() -> None:
    factor = fit_gaussian(np.ones((20, 5))).factor
    assert factor.shape == (5, 1)
    assert not factor.any()
    real, same = features(white(30, 5, 36) + 3), features(np.ones((20, 5)))
    assert frechet_distance(real, same) == pytest.approx(5 * 4 + 5, rel=1e-12)


@pytest.mark.parametrize(("real", "fake"), [(30, 20), (30, 300), (300, 20)])
def test_frechet_with_fewer_samples_than_dimensions(real: int, fake: int) -> None:
    """Sets that fill the same 5 of 100 dimensions: eigenvalues of 0 must not add their rounding."""
    plane = turn(100, 5)[:5]
    near = features(white(real, 5, 6) * 3 @ plane)
    far = features((white(fake, 5, 7) * 2 + 1) @ plane)
    assert frechet_distance(near, far) == pytest.approx(5 * 1 + 5 * 1, rel=1e-6)
    assert frechet_distance(near, near) == pytest.approx(0, abs=1e-10)


def test_frechet_of_a_set_with_itself_symmetry_and_rotation() -> None:
    draws = np.random.default_rng(8)
    one = draws.standard_normal((500, 16)) * np.linspace(0.1, 3, 16)
    two = draws.gamma(2.0, size=(400, 16))
    assert frechet_distance(features(one), features(one)) == pytest.approx(0, abs=1e-10)
    there = frechet_distance(features(one), features(two))
    assert there > 1
    assert frechet_distance(features(two), features(one)) == pytest.approx(there, rel=1e-10)
    base = turn(16, 9)
    assert frechet_distance(features(one @ base), features(two @ base)) == pytest.approx(there)


def test_frechet_floor_of_finite_samples() -> None:
    """N(0, I) in 64 dimensions against itself at 1000 samples: about 2.21, and not 0."""
    draws = np.random.default_rng(10)
    found = [frechet_distance(features(draws.standard_normal((1000, 64))),
                              features(draws.standard_normal((1000, 64)))) for _ in range(5)]
    assert 2.11 < np.mean(found) < 2.31


def test_frechet_is_torch_fidelitys() -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

    draws = np.random.default_rng(11)
    real = draws.gamma(1.0, size=(300, 40)) @ draws.standard_normal((40, 40))
    fake = draws.gamma(1.3, size=(200, 40)) @ draws.standard_normal((40, 40))
    theirs = fid_statistics_to_metric(*(fid_features_to_statistics(torch.from_numpy(v))
                                        for v in (real, fake)), verbose=False)
    assert frechet_distance(features(real), features(fake)) == pytest.approx(
        theirs["frechet_inception_distance"], rel=1e-6)


def test_features_of_two_extractors_do_not_compare() -> None:
    values = white(20, 3, 12)
    with pytest.raises(ValueError, match="one-1 do not compare with one-2"):
        frechet_distance(Features(values, None, "one-1"), Features(values, None, "one-2"))


def test_class_score_closed_forms() -> None:
    values = np.zeros((1000, 1))
    balanced = np.where(np.eye(10)[np.arange(1000) % 10], 0.0, -1e4)
    assert class_score(features(values, balanced), 1) == pytest.approx(10, rel=1e-12)
    assert class_score(features(values, np.ones((1000, 10))), 1) == pytest.approx(1, rel=1e-12)
    unsure = np.log(np.array([[0.9, 0.1], [0.1, 0.9]] * 500)) + 7  # the softmax drops the 7
    assert class_score(features(values, unsure), 1) == pytest.approx(1.44493481, rel=1e-8)


def test_inception_score_is_torch_fidelitys() -> None:
    from torch_fidelity.metric_isc import isc_features_to_metric

    logits = np.random.default_rng(13).standard_normal((500, 30)) * 4
    theirs = isc_features_to_metric(torch.from_numpy(logits))  # 10 splits, shuffled
    ours = inception_score(None, features(np.zeros((500, 1)), logits))
    assert ours == pytest.approx(theirs["inception_score_mean"], rel=1e-9)


def test_the_inception_score_of_samples_sorted_by_class() -> None:
    sure = np.where(np.eye(10)[np.arange(5000) // 500], 0.0, -1e4)
    values = np.zeros((5000, 1))
    assert class_score(features(values, sure), 1) == pytest.approx(10, rel=1e-12)
    assert 9.8 < inception_score(None, features(values, sure)) < 10


def test_a_score_needs_a_sample_per_split() -> None:
    few = features(np.zeros((9, 1)), np.zeros((9, 3)))
    with pytest.raises(UserError, match=r"10 splits needs 10 samples, and there are 9"):
        inception_score(None, few)


def test_d_accuracy_counts_each_side_and_0_on_neither() -> None:
    real = features(np.array([[2.0], [0.0], [-1.0], [3.0], [0.1]]))
    fake = features(np.array([[-2.0], [0.0], [1.0], [5.0]]))
    assert d_accuracy(real, fake) == {"d_accuracy_real": 0.6, "d_accuracy_fake": 0.25}


def test_nearest_train_mse_closed_forms() -> None:
    black = np.zeros((3, 16), dtype=np.uint8)
    white_images = np.full((2, 16), 255, dtype=np.uint8)
    assert nearest_train_mse(features(black), features(white_images)) == 4.0
    assert nearest_train_mse(features(black), features(black[:1])) == 0.0
    both = np.concatenate([black, white_images])
    one_pixel = white_images.copy()
    one_pixel[:, 0] = 0
    assert nearest_train_mse(features(both), features(one_pixel)) == pytest.approx(4 / 16)


@pytest.mark.parametrize("kind", ["uint8", "vectors far from the origin"])
def test_nearest_train_mse_is_that_of_all_pairs(kind: str) -> None:
    draws = np.random.default_rng(14)
    if kind == "uint8":
        real = draws.integers(0, 256, (5000, 12), dtype=np.uint8)
        fake = draws.integers(0, 256, (1500, 12), dtype=np.uint8)
        scale = 127.5
    else:  # uncentred, float32 would see these all in one place
        real, fake = (draws.standard_normal((n, 3)) + 3000 for n in (5000, 1500))
        scale = 1.0
    gaps = np.stack([np.square((real.astype(float) - row) / scale).mean(axis=1).min()
                     for row in fake.astype(float)])
    assert nearest_train_mse(features(real), features(fake)) == pytest.approx(gaps.mean(), rel=1e-4)


@pytest.mark.parametrize("kind", ["ring", "grid"])
def test_a_perfect_sampler_of_modes(kind: str) -> None:
    centres, sigma = modes(kind)  # type: ignore[arg-type]
    draws = np.random.default_rng(15)
    chosen = np.array(centres)[draws.integers(len(centres), size=40_000)]
    fake = features((chosen + sigma * draws.standard_normal((40_000, 2))) / sigma)
    real = features(np.array(centres) / sigma)
    assert high_quality(real, fake) == pytest.approx(0.98889, abs=0.002)
    assert modes_covered(real, fake) == len(centres)


def test_samples_out_of_reach_cover_nothing() -> None:
    real = features(np.array([[0.0, 0.0], [100.0, 0.0], [200.0, 0.0]]))
    fake = features(np.array([[0.0, 2.999], [0.0, 3.001], [102.0, 2.3], [103.0, 0.0]]))
    assert high_quality(real, fake) == 0.5
    assert modes_covered(real, fake) == 2


@pytest.mark.parametrize("name", METRICS.names())
def test_every_metric_states_its_facts(name: str) -> None:
    entry = METRICS[name]
    views = {"pixels", "discriminator", "coordinates", *EXTRACTORS.names()}
    assert entry.facts.extractor in views
    assert entry.summary
    for data in (LABELLED, UNLABELLED, POINTS):
        reason = entry.facts.refuses(data)
        assert reason is None or reason.startswith("needs ")


@pytest.mark.parametrize(("wrong", "why"), [
    ({"better": "lowest"}, "better is one of 'lower', 'higher', None, not 'lowest'"),
    ({"reference": "validation"}, "reference is one of"),
    ({"refuses": None}, "refuses is a function"),
    ({"matched": 1}, "matched is True or False, not 1"),
    ({"least": 0}, "least is a whole number from 1, not 0"),
    ({"least_per_class": 2.5}, "least_per_class is a whole number"),
    ({"range": (1, 0)}, r"range is \(least, greatest\), not"),
    ({"returns": "nearest_ratio"}, "returns is a tuple of different names"),
    ({"returns": ("a", "a")}, "returns is a tuple of different names"),
    ({"returns": ("a",), "score_protocols": {"b": {}}}, "score_protocols names b, which is not"),
    ({"reference": "modes"}, "'modes' needs extractor 'coordinates', not 'pixels'"),
    ({"extractor": "coordinates"}, "'modes' or None, not 'train'"),
    ({"reference": "frequencies"}, "'frequencies' needs a registered extractor"),
    ({"reference": None, "matched": True}, "matched goes with reference"),
    ({"extractor": "discriminator", "least_per_feature": 2}, "least_per_feature goes with"),
    ({"asked": True, "matched": True}, "asked goes with"),
])
def test_facts_that_no_metric_can_have_are_refused(wrong: dict[str, Any], why: str) -> None:
    right: dict[str, Any] = {"better": None, "extractor": "pixels", "reference": "train",
                             "refuses": refuses_nothing}
    MetricFacts(**right)
    with pytest.raises(ValueError, match=f"^MetricFacts: .*{why}"):
        MetricFacts(**{**right, **wrong})


def test_what_is_refused() -> None:
    def takes(data: DataFacts) -> set[str]:
        return {entry.name for entry in METRICS if not entry.facts.refuses(data)}

    anything = {"d_accuracy", "d_gap", "nearest_train_mse", "fid", "is", "fd_classifier",
                "high_quality", "precision_inception", "kd_classifier_spread", "fid_inf"}
    always = {"d_accuracy", "d_gap", "nearest_train_mse"}
    images = always | {"fid", "is", "precision_inception", "fid_inf"}
    assert takes(LABELLED) & anything == images | {"fd_classifier", "kd_classifier_spread"}
    assert takes(UNLABELLED) & anything == images
    assert takes(POINTS) & anything == always | {"high_quality"}


@pytest.mark.process
def test_the_names_are_known_without_heavy_imports() -> None:
    code = ("import sys; from gan_bench.registry import METRICS, EXTRACTORS; METRICS.names(); "
            "[m.schema for m in METRICS]; EXTRACTORS.names(); [e.schema for e in EXTRACTORS]; "
            "print(sorted({'torch', 'numpy', 'scipy', 'PIL'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("known", [True, False])
def test_modes_are_those_that_the_data_set_states(tmp_path: Path, known: bool) -> None:
    def describe(data_root: Path) -> DataFacts:
        return DataFacts((2,), 0, 40, 10, "points-1")

    def points(data_root: Path, say: object) -> Arrays:
        """Four points on a line, each ten times."""
        at = np.repeat(np.array([[0, 0], [1, 0], [2, 0], [3, 0]], np.float32), 10, axis=0)
        return Arrays(ArraySplit(at, None), ArraySplit(at[::4], None))

    def modes() -> tuple[list[tuple[float, float]], float]:
        return [(0.0, 0.0), (1.0, 0.0), (2.0, 0.0), (3.0, 0.0)], 0.1

    facts = DatasetFacts(describe=describe, modes=modes if known else None)
    DATASETS.register("points", facts)(points)
    try:
        part, cache = DATASETS.parse("points"), tmp_path / "cache"
        datasets.prepare_data(part, tmp_path, cache)
        held = datasets.load(part, tmp_path, cache, "cpu")
        file = tmp_path / "a.yaml"
        file.write_text("name: a\ndataset: points\nseeds: [0]\nbase: {model: mlp, steps: 3, "
                        "batch_size: 4}\nevaluate: {metrics: [modes_covered]}\n")
        if known:
            assert load_experiment(file, tmp_path).runs
            scorer = Scorer([METRICS["modes_covered"]], 3, part, held, cache)
            assert scorer(torch.tensor([[0.0, 0.29], [1.0, 0.31], [3.0, 0.0]])) == {
                "modes_covered": 2}
            return
        why = "modes_covered needs known modes, but the data set points states none"
        with pytest.raises(SpecError, match=why):
            load_experiment(file, tmp_path)
        with pytest.raises(UserError, match=why):
            Scorer([METRICS["modes_covered"]], 3, part, held, cache)
    finally:
        del DATASETS._entries["points"]
