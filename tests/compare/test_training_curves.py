"""What is read off the training curves of a variant's runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from gan_bench.compare.training_curves import TrainingCurve, summarise_curves


def curve(values: list[float], status: str = "FINISHED", variant: str = "a", seed: int = 0,
          ) -> TrainingCurve:
    steps = np.arange(1.0, len(values) + 1) * 10
    return TrainingCurve(variant, seed, status, steps, steps / 2, np.array(values))


def test_courses_in_closed_form() -> None:
    runs = [curve([5, 1, 3]), curve([9, 3, 5], seed=1), curve([9], "DIVERGED", seed=2),
            curve([8, 6, 4], variant="b"), curve([8, 4], "KILLED", variant="b", seed=1)]
    a, b = summarise_curves(runs, "lower", "a").values()
    assert (a.best.value, a.area.value) == (2.0, (2.5 + 5) / 2)  # trapezia: 2.5 and 5
    assert a.best.note == "over the 2 of 3 runs that did not diverge"
    assert a.threshold == 4.0  # of the last ones, 3 and 5
    assert a.steps is not None
    assert b.steps is not None
    assert (a.steps.n, a.steps.reached, b.steps.n, b.steps.reached) == (3, 2, 1, 1)
    assert (a.steps.median.value, b.steps.median.value) == (20.0, 30.0)
    assert a.steps.mean == 20 + 10 / 3  # the one that diverged is not there at 30 either
    assert b.seconds is not None
    assert b.seconds.median.value == 15.0
    # The quickest never gets there: that does not make the one that does look like half of them.
    quick = replace(curve([9, 8, 7], seed=1), seconds=np.array([1.0, 2.0, 3.0]))
    curves = [curve([5, 1, 3]), quick, curve([9, 9, 9], seed=2)]
    (half,) = summarise_curves(curves, "lower", "a").values()
    assert half.seconds is not None
    assert half.steps is not None
    assert (half.seconds.reached, half.steps.reached) == (1, 1)
    assert np.isnan([half.seconds.median.value, half.steps.median.value]).all()
    assert summarise_curves(runs, None, "a")["a"].steps is None
    assert summarise_curves(runs, "higher", "a")["b"].best.value == 8.0
