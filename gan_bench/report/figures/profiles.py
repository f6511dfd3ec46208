"""Performance profiles: how good the runs of each variant are over several experiments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from gan_bench.compare.rows import final_scores
from gan_bench.compare.stats.summary import Scores, Values
from gan_bench.errors import count
from gan_bench.registry import Better
from gan_bench.report.figures.look import look
from gan_bench.report.figures.style import (
    DOTTED,
    INK,
    MAX_IN_PANEL,
    add_legend,
    add_notes,
    better_direction,
    message_figure,
    new_figure,
    panels_of,
    settings,
    styles,
    swatch,
    wrapped,
)

if TYPE_CHECKING:
    from gan_bench.compare.results import Results

SCALE = "score at least this good"
SHARE = "share of runs, averaged over experiments"


def profiles(experiments: Sequence[Results], score: str) -> Figure:
    """Return performance profiles over several experiments: score distributions.

    For each variant and threshold: the share of its runs that reach it, averaged over the
    experiments (Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical
    precipice", section 4.2). Dolan and Moré's ratios (2002) need positive costs; but for some
    scores higher is better, and some are negative. So the scores of each experiment are scaled from
    0, its worst run, to 1, its best. Diverged runs reach no threshold, so a curve may begin below
    1. Variants that an experiment lacks are left out, and named.

    Args:
        score: Its name, without the `score.` of the frames' columns.
    """
    label = experiments[0].declared.label(score)
    title = f"Profiles of {label} over {count(len(experiments), 'experiment')}"
    better = better_direction(experiments[0], score)
    all_scores = [final_scores(results.ended(), score) for results in experiments]
    names = list(dict.fromkeys(name for scores in all_scores for name in scores))
    common = [name for name in names if all(scores.get(name) for scores in all_scores)]
    scaled = [_scaled(scores, better) for scores in all_scores]
    why = _why_no_profiles(score, better, common, scaled)
    with settings():
        if why:
            return message_figure(title, why)
        looks, few = styles(names), len(common) <= MAX_IN_PANEL
        if few:
            figure = new_figure(title, look().width, look().height(4.0))
            panels = [figure.subplots()] * len(common)
        else:
            figure, panels = panels_of(title, common, 1, 1.9, SCALE)
        base = experiments[0].baseline
        for name, axes in zip(common, panels, strict=True):
            at, share = _profile([scores[name] for scores in scaled])
            if not few and base in common:
                axes.step(*_profile([scores[base] for scores in scaled]), where="pre", color=INK,
                          linewidth=1, linestyle=DOTTED, label="_baseline")
            axes.step(at, share, where="pre", color=looks[name].colour, linewidth=1.8,
                      linestyle=looks[name].line, marker=looks[name].marker, markersize=4.5,
                      markevery=max(1, len(at) // 6), label=f"_profile {name}")
            axes.grid(True)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
        if few:
            along = f"{SCALE} (0: worst run of its experiment, 1: best)"
            panels[0].set(xlabel=wrapped(along, int(look().width * 12)), ylabel=SHARE)
            add_legend(figure, [(swatch(looks[name]), name) for name in common])
        else:
            figure.supylabel(SHARE, fontsize=9)
        left_out = [name for name in names if name not in common]
        add_notes(figure, [
            f"Experiments: {', '.join(results.experiment for results in experiments)}. Higher "
            f"curves are better. The scale goes from the worst run of each experiment, 0, to its "
            f"best, 1. "
            f"Diverged runs reach no score.",
            *([f"Dark dotted line: {base}, the baseline."] if not few and base in common else []),
            *([f"Left out, as an experiment lacks them: {', '.join(left_out)}."]
              if left_out else [])])
        return figure


def _why_no_profiles(score: str, better: Better, common: Sequence[str],
                     scaled: Sequence[Mapping[str, Values]]) -> str:
    """Return why there is nothing to draw; empty if there is."""
    if better is None:
        return f"Neither direction of {score} is better, so its values cannot be ranked."
    if not common:
        return f"No variant has runs with a {score} in each of {count(len(scaled), 'experiment')}."
    if not any(np.isfinite(scores[name]).any() for scores in scaled for name in common):
        return "All runs diverged."
    return ""


def _scaled(scores: Mapping[str, Scores], better: Better) -> dict[str, Values]:
    """Return an experiment's scores from 0, the worst, to 1, the best; −∞ for diverged runs."""
    sign = -1.0 if better == "lower" else 1.0
    signed = {name: sign * np.array([*by_seed.values()], float) for name, by_seed in scores.items()}
    finite = np.concatenate([np.empty(0), *(x[np.isfinite(x)] for x in signed.values())])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    scaled = {}
    for name, values in signed.items():
        shares = (values - low) / (high - low) if high > low else np.ones_like(values)
        scaled[name] = np.where(np.isfinite(values), shares, -math.inf)
    return scaled


def _profile(scaled: Sequence[Values]) -> tuple[Values, Values]:
    """Return a variant's profile, from its scaled scores in each experiment: thresholds, shares."""
    reached = np.concatenate(scaled)
    at = np.unique(np.concatenate([[0.0, 1.0], reached[np.isfinite(reached)]]))
    return at, np.mean([(values[:, None] >= at).mean(axis=0) for values in scaled], axis=0)
