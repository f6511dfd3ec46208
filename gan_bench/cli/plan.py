"""What `gan-bench plan` shows: the runs of an experiment, and where they stand. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gan_bench.config.differences import ABSENT, recipe_of, variant_differences
from gan_bench.config.recipes import RECIPES
from gan_bench.config.spec import ExperimentSpec, describe_shape
from gan_bench.hardware import cpu_has_bfloat16
from gan_bench.journal import reading
from gan_bench.journal.drift import describe_drift, since, versions
from gan_bench.journal.layout import run_folders
from gan_bench.journal.status import state_of
from gan_bench.registry import LOSSES, MODELS, OPTIMIZERS, PENALTIES, Part, Registry

PARTS: dict[str, Registry[Any, Any]] = {"model": MODELS, "loss": LOSSES, "g_optimizer": OPTIMIZERS,
                                        "d_optimizer": OPTIMIZERS}

def as_json(spec: ExperimentSpec, root: Path) -> list[dict[str, object]]:
    """Return a record for each run: id, variant, seed, state, step, steps, made_by."""
    records: list[dict[str, object]] = []
    for run in spec.runs:
        state, step = state_of(run, root)
        records.append({"id": run.id, "variant": run.variant, "seed": run.seed, "state": state,
                        "step": step, "steps": run.steps,
                        "made_by": _other_version(run.folder(root))})
    return records


def as_text(spec: ExperimentSpec, root: Path) -> str:
    """Return the plan for people: the question, the data, the differences, and every run."""
    first = spec.runs[0]
    question = spec.declared.question
    lines = [f"{spec.name}: {question}", ""] if question else [spec.name, ""]
    lines += [f"dataset   {first.dataset}: {describe_shape(first.data.shape)}, "
              f"{first.data.train:,} for training and {first.data.test:,} held out"
              + (f", {first.data.classes:,} classes" if first.data.classes and not first.data.notes
                 else ""),
              *(f"          {note}" for note in first.data.notes),
              f"runs      {len(spec.variants)} variants × {len(spec.seeds)} seeds = "
              f"{len(spec.runs)}, baseline {spec.declared.baseline}",
              f"evaluate  {', '.join(first.evaluate.metrics)} on {first.evaluate.samples:,} "
              f"samples",
              *([f"final     {', '.join(final.metrics)} on {final.samples:,} samples"]
                if (final := first.evaluate.final) else []),
              *(["precision auto: bfloat16 on a GPU from Ampere on, or on this processor"
                 if cpu_has_bfloat16() else
                 "precision auto: bfloat16 on a GPU from Ampere on, and float32 on this processor"]
                if first.compute.precision == "auto" else []),
              ""]
    table = _folded(spec, variant_differences(spec.runs))
    if table:
        rows = [["", *table], *([v, *(row[v] for row in table.values())] for v in spec.variants)]
        # A grid has many variants; recipes differ in many settings.
        rows = rows if len(table) <= len(spec.variants) else [*map(list, zip(*rows, strict=True))]
        lines += ["what differs between variants", *columns(rows), ""]
    if spec.recipes:
        lines += ["recipes", *_recipes(spec), ""]
    records = as_json(spec, root)
    lines += columns([["id", "variant", "seed", "state", "step"],
                      *([str(r["id"]), str(r["variant"]), str(r["seed"]), str(r["state"]),
                         f"{r['step']}/{r['steps']}"] for r in records)])
    others = [f"  {r['id']}: {r['made_by']}" for r in records if r["made_by"]]
    if others:
        lines += ["", "made or begun by another version", *others]
    old = _old(spec, root)
    if old:
        lines += ["", f"{len(old)} older runs of {spec.name}, of specifications that are not in "
                  f"this file (any more)", *(f"  {name}" for name in old)]
    return "\n".join(lines)


def _folded(spec: ExperimentSpec, table: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """The differences without the arguments that come and go with a part, and are else the same.

    Those of them that are not the part's defaults stand behind its name instead: of a grid of
    penalties, nothing else could be read.
    """
    gone = {key for key, row in table.items() if ABSENT in row.values()
            and len({value for value in row.values() if value != ABSENT}) == 1}

    def named(part: Part, key: str, known: Registry[Any, Any]) -> str:
        usual = known[part.name].schema.model_construct().model_dump(mode="json")
        rest = [f"{k} {v}" for k, v in part.args.items()
                if f"{key}.{k}" in gone and usual.get(k, ABSENT) != v]
        return f"{part.name} ({', '.join(rest)})" if rest else part.name

    cells = {key: dict(row) for key, row in table.items() if key not in gone}
    for variant, run in {run.variant: run for run in spec.runs}.items():
        if "penalties" in cells:
            cells["penalties"][variant] = "+".join(
                named(part, f"penalties.{part.name}", PENALTIES) for part in run.penalties
            ) or "none"
        for key, known in PARTS.items():
            if key in cells:
                cells[key][variant] = named(getattr(run, key), key, known)
    return cells


def _recipes(spec: ExperimentSpec) -> list[str]:
    """What each recipe sets, and what the experiment has instead."""
    firsts, lines = {run.variant: run for run in reversed(spec.runs)}, []
    for name in dict.fromkeys(spec.recipes.values()):
        settings = RECIPES[name].settings
        variants = [variant for variant, recipe in spec.recipes.items() if recipe == name]
        lines += [f"  {name}: {RECIPES[name].source}",
                  f"    sets {', '.join(f'{k} {_shown(v)}' for k, v in settings.items())}"]
        for variant in variants:
            given, ours = recipe_of(firsts[variant], name)
            # The arguments of a part that has been replaced went with it.
            told = [f"{key} {value} (for {given[key]})" for key, value in ours.items()
                    if value != ABSENT and key.rpartition(".")[0] not in ours]
            if told:
                lines.append(f"    {variant} overrides {', '.join(told)}")
    return lines


def _shown(value: object) -> str:
    """A recipe's value: `dcgan (d_norm none)`."""
    if isinstance(value, list):
        return "+".join(map(_shown, value)) or "none"
    if not isinstance(value, dict):
        return str(value)
    rest = ", ".join(f"{k} {v}" for k, v in value.items() if k != "name")
    return f"{value['name']} ({rest})"


def columns(rows: list[list[str]]) -> list[str]:
    """Return rows of text with their columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows]


def _other_version(folder: Path) -> str | None:
    """By what a run was made, if not by these versions; None for one that has not begun too."""
    for record in (reading.first, reading.began):  # the second reads more, and is seldom asked
        began = record(folder)
        changed = since(began.get("facts", {}), {"versions": versions()}) if began else {}
        if not changed:
            return None
    return describe_drift(changed)


def _old(spec: ExperimentSpec, root: Path) -> list[str]:
    """The ids of runs under the experiment's name that this file does not describe."""
    ours = {run.id for run in spec.runs}
    folders = run_folders(root / "runs" / spec.name)
    return [folder.name for folder in folders if folder.name not in ours]
