"""Samples side by side: of several runs, and of one run over training.

The samples come from the grids that runs write (`sample_grid.sample_picture`). A figure holds them
at their original size, and a viewer enlarges them without smoothing.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from gan_bench.evaluation.grid_layout import (
    GREY,
    KEYWORD,
    GridLayout,
    read_layout,
    unrecorded_layouts,
)
from gan_bench.report.figures.look import look
from gan_bench.report.figures.style import (
    LINE,
    SMALL,
    CaptionedFigure,
    add_notes,
    message_figure,
    new_figure,
    settings,
    width_of,
    wrapped,
)

CELL_WIDTH = 132  # pixels of samples side by side in a cell of a mosaic
MAX_UNCUT = 256  # pixels of a picture that is not cut
Pixels = NDArray[np.uint8]


def tiles(png: bytes) -> list[Pixels]:
    """Cut a grid of samples into its samples, (H, W, 3) uint8 at their own size.

    The grid says in a text chunk where they stand. Grids without it, of runs of older versions, are
    recognised by their size and by the grey between the samples. Another picture, of points of 2-D
    data for instance, is returned whole.

    Raises:
        OSError: The picture cannot be read.
    """
    with Image.open(io.BytesIO(png)) as picture:
        record = picture.info.get(KEYWORD)
        whole = np.asarray(picture.convert("RGB"))
    height, width = whole.shape[:2]
    if isinstance(record, str):
        recorded = read_layout(record)
        if recorded is None or not recorded.fits(height, width):
            return [whole]
        return _samples(whole, recorded)
    for layout in unrecorded_layouts(height, width):
        if _is_grey_between(whole, layout):
            return _samples(whole, layout)
    return [whole]


def _samples(whole: Pixels, layout: GridLayout) -> list[Pixels]:
    small = whole[::layout.scale, ::layout.scale]
    return [small[y:y + layout.height, x:x + layout.width] for y, x in layout.corners]


def _is_grey_between(whole: Pixels, layout: GridLayout) -> bool:
    gap = np.ones(layout.size, bool)
    for y, x in layout.corners:
        gap[y:y + layout.height, x:x + layout.width] = False
    gap = gap.repeat(layout.scale, axis=0).repeat(layout.scale, axis=1)
    return bool((whole[gap] == GREY).all())


def mosaic(pictures: Mapping[str, Mapping[int, bytes]]) -> Figure:
    """Return samples of every variant (row) under every seed (column).

    Runs of one seed use the same latents. So the same place in two cells of a column shows samples
    from one latent, if both generators have the same latent dimension.

    Args:
        pictures: For each variant and seed, a grid of samples as PNG; an absent one is marked.
    """
    title = "Samples of every variant and seed"
    seeds = sorted({seed for by_seed in pictures.values() for seed in by_seed})
    with settings():
        if not seeds:
            return message_figure(title, "There are no pictures of samples.")
        cells = [[_few(pictures[variant].get(seed)) for seed in seeds] for variant in pictures]
        figure = _grid(title, cells, list(pictures), [f"seed {seed}" for seed in seeds], 1.15)
        add_notes(figure, ["Each cell: the first samples of a run. The cells of one column use "
                           "the same latents."])
        return figure


def mosaic_over_steps(pictures: Mapping[int, bytes], name: str = "", latents: int = 6) -> Figure:
    """Return samples of a generator from a few latents (rows) over training (columns).

    Args:
        pictures: For each step, a grid of samples as PNG; of more than 12 steps, 12 are shown.
        name: The name of the run, for the title.
        latents: The number of rows.
    """
    title = "The same samples over training" + (f" · {name}" if name else "")
    steps = sorted(pictures)
    if len(steps) > 12:
        steps = [steps[i] for i in np.linspace(0, len(steps) - 1, 12).round().astype(int)]
    with settings():
        if not steps:
            return message_figure(title, "There are no pictures of samples.")
        columns = [_cut(pictures[step]) for step in steps]
        rows = max(1, min(latents, max(len(column) for column in columns)))
        padded = [[*column[:rows], *[None] * (rows - len(column))] for column in columns]
        cells = [list(row) for row in zip(*padded, strict=True)]
        labels, side, note = [""], 1.4, "Columns: the training step."
        if rows > 1:
            labels, side = [f"latent {i + 1}" for i in range(rows)], 0.62
            note += " Rows: one latent each."
        figure = _grid(title, cells, labels, [f"{step:,}" for step in steps], side)
        add_notes(figure, [note])
        return figure


def _few(png: bytes | None) -> Pixels | None:
    """Return the first samples of a grid as one picture; None if absent."""
    samples = _cut(png) if png is not None else []
    if len(samples) < 2:
        return samples[0] if samples else None
    high, wide = samples[0].shape[:2]
    across = max(2, min(4, CELL_WIDTH // (max(high, wide) + 1)))
    canvas = np.full((across * (high + 1) - 1, across * (wide + 1) - 1, 3), GREY, np.uint8)
    for i, tile in enumerate(samples[:across**2]):
        y, x = i // across * (high + 1), i % across * (wide + 1)
        canvas[y:y + high, x:x + wide] = tile
    return canvas


def _cut(png: bytes) -> list[Pixels]:
    try:
        samples = tiles(png)
    except (OSError, ValueError, SyntaxError):  # what PIL raises for a damaged file
        return []
    if len(samples) > 1:
        return samples
    whole = Image.fromarray(samples[0])
    whole.thumbnail((MAX_UNCUT, MAX_UNCUT))
    return [np.asarray(whole)]


def _grid(title: str, cells: list[list[Pixels | None]], rows: list[str], columns: list[str],
          side: float) -> CaptionedFigure:
    """Return pictures in rows and columns, with their names at the left and above."""
    names = [wrapped(name, min(24, look().letters)) for name in rows]
    label = 0.1 + max(width_of(line) for name in names for line in name.split("\n"))
    lines = max(1 + name.count("\n") for name in names)
    if look().is_narrow:
        side = min(side, (look().width - label - 0.1) / len(columns) - 0.06)
    high = max(side, LINE * lines)
    figure = new_figure(title, max(4.0, label + (side + 0.06) * len(columns)),
                        high * len(rows) + 0.4)
    # The names need a column of axes: axes of a fixed shape reserve no room for labels.
    grid: Any = figure.subplots(len(rows), 1 + len(columns), squeeze=False,
                                width_ratios=[label, *[side] * len(columns)])
    figure.set_layout_engine("constrained", w_pad=0.03, h_pad=0.03, wspace=0, hspace=0)
    for name, line, row in zip(names, grid, cells, strict=True):
        line[0].axis("off")
        line[0].text(1, 0.5, name, ha="right", va="center", fontsize=SMALL,
                    transform=line[0].transAxes)
        for axes, pixels in zip(line[1:], row, strict=True):
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set(visible=True, linewidth=0.5)
            if pixels is None:
                axes.set_box_aspect(1)
                axes.text(0.5, 0.5, "no picture", ha="center", va="center", fontsize=SMALL,
                          transform=axes.transAxes)
            else:
                axes.imshow(pixels, interpolation="none")
    for axes, column in zip(grid[0][1:], columns, strict=True):
        axes.set_title(column, fontsize=SMALL)
    return figure
