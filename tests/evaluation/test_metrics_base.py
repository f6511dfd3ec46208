"""What metrics remember of features: results, as long as the features exist."""

from __future__ import annotations

import gc
from weakref import ref

import numpy as np

from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics.base import once, once_per_set
from gan_bench.evaluation.metrics.pairwise import pairs, pairs_of_real


def features(*values: float) -> Features:
    return Features(np.array(values)[:, None], None, "test")


def test_a_result_of_two_sets_is_computed_once_for_each_pair() -> None:
    calls: list[tuple[Features, Features]] = []

    @once
    def gap(real: Features, fake: Features) -> float:
        calls.append((real, fake))
        return float(real.values.mean() - fake.values.mean())

    real, other, fake = features(1, 3), features(5, 7), features(1, 1)
    assert [gap(real, fake), gap(real, fake), gap(real, features(1, 1))] == [1, 1, 1]
    assert len(calls) == 2  # an equal set is not the same set
    assert [gap(other, fake), gap(other, fake), gap(real, fake)] == [5, 5, 1]
    assert len(calls) == 4
    assert gap(real, real) == 0


def test_a_result_of_one_set_is_computed_once() -> None:
    calls: list[Features] = []

    @once_per_set
    def least(real: Features) -> None:
        calls.append(real)

    real = features(1, 3)
    assert (least(real), least(real), least(features(1, 3))) == (None, None, None)
    assert len(calls) == 2


def test_results_go_when_their_features_go() -> None:
    real = features(*range(10))
    for fake in features(*range(9)), real:  # a set compared with itself too
        assert pairs(real, fake) is pairs(real, fake)
    inside = ref(pairs_of_real(real))
    across = ref(pairs(real, real))
    assert None not in (inside(), across())
    del real, fake
    gc.collect()
    assert (inside(), across()) == (None, None)
