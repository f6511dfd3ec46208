"""The horizontal flip of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gan_bench.components.augmentations.base import Augmentation
from gan_bench.registry import AUGMENTATIONS

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@AUGMENTATIONS.register("flip")
def flip() -> Augmentation:
    """Mirror each real image left to right, with probability 1/2: twice the data.

    G learns to make mirrored images too. It is the option `mirror` of StyleGAN2-ADA (Karras et al.
    2020, "Training generative adversarial networks with limited data", section 4.2), which doubles
    the data set; here each image is mirrored or not each time it is drawn. Scores compare with the
    images as they are.
    """
    import torch

    def apply(examples: Tensor, draws: torch.Generator, p: Tensor) -> Tensor:
        shape = (len(examples), 1, 1, 1)
        mirrored = torch.rand(shape, generator=draws, device=examples.device) < 0.5
        return torch.where(mirrored, examples.flip(3), examples)

    return Augmentation(apply, of_data=True)
