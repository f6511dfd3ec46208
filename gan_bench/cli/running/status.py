"""`gan-bench status`: what runs, is done, waits or failed, from the journals alone. No torch."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gan_bench.compare.search.choice import different_draws, draws_by_settings
from gan_bench.compare.search.confirming import choice_in, with_confirm_runs
from gan_bench.config.declared import Declared
from gan_bench.config.run_id import settings_under
from gan_bench.config.search import CONFIRM, SELECT, SearchSpec
from gan_bench.config.shipped import is_experiment
from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import DamagedError, UserError, count, printable
from gan_bench.journal import reading
from gan_bench.journal.about import read_about
from gan_bench.journal.layout import Workspace, run_folders
from gan_bench.journal.schema import Kind, Record, Status
from gan_bench.journal.sharing.claims import holder_of, seen_alive
from gan_bench.journal.sharing.lock import holder_line
from gan_bench.journal.sharing.queue_file import specs_of
from gan_bench.journal.spec_file import read_values
from gan_bench.journal.status import state_in
from gan_bench.registry import nearest
from gan_bench.text_table import TableColumn, grouped_lines, wrap_line
from gan_bench.tracking.store.address import refuse_network_file

COLUMNS = (TableColumn("id", 1), TableColumn("variant"), TableColumn("seed", right=True),
           TableColumn("state"), TableColumn("step", 3, right=True), TableColumn("since", 2))
WORKERS = (*COLUMNS, TableColumn("by", 4))
WIDE = 96  # columns that the table with the workers needs
# The fields of a run that has not begun.
WAITS: dict[str, Any] = {"state": Status.WAITING, "step": 0, "steps": None, "since": None,
                         "by": None, "why": ""}
ENDED = (Status.FINISHED, Status.DIVERGED, Status.FAILED, Status.KILLED)


def status_lines(experiment: str | None, workspace: Workspace, settings: Sequence[str],
                 plugins: Sequence[Path], as_json: bool, width: int | None) -> list[str]:
    """Return what `gan-bench status` shows.

    Args:
        experiment: A name, or a file; None: a line for each experiment of the root.
        settings, plugins: As for `load_experiment`, of a file.
        as_json: Whether each line is a JSON object.
        width: Of the terminal; None: no line is broken, and no column left out.

    Raises:
        UserError: There is no such experiment, or its file is invalid.
    """
    if experiment is None:
        return list(_overview(workspace.root, as_json))
    name, records = read_status(experiment, workspace, settings, plugins)
    if as_json:
        return [json.dumps(record) for record in records]
    return status_text(name, records, workspace.root, width)


def warn_of_store(workspace: Workspace) -> None:
    """Print on stderr why the root's database cannot be used, if it lies on a network."""
    if workspace.database.exists():
        try:
            refuse_network_file(workspace.database)
        except UserError as error:
            print(f"warning: {error}", file=sys.stderr)


def read_status(experiment: str, workspace: Workspace, settings: Sequence[str] = (),
                plugins: Sequence[Path] = ()) -> tuple[str, list[dict[str, Any]]]:
    """Return the name of an experiment, and a record of each of its runs.

    A record holds `id` (null of a run that has not begun, where only the name is given),
    `variant`, of a search `draw` and `stage`, `seed`, `state`, `step`, `steps` (null if unknown),
    `since` (ms since 1970: when the attempt began, or the run ended; null of a run that waits),
    `by` whom it is worked on (null if by nobody: `process`, `host`, `job`, `since` by that
    machine's clock, and when it was last `seen` alive, by the clock of the file system) and `why`
    it ended without a result.

    Raises:
        UserError: There is no such experiment, or its file is invalid.
    """
    root, home = workspace.root, _home(workspace.root, experiment)
    if is_experiment(experiment) and (home is None or settings):
        from gan_bench.config.experiment import load_experiment

        spec = load_experiment(experiment, workspace.data_root, list(settings), plugins, root=root)
        return spec.name, list(_records_of_file(spec, root))
    if home is not None and settings:
        raise UserError(f"--set overrides values of a file: give the YAML of {experiment}, or "
                        f"leave --set out to see the runs of the last `gan-bench run`"
                        f"{_last_run(home)}")
    if home is None:
        names = [path.name for path in (root / "runs").glob("*") if path.is_dir()]
        hint = nearest(experiment, names) if names else "run one, or give its --root"
        raise UserError(f"{root} holds no runs of {experiment!r}; {hint}")
    return home.name, list(_records_of_folder(home))


