"""The conversions between images in [-1, 1] and levels in 0..255."""

from __future__ import annotations

import torch
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Quantise images in [-1, 1] to 256 levels; the inverse of `to_float`."""
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    """Map uint8 images to float32 in [-1, 1]; return float vectors unchanged."""
    if images.dtype != torch.uint8:
        return images
    return images.to(torch.float32) / 127.5 - 1
