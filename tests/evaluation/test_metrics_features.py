"""Metrics on features: equal to torch-fidelity's, to closed forms, and to plain formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gan_bench import rng
from gan_bench.components import data as datasets
from gan_bench.errors import UserError
from gan_bench.evaluation.features.base import FeatureError, Features, NonFiniteFeatures
from gan_bench.evaluation.features.gaussian import Gaussian, scatter
from gan_bench.evaluation.metrics import frechet
from gan_bench.evaluation.metrics import pairwise as blocks
from gan_bench.evaluation.metrics.frechet import (
    frechet_distance,
    frechet_distance_inf,
    frechet_distance_norm,
)
from gan_bench.evaluation.metrics.inception_score import class_score
from gan_bench.evaluation.metrics.kernel import (
    kernel_distance,
    kernel_distance_of_subsets,
    kernel_distance_spread,
    unbiased,
)
from gan_bench.evaluation.metrics.pairwise import Pairs, between, draw_subsets, pairs, within
from gan_bench.evaluation.metrics.precision_recall import coverage, density, precision, recall
from gan_bench.registry import DATASETS, EXTRACTORS

Array = NDArray[np.float64]
ALL: list[Callable[[Features, Features], float]] = [
    frechet_distance, frechet_distance_norm, frechet_distance_inf, kernel_distance,
    kernel_distance_of_subsets, kernel_distance_spread, precision, recall, density, coverage]


def features(values: Array, logits: Array | None = None) -> Features:
    return Features(values, logits, "test")


@pytest.fixture(scope="module")
def random_sets() -> tuple[Array, Array]:
    """Skewed, correlated, of different sizes, not multiples of a block, far from the origin."""
    draws = np.random.default_rng(0)
    mixing = draws.standard_normal((24, 24))
    return (draws.gamma(1.0, size=(1500, 24)) @ mixing + 9,
            (draws.gamma(1.1, size=(1230, 24)) @ mixing + 9.1))


@pytest.fixture(scope="module")
def real_sets(mnist_root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Features, ...]:
    """The embedded classifier's features of MNIST's training and of blurred test images."""
    cache = tmp_path_factory.mktemp("cache")
    part = DATASETS.parse("mnist")
    datasets.prepare_data(part, mnist_root, cache)
    data = datasets.load(part, mnist_root, cache, "cpu")
    extractor = EXTRACTORS["classifier"].factory(data, cache, "cpu", lambda line: None)
    blurred = torch.nn.functional.avg_pool2d(data.test.images[:1100].float(), 3, 1, 1)
    return extractor(data.train.images[:1300]), extractor(blurred.round().byte())


def with_their_subsets(real: Array, fake: Array, count: int, size: int) -> Pairs:
    """All pairs, with the subsets that torch-fidelity draws for (real, fake)."""
    draws = np.random.RandomState(2020)
    chosen: tuple[list[NDArray[np.int64]], list[NDArray[np.int64]]] = [], []
    for _ in range(count):
        for values, rows in zip((real, fake), chosen, strict=True):
            rows.append(draws.choice(len(values), size, replace=False))
    inside = within(real, real.mean(axis=0), np.array(chosen[0]))
    return between(inside, within(fake, inside.centre, np.array(chosen[1])))


def agrees_with_torch_fidelity(real: Array, fake: Array) -> None:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kid_features_to_metric
    from torch_fidelity.metric_prc import prc_features_to_metric

    one, two = torch.from_numpy(np.array(real)), torch.from_numpy(np.array(fake))
    theirs = kid_features_to_metric(one, two, kid_subsets=12, kid_subset_size=400, verbose=False,
                                    rng_seed=2020)
    ours = unbiased(with_their_subsets(real, fake, 12, 400))[1:]
    assert ours.mean() == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    assert ours.std() == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-6)
    theirs = prc_features_to_metric(two, one, prc_neighborhood=3, verbose=False)
    # Theirs is a mean in float32: the counts are what is exact.
    counts = precision(features(real), features(fake)) * len(fake), \
        recall(features(real), features(fake)) * len(real)
    expected = theirs["precision"] * len(fake), theirs["recall"] * len(real)
    assert counts[0] == pytest.approx(round(expected[0]), abs=1e-9)
    assert counts[1] == pytest.approx(round(expected[1]), abs=1e-9)
    assert 0 < counts[0] < len(fake)
    statistics = [fid_features_to_statistics(values) for values in (one, two)]
    distance = fid_statistics_to_metric(*statistics, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(features(real), features(fake)) == pytest.approx(distance, rel=1e-6)


def test_random_features_score_as_torch_fidelity_scores_them(
    random_sets: tuple[Array, Array]
) -> None:
    agrees_with_torch_fidelity(*random_sets)


def test_real_features_score_as_torch_fidelity_scores_them(
    real_sets: tuple[Features, Features]
) -> None:
    from torch_fidelity.metric_isc import isc_features_to_metric

    real, fake = real_sets
    agrees_with_torch_fidelity(real.values, fake.values)
    assert fake.logits is not None
    theirs = isc_features_to_metric(torch.from_numpy(fake.logits))
    assert class_score(fake, 10) == pytest.approx(theirs["inception_score_mean"], rel=1e-9)


def test_all_pairs_are_those_of_the_plain_formula(random_sets: tuple[Array, Array]) -> None:
    real, fake = random_sets

    def kernel(x: Array, y: Array) -> Array:
        return (x @ y.T / x.shape[1] + 1) ** 3

    inner = [(kernel(v, v).sum() - np.trace(kernel(v, v))) / (len(v) * (len(v) - 1))
             for v in (real, fake)]
    expected = inner[0] + inner[1] - 2 * kernel(real, fake).mean()
    assert kernel_distance(features(real), features(fake)) == pytest.approx(expected, rel=1e-9)

    gaps = np.sqrt(np.square(real[:, None] - fake[None, :200]).sum(axis=2))
    own = np.sqrt(np.square(real[:, None] - real[None]).sum(axis=2))
    radius = np.sort(own, axis=1)[:, 5]  # its own distance, 0, comes first
    one, two = features(real), features(fake[:200])
    assert density(one, two) == pytest.approx((gaps < radius[:, None]).sum() / (5 * 200), rel=1e-12)
    assert coverage(one, two) == pytest.approx((gaps.min(axis=1) < radius).mean(), rel=1e-12)


def test_block_size_changes_nothing(
    random_sets: tuple[Array, Array], monkeypatch: pytest.MonkeyPatch
) -> None:
    def scores() -> tuple[list[float], list[float]]:
        one, two = (features(values) for values in random_sets)
        return ([metric(one, two) for metric in ALL[3:6]], [metric(one, two) for metric in ALL[6:]])

    sums, shares = scores()
    for size in (64, 1230, 5000):
        monkeypatch.setattr(blocks, "BLOCK", size)
        again = scores()
        assert again[0] == pytest.approx(sums, rel=1e-9)
        assert again[1] == shares


def test_kernel_distance_closed_form_and_symmetry() -> None:
    one, two = features(np.array([[0.0], [1.0]])), features(np.array([[2.0], [3.0]]))
    # Within {0, 1}: 1; within {2, 3}: 343; across: (1 + 1 + 27 + 64) / 4.
    assert kernel_distance(one, two) == pytest.approx(1 + 343 - 2 * 93 / 4, rel=1e-12)
    assert kernel_distance(two, one) == pytest.approx(297.5, rel=1e-12)


def test_kernel_distance_under_the_null_is_centred_on_0() -> None:
    draws = np.random.default_rng(1)
    found = np.array([kernel_distance(features(draws.standard_normal((120, 8))),
                                      features(draws.standard_normal((120, 8))))
                      for _ in range(200)])
    assert 0.35 < (found < 0).mean() < 0.7  # skewed: somewhat more than half lie below
    assert abs(found.mean()) < 3.5 * found.std() / math.sqrt(200)
    assert found.std() > 0


def test_subsets_spread_around_the_estimate_over_all_pairs() -> None:
    draws = np.random.default_rng(2)
    one, two = features(draws.standard_normal((2500, 6))), features(
        draws.standard_normal((2400, 6)) * 1.3)
    mean, spread = kernel_distance_of_subsets(one, two), kernel_distance_spread(one, two)
    assert abs(mean - kernel_distance(one, two)) < spread / 2
    assert 0 < spread < mean
    assert kernel_distance_of_subsets(features(one.values), features(two.values)) == mean


def test_subsets_have_their_size_and_no_member_twice() -> None:
    rows = draw_subsets(1500, "real")
    assert rows.shape == (100, 1000)
    assert all(len(set(subset)) == 1000 for subset in rows.tolist())
    assert rows.min() == 0
    assert rows.max() == 1499
    assert not np.array_equal(rows, draw_subsets(1500, "fake"))
    assert draw_subsets(999, "real").shape == (0, 0)


def test_neighbours_of_identical_and_of_distant_sets() -> None:
    values = np.random.default_rng(3).integers(0, 1000, (400, 5)).astype(float)
    one = features(values)
    same = [metric(one, features(values.copy())) for metric in (precision, recall, coverage)]
    assert same == [1, 1, 1]
    # Each real ball holds its centre and the four nearer than its edge.
    assert density(one, features(values.copy())) == pytest.approx(1, abs=0.01)
    far = features(values + 1e5)
    assert [m(one, far) for m in (precision, recall, density, coverage)] == [0, 0, 0, 0]


def test_the_edge_belongs_to_the_balls_of_precision_and_not_to_those_of_density() -> None:
    """Whole numbers, so that every distance is exact."""
    real = np.array([[-2.0], [-1], [0], [1], [2], [100], [200], [300]])
    radii = np.sort(np.abs(real - real.T), axis=1)
    assert (radii[-1, 3], radii[0, 5]) == (298, 102)
    # 300's ball of three reaches to 598, and -2's wide ball to -104.
    ball = [(598, 1 / 6), (599, 0)]
    rest = [[10_000.0], [20_000], [30_000], [40_000], [50_000]]
    for place, share in ball:
        assert precision(features(real), features(np.array([[place], *rest]))) == share
    for place, expected in ((-103, True), (-104, False)):
        gaps = np.abs(place - real[:, 0])
        assert (gaps[0] < radii[0, 5]) == expected
        found = density(features(real), features(np.array([[place], *rest])))
        assert found == pytest.approx((gaps < radii[:, 5]).sum() / (5 * 6))
        found = coverage(features(real), features(np.array([[place], *rest])))
        assert found == pytest.approx((gaps < radii[:, 5]).sum() / 8)


def test_the_edge_belongs_to_the_balls_of_recall() -> None:
    fake = np.array([[-2.0], [-1], [0], [1], [2], [100], [200], [300]])  # 300's ball reaches to 598
    for place, share in ((598, 1 / 6), (599, 0)):
        real = np.array([[place], [10_000.0], [20_000], [30_000], [40_000], [50_000 - place]])
        assert real.mean() == 25_000  # a whole number, so that every distance is exact
        assert recall(features(real), features(fake)) == share


@pytest.mark.parametrize(("samples", "width"), [(1001, 24), (1230, 100), (2100, 512)])
def test_equal_samples_lie_on_the_edge_of_each_others_balls(samples: int, width: int) -> None:
    """Their distance is 0 up to rounding, and so is the radius."""
    draws = np.random.default_rng(12)
    real, fake = draws.gamma(2.0, size=(2, samples, width)) + 3
    one, two = (draws.choice(samples, 30, replace=False) for _ in range(2))
    real[one] = fake[two] = real[0]
    found = pairs(features(real), features(fake))
    assert found.in_real_ball[two].all()
    assert found.in_fake_ball[one].all()
    assert not found.covered[one].any()
    assert found.covered.any()


def exact(real: NDArray[np.int64], fake: NDArray[np.int64]) -> list[float]:
    """Precision, recall, density and coverage of whole numbers, without any rounding."""
    def squared(x: NDArray[np.int64], y: NDArray[np.int64]) -> NDArray[np.int64]:
        squares = np.square(x).sum(axis=1)[:, None] + np.square(y).sum(axis=1)
        return np.asarray(squares - 2 * (x @ y.T))

    def radii(x: NDArray[np.int64], neighbour: int) -> NDArray[np.int64]:
        among = squared(x, x)
        np.fill_diagonal(among, np.iinfo(np.int64).max)
        return np.sort(among, axis=1)[:, neighbour - 1]

    apart = squared(real, fake)
    wide = apart < radii(real, 5)[:, None]
    return [(apart <= radii(real, 3)[:, None]).any(axis=0).mean(),
            (apart <= radii(fake, 3)).any(axis=1).mean(), wide.sum() / (5 * len(fake)),
            wide.any(axis=1).mean()]


@pytest.mark.parametrize("kind", [
    "binary", "digits", "counts", "copies", "two points", "shifted", "wide", "thirds"])
@pytest.mark.parametrize("block", [1024, 100])
def test_neighbours_among_equal_distances_are_exact(
    kind: str, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features with few values have many ties, which the mean that is subtracted would decide."""
    monkeypatch.setattr(blocks, "BLOCK", block)
    draws = np.random.default_rng(13)
    width = {"wide": 512, "digits": 3, "counts": 2}.get(kind, 8)
    most = {"digits": 10, "counts": 40}.get(kind, 2)
    real, fake = (draws.integers(0, most, (n, width)) for n in (700, 610))
    if kind == "copies":
        fake[:300], real[50:90], fake[400:450] = real[:300], real[0], fake[0]
    elif kind == "two points":
        real[:350], real[350:], fake[:] = 0, 1, real[-1]
        fake[:10, 0] += 1
    elif kind == "wide":  # one feature of many is 1
        real, fake = (np.eye(512, dtype=np.int64)[draws.integers(0, 512, n)] for n in (700, 610))
    shift, scale = (10**6 if kind == "shifted" else 0), (1 / 3 if kind == "thirds" else 1)
    one, two = (features((values + shift) * scale) for values in (real, fake))
    assert [metric(one, two) for metric in (precision, recall, density, coverage)] == \
        pytest.approx(exact(real, fake), rel=1e-12)


