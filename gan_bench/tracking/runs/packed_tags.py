"""Tags that programs read and people need not see: all of a run's settings and protocols.

MLflow's page hides the tags whose names begin with `mlflow.`. People see the params in which runs
differ, three short tags, and the artifacts `spec.json` and `protocols.json`. A report reads these
tags: they come with the run in one answer, and are there where the artifacts are lost.

MLflow (3.17) cuts a longer tag without an error, so the content is compressed.
"""

from __future__ import annotations

import base64
import binascii
import json
import zlib
from collections.abc import Mapping
from typing import Any

SETTINGS = "mlflow.gan_bench.settings"  # of `config.flat.flat_settings`
PROTOCOLS = "mlflow.gan_bench.protocols"  # by the full name of the score
PROTOCOL = "protocol."  # prefix of the tags of earlier versions, one for each score
LIMIT = 7_900  # characters; MLflow takes 8,000
LARGEST = 4_000_000  # bytes of content; the text may come from any program


def pack(values: Mapping[str, Any]) -> str | None:
    """Return the text of a tag that holds these values; None if it is too long for MLflow."""
    content = json.dumps(values, sort_keys=True, separators=(",", ":"))
    text = base64.b64encode(zlib.compress(content.encode(), 9)).decode()
    return text if len(text) <= LIMIT else None


def unpack(text: str) -> dict[str, Any]:
    """Return what `pack` has packed; nothing if the text is another."""
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(text, validate=True), LARGEST)
        values = json.loads(content)
    except (binascii.Error, zlib.error, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


def with_protocols(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a run with one for each protocol, as earlier versions wrote them."""
    packed = unpack(tags.get(PROTOCOLS, ""))
    protocols = {PROTOCOL + name: json.dumps(value, sort_keys=True)
                 for name, value in packed.items()}
    return {**protocols, **tags}


def with_settings(tags: Mapping[str, str], params: Mapping[str, str]) -> dict[str, str]:
    """Return all settings of a run, which its params were in earlier versions."""
    packed = {key: value for key, value in unpack(tags.get(SETTINGS, "")).items()
              if isinstance(value, str)}
    return {**packed, **params}
