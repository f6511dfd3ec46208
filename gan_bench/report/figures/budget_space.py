"""The scores of draws against each drawn setting, and where in the space they diverge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from gan_bench.compare.search.budget_space import Dimension, all_dimensions, diverged_shares
from gan_bench.compare.search.budgets import Budgets, Draw, TunedVariant
from gan_bench.compare.stats.summary import Values
from gan_bench.report.figures.look import look
from gan_bench.report.figures.scales import fit_axis
from gan_bench.report.figures.style import (
    INK,
    MAX_IN_PANEL,
    SMALL,
    CaptionedFigure,
    Style,
    add_legend,
    add_notes,
    message_figure,
    new_figure,
    panels_across,
    settings,
    styles,
    with_direction,
    wrapped,
)

HEIGHT, STRIP = 2.3, 0.75  # inches: of the panel of scores, and of that of shares below it
ACROSS = 3  # settings in a row at most: a logarithmic axis needs room for its numbers
JITTER = 0.09  # to either side of an option of a choice
DIVERGED_ROOM = 0.12  # of the height of a panel, for the ticks of diverged draws


def scores_against_space(budgets: Budgets) -> Figure:
    """Return for each drawn setting the scores of the draws against its value.

    The axis of a setting has the scale of its distribution. Diverged draws are ticks beyond the
    worst score. Below, where some diverged, is their share in each fifth of the range.
    """
    title = f"{budgets.label} against each drawn setting · {budgets.results.experiment}"
    dimensions = all_dimensions(budgets.variants)
    drawn = [draw for tuned in budgets.variants for draw in tuned.random]
    finite = np.array([draw.selected for draw in drawn if math.isfinite(draw.selected)])
    with settings():
        if not len(finite):
            why = "Every draw diverged." if drawn else "No draw has a score yet."
            return message_figure(title, why)
        has_lost = len(finite) < len(drawn)
        figure, panels, below = _grid(title, dimensions, has_lost)
        looks = styles(budgets.results.variants)
        few = len(budgets.variants) <= MAX_IN_PANEL
        notes = fit_axis(panels[0], "y", finite, np.empty(0))  # shared by all panels
        strip = _strip(panels[0], budgets.sign) if has_lost else math.nan
        for dimension, axes, shares in zip(dimensions, panels, below, strict=True):
            with_key = [tuned for tuned in budgets.variants if _has(tuned, dimension)]
            for place, tuned in enumerate(with_key):
                style = looks[tuned.variant]
                shift = (place - (len(with_key) - 1) / 2) / max(1, len(with_key) - 1)
                _draw_scores(axes, tuned, dimension, style, strip, shift)
                if shares is not None:
                    _draw_shares(shares, tuned, dimension, style)
            _set_scale(axes, dimension)
            if shares is not None:
                _set_scale(shares, dimension)
        _label(figure, panels, below, dimensions, budgets)
        entries = [_entry(tuned, looks[tuned.variant]) for tuned in budgets.variants]
        add_legend(figure, entries if few else entries[:MAX_IN_PANEL])
        add_notes(figure, [*_notes(budgets, has_lost), *notes])
        return figure


def _across(dimensions: Sequence[Dimension]) -> int:
    """Return how many settings stand in a row, in rows that are about equally long."""
    most = min(ACROSS, panels_across(len(dimensions)))
    return math.ceil(len(dimensions) / math.ceil(len(dimensions) / most))


def _has(tuned: TunedVariant, dimension: Dimension) -> bool:
    return any(each.key == dimension.key for each in tuned.dimensions)


def _grid(title: str, dimensions: Sequence[Dimension], has_lost: bool,
          ) -> tuple[CaptionedFigure, list[Axes], list[Axes | None]]:
    """Return a figure, and for each setting the panel of scores and that of shares below it."""
    across = _across(dimensions)
    down = math.ceil(len(dimensions) / across)
    height = look().height(HEIGHT) + (STRIP if has_lost else 0) + 0.55
    figure = new_figure(title, look().width, down * height)
    outer = figure.add_gridspec(down, across)
    panels: list[Axes] = []
    below: list[Axes | None] = []
    for i in range(len(dimensions)):
        ratios = [HEIGHT, STRIP] if has_lost else [1]
        cell = outer[i // across, i % across].subgridspec(len(ratios), 1, height_ratios=ratios,
                                                          hspace=0.08)
        shared: dict[str, Any] = {"sharey": panels[0]} if panels else {}
        axes = figure.add_subplot(cell[0], **shared)
        axes.grid(True)
        axes.tick_params(labelleft=i % across == 0)
        panels.append(axes)
        below.append(figure.add_subplot(cell[1]) if has_lost else None)
        strip = below[-1]
        if strip is not None:
            axes.tick_params(labelbottom=False)
            strip.set_ylim(0, 1)
            strip.set_yticks([0, 1], ["0", "1"])
            strip.tick_params(labelleft=i % across == 0)
            strip.grid(True)
    return figure, panels, below


def _strip(axes: Axes, sign: float) -> float:
    """Reserve room for diverged draws beyond the worst score; return where they stand."""
    is_log = axes.get_yscale() == "log"
    low, high = axes.get_ylim()
    if is_log:
        low, high = math.log(low), math.log(high)
    room = DIVERGED_ROOM * (high - low)
    ticks = [tick for tick in axes.get_yticks()
             if axes.get_ylim()[0] <= tick <= axes.get_ylim()[1]]
    edge, place = (high, high + room / 2) if sign > 0 else (low, low - room / 2)
    low, high = (low, high + room) if sign > 0 else (low - room, high)
    ends = np.array([low, high, place, edge])
    low, high, place, edge = np.exp(ends) if is_log else ends
    axes.set_yticks(ticks)
    axes.set_ylim(low, high)
    axes.minorticks_off()
    return float(place)


def _draw_scores(axes: Axes, tuned: TunedVariant, dimension: Dimension, style: Style,
                 strip: float, shift: float) -> None:
    """Draw a variant's draws: scores, ticks of the diverged ones, and rings around the chosen."""
    finite = [draw for draw in tuned.random if math.isfinite(draw.selected)]
    lost = [draw for draw in tuned.random if not math.isfinite(draw.selected)]
    axes.plot(_along(finite, dimension, shift), [draw.selected for draw in finite],
              linestyle="none", marker=style.marker, markersize=4.5, color=style.colour, alpha=0.75,
              markeredgewidth=0, label=f"_draws {tuned.variant}")
    if lost:
        axes.plot(_along(lost, dimension, shift), [strip] * len(lost), linestyle="none",
                  marker="|", markersize=9, markeredgewidth=1.6, color=style.colour,
                  label=f"_diverged {tuned.variant}")
    best = tuned.first_choice
    if best and math.isfinite(best.selected) and _is_inside(best, dimension):
        axes.plot(_along([best], dimension, shift), [best.selected], linestyle="none",
                  marker=style.marker, markersize=9, markerfacecolor="none", markeredgecolor=INK,
                  markeredgewidth=1, label=f"_chosen {tuned.variant}")


