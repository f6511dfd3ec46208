"""Every seed's final score as a dot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gan_bench.compare.rows import final_scores
from gan_bench.compare.stats.summary import (
    UNBOUNDED,
    Estimate,
    Scores,
    Summary,
    Values,
    summarise_scores,
)
from gan_bench.errors import count
from gan_bench.evaluation.score_directions import ranges
from gan_bench.registry import Better
from gan_bench.report.figures.look import look
from gan_bench.report.figures.scales import fit_axis, flattening
from gan_bench.report.figures.style import (
    CROSS,
    INK,
    SMALL,
    Style,
    add_notes,
    arranged,
    better_direction,
    message_figure,
    new_figure,
    settings,
    styles,
    with_direction,
    wrapped,
)

if TYPE_CHECKING:
    from gan_bench.compare.results import Results


def seed_dots(results: Results, score: str, order: Sequence[str] = ()) -> Figure:
    """Return every run's final score as a dot, and below the dots their mean with its interval.

    Diverged runs are crosses beyond the worst score, or beyond the greatest if neither direction is
    better. Where a bad variant would flatten the others, a second panel shows them without it.

    Args:
        score: Its name, without the `score.` of the frame's column.
        order: The variants as the rows of the table have them; empty: as in the experiment.
    """
    title = f"Final {results.declared.label(score)} of every seed · {results.experiment}"
    better = better_direction(results, score)
    scores = final_scores(results.ended(), score)
    scores = {variant: scores[variant] for variant in arranged(scores, order)}
    all_values = np.array(
        [value for by_seed in scores.values() for value in by_seed.values()], float)
    lost, runs = int((~np.isfinite(all_values)).sum()), len(results.runs)
    with settings():
        if lost == len(all_values):
            reason = f"0 of {count(runs, 'run')} finished with one"
            if lost:
                reason = f"{lost} of {count(runs, 'run')} diverged"
            return message_figure(
                title, f"No run has a finite {results.declared.label(score)}: {reason}.")
        summaries = {variant: summarise_scores(by_seed, better, ranges().get(score, UNBOUNDED))
                     for variant, by_seed in scores.items()}
        labels = [_label(variant, summary) for variant, summary in summaries.items()]
        rows = [0.32 + 0.14 * (1 + label.count("\n")) for label in labels]
        by_variant = {variant: _finite(by_seed) for variant, by_seed in scores.items()}
        far = flattening(by_variant)
        down = 2 if far and look().is_narrow else 1
        figure = new_figure(title, look().width, down * (max(rows) * len(rows) + 0.8))
        panels = figure.subplots(down, 2 if far and down == 1 else 1, sharey=True,
                                 squeeze=False).ravel()
        means = {variant: summary.mean for variant, summary in summaries.items()}
        looks = styles(list(results.runs["variant"].cat.categories))
        notes: list[str] = []
        left_out: tuple[Sequence[str], ...] = ((), far)
        for axes, without in zip(panels, left_out, strict=False):
            axes.grid(True, axis="x")
            shown = [variant for variant in scores if variant not in without]
            notes += fit_axis(axes, "x", np.concatenate([by_variant[name] for name in shown]),
                              _ends([means[name] for name in shown]))
            strip = _strip(axes, better) if lost and not without else np.empty(0)
            for place, (variant, by_seed) in enumerate(scores.items()):
                _draw_dots(axes, place, by_seed, looks[variant], strip, variant)
                _draw_mean(axes, place, means[variant], looks[variant], variant)
            axes.tick_params(axis="y", length=0)
            axes.set_xlabel(with_direction(results, score))
        panels[0].set_yticks(range(len(labels)), labels)
        panels[0].set_ylim(len(labels) - 0.45, -0.55)
        if far:
            notes.append(f"The second panel leaves out {', '.join(far)}, on whose scale the others "
                         f"would be flat.")
        legend = "Small: each seed. Large: their mean, with its 95% interval."
        if lost:
            legend += " Crosses: diverged runs, which take no part in the mean."
        add_notes(figure, [legend, *dict.fromkeys(notes), *_remarks(results, scores, means)])
        return figure


def _finite(scores: Scores) -> Values:
    values = np.array([scores[seed] for seed in sorted(scores)], float)
    finite: Values = values[np.isfinite(values)]
    return finite


def _ends(means: Sequence[Estimate]) -> Values:
    return np.array([end for mean in means for end in (mean.low, mean.high)])


def _label(variant: str, summary: Summary) -> str:
    diverged = f", {summary.diverged} diverged" if summary.diverged else ""
    return wrapped(f"{variant}\n({count(summary.n, 'run')}{diverged})")


def _strip(axes: Axes, better: Better) -> Values:
    """Reserve room for crosses at the worse end of the axis, and return their places."""
    log = axes.get_xscale() == "log"
    low, high = axes.get_xlim()
    if log:
        low, high = math.log(low), math.log(high)
    width = 0.1 * (high - low)
    ticks = axes.get_xticks()
    if better == "higher":
        edge, low = low, low - width
    else:
        edge, high = high, high + width
    places = np.linspace(low, low + width, 6) if better == "higher" else np.linspace(
        high - width, high, 6)
    ends, line = np.array([low, high]), np.array([edge])
    if log:
        places, ends, line = np.exp(places), np.exp(ends), np.exp(line)
    inside = ticks > line[0] if better == "higher" else ticks < line[0]
    axes.set_xticks(ticks[inside])  # the strip has no scores
    axes.set_xlim(*ends)
    axes.minorticks_off()
    axes.axvline(line[0], color=INK, linewidth=0.7, linestyle=(0, (1, 2)))
    axes.annotate("diverged", ((places[2] * places[3])**0.5 if log else places[2:4].mean(), 1),
                  xycoords=("data", "axes fraction"), xytext=(0, 2), textcoords="offset points",
                  ha="center", fontsize=SMALL)
    return places[1:-1]


def _draw_dots(axes: Axes, place: int, scores: Scores, style: Style, strip: Values, variant: str,
               ) -> None:
    values = _finite(scores)
    axes.plot(values, _spread(place, len(values)), linestyle="none", marker=style.marker,
              markersize=4.5, color=style.colour, alpha=0.75, markeredgewidth=0,
              label=f"_seeds {variant}")
    lost = len(scores) - len(values)
    if lost and len(strip):
        rows = math.ceil(lost / len(strip))
        axes.plot(np.tile(strip, rows)[:lost], np.repeat(_spread(place, rows), len(strip))[:lost],
                  linestyle="none", marker=CROSS, markersize=6, color=style.colour,
                  markeredgecolor=INK, markeredgewidth=0.5, label=f"_diverged {variant}")


def _spread(place: int, n: int) -> Values:
    """Return the heights of the dots of a row, so that equal scores do not overlap."""
    return place - 0.12 + (np.linspace(-0.2, 0.2, n) if n > 1 else np.zeros(n))


def _draw_mean(axes: Axes, place: int, mean: Estimate, style: Style, variant: str) -> None:
    if math.isnan(mean.value):
        return
    y = place + 0.26
    if not math.isnan(mean.low):
        axes.plot([mean.low, mean.high], [y, y], color=style.colour, linewidth=2,
                  solid_capstyle="butt", marker="|", markersize=9, label=f"_interval {variant}")
    axes.plot([mean.value], [y], color=style.colour, marker=style.marker, markersize=8,
              markeredgecolor=INK, markeredgewidth=0.8, label=f"_mean {variant}")


def _remarks(results: Results, scores: Mapping[str, Scores], means: Mapping[str, Estimate],
             ) -> list[str]:
    """Return remarks on the means, and on runs without a dot."""
    remarks: dict[str, list[str]] = {}
    for variant, mean in means.items():
        for remark in mean.remarks:  # the variant's label says which runs the mean is over
            remarks.setdefault(remark, []).append(variant)
        if absent := int((results.runs["variant"] == variant).sum()) - len(scores[variant]):
            remarks.setdefault(f"{count(absent, 'run')} without a result (yet): not finished, "
                               f"or failed, or without this score", []).append(variant)
    return [f"{', '.join(variants)}: {remark}." for remark, variants in remarks.items()]
