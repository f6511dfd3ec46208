"""`about.json`: what an experiment declares, kept beside its runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gan_bench.atomic import replacing

ABOUT = "about.json"  # in an experiment's folder


def write_about(experiment: Path, about: Mapping[str, Any]) -> None:
    """Write what an experiment declares; MLflow's notes and the comparison read it.

    Args:
        about: `question`, `command`, `baseline`, `paired`, `margin`, `variants`, `curve_means`, and
            by variant the digest of its `settings` and how it `differs` from the baseline.

    Raises:
        OSError: It cannot be written.
    """
    with replacing(experiment / ABOUT) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n")


def read_about(experiment: Path) -> dict[str, Any]:
    """Return what `write_about` wrote, without values of a wrong type; empty if unreadable."""
    try:
        return checked_about(json.loads((experiment / ABOUT).read_text()))
    except (OSError, ValueError, RecursionError):
        return {}


def checked_about(about: object) -> dict[str, Any]:
    """Return the values of `about` that have the right type; it may come from any file."""
    if not isinstance(about, dict):
        return {}
    checked: dict[str, Any] = {key: about[key] for key in ("question", "command", "baseline")
                               if isinstance(about.get(key), str)}
    if about.get("paired") is True:
        checked["paired"] = True
    for key in ("differs", "margin", "settings", "curve_means"):
        if isinstance(about.get(key), dict):
            checked[key] = {k: v for k, v in about[key].items() if isinstance(v, str)}
    if isinstance(about.get("margin"), str):
        checked["margin"] = about["margin"]
    if isinstance(about.get("variants"), list):
        checked["variants"] = [name for name in about["variants"] if isinstance(name, str)]
    return checked
