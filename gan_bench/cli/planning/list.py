"""What `gan-bench list` shows: every registered name, with its arguments and what it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gan_bench import registry
from gan_bench.config.recipes import RECIPES
from gan_bench.config.shipped import shipped_experiments
from gan_bench.config.yaml_source import read_yaml
from gan_bench.errors import UserError
from gan_bench.registry import Entry, MetricFacts, Registry, nearest
from gan_bench.text_table import align_columns, wrap_line

MAX_NAME = 24  # characters of a name in a column

KINDS: dict[str, Registry[Any, Any]] = {
    "datasets": registry.DATASETS, "models": registry.MODELS, "losses": registry.LOSSES,
    "penalties": registry.PENALTIES, "augmentations": registry.AUGMENTATIONS,
    "optimizers": registry.OPTIMIZERS,
    "extractors": registry.EXTRACTORS, "metrics": registry.METRICS}


def all_kinds() -> list[str]:
    """Return the kinds of names that `list_lines` takes."""
    return [*KINDS, "recipes", "experiments"]


def list_lines(kind: str | None, width: int | None = None) -> Iterator[str]:
    """Yield the lines about a kind of names; about every kind for None.

    Args:
        width: Of the terminal; None: a line for each name.

    Raises:
        UserError: There is no such kind.
    """
    if kind is not None and kind not in all_kinds():
        raise UserError(f"no kind is called {kind!r}; {nearest(kind, all_kinds())}")
    if kind in (None, "experiments"):
        yield from _experiment_lines(width)
    if kind in (None, "recipes"):
        yield from _recipe_lines(width)
    for name, names in KINDS.items():
        if kind in (None, name):
            yield from _registry_lines(name, names, width)


def _experiment_lines(width: int | None) -> Iterator[str]:
    yield "experiments"
    yield from _name_lines([[name, str(read_yaml(file).data.get("question", "")).strip()]
                            for name, file in shipped_experiments().items()], width)
    yield ""


def _recipe_lines(width: int | None) -> Iterator[str]:
    yield "recipes"
    yield from _name_lines([[name, recipe.source] for name, recipe in RECIPES.items()], width)
    yield ""


def _registry_lines(kind: str, names: Registry[Any, Any], width: int | None) -> Iterator[str]:
    yield kind
    yield from _name_lines([[entry.name, _summary(entry), _arguments(entry)] for entry in names],
                           width)
    for plugin, reason in names.failed_plugins.items():
        yield from wrap_line(f"  plug-in {plugin} failed: {reason}", width)
    yield ""


def _name_lines(rows: list[list[str]], width: int | None) -> list[str]:
    """Return names with what is said of them: in columns, or below each other if they are too wide.
    """
    lines = [f"  {line}" for line in align_columns(rows)]
    if width is None or max(map(len, lines), default=0) <= width:
        return lines
    lines = []
    place = min(max(len(name) for name, *_ in rows), MAX_NAME) + 4  # where what is said begins
    for name, *texts in rows:
        first, *others = [text for text in texts if text] or [""]
        if len(name) + 4 > place:
            lines.append(f"  {name}")
            name = ""
        lines += wrap_line(f"  {name:{place - 2}}{first}", width, place)
        for text in others:
            lines += wrap_line(" " * place + text, width, place + 1)
    return lines


def _summary(entry: Entry[Any, Any]) -> str:
    """Return what the entry is; of a metric also which way is better."""
    facts = entry.facts
    better = facts.better if isinstance(facts, MetricFacts) else None
    return f"{entry.summary} ({better} is better)" if better else entry.summary


def _arguments(entry: Entry[Any, Any]) -> str:
    """Return `[required, optional=default]`; empty for an entry without arguments."""
    texts = []
    for name, field in entry.schema.model_fields.items():
        texts.append(name if field.is_required() else f"{name}={field.default}")
    return f"[{', '.join(texts)}]" if texts else ""
