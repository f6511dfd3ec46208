"""From a search to settings: which keys of the space a variant has, and its draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gan_bench import registry
from gan_bench.config.grid import (
    AXES_BESIDE,
    KEYS,
    LISTS,
    PARTS,
    Variant,
    argument_hint,
    set_dotted,
)
from gan_bench.config.run_id import RECORDED
from gan_bench.config.search.search import SearchSpec
from gan_bench.config.yaml_source import Where
from gan_bench.errors import shown
from gan_bench.registry import Registry, nearest

# Keys of runs that no search draws, and why.
UNDRAWN = {
    "recipe": "sets many keys at once: put it on an axis of `matrix`",
    "init": "names files: put it on an axis of `matrix`",
    **dict.fromkeys((key for key in KEYS if key in RECORDED),
                    "says what is recorded, and changes no number of a run")}
REGISTRIES: dict[str, Registry[Any, Any]] = {
    "model": registry.MODELS, "loss": registry.LOSSES, "g_optimizer": registry.OPTIMIZERS,
    "d_optimizer": registry.OPTIMIZERS}
LISTED: dict[str, Registry[Any, Any]] = {
    "penalties": registry.PENALTIES, "augmentation": registry.AUGMENTATIONS}
EXAMPLES = {"penalties": "penalties.r1.gamma", "augmentation": "augmentation.ada.p"}
NAMES = "variants"  # in `only`
SPACE: Where = ("search", "space")
Found = Iterator[tuple[Where, str]]


def space_problems(search: SearchSpec, matrix: Mapping[str, Any] | None) -> Found:
    """Yield what is wrong with a search before any variant is known: its place, and the reason.

    Args:
        matrix: The file's, which has been checked.
    """
    both = [seed for seed in search.confirm.seeds if seed in search.select.seeds]
    for seed in both:
        yield (("search", "confirm", "seeds", search.confirm.seeds.index(seed)),
               f"{seed} is a seed of search.select too: the best draw was chosen by its luck "
               f"there, so confirm it under fresh seeds")
    if search.confirm.best > search.draws:
        yield (("search", "confirm", "best"),
               f"{search.confirm.best} is more than the {search.draws} draws")
    axes = [axis for axis in matrix or {} if axis not in AXES_BESIDE]
    for place, key in enumerate(search.space):
        head, dot, argument = key.partition(".")
        if head in UNDRAWN:
            yield (*SPACE, key), UNDRAWN[head]
        elif head not in KEYS or bool(dot) != bool(argument):
            hint = argument_hint(key, is_axis=True) or nearest(head, [*KEYS])
            yield (*SPACE, key), f"no such key; {hint}"
        elif dot and head not in (*PARTS, "optimizer", *LISTS):
            yield (*SPACE, key), f"{head} has no arguments: leave out .{argument}"
        elif head in LISTS and dot and len(argument.split(".")) != 2:
            yield (*SPACE, key), f"write {head}.NAME.ARGUMENT, such as {EXAMPLES[head]}"
        taken = [axis for axis in axes if _overlap(key, axis)]
        taken += [other for other in [*search.space][:place] if _overlap(key, other)]
        if taken:
            where = "`matrix`" if taken[0] in axes else "`search.space`"
            yield (*SPACE, key), f"{taken[0]} is in {where}, which sets it too: keep one of them"


def _overlap(first: str, second: str) -> bool:
    """Whether two dotted keys set the same: `optimizer.lr` and `g_optimizer.lr` do."""
    return any(one == other or one.startswith(f"{other}.") or other.startswith(f"{one}.")
               for one in _settings_of(first) for other in _settings_of(second)
               # An axis of penalties says which there are; the space draws their arguments.
               if not {one, other} & LISTS.keys() or one == other)


def _settings_of(key: str) -> list[str]:
    """Return what a key stands for: `optimizer` for both networks' optimizers."""
    head, dot, rest = key.partition(".")
    return [name + dot + rest for name in ("g_optimizer", "d_optimizer")] if (
        head == "optimizer") else [key]


def keys_of(variant: Variant, search: SearchSpec) -> list[str]:
    """Return the keys of the space that are drawn for a variant: `only` may leave it out."""
    return [key for key, distribution in search.space.items()
            if all(_is_at(variant, axis, value) for axis, value in distribution.only.items())]


