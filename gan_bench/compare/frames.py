"""The two frames of `Results`, made of the runs that a store holds: a row a run, a row a value."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gan_bench.compare.curve_means import curve_means
from gan_bench.compare.device_time import device_seconds
from gan_bench.config.declared import Declared
from gan_bench.config.run_id import NAMES
from gan_bench.journal.schema import Status
from gan_bench.tracking.reader import StoredRun

# Prefixes of column names.
SCORE, PROTOCOL, METRIC, PARAM = "score.", "protocol.", "metric.", "params."
MEASURED_BY = "measured_by."
OF_SCORE = PROTOCOL, METRIC, MEASURED_BY  # columns of texts


def history_frame(runs: list[StoredRun], variants: pd.CategoricalDtype) -> pd.DataFrame:
    """Return the measurements of all runs, in the order of the runs."""
    metrics = sorted({name for run in runs for name in run.metrics})
    code = {name: i for i, name in enumerate(metrics)}
    lengths = [len(run.steps) for run in runs]

    def joined(parts: list[Any], dtype: type) -> Any:
        return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype, copy=False)

    def per_row(values: list[int]) -> Any:
        return np.repeat(values, lengths)

    metric_codes = [np.array([code[metric] for metric in run.metrics], np.int32)[run.keys]
                    for run in runs]
    variant_codes = [variants.categories.get_loc(run.tags["variant"]) for run in runs]
    return pd.DataFrame({
        "run": pd.Categorical.from_codes(per_row([*range(len(runs))]),
                                         [run.tags["run_id"] for run in runs]),
        "variant": pd.Categorical.from_codes(per_row(variant_codes), dtype=variants),
        "seed": per_row([int(run.tags["seed"]) for run in runs]).astype(np.int64),
        "metric": pd.Categorical.from_codes(joined(metric_codes, np.int32), metrics),
        "step": joined([run.steps for run in runs], np.int64),
        "seconds": joined([(run.times - run.started) / 1000 for run in runs], np.float64),
        "value": joined([run.values for run in runs], np.float64),
    })


def runs_frame(runs: list[StoredRun], variants: pd.CategoricalDtype, declared: Declared,
               folders: Mapping[str, Path]) -> pd.DataFrame:
    """Return a row for each run, by its id; `folders` are those of the runs that the root has."""
    frame = pd.DataFrame([_run_row(run, declared, folders.get(run.id)) for run in runs]
                         ).set_index("run")
    frame = frame.astype({"variant": variants, "draw": "Int64"})
    text = [column for column in frame if column.startswith((PARAM, *OF_SCORE))]
    frame[text] = frame[text].fillna("")
    last: list[str] = []
    for prefix in (PARAM, SCORE, *OF_SCORE):
        last += [column for column in frame if column.startswith(prefix)]
    return frame[[*(column for column in frame if column not in last), *last]]


def _run_row(run: StoredRun, declared: Declared, folder: Path | None) -> dict[str, Any]:
    """Return a run as a row of `Results.runs`; its folder is None if it is not in the root."""
    tags = run.tags
    status = tags.get("status", Status.RUNNING)
    # While a run is running, MLflow keeps the end of an earlier attempt.
    end = run.ended if status != Status.RUNNING else None
    if not end:
        end = int(run.times.max()) if len(run.times) else run.started
    versions = [f"{program} {tags[f'{program}_version']}"
                for program in ("gan_bench", "numerics", "torch") if f"{program}_version" in tags]
    row: dict[str, Any] = {
        "run": tags["run_id"], "variant": tags["variant"], "seed": int(tags["seed"]),
        "draw": int(tags["draw"]) if tags.get("draw") else pd.NA, "stage": tags.get("stage", ""),
        "status": status, "why": tags.get("why", ""),
        "step": int(run.steps.max()) if len(run.steps) else 0,
        "seconds": (end - run.started) / 1000,
        "started": pd.Timestamp(run.started, unit="ms", tz="UTC"), "mlflow_run": run.id,
        "version": ", ".join(versions), "precision": tags.get("precision", ""),
        "device": tags.get("device_name", "")}
    if declared.search:
        row["device_seconds"] = (folder and device_seconds(folder)) or row["seconds"]
    # Earlier versions gave names to params, which keep the first one for ever.
    row |= {PARAM + key: value for key, value in run.params.items() if key not in NAMES}
    if status == Status.FINISHED:
        for name, (metric, value) in run.compared(declared.final).items():
            row[SCORE + name] = value
            row[PROTOCOL + name], row[METRIC + name] = tags.get(PROTOCOL + metric, ""), metric
            later = tags.get(MEASURED_BY + metric, "")
            is_other = later != f"torch {tags.get('torch_version')}"
            row[MEASURED_BY + name] = later if is_other else ""
        for name, (protocol, value) in curve_means(run, declared, folder).items():
            row[SCORE + name], row[PROTOCOL + name], row[MEASURED_BY + name] = value, protocol, ""
    return row
