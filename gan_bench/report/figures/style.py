"""What all figures share: colours, text, legends, axes.

Text, axes and grid have one colour, `INK`, on a transparent background. An SVG has it as text, so a
page with a light and a dark theme can replace it by a CSS variable; the other colours are visible
on both. matplotlib's global state, the user's settings included, is neither read nor changed.
"""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib import style as mpl_style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, NullFormatter

from gan_bench.compare.stats.summary import Values
from gan_bench.evaluation.score_directions import directions
from gan_bench.registry import Better

if TYPE_CHECKING:
    from gan_bench.compare.results import Results

INK = "#1a2b3c"
SMALL = 8  # points
WIDTH = 8.0  # inches
LINE = 0.155  # inches: the height of a line of small text
NAME = 32  # letters of a name on one line
RC: dict[str, Any] = {
    "font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"], "font.size": 9,
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
LOG_RATIO = 50.0  # greatest over least value, above which an axis is logarithmic


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
    with mpl_style.context(["default", RC]):
        yield


def new_figure(title: str, width: float, height: float) -> Figure:
    """Return an empty figure under a title, in inches; a long title makes it higher."""
    lines = wrapped(title, int(width * 11))
    figure = Figure(figsize=(width, height + 0.2 * (1 + lines.count("\n"))), layout="constrained")
    figure.suptitle(lines, x=0.01, ha="left", fontweight="bold")
    return figure


def message_figure(title: str, why: str) -> Figure:
    """Return a figure that says why there is nothing to draw."""
    figure = new_figure(title, WIDTH, 0.7)
    axes = figure.subplots()
    axes.axis("off")
    axes.text(0, 0.5, wrapped(why, 100), transform=axes.transAxes, va="center")
    return figure


def add_notes(figure: Figure, notes: Sequence[str]) -> None:
    """Write notes below the drawing, a paragraph each."""
    if not notes:
        return
    width, height = figure.get_size_inches()
    text = "\n".join(textwrap.fill(note, int(width * 16.5), subsequent_indent="    ")
                     for note in notes)
    figure.set_size_inches(width, height + LINE * (1.5 + text.count("\n")))
    figure.supxlabel(text, x=0.01, ha="left", fontsize=SMALL, linespacing=1.25)


def add_legend(figure: Figure, entries: Sequence[tuple[Artist, str]]) -> None:
    """Put a legend beside the axes; the figure grows to its height."""
    # matplotlib hides labels that begin with an underscore.
    texts = [re.sub("^_", " _", wrapped(label)) for _, label in entries]
    width, height = figure.get_size_inches()
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
            ) -> tuple[Figure, list[Any]]:
    """Return a figure, and its panels: for each label `rows` panels, one below the other.

    Args:
        height: The height of the panels of one label, in inches.
    """
    across = min(ACROSS, len(labels))
    down = math.ceil(len(labels) / across)
    width = max(WIDTH, 2.6 * across)
    names = [wrapped(label, int(27 * width / across / 2.6)) for label in labels]
    tallest = max(name.count("\n") for name in names)
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
            if j == 0:
                axes.set_title(names[i], fontsize=SMALL, loc="left")
            # The scales are shared, and drawing numbers at every panel is slow.
            if i + across < len(labels):
                axes.tick_params(labelbottom=False)
            elif j == rows - 1:
                axes.set_xlabel(below, fontsize=SMALL)
            if rows == 1 and i % across:
                axes.tick_params(labelleft=False)
            panels.append(axes)
    return figure, panels


def wrapped(name: str, width: int = NAME) -> str:
    """Break a name into lines, after a hyphen, underscore, comma, slash or space if possible.

    Line feeds in the name stay.
    """
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


def fit_axis(axes: Axes, along: Literal["x", "y"], values: Values, ends: Values) -> list[str]:
    """Choose the scale and range of an axis of scores, and return notes on them.

    The axis is logarithmic if positive values span more than a factor of 50. Its range covers the
    values and the ends of their intervals, but at most half of the values' range more on either
    side: an interval of two seeds may be ten times as long, and would hide the values.

    Args:
        values: Finite, at least one.
        ends: The ends of intervals; NaN is ignored.
    """
    low, high = float(values.min()), float(values.max())
    log = low > 0 and high / low > LOG_RATIO
    ends = np.concatenate([[low, high], ends[np.isfinite(ends)]])
    if log:
        getattr(axes, f"set_{along}scale")("log")
        axis = axes.xaxis if along == "x" else axes.yaxis
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
        room = (high / low) ** 0.25
        floor, ceiling = low / room, high * room
    else:
        room = (high - low) / 2 or abs(high) / 10 or 1.0
        floor, ceiling = low - room, high + room
    first, last = max(floor, float(ends.min())), min(ceiling, float(ends.max()))
    if log:
        limits = first / room**0.2, last * room**0.2
    else:
        limits = first - room / 10, last + room / 10
    getattr(axes, f"set_{along}lim")(*limits)
    notes = ["Logarithmic axis."] if log else []
    if ends.min() < floor or ends.max() > ceiling:
        notes.append("An interval that meets the frame continues beyond it.")
    return notes


def better_direction(results: Results, score: str) -> Better:
    """Return which direction of a score is better; None if neither is, or if unknown."""
    return directions(results.declared).get(score)


def with_direction(results: Results, score: str) -> str:
    """Return the label of a score's axis: its name, and its better direction."""
    better = better_direction(results, score)
    return f"{score} ({better} is better)" if better else f"{score} (neither direction is better)"
