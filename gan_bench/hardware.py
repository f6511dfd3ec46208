"""What processor this is, and what it can do. No torch."""

from __future__ import annotations

import platform
from functools import lru_cache
from pathlib import Path

# Linux's names of what makes bfloat16 products faster than float32's: tiles, or vectors of pairs.
BFLOAT16 = {"amx_bf16", "avx512_bf16"}


def cpu_name() -> str:
    """Return the processor's name."""
    return _cpu().get("model name") or platform.processor() or platform.machine()


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32."""
    return bool(BFLOAT16 & set(_cpu().get("flags", "").split()))


@lru_cache
def _cpu() -> dict[str, str]:
    """What Linux says of the first processor; nothing elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    return {key.strip(): value.strip() for key, _, value in (
        line.partition(":") for line in first.splitlines())}