def test_precision_and_recall_tell_missing_modes_from_bad_samples() -> None:
    draws = np.random.default_rng(4)
    both = np.concatenate([draws.standard_normal((200, 3)), draws.standard_normal((200, 3)) + 50])
    one_mode = features(draws.standard_normal((400, 3)))
    assert precision(features(both), one_mode) > 0.9
    assert 0.4 < recall(features(both), one_mode) < 0.55
    assert 0.4 < coverage(features(both), one_mode) < 0.52
    assert recall(one_mode, features(both)) > 0.9
    assert 0.4 < precision(one_mode, features(both)) < 0.55


def test_normalised_distance_is_1_for_the_mean_alone_and_free_of_scale() -> None:
    draws = np.random.default_rng(5)
    real, fake = draws.gamma(2.0, size=(300, 7)), draws.gamma(2.5, size=(200, 7))
    collapsed = features(np.repeat(real.mean(axis=0)[None], 50, axis=0))
    assert frechet_distance_norm(features(real), collapsed) == pytest.approx(1, rel=1e-9)
    small = frechet_distance_norm(features(real), features(fake))
    large = frechet_distance_norm(features(real * 40), features(fake * 40))
    assert small == pytest.approx(large, rel=1e-9)
    trace = np.trace(np.cov(real, rowvar=False))
    assert small == pytest.approx(frechet_distance(features(real), features(fake)) / trace)


