"""What `gan-bench list` shows: every registered name, with its arguments and what it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gan_bench import registry
from gan_bench.cli.plan import columns
from gan_bench.config.recipes import RECIPES
from gan_bench.config.shipped import shipped_experiments
from gan_bench.config.yaml_source import read_yaml
from gan_bench.errors import UserError
from gan_bench.registry import Entry, MetricFacts, Registry, nearest

KINDS: dict[str, Registry[Any, Any]] = {
    "datasets": registry.DATASETS, "models": registry.MODELS, "losses": registry.LOSSES,
    "penalties": registry.PENALTIES, "optimizers": registry.OPTIMIZERS,
    "extractors": registry.EXTRACTORS, "metrics": registry.METRICS}


def list_lines(kind: str | None) -> Iterator[str]:
    """Yield the lines about a kind of names; about every kind for None.

    Raises:
        UserError: There is no such kind.
    """
    kinds = [*KINDS, "recipes", "experiments"]
    if kind is not None and kind not in kinds:
        raise UserError(f"no kind is called {kind!r}; {nearest(kind, kinds)}")
    if kind in (None, "experiments"):
        yield from _experiment_lines()
    if kind in (None, "recipes"):
        yield from _recipe_lines()
    for name, names in KINDS.items():
        if kind in (None, name):
            yield from _registry_lines(name, names)


def _experiment_lines() -> Iterator[str]:
    yield "experiments"
    yield from columns([[f"  {name}", str(read_yaml(file).data.get("question", "")).strip()]
                        for name, file in shipped_experiments().items()])
    yield ""


def _recipe_lines() -> Iterator[str]:
    yield "recipes"
    yield from columns([[f"  {name}", recipe.source] for name, recipe in RECIPES.items()])
    yield ""


def _registry_lines(kind: str, names: Registry[Any, Any]) -> Iterator[str]:
    yield kind
    yield from columns([[f"  {entry.name}", _summary(entry), _arguments(entry)] for entry in names])
    for plugin, reason in names.failed_plugins.items():
        yield f"  plug-in {plugin} failed: {reason}"
    yield ""


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
