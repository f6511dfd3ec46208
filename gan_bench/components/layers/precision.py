"""Parts of a network that keep float32 where the rest computes in bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def without_autocast(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context in which products on the device of `x` keep the type of their inputs."""
    kind = x.device.type
    if kind == "meta" or not torch.is_autocast_enabled(kind):
        return nullcontext()  # torch.export cannot write a context that changes nothing
    return torch.autocast(kind, enabled=False)