def test_extrapolation_removes_most_of_the_bias_of_few_samples() -> None:
    """N(0.1, 1.44 I) against N(0, I) in 16 dimensions: 16 (0.1² + 0.2²) = 0.8."""
    draws = np.random.default_rng(6)
    real = draws.standard_normal((20_000, 16))
    real = (real - real.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(
        np.cov(real, rowvar=False))).T
    one = features(real)
    found = np.array([(frechet_distance(one, two), frechet_distance_inf(one, two))
                      for two in (features(draws.standard_normal((600, 16)) * 1.2 + 0.1)
                                  for _ in range(12))])
    plain, extrapolated = found.mean(axis=0)
    assert plain > 0.95
    assert extrapolated == pytest.approx(0.8, abs=0.05)
    again = features(draws.standard_normal((600, 16)))
    assert frechet_distance_inf(one, again) == frechet_distance_inf(one, features(again.values))


def test_scatter_of_some_rows_is_numpys() -> None:
    values = np.random.default_rng(7).gamma(2.0, size=(5000, 6)) + 100
    rows = np.arange(0, 5000, 3)
    found = scatter(values, values[rows].mean(axis=0), rows) / (len(rows) - 1)
    np.testing.assert_allclose(found, np.cov(values[rows], rowvar=False), rtol=1e-12, atol=1e-12)


