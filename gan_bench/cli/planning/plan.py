"""What `gan-bench plan` shows: the runs of an experiment and their states."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gan_bench.cli.planning.plan_search import search_lines, unchosen_runs
from gan_bench.cli.planning.plan_settings import difference_lines, recipe_lines, settings_lines
from gan_bench.cli.planning.train_on import beginnings_of, checkpoint_lines
from gan_bench.config.sources import describe_changed
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import DamagedError, count, printable
from gan_bench.journal import reading
from gan_bench.journal.drift import describe_drift, since, versions
from gan_bench.journal.layout import WEIGHTS, run_folders
from gan_bench.journal.schema import RESULTS, Kind, Status
from gan_bench.journal.scores.missing_scores import is_recorded, missing_scores
from gan_bench.journal.shorter_runs import Beginning
from gan_bench.journal.spec_file import ReadValues, read_values, runs_of_other_code
from gan_bench.journal.status import progress_of, state_of
from gan_bench.launcher.reporters import search_fields
from gan_bench.text_table import TableColumn, grouped_lines, wrap_line
from gan_bench.tracking.runs.older_ids import OlderRun, older_runs, to_take_over

RUN_COLUMNS = (TableColumn("id"), TableColumn("variant"), TableColumn("seed"),
               TableColumn("state"), TableColumn("step", 1))
VARIANT = 1  # the place of the variant among them

TAKEN_OVER = ("which `gan-bench run` takes over: it renames their folders, and trains nothing of "
              "them again")
LEFT = ("which stay: they are the same runs as others that got as far, and differ only in what was "
        "measured and recorded")


def plan_records(spec: ExperimentSpec, root: Path, older: Mapping[str, OlderRun] | None = None,
                 read: ReadValues | None = None) -> list[dict[str, Any]]:
    """Return a record for each run: id, variant, seed, state, step, steps, made_by, to_measure.

    A run of a search has `draw` and `stage` too; those of the second stage are there once the
    journals of the first choose them.

    `to_measure` are the names of the metrics by which a finished run is to be measured. `continues`
    is the id of the run that it will continue from, and `from_step` its step, or both are null;
    `begins` says so in words, or why it does not. `older_id` is the id of an earlier version under
    which the run was made, if `run` is to take it over.

    Args:
        older: The runs that `run` takes over, by present id; None: they are looked for.
        read: Reads the `spec.json` of a folder.
    """
    read = read or cache(read_values)
    if older is None:
        older, _ = _older_runs(spec, root, read)
    records: list[dict[str, Any]] = []
    states = {run.id: state_of(run, root) for run in spec.runs}
    found = beginnings_of(spec, root, {run_id: state for run_id, (state, _) in states.items()
                                       if run_id not in older}, read)
    for run in spec.runs:
        state, step = states[run.id]
        earlier = older.get(run.id)
        if earlier is not None:
            state, step = earlier.state, earlier.step
        begins = found.get(run.id, Beginning())
        predecessor = begins.predecessors[0] if begins.predecessors else None
        records.append({"id": run.id, "variant": run.variant, **search_fields(run),
                        "seed": run.seed, "state": state,
                        "step": step, "steps": run.steps,
                        "made_by": _other_version(run.folder(root)),
                        "to_measure": _metrics_to_measure(run, state, root),
                        "lacks_weights": state == Status.WAITING and _has_ended(run.folder(root)),
                        "older_id": earlier.folder.name if earlier else None,
                        "continues": predecessor.folder.name if predecessor else None,
                        "from_step": predecessor.step if predecessor else None,
                        "begins": str(begins)})
    return records


def _has_ended(folder: Path) -> bool:
    last = reading.last(folder)
    return last is not None and last["kind"] == Kind.END and last["status"] in RESULTS


def _metrics_to_measure(run: RunSpec, state: Status, root: Path) -> list[str]:
    folder = run.folder(root)
    recording = (reading.last(folder) or {}).get("recording")
    if state != Status.FINISHED or is_recorded(recording, run, folder):
        return []  # without reading the whole journal
    missing = missing_scores(progress_of(run, root))
    return list(dict.fromkeys([*missing.final, *missing.sets,
                               *(name for names in missing.during.values() for name in names)]))


def plan_text(spec: ExperimentSpec, root: Path, width: int | None = None) -> str:
    """Return the plan for people: the question, the data, the differences, and every run.

    Args:
        width: Of the terminal; None: no line is broken, and no column left out.
    """
    question, search = spec.declared.question, spec.search
    lines = [f"{spec.name}: {question}" if question else spec.name, ""]
    for line in settings_lines(spec):
        lines += wrap_line(line, width, hang=10)
    lines.append("")
    if differences := difference_lines(spec, width):
        lines += ["what differs between variants", *differences, ""]
    if spec.recipes:
        lines += ["recipes", *recipe_lines(spec), ""]
    read = cache(read_values)  # several questions are about the same folders
    older, same = _older_runs(spec, root, read)
    records = plan_records(spec, root, older, read)
    if search is not None:  # its hundreds of runs are in the records
        lines += search_lines(spec, search, records)
    else:
        runs = [[str(record[key]) for key in ("id", "variant", "seed", "state")]
                + [f"{record['step']}/{record['steps']}"] for record in records]
        lines += grouped_lines(RUN_COLUMNS, runs, VARIANT, width)
    others = [f"  {record['id']}: {record['made_by']}" for record in records if record["made_by"]]
    if others:
        lines += ["", "begun by another version", *others]
    lacking = [str(record["id"]) for record in records if record["lacks_weights"]]
    if lacking:
        lines += ["", f"trained once, but {WEIGHTS} is missing, so `run` trains again: "
                  f"{', '.join(lacking)}"]
    relatives = [f"  {record['id']}: {record['begins']}" for record in records if record["begins"]]
    if relatives:
        lines += ["", "runs that differ from others in nothing but the steps", *relatives]
    lines += checkpoint_lines(spec, root, records)
    unmeasured = [record for record in records if record["to_measure"]]
    if unmeasured:
        lines += ["", f"{count(len(unmeasured), 'finished run')} to be measured, not trained",
                  *_to_measure_lines(spec, unmeasured)]
    inner = None if width is None else width - 2  # of tables that are indented
    for earlier, words in ((list(older.values()), TAKEN_OVER), (same, LEFT)):
        if earlier:
            lines += ["", f"{count(len(earlier), 'run')} under ids of an earlier version, {words}",
                      *(f"  {line}" for line in _older_lines(earlier, inner))]
    if changed := runs_of_other_code(spec, root, read):
        lines += ["", *describe_changed(changed)]
    earlier_ids = {run.folder.name for run in [*older.values(), *same]}
    if search is not None and (unchosen := unchosen_runs(spec, search, root, read)):
        earlier_ids |= unchosen
        lines += ["", f"{count(len(unchosen), 'run')} of the second stage whose draw is not chosen "
                  f"(yet, or any more), which no comparison counts"]
    if old := _undescribed_runs(spec, root, earlier_ids, read):
        lines += ["", f"{count(len(old), 'other run')} of {spec.name}, whose settings are not in "
                  f"this file (any more)",
                  *(f"  {line}" for line in grouped_lines(RUN_COLUMNS, old, VARIANT, inner))]
    return "\n".join(part for line in lines for part in wrap_line(line, width))


def _to_measure_lines(spec: ExperimentSpec, records: list[dict[str, Any]]) -> list[str]:
    """Return by which metrics how many finished runs are to be measured."""
    counts = Counter(name for record in records for name in record["to_measure"])
    evaluate = spec.runs[0].evaluate
    lines = [f"  {name}: {count(n, 'run')}" for name, n in counts.items()]
    later = [name for name in counts if name in evaluate.metrics]
    if later and evaluate.every:
        lines.append("  curves only of runs that keep snapshots (evaluate.snapshots); of others, "
                     "the final value")
    return lines


def _other_version(folder: Path) -> str | None:
    """Return how the versions at the run's start differ from the installed ones.

    None if they are the same, or if the run has not begun.
    """
    for read_start in (reading.first, reading.began):  # `began` reads more of the journal
        start = read_start(folder)
        if start is None:
            return None
        changes = since(start.get("facts", {}), {"versions": versions()})
        if not changes:
            return None
    return describe_drift(changes)


def _older_runs(spec: ExperimentSpec, root: Path, read: ReadValues,
                ) -> tuple[dict[str, OlderRun], list[OlderRun]]:
    """Return the older runs that `run` takes over, by present id, and others of the same runs."""
    planned = {run.id for run in spec.runs}
    found = older_runs(root / "runs" / spec.name, planned, read)
    runs = [run for run in found if run.id in planned]
    older = to_take_over(runs, spec.runs, root)
    return older, [run for run in runs if older.get(run.id) is not run]


def _older_lines(runs: list[OlderRun], width: int | None) -> list[str]:
    rows = [[run.folder.name, run.variant, str(run.seed), run.state, str(run.step), run.id]
            for run in runs]
    return grouped_lines((*RUN_COLUMNS, TableColumn("present id")), rows, VARIANT, width)


def _undescribed_runs(spec: ExperimentSpec, root: Path, older: set[str], read: ReadValues,
                      ) -> list[list[str]]:
    """Return the rows of runs under the experiment's name that this file does not describe."""
    described = {run.id for run in spec.runs} | older
    rows = []
    for folder in run_folders(root / "runs" / spec.name):
        if folder.name in described:
            continue
        try:
            values, last = read(folder), reading.last(folder)
        except DamagedError as error:
            rows.append([folder.name, printable(str(error)), "", "", ""])
            continue
        step = last["step"] if last else 0
        state = last["status"] if last and last["kind"] == Kind.END else "without an end"
        rows.append([folder.name, values["variant"], str(values["seed"]), state,
                     f"{step}/{values.get('steps', '?')}"])
    return rows
