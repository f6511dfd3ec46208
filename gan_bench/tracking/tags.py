"""How a run is labelled in MLflow: its params, tags, note and the names of its pictures."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gan_bench.config.run_id import settings_digest
from gan_bench.journal.drift import describe_drift
from gan_bench.journal.names import split_score
from gan_bench.journal.schema import Record, Status

ABOUT = "gan_bench.about"  # the tag of an experiment that says how it is to be compared
LONGEST = 5000  # characters of such a tag: MLflow 3.11 takes no more


def about(facts: Mapping[str, Any]) -> str:
    """Return the tag of an experiment; without its variants where they would make it too long."""
    kept = {k: v for k, v in facts.items() if k != "differs"}
    text = json.dumps(kept)
    return text if len(text) <= LONGEST else json.dumps(
        {k: v for k, v in kept.items() if k not in ("variants", "margin", "settings")})[:LONGEST]


def params(spec: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the specification as flat text: `loss`: `lsgan`, `loss.target`: `0.9`."""
    flat: dict[str, str] = {}
    for key, value in spec.items():
        if key == "penalties":
            flat[key] = "+".join(part["name"] for part in value) or "none"
            value = {part["name"]: part["args"] for part in value}
        elif isinstance(value, dict) and set(value) == {"name", "args"}:
            flat[prefix + key] = value["name"]
            value = value["args"]
        if isinstance(value, dict):
            flat |= params(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat


def name(spec: Mapping[str, Any]) -> str:
    """Return the name of a run."""
    return f"{spec['variant']} seed {spec['seed']}"


def identity(run_id: str, spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a run that has not begun."""
    return {"run_id": run_id, "variant": spec["variant"], "seed": str(spec["seed"]),
            "settings": settings_digest(spec), "status": Status.RUNNING.value,
            "mlflow.source.name": "gan-bench"}


def circumstance_tags(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags that a journal's start record gives; what is None is left out."""
    tags = {f"{program}_version": str(version)
            for program, version in facts.get("versions", {}).items()}
    for key in ("device", "device_name", "precision", "threads", "git_commit"):
        if facts.get(key) is not None:
            tags[key] = str(facts[key])
    if "git_commit" in tags:
        tags["mlflow.source.git.commit"] = tags["git_commit"]
    return tags


def resumed(record: Record) -> dict[str, str]:
    """Return the tags of a run that goes on after an interruption."""
    drift = {"drift": describe_drift(record["drift"])} if record["drift"] else {}
    return {"status": Status.RUNNING.value, "why": "",
            "resumed_after_step": str(record["step"]), **drift}


def when(t: int) -> str:
    """Return a record's time, in ms since 1970, as people write it."""
    return datetime.fromtimestamp(t / 1000, UTC).isoformat(timespec="seconds")


def protocol(protocols: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the tags that a journal's protocol record gives: one per metric, and the extractor.

    The extractor is that of the run's own scores: what `gan-bench evaluate --log` adds later says
    in its own tags what it was measured by.
    """
    tags = {f"protocol.{metric}": json.dumps(value, sort_keys=True)
            for metric, value in protocols.items()}
    # What has no weights (pixels, D's logits) is a view of the samples and no extractor.
    used = sorted({(p["extractor"], p["weights"]) for metric, p in protocols.items()
                   if p.get("weights") and p.get("extractor")
                   and split_score(metric)})
    if used:
        tags["extractor"] = ", ".join(extractor for extractor, _ in used)
        tags["extractor_hash"] = ", ".join(weights for _, weights in used)
    return tags


def note(run_id: str, spec: Mapping[str, Any], question: str, differs: str, command: str) -> str:
    """Return the Markdown that says what the run is and how to repeat it; empty parts are left out.
    """
    parts = [
        f"**{spec['variant']}**, seed {spec['seed']}: {spec['model']['name']} with the "
        f"{spec['loss']['name']} loss on {spec['dataset']['name']}, {spec['steps']:,} steps of "
        f"batch size {spec['batch_size']}.",
        f"Question: {question}" if question else "",
        f"Differs from the baseline: {differs}" if differs else "",
        f"To repeat it:\n\n```\n{command}\n```" if command else "",
        f"Run id `{run_id}`. Everything that can change a number is in the artifact `spec.json`, "
        f"everything that happened in `journal.jsonl`.",
    ]
    return "\n\n".join(part for part in parts if part)


def picture(run_id: str, record: Record) -> tuple[str, str]:
    """Return the file names of a picture and its thumbnail under the artifact folder `images`.

    MLflow's page finds keyed images by their names, as `MlflowClient.log_image` of MLflow 3.17
    makes them. There the uuid is random, so that logging a picture again doubles it; here it
    follows from the run, the step and the name. The thumbnail there is a smaller WebP; the page
    shows PNG as well, and our grids are small.
    """
    seed = f"{run_id}/{record['step']}/{record['name']}"
    stem = (f"{record['name'].replace('/', '~')}+step+{record['step']}+timestamp+{record['t']}"
            f"+{uuid.uuid5(uuid.NAMESPACE_URL, seed)}")
    return f"{stem}.png", f"{stem}+compressed.png"
