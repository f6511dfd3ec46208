"""The layers of StyleGAN2: equalised learning rates, and convolutions that a style modulates.

Karras et al. 2018, "Progressive growing of GANs", section 4.1: weights are stored as N(0, 1) and
scaled when they are used, so that an optimizer which normalises gradients moves all layers alike.
Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", section 2.2: a style
scales the weights of a convolution, which are then normalised.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, leaky_relu, linear

from gan_bench.components.layers.own_weights import OwnWeights
from gan_bench.components.layers.precision import without_autocast
from gan_bench.components.layers.resampling import bilinear_taps, upfirdn2d

SLOPE = 0.2
GAIN = math.sqrt(2)  # of the leaky ReLU
TINY = 1e-8


def unit_moment(x: Tensor) -> Tensor:
    """Scale each row of (N, D) so that its mean square is 1."""
    return x * (x.square().mean(1, keepdim=True) + TINY).rsqrt()


class EqualisedLinear(OwnWeights):
    """A linear layer (N, before) → (N, after) with an equalised learning rate.

    The effective weight is `weight` · `speed` / √before, the effective bias `bias` · `speed`. It
    computes in float32 under bfloat16 too: the published networks do, and styles need the digits.

    Args:
        speed: The learning-rate multiplier: how fast the layer learns beside the others.
        bias: The effective bias at the start.
        active: Whether a leaky ReLU with slope 0.2 and gain √2 follows.
    """

    def __init__(self, before: int, after: int, speed: float = 1.0, bias: float = 0.0,
                 active: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before))
        self.bias = nn.Parameter(torch.empty(after))
        self.speed, self.first_bias, self.active = speed, bias, active

    def draw(self) -> None:
        """Draw weights whose effective deviation is 1 / √before."""
        nn.init.normal_(self.weight, 0.0, 1 / self.speed)
        nn.init.constant_(self.bias, self.first_bias / self.speed)

    def forward(self, x: Tensor) -> Tensor:
        scale = self.speed / math.sqrt(self.weight.shape[1])
        with without_autocast(x):
            x = linear(x.to(self.weight.dtype), self.weight * scale, self.bias * self.speed)
        return GAIN * leaky_relu(x, SLOPE) if self.active else x


class EqualisedConv2d(OwnWeights):
    """A convolution with an equalised learning rate that keeps or halves the resolution.

    Args:
        size: Of the kernel, odd.
        halve: Whether (1, 3, 3, 1) / 8 filters the image, and every other pixel is kept.
        biased: Whether it has a bias.
        active: Whether a leaky ReLU with slope 0.2 and gain √2 follows.
        gain: A factor of the result.
    """

    def __init__(self, before: int, after: int, size: int, *, halve: bool = False,
                 biased: bool = True, active: bool = True, gain: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before, size, size))
        self.bias = nn.Parameter(torch.empty(after)) if biased else None
        self.size, self.halve, self.active, self.gain = size, halve, active, gain

    def draw(self) -> None:
        """Draw weights whose effective deviation is 1 / √fan-in."""
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, after, H, W), or half of the sides, for (N, before, H, W)."""
        # The gains commute with the leaky ReLU: weights are fewer than pixels.
        gain = self.gain * GAIN if self.active else self.gain
        weight, margin = self.weight * (gain / math.sqrt(self.weight[0].numel())), self.size // 2
        bias = None if self.bias is None else self.bias * gain
        if self.halve:
            # A 1×1 convolution commutes with the choice of pixels, and is cheaper after it.
            step = 2 if self.size == 1 else 1
            border = margin + 1
            x = upfirdn2d(x, bilinear_taps(x), down=step, padding=(border,) * 4)
            x = conv2d(x, weight, bias, stride=2 // step)
        else:
            x = conv2d(x, weight, bias, padding=margin)
        return leaky_relu(x, SLOPE) if self.active else x


class ModulatedConv2d(OwnWeights):
    """A convolution whose input channels a style scales, with the weights normalised after that.

    Karras et al. 2020, equations 1 to 3. Scaling the input and the result gives the same as a
    kernel for each example, and one kernel serves the whole batch.

    Args:
        size: Of the kernel, odd.
        doubles: Whether zeros are inserted first; the kernel is then mirrored, and (1, 3, 3, 1) / 8
            filters the result.
        normalise: Whether every output channel's weights have norm 1, for each example.
        biased: Whether a bias follows, which is 0 at the start.
    """

    def __init__(self, before: int, after: int, size: int, *, doubles: bool = False,
                 normalise: bool = True, biased: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before, size, size))
        self.bias = nn.Parameter(torch.empty(after)) if biased else None
        self.size, self.doubles, self.normalise = size, doubles, normalise

    def draw(self) -> None:
        """Draw N(0, 1)."""
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor, styles: Tensor) -> Tensor:
        """Return (N, after, H, W), or twice the sides, for (N, before, H, W).

        Args:
            styles: (N, before).
        """
        x = x * styles[..., None, None].to(x.dtype)
        if self.doubles:
            x = conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
            x = upfirdn2d(x, bilinear_taps(x), padding=(1, 1, 1, 1), gain=4)
        else:
            x = conv2d(x, self.weight, padding=self.size // 2)
        if self.normalise:
            x = x * self.norms(styles).rsqrt()[..., None, None].to(x.dtype)
        return x if self.bias is None else x + self.bias[:, None, None].to(x.dtype)

    def norms(self, styles: Tensor) -> Tensor:
        """Return the squared norm (N, after) of each output channel's modulated weights."""
        with without_autocast(styles):  # a sum of small squares
            squares = self.weight.square().sum((2, 3))
            return linear(styles.to(squares.dtype).square(), squares) + TINY


class NoisePlane(OwnWeights):
    """Adds one plane of noise to all channels, times a learned strength that starts at 0.

    Karras et al. 2019, "A style-based generator architecture", section 3.2. `random` draws the
    plane of each example in training, from torch's global state, as dropout does; in evaluation it
    is the buffer `constant`. `constant` takes the buffer always.
    """

    def __init__(self, side: int, kind: str) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.empty(()))
        self.constant: Tensor
        self.register_buffer("constant", torch.empty(side, side))
        self.kind = kind

    def draw(self) -> None:
        """Draw the plane for evaluation."""
        nn.init.zeros_(self.strength)
        nn.init.normal_(self.constant)

    def forward(self, x: Tensor) -> Tensor:
        plane = self.constant
        if self.training and self.kind == "random":
            plane = torch.randn((len(x), 1, *plane.shape), device=x.device, dtype=plane.dtype)
        return x + (plane * self.strength).to(x.dtype)


class BiasedLeakyReLU(OwnWeights):
    """A bias for each channel, starting at 0, and a leaky ReLU with slope 0.2 and gain √2."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.empty(channels))

    def draw(self) -> None:
        """Set the biases to 0."""
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return GAIN * leaky_relu(x + self.bias[:, None, None].to(x.dtype), SLOPE)
