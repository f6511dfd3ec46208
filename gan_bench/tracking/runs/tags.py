"""What MLflow shows of a run besides its metrics: params, tags, note and names of pictures."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from gan_bench.config.flat import flat_settings
from gan_bench.config.run_id import settings_under
from gan_bench.journal.drift import describe_drift
from gan_bench.journal.schema import Record, Status
from gan_bench.journal.scores.score_names import protocol_digest, split_score
from gan_bench.tracking.runs import packed_tags

# The file of a grid of samples, as `picture` names it; the thumbnail's name does not match.
GRID = re.compile(r"samples\+step\+(\d{1,18})\+timestamp\+(\d{1,18})\+[0-9a-f-]+\.png")
ABOUT = "gan_bench.about"  # the tag of an experiment that says how it is to be compared
STUDY = "gan_bench.study"  # the tag of the run that shows a study's result: the experiment's name
LOSSES_EVERY = "gan_bench.losses_every"  # the tag of a run whose losses are thinned: in steps
COPIED = "gan_bench.copied"  # the tag of a run: bytes of its journal that the store has received


def params(spec: Mapping[str, Any], varied: Collection[str],
           ) -> tuple[dict[str, str], dict[str, str]]:
    """Return the params that MLflow shows of a run, and the tag that holds all its settings.

    MLflow's params never change, so names are no part of them (see `flat_settings`).

    Args:
        spec: The plain values of its specification.
        varied: The settings in which the runs of its experiment differ; empty if unknown: all that
            have a value are shown.
    """
    settings = flat_settings(spec)
    packed = packed_tags.pack(settings)
    if packed is None:
        return settings, {}
    shown = {key: value for key, value in settings.items()
             if value != "null" and (not varied or key in varied)}
    return shown, {packed_tags.SETTINGS: packed}


def name(variant: str | None, seed: int | str | None, draw: int | str | None = None) -> str:
    """Return the name of a run: first what differs, as MLflow's columns cut the end.

    Args:
        draw: Of a search; None or empty without one.
    """
    return f"s{seed} · {variant}" if draw in (None, "") else f"s{seed} · draw {draw} · {variant}"


def label(variant: str | None, seed: int | str | None, draw: int | str | None = None) -> str:
    """Return how lines of text name a run; earlier versions named it so in MLflow too.

    Args:
        draw: As for `name`.
    """
    place = variant if draw in (None, "") else f"{variant} draw {draw}"
    return f"{place} seed {seed}"


def identity(run_id: str, spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags of a run that has not begun."""
    return {"run_id": run_id, "variant": spec["variant"], "seed": str(spec["seed"]),
            "settings": settings_under(run_id, spec), "status": Status.RUNNING.value,
            "mlflow.source.name": "gan-bench", **search(spec)}


