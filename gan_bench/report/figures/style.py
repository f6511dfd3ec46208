"""What all figures share: colours, text, legends, axes.

Text, axes and grid have one colour, `INK`, on a transparent background. An SVG has it as text, so a
page with a light and a dark theme can replace it by a CSS variable; the other colours are visible
on both. matplotlib's global state, the user's settings included, is neither read nor changed.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from matplotlib import style as mpl_style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from gan_bench.evaluation.score_directions import directions
from gan_bench.registry import Better
from gan_bench.report.digits import true_minus
from gan_bench.report.figures.look import FONTS, look

if TYPE_CHECKING:
    from gan_bench.compare.results import Results

INK = "#1a2b3c"
SMALL = 8  # points
LINE = 0.155  # inches: the height of a line of small text
PANEL = 2.0, 1.6  # inches: the least width of a panel, on a page and in a column
RC: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9, "axes.labelsize": 9, "figure.titlesize": 11, "legend.fontsize": SMALL,
    "xtick.labelsize": SMALL, "ytick.labelsize": SMALL,
    "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK, "axes.titlecolor": INK,
    "xtick.color": INK, "ytick.color": INK, "grid.color": INK, "legend.labelcolor": INK,
    "text.parse_math": False,  # a `$` in a name is a `$`
    "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
    "axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True,
    "axes.linewidth": 0.7, "xtick.major.width": 0.7, "ytick.major.width": 0.7,
    "grid.alpha": 0.15, "grid.linewidth": 0.6, "legend.frameon": False,
    "svg.fonttype": "none", "svg.hashsalt": "gan-bench", "pdf.fonttype": 42,
}

# Okabe and Ito's (2008) without yellow and black, which are invisible on white and on black; wine
# and brown (Tol 2021) replace them. Adjusted so that all pairs are 19 apart in CIELAB, 17 under
# each simulated colour-blindness, and 4 apart in lightness, for print in grey.
COLOURS = ("#0070B0", "#EAA300", "#00A053", "#7A4800", "#5AA7FF", "#A62F76", "#C982A4", "#CA6100")
MARKERS = ("o", "s", "^", "D", "v", "P", "<", "p", ">")  # a cross is a diverged run
LINES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (5, 1.5, 1, 1.5)), (0, (1.2, 1.2)),
                          (0, (9, 1.5, 1, 1.5, 1, 1.5)))
CROSS = "X"
DOTTED = (0, (2, 1.5))  # the baseline, in ink, in the panels of the others
MAX_IN_PANEL = len(COLOURS)  # variants in one panel; with more, each has a panel
ACROSS = 4  # panels in a row
COLUMN = 3.4  # inches: the height of all panels of a column, if none is lower than `LEAST`
LEAST = 0.7


@dataclass(frozen=True)
class Style:
    """How a variant is drawn, in every figure."""

    colour: str
    marker: str
    line: Any


def styles(variants: Sequence[str]) -> dict[str, Style]:
    """Return the style of each variant, by its place in the experiment.

    Colours repeat after 8 variants, with other markers and line styles; the first 360 differ.
    """
    return {name: Style(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)], LINES[i % len(LINES)])
            for i, name in enumerate(variants)}


@contextmanager
def settings() -> Iterator[None]:
    """Set matplotlib's settings while a figure is drawn or written, then restore them."""
    with mpl_style.context(["default", RC, FONTS[look().font]]):
        yield


class CaptionedFigure(Figure):
    """A figure with the text of its caption.

    Attributes:
        caption: Its title and its notes, a paragraph each; they may stand in the figure or not.
    """

    caption: tuple[str, ...] = ()

    def _repr_png_(self) -> bytes:
        """Return the figure as a notebook shows it, with or without pyplot."""
        from gan_bench.report.figures.files import render

        return render(self, "png")


def new_figure(title: str, width: float, height: float) -> CaptionedFigure:
    """Return an empty figure, in inches; a long title makes it higher.

    Args:
        width: On a page; for the column of a paper it is that of the column.
    """
    width = look().width if look().is_narrow else width
    lines = wrapped(title, int(width * 11)) if look().has_titles else ""
    above = 0.2 * (1 + lines.count("\n")) if lines else 0.05
    figure = CaptionedFigure(figsize=(width, height + above), layout=ConstrainedLayoutEngine(
        w_pad=0.08))  # inches: ticks of the final size may be wider
    figure.caption = (title,)
    if lines:
        figure.suptitle(lines, x=0.01, ha="left", fontweight="bold")
    return figure


def one_panel(title: str, height: float, grid: Literal["both", "x", "y"] = "both",
              ) -> tuple[CaptionedFigure, Axes]:
    """Return a figure of the usual width and its only panel, with a grid and nothing else."""
    figure = new_figure(title, look().width, height)
    axes = figure.subplots()
    axes.grid(True, axis=grid)
    return figure, axes


def message_figure(title: str, why: str) -> CaptionedFigure:
    """Return a figure that says why there is nothing to draw."""
    figure = new_figure(title, look().width, 0.7)
    axes = figure.subplots()
    axes.axis("off")
    axes.text(0, 0.5, wrapped(why, int(look().width * 12.5)), transform=axes.transAxes, va="center")
    return figure


def add_notes(figure: CaptionedFigure, notes: Sequence[str]) -> None:
    """Write notes below the drawing, a paragraph each; without titles, into the caption alone."""
    notes = [true_minus(note) for note in notes]
    figure.caption = (*figure.caption, *notes)
    if not notes or not look().has_titles:
        return
    width, height = figure.get_size_inches()
    text = "\n".join(textwrap.fill(note, int(width * 16.5), subsequent_indent="    ")
                     for note in notes)
    figure.set_size_inches(width, height + LINE * (1.5 + text.count("\n")))
    figure.supxlabel(text, x=0.01, ha="left", fontsize=SMALL, linespacing=1.25)


