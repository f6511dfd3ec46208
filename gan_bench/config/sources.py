"""Which third-party code stands behind a run, and whether it is that of earlier runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gan_bench import registry
from gan_bench.config.run_id import digest_of, identifying_settings
from gan_bench.config.spec import RunSettings, RunSpec
from gan_bench.errors import UserError
from gan_bench.registry import Entry, Part, Plugin, Registry


def sources_of(settings: RunSettings, dataset: Part) -> dict[str, str]:
    """Return the hash of the code behind each third-party part of a run, by `kind.name`.

    Metrics and extractors are left out: they change no weights, and a score's protocol has them.
    """
    parts: list[tuple[Registry[Any, Any], Part]] = [
             (registry.DATASETS, dataset), (registry.MODELS, settings.model),
             (registry.LOSSES, settings.loss), (registry.OPTIMIZERS, settings.g_optimizer),
             (registry.OPTIMIZERS, settings.d_optimizer),
             *((registry.PENALTIES, part) for part in settings.penalties)]
    found = {f"{names.kind}.{part.name}": names[part.name].source for names, part in parts}
    return {key: found[key] for key in sorted(found) if found[key]}


def plugins_of(spec: RunSpec) -> tuple[Plugin, ...]:
    """Return the plug-in files behind a run's parts, metrics and extractors."""
    entries: list[Entry[Any, Any] | None] = []
    for key in spec.sources:
        kind, _, name = key.partition(".")
        entries += [names.get(name) for names in registry.REGISTRIES if names.kind == kind]
    metrics = [registry.METRICS[name] for name in spec.evaluate.all_metrics]
    entries += metrics
    entries += [registry.EXTRACTORS.get(entry.facts.extractor) for entry in metrics]
    return tuple(dict.fromkeys(entry.origin for entry in entries
                               if entry is not None and isinstance(entry.origin, Plugin)))


def changed_since(runs: Iterable[RunSpec], others: Mapping[str, Mapping[str, Any]],
                  ) -> dict[str, list[str]]:
    """Return which parts have changed since other runs, as `kind.name` → ids of those runs.

    Such a run differs from one of `runs` in the code of third-party parts alone.

    Args:
        others: The plain values of specifications by the ids of their runs.
    """
    present: dict[str, RunSpec] = {}
    if others:
        present = {_without_sources(run.model_dump(mode="json")): run for run in runs}
    changed: dict[str, list[str]] = {}
    for run_id, values in others.items():
        run = present.get(_without_sources(values))
        if run is None:
            continue
        before = values.get("sources", {})
        for key in sorted({*before, *run.sources}):
            if before.get(key) != run.sources.get(key):
                changed.setdefault(key, []).append(run_id)
    return changed


def _without_sources(values: Mapping[str, Any]) -> str:
    settings = identifying_settings({**values, "sources": {}})
    return digest_of({**settings, "seed": values["seed"]})


def describe_changed(changed: Mapping[str, list[str]]) -> list[str]:
    """Return a line for each part that has changed since other runs."""
    lines = []
    for key, ids in changed.items():
        shown = ", ".join(ids[:4]) + (f" and {len(ids) - 4:,} more" if len(ids) > 4 else "")
        noun = "run" if len(ids) == 1 else "runs"
        lines.append(f"{key.partition('.')[2]} has changed since {noun} {shown}: "
                     f"{'it is' if len(ids) == 1 else 'they are'} left out of every comparison "
                     f"with the present code")
    return lines


def lacking_source(folder: object, keys: Iterable[str]) -> UserError:
    """Return the error that the code behind parts of a run is nowhere."""
    names = ", ".join(" ".join(key.split(".", 1)) for key in keys)
    return UserError(f"{folder}: the code of {names} that the run was made with is neither "
                     f"registered here nor in its folder `plugins`: give the file with --plugin, "
                     f"or install the package, in the version of then")
