"""Filters of single octaves, which amplify or dampen them."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

BANDS = 4
# Autocorrelations, halved, of the sym2 wavelet (that of Daubechies with four taps): they pass the
# lower and the upper half of the frequencies, without a shift, and add up to 1.
LOW = [-1 / 32, 0.0, 9 / 32, 16 / 32, 9 / 32, 0.0, -1 / 32]
HIGH = [1 / 32, 0.0, -9 / 32, 16 / 32, -9 / 32, 0.0, 1 / 32]


@lru_cache
def filter_bank() -> Tensor:
    """Return the filters of the octaves, (4, 43) float64, the lowest first; they add up to 1 at 0.

    Octave 3 is the upper half of the frequencies, octave 2 the upper half of the rest, and so on.
    """
    levels = BANDS - 1
    rows = []
    for band in range(BANDS):
        taps = torch.ones(1, dtype=torch.float64)
        for level in range(levels if band == 0 else levels - band + 1):
            is_last = band > 0 and level == levels - band
            taps = _convolved(taps, _spread(HIGH if is_last else LOW, 2 ** level))
        rows.append(taps)
    width = max(map(len, rows))
    return torch.stack([torch.nn.functional.pad(taps, [(width - len(taps)) // 2] * 2)
                        for taps in rows])


def filtered(images: Tensor, gains: Tensor) -> Tensor:
    """Return images whose octaves are multiplied by gains, along rows and along columns.

    Args:
        images: (N, C, H, W); they are mirrored at their edges.
        gains: (N, 4), the lowest octave first.
    """
    vertical, horizontal = (
        torch.einsum("nb,bij->nij", gains, _matrices(side, images.dtype, images.device))[:, None]
        for side in images.shape[2:])
    return vertical @ images @ horizontal.transpose(2, 3)


@lru_cache
def _matrices(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the matrix of each octave's filter on a mirrored line of pixels, (4, side, side)."""
    bank = filter_bank()
    taps = bank.shape[1]
    places = torch.arange(side)[:, None] + torch.arange(taps) - taps // 2
    matrices = torch.zeros(BANDS, side, side, dtype=torch.float64)
    for band in range(BANDS):
        matrices[band].scatter_add_(1, mirrored_places(places, side), bank[band].expand(side, taps))
    return matrices.to(device, dtype)


def mirrored_places(places: Tensor, side: int) -> Tensor:
    """Return which pixels of a line stand at places, any integers, if it is mirrored at its ends.

    The outermost pixels are not doubled.
    """
    period = max(1, 2 * (side - 1))
    folded = places % period
    return torch.minimum(folded, period - folded)


def _spread(taps: list[float], step: int) -> Tensor:
    """Return taps with zeros between them."""
    spread = torch.zeros(step * (len(taps) - 1) + 1, dtype=torch.float64)
    spread[::step] = torch.tensor(taps, dtype=torch.float64)
    return spread


def _convolved(first: Tensor, second: Tensor) -> Tensor:
    return torch.nn.functional.conv1d(first.view(1, 1, -1), second.flip(0).view(1, 1, -1),
                                      padding=len(second) - 1).flatten()
