"""How many pictures a page has, and how many bytes they take."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from gan_bench.report.samples import BUDGET, MAX_PICTURES, Pictures, _few, page_pictures


def test_pictures_within_the_budget() -> None:
    rng = np.random.default_rng(0)

    def grid(side: int) -> bytes:
        canvas = np.full((2 + 8 * (side + 2),) * 2 + (3,), 128, np.uint8)
        for y in range(2, len(canvas), side + 2):
            for x in range(2, len(canvas), side + 2):
                canvas[y:y + side, x:x + side] = rng.integers(0, 256, (side, side, 3))
        buffer = BytesIO()
        Image.fromarray(canvas).save(buffer, "PNG")
        return buffer.getvalue()

    small = page_pictures(Pictures({"a": {0: {1: grid(4)}}}, [0], [1]))
    assert small.notes == ()
    assert (small.width, small.height) == (39, 39)  # 8 × 4 and 7 between them
    assert Image.open(BytesIO(small.grids["a"][0][1])).format == "WEBP"
    one = grid(32)
    many = page_pictures(Pictures({"a": {0: dict.fromkeys(range(30), one)}}, [0], [*range(30)]))
    assert many.notes == ("16 of 64 samples of each grid",)
    assert many.width == 4 * 32 + 3
    sizes = [len(content) for content in many.grids["a"][0].values()]
    assert len(sizes) == 30
    assert BUDGET / 2 < sum(sizes) <= BUDGET
    grids = Image.open(BytesIO(one)), Image.open(BytesIO(many.grids["a"][0][0]))
    whole, part = (np.asarray(picture.convert("RGB")) for picture in grids)
    for i in range(4):  # those of the upper left corner
        np.testing.assert_array_equal(part[33 * i:33 * i + 32, 33:65],
                                      whole[2 + 34 * i:34 + 34 * i, 36:68])


@pytest.mark.parametrize(("variants", "seeds", "steps"), [(4, 5, 5), (2, 100, 100), (24, 10, 50),
                                                          (100, 3, 3), (1, 1, 1)])
def test_no_more_pictures_than_anyone_looks_through(variants: int, seeds: int, steps: int) -> None:
    some, when = _few(variants, [*range(seeds)], [*range(0, 10 * steps, 10)])
    assert variants * len(some) * len(when) <= MAX_PICTURES or (len(some), len(when)) == (1, 2)
    assert when[-1] == 10 * (steps - 1)
    assert when[0] == 0
    if variants * seeds * steps <= MAX_PICTURES:
        assert (len(some), len(when)) == (seeds, steps)
