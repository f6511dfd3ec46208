"""Reading images at other places: deterministic, and twice differentiable.

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
    places, inside = _places(images, rows, columns)
    return _images(_pixels(images).index_select(0, places) * inside[:, None], rows)


def between_pixels(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return the values of each image at given places, bilinear; pixels outside are 0.

    Args:
        images: (N, C, H, W).
        rows, columns: (N, h, w): 0 is the centre of the first pixel, 1 that of the next.

    Returns:
        (N, C, h, w).
    """
    top, left = rows.floor(), columns.floor()
    lower, right = rows - top, columns - left
    i, j = top.long(), left.long()
    places, weights = [], []
    for down, across, weight in ((0, 0, (1 - lower) * (1 - right)), (0, 1, (1 - lower) * right),
                                 (1, 0, lower * (1 - right)), (1, 1, lower * right)):
        place, inside = _places(images, i + down, j + across)
        places.append(place)
        weights.append(weight.flatten() * inside)
    # At once, for the gradient of each reading takes the room of all images.
    values = _pixels(images).index_select(0, torch.cat(places)).view(4, len(places[0]), -1)
    return _images((values * torch.stack(weights)[:, :, None]).sum(0), rows)


def _pixels(images: Tensor) -> Tensor:
    """Return all pixels of images (N, C, H, W), one after the other: (N H W, C)."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def _places(images: Tensor, rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Return which of `_pixels` stand at places (N, h, w), and whether they lie within the image.

    Both are (N h w,); outside it is the next pixel within.
    """
    n, _, height, width = images.shape
    i, j = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    first = height * width * torch.arange(n, device=rows.device).view(n, 1, 1)
    return (first + i * width + j).flatten(), ((i == rows) & (j == columns)).flatten()


def _images(pixels: Tensor, like: Tensor) -> Tensor:
    """Return pixels (N h w, C) as images (N, C, h, w)."""
    return pixels.view(*like.shape, -1).permute(0, 3, 1, 2)
