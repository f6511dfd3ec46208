"""Results of searches with given scores, for tests of what is said of their draws."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from gan_bench.compare.results import Results
from gan_bench.compare.search.budgets import Budgets, budgets_of
from gan_bench.compare.search.choice import choose, draw_score
from gan_bench.config.declared import Declared
from gan_bench.config.search.search import SearchSpec
from gan_bench.evaluation.score_directions import directions

SPACE: dict[str, Any] = {
    "g_optimizer.lr": {"log_uniform": [1e-5, 1e-1]}, "d_steps": {"choice": [1, 2, 5]},
    "model.width": {"int_uniform": [8, 64]},
    "penalties.r1.gamma": {"log_uniform": [0.01, 100], "only": {"penalties": "r1"}}}
OWN = {"g_optimizer.lr": 2e-4, "d_steps": 1, "model.width": 32, "penalties.r1.gamma": 1.0}
BATCH, STEPS = 64, 100


def tuned_results(scores: Mapping[str, Sequence[float]],
                  confirmed: Mapping[str, Sequence[float]] | None = None, *,
                  by: str = "fd_classifier", seconds: float = 10.0, best: int = 1,
                  select: Mapping[str, Sequence[Sequence[float]]] | None = None,
                  space: Mapping[str, Any] = SPACE, defaults: bool = True,
                  **declared: Any) -> Results:
    """Return the results of a search in which the draws have these scores, by variant.

    NaN stands for a run that diverged. The first variant is the baseline; variants whose name
    begins with r1 have the key that is theirs alone. Each draw costs `seconds` × (1 + its index).

    Args:
        scores: Of each draw under select seed 0; draw 0 first.
        confirmed: Of the best draw under confirm seeds 10, 11, ….
        by: The score that selects.
        best: How many draws are chosen.
        select: Scores of each draw under several select seeds 0, 1, …, in place of `scores`.
        space, defaults: Of the search.
        declared: What is declared besides.
    """
    by_seed = select or {name: [[value] for value in values] for name, values in scores.items()}
    n = max(map(len, by_seed.values()))
    some = next(iter(by_seed.values()))[0]
    confirm_seeds = list(range(10, 10 + max(1, *map(len, (confirmed or {"": [0.0]}).values()))))
    search = SearchSpec.model_validate({
        "draws": n, "seed": 3, "space": dict(space), "defaults": defaults,
        "select": {"by": by, "seeds": list(range(len(some)))},
        "confirm": {"seeds": confirm_seeds, "best": min(best, n)}})
    searched = {name: tuple(key for key, each in search.space.items()
                            if not each.only or name.startswith("r1")) for name in by_seed}
    facts = Declared(**{"baseline": next(iter(by_seed)), "variants": tuple(by_seed),
                        "search": search, "searched": searched, "select_reference": "test",
                        "seeds": tuple(confirm_seeds), **declared})
    rows, choice = [], {}
    for name, draws in by_seed.items():
        for index, values in enumerate(draws):
            settings = search.values({key: search.space[key] for key in searched[name]}, index)
            for seed, value in enumerate(values):
                rows.append(_row(name, index, "select", seed, value, by, settings or OWN,
                                 seconds * (1 + index)))
        better = directions()[by]
        places = choose({index: draw_score(values, better) for index, values in enumerate(draws)},
                        better, min(best, n))
        if not places:  # every draw diverged: none is confirmed
            continue
        choice[name], chosen = places, places[0]
        settings = search.values({key: search.space[key] for key in searched[name]}, chosen)
        for seed, value in zip(confirm_seeds, (confirmed or {}).get(name, ()), strict=False):
            rows.append(_row(name, chosen, "confirm", seed, value, by, settings or OWN, seconds))
    kind = pd.CategoricalDtype([*by_seed], ordered=True)
    runs = pd.DataFrame(rows).set_index("run").astype({"variant": kind, "draw": "Int64"})
    text = [column for column in runs if column.startswith("params.")]
    runs[text] = runs[text].fillna("")
    history = pd.DataFrame({"run": pd.Categorical([]), "variant": pd.Categorical([], dtype=kind),
                            "seed": [], "metric": pd.Categorical([]), "step": [], "seconds": [],
                            "value": []})
    return Results("tuned", facts, runs, history, choice=choice)


def _row(variant: str, draw: int, stage: str, seed: int, value: float, by: str,
         settings: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    lost = math.isnan(value)
    params = {"batch_size": BATCH, "d_steps": 1, "steps": STEPS, **settings}
    return {"run": f"{variant}-{draw}-{seed}", "variant": variant, "draw": draw, "stage": stage,
            "seed": seed, "status": "DIVERGED" if lost else "FINISHED", "why": "",
            "step": STEPS // 2 if lost else STEPS, "seconds": seconds,
            "started": pd.Timestamp("2026-01-01", tz="UTC"), "mlflow_run": "",
            "version": "gan_bench 1", "precision": "float32", "device": "cpu",
            **{f"params.{key}": json.dumps(each) for key, each in params.items()},
            f"score.{by}": value, f"protocol.{by}": "" if lost else "{}",
            f"metric.{by}": "", f"measured_by.{by}": ""}


def tuned(*args: Any, **kwargs: Any) -> Budgets:
    """Return the draws of `tuned_results` with these arguments."""
    budgets = budgets_of(tuned_results(*args, **kwargs))
    assert budgets is not None
    return budgets
