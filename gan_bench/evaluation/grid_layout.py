"""Where the samples of a grid stand: written into the grid's PNG, and read by reports.

It imports no torch, because reports do not.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

KEYWORD = "gan-bench grid"  # of the PNG's text chunk with the layout
GREY = 128  # the level between samples
PADDING = 2  # pixels between the samples of a run's grid
SIDE = 448  # pixels, about: small images are enlarged, because a browser would blur them
UNRECORDED = 64  # samples in a grid that was written before grids had a record


@dataclass(frozen=True)
class GridLayout:
    """Samples in rows, each as large as the others, with grey between and around them.

    Attributes:
        samples: Their number.
        columns: Samples in a row.
        height: Of a sample, in pixels before the picture is enlarged, as the following two are.
        width: Of a sample.
        padding: Between two samples, and around all.
        scale: Pixels of the picture for each pixel of a sample, in both directions.
    """

    samples: int
    columns: int
    height: int
    width: int
    padding: int
    scale: int

    @classmethod
    def of(cls, samples: int, columns: int, height: int, width: int, padding: int) -> GridLayout:
        """Return the layout whose scale gives a picture of about `SIDE` pixels."""
        scale = max(1, round(SIDE / (columns * (width + padding) + padding)))
        return cls(samples, columns, height, width, padding, scale)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture before it is enlarged."""
        rows = -(-self.samples // self.columns)
        return (rows * (self.height + self.padding) + self.padding,
                self.columns * (self.width + self.padding) + self.padding)

    @property
    def corners(self) -> list[tuple[int, int]]:
        """The upper left corner of each sample, (y, x), before the picture is enlarged."""
        return [(i // self.columns * (self.height + self.padding) + self.padding,
                 i % self.columns * (self.width + self.padding) + self.padding)
                for i in range(self.samples)]

    def fits(self, height: int, width: int) -> bool:
        """Whether a picture of this size can have the layout: another program may resize it."""
        return self.size == (height / self.scale, width / self.scale)

    def as_text(self) -> str:
        """Return the layout as the text of the PNG's chunk."""
        return json.dumps(asdict(self))


def columns_of(samples: int) -> int:
    """Return the number of columns of a square grid of samples."""
    return math.isqrt(max(samples - 1, 0)) + 1


def read_layout(text: str) -> GridLayout | None:
    """Return the layout that `GridLayout.as_text` has written; None for another text."""
    try:
        record = json.loads(text)
        layout = GridLayout(**record)
    except (ValueError, TypeError, RecursionError):
        return None
    least = {"padding": 0}
    valid = all(type(value) is int and value >= least.get(name, 1)
                for name, value in record.items())
    return layout if valid else None


def unrecorded_layouts(height: int, width: int) -> list[GridLayout]:
    """Return the layouts that a run's grid of this size can have if it holds no record.

    Such grids have 64 samples, so the size almost determines that of a sample: tiny samples,
    enlarged, give the size of a few large ones. The largest scale is first.
    """
    columns = columns_of(UNRECORDED)
    layouts = []
    for scale in range(min(height, width) // columns, 0, -1):
        sides = [(length / scale - PADDING) / columns - PADDING for length in (height, width)]
        if all(side.is_integer() and side >= 1 for side in sides):
            layouts.append(GridLayout(UNRECORDED, columns, int(sides[0]), int(sides[1]), PADDING,
                                      scale))
    return layouts