def _is_inside(draw: Draw, dimension: Dimension) -> bool:
    """Whether the setting of a draw is on the axis: the file's own may lie outside the space."""
    text = draw.values[dimension.key]
    if dimension.is_number:
        return bool(text) and dimension.low <= float(text) <= dimension.high
    return text in dimension.options


def _along(draws: Sequence[Draw], dimension: Dimension, shift: float) -> Values:
    """Return where draws stand on the axis; variants stand beside each other at an option."""
    if dimension.is_number:
        return np.array([float(draw.values[dimension.key]) for draw in draws])
    options = [dimension.options.index(draw.values[dimension.key]) for draw in draws]
    spread: Values = np.array([((draw.index * 0.618) % 1 - 0.5) * JITTER for draw in draws])
    places: Values = np.array(options, float) + 0.36 * shift + spread
    return places


def _draw_shares(axes: Axes, tuned: TunedVariant, dimension: Dimension, style: Style) -> None:
    """Draw which share of a variant's draws diverged, by part of the range."""
    edges, shares = diverged_shares(tuned, dimension)
    if not dimension.is_number:
        edges = edges - 0.5
    axes.stairs(np.nan_to_num(shares), edges, color=style.colour, linewidth=1.6,
                linestyle=style.line, label=f"_share {tuned.variant}")


def _set_scale(axes: Axes, dimension: Dimension) -> None:
    """Let the axis have the scale and the bounds of the distribution."""
    if not dimension.is_number:
        axes.set_xlim(-0.6, len(dimension.options) - 0.4)
        axes.set_xticks(range(len(dimension.options)),
                        [wrapped(option, 10) for option in dimension.options])
        return
    room = 0.04
    if dimension.is_log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.minorticks_off()
        factor = (dimension.high / dimension.low) ** room
        axes.set_xlim(dimension.low / factor, dimension.high * factor)
        return
    width = dimension.high - dimension.low
    axes.set_xlim(dimension.low - room * width, dimension.high + room * width)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=dimension.kind == "int_uniform"))


def _label(figure: CaptionedFigure, panels: Sequence[Axes], below: Sequence[Axes | None],
           dimensions: Sequence[Dimension], budgets: Budgets) -> None:
    """Write the name of each setting under its panels, and what the heights are."""
    for dimension, axes, strip in zip(dimensions, panels, below, strict=True):
        (strip or axes).set_xlabel(wrapped(dimension.key, 24), fontsize=SMALL)
    across = _across(dimensions)
    for i in range(0, len(panels), across):
        panels[i].set_ylabel(with_direction(budgets.results, budgets.score), fontsize=SMALL)
        strip = below[i]
        if strip is not None:
            strip.set_ylabel("share\ndiverged", fontsize=SMALL)


def _entry(tuned: TunedVariant, style: Style) -> tuple[Line2D, str]:
    """Return the legend's entry of a variant: also how many of its draws diverged."""
    lost = sum(not math.isfinite(draw.selected) for draw in tuned.random)
    label = f"{tuned.variant}\n{lost} of {len(tuned.random)} diverged"
    return Line2D([], [], color=style.colour, linestyle="none", marker=style.marker,
                  markersize=5), label


def _notes(budgets: Budgets, has_lost: bool) -> list[str]:
    notes = ["Each mark is a random draw, on the scale of its distribution; the axis ends at the "
             "bounds."]
    if any(tuned.first_choice for tuned in budgets.variants):
        notes.append("Ringed: the draw that was chosen.")
    if has_lost:
        worse = "above" if budgets.sign > 0 else "below"
        notes.append(f"Ticks {worse} the scores: draws that diverged. Steps: their share in each "
                     f"fifth of the range, or of each option.")
    if len(budgets.variants) > MAX_IN_PANEL:
        notes.append(f"The legend has the first {MAX_IN_PANEL} variants.")
    return notes