def _last_run(home: Path) -> str:
    """Return the command of the last run, in brackets; empty where it is unknown."""
    with suppress(ValueError):  # a damaged file
        command = read_about(home).command
        return f" ({command})" if command and "\n" not in command else ""
    return ""


def _home(root: Path, name: str) -> Path | None:
    """Return the folder of an experiment's runs; None if there is none."""
    home = root / "runs" / name
    return home if name and Path(name).name == name and home.is_dir() else None


def _records_of_file(spec: ExperimentSpec, root: Path) -> Iterator[dict[str, Any]]:
    for run in with_confirm_runs(spec, root).runs:
        draw = {} if run.draw is None else {"draw": run.draw, "stage": run.stage}
        yield {"id": run.id, "variant": run.variant, **draw, "seed": run.seed,
               **_progress(run.folder(root), run.steps)}


def _records_of_folder(home: Path) -> Iterator[dict[str, Any]]:
    """Yield the runs that the last `gan-bench run` of the experiment had, by variant and seed."""
    declared = Declared()
    with suppress(ValueError):  # a damaged file, which the next `run` replaces
        declared = read_about(home)
    if declared.search is not None and declared.draws:
        yield from _records_of_search(home, declared, declared.search)
        return
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for folder in run_folders(home):
        try:
            values = read_values(folder)
        except DamagedError as error:
            yield _damaged(folder, error)
            continue
        variant, seed = values["variant"], values["seed"]
        if declared.seeds and seed not in declared.seeds:
            continue
        under = declared.settings.get(variant)
        if declared.settings and under != settings_under(folder.name, values):
            continue
        found[variant, seed] = {"id": folder.name, "variant": variant, "seed": seed,
                                **_progress(folder, values.get("steps"))}
    planned = [(variant, seed) for variant in declared.variants for seed in declared.seeds]
    for variant, seed in planned or sorted(found):
        yield found.get((variant, seed)) or {"id": None, "variant": variant, "seed": seed,
                                             **WAITS}


def _damaged(folder: Path, error: DamagedError) -> dict[str, Any]:
    """Return the record of a run whose specification cannot be read."""
    return {"id": folder.name, "variant": "?", "seed": None, **WAITS, "state": Status.FAILED,
            "why": printable(str(error))}


def _records_of_search(home: Path, declared: Declared, search: SearchSpec,
                       ) -> Iterator[dict[str, Any]]:
    """Yield the runs of both stages; those of the second once the journals choose its draws."""
    places = draws_by_settings(declared)
    found: dict[tuple[str, int, int], dict[str, Any]] = {}
    for folder in run_folders(home):
        try:
            values = read_values(folder)
        except DamagedError as error:
            yield _damaged(folder, error)
            continue
        place, seed = places.get(settings_under(folder.name, values)), values["seed"]
        if place is not None and search.stage_of(seed):
            found[(*place, seed)] = {
                "id": folder.name, "variant": place[0], "draw": place[1],
                "stage": search.stage_of(seed), "seed": seed,
                **_progress(folder, values.get("steps"))}
    select = [record["id"] for record in found.values() if record["stage"] == SELECT]
    chosen: Mapping[str, Sequence[int]] = {}
    with suppress(UserError):  # the code of a part is gone
        chosen = choice_in(specs_of(select, home), declared, home.parents[1]).draws
    every = {variant: different_draws(declared, search, variant) for variant in declared.variants}
    for stage, draws, seeds in ((SELECT, every, search.select.seeds),
                                (CONFIRM, chosen, search.confirm.seeds)):
        for variant, draw, seed in ((name, draw, seed) for name, each in draws.items()
                                    for draw in each for seed in seeds):
            yield found.get((variant, draw, seed)) or {
                "id": None, "variant": variant, "draw": draw, "stage": stage, "seed": seed, **WAITS}


