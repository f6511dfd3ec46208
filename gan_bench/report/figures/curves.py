"""Figures over the training steps: scores, losses, and D's output for real and fake images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gan_bench.compare.stats.summary import UNBOUNDED, Values
from gan_bench.errors import count
from gan_bench.evaluation.score_directions import ranges
from gan_bench.journal.scores.score_names import DURING, score_name
from gan_bench.report.figures.curve_data import POINTS, VariantCurves, metric_curves, thinned
from gan_bench.report.figures.look import look
from gan_bench.report.figures.scales import fit_axis, flattening
from gan_bench.report.figures.style import (
    COLOURS,
    CROSS,
    DOTTED,
    INK,
    MAX_IN_PANEL,
    SMALL,
    CaptionedFigure,
    Style,
    add_legend,
    add_notes,
    arranged,
    cross,
    message_figure,
    new_figure,
    panels_across,
    panels_of,
    settings,
    styles,
    swatch,
    with_direction,
)

if TYPE_CHECKING:

    from gan_bench.compare.results import Results

PANEL_POINTS = 160  # of a line in a small panel
GREY = "#808080"  # visible on white and on black
MAX_PATHS = 20  # seeds of a variant; with more, thin lines are drawn as pixels
MAX_ALL_PATHS = 100  # the same for all variants together
STEPS = "training step"
DASHED = (0, (4, 1.5))
ROUND = (1, 2, 2.5, 5, 10)  # ticks are multiples of these
LOSSES = {"train/d_loss": "D's loss", "train/g_loss": "G's loss"}
OUTPUTS = {"train/d_real": "D(x), real", "train/d_fake": "D(G(z)), fake"}


def draw_curves(axes: Axes, curves: VariantCurves, style: Style, place: int = 0, band: bool = True,
                rasterised: bool = False, points: int = POINTS) -> None:
    """Draw a variant's runs as thin lines, their mean as a thick one, crosses where they diverged.

    Args:
        place: The place of the variant: it shifts the markers, so that they do not overlap.
        band: Whether to draw the mean's interval.
    """
    many = len(curves.lines) > 10
    # A page can change the colour of ink in paths, but not in pixels.
    thin = GREY if rasterised and style.colour == INK else style.colour
    for run, (x, y) in curves.lines.items():
        axes.plot(*thinned(x, y, points), color=thin, linewidth=0.6,
                  alpha=max(0.05, 4 / len(curves.lines)) if many else 0.5,
                  marker="." if len(x) == 1 else "", rasterized=rasterised, label=f"_run {run}")
    x, mean, low, high = curves.mean
    if band and np.isfinite(low).any():
        axes.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0,
                          label=f"_band {curves.variant}")
    if len(x):
        gap = max(1, len(x) // 6)
        if many:  # else it cannot be seen among lines of its variant colour
            axes.plot(x, mean, color=INK, linewidth=2.8, zorder=2.9, label="_outline")
        axes.plot(x, mean, color=style.colour, linestyle=style.line, linewidth=1.8,
                  marker=style.marker, markersize=4.5, markevery=(place % gap, gap), zorder=3,
                  label=f"_mean {curves.variant}")
    if curves.ends:
        axes.plot(*zip(*curves.ends, strict=True), color=style.colour, linestyle="none",
                  marker=CROSS, markersize=8, markeredgecolor=INK, markeredgewidth=0.6, zorder=4,
                  label=f"_diverged {curves.variant}")


def learning_curves(results: Results, score: str, order: Sequence[str] = ()) -> Figure:
    """Return a score over training: for each variant its runs, and their mean with its interval.

    The mean and its 95% t-interval are over the runs that did not diverge, at steps where each
    of them has a value. More than 8 variants get a panel each, with the baseline's mean in all. If
    positive values span more than a factor of 50, the axis is logarithmic. Where a bad variant
    would flatten the second half of training, a second panel is on the scale of the others.

    Args:
        score: Its name, without the `eval/` of the history.
        order: The variants as the rows of the table have them; empty: as in the experiment.
    """
    few = len(results.variants) <= MAX_IN_PANEL
    points = POINTS if few else PANEL_POINTS
    bounds = ranges().get(score, UNBOUNDED)
    found = {curve.variant: curve for curve in metric_curves(
        results, score_name(DURING, score), bounds, points)}
    variants = [found[name] for name in arranged(found, order)]
    label = results.declared.label(score)
    title = f"{label} during training · {results.experiment}"
    with settings():
        if not any(curve.lines for curve in variants):
            why = f"No run has a finite {label} during training{_lost(variants)}."
            return message_figure(title, why)
        if why := _one_measurement(variants, label):
            return message_figure(title, why)
        looks = styles(list(results.runs["variant"].cat.categories))
        late = {curve.variant: _late(curve) for curve in variants}
        far = flattening(late) if few else []
        closer: list[Axes] = []
        if few:
            figure, [first, *closer] = _one_panel(title, far)
            panels = [first] * len(variants)
        else:
            figure, panels = panels_of(title, [curve.label for curve in variants], 1, 1.9, STEPS)
        for i, (curve, axes) in enumerate(zip(variants, panels, strict=True)):
            for each in (axes, *closer):
                draw_curves(each, curve, looks[curve.variant], i if few else 0,
                            rasterised=_dense(variants), points=points)
        base = next((curve for curve in variants if curve.variant == results.baseline), None)
        notes = [note for curve in variants for note in curve.notes]
        if not few and base and len(base.mean[0]):
            for axes in panels:
                axes.plot(*base.mean[:2], color=INK, linewidth=1, linestyle=DOTTED,
                          label="_baseline", zorder=2.5)
            notes.insert(0, f"Dark dotted line: the mean of {base.variant}, the baseline.")
        notes = [*_limits(panels if not few else panels[:1], variants), *notes]
        for axes in closer:
            notes += _zoom(axes, late, far)
        if few:
            panels[0].set(xlabel=STEPS, ylabel=with_direction(results, score))
            entries = [(swatch(looks[curve.variant]), curve.label) for curve in variants]
            if any(curve.ends for curve in variants):
                entries.append(cross())
            add_legend(figure, entries)
        else:
            figure.supylabel(with_direction(results, score), fontsize=9)
        banded = any(np.isfinite(curve.mean[2]).any() for curve in variants)
        add_notes(figure, [_legend(banded, any(curve.ends for curve in variants)), *notes])
        return figure


def _one_measurement(variants: Sequence[VariantCurves], label: str) -> str:
    """Return that no run has a curve, because none was measured twice; empty if one was."""
    steps = [x for curve in variants for x, _ in curve.lines.values()]
    if max(map(len, steps)) > 1:
        return ""
    first, last = (int(end(x[0] for x in steps)) for end in (min, max))
    when = f"at step {first:,}" if first == last else f"between steps {first:,} and {last:,}"
    return (f"{label} was measured once in each run, {when}: that is no curve over training. With "
            f"evaluate.every below the number of steps it is measured more often.")


def _legend(banded: bool, diverged: bool) -> str:
    """Return what the lines of the figure are."""
    interval = " with its 95% interval" if banded else ""
    text = (f"Thick: the mean over seeds{interval}, over the runs that did not diverge. "
            f"Thin: each seed.")
    text += " Cross: where a run diverged." if diverged else ""
    return text if banded else f"{text} No interval: it needs two seeds or more."


def dynamics(results: Results) -> Figure:
    """Return the losses of G and D, and D(x) and D(G(z)), over training, for each variant.

    D's are dark and solid, G's in the variant's colour and dashed. Losses have an axis of their
    variant for each variant, as they are different functions.
    """
    by_metric = {metric: metric_curves(results, metric, points=PANEL_POINTS)
                 for metric in (*LOSSES, *OUTPUTS)}
    title = f"Losses, and D's output · {results.experiment}"
    with settings():
        if not any(curve.lines for each in by_metric.values() for curve in each):
            return message_figure(title, "No run has recorded losses yet.")
        every = by_metric["train/g_loss"]
        dense = _dense([curve for each in by_metric.values() for curve in each])
        looks = styles(list(results.runs["variant"].cat.categories))
        figure, panels = panels_of(title, [curve.label for curve in every], 2, 3.1, STEPS)
        notes = []
        for i, curve in enumerate(every):
            upper, lower = panels[2 * i], panels[2 * i + 1]
            for axes, metrics in ((upper, LOSSES), (lower, OUTPUTS)):
                for metric in metrics:
                    by_g = metric in ("train/g_loss", "train/d_fake")
                    look = Style(INK, "", "-")
                    if by_g:
                        look = Style(looks[curve.variant].colour, "", DASHED)
                    draw_curves(axes, by_metric[metric][i], look, band=False,
                                rasterised=dense, points=PANEL_POINTS)
                if not any(by_metric[metric][i].lines for metric in metrics):
                    axes.text(0.5, 0.5, "no values", ha="center", transform=axes.transAxes)
            lower.set_ylim(-0.05, 1.05)
            is_first = i % panels_across(len(every)) == 0
            lower.tick_params(labelleft=is_first)
            notes += [f"{curve.variant}: {note}" for note in _robust(
                upper, [by_metric[metric][i] for metric in LOSSES])]
            for axes in (upper, lower):
                axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=ROUND))
            if is_first:
                upper.set_ylabel("loss", fontsize=SMALL)
                lower.set_ylabel("D's output", fontsize=SMALL)
            upper.tick_params(labelbottom=False)
        add_legend(figure, [
            (Line2D([], [], color=INK, linewidth=1.8),
             "above: D's loss\nbelow: D(x), real images"),
            (Line2D([], [], color=COLOURS[0], linewidth=1.8, linestyle=DASHED),
             "above: G's loss\nbelow: D(G(z)), fakes\n(in the variant's colour)"),
            *([cross()] if any(curve.ends for curve in every) else [])])
        add_notes(figure, ["Thick: the mean over seeds that did not diverge; thin: each seed. Each "
                           "variant's losses have a scale of their own. D(x) and D(G(z)): the "
                           "sigmoid of D's output, 0 fake to 1 real.", *notes])
        return figure


def _one_panel(title: str, far: Sequence[str]) -> tuple[CaptionedFigure, list[Any]]:
    """Return a figure and its panel; if there are variants far from the others, two panels."""
    panels, height = 2 if far else 1, look().height(4.2)
    below = panels if look().is_narrow else 1
    figure = new_figure(title, look().width, height * below)
    return figure, [*figure.subplots(below, panels // below, squeeze=False).ravel()]


def _late(curve: VariantCurves) -> Values:
    """Return a variant's values in the second half of each run."""
    return np.concatenate([np.empty(0), *(y[x >= x[-1] / 2] for x, y in curve.lines.values())])


