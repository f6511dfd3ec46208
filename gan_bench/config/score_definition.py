"""What defines a score: the part of its protocol that gan-bench or a plug-in alone can change."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from gan_bench.registry import MetricEntry

# What a protocol says of a single measurement: its samples, its data, its weights and code.
OF_MEASUREMENT = frozenset({
    "generated", "data", "real", "held_out", "weights", "code", "generator", "ema_statistics",
    "quantisation", "latents", "inputs",
    "copying"})


def definition_digest(protocol: Mapping[str, Any]) -> str:
    """Return 8 hex digits that stand for the definition of the score that has this protocol.

    A key without a value counts as absent, as where protocols are compared.
    """
    definition = {key: value for key, value in protocol.items()
                  if value is not None and key not in OF_MEASUREMENT}
    as_stored = json.loads(json.dumps(definition, default=str))  # tuples are lists there
    return hashlib.sha256(json.dumps(as_stored, sort_keys=True).encode()).hexdigest()[:8]


def definition_of(entry: MetricEntry, score: str, has_statistics: bool) -> str:
    """Return the digest of a score's present definition, as its protocol will have it.

    Args:
        entry: Its metric.
        score: Its name.
        has_statistics: Whether given statistics stand for the real examples of Fréchet distances.
    """
    facts = entry.facts
    split = "train" if facts.reference == "frequencies" else facts.reference
    if has_statistics and facts.gaussian:
        split = None
    return definition_digest({"extractor": facts.extractor, "split": split, **facts.protocol,
                              **facts.score_protocols.get(score, {})})
