"""Reading pixels of images at other places: deterministic, and twice differentiable.

PyTorch's `grid_sample` is neither on CUDA.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pixels_at(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the pixels of each image at given places; those outside are 0.

    Args:
        images: (N, C, H, W).
        rows, columns: (N, h, w) integers, from 0.

    Returns:
        (N, C, h, w).
    """
    n, channels, height, width = images.shape
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    first = height * width * torch.arange(n, device=rows.device).view(n, 1, 1)
    places = first + rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)
    pixels = images.permute(0, 2, 3, 1).reshape(-1, channels).index_select(0, places.flatten())
    picked = pixels.view(*places.shape, channels).permute(0, 3, 1, 2)
    return picked * inside[:, None]
