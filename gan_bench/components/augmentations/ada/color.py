"""Affine maps of colors."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

KEYS = ("brightness", "contrast", "lumaflip", "hue", "saturation")


def recolored(images: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """Return images as the color transforms of `draw_parameters` change them.

    Args:
        images: (N, C, H, W) with C 3, or 1: grey, on which `hue` and `saturation` do not act.
    """
    matrix, offset = color_map(given, images)
    if images.shape[1] == 1:
        # What a grey pixel becomes, as the mean of its three equal channels.
        factor = matrix.sum(2).mean(1)[:, None, None, None]
        return images * factor + offset.mean(1)[:, None, None, None]
    pixels = matrix @ images.flatten(2) + offset[:, :, None]
    return pixels.view(images.shape)


def color_map(given: Mapping[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the map of colors as a matrix, (N, 3, 3), and an offset, (N, 3)."""
    n = len(images)
    same = torch.eye(3, dtype=images.dtype, device=images.device)
    luma = torch.full_like(same, 1 / 3)  # the projection on the axis of greys
    cycle = same.roll(1, 0)
    turn = (cycle - cycle.T) / 3**0.5  # the vector product with the unit vector of that axis
    matrix, offset = same.expand(n, 3, 3), images.new_zeros(n, 3)
    for key in KEYS:
        if key not in given:
            continue
        value = given[key][:, None, None]
        if key == "brightness":
            offset = offset + value[:, 0]
            continue
        if key == "contrast":
            step = same * value
        elif key == "lumaflip":
            step = same - 2 * luma * value
        elif key == "hue":
            step = luma + (same - luma) * value.cos() + turn * value.sin()
        else:
            step = luma + (same - luma) * value
        matrix, offset = step @ matrix, (step @ offset[:, :, None])[:, :, 0]
    return matrix, offset
