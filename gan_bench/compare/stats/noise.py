"""How much scatter comes from the training seed, and how much from the sampled latents."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gan_bench.compare.stats.search.random_effects import variance_parts


@dataclass(frozen=True)
class Noise:
    """Two sources of scatter, as standard deviations in the units of the score.

    Attributes:
        seed: Between trained generators, without the sampling noise; NaN with fewer than 2 runs.
        sampling: Between sets of latents of the same generator; NaN if no run has 2 sets.
        runs: How many runs have finite scores.
        note: Remarks on the numbers; never empty if one of them is NaN or was set to 0.
    """

    seed: float
    sampling: float
    runs: int
    note: str = ""


def measure_noise(scores: Mapping[int, Sequence[float]]) -> Noise:
    """Separate seed noise from sampling noise by the one-way random-effects decomposition.

    Each score is a mean, plus what the training seed adds, plus what the latents add; see
    `variance_parts`.

    Args:
        scores: For each seed, the score of the same generator on several sets of latents. Runs may
            have unequal numbers of sets. Runs without a finite score are left out, and noted.
    """
    groups = []
    for run_scores in scores.values():
        x = np.asarray(run_scores, dtype=np.float64)
        if np.isfinite(x).any():
            groups.append(x[np.isfinite(x)])
    notes = []
    if len(groups) < len(scores):
        notes.append(f"without {len(scores) - len(groups)} runs that have no finite score")
    parts = variance_parts(groups)
    if math.isnan(parts.within):
        notes.append("one set of latents a run: sampling noise cannot be separated")
    if len(groups) < 2:
        notes.append("fewer than two runs: no seed noise")
    elif parts.between < 0:
        notes.append("runs differ by no more than their samples do: seed noise set to 0")
    seed = math.nan if math.isnan(parts.between) else math.sqrt(max(0.0, parts.between))
    return Noise(seed, math.sqrt(parts.within), len(groups), "; ".join(notes))
