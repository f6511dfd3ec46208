"""How a figure becomes a file: the same bytes for the same figure."""

from __future__ import annotations

import io
import logging
import warnings
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from gan_bench.atomic import replacing
from gan_bench.errors import UserError
from gan_bench.report.figures.style import settings

FORMATS = ("svg", "png", "pdf")


def render(figure: Figure, kind: str) -> bytes:
    """Return a figure as SVG, PNG or PDF; equal figures give equal bytes.

    The text of an SVG is text, in the reader's fonts. The background of a PNG is white: a dark
    viewer would hide the text. The first rendering fixes the layout.

    Raises:
        UserError: The format is another one.
    """
    if kind not in FORMATS:
        raise UserError(f"unknown figure format {kind!r}; the formats are {', '.join(FORMATS)}")
    kinds: dict[str, dict[str, Any]] = {
        "svg": {"metadata": {"Date": None}}, "pdf": {"metadata": {"CreationDate": None}},
        "png": {"dpi": 150, "facecolor": "white"}}
    buffer = io.BytesIO()
    log = logging.getLogger("fontTools")
    level = log.level
    with settings(), warnings.catch_warnings():
        # A name in a script that DejaVu lacks: for an SVG, browsers use other fonts.
        warnings.filterwarnings("ignore", r"Glyph .* missing from")
        log.setLevel(logging.ERROR)  # fontTools logs every table of a font that it cuts
        freeze_layout(figure)
        try:
            figure.savefig(buffer, format=kind, **kinds[kind])
        finally:
            log.setLevel(level)
    return buffer.getvalue()


def freeze_layout(figure: Figure) -> None:
    """Compute the layout once, and keep it."""
    FigureCanvasAgg(figure)  # replaces the canvas of the last format
    engine = figure.get_layout_engine()
    if isinstance(engine, ConstrainedLayoutEngine):
        # The engine starts from the present layout, so each format would differ a little.
        with settings():
            engine.execute(figure)
            # Not "none": that leaves a placeholder, for which matplotlib draws each format twice.
            figure.set_layout_engine(None)
        # The last digits vary between runs, and an SVG's ids contain all of them.
        for axes in figure.axes:
            axes.set_position(tuple(round(x, 6) for x in axes.get_position(original=True).bounds))


def save(figure: Figure, path: Path) -> None:
    """Write a figure to a file that ends in .svg, .png or .pdf; it is written whole or not at all.

    Raises:
        UserError: The file has another ending.
        OSError: The file cannot be written.
    """
    content = render(figure, path.suffix.removeprefix(".").lower())
    with replacing(path) as temporary:
        temporary.write_bytes(content)
