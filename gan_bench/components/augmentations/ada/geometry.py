"""Affine maps of images, through filters that keep them sharp.

An image is mirrored at its edges and enlarged twice by the scaling filter of the sym6 wavelet; the
map reads it between its pixels (bilinear); the same filter, the other way round, makes it small
again. Linear filters are matrices here: rows and columns are multiplied by them, without any
convolution or copy of the mirrored image. The published code mirrors as much of the edge as the
largest map of the batch reads; here it is always all of it, so that nothing waits for the device
and no example depends on the others. That changes a few pixels of the edge in the seventh digit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor

from gan_bench.components.augmentations.ada.bands import mirrored_places
from gan_bench.components.image_sampling import between_pixels

KEYS = ("xflip", "rotate90", "xint", "scale", "rotate_before", "aniso", "rotate_after", "xfrac")
# The scaling filter of the sym6 wavelet (Daubechies 1992, table 6.3), with the sum 1.
SYM6 = (0.01089235016328, 0.00246830618592, -0.08343160770584, -0.03416156079324, 0.34722898647835,
        0.55694639196396, 0.23895218566605, -0.0513624849309, -0.01489187564922, 0.03162528132994,
        0.00124996104639, -0.00551593375469)
CENTRE = 5  # the tap that stands at a pixel
BESIDE = 3  # pixels beside the image that its filter reads


def moved(images: Tensor, given: Mapping[str, Tensor]) -> Tensor:
    """Return images as the geometric transforms of `draw_parameters` move them, (N, C, H, W)."""
    height, width = images.shape[2:]
    large = _enlarging(height, images) @ images @ _enlarging(width, images).T
    seen = _read(large, inverse_map(given, images), (height, width))
    return _reducing(height, images) @ seen @ _reducing(width, images).T


def inverse_map(given: Mapping[str, Tensor], images: Tensor) -> Tensor:
    """Return the map from a place in the result to that in the image, (N, 3, 3).

    Places are (x, y, 1) in pixels: from the centre of the image, to the right and down.
    """
    n, (height, width) = len(images), images.shape[2:]
    inverse = torch.eye(3, dtype=images.dtype, device=images.device).expand(n, 3, 3)
    for key in KEYS:
        if key not in given:
            continue
        value = given[key]
        if key == "xflip":
            step = _matrix(value, [[1 - 2 * value, 0, 0], [0, 1, 0], [0, 0, 1]])
        elif key in ("xint", "xfrac"):
            x, y = value[:, 0] * width, value[:, 1] * height
            x, y = (x.round(), y.round()) if key == "xint" else (x, y)
            step = _matrix(x, [[1, 0, -x], [0, 1, -y], [0, 0, 1]])
        elif key == "scale":
            step = _matrix(value, [[1 / value, 0, 0], [0, 1 / value, 0], [0, 0, 1]])
        elif key == "aniso":
            step = _matrix(value, [[1 / value, 0, 0], [0, value, 0], [0, 0, 1]])
        else:
            angle = value * (math.pi / 2) if key == "rotate90" else value
            cos, sin = angle.cos(), angle.sin()
            step = _matrix(angle, [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
        inverse = inverse @ step
    return inverse


def _matrix(like: Tensor, rows: list[list[Tensor | float]]) -> Tensor:
    """Return matrices (N, 3, 3) from entries that are numbers, or (N,) like `like`."""
    def whole(entry: Tensor | float) -> Tensor:
        return entry if isinstance(entry, Tensor) else torch.full_like(like, entry)

    return torch.stack([whole(entry) for row in rows for entry in row], 1).view(-1, 3, 3)


def _read(large: Tensor, inverse: Tensor, sides: tuple[int, int]) -> Tensor:
    """Return the enlarged image as the map moves it, bilinear, with `BESIDE` pixels at each edge.

    Args:
        large: (N, C, 2(3H - 2), 2(3W - 2)): from the mirrored image.
        inverse: As of `inverse_map`.
        sides: (H, W).
    """
    height, width = sides
    # An index of the result is half a pixel; index 2 * BESIDE stands at the first pixel.
    y, x = ((torch.arange(2 * (side + 2 * BESIDE), dtype=large.dtype, device=large.device) / 2
             - BESIDE - (side - 1) / 2) for side in sides)
    x, y = x.expand(len(y), -1), y[:, None].expand(-1, len(x))
    places = torch.stack([x, y, torch.ones_like(x)]).flatten(1)
    at = (inverse[:, :2] @ places).view(-1, 2, *x.shape)
    columns = 2 * (at[:, 0] + (width - 1) / 2 + width - 1)
    rows = 2 * (at[:, 1] + (height - 1) / 2 + height - 1)
    return between_pixels(large, rows, columns)


def _enlarging(side: int, like: Tensor) -> Tensor:
    return _filters(side, like.dtype, like.device)[0]


def _reducing(side: int, like: Tensor) -> Tensor:
    return _filters(side, like.dtype, like.device)[1]


@lru_cache
def _filters(side: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the filters of a line of pixels as matrices.

    Returns:
        (2(3 side - 2), side), from the line to its mirrored and enlarged form; (side, 2 side + 12),
        from an enlarged line, with `BESIDE` pixels beside it, to a line.
    """
    taps = torch.tensor(SYM6, dtype=torch.float64)
    mirrored_side = 3 * side - 2
    enlarging = torch.zeros(2 * mirrored_side, mirrored_side, dtype=torch.float64)
    reducing = torch.zeros(side, 2 * (side + 2 * BESIDE), dtype=torch.float64)
    for tap, value in enumerate(taps):
        for pixel in range(mirrored_side):  # index m of the enlarged line is 2 pixel + tap - CENTRE
            index = 2 * pixel + tap - CENTRE
            if 0 <= index < 2 * mirrored_side:
                enlarging[index, pixel] += 2 * value
        for pixel in range(side):
            reducing[pixel, 2 * (pixel + BESIDE) + tap - CENTRE] += value
    pixels = mirrored_places(torch.arange(mirrored_side) - (side - 1), side)
    mirroring = torch.nn.functional.one_hot(pixels, side).double()
    return (enlarging @ mirroring).to(device, dtype), reducing.to(device, dtype)
