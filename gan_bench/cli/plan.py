"""What `gan-bench plan` shows: the runs of an experiment and their states. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gan_bench.config.differences import ABSENT, departures, recipe_of, variant_differences
from gan_bench.config.ema_decay import decay_at
from gan_bench.config.recipes import RECIPES
from gan_bench.config.sources import describe_changed
from gan_bench.config.spec import ExperimentSpec, describe_shape
from gan_bench.errors import DamagedError, count, printable
from gan_bench.hardware import cpu_has_bfloat16
from gan_bench.journal import reading
from gan_bench.journal.drift import describe_drift, since, versions
from gan_bench.journal.layout import run_folders
from gan_bench.journal.schema import Kind
from gan_bench.journal.spec_file import read_values, runs_of_other_code
from gan_bench.journal.status import state_of
from gan_bench.registry import LOSSES, MODELS, OPTIMIZERS, PENALTIES, Part, Registry

PARTS: dict[str, Registry[Any, Any]] = {"model": MODELS, "loss": LOSSES, "g_optimizer": OPTIMIZERS,
                                        "d_optimizer": OPTIMIZERS}


def plan_records(spec: ExperimentSpec, root: Path) -> list[dict[str, object]]:
    """Return a record for each run: id, variant, seed, state, step, steps, made_by."""
    records: list[dict[str, object]] = []
    for run in spec.runs:
        state, step = state_of(run, root)
        records.append({"id": run.id, "variant": run.variant, "seed": run.seed, "state": state,
                        "step": step, "steps": run.steps,
                        "made_by": _other_version(run.folder(root))})
    return records


def plan_text(spec: ExperimentSpec, root: Path) -> str:
    """Return the plan for people: the question, the data, the differences, and every run."""
    question = spec.declared.question
    lines = [f"{spec.name}: {question}" if question else spec.name, "", *_settings_lines(spec), ""]
    table = _fold_arguments(spec, variant_differences(spec.runs))
    if table:
        by_variant = [[variant, *(row[variant] for row in table.values())]
                      for variant in spec.variants]
        rows = [["", *table], *by_variant]
        if len(table) > len(spec.variants):  # usual with recipes: turn the table
            rows = [list(row) for row in zip(*rows, strict=True)]
        lines += ["what differs between variants", *columns(rows), ""]
    if spec.recipes:
        lines += ["recipes", *_recipe_lines(spec), ""]
    records = plan_records(spec, root)
    runs = [[str(record[key]) for key in ("id", "variant", "seed", "state")]
            + [f"{record['step']}/{record['steps']}"] for record in records]
    lines += columns([["id", "variant", "seed", "state", "step"], *runs])
    others = [f"  {record['id']}: {record['made_by']}" for record in records if record["made_by"]]
    if others:
        lines += ["", "begun by another version", *others]
    if changed := runs_of_other_code(spec, root):
        lines += ["", *describe_changed(changed)]
    old = _undescribed_runs(spec, root)
    if old:
        lines += ["", f"{count(len(old) - 1, 'other run')} of {spec.name}, whose settings are not "
                  f"in this file (any more)", *(f"  {line}" for line in old)]
    return "\n".join(lines)


def _settings_lines(spec: ExperimentSpec) -> list[str]:
    """Return what all runs share: data, numbers of runs, measurements, precision."""
    first = spec.runs[0]
    evaluate, final = first.evaluate, first.evaluate.final
    lines = [f"dataset   {first.dataset}: {describe_shape(first.data.shape)}, "
             f"{first.data.train:,} for training and {first.data.test:,} held out"
             + ("" if first.data.notes or not first.data.classes
                else f", {first.data.classes:,} classes"),
             *(f"          {note}" for note in first.data.notes),
             f"runs      {len(spec.variants)} variants × {len(spec.seeds)} seeds = "
             f"{len(spec.runs)}, baseline {spec.declared.baseline}",
             f"evaluate  {', '.join(evaluate.metrics)} on {evaluate.samples:,} samples"]
    if final:
        lines.append(f"final     {', '.join(final.metrics)} on {final.samples:,} samples")
    if first.compute.precision == "auto":
        on_cpu = "or" if cpu_has_bfloat16() else "and float32"
        lines.append("precision auto: bfloat16 on a GPU from Ampere on, "
                     f"{on_cpu} on this processor")
    return lines + _ramp_lines(spec)


def _ramp_lines(spec: ExperimentSpec) -> list[str]:
    """Return which averages never reach their `ema`, because the run ends within the ramp."""
    lines = []
    for run in {(run.ema, run.ema_ramp, run.steps): run for run in spec.runs}.values():
        if run.ema is None or run.ema_ramp is None:
            continue
        last = decay_at(run.ema, run.ema_ramp, run.steps)
        if last < run.ema:
            lines.append(f"average   ema {run.ema:g}: ema_ramp {run.ema_ramp:g} lets the decay "
                         f"grow to {last:.4f} in {run.steps:,} steps")
    return lines


def _fold_arguments(spec: ExperimentSpec, table: dict[str, dict[str, str]],
                    ) -> dict[str, dict[str, str]]:
    """Return the differences without arguments that differ only as some variants lack the part.

    Those that are not at their default are shown in brackets after the part's name instead, so that
    the table of a grid of penalties stays narrow.
    """
    folded = set()
    for key, row in table.items():
        values = set(row.values())
        if ABSENT in values and len(values) == 2:
            folded.add(key)

    def describe(part: Part, key: str, registry: Registry[Any, Any]) -> str:
        defaults = registry[part.name].schema.model_construct().model_dump(mode="json")
        arguments = [f"{name} {value}" for name, value in part.args.items()
                     if f"{key}.{name}" in folded and defaults.get(name, ABSENT) != value]
        return f"{part.name} ({', '.join(arguments)})" if arguments else part.name

    cells = {key: dict(row) for key, row in table.items() if key not in folded}
    for variant, run in {run.variant: run for run in spec.runs}.items():
        if "penalties" in cells:
            names = [describe(part, f"penalties.{part.name}", PENALTIES) for part in run.penalties]
            cells["penalties"][variant] = "+".join(names) or "none"
        for key, registry in PARTS.items():
            if key in cells:
                cells[key][variant] = describe(getattr(run, key), key, registry)
    return cells


def _recipe_lines(spec: ExperimentSpec) -> list[str]:
    """Return what each recipe sets, and what overrides it in the experiment."""
    first_runs = {run.variant: run for run in reversed(spec.runs)}
    lines = []
    for name in dict.fromkeys(spec.recipes.values()):
        recipe = RECIPES[name]
        settings = ", ".join(f"{key} {_setting_text(value)}"
                             for key, value in recipe.settings.items())
        lines += [f"  {name}: {recipe.source}", f"    sets {settings}"]
        for variant, recipe_name in spec.recipes.items():
            if recipe_name != name:
                continue
            of_recipe, of_variant = recipe_of(first_runs[variant], name)
            # If a part is replaced, its arguments are not listed too.
            overrides = [f"{key} {value} (for {of_recipe[key]})"
                         for key, value in of_variant.items()
                         if value != ABSENT and key.rpartition(".")[0] not in of_variant]
            if overrides:
                lines.append(f"    {variant} overrides {', '.join(overrides)}")
        lines += _departure_lines({variant: departures(first_runs[variant], name)
                                   for variant, own in spec.recipes.items() if own == name})
    return lines


def _departure_lines(by_variant: dict[str, list[str]]) -> list[str]:
    """Return in what the variants of a recipe depart from its paper: one line for all, or each."""
    texts = {variant: "; ".join(parts) for variant, parts in by_variant.items() if parts}
    if len(texts) == len(by_variant) and len(set(texts.values())) == 1:
        return [f"    departs from the paper: {next(iter(texts.values()))}"]
    return [f"    {variant} departs from the paper: {text}" for variant, text in texts.items()]


def _setting_text(value: object) -> str:
    """Return a recipe's value as text: `dcgan (d_norm none)`."""
    if isinstance(value, list):
        return "+".join(map(_setting_text, value)) or "none"
    if not isinstance(value, dict):
        return str(value)
    arguments = ", ".join(f"{k} {v}" for k, v in value.items() if k != "name")
    return f"{value['name']} ({arguments})"


def columns(rows: list[list[str]]) -> list[str]:
    """Return rows of text with their columns aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows]


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


def _undescribed_runs(spec: ExperimentSpec, root: Path) -> list[str]:
    """Return lines about runs under the experiment's name that this file does not describe."""
    described = {run.id for run in spec.runs}
    rows = []
    for folder in run_folders(root / "runs" / spec.name):
        if folder.name in described:
            continue
        try:
            values, last = read_values(folder), reading.last(folder)
        except DamagedError as error:
            rows.append([folder.name, printable(str(error)), "", "", ""])
            continue
        step = last["step"] if last else 0
        state = last["status"] if last and last["kind"] == Kind.END else "without an end"
        rows.append([folder.name, values["variant"], str(values["seed"]), state,
                     f"{step}/{values.get('steps', '?')}"])
    return columns([["id", "variant", "seed", "state", "step"], *rows]) if rows else []