def _is_at(variant: Variant, axis: str, value: object) -> bool:
    """Whether a variant has a value on an axis, which may be written as its name shows it.

    `variants` stands for the names, also where they come from a matrix.
    """
    if axis in variant.axes:
        places = [*variant.axes[axis]]
    elif axis == NAMES:
        places = [variant.name]
    else:
        return False
    return value in places or (isinstance(value, list) and any(one in places for one in value))


def use_problems(variants: Sequence[Variant], search: SearchSpec) -> Found:
    """Yield which keys no variant draws, and which some cannot have: its place, and the reason."""
    if not variants:  # what is wrong with the matrix has been said
        return
    axes = dict.fromkeys(axis for variant in variants for axis in variant.axes)
    for key, distribution in search.space.items():
        where = (*SPACE, key)
        unknown = [axis for axis in distribution.only if axis not in (*axes, NAMES)]
        users = [variant for variant in variants if key in keys_of(variant, search)]
        if unknown:
            hint = nearest(unknown[0], [*axes]) if axes else "there are no axes: leave it out"
            yield (*where, "only", unknown[0]), f"no variant has such an axis; {hint}"
        elif not users:
            yield where, (f"no variant draws it: no value on the axis is "
                          f"{shown(next(iter(distribution.only.values())))}")
        lacking = next((lack for variant in users if (lack := _lack(variant, key))), "")
        if lacking:
            others = len(users) > 1 or len(variants) > 1
            cure = "name the variants that have it: `only: {AXIS: VALUE}`" if others else (
                "leave it out")
            yield where, f"{lacking}; {cure}"


def _lack(variant: Variant, key: str) -> str:
    """Return which part of a variant has no such argument; empty if it has, or is no known part."""
    head, dot, argument = key.partition(".")
    name = variant.name
    if not dot:
        return ""
    if head in LISTS:
        listed, _, argument = argument.partition(".")
        parts = LISTED[head]
        if listed not in [_name(part) for part in _listed(variant, head)]:
            return f"{name} has no {parts.kind} {listed}"
        entry = parts.get(listed)
        has = entry is None or argument in entry.schema.model_fields
        return "" if has else f"the {parts.kind} {listed} has no argument {argument}"
    for part in _settings_of(head):
        given = variant.settings.get(part)
        entry = REGISTRIES[part].get(_name(given)) if given is not None else None
        if entry is not None and argument not in entry.schema.model_fields:
            return f"{name}: the {REGISTRIES[part].kind} {entry.name} has no argument {argument}"
    return ""


def _name(part: object) -> str:
    return str(part.get("name", "")) if isinstance(part, dict) else str(part)


def _listed(variant: Variant, key: str) -> list[Any]:
    """Return a variant's list of parts, `penalties` for example, as the file has it."""
    given = variant.settings.get(key)
    return given if isinstance(given, list) else []


def _with_argument(part: Any, name: str, argument: str, value: Any) -> Any:
    """Return a part as the file has it, with an argument if it has this name."""
    if _name(part) != name:
        return part
    return {**(part if isinstance(part, dict) else {"name": part}), argument: value}


def with_values(variant: Variant, values: Mapping[str, Any]) -> Variant:
    """Return a variant with drawn values, by dotted key; its name stays."""
    drawn = variant.copy()
    for key, value in values.items():
        where = (*SPACE, key)
        head, _, rest = key.partition(".")
        if head in LISTS and rest:
            name, argument = rest.split(".")
            drawn.settings[head] = [_with_argument(part, name, argument, value)
                                    for part in _listed(drawn, head)]
            drawn.origin[head,] = where
        else:
            set_dotted(drawn, key, value, where)
    return drawn


def trials(variant: Variant, search: SearchSpec) -> dict[str, list[Variant]]:
    """Return, by key that a variant draws, the variant with each extreme of it alone.

    What is wrong with one of them is wrong with the space.
    """
    return {key: [with_values(variant, {key: value}) for value in search.space[key].extremes]
            for key in keys_of(variant, search)}


def draws_of(variant: Variant, search: SearchSpec) -> Iterator[Variant]:
    """Yield the draws of a variant, in order; draw 0 is the variant itself under `defaults`."""
    keys = keys_of(variant, search)
    for draw in range(search.draws):
        yield with_values(variant, search.values(keys, draw))
