"""The figures of a comparison: each a function from frames to a matplotlib Figure.

    save(learning_curves(results, "fd_classifier"), Path("curves.svg"))

A variant has the same colour, marker and line style in all of them (`styles`). Where there is
nothing to draw, the figure says why.
"""

from __future__ import annotations

from gan_bench.report.figures.curves import dynamics, learning_curves
from gan_bench.report.figures.files import render, save
from gan_bench.report.figures.heat_map import heat_map
from gan_bench.report.figures.look import Look, drawn_for
from gan_bench.report.figures.mosaics import mosaic, mosaic_over_steps
from gan_bench.report.figures.profiles import profiles
from gan_bench.report.figures.seed_dots import seed_dots
from gan_bench.report.figures.style import INK, Style, styles

__all__ = ["INK", "Look", "Style", "drawn_for", "dynamics", "heat_map", "learning_curves", "mosaic",
           "mosaic_over_steps", "profiles", "render", "save", "seed_dots", "styles"]
