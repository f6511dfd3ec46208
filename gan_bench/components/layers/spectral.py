"""Layers whose weights are divided by their largest singular value, as BigGAN has them.

Miyato et al. 2018, "Spectral normalization for generative adversarial networks", algorithm 1, in
the form of BigGAN's published code: each forward pass takes one step of the power iteration from
the vector `u` of the last training pass, and a pass in evaluation does not keep what it finds.
(The penalty `spectral_norm` is PyTorch's form: it starts nearer, keeps two vectors, and takes no
step in evaluation.)
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, embedding, linear, normalize

from gan_bench.components.layers.faster import conv_to_image, upsampled_conv2d
from gan_bench.components.layers.own_weights import OwnWeights
from gan_bench.components.layers.precision import without_autocast

EPS = 1e-6  # the least length of a vector


class SpectrallyNormed(OwnWeights):
    """What all these layers share: `weight` is seen as a matrix (first axis, all others)."""

    weight: Tensor
    u: Tensor

    def add_vector(self) -> None:
        """Add the buffer `u`, after `weight`."""
        self.register_buffer("u", torch.empty(len(self.weight)))

    def draw(self) -> None:
        """Draw `u`, N(0, 1)."""
        nn.init.normal_(self.u)

    def sigma(self) -> Tensor:
        """Return the estimate of the largest singular value, a scalar; `u` follows in training."""
        matrix = self.weight.flatten(1)
        with without_autocast(matrix):
            with torch.no_grad():
                v = normalize(self.u @ matrix, dim=0, eps=EPS)
                u = normalize(matrix @ v, dim=0, eps=EPS)
                if self.training:
                    self.u.copy_(u)
            return u @ (matrix @ v)

    def normed(self) -> Tensor:
        """Return the weight over `sigma`."""
        return self.weight / self.sigma()


class SpectralConv2d(SpectrallyNormed, nn.Conv2d):
    """A convolution that keeps the size: (N, before, H, W) → (N, after, H, W); `size` is odd."""

    def __init__(self, before: int, after: int, size: int, bias: bool = True) -> None:
        super().__init__(before, after, size, padding=size // 2, bias=bias)
        self.add_vector()

    def forward(self, x: Tensor) -> Tensor:
        return conv2d(x, self.normed(), self.bias, padding=self.padding)


class SpectralUpsampledConv2d(SpectralConv2d):
    """Nearest ×2 and a 3×3 convolution: (N, before, H, W) → (N, after, 2H, 2W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3)

    def forward(self, x: Tensor) -> Tensor:
        return upsampled_conv2d(x, self.normed(), self.bias)


class SpectralConvToImage(SpectralConv2d):
    """A 3×3 convolution to few channels: (N, before, H, W) → (N, after, H, W)."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3)

    def forward(self, x: Tensor) -> Tensor:
        return conv_to_image(x, self.normed(), self.bias)


class SpectralLinear(SpectrallyNormed, nn.Linear):
    """A linear layer (N, before) → (N, after)."""

    def __init__(self, before: int, after: int, bias: bool = True) -> None:
        super().__init__(before, after, bias=bias)
        self.add_vector()

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.normed(), self.bias)


class SpectralEmbedding(SpectrallyNormed, nn.Embedding):
    """A vector for each class: labels (N,) int64 → (N, size)."""

    def __init__(self, classes: int, size: int) -> None:
        super().__init__(classes, size)
        self.add_vector()

    def forward(self, labels: Tensor) -> Tensor:
        return embedding(labels, self.normed())
