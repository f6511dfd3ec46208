"""Batch norm whose scale and shift depend on a condition."""

from __future__ import annotations

from torch import Tensor, nn


class ConditionalBatchNorm2d(nn.Module):
    """Batch norm, times 1 + `gain` of the condition, plus `bias` of the condition.

    Dumoulin et al. 2017, "A learned representation for artistic style", section 2.2; Brock et al.
    2019, "Large scale GAN training for high fidelity natural image synthesis", appendix B.

    Args:
        channels: C.
        gain, bias: Map a condition to (N, C): a table of labels, or a linear layer of a vector.
    """

    def __init__(self, channels: int, gain: nn.Module, bias: nn.Module) -> None:
        super().__init__()
        self.gain, self.bias = gain, bias
        self.norm = nn.BatchNorm2d(channels, affine=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return (N, C, H, W)."""
        gain, bias = self.gain(condition), self.bias(condition)
        made: Tensor = self.norm(x) * (1 + gain[..., None, None]) + bias[..., None, None]
        return made


class UnconditionalBatchNorm2d(nn.BatchNorm2d):
    """Batch norm that ignores the condition, with a scale and a shift of its own."""

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        return super().forward(x)
