"""Between images in [-1, 1] and levels in 0..255, in one way everywhere."""

from __future__ import annotations

import torch
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """Quantise images in [-1, 1] to 256 levels; exact for what came from uint8."""
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    """Map uint8 images to float32 in [-1, 1]; return float vectors unchanged."""
    return images.to(torch.float32) / 127.5 - 1 if images.dtype == torch.uint8 else images
