"""Resampling by a filter: insert zeros, filter, keep every k-th pixel.

Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", section 5 of the
appendix, after Zhang 2019, "Making convolutional networks shift-invariant again". All in plain
PyTorch, with gradients of any order.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad

Padding = tuple[int, int, int, int]
SEPARATE = 8  # from so many taps on, a pass along each axis is cheaper than one over both


def bilinear_taps(like: Tensor) -> Tensor:
    """Return the filter (1, 3, 3, 1) / 8, on the device and in the type of a tensor.

    It is computed and not stored: a copy to the device would interrupt a CUDA graph.
    """
    places = torch.arange(4, device=like.device, dtype=like.dtype)
    return (2 - (places - 1.5).abs()) / 4


def upfirdn2d(x: Tensor, taps: Tensor, up: int = 1, down: int = 1, padding: Padding = (0, 0, 0, 0),
              flip: bool = False, gain: float = 1.0) -> Tensor:
    """Insert `up` − 1 zeros after every pixel, pad, filter each channel, keep each `down`-th pixel.

    Args:
        x: (N, C, H, W).
        taps: (K,), the same along both axes, or (K, L) for rows and columns.
        padding: Zeros at the left, right, top and bottom; a negative number crops.
        flip: Whether the image is correlated with the filter; otherwise it is a convolution.
        gain: A factor of the result.

    Returns:
        (N, C, H', W') with H' = ⌈(H · up + top + bottom − K + 1) / down⌉, and W' likewise.
    """
    if flip:
        taps = taps.flip(*range(taps.dim()))
    if taps.dim() == 2:
        return _filtered(x, gain * taps, (up, up), (down, down), padding)
    if len(taps) < SEPARATE:
        return _filtered(x, gain * taps[:, None] * taps, (up, up), (down, down), padding)
    left, right, top, bottom = padding
    x = _filtered(x, gain * taps[None], (1, up), (1, down), (left, right, 0, 0))
    return _filtered(x, taps[:, None], (up, 1), (down, 1), (0, 0, top, bottom))


def doubled(x: Tensor) -> Tensor:
    """Return an image (N, C, H, W) of twice the size, by the filter (1, 3, 3, 1) / 8."""
    return upfirdn2d(x, bilinear_taps(x), up=2, padding=(2, 1, 2, 1), gain=4)


def halved(x: Tensor) -> Tensor:
    """Return an image (N, C, H, W) of half the size, by the filter (1, 3, 3, 1) / 8."""
    return upfirdn2d(x, bilinear_taps(x), down=2, padding=(1, 1, 1, 1))


def _filtered(x: Tensor, taps: Tensor, up: tuple[int, int], down: tuple[int, int],
              padding: Padding) -> Tensor:
    """Resample by a convolution with `taps` (K, L); `up` and `down` are for rows and columns."""
    channels, (high, wide) = x.shape[1], taps.shape
    left, right, top, bottom = padding
    if up == (1, 1):
        kernel = taps.flip(0, 1).expand(channels, 1, high, wide)
        even = max(0, left) if len(set(padding)) == 1 else 0
        if padding != (even,) * 4:
            x = pad(x, padding)
        return conv2d(x, kernel, stride=down, padding=even, groups=channels)
    # A transposed convolution needs no zeros in memory. It returns all that the filter touches.
    crop = (wide - 1 - left, wide - up[1] - right, high - 1 - top, high - up[0] - bottom)
    even = max(0, min(crop))
    kernel = taps.expand(channels, 1, high, wide)
    x = conv_transpose2d(x, kernel, stride=up, padding=even, groups=channels)
    if crop != (even,) * 4:
        x = pad(x, [even - side for side in crop])
    return x[..., ::down[0], ::down[1]]
