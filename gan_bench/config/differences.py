"""In which settings the variants of an experiment differ."""

from __future__ import annotations

from collections.abc import Mapping

from gan_bench.config.ema_decay import HalfLife
from gan_bench.config.grid import Variant
from gan_bench.config.recipes import RECIPES
from gan_bench.config.spec import RunSettings, RunSpec
from gan_bench.registry import Part

ABSENT = "·"  # shown where a variant lacks a setting


def variant_differences(runs: tuple[RunSpec, ...]) -> dict[str, dict[str, str]]:
    """Return, for each setting in which variants differ, its value in each variant."""
    flat = {run.variant: flatten(run) for run in reversed(runs)}  # of a search, the first draw
    flat = {variant: flat[variant] for variant in dict.fromkeys(run.variant for run in runs)}
    keys = sorted({key for settings in flat.values() for key in settings})
    table = {key: {name: settings.get(key, ABSENT) for name, settings in flat.items()}
             for key in keys}
    return {key: row for key, row in table.items() if len(set(row.values())) > 1}


def from_baseline(runs: tuple[RunSpec, ...], baseline: str) -> dict[str, str]:
    """Return for each variant in what it differs from the baseline, in words."""
    table = variant_differences(runs)
    return {run.variant: ", ".join(
        f"{key} {row[run.variant]} for {row[baseline]}" for key, row in table.items()
        if row[run.variant] != row[baseline]) for run in runs}


def recipe_of(run: RunSpec, name: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return what a recipe sets, and the values of those that the experiment has overridden."""
    variant = Variant()
    variant.overlay({"recipe": name}, ())
    settings = flatten(RunSettings.model_validate({**variant.settings, "steps": 1}))
    recipe = {key: value for key, value in settings.items()
              if key.partition(".")[0] in variant.settings}
    actual = flatten(run)
    overridden = {key: actual.get(key, ABSENT) for key in recipe if actual.get(key) != recipe[key]}
    return recipe, overridden


def departures(run: RunSettings, name: str) -> list[str]:
    """Return in what a run departs from the paper of a recipe, key by key, and then what it lacks.

    Arguments of a part that has been replaced are left out.
    """
    actual, recipe = flatten(run), RECIPES[name]
    differing = [f"{key} {actual[key]} (there {' or '.join(values)})"
                 for key, values in recipe.paper.items()
                 if key in actual and actual[key] not in values]
    return [*differing, *recipe.lacks]


def flatten(run: RunSettings) -> dict[str, str]:
    """Return the settings of a run as text; a part's arguments get keys such as `loss.target`."""
    flat: dict[str, str] = {}
    for key in RunSettings.model_fields:
        value = getattr(run, key)
        if isinstance(value, Part):
            flat[key] = value.name
            flat.update({f"{key}.{k}": setting_text(v) for k, v in value.args.items()})
        elif key in ("penalties", "augmentation"):
            flat[key] = "+".join(part.name for part in value) or "none"
            flat.update({f"{key}.{part.name}.{k}": setting_text(v) for part in value
                         for k, v in part.args.items()})
        elif key != "epochs":
            flat[key] = setting_text(value)
    return flat


def setting_text(value: object) -> str:
    """Return a value of a key or an argument as text; different values have different texts.

    A number that changes is `0.05 to 0.005 (at 0, 20000000 images, cosine)`.
    """
    if isinstance(value, HalfLife):
        value = value.model_dump(mode="json")
    if isinstance(value, list):
        return f"[{', '.join(map(setting_text, value))}]"
    if not isinstance(value, Mapping):
        return str(value)
    if "points" not in value:
        return ", ".join(f"{key} {setting_text(each)}" for key, each in value.items())
    places, values = zip(*value["points"], strict=True)
    unit, shape = value.get("unit", "steps"), value.get("shape", "linear")
    of = "of the run" if unit == "run" else unit
    return (f"{' to '.join(f'{each:.12g}' for each in values)} (at "
            f"{', '.join(f'{each:.12g}' for each in places)} {of}"
            f"{'' if shape == 'linear' else f', {shape}'})")
