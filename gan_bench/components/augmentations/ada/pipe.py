"""The ADA pipe: images and the parameters of its transforms → transformed images."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from gan_bench.components.augmentations.ada import color, geometry
from gan_bench.components.augmentations.ada.bands import filtered


def transformed(images: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """Return images (N, C, H, W) as the transforms change them.

    Args:
        given: As `draw_parameters` returns them; transforms without parameters are left out.
    """
    if any(key in given for key in geometry.KEYS):
        images = geometry.moved(images, given)
    if any(key in given for key in color.KEYS):
        images = color.recolored(images, given)
    if "filter" in given:
        images = filtered(images, given["filter"].prod(1))
    if "noise" in given:
        images = images + given["noise"][:, None, None, None] * given["unit_noise"]
    if "cutout" in given:
        images = images * _outside(images, given["cutout"])
    return images


def _outside(images: Tensor, hole: Tensor) -> Tensor:
    """Return which pixels lie outside a square hole, (N, 1, H, W)."""
    def far(side: int, centre: Tensor) -> Tensor:
        places = (torch.arange(side, dtype=images.dtype, device=images.device) + 0.5) / side
        return (places - centre[:, None]).abs() >= hole[:, :1] / 2

    columns, rows = far(images.shape[3], hole[:, 1]), far(images.shape[2], hole[:, 2])
    return (rows[:, :, None] | columns[:, None, :])[:, None]
