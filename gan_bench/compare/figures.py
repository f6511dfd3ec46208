"""The figures of a comparison: each a function from frames to a matplotlib Figure.

    save(learning_curves(results, "fd_classifier"), Path("curves.svg"))

A variant has the same colour, marker and line style in all of them (`styles`). Where there is
nothing to draw, the figure says why.
"""

from __future__ import annotations

from gan_bench.compare.curves import dynamics, learning_curves
from gan_bench.compare.dots import seed_dots
from gan_bench.compare.drawing import INK, Style, render, save, styles
from gan_bench.compare.heat import heat_map
from gan_bench.compare.mosaics import mosaic, mosaic_over_steps
from gan_bench.compare.profiles import profiles

__all__ = ["INK", "Style", "dynamics", "heat_map", "learning_curves", "mosaic",
           "mosaic_over_steps", "profiles", "render", "save", "seed_dots", "styles"]
