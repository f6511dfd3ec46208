"""Read an experiment back from MLflow, as two tidy frames of pandas.

    results = gan_bench.load_results("dcgan_vs_mlp")
    results.runs.groupby("variant", observed=True)["score.fd_classifier"].describe()
    results.history.query("metric == 'train/g_loss'").pivot_table("value", "step", "variant")

The store may be a database or a server, and the runs finished or not. If the settings of a variant
have changed, only the runs under the settings of the last `gan-bench run` are read: the others
answer another question. `notes` says what is left out.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from gan_bench.compare.counted import absent_runs, counted_runs
from gan_bench.compare.curve_means import thinned_means
from gan_bench.compare.ended import RunResult
from gan_bench.compare.frames import PARAM, PROTOCOL, SCORE, history_frame, runs_frame
from gan_bench.compare.search.choice import diverged_line
from gan_bench.compare.search.counted_draws import of_chosen_draws, stored_choice, with_shared_draws
from gan_bench.config.declared import Declared, read_declared
from gan_bench.config.search.search import CONFIRM
from gan_bench.errors import HiddenError, UserError, count
from gan_bench.journal.about import asked_weights, read_about
from gan_bench.journal.layout import Workspace
from gan_bench.journal.schema import Status
from gan_bench.journal.scores.score_names import DURING, bare_name
from gan_bench.registry import nearest
from gan_bench.tracking.reader import read_experiment
from gan_bench.tracking.runs.cursor import named_runs
from gan_bench.tracking.store.address import resolve_uri
from gan_bench.tracking.sync import hidden_from_reports, sync_hint


@dataclass(frozen=True)
class Results:
    """The runs of one experiment in a store.

    Attributes:
        experiment: Its name.
        declared: Its question, its baseline, and how to compare its variants.
        runs: A row for each run, by variant and seed. The index `run` is gan-bench's run id. Of a
            search, a select run has a row for each draw with its settings. Confirm runs are those
            of the draws that are chosen now.
            Columns: `variant` (categorical, in the experiment's order), `seed`, `draw` (Int64: of
            a search, else <NA>), `stage` (`select` or `confirm`; empty without a search), `status`
            (RUNNING,
            FINISHED, DIVERGED, FAILED, KILLED), `why`, `step` (the last), `seconds` (from start to
            end or to the last record, interruptions included; of a run that continues another,
            without the time between both), `started` (UTC; of such a run, `seconds` before its
            end), `mlflow_run` (MLflow's id), `version`, `precision`, `device`, `params.<key>` (the
            specification as text),
            `device_seconds` (of a search, and where the root holds the run: `seconds` without the
            time between attempts),
            `score.<name>` (the final score of a FINISHED run, or its declared mean of a curve;
            otherwise NaN), `protocol.<name>` (how it was measured, as JSON; empty if it was not
            measured), `metric.<name>` (the score's name in `history`; empty for such a mean) and
            `measured_by.<name>` (the version of torch that measured it after the run, where that is
            not the one that trained; else empty).
        history: A row for each run, metric and step: `run`, `variant`, `seed`, `metric` (as logged:
            `train/g_loss`, `eval/<score>`, `final/<score>`, `class/<score>/<label>`, …), `step`,
            `seconds` since the run's start, and `value`. `run`, `variant` and `metric` are
            categorical. Of `train/…` and `system/…` there are at most 2,000 steps a run; the
            journals hold all.
        uri: The address of the store.
        notes: What was left out, and why, a line each.
        choice: Of a search, by variant the draws that are confirmed, the best first; variants with
            draws that have no result yet are absent.
    """

    experiment: str
    declared: Declared
    runs: pd.DataFrame
    history: pd.DataFrame
    uri: str = field(repr=False, default="")
    notes: tuple[str, ...] = ()
    choice: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def baseline(self) -> str:
        """The variant that the others are compared with."""
        return self.declared.baseline

    @property
    def variants(self) -> list[str]:
        """The variants that have runs, in the experiment's order."""
        return list(self.runs["variant"].cat.categories)

    @property
    def scores(self) -> list[str]:
        """The names of the final scores."""
        return [column.removeprefix(SCORE) for column in self.runs if column.startswith(SCORE)]

    def compared(self) -> Results:
        """Return the results of the runs by which variants are compared, seed by seed.

        Those are all; of a search, the confirm runs of each variant's best draw.
        """
        if self.declared.search is None:
            return self
        best = {variant: draws[0] for variant, draws in self.choice.items()}
        of_best = self.runs["draw"] == self.runs["variant"].astype(str).map(best).astype("Int64")
        runs = self.runs[(self.runs["stage"] == CONFIRM) & of_best.fillna(False)]
        return replace(self, runs=runs, history=self.history[self.history["run"].isin(runs.index)])

    def ended(self) -> list[RunResult]:
        """Return every run of `compared` as comparisons see it.

        Raises:
            UserError: A protocol in MLflow is invalid.
        """
        return [self._run_result(str(run), row) for run, row in self.compared().runs.iterrows()]

    def _run_result(self, run: str, row: pd.Series) -> RunResult:
        scores = {name: float(row[SCORE + name]) for name in self.scores
                  if row[PROTOCOL + name] or not math.isnan(row[SCORE + name])}
        protocols = {name: _parse_protocol(run, name, row[PROTOCOL + name])
                     for name in self.scores if row[PROTOCOL + name]}
        classes = int(row.get(PARAM + "data.classes") or 0)
        return RunResult(str(row["variant"]), int(row["seed"]), row["status"], scores, protocols,
                         classes)

    def only(self, variants: list[str]) -> Results:
        """Return the results of the given variants, in the given order.

        Raises:
            UserError: One of them has no runs.
        """
        for name in variants:
            if name not in self.variants:
                raise UserError(f"{self.experiment} has no runs of a variant {name!r}; "
                                f"{nearest(name, self.variants)}")
        variant_type = pd.CategoricalDtype(variants, ordered=True)
        runs, history = (
            frame[frame["variant"].isin(variants)].assign(
                variant=lambda part: part["variant"].astype(variant_type))
            for frame in (self.runs, self.history))
        return replace(self, runs=runs.sort_values(["variant", "seed"]), history=history)


def read_results(workspace: Workspace, experiment: str, declared: Declared | None) -> Results:
    """Return what MLflow holds of an experiment now.

    Raises:
        UserError: There is no such experiment, it has no runs of gan-bench, or the store cannot be
            read.
    """
    uri = resolve_uri(workspace)
    stored = read_experiment(uri, experiment)
    if declared is None:
        declared = _declared(workspace.root, experiment, stored.about)
    else:
        declared = declared.under(_asked_weights(workspace.root, experiment, stored.about))
    in_root = named_runs(workspace.root / "runs" / experiment, uri)
    chosen, notes = counted_runs(stored, declared, in_root)
    if not chosen:
        if hidden := hidden_from_reports(workspace, experiment):
            raise HiddenError(f"MLflow shows no run of {experiment}: {'; '.join(hidden)}")
        reason = f" ({notes[0]})" if notes else ""
        then = sync_hint(workspace, experiment) or "train some first: gan-bench run"
        raise UserError(f"{experiment} has no runs yet{reason}; {then}")
    choice = stored_choice(chosen, declared)
    chosen, unchosen = of_chosen_draws(chosen, choice)
    notes += [*unchosen, *filter(None, [diverged_line(choice.diverged)]),
              *absent_runs(chosen, declared, choice)]
    with_runs = {run.tags["variant"] for run in chosen}
    names = [name for name in declared.variants if name in with_runs]
    names += sorted(with_runs - set(names))
    if declared.baseline not in names:
        if declared.baseline:
            notes.append(f"the baseline {declared.baseline} has no runs yet: compared with "
                         f"{names[0]}")
        # The sweeps are around the other baseline.
        declared = declared.with_changes(baseline=names[0], sweeps={})
    variants = pd.CategoricalDtype(names, ordered=True)
    chosen.sort(key=lambda run: (names.index(run.tags["variant"]), run.tags["stage"] == CONFIRM,
                                 int(run.tags["draw"] or 0), int(run.tags["seed"])))
    folders = {run.id: workspace.root / "runs" / experiment / run.tags["run_id"]
               for run in chosen if run.id in in_root}
    history = history_frame(chosen, variants)
    frame = runs_frame(chosen, variants, declared, folders)
    notes += [*_unmeasured(frame, declared, workspace.root), *_not_asked_for(history, declared),
              *_without_curve(history), *thinned_means(chosen, declared, folders)]
    return Results(experiment, declared, with_shared_draws(frame, declared), history, uri,
                   tuple(notes), choice.draws)


def _unmeasured(runs: pd.DataFrame, declared: Declared, root: Path) -> list[str]:
    """Return notes on scores that the experiment asks for, and finished runs lack."""
    command = declared.command.replace("gan-bench run", "gan-bench evaluate", 1)
    where = f" --root {shlex.quote(str(root))}"
    measures = f"`{command}{where}`" if command else "`gan-bench evaluate` of the experiment's file"
    finished = runs[runs["status"] == Status.FINISHED]
    lacking: dict[int, list[str]] = {}
    for score in declared.final.scores if declared.final else ():
        column = finished.get(PROTOCOL + score)
        lacks = len(finished) if column is None else int((column == "").sum())
        if lacks:
            lacking.setdefault(lacks, []).append(score)
    return [f"not measured on {declared.final.samples:,} samples by the present definition, as "
            f"the experiment asks: {', '.join(names)} of {n} of "
            f"{count(len(finished), 'finished run')}; {measures} measures them. Scores of other "
            f"protocols stay in the runs' history"
            for n, names in lacking.items() if declared.final]


def _not_asked_for(history: pd.DataFrame, declared: Declared) -> list[str]:
    """Return a note on scores that runs have, and the experiment does not ask for."""
    if declared.final is None:
        return []
    names = {bare_name(str(name)) for name in history["metric"].cat.categories}
    others = sorted(name for name in names if name and name not in declared.final.scores)
    return [f"measured too, but not in evaluate.metrics of the experiment, and so not compared: "
            f"{', '.join(others)}"] if others else []


def _without_curve(history: pd.DataFrame) -> list[str]:
    """Return a note on scores that were asked for after training: they have no curves."""
    of_curves = [name for name in history["metric"].cat.categories if name.startswith(DURING)]
    rows = history[history["metric"].isin(of_curves)]
    steps = rows.groupby("metric", observed=True)["step"].nunique()
    curves = {str(metric): int(n) for metric, n in steps.items()}
    names = [metric.removeprefix(DURING) for metric, n in curves.items() if n == 1]
    if not names or max(curves.values()) == 1:
        return []
    return [f"{', '.join(names)}: the final value only: asked for after training, and "
            f"the runs keep no snapshots (evaluate.snapshots)"]


def _declared(root: Path, experiment: str, tag: str) -> Declared:
    """Return the experiment's declaration in the root, or that in the store if there is none."""
    try:
        in_root = read_about(root / "runs" / experiment)
        return read_declared(tag) if in_root == Declared() else in_root
    except ValueError as error:
        why = str(error).splitlines()[0]
        raise UserError(f"the stored declaration of {experiment} has an invalid margin or mean "
                        f"({why}); repeat its `gan-bench run`, which writes it again"
                        ) from None


def _asked_weights(root: Path, experiment: str, tag: str) -> Mapping[str, str]:
    """Return the weights of extractors under which scores count, which no experiment's file has."""
    if in_root := asked_weights(root / "runs" / experiment):
        return in_root
    with suppress(ValueError):
        final = read_declared(tag).final
        return final.weights if final else {}
    return {}


def _parse_protocol(run: str, score: str, text: str) -> dict[str, Any]:
    try:
        protocol = json.loads(text)
    except (ValueError, RecursionError):
        protocol = None
    if not isinstance(protocol, dict):
        raise UserError(f"run {run}: its tag protocol.…/{score} in MLflow is not a protocol; "
                        f"delete the run there, then `gan-bench sync --anew` copies it anew")
    return protocol
