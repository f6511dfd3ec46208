"""What `gan-bench plan` shows of the settings: what runs share, where they differ, and recipes.

It imports torch only where snapshots are kept, to say how large they are.
"""

from __future__ import annotations

from typing import Any

from gan_bench.cli.planning.plan_search import runs_line
from gan_bench.config.differences import (
    ABSENT,
    departures,
    recipe_of,
    setting_text,
    variant_differences,
)
from gan_bench.config.ema_decay import HalfLife
from gan_bench.config.recipes import RECIPES
from gan_bench.config.spec import ExperimentSpec, describe_shape
from gan_bench.errors import count
from gan_bench.hardware import cpu_has_bfloat16
from gan_bench.registry import (
    AUGMENTATIONS,
    LOSSES,
    MODELS,
    OPTIMIZERS,
    PENALTIES,
    Part,
    Registry,
)
from gan_bench.text_table import align_columns, wrap_line

PARTS: dict[str, Registry[Any, Any]] = {"model": MODELS, "loss": LOSSES, "g_optimizer": OPTIMIZERS,
                                        "d_optimizer": OPTIMIZERS}
PART_LISTS: dict[str, Registry[Any, Any]] = {"penalties": PENALTIES, "augmentation": AUGMENTATIONS}


def settings_lines(spec: ExperimentSpec) -> list[str]:
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


def difference_lines(spec: ExperimentSpec, width: int | None) -> list[str]:
    """Return what differs between variants: as a table, or where that is too wide by variant.

    Empty if nothing does.
    """
    table = _fold_arguments(spec, variant_differences(spec.runs))
    if not table:
        return []
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
        arguments = [f"{name} {setting_text(value)}" for name, value in part.args.items()
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


def recipe_lines(spec: ExperimentSpec) -> list[str]:
    """Return what each recipe sets, and what overrides it in the experiment."""
    first_runs = {run.variant: run for run in reversed(spec.runs)}
    lines = []
    for name in dict.fromkeys(spec.recipes.values()):
        recipe = RECIPES[name]
        settings = ", ".join(f"{key} {_recipe_text(value)}"
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


def _recipe_text(value: object) -> str:
    """Return a recipe's value as text: `dcgan (d_norm none)`, parts of a list as `r1+r2`."""
    if isinstance(value, list):
        return "+".join(map(_recipe_text, value)) or "none"
    if not isinstance(value, dict) or "name" not in value:
        return setting_text(value)
    arguments = setting_text({key: each for key, each in value.items() if key != "name"})
    return f"{value['name']} ({arguments})" if arguments else str(value["name"])
