"""The names of pictures in MLflow, written and read."""

from __future__ import annotations

import pytest

from gan_bench.tracking.runs.tags import parse_picture, picture


def test_the_name_of_a_grid_says_its_step_and_time() -> None:
    name, thumbnail = picture("abc", {"step": 20, "t": 1234, "name": "samples"})
    assert parse_picture(name) == (20, 1234)
    assert parse_picture(thumbnail) is None


@pytest.mark.parametrize("name", ["nearest", "samples/2"])
def test_other_pictures_are_no_grids(name: str) -> None:
    file, _ = picture("abc", {"step": 20, "t": 1234, "name": name})
    assert parse_picture(file) is None


@pytest.mark.parametrize("name", ["", "samples.png", "samples+step+-1+timestamp+3+0a.png",
                                  "samples+step+1+timestamp+" + "9" * 19 + "+0a.png"])
def test_files_of_another_origin_are_no_grids(name: str) -> None:
    assert parse_picture(name) is None
