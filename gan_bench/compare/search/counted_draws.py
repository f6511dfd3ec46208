"""Of a search, which of the runs that a store holds count, as which draw of which stage."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from gan_bench.compare.search.choice import (
    Choice,
    SelectRun,
    choice_of,
    draws_by_settings,
    run_places,
    select_score,
)
from gan_bench.config.declared import Declared
from gan_bench.config.search.search import CONFIRM, SELECT, SearchSpec
from gan_bench.errors import count
from gan_bench.journal.schema import Status
from gan_bench.tracking.reader import StoredRun

DrawKey = tuple[str, str]  # the variant, and the draw as text; empty without a search


def draw_key(run: StoredRun) -> DrawKey:
    """Return what a run shows in MLflow as its variant and its draw."""
    return run.tags["variant"], run.tags.get("draw", "")


def declared_settings(declared: Declared) -> dict[DrawKey, str]:
    """Return what stands for the settings of each place, as far as it is declared."""
    if declared.search is None:
        return {(variant, ""): settings for variant, settings in declared.settings.items()}
    return {(variant, str(draw)): settings
            for settings, (variant, draw) in draws_by_settings(declared).items()}


def with_stage(run: StoredRun, declared: Declared) -> StoredRun:
    """Return a run with the stage that it has by what is declared now.

    Without a search it has no stage and no draw, whatever it was made as.
    """
    if declared.search is None:
        return replace(run, tags={**run.tags, "draw": "", "stage": ""})
    stage = declared.search.stage_of(int(run.tags["seed"]))
    return replace(run, tags={**run.tags, "stage": stage})


def stored_choice(runs: Iterable[StoredRun], declared: Declared) -> Choice:
    """Return what the runs of a store choose, as the launcher does from their journals."""
    by = declared.search.select.by if declared.search else ""
    return choice_of((SelectRun(run.tags["variant"], int(run.tags["draw"]), int(run.tags["seed"]),
                                _score_of(run, by, declared))
                      for run in runs if run.tags.get("stage") == SELECT), declared)


def _score_of(run: StoredRun, by: str, declared: Declared) -> float | None:
    status = Status(run.tags.get("status", Status.RUNNING))
    scores = {name: value for name, (_, value) in run.compared(declared.selecting).items()}
    return select_score(status, scores, by)


def of_chosen_draws(runs: Sequence[StoredRun], choice: Choice) -> tuple[list[StoredRun], list[str]]:
    """Return the runs without those that confirm a draw which is not chosen, and a note on these.

    They are of an earlier choice, among fewer draws, or of a variant with draws that still run.
    """
    kept = [run for run in runs if run.tags.get("stage") != CONFIRM
            or int(run.tags["draw"]) in choice.draws.get(run.tags["variant"], ())]
    left = len(runs) - len(kept)
    return kept, [f"left out: {count(left, 'run')} of the second stage whose draw is not chosen "
                  f"(yet, or any more)"] * bool(left)


def absent_draws(runs: Iterable[StoredRun], declared: Declared, search: SearchSpec, choice: Choice,
                 ) -> tuple[dict[str, int], int]:
    """Return by variant and stage how many declared runs are not among these, and the declared.

    Runs of the second stage are declared once their draw is chosen.
    """
    begun = {(*draw_key(run), int(run.tags["seed"])) for run in runs}
    lacking: Counter[str] = Counter()
    declared_runs = [*run_places(declared, search, choice.draws)]
    for run in declared_runs:
        if (run.variant, str(run.draw), run.seed) not in begun:
            lacking[f"{run.variant} {run.stage}"] += 1
    order = {name: i for i, name in enumerate(declared.variants)}
    names = sorted(lacking, key=lambda name: order[name.rpartition(" ")[0]])  # stable
    return {name: lacking[name] for name in names}, len(declared_runs)


def each_once(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `Results.runs`, each run once: as the first draw that it stands for."""
    return runs[~runs.index.duplicated()]


def with_shared_draws(runs: pd.DataFrame, declared: Declared) -> pd.DataFrame:
    """Return the rows of runs with one of each select run for each further draw that it stands for.

    Draws with the same settings are one run, and yet so many draws.

    Args:
        runs: As `Results.runs`.
    """
    later = {(variant, group[0]): group[1:] for variant, groups in declared.shared.items()
             for group in groups if len(group) > 1}
    extra = []
    for place, draws in later.items():
        same = runs[(runs["stage"] == SELECT) & (runs["variant"] == place[0])
                    & (runs["draw"] == place[1]).fillna(False)]
        extra += [same.assign(draw=pd.array([draw] * len(same), "Int64")) for draw in draws]
    if not extra:
        return runs
    return pd.concat([runs, *extra]).sort_values(
        ["variant", "stage", "draw", "seed"], ascending=[True, False, True, True], kind="stable")
