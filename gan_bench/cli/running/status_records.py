"""A record of each run of an experiment, as its file or the root's folder says. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gan_bench.compare.search.choice import RunPlace, draws_by_settings, run_places
from gan_bench.compare.search.confirming import choice_in, with_confirm_runs
from gan_bench.config.declared import Declared
from gan_bench.config.run_id import settings_under
from gan_bench.config.search.search import SELECT, SearchSpec
from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import DamagedError, UserError, printable
from gan_bench.journal import reading
from gan_bench.journal.about import read_about
from gan_bench.journal.layout import run_folders
from gan_bench.journal.schema import Kind, Record, Status
from gan_bench.journal.sharing.claims import (
    holder_of,
    newest_claim,
    seen_alive,
    unreadable_line,
)
from gan_bench.journal.sharing.queue_file import specs_of
from gan_bench.journal.spec_file import read_values
from gan_bench.journal.status import state_in

# The fields of a run that has not begun.
WAITS: dict[str, Any] = {"state": Status.WAITING, "step": 0, "steps": None, "since": None,
                         "by": None, "why": ""}
ENDED = (Status.FINISHED, Status.DIVERGED, Status.FAILED)


def records_of_file(spec: ExperimentSpec, root: Path) -> Iterator[dict[str, Any]]:
    """Yield the runs of an experiment as its file says them; of a search those of both stages."""
    for run in with_confirm_runs(spec, root).runs:
        draw = {} if run.draw is None else {"draw": run.draw, "stage": run.stage}
        yield {"id": run.id, "variant": run.variant, **draw, "seed": run.seed,
               **_progress(run.folder(root), run.steps)}


def records_of_folder(home: Path) -> Iterator[dict[str, Any]]:
    """Yield the runs that the last `gan-bench run` of the experiment had, by variant and seed.

    Of a search they are those of both stages: of the second once the journals choose its draws.
    """
    declared = Declared()
    with suppress(ValueError):  # a damaged file, which the next `run` replaces
        declared = read_about(home)
    search = declared.search if declared.draws else None
    draws = draws_by_settings(declared) if search else {}
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for folder in run_folders(home):
        try:
            values = read_values(folder)
        except DamagedError as error:
            yield _damaged(folder, error)
            continue
        under = settings_under(folder.name, values)
        what = (_what_searched(draws.get(under), values["seed"], search) if search else
                _what(declared, under, values))
        if what:
            found[*what.values()] = {"id": folder.name, **what,
                                     **_progress(folder, values.get("steps"))}
    planned: Iterable[Mapping[str, Any]] = [
        {"variant": variant, "seed": seed}
        for variant in declared.variants for seed in declared.seeds]
    if search:
        planned = _planned_of_search([*found.values()], home, declared, search)
    elif not planned:
        planned = [{"variant": variant, "seed": seed} for variant, seed in sorted(found)]
    for place in planned:
        yield found.get((*place.values(),)) or {"id": None, **place, **WAITS}


def _what(declared: Declared, under: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a run's variant and seed; nothing if it is of other settings or another seed."""
    variant, seed = values["variant"], values["seed"]
    if declared.seeds and seed not in declared.seeds:
        return {}
    if declared.settings and under != declared.settings.get(variant):
        return {}
    return {"variant": variant, "seed": seed}


def _what_searched(place: tuple[str, int] | None, seed: int, search: SearchSpec) -> dict[str, Any]:
    """Return what `_what` does, of a search: the draw and the stage too."""
    stage = search.stage_of(seed)
    if place is None or not stage:
        return {}
    return RunPlace(*place, stage, seed)._asdict()


def _planned_of_search(records: Sequence[Mapping[str, Any]], home: Path, declared: Declared,
                       search: SearchSpec) -> Iterator[dict[str, Any]]:
    select = [record["id"] for record in records if record["stage"] == SELECT]
    chosen: Mapping[str, Sequence[int]] = {}
    with suppress(UserError):  # the code of a part is gone
        chosen = choice_in(specs_of(select, home), declared, home.parents[1]).draws
    for place in run_places(declared, search, chosen):
        yield place._asdict()


def _damaged(folder: Path, error: DamagedError) -> dict[str, Any]:
    """Return the record of a run whose specification cannot be read."""
    return {"id": folder.name, "variant": "?", "seed": None, **WAITS, "state": Status.FAILED,
            "why": printable(str(error))}


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
        said = last["why"] if last is not None and last["kind"] == Kind.END else ""
        why = said or "its process died without a word"
    elif state == Status.RUNNING and (claim := newest_claim(folder)) and claim.unreadable:
        why = printable(unreadable_line(folder, claim))
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
