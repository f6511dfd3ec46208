"""`gan-bench status`: what runs, is done, waits or failed, from the journals alone. No torch."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from gan_bench.cli.last_run import last_command, other_settings_line
from gan_bench.cli.running.status_records import ENDED, records_of_file, records_of_folder
from gan_bench.config.shipped import is_experiment
from gan_bench.errors import UserError, count, printable
from gan_bench.journal.layout import Workspace
from gan_bench.journal.schema import Status
from gan_bench.journal.sharing.lock import holder_line
from gan_bench.registry import nearest
from gan_bench.text_table import TableColumn, grouped_lines, wrap_line
from gan_bench.tracking.store.address import refuse_network_file

COLUMNS = (TableColumn("id", 1), TableColumn("variant"), TableColumn("seed", right=True),
           TableColumn("state"), TableColumn("step", 3, right=True), TableColumn("since", 2))
WORKERS = (*COLUMNS, TableColumn("by", 4))
WIDE = 96  # columns that the table with the workers needs


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
    by_file = is_experiment(experiment) and (settings or _home(workspace.root, experiment) is None)
    line = other_settings_line(workspace.root / "runs" / name, settings if by_file else None)
    lines = status_text(name, records, workspace.root, width)
    return [*lines, *(["", *wrap_line(line, width)] if line else [])]


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
        return spec.name, list(records_of_file(spec, root))
    if home is not None and settings:
        command = last_command(home)
        raise UserError(f"--set overrides values of a file: give the YAML of {experiment}, or "
                        f"leave --set out to see the runs of the last `gan-bench run`"
                        f"{f' ({command})' if command else ''}")
    if home is None:
        names = [path.name for path in (root / "runs").glob("*") if path.is_dir()]
        hint = nearest(experiment, names) if names else "run one, or give its --root"
        raise UserError(f"{root} holds no runs of {experiment!r}; {hint}")
    return home.name, list(records_of_folder(home))


def _home(root: Path, name: str) -> Path | None:
    """Return the folder of an experiment's runs; None if there is none."""
    home = root / "runs" / name
    return home if name and Path(name).name == name and home.is_dir() else None


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
    """Return `2 of 4 runs ended (1 FAILED), 1 running, 1 waiting; process 71 runs them`.

    A run that was killed has not ended: the next `run` continues it.
    """
    states = Counter(record["state"] for record in records)
    ended = sum(states[state] for state in ENDED)
    bad = [f"{states[state]} {state}" for state in ENDED[1:] if states[state]]
    named = f" ({', '.join(bad)})" if bad else ""
    killed = states[Status.KILLED]
    to_continue = f", {killed} {Status.KILLED} and waiting to go on" if killed else ""
    line = holder_line(home)
    holder = f"; {line} runs them" if line else ""
    return (f"{ended} of {count(len(records), 'run')} ended{named}, "
            f"{states[Status.RUNNING]} running, {states[Status.WAITING]} waiting{to_continue}"
            f"{holder}")


def _overview(root: Path, as_json: bool) -> Iterator[str]:
    """Yield a line for each experiment of the root.

    Raises:
        UserError: There is none.
    """
    homes = sorted(path for path in (root / "runs").glob("*") if path.is_dir())
    if not homes:
        raise UserError(f"{root} holds no runs yet; run an experiment, or give its --root")
    for home in homes:
        records = list(records_of_folder(home))
        if as_json:
            states = Counter(record["state"] for record in records)
            yield json.dumps({"experiment": home.name, "runs": len(records), **states})
        else:
            yield f"{home.name}: {_summary(home, records)}"
