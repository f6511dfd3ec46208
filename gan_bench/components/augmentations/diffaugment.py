"""DiffAugment: color, translation and cutout of all that D sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gan_bench.components.augmentations.base import Augmentation
from gan_bench.registry import AUGMENTATIONS, AugmentationFacts

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Transforms = Annotated[list[Literal["color", "translation", "cutout"]], Field(min_length=1)]
SHIFT = 0.125  # of the side, at most
HOLE = 0.5  # of the side


def _refuses(shape: tuple[int, ...], *, transforms: list[str]) -> str | None:
    if len(shape) != 3:
        return "it augments images"
    if twice := next((name for name in transforms if transforms.count(name) > 1), None):
        return f"{twice} is in its transforms twice"
    return None


@AUGMENTATIONS.register("diffaugment", AugmentationFacts(refuses=_refuses))
def diffaugment(*, transforms: Transforms = ["color", "translation", "cutout"]) -> Augmentation:
    """Change the color of all images that D sees, shift them, and cut a square out of them.

    Zhao et al. 2020, "Differentiable augmentation for data-efficient GAN training", equations 4 to
    6 and section 4. Each transform in `transforms` acts on each image, in this order. `color`: add
    u in -0.5..0.5; multiply the distance from the mean over the channels by u in 0..2; multiply
    that from the mean of the image by u in 0.5..1.5. `translation`: move by up to an eighth of
    the side each way; what enters is 0. `cutout`: a square of half the side, its centre anywhere,
    becomes 0. The paper uses color and cutout for StyleGAN2 on CIFAR, translation and cutout for
    BigGAN there, and all three with 20 % of the data or less.
    """
    of_name = {"color": _color, "translation": _translation, "cutout": _cutout}

    def apply(examples: Tensor, draws: torch.Generator, p: Tensor) -> Tensor:
        for name in transforms:
            examples = of_name[name](examples, draws)
        return examples

    return Augmentation(apply)


def _color(images: Tensor, draws: torch.Generator) -> Tensor:
    import torch

    shape = (3, len(images), 1, 1, 1)
    return colored(images, *torch.rand(shape, generator=draws, device=images.device,
                                       dtype=images.dtype))


def colored(images: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Return images (N, C, H, W) with other colors; the amounts are (N, 1, 1, 1) in 0..1."""
    images = images + (brightness - 0.5)
    grey = images.mean(1, keepdim=True)
    images = grey + (images - grey) * (2 * saturation)
    mean = images.mean((1, 2, 3), keepdim=True)
    return mean + (images - mean) * (contrast + 0.5)


def _translation(images: Tensor, draws: torch.Generator) -> Tensor:
    import torch

    rows, columns = (torch.randint(-most, most + 1, (len(images),), generator=draws,
                                   device=images.device)
                     for most in (int(side * SHIFT + 0.5) for side in images.shape[2:]))
    return translated(images, rows, columns)


def translated(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images (N, C, H, W) whose pixel (i, j) is that of (i + `rows`, j + `columns`).

    What lies outside is 0. The shifts are (N,) integers.
    """
    import torch

    from gan_bench.components.image_sampling import pixels_at

    height, width = images.shape[2:]
    shape = (len(images), height, width)
    i = torch.arange(height, device=images.device)[None, :, None] + rows[:, None, None]
    j = torch.arange(width, device=images.device)[None, None, :] + columns[:, None, None]
    return pixels_at(images, i.expand(shape), j.expand(shape))


def _cutout(images: Tensor, draws: torch.Generator) -> Tensor:
    import torch

    sides = images.shape[2:]
    # A square of even side has its centre between pixels, and so one more place.
    centres = [torch.randint(0, side + 1 - int(side * HOLE + 0.5) % 2, (len(images),),
                             generator=draws, device=images.device) for side in sides]
    return cut_out(images, centres[0], centres[1])


def cut_out(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Return images (N, C, H, W) with a square of 0 around each (`rows`, `columns`), (N,) integers.

    A square that lies wholly outside takes the outermost row or column, as in the published code.
    """
    import torch

    def inside(side: int, centres: Tensor) -> Tensor:
        size = int(side * HOLE + 0.5)
        first = (centres - size // 2)[:, None]
        last = first + size - 1
        places = torch.arange(side, device=images.device)
        return (first.clamp(0, side - 1) <= places) & (places <= last.clamp(0, side - 1))

    hole = (inside(images.shape[2], rows)[:, None, :, None]
            & inside(images.shape[3], columns)[:, None, None, :])
    return images * ~hole
