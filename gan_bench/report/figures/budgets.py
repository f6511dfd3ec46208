"""What a budget of draws buys: the best of n of each variant, and how likely it beats another's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from gan_bench.compare.search.budget_costs import by_cost, seconds_spent
from gan_bench.compare.search.budget_numbers import HOUR, Line, lines_of, table_budgets
from gan_bench.compare.search.budgets import Budgets
from gan_bench.compare.stats.summary import Values
from gan_bench.errors import joined
from gan_bench.report.figures.look import look
from gan_bench.report.figures.scales import fit_axis
from gan_bench.report.figures.style import (
    DOTTED,
    INK,
    MAX_IN_PANEL,
    CaptionedFigure,
    Style,
    add_legend,
    add_notes,
    message_figure,
    one_panel,
    panels_of,
    settings,
    styles,
    with_direction,
)

DRAWS = "budget: random draws"
BEYOND: Any = (0, (4, 1.6))  # where no interval exists
DEFAULT_LINE: Any = (0, (7, 3))
COIN, SURE = 0.5, 0.75  # Bouthillier et al. (2021) call a difference meaningful above the second
TICKS = (1, 2, 5)  # times powers of ten
APART = 1.25  # the least ratio of two ticks
POINTS = 60  # of a line over device-seconds


def best_against_budget(budgets: Budgets) -> Figure:
    """Return the best of n random draws against n, for each variant.

    The line is the median. Where the draws bound it, the line is solid, with a band, its exact 95%
    interval; beyond, it is dashed. The file's own setting is a thin horizontal line; marks stand
    at the budgets of the table.
    """
    title = f"Best {budgets.label} against the budget · {budgets.results.experiment}"
    lines = lines_of(budgets)
    with settings():
        if not any(math.isfinite(best.median) for line in lines for best in line.bests):
            return message_figure(title, _why_nothing(lines))
        figure, panels, looks = _panels(title, [line.variant for line in lines], budgets, DRAWS)
        base = next((line for line in lines if line.variant == budgets.reference.variant), None)
        values, ends = _extent(budgets, lines)
        notes: list[str] = []
        for line, axes in zip(lines, panels, strict=True):
            _draw_line(axes, line, looks[line.variant])
            _draw_default(axes, budgets, line.variant, looks[line.variant])
            if len(set(map(id, panels))) > 1 and base is not None and base is not line:
                axes.plot([best.n for best in base.bests], [best.median for best in base.bests],
                          color=INK, linewidth=1, linestyle=DOTTED, zorder=2.5, label="_reference")
        longest = max(len(line.bests) for line in lines)
        for axes in dict.fromkeys(panels):
            notes = fit_axis(axes, "y", values, ends)
            _log_budget(axes, longest)
            _mark_budgets(axes, table_budgets(budgets))
        _finish(figure, panels, budgets, [line.variant for line in lines], looks,
                with_direction(budgets.results, budgets.score), DRAWS)
        add_notes(figure, [*_best_notes(budgets, lines), *notes])
        return figure


def best_against_seconds(budgets: Budgets) -> Figure:
    """Return the median best of the draws that a number of device-hours pays, for each variant."""
    title = f"Best {budgets.label} at equal device-hours · {budgets.results.experiment}"
    below = "budget: device-hours"
    names = [tuned.variant for tuned in budgets.variants if len(tuned.random)]
    with settings():
        seconds = {tuned.variant: _grid(tuned.costs) for tuned in budgets.variants}
        medians = {tuned.variant: by_cost(budgets, tuned, seconds_spent,
                                          seconds[tuned.variant])[0]
                   for tuned in budgets.variants if tuned.variant in names}
        values = np.concatenate([np.empty(0), *(each[np.isfinite(each)]
                                                for each in medians.values())])
        if not len(values):
            return message_figure(title, _why_nothing(lines_of(budgets)))
        figure, panels, looks = _panels(title, names, budgets, below)
        for name, axes in zip(names, panels, strict=True):
            finite = np.where(np.isfinite(medians[name]), medians[name], np.nan)
            axes.plot(seconds[name] / HOUR, finite, color=looks[name].colour, linewidth=1.8,
                      marker=looks[name].marker, markersize=4.5,
                      markevery=max(1, POINTS // 6), label=f"_paid {name}")
            _draw_default(axes, budgets, name, looks[name])
        notes: list[str] = []
        for axes in dict.fromkeys(panels):
            notes = fit_axis(axes, "y", values, np.empty(0))
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=TICKS))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda hours, _: f"{hours:.3g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        _finish(figure, panels, budgets, names, looks,
                with_direction(budgets.results, budgets.score), below)
        add_notes(figure, [
            "The median of the best of as many random draws as the hours pay for, over random "
            "orders of the draws. Hours: of all attempts of each run, as recorded; runs that "
            "share a device slow each other down.", *notes])
        return figure


def chance_against_budget(budgets: Budgets) -> Figure:
    """Return how likely a variant's best of n draws beats the reference's best of n, against n."""
    reference = budgets.reference.variant
    title = (f"How likely the best draw beats that of {reference} · "
             f"{budgets.results.experiment}")
    lines = [line for line in lines_of(budgets) if line.beats]
    with settings():
        if not lines:
            return message_figure(title, f"No other variant than {reference} has draws to compare.")
        names = [line.variant for line in lines]
        figure, panels, looks = _panels(title, names, budgets, DRAWS)
        longest = max(len(line.beats) for line in lines)
        for line, axes in zip(lines, panels, strict=True):
            style, n = looks[line.variant], np.arange(1.0, len(line.beats) + 1)
            half = max(1, len(n) // 2)  # beyond, all choices of n draws share most of them
            for part, dashes in ((slice(half), "-"), (slice(half - 1, None), BEYOND)):
                axes.plot(n[part], line.beats[part], color=style.colour, linewidth=1.8,
                          linestyle=dashes, clip_on=False, label=f"_beats {line.variant}")
            places = _markers(n)
            axes.plot(n[places], np.array(line.beats)[places], color=style.colour,
                      linestyle="none", marker=style.marker, markersize=4.5, clip_on=False,
                      label=f"_chance {line.variant}")
        for axes in dict.fromkeys(panels):
            axes.set_ylim(0, 1)
            for level in (COIN, SURE):
                axes.axhline(level, color=INK, linewidth=0.8, linestyle=DOTTED, label="_level")
            axes.set_yticks([0, 0.25, COIN, SURE, 1])
            _log_budget(axes, longest)
            _mark_budgets(axes, table_budgets(budgets))
        _finish(figure, panels, budgets, names, looks, f"P(beats {reference})", DRAWS)
        add_notes(figure, [
            "The probability that the best of n draws of a variant is better than the best of n "
            f"of {reference}, ties counted half: counted over all choices of n of the draws. "
            "Dashed beyond half of the draws, where these choices share most draws: with all of "
            "them one of the two has the best, whatever the variants are. "
            f"Dotted: {COIN:g}, none is better, and {SURE:g}, from which a difference matters "
            "(Bouthillier et al. 2021). No band: the choices of n draws overlap, so their scatter "
            "is no interval, and the labels that the tests permute say only whether the "
            "probability is 0.5. The table has the tests."])
        return figure


def _panels(title: str, names: Sequence[str], budgets: Budgets, below: str,
            ) -> tuple[CaptionedFigure, list[Axes], dict[str, Style]]:
    """Return a figure, the panel of each variant, and the variants' styles.

    Up to eight variants share a panel.
    """
    looks = styles(budgets.results.variants)
    if len(names) <= MAX_IN_PANEL:
        figure, axes = one_panel(title, look().height(4.0))
        return figure, [axes] * len(names), looks
    figure, panels = panels_of(title, names, 1, 1.9, below)
    return figure, panels, looks


def _finish(figure: CaptionedFigure, panels: Sequence[Axes], budgets: Budgets,
            names: Sequence[str], looks: dict[str, Style], left: str, below: str) -> None:
    """Write the labels of the axes, and the legend."""
    if len(set(map(id, panels))) > 1:
        figure.supylabel(left, fontsize=9)
        return
    panels[0].set(xlabel=below, ylabel=left)
    add_legend(figure, [(Line2D([], [], color=looks[name].colour, marker=looks[name].marker,
                                markersize=5, linewidth=1.8), name) for name in names])


def _draw_line(axes: Axes, line: Line, style: Style) -> None:
    """Draw the medians: solid with a band where they have an interval, dashed beyond."""
    n = np.array([float(best.n) for best in line.bests])
    median = np.array([best.median for best in line.bests])
    median = np.where(np.isfinite(median), median, np.nan)
    bounded = [best for best in line.bests if best.has_interval]
    last = len(bounded)
    if bounded:
        low, high = (np.array([getattr(best, end) for best in bounded]) for end in ("low", "high"))
        axes.fill_between(n[:last], _reachable(low), _reachable(high), color=style.colour,
                          alpha=0.16, linewidth=0, label=f"_band {line.variant}")
        axes.plot(n[:last], median[:last], color=style.colour, linewidth=1.8,
                  label=f"_bounded {line.variant}")
    begin = max(0, last - 1)  # the dashes begin where the solid line ends
    axes.plot(n[begin:], median[begin:], color=style.colour, linewidth=1.8,
              linestyle=BEYOND, label=f"_beyond {line.variant}")
    places = _markers(n)
    axes.plot(n[places], median[places], color=style.colour, linestyle="none",
              marker=style.marker, markersize=4.5, label=f"_median {line.variant}")


def _reachable(ends: Values) -> Values:
    """Return the ends of a band with the infinite ones far outside of the frame."""
    far = 1e6 * max(1.0, float(np.abs(ends[np.isfinite(ends)]).max(initial=1.0)))
    return np.clip(ends, -far, far)


def _draw_default(axes: Axes, budgets: Budgets, variant: str, style: Style) -> None:
    """Draw the score of the file's own setting as a horizontal line."""
    tuned = next(each for each in budgets.variants if each.variant == variant)
    if tuned.default and math.isfinite(tuned.default.selected):
        axes.axhline(tuned.default.selected, color=style.colour, linewidth=1,
                     linestyle=DEFAULT_LINE, zorder=1.5, label=f"_default {variant}")


