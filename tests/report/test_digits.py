"""Numbers as readers see them."""

from __future__ import annotations

import math

import pytest

from gan_bench.compare.stats.summary import Estimate, summarise_scores
from gan_bench.report.alignment import aligned_cells
from gan_bench.report.digits import (
    decimals_of,
    format_interval,
    format_mean,
    format_p,
    format_value,
    true_minus,
)


@pytest.mark.parametrize(("error", "decimals"), [
    (0.63, 2), (0.063, 3), (6.3, 1), (63, 0), (1234, 0), (1.0, 1), (0, None), (math.nan, None),
    (math.inf, None)])
def test_two_digits_of_the_standard_error(error: float, decimals: int | None) -> None:
    assert decimals_of(error) == decimals


def test_a_mean_has_the_digits_that_its_standard_error_allows() -> None:
    scores = {0: 20.1234567, 1: 21.1234567, 2: 19.1234567, 3: 20.1234567}  # its error: 0.41
    assert format_mean(summarise_scores(scores, "lower")) == "20.12 [18.82, 21.42]"
    assert format_mean(summarise_scores({0: 20.1234567}, "lower")).startswith("20.12 (one seed")


@pytest.mark.parametrize(("value", "signed", "decimals", "text"), [
    (-4.256, False, 2, "−4.26"), (4.256, True, 1, "+4.3"), (-0.5, True, None, "−0.5"),
    (-math.inf, False, 2, "−∞"), (math.nan, False, 2, "–"), (1.5e9, False, 0, "1500000000"),
    (1.23456e30, False, 0, "1.235e+30"),
    (0.001234567, False, 9, "0.001234567"), (12.3456785, False, 8, "12.3456785"),
    (1234570.0, False, 0, "1234570"), (0.001234567, False, 7, "0.0012346")])
def test_a_value(value: float, signed: bool, decimals: int | None, text: str) -> None:
    assert format_value(value, signed, decimals) == text


def test_an_interval_has_the_digits_of_its_number() -> None:
    assert format_interval(Estimate(-3.14159, -4.0, -2.3), signed=True) == "−3.14 [−4.00, −2.30]"
    assert format_interval(Estimate(math.nan)) == "–"
    assert format_interval(Estimate(0.5, 0.0004, 0.9996), signed=True) == "+0.50 [+0.0004, +1.00]"
    assert format_interval(Estimate(0.5, -0.0004, 0.9996), signed=True) == "+0.50 [−0.0004, +1.00]"


def test_a_p_shows_its_side_of_the_level() -> None:
    assert [*map(format_p, (0.0499, 0.05, 0.0501, 0.123456, math.nan))] == [
        "0.0499", "0.05", "0.0501", "0.12", "–"]


def test_names_keep_their_hyphens() -> None:
    text = "dcgan-1 is better than lr=-1: difference -3.2 [-4, -.5], a-2, -∞"
    assert true_minus(text) == "dcgan-1 is better than lr=-1: difference −3.2 [−4, −.5], a-2, −∞"


def test_points_stand_below_each_other() -> None:
    cells = aligned_cells(["18.25 [17, 19]", "9.5", "∞", "–", "7 (one seed)", "<b>"])
    texts = [str(cell) for cell in cells]
    hidden = '<span style="visibility: hidden" aria-hidden="true">{}</span>'
    assert texts == ["18.25<small>[17, 19]</small>", "9.5" + hidden.format("0"), "∞", "–",
                     "7" + hidden.format(".00") + "<small>(one seed)</small>", "&lt;b&gt;"]
