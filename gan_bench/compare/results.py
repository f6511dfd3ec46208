"""Read an experiment back from MLflow, as two tidy frames of pandas.

    results = gan_bench.load_results("dcgan_vs_mlp")
    results.runs.groupby("variant", observed=True)["score.fd_classifier"].describe()
    results.history.query("metric == 'train/g_loss'").pivot_table("value", "step", "variant")

The store may be a database or a server, and the runs finished or not. Of a variant whose settings
have changed, only the runs under those of the last `gan-bench run` are read: the others answer
another question. What is left out is said in `notes`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from gan_bench.compare.ended import Ended
from gan_bench.config.declared import Declared, read_declared
from gan_bench.errors import UserError
from gan_bench.journal.about import read_about
from gan_bench.journal.names import DURING, last_scores
from gan_bench.journal.schema import RESULTS, Status
from gan_bench.registry import nearest
from gan_bench.tracking.address import resolve_uri
from gan_bench.tracking.reader import Stored, StoredRun, read_experiment

SCORE, PROTOCOL, PARAM = "score.", "protocol.", "params."  # how the names of columns begin


@dataclass(frozen=True)
class Results:
    """What a store holds of one experiment.

    Attributes:
        experiment: Its name.
        declared: Its question, its baseline, and how its variants are to be compared.
        runs: A row for each run, by variant and seed. The index `run` is gan-bench's id of it.
            Columns: `variant` (categorical, in the experiment's order), `seed`, `status` (RUNNING,
            FINISHED, DIVERGED, FAILED, KILLED), `why`, `step` (the last), `seconds` (from start to
            end or to the last record, interruptions included), `started` (UTC), `mlflow_run`
            (MLflow's id), `version`, `precision`, `params.<key>` (the specification as text),
            `score.<name>` (the final score of a FINISHED run, or its declared mean of a curve;
            otherwise NaN) and `protocol.<name>` (how it was measured, as JSON; empty where it was
            not).
        history: A row for each run, metric and step: `run`, `variant`, `seed`, `metric` (as logged:
            `train/g_loss`, `eval/<score>`, `final/<score>`, `class/<score>/<label>`, …), `step`,
            `seconds` since the run's start, and `value`. `run`, `variant` and `metric` are
            categorical.
        uri: Where the store is.
        notes: What was left out, and why, a line each.
    """

    experiment: str
    declared: Declared
    runs: pd.DataFrame
    history: pd.DataFrame
    uri: str = field(repr=False, default="")
    notes: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """What the experiment is to find out; may be empty."""
        return self.declared.question

    @property
    def baseline(self) -> str:
        """The variant that the others are compared with."""
        return self.declared.baseline

    @property
    def command(self) -> str:
        """How to repeat it; may be empty."""
        return self.declared.command

    @property
    def variants(self) -> list[str]:
        """The variants that have runs, in the experiment's order."""
        return list(self.runs["variant"].cat.categories)

    @property
    def scores(self) -> list[str]:
        """The names of the final scores."""
        return [c.removeprefix(SCORE) for c in self.runs if c.startswith(SCORE)]

    def ended(self) -> list[Ended]:
        """Return every run as comparisons see it.

        Raises:
            UserError: What MLflow holds as a score's protocol is none.
        """
        return [Ended(str(row["variant"]), int(row["seed"]), row["status"],
                      {name: float(row[SCORE + name]) for name in self.scores
                       if row[PROTOCOL + name] or not math.isnan(row[SCORE + name])},
                      {name: _protocol(str(run), name, row[PROTOCOL + name])
                       for name in self.scores if row[PROTOCOL + name]},
                      int(row.get(PARAM + "data.classes") or 0))
                for run, row in self.runs.iterrows()]

    def curve_of(self, score: str) -> str:
        """Return the metric of `history` that shows how a score went during training."""
        return DURING + score

    def only(self, variants: list[str]) -> Results:
        """Return the same with the runs of some variants alone, in the order given.

        Raises:
            UserError: There are no runs of one of them.
        """
        for name in variants:
            if name not in self.variants:
                raise UserError(f"{self.experiment} has no runs of a variant {name!r}; "
                                f"{nearest(name, self.variants)}")
        kind = pd.CategoricalDtype(variants, ordered=True)
        runs, history = (frame[frame["variant"].isin(variants)].assign(
            variant=lambda part: part["variant"].astype(kind)) for frame in (
                self.runs, self.history))
        return replace(self, runs=runs.sort_values(["variant", "seed"]), history=history)


def load_results(experiment: str, tracking_uri: str | None = None, root: Path = Path("mlruns"),
                 declared: Declared | None = None) -> Results:
    """Read an experiment back from MLflow.

    Args:
        experiment: Its name.
        tracking_uri: MLflow's store: a database or a server. None: `MLFLOW_TRACKING_URI`, else
            `<root>/mlflow.db`.
        root: Where the runs were made, if that is to hand.
        declared: How to compare, if not as the experiment said when it was last run.

    Raises:
        UserError: There is no such experiment, it has no runs of gan-bench, or the store cannot be
            read.
    """
    uri = resolve_uri(root, tracking_uri)
    stored = read_experiment(uri, experiment)
    if declared is None:
        declared = _declared(root, experiment, stored.about)
    chosen, notes = _newest(stored, declared)
    if not chosen:
        raise UserError(f"{experiment} has no runs yet" + (f" ({notes[0]})" if notes else "") +
                        "; train some first: gan-bench run")
    found = {run.tags["variant"] for run in chosen}
    names = [name for name in declared.variants if name in found]
    names += sorted(found - set(names))
    if declared.baseline not in names:
        if declared.baseline:
            notes.append(f"the baseline {declared.baseline} has no runs yet: compared with "
                         f"{names[0]}")
        declared = declared.with_changes(baseline=names[0])
    variants = pd.CategoricalDtype(names, ordered=True)
    chosen.sort(key=lambda run: (names.index(run.tags["variant"]), int(run.tags["seed"])))
    history = _history(chosen, variants)
    return Results(experiment, declared, _runs(chosen, history, variants, declared), history, uri,
                   tuple(notes))


def _declared(root: Path, experiment: str, tag: str) -> Declared:
    """Return what the root says that an experiment declares, or if it says nothing, the store."""
    try:
        kept = read_about(root / "runs" / experiment)
        return read_declared(tag) if kept == Declared() else kept
    except ValueError as error:
        raise UserError(f"what is kept of {experiment} has a margin, or a curve's mean, that is "
                        f"none ({error}); repeat `gan-bench run` of it, which writes it anew"
                        ) from None


def _newest(stored: Stored, declared: Declared) -> tuple[list[StoredRun], list[str]]:
    """Return each variant's runs under its settings, one per seed, and what is left out."""
    ours = [run for run in stored.runs if {"run_id", "variant", "seed"} <= run.tags.keys()
            and run.tags["seed"].isdecimal()]
    notes = []
    if foreign := len(stored.runs) - len(ours):
        notes.append(f"left out: {_count(foreign)} that gan-bench has not made")
    ours.sort(key=lambda run: run.started)
    # The newest, where it is not known which ones the experiment has now.
    valid = {**{run.tags["variant"]: run.tags.get("settings") for run in ours},
             **declared.settings}
    current = [run for run in ours if run.tags.get("settings") == valid[run.tags["variant"]]]
    if old := len(ours) - len(current):
        notes.append(f"left out: {_count(old)} under other settings of a variant")
    known = [run for run in current
             if not declared.variants or run.tags["variant"] in declared.variants]
    if gone := len(current) - len(known):
        notes.append(f"left out: {_count(gone)} of variants that the experiment does not have any "
                     f"more")
    # Two machines may have run the same thing; the one that ended well counts, or the newer.
    known.sort(key=lambda run: (run.tags.get("status") in RESULTS, run.started))
    single = {run.tags["run_id"]: run for run in known}
    if twice := len(known) - len(single):
        notes.append(f"left out: {_count(twice)} that the store holds twice")
    return list(single.values()), notes


def _count(runs: int) -> str:
    return f"{runs} run{'s' if runs > 1 else ''}"


def _history(runs: list[StoredRun], variants: pd.CategoricalDtype) -> pd.DataFrame:
    """Return the measurements of all runs, in the order of the runs."""
    metrics = sorted({name for run in runs for name in run.metrics})
    code = {name: i for i, name in enumerate(metrics)}
    lengths = [len(run.steps) for run in runs]

    def whole(parts: list[Any], dtype: type) -> Any:
        return np.concatenate([np.empty(0, dtype), *parts]).astype(dtype, copy=False)

    def each(codes: list[int]) -> Any:
        return np.repeat(codes, lengths)

    keys = whole([np.array([code[m] for m in run.metrics], np.int32)[run.keys] for run in runs],
                 np.int32)
    return pd.DataFrame({
        "run": pd.Categorical.from_codes(each([*range(len(runs))]),
                                         [run.tags["run_id"] for run in runs]),
        "variant": pd.Categorical.from_codes(each([
            variants.categories.get_loc(run.tags["variant"]) for run in runs]), dtype=variants),
        "seed": each([int(run.tags["seed"]) for run in runs]).astype(np.int64),
        "metric": pd.Categorical.from_codes(keys, metrics),
        "step": whole([run.steps for run in runs], np.int64),
        "seconds": whole([(run.times - run.started) / 1000 for run in runs], np.float64),
        "value": whole([run.values for run in runs], np.float64),
    })


def _runs(runs: list[StoredRun], history: pd.DataFrame, variants: pd.CategoricalDtype,
          declared: Declared) -> pd.DataFrame:
    rows = []
    for run in runs:
        tags = run.tags
        status = tags.get("status", Status.RUNNING)
        # MLflow keeps that of an earlier attempt.
        end = run.ended if status != Status.RUNNING else None
        end = end or (int(run.times.max()) if len(run.times) else run.started)
        row: dict[str, Any] = {
            "run": tags["run_id"], "variant": tags["variant"], "seed": int(tags["seed"]),
            "status": status, "why": tags.get("why", ""),
            "step": int(run.steps.max()) if len(run.steps) else 0,
            "seconds": (end - run.started) / 1000,
            "started": pd.Timestamp(run.started, unit="ms", tz="UTC"), "mlflow_run": run.id,
            "version": ", ".join(f"{program} {tags[f'{program}_version']}"
                                 for program in ("gan_bench", "torch")
                                 if f"{program}_version" in tags),
            "precision": tags.get("precision", "")}
        row |= {PARAM + key: value for key, value in run.params.items()}
        if status == Status.FINISHED:
            for name, (full, value) in final_scores(run).items():
                row[SCORE + name] = value
                row[PROTOCOL + name] = tags.get(PROTOCOL + full, "")
            for name, (protocol, value) in _curve_means(run, declared).items():
                row[SCORE + name], row[PROTOCOL + name] = value, protocol
        rows.append(row)
    frame = pd.DataFrame(rows).set_index("run")
    frame["variant"] = frame["variant"].astype(variants)
    text = [c for c in frame if c.startswith((PARAM, PROTOCOL))]
    frame[text] = frame[text].fillna("")
    order = [c for prefix in (PARAM, SCORE, PROTOCOL) for c in frame if c.startswith(prefix)]
    return frame[[*(c for c in frame if c not in order), *order]]


def final_scores(run: StoredRun) -> dict[str, tuple[str, float]]:
    """Return a run's last scores, by name: what they are called in the store, and their values.

    Those of the final measurement alone once there is one, as one name never stands for two
    protocols.
    """
    ends = np.flatnonzero(np.diff(run.keys, append=-1))  # the measurements are in order
    last = {run.metrics[run.keys[end]]: float(run.values[end]) for end in ends}
    return last_scores(last)


def _curve_means(run: StoredRun, declared: Declared) -> dict[str, tuple[str, float]]:
    """Return the declared means of a run's curves: how each was taken, and its value.

    A step that an interrupted run has logged twice counts once, by its last value.
    """
    found = {}
    for name, mean in declared.curve_means.items():
        first, last = mean.steps
        mine = run.keys == (run.metrics.index(mean.of) if mean.of in run.metrics else -1)
        values = {step: value for step, value in zip(run.steps[mine], run.values[mine], strict=True)
                  if first <= step <= last}
        if values:
            protocol = {"mean of": mean.of, "from step": first, "to step": last,
                        "logged steps": len(values)}
            found[name] = json.dumps(protocol), float(np.mean(list(values.values())))
    return found


def _protocol(run: str, score: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UserError(f"run {run}: its tag protocol.…/{score} in MLflow is no protocol; delete "
                        f"the run there, and `gan-bench sync` brings it anew")
    return found
