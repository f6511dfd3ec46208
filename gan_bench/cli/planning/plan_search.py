"""What `gan-bench plan` shows of a search: the space, both stages, and what is done of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from gan_bench.compare.search.choice import draws_by_settings, selection_sentence
from gan_bench.config.run_id import settings_under
from gan_bench.config.search.search import CONFIRM, SELECT, SearchSpec
from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import DamagedError, count
from gan_bench.journal.layout import run_folders
from gan_bench.journal.schema import Status
from gan_bench.journal.spec_file import ReadValues
from gan_bench.text_table import align_columns

SHOWN = 20  # draws whose values are listed


def runs_line(spec: ExperimentSpec, search: SearchSpec) -> str:
    """Return how many runs both stages have: of different draws, as equal ones are one run."""
    select = [run for run in spec.runs if run.stage == SELECT]
    variants = len(spec.variants)
    best = min(search.confirm.best, search.draws)
    most = variants * search.draws * len(search.select.seeds)
    shared = f", {most - len(select)} of them shared by equal draws" if most > len(select) else ""
    second = variants * best * len(search.confirm.seeds)
    return (f"runs      {len(select) + second}: select {count(variants, 'variant')} × "
            f"{count(search.draws, 'draw')} × {count(len(search.select.seeds), 'seed')} = "
            f"{most}{shared}; confirm {variants} × best {best} × "
            f"{count(len(search.confirm.seeds), 'seed')} = {second}; baseline "
            f"{spec.declared.baseline}")


def search_lines(spec: ExperimentSpec, search: SearchSpec, records: Sequence[Mapping[str, Any]],
                 ) -> list[str]:
    """Return the space, the values of the draws, and how far both stages are.

    Args:
        records: As `plan_records` returns them.
    """
    default = "draw 0 is the file's own setting" if search.defaults else "draw 0 is drawn too"
    rows = [[key, str(distribution)] for key, distribution in search.space.items()]
    lines = [f"search    {count(search.draws, 'draw')} of seed {search.seed}; {default}; selected "
             f"by {search.select.by}", f"          {selection_sentence(spec.declared)}",
             "", "space", *_indented(rows), "", "draws", *_draw_lines(search), ""]
    return [*lines, "stages", *_stage_lines(spec, records)]


def unchosen_runs(spec: ExperimentSpec, search: SearchSpec, root: Path, read: ReadValues,
                  ) -> set[str]:
    """Return the ids of the runs that confirm a draw which the journals do not choose.

    Args:
        spec: With the confirm runs of the chosen draws.
        read: Reads the `spec.json` of a folder.
    """
    planned, places = {run.id for run in spec.runs}, draws_by_settings(spec.declared)
    found = set()
    for folder in run_folders(root / "runs" / spec.name):
        if folder.name in planned:
            continue
        with suppress(DamagedError):  # it is listed among other runs
            values = read(folder)
            if (search.stage_of(values["seed"]) == CONFIRM
                    and settings_under(folder.name, values) in places):
                found.add(folder.name)
    return found


def _draw_lines(search: SearchSpec) -> list[str]:
    """Return the drawn values, which variants share that have the key."""
    first = 1 if search.defaults else 0
    rows = [["draw", *search.space]]
    for draw in range(first, min(search.draws, SHOWN)):
        values = search.values(search.space, draw)
        rows.append([str(draw), *(str(values[key]) for key in search.space)])
    more = search.draws - max(SHOWN, first)
    return _indented(rows) + ([f"  and {more:,} more"] if more > 0 else [])


def _stage_lines(spec: ExperimentSpec, records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return for each variant how many runs of both stages have ended, and what is chosen."""
    rows = [["variant", "select", "chosen", "confirm"]]
    for variant in spec.variants:
        own = [record for record in records if record["variant"] == variant]
        select = [record["state"] for record in own if record["stage"] == SELECT]
        confirm = [record for record in own if record["stage"] == CONFIRM]
        draws = dict.fromkeys(str(record["draw"]) for record in confirm)
        chosen = f"draw {', '.join(draws)}" if draws else "not yet"
        rows.append([variant, _done(select), chosen,
                     _done([record["state"] for record in confirm]) if confirm else ""])
    return _indented(rows)


def _done(states: Sequence[Status]) -> str:
    """Return `17 of 20 done (1 DIVERGED), 1 FAILED`."""
    counts = Counter(states)
    done = sum(number for state, number in counts.items() if state.is_result)
    lost = f" ({counts[Status.DIVERGED]} DIVERGED)" if counts[Status.DIVERGED] else ""
    others = [f"{counts[state]} {state}" for state in (Status.RUNNING, Status.FAILED, Status.KILLED)
              if counts[state]]
    return ", ".join([f"{done} of {len(states)} done{lost}", *others])


def _indented(rows: list[list[str]]) -> list[str]:
    return [f"  {line}" for line in align_columns(rows)]
