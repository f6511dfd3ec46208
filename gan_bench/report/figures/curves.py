"""Figures over the training steps: scores, losses, and what D makes of real and fake images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from gan_bench.compare.stats.summary import ANYTHING, Values, mean_of
from gan_bench.evaluation.scores import ranges
from gan_bench.journal.names import DURING
from gan_bench.journal.schema import Status
from gan_bench.report.figures.style import (
    ACROSS,
    COLOURS,
    CROSS,
    DOTTED,
    INK,
    SMALL,
    TOGETHER,
    WIDTH,
    Style,
    add_legend,
    add_notes,
    count,
    cross,
    fit,
    in_words,
    new_figure,
    panels_of,
    settings,
    styles,
    swatch,
    with_direction,
)

if TYPE_CHECKING:
    import pandas as pd

    from gan_bench.compare.results import Results

POINTS = 500  # that a line is drawn with; fewer in a panel, which has no more pixels
IN_PANEL = 160
GREY = "#808080"  # shows on white and on black
RASTERISED = 20  # seeds of a variant, beyond which thin lines are pixels and no paths
RASTERISED_IN_ALL = 100
STEPS = "training step"
DASHED = (0, (4, 1.5))
ROUND = (1, 2, 2.5, 5, 10)  # what ticks may be multiples of
LOSSES = {"train/d_loss": "D's loss", "train/g_loss": "G's loss"}
OUTPUTS = {"train/d_real": "D(x), real", "train/d_fake": "D(G(z)), fake"}


@dataclass(frozen=True)
class Curves:
    """One metric of one variant's runs over the steps.

    Attributes:
        runs: How many runs the variant has, and how many of them `diverged`.
        lines: For each run that has any, its steps and finite values.
        ends: Where the lines of diverged runs end: (step, value).
        mean: (steps, mean, low, high) where all runs that have the metric and did not diverge
            have a value; low and high are NaN where there is no interval.
        notes: What there is to know of them.
    """

    variant: str
    runs: int
    diverged: int
    lines: dict[str, tuple[Values, Values]]
    ends: list[tuple[float, float]]
    mean: tuple[Values, Values, Values, Values]
    notes: list[str]

    @property
    def label(self) -> str:
        """The variant and its number of runs."""
        lost = f", {self.diverged} diverged" if self.diverged else ""
        return f"{self.variant}\n({count(self.runs, 'run')}{lost})"


def curves(results: Results, metric: str, bounds: tuple[float, float] = ANYTHING,
           points: int = POINTS) -> list[Curves]:
    """Return a metric's curves for each variant, in the experiment's order.

    Args:
        metric: As it is called in the history.
        bounds: The least and the greatest value that there can be.
        points: Means are taken at no more steps, evenly spread, for no more can be seen.
    """
    rows = results.history.loc[results.history["metric"] == metric, ["run", "step", "value"]]
    rows = rows[np.isfinite(rows["value"])].sort_values("step", kind="stable")
    rows = rows.drop_duplicates(["run", "step"], keep="last")
    lines = {str(run): (own["step"].to_numpy(np.float64), own["value"].to_numpy(np.float64))
             for run, own in rows.groupby("run", observed=True, sort=False)}
    return [_variant(str(variant), own["status"], lines, bounds, points)
            for variant, own in results.runs.groupby("variant", observed=True, sort=True)]


def _variant(variant: str, status: pd.Series, lines: dict[str, tuple[Values, Values]],
             bounds: tuple[float, float], points: int) -> Curves:
    own = {str(run): lines[str(run)] for run in status.index if str(run) in lines}
    lost = {str(run) for run in status.index[status == Status.DIVERGED]}
    whole = [own[run] for run in own if run not in lost]
    notes = []
    if unseen := [str(status[run]) for run in status.index if str(run) not in own]:
        notes.append(f"{variant}: {len(unseen)} of {count(len(status), 'run')} without a value "
                     f"({', '.join(sorted(set(unseen)))})")
    steps = reduce(np.intersect1d, [line[0] for line in whole]) if whole else np.empty(0)
    everywhere, counts = np.unique(np.concatenate([np.empty(0), *(line[0] for line in whole)]),
                                   return_counts=True)
    if len(steps) < len(everywhere):
        fewer = counts[counts < len(whole)]
        some = str(fewer.min()) if fewer.min() == fewer.max() else f"{fewer.min()} to {fewer.max()}"
        notes.append(f"{variant}: no mean at {len(fewer)} of {count(len(everywhere), 'step')}, "
                     f"where {some} of {count(len(whole), 'run')} have a value")
    if len(steps) > points:
        steps = steps[np.linspace(0, len(steps) - 1, points).round().astype(int)]
    at = np.array([y[np.searchsorted(x, steps)] for x, y in whole]).reshape(len(whole), len(steps))
    means = [mean_of(values, bounds, len(lost)) for values in at.T]
    value, low, high = (np.array([getattr(mean, end) for mean in means], dtype=np.float64)
                        for end in ("value", "low", "high"))
    ends = [(float(own[run][0][-1]), float(own[run][1][-1])) for run in own if run in lost]
    return Curves(variant, len(status), len(lost), own, ends, (steps, value, low, high), notes)


def thinned(x: Values, y: Values, points: int = POINTS) -> tuple[Values, Values]:
    """Return no more than so many points of a line: the ends, and every stretch's extremes.

    So a spike of a single step is still there.
    """
    if len(x) <= points:
        return x, y
    kept = {0, len(x) - 1}
    for part in np.array_split(np.arange(1, len(x) - 1), points // 2 - 1):
        kept |= {int(part[y[part].argmin()]), int(part[y[part].argmax()])}
    index = sorted(kept)
    return x[index], y[index]


def draw(axes: Axes, own: Curves, style: Style, place: int = 0, band: bool = True,
         rasterised: bool = False, points: int = POINTS) -> None:
    """Draw a variant's runs as thin lines, their mean as a thick one, crosses where they diverged.

    Args:
        place: Of the variant, so that its markers do not cover another's.
        band: Whether to draw the mean's interval.
    """
    many = len(own.lines) > 10
    # In pixels, ink would stay what it is when a page changes it.
    thin = GREY if rasterised and style.colour == INK else style.colour
    for run, (x, y) in own.lines.items():
        axes.plot(*thinned(x, y, points), color=thin, linewidth=0.6,
                  alpha=max(0.05, 4 / len(own.lines)) if many else 0.5,
                  marker="." if len(x) == 1 else "", rasterized=rasterised, label=f"_run {run}")
    x, mean, low, high = own.mean
    if band and np.isfinite(low).any():
        axes.fill_between(x, low, high, color=style.colour, alpha=0.18, linewidth=0,
                          label=f"_band {own.variant}")
    if len(x):
        gap = max(1, len(x) // 6)
        if many:  # else it would be lost among lines of its own colour
            axes.plot(x, mean, color=INK, linewidth=2.8, zorder=2.9, label="_outline")
        axes.plot(x, mean, color=style.colour, linestyle=style.line, linewidth=1.8,
                  marker=style.marker, markersize=4.5, markevery=(place % gap, gap), zorder=3,
                  label=f"_mean {own.variant}")
    if own.ends:
        axes.plot(*zip(*own.ends, strict=True), color=style.colour, linestyle="none", marker=CROSS,
                  markersize=8, markeredgecolor=INK, markeredgewidth=0.6, zorder=4,
                  label=f"_diverged {own.variant}")


def learning_curves(results: Results, score: str) -> Figure:
    """Return a score over training: for each variant its runs, and their mean with its interval.

    The mean and its 95% t-interval are over the runs that did not diverge, at steps at which each
    of them has a value. More than 8 variants get a panel each, with the baseline's mean in all.
    Where positive values go over more than a factor of 50, the axis is logarithmic.

    Args:
        score: Its name, without the `eval/` of the history.
    """
    few = len(results.variants) <= TOGETHER
    points = POINTS if few else IN_PANEL
    found = curves(results, DURING + score, ranges().get(score, ANYTHING), points)
    title = f"{score} during training · {results.experiment}"
    with settings():
        if not any(own.lines for own in found):
            return in_words(title, f"No run has a finite {score} from during training"
                            + _lost(found) + ".")
        looks = styles(list(results.runs["variant"].cat.categories))
        if few:
            figure = new_figure(title, WIDTH, 4.2)
            panels = [figure.subplots()] * len(found)
        else:
            figure, panels = panels_of(title, [own.label for own in found], 1, 1.9, STEPS)
        for i, (own, axes) in enumerate(zip(found, panels, strict=True)):
            draw(axes, own, looks[own.variant], i if few else 0, rasterised=_dense(found),
                 points=points)
        base = next((own for own in found if own.variant == results.baseline), None)
        notes = [note for own in found for note in own.notes]
        if not few and base and len(base.mean[0]):
            for axes in panels:
                axes.plot(*base.mean[:2], color=INK, linewidth=1, linestyle=DOTTED,
                          label="_baseline", zorder=2.5)
            notes.insert(0, f"Dark dotted line: the mean of {base.variant}, the baseline.")
        notes = [*_limits(panels if not few else panels[:1], found), *notes]
        if few:
            panels[0].set(xlabel=STEPS, ylabel=with_direction(results, score))
            add_legend(figure, [*((swatch(looks[own.variant]), own.label) for own in found),
                                *([cross()] if any(own.ends for own in found) else [])])
        else:
            figure.supylabel(with_direction(results, score), fontsize=9)
        banded = any(np.isfinite(own.mean[2]).any() for own in found)
        add_notes(figure, [
            f"Thick: the mean over seeds{' with its 95% interval' if banded else ''}, over the "
            f"runs that did not diverge. Thin: each seed."
            + (" Cross: where a run diverged." if any(own.ends for own in found) else "")
            + ("" if banded else " No interval: that takes two seeds or more."), *notes])
        return figure


def dynamics(results: Results) -> Figure:
    """Return the losses of G and D, and D(x) and D(G(z)), over training, for each variant.

    D's are dark and solid, G's in the variant's colour and dashed. Losses have an axis of their
    own for each variant, as they are different functions.
    """
    found = {metric: curves(results, metric, points=IN_PANEL)
             for metric in (*LOSSES, *OUTPUTS)}
    title = f"Losses, and D's output · {results.experiment}"
    with settings():
        if not any(own.lines for each in found.values() for own in each):
            return in_words(title, "No run has recorded losses yet.")
        every = found["train/g_loss"]
        dense = _dense([own for each in found.values() for own in each])
        looks = styles(list(results.runs["variant"].cat.categories))
        figure, panels = panels_of(title, [own.label for own in every], 2, 3.1, STEPS)
        notes = []
        for i, own in enumerate(every):
            upper, lower = panels[2 * i], panels[2 * i + 1]
            for axes, metrics in ((upper, LOSSES), (lower, OUTPUTS)):
                for metric in metrics:
                    by_g = metric in ("train/g_loss", "train/d_fake")
                    look = Style(looks[own.variant].colour, "", DASHED) if by_g else Style(
                        INK, "", "-")
                    draw(axes, found[metric][i], look, band=False,
                         rasterised=dense, points=IN_PANEL)
                if not any(found[metric][i].lines for metric in metrics):
                    axes.text(0.5, 0.5, "no values", ha="center", transform=axes.transAxes)
            lower.set_ylim(-0.05, 1.05)
            lower.tick_params(labelleft=i % ACROSS == 0)
            notes += [f"{own.variant}: {note}" for note in _robust(
                upper, [found[metric][i] for metric in LOSSES])]
            for axes in (upper, lower):
                axes.xaxis.set_major_locator(MaxNLocator(4, integer=True, steps=ROUND))
            if i % ACROSS == 0:
                upper.set_ylabel("loss", fontsize=SMALL)
                lower.set_ylabel("D's output", fontsize=SMALL)
            upper.tick_params(labelbottom=False)
        add_legend(figure, [
            (Line2D([], [], color=INK, linewidth=1.8),
             "above: D's loss\nbelow: D(x), real images"),
            (Line2D([], [], color=COLOURS[0], linewidth=1.8, linestyle=DASHED),
             "above: G's loss\nbelow: D(G(z)), fakes\n(in the variant's colour)"),
            *([cross()] if any(own.ends for own in every) else [])])
        add_notes(figure, ["Thick: the mean over seeds that did not diverge; thin: each seed. The "
                           "losses of each variant have their own scale. D(x) and D(G(z)): the "
                           "sigmoid of D's output, 0 fake to 1 real.", *notes])
        return figure


def _dense(found: list[Curves]) -> bool:
    """Whether there are so many thin lines that they are better drawn as pixels."""
    lines = [len(own.lines) for own in found]
    return max(lines) > RASTERISED or sum(lines) > RASTERISED_IN_ALL


def _limits(panels: Sequence[Any], found: list[Curves]) -> list[str]:
    """Choose the scale and range of scores, and return what there is to say of it."""
    values = np.concatenate([y for own in found for _, y in own.lines.values()])
    ends = np.concatenate([np.empty(0), *(end for own in found for end in own.mean[2:])])
    notes: list[str] = []
    for axes in panels:
        axes.grid(True)
        axes.xaxis.set_major_locator(MaxNLocator(8 if len(panels) == 1 else 4, integer=True,
                                                 steps=ROUND))
        notes = fit(axes, "y", values, ends)
    return notes


def _robust(axes: Any, pair: list[Curves]) -> list[str]:
    """Keep a few wild losses from flattening all others, and return how many are not shown."""
    values = np.concatenate([np.empty(0), *(y for own in pair for _, y in own.lines.values())])
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


def _lost(found: list[Curves]) -> str:
    diverged, runs = sum(own.diverged for own in found), sum(own.runs for own in found)
    return f"; {diverged} of {count(runs, 'run')} diverged" if diverged else ""
