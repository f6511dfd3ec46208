"""The chosen draws: what they scored when they were selected, and under fresh seeds."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from gan_bench.compare.search.budgets import Budgets, Draw, TunedVariant
from gan_bench.compare.stats.summary import Values
from gan_bench.report.figures.scales import fit_axis
from gan_bench.report.figures.style import (
    INK,
    Style,
    add_legend,
    add_notes,
    message_figure,
    one_panel,
    settings,
    styles,
    with_direction,
    wrapped,
)

ROW = 0.42  # inches
MOST_ROWS = 40  # a figure of more cannot be read


def selected_against_confirmed(budgets: Budgets) -> Figure:
    """Return the chosen draws' scores as selected, and their means under the confirm seeds."""
    title = f"{budgets.label} as selected, and under fresh seeds · {budgets.results.experiment}"
    rows = [(tuned, draw) for tuned in budgets.variants for draw in tuned.chosen
            if math.isfinite(draw.selected)][:MOST_ROWS]
    with settings():
        if not rows:
            return message_figure(title, "No draw is chosen yet: the choice waits until every "
                                         "draw has a score.")
        figure, axes = one_panel(title, ROW * len(rows) + 0.9, "x")
        looks = styles(budgets.results.variants)
        values, ends = _extent([draw for _, draw in rows])
        notes = fit_axis(axes, "x", values, ends)
        for place, (tuned, draw) in enumerate(rows):
            _draw_row(axes, place, draw, looks[tuned.variant], tuned.variant)
        axes.set_yticks(range(len(rows)), [_label(tuned, draw) for tuned, draw in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(with_direction(budgets.results, budgets.score))
        add_legend(figure, [
            (Line2D([], [], color=INK, linestyle="none", marker="o", markersize=6,
                    markerfacecolor="none"), "as selected"),
            (Line2D([], [], color=INK, marker="o", markersize=6, linewidth=2), "confirmed")])
        seeds = budgets.search.confirm.seeds
        if any(draw.confirmed and draw.confirmed.diverged for _, draw in rows):
            notes.append("A setting that diverged under a fresh seed has no finite mean.")
        add_notes(figure, [
            f"Confirmed: the mean under {len(seeds)} fresh seeds, with its 95% interval. A line "
            "between both is the optimism of the selection: the luck of the selected draw.",
            *notes])
        return figure


def _label(tuned: TunedVariant, draw: Draw) -> str:
    name = "the file's own setting" if tuned.has_default and draw.index == 0 else (
        f"draw {draw.index}")
    return wrapped(f"{tuned.variant}\n{name}")


def _extent(draws: list[Draw]) -> tuple[Values, Values]:
    """Return the finite scores, and the ends of the intervals."""
    means = [draw.confirmed.mean for draw in draws
             if draw.confirmed and not draw.confirmed.diverged]
    values = [draw.selected for draw in draws] + [mean.value for mean in means]
    ends = [end for mean in means for end in (mean.low, mean.high)]
    return np.array([value for value in values if math.isfinite(value)]), np.array(ends)


def _draw_row(axes: Axes, place: int, draw: Draw, style: Style, variant: str) -> None:
    axes.plot([draw.selected], [place], marker=style.marker, markersize=7, color=style.colour,
              markerfacecolor="none", markeredgewidth=1.4, linestyle="none",
              label=f"_selected {variant}")
    if draw.confirmed is None or draw.confirmed.diverged:  # no mean, or no finite one
        return
    mean = draw.confirmed.mean
    y = place + 0.2
    axes.plot([draw.selected, mean.value], [place, y], color=style.colour, linewidth=0.8,
              label=f"_optimism {variant}")
    if not math.isnan(mean.low):
        axes.plot([mean.low, mean.high], [y, y], color=style.colour, linewidth=2, marker="|",
                  markersize=8, solid_capstyle="butt", label=f"_interval {variant}")
    axes.plot([mean.value], [y], color=style.colour, marker=style.marker, markersize=7,
              markeredgecolor=INK, markeredgewidth=0.7, linestyle="none",
              label=f"_confirmed {variant}")
