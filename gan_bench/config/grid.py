"""Expands `base`, `variants` and `matrix` into variants, with the place of each setting."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from copy import copy
from typing import Any

from gan_bench import registry
from gan_bench.config.recipes import RECIPES
from gan_bench.config.spec import RunSettings
from gan_bench.config.yaml_source import Where
from gan_bench.errors import shown
from gan_bench.registry import nearest

LISTS = {"penalties": "unpenalised", "augmentation": "unaugmented"}  # and names of empty ones
PARTS = ("model", "loss", "g_optimizer", "d_optimizer")
KEYS = (*RunSettings.model_fields, "optimizer", "recipe")
AXES_BESIDE = ("include", "exclude")
MAX_VARIANTS = 20_000  # more is a mistake: five axes of forty values are a hundred million
MAX_AXES = 64
ARGUMENTS = {"learning_rate": "lr", "beta": "betas", "beta1": "betas"}  # other names of arguments

Note = Callable[[Where, str], None]


class Variant:
    """A variant under construction: its settings, and where in the file each came from.

    Attributes:
        labels: The parts of its name.
        settings: What has been set so far, by key.
        origin: Where in the file each setting stands.
        recipe: The recipe that it is based on; empty where there is none.
        cell: Its place on each axis of a grid, by axis; empty for an entry of `include`.
        axes: By axis its value there, and what the value adds to the name; `variants` is an axis
            whose values are names.
    """

    def __init__(self) -> None:
        self.recipe = ""
        self.labels: list[str] = []
        self.cell: dict[str, str] = {}
        self.axes: dict[str, tuple[Any, str]] = {}
        self.settings: dict[str, Any] = {}
        self.origin: dict[Where, Where] = {}

    @property
    def name(self) -> str:
        """Its name, from its labels; `base` where there is one variant without any."""
        return "-".join(self.labels) or "base"

    def copy(self) -> Variant:
        """Return a copy; overlaying it leaves this variant unchanged."""
        other = Variant()
        other.recipe = self.recipe
        other.labels, other.cell = list(self.labels), dict(self.cell)
        other.axes = dict(self.axes)
        other.settings = {key: copy(value) for key, value in self.settings.items()}
        other.origin = dict(self.origin)
        return other

    def overlay(self, layer: Mapping[str, Any], where: Where) -> None:
        """Let the values of `layer`, which stands at `where`, replace those below it.

        `optimizer` stands for both networks' optimizers. A part given by name, or as a mapping
        with `name`, replaces the part; a mapping without `name` changes its arguments. A recipe's
        settings come before the layer's own.
        """
        name = layer.get("recipe")
        if isinstance(name, str) and name in RECIPES:  # others are refused as keys are
            self.recipe = name
            self.overlay(RECIPES[self.recipe].settings, (*where, "recipe"))
            layer = {key: value for key, value in layer.items() if key != "recipe"}
        if "optimizer" in layer:
            for key in ("g_optimizer", "d_optimizer"):
                self._set(key, layer["optimizer"], (*where, "optimizer"))
        for key, value in layer.items():
            if key != "optimizer":
                self._set(key, value, (*where, key))

    def _set(self, key: str, value: Any, where: Where) -> None:
        if key in PARTS and isinstance(value, dict) and "name" not in value:
            below = self.settings.get(key, RunSettings.model_fields[key].default)
            if isinstance(below, str):
                below = {"name": below}
            value = {**below, **value} if isinstance(below, dict) else dict(value)
        elif key in PARTS and isinstance(value, str):
            value = {"name": value}
        if isinstance(value, dict):
            for argument in layer_keys(value, self.settings.get(key)):
                self.origin[key, argument] = (*where, argument)
        self.settings[key] = value
        self.origin[key,] = where

    def where(self, path: Where) -> Where:
        """Return the path in the file of what stands at `path` in the settings."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.origin:
                # A list is replaced as a whole, so what is below stands there too.
                below = path[end:] if path[0] in LISTS else ()
                return (*self.origin[path[:end]], *below)
        return ("base",)


def layer_keys(value: Mapping[str, Any], below: object) -> list[str]:
    """Return the keys of `value` that `below` lacks or sets to another value."""
    return [k for k in value if not isinstance(below, dict) or below.get(k) != value[k]]


