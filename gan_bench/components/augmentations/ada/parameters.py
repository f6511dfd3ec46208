"""What the transforms of the ADA pipe do to each image: drawn, or nothing with probability 1 - p.

Karras et al. 2020, "Training generative adversarial networks with limited data", appendix B, with
the strengths of the published code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import torch
from torch import Tensor

from gan_bench.components.augmentations.ada.bands import BANDS

XINT, XFRAC = 0.125, 0.125  # shifts, as shares of the side: at most, and their standard deviation
SCALE, ANISO = 0.2, 0.2  # standard deviations of binary logarithms, as are those below
BRIGHTNESS, CONTRAST, SATURATION, GAIN = 0.2, 0.5, 1.0, 1.0
NOISE, HOLE = 0.1, 0.5  # of the noise's deviation; the side of the hole, as a share of the image's

Draw = Callable[..., Tensor]


def draw_parameters(names: Collection[str], images: Tensor, draws: torch.Generator, p: Tensor,
                    ) -> dict[str, Tensor]:
    """Return the parameters of the named transforms for each image, in the order of the pipe.

    Each transform draws the same random numbers whatever p is.

    Args:
        images: (N, C, H, W); it gives the number, the type and the device.
        p: Scalar; above 1 it is as 1.

    Returns:
        `xflip` (N,), 0 or 1; `rotate90` (N,), quarter turns; `xint`, `xfrac` (N, 2), shifts to the
        right and down as shares of the sides; `scale`, `aniso` (N,), factors; `rotate_before`,
        `rotate_after` (N,), angles before and after the anisotropic scaling; `brightness` (N,), an
        amount; `contrast`, `saturation` (N,), factors; `lumaflip` (N,), 0 or 1; `hue` (N,), an
        angle; `filter` (N, 4, 4), for each octave the gains of all octaves; `noise` (N,), a
        standard deviation; `unit_noise`, of the images' shape; `cutout` (N, 3), the hole's side and
        the place of its centre, as shares of the sides.
    """
    n, device, dtype = len(images), images.device, images.dtype

    def uniform(*shape: int) -> Tensor:
        return torch.rand((n, *shape), generator=draws, device=device, dtype=dtype)

    def normal(*shape: int) -> Tensor:
        return torch.randn((n, *shape), generator=draws, device=device, dtype=dtype)

    def acting(value: Tensor, neutral: float, share: Tensor = p) -> Tensor:
        coin = uniform(*[1] * (value.dim() - 1)) < share
        return torch.where(coin, value, neutral)

    parameters: dict[str, Tensor] = {}
    # Two rotations, so that both together act with probability p.
    p_rotate = 1 - (1 - p.clamp(0, 1)).sqrt()
    makers: dict[str, Callable[[], Tensor]] = {
        "xflip": lambda: acting((2 * uniform()).floor(), 0),
        "rotate90": lambda: acting((4 * uniform()).floor(), 0),
        "xint": lambda: acting(XINT * (2 * uniform(2) - 1), 0),
        "scale": lambda: acting((SCALE * normal()).exp2(), 1),
        "rotate_before": lambda: acting(math.pi * (2 * uniform() - 1), 0, p_rotate),
        "aniso": lambda: acting((ANISO * normal()).exp2(), 1),
        "rotate_after": lambda: acting(math.pi * (2 * uniform() - 1), 0, p_rotate),
        "xfrac": lambda: acting(XFRAC * normal(2), 0),
        "brightness": lambda: acting(BRIGHTNESS * normal(), 0),
        "contrast": lambda: acting((CONTRAST * normal()).exp2(), 1),
        "lumaflip": lambda: acting((2 * uniform()).floor(), 0),
        "hue": lambda: acting(math.pi * (2 * uniform() - 1), 0),
        "saturation": lambda: acting((SATURATION * normal()).exp2(), 1),
        "filter": lambda: octave_gains(torch.where(
            uniform(BANDS) < p, (GAIN * normal(BANDS)).exp2(), 1)),
        "noise": lambda: acting(NOISE * normal().abs(), 0),
        "unit_noise": lambda: normal(*images.shape[1:]),
        "cutout": lambda: _hole(acting(images.new_full((n,), HOLE), 0), uniform(2)),
    }
    of = {"rotate_before": "rotate", "rotate_after": "rotate", "unit_noise": "noise"}
    for key, make in makers.items():
        if of.get(key, key) in names:
            parameters[key] = make()
    return parameters


def octave_gains(amplified: Tensor) -> Tensor:
    """Return the gains of all octaves when each in turn is amplified, (N, 4, 4).

    Row i has the factor of octave i, of (N, 4), on its diagonal, and is divided so that the power
    of a natural image, which falls with the frequency, would stay the same.
    """
    same = torch.eye(BANDS, dtype=amplified.dtype, device=amplified.device)
    power = (1 + 9 * same[0]) / 13
    gains = 1 + same * (amplified[:, :, None] - 1)
    return gains / (power * gains.square()).sum(2, keepdim=True).sqrt()


def _hole(side: Tensor, centre: Tensor) -> Tensor:
    return torch.cat([side[:, None], centre], 1)