def add_legend(figure: CaptionedFigure, entries: Sequence[tuple[Artist, str]]) -> None:
    """Put a legend beside the axes, or below narrow ones; the figure grows to its height."""
    # matplotlib hides labels that begin with an underscore.
    texts = [re.sub("^_", " _", wrapped(label)) for _, label in entries]
    width, height = figure.get_size_inches()
    if look().is_narrow:
        texts = [re.sub("^_", " _", wrapped(label, 24)) for _, label in entries]
        columns = 2 if max(map(width_of, "\n".join(texts).split("\n"))) < width / 2 - 0.6 else 1
        lines = sum(1.2 + text.count("\n") for text in texts) / columns
        figure.set_size_inches(width, height + LINE * lines + 0.15)
        figure.legend([handle for handle, _ in entries], texts, loc="outside lower left",
                      ncols=columns, handlelength=2.4, borderaxespad=0.2, columnspacing=1.0)
        return
    needed = LINE * sum(1.35 + text.count("\n") for text in texts) + 0.6
    figure.set_size_inches(width, max(height, needed))
    figure.legend([handle for handle, _ in entries], texts, loc="outside right upper",
                  handlelength=3.2, borderaxespad=0.3)


def swatch(style: Style) -> Line2D:
    """Return the legend's handle of a variant."""
    return Line2D([], [], color=style.colour, linestyle=style.line, marker=style.marker,
                  markersize=5, linewidth=1.8)


def cross() -> tuple[Line2D, str]:
    """Return the legend's entry for diverged runs."""
    return (Line2D([], [], color=INK, linestyle="none", marker=CROSS, markersize=7),
            "where a run diverged")


def panels_of(title: str, labels: Sequence[str], rows: int, height: float, below: str,
            ) -> tuple[CaptionedFigure, list[Any]]:
    """Return a figure, and its panels: for each label `rows` panels, one below the other.

    Args:
        height: The height of the panels of one label, in inches.
    """
    across = panels_across(len(labels))
    down = math.ceil(len(labels) / across)
    width = look().width if look().is_narrow else max(look().width, 2.6 * across)
    names = [wrapped(label, int(27 * width / across / 2.6)) for label in labels]
    tallest = max(name.count("\n") for name in names)
    if look().is_narrow:
        height = max(LEAST * rows, min(0.75 * height, COLUMN / down))
    figure = new_figure(title, width, down * (height + 0.15 * (1 + tallest)) + 0.6)
    grid = figure.add_gridspec(down, across)
    panels: list[Any] = []
    for i in range(down * across):
        cell = grid[i // across, i % across].subgridspec(rows, 1)
        for j in range(rows):
            shared: dict[str, Any] = {"sharex": panels[0]} if panels else {}
            if rows == 1 and panels:
                shared["sharey"] = panels[0]
            axes = figure.add_subplot(cell[j], **shared)
            axes.grid(True)
            if i >= len(labels):
                axes.axis("off")
                continue
            if j == 0:  # titles as tall as their neighbours', so that a row of panels is level
                row = names[i - i % across:][:across]
                lines = max(name.count("\n") for name in row) - names[i].count("\n")
                axes.set_title("\n" * lines + names[i], fontsize=SMALL, loc="left")
            # The scales are shared, and drawing numbers at every panel is slow.
            if i + across < len(labels):
                axes.tick_params(labelbottom=False)
            elif j == rows - 1:
                axes.set_xlabel(below, fontsize=SMALL)
            if rows == 1 and i % across:
                axes.tick_params(labelleft=False)
            panels.append(axes)
    return figure, panels


def arranged(names: Iterable[str], order: Sequence[str]) -> list[str]:
    """Return names in an order, which may hold others or lack some: those come last."""
    place = {name: i for i, name in enumerate(order)}
    return sorted(names, key=lambda name: place.get(name, len(place)))


def panels_across(n: int) -> int:
    """Return how many of n panels stand in a row."""
    return min(n, max(1, int(look().width / PANEL[look().is_narrow])), ACROSS)


def wrapped(name: str, width: int | None = None) -> str:
    """Break a name into lines, after a hyphen, underscore, comma, slash or space if possible.

    Line feeds in the name stay.

    Args:
        width: In letters; None: as many as fit beside the axes.
    """
    width = width or look().letters
    lines: list[str] = []
    for paragraph in name.split("\n"):
        line = ""
        for word in re.findall(r"[^-_,/\s]*[-_,/\s]*", paragraph):
            if line and len(line + word.rstrip()) > width:
                lines.append(line.rstrip())
                line = ""
            line += word
            while len(line) > width:
                lines.append(line[:width])
                line = line[width:].lstrip()
        lines.append(line.rstrip())
    return "\n".join(lines)


def width_of(line: str) -> float:
    """Return the width of a line of small text, in inches."""
    return float(TextPath((0, 0), line, size=SMALL).get_extents().x1) / 72 if line.strip() else 0.0


def better_direction(results: Results, score: str) -> Better:
    """Return which direction of a score is better; None if neither is, or if unknown."""
    return directions(results.declared).get(score)


def with_direction(results: Results, score: str) -> str:
    """Return the label of a score's axis: its name, and its better direction."""
    better, label = better_direction(results, score), results.declared.label(score)
    way = f"{better} is better" if better else "neither direction is better"
    return wrapped(f"{label} ({way})", int(look().width * 12))