def expand(base: Mapping[str, Any], variants: Mapping[str, Any], matrix: Mapping[str, Any] | None,
           note: Note) -> Iterator[Variant]:
    """Yield the variants: `variants` × `matrix`, less `exclude`, and `include`.

    Args:
        base: What all of them share.
        variants: Overrides by name; a None overrides nothing.
        matrix: Values by axis, and the two keys beside; None where the file has no matrix.
        note: Receives the place and text of each error; then there are no variants.
    """
    axes = {k: v for k, v in (matrix or {}).items() if k not in AXES_BESIDE}
    include, exclude = ((matrix or {}).get(key, []) for key in AXES_BESIDE)
    if not _is_sound(axes, include, exclude, matrix, max(1, len(variants)), note):
        return
    shared = Variant()
    shared.overlay(base, ("base",))
    labels = {axis: _labels(axis, values, _tails(axes)) for axis, values in axes.items()}
    keys = {axis: [_comparable(value) for value in values] for axis, values in axes.items()}
    excluded = _by_axes(exclude)
    count = 0
    # With nothing but `include`, there is no grid that its entries would be added to.
    names = variants or ({"": None} if axes or not include else {})
    for name, settings in names.items():
        for cell in itertools.product(*(range(len(values)) for values in axes.values())):
            chosen = {axis: keys[axis][i] for axis, i in zip(axes, cell, strict=True)}
            if any(tuple(chosen[axis] for axis in subset) in cells
                   for subset, cells in excluded.items()):
                continue
            variant = shared.copy()
            variant.labels += [name] if name else []
            variant.axes |= {"variants": (name, name)} if name else {}
            variant.cell = {"variants": name, **{axis: labels[axis][i]
                                                 for axis, i in zip(axes, cell, strict=True)}}
            variant.overlay(settings or {}, ("variants", name))
            for axis, i in zip(axes, cell, strict=True):
                _apply_axis(variant, axis, axes[axis][i], labels[axis][i], ("matrix", axis, i))
            count += 1
            yield variant
    for index, entry in enumerate(include):
        variant = shared.copy()
        for axis, value in entry.items():
            label = _labels(axis, [value], _tails(entry))[0]
            _apply_axis(variant, axis, value, label, ("matrix", "include", index))
        count += 1
        yield variant
    if not count:
        note(("matrix",), "nothing is left of it after `exclude`: no run")


def _is_sound(axes: Mapping[str, list[Any]], include: list[Any], exclude: list[Any],
              matrix: Mapping[str, Any] | None, times: int, note: Note) -> bool:
    """Return whether a matrix can be expanded, after noting all that is wrong with it."""
    problems: list[tuple[Where, str]] = []
    if matrix is not None and not axes and not include:
        problems.append((("matrix",), "is empty: give it axes, or leave it out"))
    for axis, values in axes.items():
        key, dot, argument = axis.partition(".")
        if key not in KEYS or bool(dot) != bool(argument):
            hint = argument_hint(axis, is_axis=True) or nearest(key, list(KEYS))
            problems.append((("matrix", axis), f"no such axis; {hint}"))
        if not values:
            problems.append((("matrix", axis), "an axis without values makes no run"))
        first: dict[Hashable, int] = {}
        problems += [(("matrix", axis, i), f"{shown(value)} is on this axis twice")
                     for i, value in enumerate(values)
                     if first.setdefault(_comparable(value), i) < i]
    known = {axis: set(map(_comparable, values)) for axis, values in axes.items()}
    for key, entries in (("include", include), ("exclude", exclude)):
        for index, entry in enumerate(entries):
            where: Where = ("matrix", key, index)
            if not isinstance(entry, dict) or not entry:
                problems.append((where, f"is a mapping of axes to values, not {shown(entry)}"))
            elif len(entry) > MAX_AXES:
                problems.append((where, f"has more than {MAX_AXES} axes"))
            elif key == "exclude":
                problems += [(where, f"{axis:.60}: {shown(value)} is on no axis, so it excludes "
                                     f"nothing")
                             for axis, value in entry.items()
                             if _comparable(value) not in known.get(axis, ())]
    if len(axes) > MAX_AXES:
        problems.append((("matrix",), f"has more than {MAX_AXES} axes"))
    count = times * math.prod(len(values) for values in axes.values())
    if count > MAX_VARIANTS:
        sizes = " × ".join(f"{axis:.60} {len(values)}" for axis, values in axes.items())
        problems.append((("matrix",), f"{count:,} variants ({sizes}) are more than "
                                      f"{MAX_VARIANTS:,}"))
    for where, problem in problems:
        note(where, problem)
    return not problems


