"""Pictures of samples: a grid of images, or a plot of 2-D points."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gan_bench.components.value_range import to_uint8

PLOT_SIDE, PLOT_RANGE = 256, 5.0  # pixels, and the largest coordinate shown
NEAREST = Image.Resampling.NEAREST
SIDE = 448  # pixels, about: small images are enlarged, because a browser would blur them


def sample_picture(samples: Tensor) -> bytes:
    """Return a PNG of images `(N, C, H, W)` in [-1, 1] as a square grid, or of points `(N, 2)`."""
    if samples.dim() == 2:
        return _points(samples)
    return _grid(to_uint8(samples), columns=int(np.ceil(np.sqrt(len(samples)))), padding=2)


def pair_picture(samples: Tensor, neighbours: Tensor) -> bytes:
    """Return a PNG of uint8 images `(N, C, H, W)`, each with its neighbour on its right."""
    return _grid(torch.cat([samples, neighbours], dim=3), columns=4, padding=6)


def _grid(images: Tensor, columns: int, padding: int) -> bytes:
    # Without torchvision: its import takes as long as torch's.
    height, width = images.shape[2] + padding, images.shape[3] + padding
    rows, columns = -(-len(images) // columns), min(columns, len(images))
    grid = torch.full((rows * height + padding, columns * width + padding, 3), 128,
                      dtype=torch.uint8)
    for i, image in enumerate(images.permute(0, 2, 3, 1)):
        y, x = i // columns * height + padding, i % columns * width + padding
        grid[y : y + height - padding, x : x + width - padding] = image
    picture = Image.fromarray(grid.numpy())
    factor = max(1, round(SIDE / picture.width))
    return _png(picture.resize((picture.width * factor, picture.height * factor), NEAREST))


def _points(samples: Tensor) -> bytes:
    """Each point as a dot of 3×3 pixels; points outside ±PLOT_RANGE lie on the border."""
    canvas = np.full((PLOT_SIDE, PLOT_SIDE), 255, dtype=np.uint8)
    scaled = (samples[:, :2].numpy() / PLOT_RANGE + 1) / 2 * (PLOT_SIDE - 1)
    x, y = np.clip(np.nan_to_num(scaled), 1, PLOT_SIDE - 2).round().astype(int).T
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            canvas[PLOT_SIDE - 1 - (y + dy), x + dx] = 0
    picture = Image.fromarray(canvas)
    return _png(picture.resize((2 * PLOT_SIDE, 2 * PLOT_SIDE), NEAREST))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()
