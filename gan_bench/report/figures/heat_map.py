"""The probability of improvement of every pair of variants, as a heat map."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from gan_bench.compare.stats.comparison import Comparison
from gan_bench.compare.stats.summary import Estimate
from gan_bench.report.figures.look import look
from gan_bench.report.figures.style import (
    INK,
    LINE,
    add_notes,
    arranged,
    message_figure,
    new_figure,
    settings,
    width_of,
    wrapped,
)

MARKS = {"better": "▲", "worse": "▼", "equivalent": "=", "inconclusive": "?", None: ""}
TURNED = {"better": "worse", "worse": "better"}
HEAT = "cividis"  # its lightness increases throughout, so it can be read in grey
# Of numbers on the cells, in either theme. Not black: an SVG would omit that colour.
DARK, LIGHT = "#111111", "#ffffff"


def heat_map(comparisons: Sequence[Comparison], score: str = "", order: Sequence[str] = (),
             ) -> Figure:
    """Return how likely a run of one variant (row) beats one of another (column).

    If all comparisons are with one baseline, it is the only column. Marks show the verdicts on the
    row's variant; diverged runs rank last.

    Args:
        score: The compared score, for the title.
        order: The variants as the rows of the table have them; empty: as they are compared.
    """
    title = "Probability that a run of the row beats one of the column"
    if score:
        title += f" · {score}"
    with settings():
        if not comparisons:
            return message_figure(title, "There is only one variant: nothing to compare it with.")
        if all(math.isnan(pair.improvement.value) for pair in comparisons):
            return message_figure(title, "No probabilities: " + "; ".join(
                sorted({pair.improvement.note for pair in comparisons})) + ".")
        names = arranged(dict.fromkeys(name for pair in comparisons
                                       for name in (pair.against, pair.variant)), order)
        against = {pair.against for pair in comparisons}
        columns = sorted(against) if len(against) == 1 else names
        rows = [name for name in names if len(against) > 1 or name not in against]
        cells = {(pair.variant, pair.against): _cell(pair.improvement, pair.verdict)
                 for pair in comparisons}
        for pair in comparisons:
            reverse = Estimate(1 - pair.improvement.value, 1 - pair.improvement.high,
                               1 - pair.improvement.low)
            cells.setdefault((pair.against, pair.variant),
                             _cell(reverse, TURNED.get(pair.verdict or "", pair.verdict)))
        return _draw_cells(title, rows, columns, cells)


def _cell(chance: Estimate, verdict: str | None) -> tuple[float, str]:
    """Return a cell's number, and its text: verdict, number and interval."""
    if math.isnan(chance.value):
        return math.nan, "–"
    interval = "" if math.isnan(chance.low) else f"\n[{chance.low:.2f}, {chance.high:.2f}]"
    return chance.value, f"{MARKS[verdict]} {chance.value:.2f}".strip() + interval


def _draw_cells(title: str, rows: list[str], columns: list[str],
                cells: Mapping[tuple[str, str], tuple[float, str]]) -> Figure:
    values = np.array([[cells.get((row, column), (math.nan, ""))[0] for column in columns]
                       for row in rows])
    few, width, narrow = len(columns) <= 12, look().width, look().is_narrow
    labels = 0.2 + max(width_of(line) for name in rows for line in wrapped(name).split("\n"))
    room = (width - labels - (0.3 if narrow else 0.9)) / len(columns)
    least = 0.86 if few else 0.62
    side = room if narrow else max(least, min(1.8, room))
    turned = side < 1.1  # too narrow for names
    letters = look().letters if turned else int(side / 0.085)
    heads = [wrapped(name, letters) for name in columns]
    if turned:
        above = max(width_of(line) for name in heads for line in name.split("\n"))
    else:
        above = LINE * max(1 + name.count("\n") for name in heads)
    figure = new_figure(title, max(4.0, side * len(columns) + labels + 0.9),
                        max(1.2, 0.5 * len(rows)) + above + 0.4)
    axes = figure.subplots()
    colours = matplotlib.colormaps[HEAT]
    image = axes.imshow(np.ma.masked_invalid(values), cmap=colours, vmin=0, vmax=1, aspect="auto")
    size = 7 if few and not narrow else 6
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            value, words = cells.get((row, column), (math.nan, ""))
            # In a narrow cell the interval has no room.
            axes.text(j, i, words.partition("\n")[0] if side < 0.6 else words, ha="center",
                      va="center", label=f"_{row}|{column}", fontsize=size, color=_readable(value))
    axes.set_xticks(range(len(columns)), heads, rotation=90 if turned else 0)
    axes.set_yticks(range(len(rows)), [wrapped(name) for name in rows])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if not narrow:  # where the cells say all of it
        bar = figure.colorbar(image, ax=axes, ticks=[0, 0.25, 0.5, 0.75, 1], pad=0.02,
                              fraction=0.05, aspect=25)
        bar.outline.set_visible(False)
        bar.set_label("probability")
    add_notes(figure, ["Verdict on the row's variant: ▲ better, ▼ worse, = equivalent, "
                       "? not decisive. In brackets: the 95% interval. Diverged runs rank last."])
    return figure


def _readable(value: float) -> str:
    """Return the text colour on the colour of a value; the ink for NaN."""
    if math.isnan(value):
        return INK
    red, green, blue, _ = matplotlib.colormaps[HEAT](value)
    return DARK if 0.3 * red + 0.59 * green + 0.11 * blue > 0.45 else LIGHT
