"""Which scores may be compared: those that were measured in the same way.

A protocol is what `scorer.Scorer` records beside each score: the extractor and the hash of its
weights, how many generated examples, which real ones and how many, raw or averaged weights of G
(and where the average's batch-norm statistics come from), how the samples were quantised, which
latents. FID moves by 10% with things that no table shows.
So scores of different protocols are not compared.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

Protocol = Mapping[str, Any]
# Variants of one study may differ in these: `ema` asks about them.
GENERATOR_KEYS = ("generator", "ema_statistics")
# What is computed and shown beside a score says nothing of how it was measured; its last digit may
# be another on another machine.
COMPUTED_KEYS = ("copying",)


def protocol_differences(a: Protocol, b: Protocol, *, but: Collection[str] = (),
                         ) -> dict[str, tuple[Any, Any]]:
    """Return what differs between two protocols: key → (value in `a`, value in `b`).

    A key that a protocol lacks counts as None there; but older averages, which do not state their
    `ema_statistics`, copied them. The computed `copying` is left out.

    Args:
        a: The first protocol.
        b: The second.
        but: Keys that are allowed to differ.
    """
    a, b = _with_statistics(a), _with_statistics(b)
    keys = [key for key in {**a, **b} if key not in but and key not in COMPUTED_KEYS]
    return {key: (a.get(key), b.get(key)) for key in keys if a.get(key) != b.get(key)}


def refusal(a: Protocol, b: Protocol, *, but: Collection[str] = ()) -> str:
    """Return why scores of these protocols cannot be compared, in words; empty if they can."""
    parts = [f"{key} {_text(first)} against {_text(second)}"
             for key, (first, second) in protocol_differences(a, b, but=but).items()]
    return f"not measured alike: {', '.join(parts)}" if parts else ""


def _with_statistics(protocol: Protocol) -> Protocol:
    is_average = protocol.get("generator") == "ema"
    is_stated = not is_average or "ema_statistics" in protocol
    return protocol if is_stated else {**protocol, "ema_statistics": "copied"}


def _text(value: object) -> str:
    if value is None:
        return "nothing"
    return f"{value:,}" if isinstance(value, int) else str(value)
