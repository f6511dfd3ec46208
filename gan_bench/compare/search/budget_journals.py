"""The runs of a search as their journals show them, in the form that MLflow's have."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from gan_bench.compare.device_time import device_seconds
from gan_bench.compare.frames import PARAM, PROTOCOL, SCORE
from gan_bench.compare.results import Results
from gan_bench.compare.search.confirming import choice_among
from gan_bench.compare.search.counted_draws import with_shared_draws
from gan_bench.config.declared import Declared
from gan_bench.config.flat import flat_settings
from gan_bench.journal.schema import Status
from gan_bench.journal.status import Progress


def results_of_journals(experiment: str, declared: Declared, runs: Sequence[Progress]) -> Results:
    """Return the runs of a search without their history: what `budgets_of` needs.

    Args:
        experiment: Its name.
        declared: What it declares.
        runs: Of both stages; at least one.
    """
    frame = pd.DataFrame([_row(run) for run in runs]).set_index("run")
    text = [column for column in frame if column.startswith((PARAM, PROTOCOL))]
    frame[text] = frame[text].fillna("")
    with_runs = set(frame["variant"])
    names = [name for name in declared.variants if name in with_runs]
    frame["variant"] = frame["variant"].astype(pd.CategoricalDtype(names, ordered=True))
    frame["draw"] = frame["draw"].astype("Int64")
    history = pd.DataFrame({"run": pd.Categorical([]), "variant": frame["variant"].iloc[:0].values})
    return Results(experiment, declared, with_shared_draws(frame, declared), history,
                   choice=choice_among(runs, declared).draws)


def _row(run: Progress) -> dict[str, object]:
    """Return a run as a row of `Results.runs`."""
    row: dict[str, object] = {
        "run": run.spec.id, "variant": run.spec.variant, "draw": run.spec.draw,
        "stage": run.spec.stage, "seed": run.spec.seed, "status": run.state, "step": run.step,
        "seconds": device_seconds(run.folder)}
    row |= {PARAM + key: value
            for key, value in flat_settings(run.spec.model_dump(mode="json")).items()}
    if run.state == Status.FINISHED:
        row |= {SCORE + name: value for name, value in run.scores.items()}
        row |= {PROTOCOL + name: "{}" for name in run.scores}
    return row