def _progress(folder: Path, steps: int | None) -> dict[str, Any]:
    """Return the fields of a record that the journal holds."""
    try:
        state, last = state_in(folder)
        since = _since(folder, state, last)
    except DamagedError as error:
        return {"state": Status.FAILED, "step": 0, "steps": steps, "since": None, "by": None,
                "why": printable(str(error))}
    why = ""
    if last is not None and last["kind"] == Kind.END and state in ENDED:
        why = last["why"]
    elif state == Status.KILLED:
        why = "its process died without a word"
    step = last["step"] if last is not None and state != Status.WAITING else 0
    return {"state": state, "step": step, "steps": steps, "since": since, "by": _by(folder),
            "why": why}


def _by(folder: Path) -> dict[str, Any] | None:
    """Return who works on a run; None if nobody does."""
    holder = holder_of(folder)
    if holder is None:
        return None
    return {"process": holder.pid, "host": holder.host, "job": holder.job, "since": holder.since,
            "seen": seen_alive(folder)}


def _since(folder: Path, state: Status, last: Record | None) -> int | None:
    """Return when a run ended, or its present attempt began, in ms since 1970."""
    if last is None or state == Status.WAITING:
        return None
    if state != Status.RUNNING:
        return int(last["t"])
    records, _ = reading.read_records(folder)
    begins = [record["t"] for record in records if record["kind"] in (Kind.START, Kind.RESUME)]
    return int(begins[-1]) if begins else None


def status_text(name: str, records: list[dict[str, Any]], root: Path, width: int | None,
                ) -> list[str]:
    """Return the records for people: a line on all, a table, and why runs have no result."""
    lines = wrap_line(f"{name}: {_summary(root / 'runs' / name, records)}", width)
    rows = []
    for record in records:
        steps = "?" if record["steps"] is None else record["steps"]
        seed = "?" if record["seed"] is None else str(record["seed"])
        rows.append([record["id"] or "", _place(record), seed, record["state"],
                     f"{record['step']}/{steps}", _clock(record["since"]),
                     _worker(record["by"])])
    is_wide = (width is None or width >= WIDE) and any(record["by"] for record in records)
    lines += ["", *grouped_lines(WORKERS if is_wide else COLUMNS, rows, 1, width)]
    bad = [record for record in records if record["why"]]
    if bad:
        lines.append("")
    for record in bad:
        run = f"{_place(record)} seed {record['seed']} ({record['id']})"
        lines += wrap_line(f"{record['state']} {run}: {printable(record['why'])}", width)
    return lines


def _place(record: Mapping[str, Any]) -> str:
    """Return a run's variant, and of a search its draw and stage: `r1 draw 7 select`."""
    variant = printable(record["variant"])
    return f"{variant} draw {record['draw']} {record['stage']}" if "draw" in record else variant


def _worker(by: dict[str, Any] | None) -> str:
    """Return a worker's job, or its process, and its machine: `4711_3 on node12`."""
    if by is None:
        return ""
    return printable(f"{by['job'] or 'process ' + str(by['process'])} on {by['host']}")


def _clock(since: int | None) -> str:
    """Return a time on this machine's clock: `2026-11-29 20:10`."""
    if since is None:
        return ""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(since / 1000))


def _summary(home: Path, records: list[dict[str, Any]]) -> str:
    """Return `2 of 4 runs ended (1 FAILED), 1 running, 1 waiting; process 71 runs them`."""
    states = Counter(record["state"] for record in records)
    ended = sum(states[state] for state in ENDED)
    bad = [f"{states[state]} {state}" for state in ENDED[1:] if states[state]]
    named = f" ({', '.join(bad)})" if bad else ""
    line = holder_line(home)
    holder = f"; {line} runs them" if line else ""
    return (f"{ended} of {count(len(records), 'run')} ended{named}, "
            f"{states[Status.RUNNING]} running, {states[Status.WAITING]} waiting{holder}")


def _overview(root: Path, as_json: bool) -> Iterator[str]:
    """Yield a line for each experiment of the root.

    Raises:
        UserError: There is none.
    """
    homes = sorted(path for path in (root / "runs").glob("*") if path.is_dir())
    if not homes:
        raise UserError(f"{root} holds no runs yet; run an experiment, or give its --root")
    for home in homes:
        records = list(_records_of_folder(home))
        if as_json:
            states = Counter(record["state"] for record in records)
            yield json.dumps({"experiment": home.name, "runs": len(records), **states})
        else:
            yield f"{home.name}: {_summary(home, records)}"
