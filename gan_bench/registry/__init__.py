"""The registries: every name that a YAML can give a part, and what each entry states.

`base.py` has what registries are, `entry.py` what they hold, `facts.py` the records that entries
state, `schedules.py` what each learning-rate schedule states, `scheduled.py` how a number changes
over a run, `plugins.py` how a plug-in file adds to them, and `source.py` the hash of the code
behind third-party parts, of which `slices.py` finds the statements.
"""

from __future__ import annotations

from typing import Any

from gan_bench.registry.base import REGISTRIES, Registry
from gan_bench.registry.entry import Entry, Part, PartError, nearest
from gan_bench.registry.facts import (
    VIEWS,
    AugmentationFacts,
    Better,
    DatasetFacts,
    LossFacts,
    MetricFacts,
    ModelFacts,
    NoFacts,
    PenaltyFacts,
    Reference,
)
from gan_bench.registry.plugins import (
    has_plugins,
    provide,
    read_plugin,
    read_plugins,
    use_plugins,
)
from gan_bench.registry.scheduled import MayChange, Scheduled, read_scheduled
from gan_bench.registry.schedules import SCHEDULES, ScheduleFacts
from gan_bench.registry.source import Plugin

__all__ = [
    "AUGMENTATIONS", "DATASETS", "EXTRACTORS", "LOSSES", "METRICS", "MODELS", "OPTIMIZERS",
    "PENALTIES", "REGISTRIES", "SCHEDULES", "VIEWS",
    "AugmentationFacts", "Better", "DatasetFacts", "Entry", "LossFacts", "MayChange", "MetricEntry",
    "MetricFacts", "ModelFacts", "NoFacts", "Part", "PartError", "PenaltyFacts", "Plugin",
    "Reference", "Registry", "ScheduleFacts", "Scheduled",
    "code_of", "has_plugins", "nearest", "provide", "read_plugin", "read_plugins",
    "read_scheduled", "scores", "scores_of",
    "targets_of", "use_plugins",
]

DATASETS: Registry[Any, DatasetFacts] = Registry(
    "dataset", DatasetFacts, "gan_bench.components.data", "gan_bench.data")
MODELS: Registry[Any, ModelFacts] = Registry(
    "model", ModelFacts, "gan_bench.components.models", "gan_bench.models")
LOSSES: Registry[Any, LossFacts] = Registry(
    "loss", LossFacts, "gan_bench.components.losses", "gan_bench.losses")
PENALTIES: Registry[Any, PenaltyFacts] = Registry(
    "penalty", PenaltyFacts, "gan_bench.components.penalties", "gan_bench.penalties")
AUGMENTATIONS: Registry[Any, AugmentationFacts] = Registry(
    "augmentation", AugmentationFacts, "gan_bench.components.augmentations",
    "gan_bench.augmentations")
OPTIMIZERS: Registry[Any, NoFacts] = Registry(
    "optimizer", NoFacts, "gan_bench.components.optimizers", "gan_bench.optimizers")
EXTRACTORS: Registry[Any, NoFacts] = Registry(
    "extractor", NoFacts, "gan_bench.evaluation.features", "gan_bench.features")
METRICS: Registry[Any, MetricFacts] = Registry(
    "metric", MetricFacts, "gan_bench.evaluation.metrics", "gan_bench.metrics")
MetricEntry = Entry[Any, MetricFacts]


def targets_of(dataset: Part) -> Part | None:
    """Return the data set whose images are the targets of a data set of pairs; None without."""
    targets: Part | None = DATASETS[dataset.name].facts.targets(**dataset.args)
    return targets


def scores_of(entry: MetricEntry) -> tuple[str, ...]:
    """Return the names of a metric's scores: its facts' `returns`, or the metric's name."""
    return entry.facts.returns or (entry.name,)


def code_of(entry: MetricEntry) -> str:
    """Return the hashes of the code behind a metric and its extractor; empty if both are built in.
    """
    if entry.origin is None:  # and so is its extractor
        return ""
    extractor = EXTRACTORS.get(entry.facts.extractor)
    return "+".join(filter(None, [entry.source, extractor.source if extractor else ""]))


def scores() -> list[str]:
    """Return the names of the scores of all metrics."""
    return [name for entry in METRICS for name in scores_of(entry)]