def _zoom(axes: Axes, late: Mapping[str, Values], far: Sequence[str]) -> list[str]:
    """Choose the scale of the second panel, without the variants that are far from the others."""
    near = np.concatenate([values for name, values in late.items() if name not in far])
    axes.grid(True)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=ROUND))
    axes.set_xlabel(STEPS)
    fit_axis(axes, "y", near, np.empty(0))
    return [f"The second panel is on the scale of the second half of training without "
            f"{', '.join(far)}."]


def _dense(variants: list[VariantCurves]) -> bool:
    """Whether there are too many thin lines to draw them as paths."""
    lines = [len(curve.lines) for curve in variants]
    return max(lines) > MAX_PATHS or sum(lines) > MAX_ALL_PATHS


def _limits(panels: Sequence[Any], variants: list[VariantCurves]) -> list[str]:
    """Choose the scale and range of the score axes, and return notes on them."""
    values = np.concatenate([y for curve in variants for _, y in curve.lines.values()])
    ends = np.concatenate([np.empty(0), *(end for curve in variants for end in curve.mean[2:])])
    notes: list[str] = []
    ticks = 4 if len(panels) > 1 or look().is_narrow else 8
    for axes in panels:
        axes.grid(True)
        axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, steps=ROUND))
        notes = fit_axis(axes, "y", values, ends)
    return notes


def _robust(axes: Any, pair: list[VariantCurves]) -> list[str]:
    """Limit the axis if a few extreme losses flatten the others; return how many are outside."""
    values = np.concatenate([np.empty(0), *(y for curve in pair for _, y in curve.lines.values())])
    if not len(values):
        return []
    low, high = np.quantile(values, [0.01, 0.99])
    room = (high - low) / 4
    if values.max() - values.min() <= 3 * (high - low) or not room:
        return []
    axes.set_ylim(low - room, high + room)
    beyond = int(((values < low - room) | (values > high + room)).sum())
    return [f"{beyond} of {len(values):,} losses lie beyond the frame, the farthest at "
            f"{values[np.abs(values).argmax()]:.3g}"]


def _lost(variants: list[VariantCurves]) -> str:
    diverged = sum(curve.diverged for curve in variants)
    runs = sum(curve.runs for curve in variants)
    return f"; {diverged} of {count(runs, 'run')} diverged" if diverged else ""
