"""Which third-party code stands behind a run, and whether it is that of earlier runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gan_bench import registry
from gan_bench.config.run_id import RECORDED, digest_of, identifying_settings
from gan_bench.config.spec import RunSettings, RunSpec
from gan_bench.errors import UserError
from gan_bench.registry import Entry, Part, Plugin, Registry


def sources_of(settings: RunSettings, dataset: Part) -> dict[str, str]:
    """Return the hash of the code behind each third-party part of a run, by `kind.name`.

    Metrics and extractors are left out: they change no weights, and a score's protocol has them.
    """
    parts: list[tuple[Registry[Any, Any], Part]] = [
             (registry.DATASETS, dataset),
             *((registry.DATASETS, part) for part in [registry.targets_of(dataset)] if part),
             (registry.MODELS, settings.model),
             (registry.LOSSES, settings.loss), (registry.OPTIMIZERS, settings.g_optimizer),
             (registry.OPTIMIZERS, settings.d_optimizer),
             *((registry.PENALTIES, part) for part in settings.penalties),
             *((registry.AUGMENTATIONS, part) for part in settings.augmentation)]
    found = {f"{names.kind}.{part.name}": names[part.name].source for names, part in parts}
    return {key: found[key] for key in sorted(found) if found[key]}


def plugins_of(spec: RunSpec) -> tuple[Plugin, ...]:
    """Return the plug-in files behind a run's parts, metrics and extractors."""
    if not registry.has_plugins():
        return ()
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

    Such a run differs from one of `runs` in the code of third-party parts alone, and in its seed.

    Args:
        others: The plain values of specifications, by the ids of their runs.
    """
    if not others:
        return {}
    settings = {(run.variant, run.draw): run for run in runs}
    present = {_without_sources(run.model_dump(mode="json")): run for run in settings.values()}
    changed: dict[str, list[str]] = {}
    for run_id, values in others.items():
        run = present.get(_without_sources(values))
        if run is not None and "sources" in values:  # which older versions did not record
            for key in changed_keys(values["sources"], run.sources):
                changed.setdefault(key, []).append(run_id)
    return changed


def changed_keys(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return the `kind.name` of each part whose code differs."""
    return [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]


def split_sources(params: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Return a run's flat settings, without its seed, and the hashes of its code apart."""
    prefix = "sources."
    sources = {key.removeprefix(prefix): value for key, value in params.items()
               if key.startswith(prefix)}
    others = "seed", "variant", "experiment", *RECORDED
    return {key: value for key, value in params.items()
            if not key.startswith(prefix) and key.partition(".")[0] not in others}, sources


def _without_sources(values: Mapping[str, Any]) -> str:
    return digest_of(identifying_settings({**values, "sources": {}}))


def describe_changed(changed: Mapping[str, list[str]]) -> list[str]:
    """Return lines about parts that have changed since other runs: one for those of the same runs.
    """
    parts: dict[tuple[str, ...], list[str]] = {}
    for key, ids in changed.items():
        parts.setdefault(tuple(ids), []).append(key.partition(".")[2])
    lines = []
    for runs, names in parts.items():
        ids = [*runs]
        shown = ", ".join(ids[:4]) + (f" and {len(ids) - 4:,} more" if len(ids) > 4 else "")
        lines.append(f"{' and '.join(names)} {'has' if len(names) == 1 else 'have'} changed since "
                     f"{'run' if len(ids) == 1 else 'runs'} {shown}, which no comparison counts")
    return lines


def lacking_source(folder: object, keys: Iterable[str]) -> UserError:
    """Return the error that the code behind parts of a run is nowhere."""
    names = ", ".join(" ".join(key.split(".", 1)) for key in keys)
    return UserError(f"{folder}: the code of {names} that the run was made with is neither "
                     f"registered here nor in its folder `plugins`: give the file with --plugin, "
                     f"or install the package, in the version of then")