def argument_hint(word: str, is_axis: bool = False) -> str:
    """Return where an argument of parts belongs that stands in the place of a key.

    Empty if `word` is no part's argument, or a key of runs is as near to it.

    Args:
        is_axis: Whether it is an axis of `matrix`, whose places are written with a dot.
    """
    word = ARGUMENTS.get(word, word)
    kinds: dict[str, registry.Registry[Any, Any]] = {
        "model": registry.MODELS, "loss": registry.LOSSES, "optimizer": registry.OPTIMIZERS}
    keys = [key for key, names in kinds.items()
            if any(word in entry.schema.model_fields for entry in names)]
    if not keys:
        return ""
    if is_axis:
        both = f" (or g_optimizer.{word}, d_optimizer.{word})" if keys == ["optimizer"] else ""
        return f"{word} is an argument: write {' or '.join(f'{key}.{word}' for key in keys)}{both}"
    places = " or ".join(f"{key}: {{{word}: …}}" for key in keys)
    return f"{word} is an argument of the {' and the '.join(keys)}: write {places}"


def _apply_axis(variant: Variant, axis: str, value: Any, label: str, where: Where) -> None:
    """Set what an axis (`loss`, or `g_optimizer.lr`) sets, and add to the variant's name."""
    set_dotted(variant, axis, value, where)
    variant.labels.append(label)
    variant.axes[axis] = value, label


def set_dotted(variant: Variant, dotted: str, value: Any, where: Where) -> None:
    """Set a key (`loss`), or an argument of a part (`g_optimizer.lr`), to a value at `where`."""
    key, _, argument = dotted.partition(".")
    variant.overlay({key: {argument: value} if argument else value}, where[:-1])
    for path in [p for p, w in variant.origin.items() if w[: len(where)] == (*where[:-1], key)]:
        variant.origin[path] = where


def _comparable(value: Any) -> Hashable:
    """Return what is equal, and can be looked up, for equal values of YAML."""
    if isinstance(value, dict):
        return frozenset((key, _comparable(below)) for key, below in value.items())
    return tuple(map(_comparable, value)) if isinstance(value, list) else value


def _by_axes(entries: Iterable[Any]) -> dict[tuple[str, ...], set[tuple[Hashable, ...]]]:
    """Return entries of `exclude` as the values to look for on each combination of axes."""
    cells: dict[tuple[str, ...], set[tuple[Hashable, ...]]] = {}
    for entry in entries:
        axes = tuple(sorted(entry))
        cells.setdefault(axes, set()).add(tuple(_comparable(entry[axis]) for axis in axes))
    return cells


def _tails(axes: Iterable[str]) -> Counter[str]:
    """Return how many axes end in each argument: `g_optimizer.lr` in `lr`."""
    return Counter(axis.rpartition(".")[2] for axis in axes)


def _labels(axis: str, values: list[Any], tails: Counter[str]) -> list[str]:
    """Return what each value of an axis adds to a variant's name: the shortest that tells them
    apart."""
    tail = axis.rpartition(".")[2]
    key = axis if tails[tail] > 1 else tail

    def label(value: Any, long: bool) -> str:
        if isinstance(value, list) and axis in LISTS:
            return "+".join(label(part, long) for part in value) or LISTS[axis]
        if isinstance(value, dict):
            named = [str(value["name"])] if "name" in value else []
            arguments = [f"{k}={v}" for k, v in value.items() if k != "name"]
            return "-".join(named + (arguments if long or not named else []))
        return value if isinstance(value, str) and "." not in axis else f"{key}={value}"

    labels = [label(value, long=False) for value in values]
    counts = Counter(labels)
    for index, value in enumerate(values):
        if counts[labels[index]] > 1:
            labels[index] = label(value, long=True)
    return labels
