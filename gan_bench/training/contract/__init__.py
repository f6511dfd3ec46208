"""What every registered part has to keep, checked on the part itself, built-in or not.

`gan-bench check mine.py` runs these checks on the user's parts, and the tests on all registries.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from gan_bench.registry import Entry, Part
from gan_bench.training.contract.augmentations import check_augmentation
from gan_bench.training.contract.base import CheckResult, Checks
from gan_bench.training.contract.measures import check_dataset, check_extractor, check_metric
from gan_bench.training.contract.networks import check_model, check_optimizer
from gan_bench.training.contract.terms import check_loss, check_penalty

__all__ = ["CheckResult", "check_entry"]

BY_KIND: dict[str, Callable[[Checks, Entry[Any, Any], Part], None]] = {
    "model": check_model, "loss": check_loss, "penalty": check_penalty, "metric": check_metric,
    "augmentation": check_augmentation, "optimizer": check_optimizer, "extractor": check_extractor}


def check_entry(kind: str, entry: Entry[Any, Any], data_root: Path, **given: object,
                ) -> list[CheckResult]:
    """Check an entry.

    Args:
        kind: Of its registry.
        data_root: The folder of the data sets, for a data set.
        given: Arguments; the others have their defaults.
    """
    checks = Checks(f"{kind} {entry.name}")
    fields = entry.schema.model_fields
    if needed := [name for name in fields if fields[name].is_required() and name not in given]:
        checks.note("not checked", f"it needs {' and '.join(needed)}: give a default to check it")
        return checks.results
    part = Part(name=entry.name, args=entry.schema(**given).model_dump(mode="json"))
    if kind == "dataset":
        check_dataset(checks, entry, part, data_root)
    else:
        BY_KIND[kind](checks, entry, part)
    return checks.results
