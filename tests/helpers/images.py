"""Images for tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from gan_bench.evaluation.features.base import Features


def save_pngs(folder: Path, images: NDArray[np.uint8]) -> Path:
    folder.mkdir(parents=True)
    for i, image in enumerate(images):
        pixels = image[0] if len(image) == 1 else image.transpose(1, 2, 0)
        Image.fromarray(np.ascontiguousarray(pixels)).save(folder / f"{i:03}.png")
    return folder


def named(classes: list[int] | np.ndarray, count: int) -> Features:
    """Samples that a classifier of `count` classes takes for the given ones, none too surely."""
    logits = np.random.default_rng(0).random((len(classes), count))
    logits[np.arange(len(classes)), classes] += 1
    return Features(np.zeros((len(classes), 1)), logits, "test")


class Replay(nn.Module):
    """A generator that makes given examples, whatever its latents."""

    def __init__(self, images: Tensor) -> None:
        super().__init__()
        self.images, self.next = images.float() / 127.5 - 1, 0

    def forward(self, latents: Tensor) -> Tensor:
        index = torch.arange(self.next, self.next + len(latents)) % len(self.images)
        self.next += len(latents)
        return self.images[index]


class Brightness(nn.Module):
    """A discriminator whose logit is the mean of the image, so that what it says is known."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).mean(dim=1)
