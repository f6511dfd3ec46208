"""What `gan-bench plan` shows: the runs of an experiment and their states.

It imports torch only where snapshots are kept, to say how large they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gan_bench.cli.planning.plan_search import runs_line, search_lines, unchosen_runs
from gan_bench.cli.planning.train_on import beginnings_of, checkpoint_lines
from gan_bench.config.differences import ABSENT, departures, recipe_of, variant_differences
from gan_bench.config.ema_decay import HalfLife
from gan_bench.config.recipes import RECIPES
from gan_bench.config.sources import describe_changed
from gan_bench.config.spec import ExperimentSpec, RunSpec, describe_shape
from gan_bench.errors import DamagedError, count, printable
from gan_bench.hardware import cpu_has_bfloat16
from gan_bench.journal import reading
from gan_bench.journal.drift import describe_drift, since, versions
from gan_bench.journal.layout import WEIGHTS, run_folders
from gan_bench.journal.schema import RESULTS, Kind, Status
from gan_bench.journal.scores.missing_scores import is_recorded, missing_scores
from gan_bench.journal.shorter_runs import Beginning
from gan_bench.journal.spec_file import ReadValues, read_values, runs_of_other_code
from gan_bench.journal.status import progress_of, state_of
from gan_bench.launcher.reporters import search_fields
from gan_bench.registry import (
    AUGMENTATIONS,
    LOSSES,
    MODELS,
    OPTIMIZERS,
    PENALTIES,
    Part,
    Registry,
)
from gan_bench.text_table import TableColumn, align_columns, grouped_lines, wrap_line
from gan_bench.tracking.runs.older_ids import OlderRun, older_runs, to_take_over

PARTS: dict[str, Registry[Any, Any]] = {"model": MODELS, "loss": LOSSES, "g_optimizer": OPTIMIZERS,
                                        "d_optimizer": OPTIMIZERS}
PART_LISTS: dict[str, Registry[Any, Any]] = {"penalties": PENALTIES, "augmentation": AUGMENTATIONS}

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
    for line in _settings_lines(spec):
        lines += wrap_line(line, width, hang=10)
    lines.append("")
    table = _fold_arguments(spec, variant_differences(spec.runs))
    if table:
        lines += ["what differs between variants", *_difference_lines(spec, table, width), ""]
    if spec.recipes:
        lines += ["recipes", *_recipe_lines(spec), ""]
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


def _difference_lines(spec: ExperimentSpec, table: dict[str, dict[str, str]], width: int | None,
                      ) -> list[str]:
    """Return what differs between variants: as a table, or where that is too wide by variant."""
    by_variant = [[variant, *(row[variant] for row in table.values())]
                  for variant in spec.variants]
    rows = [["", *table], *by_variant]
    turned = [list(row) for row in zip(*rows, strict=True)]
    if len(table) > len(spec.variants):  # usual with recipes
        rows, turned = turned, rows
    for lines in align_columns(rows), align_columns(turned):
        if width is None or max(map(len, lines)) <= width:
            return lines
    lines = []
    for variant in spec.variants:
        values = ", ".join(f"{key} {row[variant]}" for key, row in table.items())
        lines += [f"  {variant}", *wrap_line(f"    {values}", width)]
    return lines


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


def _settings_lines(spec: ExperimentSpec) -> list[str]:
    """Return what all runs share: data, numbers of runs, measurements, precision."""
    first = spec.runs[0]
    evaluate, final = first.evaluate, first.evaluate.final
    whole = "" if first.data.whole is None else f" (of {first.data.whole:,})"
    lines = [f"dataset   {first.dataset}: {describe_shape(first.data.shape)}, "
             f"{first.data.train:,}{whole} for training and {first.data.test:,} held out"
             + ("" if first.data.notes or not first.data.classes
                else f", {first.data.classes:,} classes"),
             *(f"          {note}" for note in first.data.notes),
             runs_line(spec, spec.search) if spec.search is not None else
             f"runs      {len(spec.variants)} variants × {len(spec.seeds)} seeds = "
             f"{len(spec.runs)}, baseline {spec.declared.baseline}",
             f"evaluate  {', '.join(evaluate.metrics)} on {evaluate.samples:,} samples"]
    if final:
        lines.append(f"final     {', '.join(final.metrics)} on {final.samples:,} samples")
    if evaluate.reference:
        lines.append(f"reference {evaluate.reference.statistics} for Fréchet distances (sha256 "
                     f"{evaluate.reference.sha256:.12})")
    if evaluate.snapshots and evaluate.every:
        lines.append(f"snapshots {_snapshots_size(spec)}")
    if first.compute.precision == "auto":
        on_cpu = "or" if cpu_has_bfloat16() else "and float32"
        lines.append("precision auto: bfloat16 on a GPU from Ampere on, "
                     f"{on_cpu} on this processor")
    return lines + _ramp_lines(spec)


def _snapshots_size(spec: ExperimentSpec) -> str:
    """Return how much disk the networks of all measurements take."""
    import torch

    from gan_bench.components.models import make_networks

    sizes: dict[str, int] = {}
    total = files = 0
    for run in spec.runs:
        if run.variant not in sizes:
            with torch.device("meta"):
                networks = make_networks(run.model, run.data.shape, run.condition,
                                         run.data.classes, run.data.input)
            sizes[run.variant] = sum(
                tensor.numel() * tensor.element_size()
                for network in (networks.generator, networks.discriminator)
                for tensor in network.state_dict().values())
        number = run.steps // run.evaluate.every if run.evaluate.every else 0
        files, total = files + number, total + number * sizes[run.variant]
    return f"{count(files, 'file')} of G and D, {total / 1e6:,.0f} MB on the disk"


def _ramp_lines(spec: ExperimentSpec) -> list[str]:
    """Return which averages never reach their `ema`, because the run ends within the ramp."""
    lines = []
    for run in {repr(run.averaging): run for run in spec.runs}.values():
        averaging = run.averaging
        if averaging is None or run.ema_ramp is None:
            continue
        if isinstance(run.ema, HalfLife):
            last, whole = averaging.half_life(run.steps), run.ema.at(
                run.steps, run.steps, run.images_per_step)
            if last < whole:
                lines.append(f"average   half_life {whole:,g}: ema_ramp {run.ema_ramp:g} lets it "
                             f"grow to {last:,g} images in {run.steps:,} steps")
            continue
        last = averaging.decay(run.steps)
        if run.ema is not None and last < run.ema:
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
    for variant, run in {run.variant: run for run in reversed(spec.runs)}.items():
        for key, registry in PART_LISTS.items():
            if key in cells:
                names = [describe(part, f"{key}.{part.name}", registry)
                         for part in getattr(run, key)]
                cells[key][variant] = "+".join(names) or "none"
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
    """Return a recipe's value as text: `dcgan (d_norm none)`, `0.05 to 0.005`."""
    if isinstance(value, list):
        return "+".join(map(_setting_text, value)) or "none"
    if not isinstance(value, dict):
        return str(value)
    if "points" in value:
        return f"{value['points'][0][1]:g} to {value['points'][-1][1]:g}"
    arguments = ", ".join(f"{key} {_argument_text(each)}" for key, each in value.items()
                          if key != "name")
    return f"{value['name']} ({arguments})" if "name" in value else arguments


def _argument_text(value: object) -> str:
    """Return an argument of a recipe's part as text; a list may hold numbers that change."""
    if isinstance(value, list):
        return f"[{', '.join(map(_setting_text, value))}]"
    return _setting_text(value)


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