def _extent(budgets: Budgets, lines: Sequence[Line]) -> tuple[Values, Values]:
    """Return the finite values of the figure, and the ends of the bands."""
    values = [best.median for line in lines for best in line.bests]
    values += [tuned.default.selected for tuned in budgets.variants if tuned.default]
    ends = [end for line in lines for best in line.bests for end in (best.low, best.high)]
    return np.array([value for value in values if math.isfinite(value)]), np.array(ends)


def _log_budget(axes: Axes, longest: int) -> None:
    """Let the budget's axis be logarithmic, from 1 to the largest."""
    axes.set_xscale("log")
    axes.set_xlim(0.93, max(2, longest) * 1.07)
    powers = range(math.ceil(math.log10(longest)) + 1)
    round_ones = [factor * 10**power for power in powers for factor in TICKS
                  if factor * 10**power * APART < longest]
    axes.xaxis.set_major_locator(FixedLocator([*round_ones, longest]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda n, _: f"{n:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())


def _mark_budgets(axes: Axes, marked: Sequence[int]) -> None:
    """Draw a vertical mark at each budget of the table."""
    for n in marked:
        axes.axvline(n, color=INK, linewidth=0.7, linestyle=DOTTED, alpha=0.55, zorder=1,
                     label="_budget")


def _markers(n: Values) -> list[int]:
    """Return which points of a line have a marker: about evenly far from each other in the figure.
    """
    wanted = np.geomspace(1, len(n), 7)
    return sorted({int(np.abs(np.log(n) - math.log(each)).argmin()) for each in wanted})


def _grid(costs: Values) -> Values:
    """Return budgets in device-seconds, from the cheapest draw to all of them together."""
    known = costs[np.isfinite(costs) & (costs > 0)]
    if not len(known):
        return np.empty(0)
    return np.geomspace(float(known.mean()), float(known.sum()), POINTS)


def _best_notes(budgets: Budgets, lines: Sequence[Line]) -> list[str]:
    """Return what the lines of the figure are, and what they lack."""
    notes = ["Line: the median of the best of n random draws. Band: its exact 95% interval; where "
             "the line is dashed: too few draws to bound the median."]
    if any(tuned.default for tuned in budgets.variants):
        notes.append("Thin dashed line across: the file's own setting, untuned.")
    marked = table_budgets(budgets)
    if marked:
        notes.append(f"Vertical marks: the budgets of the table ({joined([*map(str, marked)])}).")
    if any(math.isinf(end) for line in lines for best in line.bests
           for end in (best.low, best.high)):
        notes.append("A band that leaves the frame has no end there: diverged draws bound it.")
    late = [line.variant for line in lines if not math.isfinite(line.bests[0].median)]
    if late:
        notes.append(f"{', '.join(late)}: half of the draws diverged, so a line begins at the "
                     f"budget from which its median is finite.")
    return notes


def _why_nothing(lines: Sequence[Line]) -> str:
    return ("No draw has a score yet." if not lines else
            "So many draws diverged that no budget has a finite median.")


