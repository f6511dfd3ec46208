"""What a run's id (`RunSpec.id`) is made of: every setting that can change its weights.

What is measured and recorded of a run changes none of them: another metric needs no other run. How
a score was measured is in its protocol (`evaluation.comparability`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Keys that are younger than some runs' ids, with what runs did before there was the key. This value
# leaves such an id unchanged. It is the key's default, except for `ema_…`: a run whose average has
# the new defaults has other numbers than before, and so another id.
LATER_DEFAULTS: dict[str, Any] = {
    "penalties": [], "augmentation": [], "condition": "none", "loss.label_smoothing": 0.0,
    "model.d_norm": "batch",
    "evaluate.final_samples": None, "evaluate.final_metrics": None, "evaluate.latent_sets": 1,
    "evaluate.snapshots": False, "evaluate.reference": None,
    "compute.precision": "float32", "model.d_width": None, "latents": "normal",
    "g_steps": 1, "joint_weight": 0.0,
    "accumulate": 1, "one_pass": False, "fake_labels": "beside", "ema_ramp": None, "ema_start": 1,
    "ema_statistics": "copied",
    "numerics": None, "dataset.train": None, "init": None, "sources": {},
    **{f"{optimizer}.{name}": default for optimizer in ("g_optimizer", "d_optimizer")
       for name, default in (("decay_every", None), ("decay_factor", 0.1), ("decay_patience", 10))},
}

LATER_ARGUMENTS = {"own_step": False}  # likewise, of each penalty

NAMES = ("experiment", "variant", "draw", "stage")  # of a run: they may change
PLACES = ("device", "graphs", "pack")  # where and how a run is computed
RECORDED = ("evaluate", "log_every", "sample_every")  # what is measured and recorded of a run


def identifying_settings(values: dict[str, Any]) -> dict[str, Any]:
    """Return those of a run's plain values that can change its weights, without the seed.

    How often a run is recorded decides when a divergence is seen, and so its last step.
    """
    return _settings({key: value for key, value in values.items() if key not in RECORDED})


def _settings(values: dict[str, Any]) -> dict[str, Any]:
    names = (*NAMES, "seed", "epochs", "data")
    settings = {key: value for key, value in values.items() if key not in names}
    settings["compute"] = {k: v for k, v in values["compute"].items() if k not in PLACES}
    # Where a folder lies changes no number; what is in it does.
    settings["dataset"] = {**values["dataset"], "args": _placeless(values["dataset"]["args"])}
    settings["digest"] = values["data"]["digest"]
    if isinstance(settings.get("init"), dict):  # so it is with given weights
        settings["init"] = {"sha256": settings["init"]["sha256"],
                            "networks": sorted(settings["init"]["networks"])}
    if settings.get("ema") is None:  # what the average would be like changes nothing then
        settings = {k: v for k, v in settings.items() if not k.startswith("ema_")}
    for key, default in LATER_DEFAULTS.items():
        section, _, name = key.rpartition(".")
        below = settings.get(section) if section else settings
        if not isinstance(below, dict):
            continue
        args = below.get("args", below)
        if not isinstance(args, dict):  # not a specification; its hash will not match
            continue
        if args.get(name, default) == default:
            kept = {k: v for k, v in args.items() if k != name}
            if section:
                settings[section] = {**below, "args": kept} if args is not below else kept
            else:
                settings = kept
    settings["dataset"] = _targets_as_before(settings["dataset"])
    return {**settings, **{key: [_as_before(part) for part in settings[key]]
                           for key in ("penalties",) if isinstance(settings.get(key), list)}}


def _targets_as_before(dataset: Any) -> Any:
    """Return the data set without what the targets of pairs have of the defaults of data sets."""
    if not isinstance(dataset, dict) or dataset.get("name") != "pairs":
        return dataset
    args = dataset.get("args")
    if not isinstance(args, dict) or not isinstance(of := args.get("of"), dict):
        return dataset
    defaults = {key.removeprefix("dataset."): default for key, default in LATER_DEFAULTS.items()
                if key.startswith("dataset.")}
    kept = {key: value for key, value in of.items()
            if key not in defaults or value != defaults[key]}
    return {**dataset, "args": {**args, "of": kept}}


def _as_before(part: Any) -> Any:
    """Return a listed part without the arguments that have the values of before there were they."""
    args = part.get("args") if isinstance(part, dict) else None
    if not isinstance(args, dict):  # not a specification; its hash will not match
        return part
    kept = {name: value for name, value in args.items()
            if name not in LATER_ARGUMENTS or value != LATER_ARGUMENTS[name]}
    return {**part, "args": kept}


def _placeless(args: Mapping[str, Any]) -> dict[str, Any]:
    """Return a data set's arguments without its path, and that of the targets of pairs."""
    kept = {key: value for key, value in args.items() if key != "path"}
    return kept | {key: _placeless(value) for key, value in kept.items() if isinstance(value, dict)}


def settings_digest(values: Mapping[str, Any]) -> str:
    """Return what stands for all of a run's plain values that can change its weights, but the seed.
    """
    return digest_of(identifying_settings(dict(values)))


def settings_under(run_id: str, values: Mapping[str, Any]) -> str:
    """Return the digest of a run's settings that its experiment declared when it had this id."""
    is_older = run_id == older_id(values) != id_of(values)
    return digest_of(_settings(dict(values))) if is_older else settings_digest(values)


def lineage_of(settings: dict[str, Any], seed: int) -> str:
    """Return what runs have in common that differ in nothing but the number of steps.

    Args:
        settings: As `identifying_settings` returns them.
    """
    return digest_of({**{k: v for k, v in settings.items() if k != "steps"}, "seed": seed})


def id_of(values: Mapping[str, Any]) -> str:
    """Return the id of a run from its plain values."""
    return digest_of({**identifying_settings(dict(values)), "seed": values["seed"]})


def older_id(values: Mapping[str, Any]) -> str:
    """Return the id that gan-bench gave such a run when ids held what is measured and recorded."""
    return digest_of({**_settings(dict(values)), "seed": values["seed"]})


def recording_digest(values: Mapping[str, Any], codes: Mapping[str, str],
                     definitions: Mapping[str, str]) -> str:
    """Return what stands for all that is measured and recorded of a run.

    Args:
        values: The plain values of its specification.
        codes: The hash of the code behind each score of third-party metrics.
        definitions: The digest of the definition of each score.
    """
    recorded = {**{key: values[key] for key in RECORDED}, "definitions": dict(definitions)}
    return digest_of({**recorded, "codes": dict(codes)} if codes else recorded)


def digest_of(settings: dict[str, Any]) -> str:
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