def test_extrapolation_is_the_plain_one_of_15_drawn_sets() -> None:
    """The sums of most of the sets are those of all samples less those that were not drawn."""
    draws = np.random.default_rng(10)
    one, two = features(draws.gamma(2.0, size=(900, 8)) + 50), draws.gamma(2.1, size=(777, 8)) + 50
    sizes = np.linspace(77, 777, 15).astype(int)
    found = []
    for i, size in enumerate(sizes):
        order = torch.randperm(777, generator=rng.generator(0, "fd_inf", i)).numpy()
        found.append(frechet_distance(one, features(two[order[:size]])))
    expected = np.polyfit(1 / sizes, found, 1)[1]
    assert frechet_distance_inf(one, features(two)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("columns", [1, 4, 63, 64, 65, 300, 1024])
def test_the_nearest_of_a_block_are_those_of_a_sort(columns: int) -> None:
    """With ties and repeats, in rows and in columns, beside those known before."""
    draws = np.random.default_rng(11)
    table = draws.integers(0, 400, (130, columns)).astype(float)
    known = np.sort(draws.integers(0, 40, (130, 5)).astype(float), axis=1)
    for distances in table, np.asfortranarray(table):
        for before in known, np.full((130, 5), np.inf):
            expected = np.sort(np.concatenate([before, distances], axis=1), axis=1)[:, :5]
            np.testing.assert_array_equal(blocks._least(before, distances), expected)


def test_one_pass_serves_all_metrics_of_a_pair(random_sets: tuple[Array, Array]) -> None:
    one, two = (features(values) for values in random_sets)
    first = pairs(one, two)
    assert pairs(one, two) is first
    other = features(random_sets[1] + 1)
    assert pairs(one, other) is not first
    assert pairs(one, other).real is first.real
    assert pairs(features(random_sets[0] * 2), two) is not first


def good(samples: int = 1200, width: int = 4) -> Array:
    return np.random.default_rng(8).standard_normal((samples, width))


@pytest.mark.parametrize("metric", ALL)
def test_bad_features_are_refused_by_name(metric: Callable[[Features, Features], float]) -> None:
    for value in (np.nan, np.inf):
        bad = good()
        bad[700, 2] = value
        with pytest.raises(NonFiniteFeatures, match="generated sample's feature of test is not"):
            metric(features(good()), features(bad))
        with pytest.raises(FeatureError, match="real feature of test is not finite; check"):
            metric(features(bad), features(good()))
    with pytest.raises(FeatureError, match=r"shape \(1200, 4\) do not compare .* \(1200, 5\)"):
        metric(features(good()), features(good(width=5)))
    with pytest.raises(FeatureError, match="do not compare with other's"):
        metric(features(good()), Features(good(), None, "other"))
    with pytest.raises(FeatureError, match="same for all 1,200 real examples"):
        metric(features(np.ones((1200, 4))), features(good()))
    for one, two in ((1, 1200), (1200, 1)):
        with pytest.raises(FeatureError, match=r"needed, and there are 1;|needs .* there are 1;"):
            metric(features(good(one)), features(good(two)))
    assert math.isfinite(metric(features(good()), features(np.ones((1200, 4)))))  # a collapse


@pytest.mark.parametrize(("metric", "least"), [
    (precision, 4), (recall, 4), (density, 6), (coverage, 6), (kernel_distance_of_subsets, 1000),
    (kernel_distance_spread, 1000), (kernel_distance, 2), (frechet_distance, 2)])
def test_the_least_number_of_samples(
    metric: Callable[[Features, Features], float], least: int
) -> None:
    assert math.isfinite(metric(features(good(least)), features(good(least))))
    with pytest.raises(FeatureError, match=f"at least {least:,} generated samples are needed"):
        metric(features(good()), features(good(least - 1)))


def test_an_extrapolation_needs_10_samples_for_each_feature() -> None:
    assert math.isfinite(frechet_distance_inf(features(good()), features(good(40))))
    with pytest.raises(FeatureError, match=r"over 4 features needs 40 .* are 39: with fewer, it"):
        frechet_distance_inf(features(good()), features(good(39)))


def test_an_extrapolation_takes_off_as_much_too_much_as_it_says(
    monkeypatch: pytest.MonkeyPatch
) -> None:
    """N(0.1, 1.44 I) against N(0, I) in 64 dimensions: 3.2. The numbers of the docstring."""
    monkeypatch.setattr(frechet, "LEAST_PER_FEATURE", 4)
    draws = np.random.default_rng(1)
    real = features(np.zeros((70, 64)) + np.eye(70, 64))
    real.__dict__["gaussian"] = Gaussian(np.zeros(64), np.eye(64))
    for samples, share, repetitions in ((4, 0.18, 24), (10, 0.05, 24), (30, 0.01, 8)):
        found = [frechet_distance_inf(real, features(
            draws.standard_normal((samples * 64, 64)) * 1.2 + 0.1)) for _ in range(repetitions)]
        assert 1 - np.mean(found) / 3.2 == pytest.approx(share, abs=0.04), samples


def test_errors_are_the_users_and_a_non_finite_sample_is_a_divergence() -> None:
    assert issubclass(FeatureError, UserError)
    assert issubclass(NonFiniteFeatures, FloatingPointError)
    bad = np.zeros((20, 3))
    bad[3, 1] = np.nan
    with pytest.raises(NonFiniteFeatures, match="logit of test is not finite"):
        class_score(features(np.zeros((20, 1)), bad), 1)


@pytest.mark.parametrize("rank", [30, 24])
def test_a_triangular_root_gives_what_any_root_gives(rank: int) -> None:
    """Of full rank the root is triangular; below, it is that of the eigenvectors."""
    draws = np.random.default_rng(9)
    real, fake = (draws.standard_normal((200, rank)) @ draws.standard_normal((rank, 30))
                  for _ in range(2))
    one = features(real)
    spread = np.cov(real, rowvar=False)
    np.testing.assert_allclose(one.gaussian.factor @ one.gaussian.factor.T, spread, atol=1e-10)
    assert rank < 30 or not np.triu(one.gaussian.factor, 1).any()
    eigenvalues, vectors = np.linalg.eigh(spread)
    other = Features(real, None, "test")
    other.__dict__["gaussian"] = Gaussian(real.mean(axis=0),
                                          vectors * np.sqrt(eigenvalues.clip(min=0)))
    assert frechet_distance(one, features(fake)) == pytest.approx(
        frechet_distance(other, features(fake)), rel=1e-6)
