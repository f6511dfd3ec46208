"""Means and differences over seeds against closed forms, and the table at the end."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from runs import a_run
from scipy import stats as scipy_stats

from gan_bench.compare.stats import Estimate, difference, mean_of, verdict
from gan_bench.compare.tables import summarise, summary_table
from gan_bench.outcome import Progress


def test_mean_has_the_t_interval() -> None:
    # 1, 2, 3: mean 2, standard error 1/√3, t(.975, 2) = 4.302653
    got = mean_of([1.0, 2.0, 3.0])
    assert got.value == 2
    assert got.high - 2 == pytest.approx(4.302652730 / math.sqrt(3))
    assert 2 - got.low == pytest.approx(4.302652730 / math.sqrt(3))


def test_difference_has_welchs_interval() -> None:
    a, b = [1.0, 2.0, 4.0, 4.5], [2.0, 9.0, 5.0]
    va, vb = np.var(a, ddof=1) / 4, np.var(b, ddof=1) / 3
    freedom = (va + vb) ** 2 / (va**2 / 3 + vb**2 / 2)
    half = scipy_stats.t.ppf(0.975, freedom) * math.sqrt(va + vb)
    got = difference(a, b)
    gap = np.mean(a) - np.mean(b)
    assert (got.value, got.low, got.high) == pytest.approx((gap, gap - half, gap + half))


def test_one_value_has_no_interval_and_equal_values_have_an_empty_one() -> None:
    assert math.isnan(mean_of([3.0]).low)
    assert math.isnan(difference([1.0], [1.0, 2.0]).high)
    assert mean_of([0.3, 0.3, 0.3]) == Estimate(pytest.approx(0.3), *[pytest.approx(0.3)] * 2)
    assert difference([1.0, 1.0], [3.0, 3.0]) == Estimate(-2, -2, -2)
    assert math.isnan(mean_of([]).value)


@pytest.mark.filterwarnings("error")
def test_nearly_equal_values_put_no_warning_on_the_screen() -> None:
    difference([1.0, 1.0 + 1e-16, 1.0], [1.0, 1.0 + 2e-16])


@pytest.mark.parametrize(("gap", "lower", "expected"), [
    (Estimate(-2, -3, -1), True, "better"), (Estimate(-2, -3, -1), False, "worse"),
    (Estimate(2, 1, 3), True, "worse"), (Estimate(2, 1, 3), False, "better"),
    (Estimate(1, -1, 3), True, "inconclusive"), (Estimate(1, math.nan, math.nan), True,
                                                 "inconclusive")])
def test_verdict(gap: Estimate, lower: bool, expected: str) -> None:
    assert verdict(gap, lower) == expected


def ended(tmp_path: Path, variant: str, state: str, score: float | None) -> Progress:
    run = a_run(tmp_path).model_copy(update={"variant": variant})
    scores = {} if score is None else {"fd_classifier": score}
    protocols = {name: {"extractor": "classifier"} for name in scores}
    return Progress(run, tmp_path, state=state, scores=scores,  # type: ignore[arg-type]
                    protocols=protocols)


def test_table_ranks_counts_what_is_lost_and_says_no_more_than_it_knows(tmp_path: Path) -> None:
    runs = [ended(tmp_path, "base", "FINISHED", x) for x in (10.0, 11.0, 12.0)]
    runs += [ended(tmp_path, "good", "FINISHED", x) for x in (1.0, 2.0)]
    runs += [ended(tmp_path, "good", "DIVERGED", 0.5)]
    runs += [ended(tmp_path, "lone[x]", "FINISHED", 5.0)]
    rows = {row.variant: row for row in summarise(runs, "base")}
    assert rows["good"].values == [1.0, 2.0]  # a diverged run's last score is no final score
    assert (rows["good"].lost, rows["good"].verdict) == (1, "better")
    assert (rows["base"].gap, rows["base"].verdict) == (None, None)
    assert rows["lone[x]"].verdict == "inconclusive"
    out = io.StringIO()
    Console(file=out, width=140).print(summary_table(list(rows.values()), "base"))
    lines = out.getvalue().splitlines()
    order = [line.split()[0] if "fd_c" not in line else line.split()[2] for line in lines[1:4]]
    assert order == ["good", "lone[x]", "base"]
    assert "2 of 3" in lines[1]
    assert "5 [one seed: no interval]" in lines[2]
