"""Results with given scores, for tests of what is said of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from gan_bench.compare.results import Results
from gan_bench.config.declared import Declared


def results_of(scores: Mapping[str, Mapping[str, Sequence[float]]], name: str = "study",
               **declared: Any) -> Results:
    """Return the results of runs with these scores: by variant, score and seed.

    A run whose scores are NaN diverged. The baseline is the first variant.
    """
    kind = pd.CategoricalDtype([*scores], ordered=True)
    rows = []
    for variant, by_score in scores.items():
        for seed, values in enumerate(zip(*by_score.values(), strict=True)):
            lost = all(math.isnan(value) for value in values)
            rows.append({
                "run": f"{variant}-{seed}", "variant": variant, "seed": seed,
                "status": "DIVERGED" if lost else "FINISHED", "why": "", "step": 10,
                "seconds": 1.0, "version": "gan_bench 1", "precision": "float32",
                **{f"score.{score}": value for score, value in zip(by_score, values, strict=True)},
                **{f"protocol.{score}": "" if lost else "{}" for score in by_score}})
    runs = pd.DataFrame(rows).set_index("run").astype({"variant": kind})
    history = pd.DataFrame({"run": pd.Categorical([]), "variant": pd.Categorical([], dtype=kind),
                            "seed": [], "metric": pd.Categorical([]), "step": [], "seconds": [],
                            "value": []})
    facts = {"baseline": next(iter(scores)), "variants": tuple(scores), **declared}
    return Results(name, Declared(**facts), runs, history)
