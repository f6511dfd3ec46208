"""Performance profiles: how good the runs of each variant are over several experiments."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from gan_bench.compare.rows import final_scores
from gan_bench.compare.stats.summary import Scores, Values
from gan_bench.registry import Better
from gan_bench.report.figures.style import (
    DOTTED,
    INK,
    TOGETHER,
    WIDTH,
    add_legend,
    add_notes,
    count,
    in_words,
    new_figure,
    panels_of,
    settings,
    styles,
    swatch,
    way,
)

if TYPE_CHECKING:
    from gan_bench.compare.results import Results

SCALE = "score at least so good"
SHARE = "share of runs, averaged over experiments"


def profiles(several: Sequence[Results], score: str) -> Figure:
    """Return performance profiles over several experiments: score distributions.

    For each variant, the share of its runs that are at least so good, averaged over the experiments
    (Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice",
    section 4.2). Dolan and Moré's ratios (2002) would ask for positive costs; a score may be one
    where higher is better, and may be negative. So each experiment's scores are put on a scale of
    their own, from 0, its worst run, to 1, its best. Runs that diverged never get there, so a curve
    may begin below 1. Variants that some experiment lacks are left out, and named.

    Args:
        score: Its name, without the `score.` of the frames' columns.
    """
    title = f"Profiles of {score} over {count(len(several), 'experiment')}"
    better = way(several[0], score)
    found = [final_scores(results.ended(), score) for results in several]
    names = list(dict.fromkeys(name for one in found for name in one))
    common = [name for name in names if all(one.get(name) for one in found)]
    scaled = [_scaled(one, better) for one in found]
    why = ""
    if better is None:
        why = f"Neither direction of {score} is better, so none of its values is an achievement."
    elif not common:
        why = f"No variant has runs with a {score} in each of {count(len(several), 'experiment')}."
    elif not any(np.isfinite(one[name]).any() for one in scaled for name in common):
        why = "All runs diverged."
    with settings():
        if why:
            return in_words(title, why)
        looks, few = styles(names), len(common) <= TOGETHER
        if few:
            figure = new_figure(title, WIDTH, 4.0)
            panels = [figure.subplots()] * len(common)
        else:
            figure, panels = panels_of(title, common, 1, 1.9, SCALE)
        base = several[0].baseline
        for name, axes in zip(common, panels, strict=True):
            at, share = _profile([one[name] for one in scaled])
            if not few and base in common:
                axes.step(*_profile([one[base] for one in scaled]), where="pre", color=INK,
                          linewidth=1, linestyle=DOTTED, label="_baseline")
            axes.step(at, share, where="pre", color=looks[name].colour, linewidth=1.8,
                      linestyle=looks[name].line, marker=looks[name].marker, markersize=4.5,
                      markevery=max(1, len(at) // 6), label=f"_profile {name}")
            axes.grid(True)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.03, 1.03))
        if few:
            panels[0].set(xlabel=f"{SCALE} (0: worst run of its experiment, 1: best)", ylabel=SHARE)
            add_legend(figure, [(swatch(looks[name]), name) for name in common])
        else:
            figure.supylabel(SHARE, fontsize=9)
        left = [name for name in names if name not in common]
        add_notes(figure, [
            f"Experiments: {', '.join(one.experiment for one in several)}. Higher curves are "
            f"better. The scale goes from the worst run of each experiment, 0, to its best, 1. "
            f"Runs that diverged never reach any score.",
            *([f"Dark dotted line: {base}, the baseline."] if not few and base in common else []),
            *([f"Left out, as some experiment lacks them: {', '.join(left)}."] if left else [])])
        return figure


def _scaled(scores: Mapping[str, Scores], better: Better) -> dict[str, Values]:
    """Return an experiment's scores from 0, the worst, to 1, the best; −∞ for diverged runs."""
    sign = -1.0 if better == "lower" else 1.0
    values = {name: sign * np.array([*own.values()], float) for name, own in scores.items()}
    finite = np.concatenate([np.empty(0), *(own[np.isfinite(own)] for own in values.values())])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    return {name: np.where(np.isfinite(own), (own - low) / (high - low) if high > low else 1.0,
                           -math.inf) for name, own in values.items()}


def _profile(own: Sequence[Values]) -> tuple[Values, Values]:
    """Return a variant's profile, from its scaled scores in each experiment: thresholds, shares."""
    reached = np.concatenate(own)
    at = np.unique(np.concatenate([[0.0, 1.0], reached[np.isfinite(reached)]]))
    return at, np.mean([(values[:, None] >= at).mean(axis=0) for values in own], axis=0)
