"""`about.json`: what an experiment declares, kept beside its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan_bench.atomic import replacing

ABOUT = "about.json"  # of an experiment: what its runs' notes in MLflow say of it


def write_about(experiment: Path, about: Mapping[str, Any]) -> None:
    """Keep what MLflow, and whoever compares, must know of an experiment beside its runs.

    Args:
        about: `question`, `command`, `baseline`, `paired`, `margin`, `variants`, `curve_means`, and
            by variant its `settings` and what `differs` from the baseline.

    Raises:
        OSError: It cannot be written.
    """
    with replacing(experiment / ABOUT) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n")


def read_about(experiment: Path) -> dict[str, Any]:
    """Return what `write_about` has kept, as far as it is what it should be."""
    try:
        return checked_about(json.loads((experiment / ABOUT).read_text()))
    except (OSError, ValueError, RecursionError):
        return {}


def checked_about(about: object) -> dict[str, Any]:
    """Return of what is said to be about an experiment what is of the right kind."""
    if not isinstance(about, dict):
        return {}
    kept: dict[str, Any] = {k: about[k] for k in ("question", "command", "baseline")
                            if isinstance(about.get(k), str)}
    kept |= {"paired": True} if about.get("paired") is True else {}
    for key in ("differs", "margin", "settings", "curve_means"):
        if isinstance(about.get(key), dict):
            kept[key] = {k: v for k, v in about[key].items() if isinstance(v, str)}
    if isinstance(about.get("margin"), str):
        kept["margin"] = about["margin"]
    if isinstance(about.get("variants"), list):
        kept["variants"] = [name for name in about["variants"] if isinstance(name, str)]
    return kept