def search(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags `draw` and `stage` of a run of a search; none of another run."""
    if spec.get("draw") is None:
        return {}
    return {"draw": str(spec["draw"]), "stage": str(spec["stage"])}


NAMING = 1  # counts the changes of `name`
# The tags of `identity` that name the run; the last two are of searches alone.
IDENTITY = ("run_id", "variant", "seed", "settings", "draw", "stage")
NOTE = "mlflow.note.content"


def circumstance_tags(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return the tags from a journal's start record; a fact that is None gives no tag."""
    tags = {f"{program}_version": str(version)
            for program, version in facts.get("versions", {}).items()}
    for key in ("device", "device_name", "precision", "threads", "git_commit"):
        if facts.get(key) is not None:
            tags[key] = str(facts[key])
    if "git_commit" in tags:
        tags["mlflow.source.git.commit"] = tags["git_commit"]
    return tags


def resumed(record: Record) -> dict[str, str]:
    """Return the tags of a run that resumes after an interruption."""
    drift = {"drift": describe_drift(record["drift"])} if record["drift"] else {}
    continued = {"continues": record["continues"]} if record.get("continues") else {}
    return {"status": Status.RUNNING.value, "why": "",
            "resumed_after_step": str(record["step"]), **continued, **drift}


def when(t: int) -> str:
    """Return a record's time, in ms since 1970, in ISO 8601."""
    return datetime.fromtimestamp(t / 1000, UTC).isoformat(timespec="seconds")


def protocol(protocols: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return the tags of all protocols of a run: three short ones, and what `packed_tags` hides.

    The extractor is the one behind the scores of the run itself. Scores that `gan-bench evaluate
    --log` adds later name their extractor in their protocols.

    Args:
        protocols: By the full name of the score.
    """
    packed = packed_tags.pack(protocols)
    tags = ({packed_tags.PROTOCOLS: packed} if packed is not None else
            {packed_tags.PROTOCOL + metric: json.dumps(value, sort_keys=True)
             for metric, value in protocols.items()})
    # A view of the samples without weights (pixels, D's logits) is not an extractor.
    used = sorted({(p["extractor"], p["weights"]) for metric, p in protocols.items()
                   if p.get("weights") and p.get("extractor")
                   and split_score(metric)})
    if used:
        tags["extractor"] = ", ".join(extractor for extractor, _ in used)
        tags["extractor_hash"] = ", ".join(weights for _, weights in used)
    return {**tags, "protocol": protocol_digest(protocols)}


def measured_by(record: Record) -> dict[str, str]:
    """Return the tags from a protocol record of scores that were measured after the run.

    They name the version of torch that measured each.
    """
    torch = record.get("by", {}).get("versions", {}).get("torch")
    return {f"measured_by.{metric}": f"torch {torch}" for metric in record["protocol"] if torch}


def note(run_id: str, spec: Mapping[str, Any], question: str, differs: str, command: str) -> str:
    """Return the Markdown that describes a run and how to repeat it; empty parts are omitted."""
    parts = [
        f"{note_begin(spec['variant'])}{_draw_words(spec)}seed {spec['seed']}: "
        f"{spec['model']['name']} with the "
        f"{spec['loss']['name']} loss on {spec['dataset']['name']}, {spec['steps']:,} steps of "
        f"batch size {spec['batch_size']}.",
        f"Question: {question}" if question else "",
        f"Differs from the baseline: {differs}" if differs else "",
        f"To repeat it:\n\n```\n{command}\n```" if command else "",
        f"Run id `{run_id}`. Everything that can change a number is in the artifact `spec.json`, "
        f"everything that happened in `journal.jsonl`.",
    ]
    return "\n\n".join(part for part in parts if part)


def _draw_words(spec: Mapping[str, Any]) -> str:
    """Return `draw 7 of the stage select, ` of a run of a search; nothing of another run."""
    tags = search(spec)
    return f"draw {tags['draw']} of the stage {tags['stage']}, " if tags else ""


def note_begin(variant: str) -> str:
    """Return how the note on a run begins, unless the user has changed it in MLflow's page."""
    return f"**{variant}**, "


def picture(run_id: str, record: Record) -> tuple[str, str]:
    """Return the file names of a picture and its thumbnail under the artifact folder `images`.

    MLflow's page finds keyed images by the names that `MlflowClient.log_image` of MLflow 3.17 gives
    them. MLflow's uuid is random, so a picture that is logged twice appears twice; here the uuid
    follows from the run, the step and the name. MLflow's thumbnail is a smaller WebP; the page also
    shows PNG, and the grids are small.
    """
    seed = f"{run_id}/{record['step']}/{record['name']}"
    stem = (f"{record['name'].replace('/', '~')}+step+{record['step']}+timestamp+{record['t']}"
            f"+{uuid.uuid5(uuid.NAMESPACE_URL, seed)}")
    return f"{stem}.png", f"{stem}+compressed.png"


def parse_picture(file_name: str) -> tuple[int, int] | None:
    """Return step and time of a grid of samples that `picture` has named; None for other names."""
    match = GRID.fullmatch(file_name)
    return (int(match[1]), int(match[2])) if match else None


def is_behind(copied: str | None, offset: int) -> bool:
    """Whether a store has received less of a run's journal than a cursor says: it was set back.

    Args:
        copied: The tag `COPIED` of the run; None for runs of earlier versions, which have no such
            tag: the cursor counts.
        offset: The cursor's.
    """
    if copied is None:
        return False
    return re.fullmatch("[0-9]{1,18}", copied) is None or int(copied) < offset
