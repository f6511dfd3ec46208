"""What a run's id (`RunSpec.id`) is made of: every setting that can change a number."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Keys that are younger than some runs' ids, with what runs did before there was the key. This value
# leaves such an id unchanged. It is the key's default, except for `ema_…`: a run whose average has
# the new defaults has other numbers than before, and so another id.
LATER_DEFAULTS: dict[str, Any] = {
    "penalties": [], "condition": "none", "loss.label_smoothing": 0.0, "model.d_norm": "batch",
    "evaluate.final_samples": None, "evaluate.final_metrics": None, "evaluate.latent_sets": 1,
    "compute.precision": "float32", "model.d_width": None, "latents": "normal",
    "g_steps": 1, "joint_weight": 0.0, "ema_ramp": None, "ema_statistics": "copied",
    "numerics": None, "sources": {},
    **{f"{optimizer}.{name}": default for optimizer in ("g_optimizer", "d_optimizer")
       for name, default in (("decay_every", None), ("decay_factor", 0.1), ("decay_patience", 10))},
}


PLACES = ("device", "graphs", "pack")  # where and how a run is computed


def identifying_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Return those of a run's plain values that can change a number, without the seed."""
    names = ("experiment", "variant", "seed", "epochs", "data")
    settings = {key: value for key, value in values.items() if key not in names}
    settings["compute"] = {k: v for k, v in values["compute"].items() if k not in PLACES}
    # Where a folder lies changes no number; what is in it does.
    settings["dataset"] = {**values["dataset"], "args": {
        k: v for k, v in values["dataset"]["args"].items() if k != "path"}}
    settings["digest"] = values["data"]["digest"]
    if settings.get("ema") is None:  # what the average would be like changes nothing then
        settings = {k: v for k, v in settings.items() if not k.startswith("ema_")}
    for key, default in LATER_DEFAULTS.items():
        section, _, name = key.rpartition(".")
        below = settings[section] if section else settings
        args = below.get("args", below) if isinstance(below, dict) else None
        if not isinstance(args, dict):  # not a specification; its hash will not match
            continue
        if args.get(name, default) == default:
            kept = {k: v for k, v in args.items() if k != name}
            if section:
                settings[section] = {**below, "args": kept} if args is not below else kept
            else:
                settings = kept
    return settings


def settings_digest(values: Mapping[str, Any]) -> str:
    """Return what stands for all of a run's plain values that can change a number, but the seed."""
    return digest_of(identifying_settings(dict(values)))


def digest_of(settings: dict[str, Any]) -> str:
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
