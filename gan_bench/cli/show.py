"""What `gan-bench show` says of a name: what it is, its equation, its arguments. No torch."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from gan_bench.cli.list import KINDS
from gan_bench.config.recipes import RECIPES, Recipe
from gan_bench.errors import UserError
from gan_bench.registry import Entry, MayChange, MetricFacts, Plugin, nearest, scores_of
from gan_bench.text_table import align_columns, wrap_line

WIDTH = 100  # of text, in a file and in a wide terminal
# Where a part stands in an experiment's file, by its kind.
PLACES = {"dataset": "dataset: {}", "model": "base: {{model: {}}}", "loss": "base: {{loss: {}}}",
          "penalty": "base: {{penalties: [{}]}}",
          "augmentation": "base: {{augmentation: [{}]}}", "optimizer": "base: {{optimizer: {}}}",
          "metric": "evaluate: {{metrics: [{}]}}"}
SIGNS = (("gt", "> {}"), ("ge", "≥ {}"), ("lt", "< {}"), ("le", "≤ {}"))


def all_names() -> list[str]:
    """Return the names that `show_lines` takes, sorted."""
    return sorted({*RECIPES, *(entry.name for names in KINDS.values() for entry in names)})


def show_lines(name: str, width: int | None) -> Iterator[str]:
    """Yield the lines about all that has a name: parts of any kind, and recipes.

    Args:
        width: Of the terminal; None: lines of `WIDTH` characters.

    Raises:
        UserError: Nothing has this name; the message lists similar ones.
    """
    width = WIDTH if width is None else min(width, WIDTH)
    entries = [entry for names in KINDS.values() if (entry := names.get(name)) is not None]
    if not entries and name not in RECIPES:
        hint = nearest(name, all_names(), most=6)
        raise UserError(f"nothing is called {name!r}; {hint}")
    kinds = {id(entry): names.kind for names in KINDS.values() for entry in names}
    blocks = [_entry_lines(kinds[id(entry)], entry, width) for entry in entries]
    if name in RECIPES:
        blocks.append(_recipe_lines(name, RECIPES[name], width))
    for i, block in enumerate(blocks):
        if i:
            yield ""
        yield from block


def _entry_lines(kind: str, entry: Entry[Any, Any], width: int) -> list[str]:
    source = f", from {entry.origin.path}" if isinstance(entry.origin, Plugin) else ""
    if entry.origin is not None and not source:
        source = ", of an installed package"
    lines = [f"{kind} {entry.name}{source}", "", *_docstring_lines(entry, width)]
    fields = entry.schema.model_fields
    if fields:
        lines += ["", *_argument_lines(fields, width)]
    if isinstance(entry.facts, MetricFacts):
        lines += ["", *_metric_lines(entry, width)]
    if kind in PLACES:
        example = f"  {PLACES[kind].format(_yaml(entry))}"
        lines += ["", "in an experiment", *wrap_line(example, width)]
    return lines


def _argument_lines(fields: Mapping[str, FieldInfo], width: int) -> list[str]:
    """Return the arguments with their defaults, types and ranges, and what is said of them."""
    rows = [["argument", "default", "type"]]
    for name, field in fields.items():
        default = "required" if field.is_required() else _value_text(field.default)
        rows.append([name, default, type_text(field)])
    head, *below = align_columns(rows)
    place = head.index("type")
    lines = [head]
    for line, field in zip(below, fields.values(), strict=True):
        lines += wrap_line(line, width, place)
        if field.description:
            lines += wrap_line(f"  {field.description}", width, 2)
    return lines


def _docstring_lines(entry: Entry[Any, Any], width: int) -> list[str]:
    """Return the docstring of a part; paragraphs of prose are filled anew."""
    text = inspect.getdoc(entry.factory) or "It has no docstring."
    lines: list[str] = []
    for paragraph in text.split("\n\n"):
        if lines:
            lines.append("")
        if "\n " in paragraph or paragraph.startswith(" "):  # a list, or a formula
            for line in paragraph.split("\n"):
                lines += wrap_line(line, width)
        else:
            lines += wrap_line(" ".join(paragraph.split("\n")), width, 0)
    return lines


def _metric_lines(entry: Entry[Any, MetricFacts], width: int) -> list[str]:
    """Return which way a metric is better, and whose features it needs."""
    facts = entry.facts
    rows = [["better", facts.better or "neither way"], ["features", facts.extractor],
            ["compared with", facts.reference or "nothing"]]
    if facts.range is not None:
        rows.append(["range", "{:g} to {:g}".format(*facts.range)])
    if scores_of(entry) != (entry.name,):
        rows.append(["scores", ", ".join(scores_of(entry))])
    return [part for line in align_columns(rows) for part in wrap_line(line, width, 15)]


def _yaml(entry: Entry[Any, Any]) -> str:
    """Return the part as a YAML writes it, with all arguments at their defaults."""
    arguments = [entry.name]
    for name, field in entry.schema.model_fields.items():
        value = "…" if field.is_required() else _value_text(field.default)
        arguments.append(f"{name}: {value}")
    return f"{{name: {', '.join(arguments)}}}" if len(arguments) > 1 else entry.name


def _value_text(value: object) -> str:
    """Return a default as a YAML writes it."""
    if isinstance(value, str) and value:
        return value
    return json.dumps(value, default=str)


def type_text(field: FieldInfo) -> str:
    """Return the type of an argument and its range: `float > 0, < 1`, `none | batch`."""
    return _limited(_annotation_text(field.annotation), field.metadata)


def _limited(text: str, rules: Iterable[Any]) -> str:
    """Return the text of a type with its range: `float > 0, < 1`."""
    rules = [rule for each in rules for rule in (*getattr(each, "metadata", ()), each)]
    limits = [sign.format(getattr(rule, name)) for rule in rules
              for name, sign in SIGNS if isinstance(getattr(rule, name, None), int | float)]
    points = " or points" if any(isinstance(rule, MayChange) for rule in rules) else ""
    return f"{text} {', '.join(limits)}".rstrip() + points


def _annotation_text(annotation: Any) -> str:
    """Return an annotation as text: `int or null`, `list of float`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return " | ".join(map(_value_text, inner))
    if origin in (Union, types.UnionType):
        return " or ".join(map(_annotation_text, inner))
    if annotation in (None, types.NoneType):
        return "null"
    if hasattr(annotation, "__metadata__"):  # Annotated
        return _limited(_annotation_text(inner[0]), annotation.__metadata__)
    if origin in (list, tuple):
        of = dict.fromkeys(_annotation_text(part) for part in inner if part is not Ellipsis)
        return f"list of {' or '.join(of)}"
    return getattr(annotation, "__name__", str(annotation))


def _recipe_lines(name: str, recipe: Recipe, width: int) -> list[str]:
    lines = [f"recipe {name}", "", *wrap_line(recipe.source, width, 0), "", "settings"]
    for key, value in recipe.settings.items():
        lines += wrap_line(f"  {key}: {json.dumps(value, ensure_ascii=False)}", width)
    if recipe.paper or recipe.lacks:
        lines += ["", "where it departs from the paper"]
        for key, values in recipe.paper.items():
            lines += wrap_line(f"  {key}: there {' or '.join(values)}", width)
        for lack in recipe.lacks:
            lines += wrap_line(f"  {lack}", width)
    return [*lines, "", "in an experiment", f"  base: {{recipe: {name}}}"]
