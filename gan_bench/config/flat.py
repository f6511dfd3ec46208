"""A run's settings as flat text, and which of them differ between the runs of an experiment."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from gan_bench.config.run_id import NAMES, RECORDED


def flat_settings(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return what a run is as flat text: `loss`: `lsgan`, `loss.target`: `0.9`.

    Names, and what is measured and recorded, are no part of it.

    Args:
        spec: The plain values of its specification.
    """
    return _flat({key: value for key, value in spec.items() if key not in (*RECORDED, *NAMES)})


def varied_settings(specs: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the keys of the settings that differ between these specifications, sorted."""
    flat = [flat_settings(spec) for spec in specs]
    keys = sorted({key for settings in flat for key in settings})
    return tuple(key for key in keys if len({settings.get(key) for settings in flat}) > 1)


def _flat(spec: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in spec.items():
        if key == "penalties":
            flat[key] = "+".join(part["name"] for part in value) or "none"
            value = {part["name"]: part["args"] for part in value}
        elif isinstance(value, dict) and set(value) == {"name", "args"}:
            flat[prefix + key] = value["name"]
            value = value["args"]
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat
