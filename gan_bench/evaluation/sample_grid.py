"""Pictures of samples: a grid of images, or a plot of 2-D points."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image, PngImagePlugin
from torch import Tensor

from gan_bench.components.value_range import to_uint8
from gan_bench.evaluation.grid_layout import GREY, KEYWORD, PADDING, GridLayout, columns_of

PLOT_SIDE, PLOT_RANGE = 256, 5.0  # pixels, and the largest coordinate shown
NEAREST = Image.Resampling.NEAREST
PAIRS_ACROSS, TRIPLES_ACROSS, PAIR_PADDING = 4, 4, 6


def sample_picture(samples: Tensor) -> bytes:
    """Return a PNG of images `(N, C, H, W)` in [-1, 1] as a square grid, or of points `(N, 2)`.

    The PNG of a grid holds its layout in a text chunk, so that a report cuts it without a guess.
    """
    if samples.dim() == 2:
        return _points(samples)
    images = to_uint8(samples)
    layout = _layout(images, columns_of(len(images)), PADDING)
    record = PngImagePlugin.PngInfo()
    record.add_text(KEYWORD, layout.as_text())
    return _png(_grid(images, layout), record)


def pair_picture(samples: Tensor, neighbours: Tensor) -> bytes:
    """Return a PNG of uint8 images `(N, C, H, W)`, each with its neighbour on its right."""
    pairs = torch.cat([samples, neighbours], dim=3)
    return _png(_grid(pairs, _layout(pairs, min(PAIRS_ACROSS, len(pairs)), PAIR_PADDING)))


def triple_picture(inputs: Tensor, targets: Tensor, samples: Tensor) -> bytes:
    """Return a PNG of triples: an input, what the generator makes of it, and the target.

    Args:
        inputs: uint8 `(N, C', H, W)`; grey ones are shown beside colour.
        targets: uint8 `(N, C, H, W)`.
        samples: `(N, C, H, W)` in [-1, 1].

    The text chunk of `sample_picture` describes triples as samples, which a report keeps whole.
    """
    count, channels, height, _ = targets.shape
    gap = torch.full((count, channels, height, PADDING), GREY, dtype=torch.uint8)
    shown = [as_channels(inputs, channels), gap, to_uint8(samples), gap, targets]
    triples = torch.cat(shown, dim=3)
    layout = _layout(triples, min(TRIPLES_ACROSS, count), PAIR_PADDING)
    record = PngImagePlugin.PngInfo()
    record.add_text(KEYWORD, layout.as_text())
    return _png(_grid(triples, layout), record)


def as_channels(images: Tensor, channels: int) -> Tensor:
    """Return images `(N, C, H, W)` with this number of channels: grey ones repeat theirs."""
    return images.expand(-1, channels, -1, -1)


def _layout(images: Tensor, columns: int, padding: int) -> GridLayout:
    return GridLayout.of(len(images), columns, images.shape[2], images.shape[3], padding)


def _grid(images: Tensor, layout: GridLayout) -> Image.Image:
    # Without torchvision: its import takes as long as torch's.
    grid = torch.full((*layout.size, 3), GREY, dtype=torch.uint8)
    for (y, x), image in zip(layout.corners, images.permute(0, 2, 3, 1), strict=True):
        grid[y : y + layout.height, x : x + layout.width] = image
    picture = Image.fromarray(grid.numpy())
    return picture.resize((picture.width * layout.scale, picture.height * layout.scale), NEAREST)


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


def _png(picture: Image.Image, record: PngImagePlugin.PngInfo | None = None) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=record)
    return buffer.getvalue()
