"""Parts of a network that keep float32 where the rest computes in bfloat16."""

from __future__ import annotations

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> torch.autocast:
    """Return a context in which products on the device of `x` keep the type of their inputs."""
    kind = x.device.type
    return torch.autocast("cpu" if kind == "meta" else kind, enabled=False)
