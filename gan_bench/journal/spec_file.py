"""Reads `spec.json`, which lies in the folder of each run."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from gan_bench.atomic import replacing
from gan_bench.config.run_id import id_of, older_id
from gan_bench.config.sources import changed_since
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.data_facts import DataFacts
from gan_bench.errors import DamagedError, one_line, shown, unwritable
from gan_bench.journal.layout import run_folders
from gan_bench.journal.plugin_files import provide_parts
from gan_bench.registry import Part

ReadValues = Callable[[Path], dict[str, Any]]  # `read_values`, or what remembers its results


def read_values(folder: Path) -> dict[str, Any]:
    """Return a run's `spec.json` as plain data, even if a plug-in that it names is gone.

    Raises:
        DamagedError: It is damaged, or the names of its folders are those of another run or
            experiment.
    """
    try:
        values: dict[str, Any] = json.loads((folder / "spec.json").read_text())
        experiment, run_id = values["experiment"], id_of(values)
        if folder.name == older_id(values):
            run_id = folder.name
        if not isinstance(values["variant"], str):
            raise TypeError("its variant is not a string")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise DamagedError(f"{folder / 'spec.json'}: cannot be read ({one_line(error)}); run the "
                           f"experiment again, which rewrites it, or delete {folder}") from None
    if (experiment, run_id) != (folder.parent.name, folder.name):
        raise DamagedError(f"{folder / 'spec.json'}: belongs to the run {shown(run_id)} of "
                           f"{shown(experiment)}, and not to this folder; run the experiment "
                           f"again, which rewrites it, or delete {folder}")
    return values


def runs_of_other_code(spec: ExperimentSpec, root: Path, read: ReadValues = read_values,
                       ) -> dict[str, list[str]]:
    """Return which parts have changed since runs of the root, as `config.sources.changed_since`.

    Raises:
        UserError: A folder of a run is a link.
    """
    described = {run.id for run in spec.runs}
    others: dict[str, dict[str, Any]] = {}
    for folder in run_folders(root / "runs" / spec.name):
        if folder.name not in described:
            with suppress(DamagedError):  # what reads its results says so
                others[folder.name] = read(folder)
    return changed_since(spec.runs, others)


def read_names(folder: Path) -> tuple[str | None, str]:
    """Return the names in a run's `spec.json`: the variant, and the draw and its stage.

    The latter are as `7 select`, and empty without a search. The variant is None if the file cannot
    be read.
    """
    try:
        values = json.loads((folder / "spec.json").read_bytes())
        variant, draw, stage = values["variant"], values.get("draw"), values.get("stage")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None, ""
    place = "" if draw is None else f"{draw} {stage}"
    return (variant, place) if isinstance(variant, str) else (None, "")


def rename_runs(runs: Iterable[RunSpec], root: Path) -> Counter[tuple[str, str]]:
    """Write the present names of variants, draws and stages into the `spec.json` of their runs.

    A run's id holds no names, so a variant that was renamed keeps its runs, and so does a variant
    that becomes draw 0 of a search.

    Returns:
        How many runs have another variant than before, by the old and the new name.

    Raises:
        UserError: A file cannot be written.
    """
    renamed: Counter[tuple[str, str]] = Counter()
    for run in runs:
        folder = run.folder(root)
        old, before = read_names(folder)
        place = "" if run.draw is None else f"{run.draw} {run.stage}"
        if old is None or (old, before) == (run.variant, place):
            continue
        try:
            values = {**read_values(folder), "variant": run.variant, "draw": run.draw,
                      "stage": run.stage}
        except DamagedError:  # a command that reads this run reports it
            continue
        try:
            with replacing(folder / "spec.json") as temporary:
                temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n")
        except OSError as error:
            raise unwritable(folder / "spec.json", error) from None
        if old != run.variant:
            renamed[str(old), run.variant] += 1
    return renamed


def read_spec(folder: Path) -> RunSpec:
    """Read a run's `spec.json` back.

    Raises:
        OSError: It cannot be read.
        ValueError, TypeError, KeyError, RecursionError: It is not JSON, or nested too deeply, or
            lacks a key or has a wrong type.
        UserError: The code of a third-party part is nowhere in the version of the run.
            Pydantic's ValidationError is a ValueError; so is PartError, for an unknown name.
    """
    values = json.loads((folder / "spec.json").read_text())
    provide_parts(values, folder, ("model", "dataset"))
    data = values.pop("data")
    facts = DataFacts(**{**data, "shape": tuple(data["shape"]),
                         "input": tuple(data.get("input", ()))})
    for key, value in values.items():
        if isinstance(value, dict) and set(value) == {"name", "args"}:
            values[key] = Part(**value)
    if values.get("ema") is not None:  # of a file from before these keys, whose runs did this
        values = {"ema_ramp": None, "ema_statistics": "copied", **values}
    for key in ("penalties", "augmentation"):
        values[key] = [Part(**value) for value in values.get(key, [])]
    return RunSpec(**values, data=facts)
