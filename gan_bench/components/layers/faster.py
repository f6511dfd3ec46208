"""Faster forms of PyTorch's layers, with the same functions and parameters.

Each is a subclass of the layer that it equals; only the order of the sums differs. oneDNN, which
computes PyTorch's convolutions on a CPU, is several times slower than a product of matrices if
there is one pixel, or if the images have one to three channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, fold, linear


def upsampled_conv2d(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Nearest ×2 and a 3×3 convolution with a margin of 1: (N, C, H, W) → (N, D, 2H, 2W).

    Up to two rows, and two columns, of the kernel read the same doubled pixel. So their weights are
    summed first, and a transposed 4×4 convolution of stride 2 follows: it has 4/9 of the products,
    and the doubled image is never in memory.

    Args:
        weight: (D, C, 3, 3).
        bias: (D,).
    """
    def summed(weight: Tensor, axis: int) -> Tensor:
        first, middle, last = weight.unbind(axis)
        return torch.stack([last, middle + last, first + middle, first], axis)

    kernel = summed(summed(weight, 2), 3).transpose(0, 1)
    return conv_transpose2d(x, kernel, bias, stride=2, padding=1)


class UpsampledConv2d(nn.Conv2d):
    """Nearest ×2 and a 3×3 convolution with a margin of 1: (N, C, H, W) → (N, D, 2H, 2W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return upsampled_conv2d(x, self.weight, self.bias)


class FromOnePixel(nn.ConvTranspose2d):
    """A transposed convolution of one pixel, without a bias: (N, C, 1, 1) → (N, D, side, side)."""

    def __init__(self, before: int, after: int, side: int) -> None:
        super().__init__(before, after, side, bias=False)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return (x.flatten(1) @ self.weight.flatten(1)).view(-1, *self.weight.shape[1:])


class ToOnePixel(nn.Conv2d):
    """A convolution whose kernel is as large as its input: (N, C, side, side) → (N, D, 1, 1)."""

    def __init__(self, before: int, after: int, side: int) -> None:
        super().__init__(before, after, side)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]


def conv_to_image(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """A 3×3 convolution with a margin of 1 to few channels: (N, C, H, W) → (N, D, H, W)."""
    kernel = weight.flip(2, 3).transpose(0, 1)
    return _scattered(x, kernel, bias, stride=1, sides=x.shape[2:])


class ConvToImage(nn.Conv2d):
    """A 3×3 convolution with a margin of 1 to few channels: (N, C, H, W) → (N, D, H, W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return conv_to_image(x, self.weight, self.bias)


class DeconvToImage(nn.ConvTranspose2d):
    """A transposed 4×4 convolution of stride 2 to few channels: (N, C, H, W) → (N, D, 2H, 2W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 4, 2, 1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return _scattered(x, self.weight, self.bias, stride=2,
                          sides=torch.Size(2 * side for side in x.shape[2:]))


def _scattered(x: Tensor, kernel: Tensor, bias: Tensor | None, stride: int, sides: torch.Size,
               ) -> Tensor:
    """A transposed convolution with a margin of 1: the sum of each pixel's kernels.

    Args:
        x: (N, C, H, W).
        kernel: (C, D, K, K).
        bias: (D,).
        sides: Height and width of the result, (N, D, height, width).
    """
    products = conv2d(x, kernel.flatten(1).t()[..., None, None])
    # Under bfloat16 the products are rounded, but their sums are not.
    image = fold(products.to(kernel.dtype).flatten(2), sides, kernel.shape[2:], padding=1,
                 stride=stride)
    return image if bias is None else image + bias[:, None, None]
