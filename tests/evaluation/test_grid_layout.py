"""The layout of a grid: as text and back, and what of another origin is refused."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from gan_bench.evaluation.grid_layout import (
    GridLayout,
    columns_of,
    read_layout,
    unrecorded_layouts,
)

LAYOUT = GridLayout.of(10, 4, 28, 20, 2)


def test_a_layout_is_read_as_it_was_written() -> None:
    assert read_layout(LAYOUT.as_text()) == LAYOUT
    assert LAYOUT.size == (3 * 30 + 2, 4 * 22 + 2)
    assert LAYOUT.scale == 5
    assert LAYOUT.corners[:2] == [(2, 2), (2, 24)]
    assert LAYOUT.corners[-1] == (62, 24)
    assert LAYOUT.fits(5 * 92, 5 * 90)
    assert not LAYOUT.fits(5 * 92 + 1, 5 * 90)
    assert not LAYOUT.fits(92, 90)


@pytest.mark.parametrize("changes", [{"samples": 0}, {"scale": 0}, {"height": -1}, {"width": 1.5},
                                     {"columns": "4"}, {"padding": -1}, {"scale": True},
                                     {"other": 1}])
def test_another_record_is_no_layout(changes: dict[str, object]) -> None:
    assert read_layout(json.dumps(asdict(LAYOUT) | {"padding": 0})) is not None
    assert read_layout(json.dumps(asdict(LAYOUT) | changes)) is None


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "{}", "[" * 100_000])
def test_another_text_is_no_layout(text: str) -> None:
    assert read_layout(text) is None


def test_a_square_grid_has_as_many_columns_as_rows() -> None:
    assert [columns_of(count) for count in (1, 2, 4, 5, 9, 10, 63, 64, 65)] == [
        1, 2, 2, 3, 3, 4, 8, 8, 9]


def test_the_size_of_a_grid_without_a_record_gives_its_layout() -> None:
    for side in range(1, 257):
        layout = GridLayout.of(64, 8, side, side, 2)
        high, wide = (layout.scale * length for length in layout.size)
        assert layout in unrecorded_layouts(high, wide)
        assert unrecorded_layouts(high + 1, wide) == []
    assert [layout.height for layout in unrecorded_layouts(442, 442)] == [1, 2, 53]
    assert unrecorded_layouts(3, 3) == []
