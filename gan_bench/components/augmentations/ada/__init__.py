"""The augmentation pipe of StyleGAN2-ADA.

`parameters.py` draws what each transform does to each image, `pipe.py` does it: `geometry.py` by
moving pixels, `color.py` by a matrix, `bands.py` by filters of single octaves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from gan_bench.components.augmentations.base import Augmentation, Probability
from gan_bench.registry import (
    AUGMENTATIONS,
    AugmentationFacts,
    MayChange,
    Scheduled,
    read_scheduled,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

GROUPS = {
    "blit": ("xflip", "rotate90", "xint"),
    "geometry": ("scale", "rotate", "aniso", "xfrac"),
    "color": ("brightness", "contrast", "lumaflip", "hue", "saturation"),
}
Name = Literal["blit", "geometry", "color", "filter", "noise", "cutout", "xflip", "rotate90",
               "xint", "scale", "rotate", "aniso", "xfrac", "brightness", "contrast", "lumaflip",
               "hue", "saturation"]
WITHIN = MayChange(ge=0, le=1)
TARGET, KIMG, EVERY = 0.6, 500.0, 4  # of the published rule


def _check_p(value: object) -> object:
    """Refuse in one line what is neither a probability nor the word; read one that changes."""
    if isinstance(value := read_scheduled(value), Scheduled):
        return WITHIN.bounded(value)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if value != "adaptive" and not (is_number and 0 <= float(str(value)) <= 1):
        raise PydanticCustomError("p", "Input should be a number from 0 to 1, or adaptive")
    return float(str(value)) if is_number else value


P = Annotated[Annotated[float, WITHIN] | Literal["adaptive"], BeforeValidator(_check_p)]


def transform_names(transforms: Sequence[str]) -> list[str]:
    """Return the single transforms that these names, of groups or of single ones, stand for."""
    return [name for given in transforms for name in GROUPS.get(given, (given,))]


def _refuses(shape: tuple[int, ...], *, transforms: list[str], p: float | str | dict[str, Any],
             ramp: int | None, target: float, kimg: float, every: int) -> str | None:
    if len(shape) != 3:
        return "it augments images"
    names = transform_names(transforms)
    if twice := next((name for name in names if names.count(name) > 1), None):
        return f"{twice} is in its transforms twice"
    if shape[0] not in (1, 3) and {*names} & {*GROUPS["color"]}:
        return f"its color transforms need 1 or 3 channels, not {shape[0]}: give it transforms"
    if p == "adaptive" and ramp is not None:
        return "ramp has no effect on an adaptive p: leave it out, or give p a number"
    if isinstance(p, dict) and ramp is not None:
        return "ramp has no effect on a p that is given at points: leave it out"
    changed = [name for name, value, default in (("target", target, TARGET), ("kimg", kimg, KIMG),
                                                 ("every", every, EVERY)) if value != default]
    if p != "adaptive" and changed:
        pronoun = "it" if len(changed) == 1 else "them"
        given = "given at points" if isinstance(p, dict) else f"{p:g}"
        return (f"{' and '.join(changed)} would move an adaptive p, but p is {given}: leave "
                f"{pronoun} out")
    return None


@AUGMENTATIONS.register("ada", AugmentationFacts(refuses=_refuses, has_p=True))
def ada(*, transforms: Annotated[list[Name], Field(min_length=1)] = ["blit", "geometry", "color"],
        p: P = "adaptive", ramp: Annotated[int, Field(ge=1)] | None = None,
        target: Annotated[float, Field(gt=-1, lt=1)] = TARGET,
        kimg: Annotated[float, Field(gt=0)] = KIMG,
        every: Annotated[int, Field(ge=1)] = EVERY) -> Augmentation:
    """StyleGAN2-ADA's transforms of all images that D sees, each with probability p.

    Karras et al. 2020, "Training generative adversarial networks with limited data", appendix B.
    `transforms` names groups or single transforms; they act in the published order. `blit`: flips,
    quarter turns, and shifts by up to an eighth of the side (`xflip`, `rotate90`, `xint`).
    `geometry`: `scale`, `rotate`, `aniso` (scaling of one direction) and `xfrac` (shifts that
    need not be whole pixels). `color`: `brightness`, `contrast`, `lumaflip`, `hue`, `saturation`.
    Further there are `filter` (of four octaves), `noise` and `cutout`. The paper uses the first
    three groups.

    `p` is a number, which `ramp` lets grow linearly from 0 in so many steps; or it is given at
    points; or it is `adaptive` (section 3 there): it begins at 0 and moves every `every` steps, up
    if D's mean sign at real examples since the last move is above `target`, else down, by as much
    as would take it from 0 to 1 while D is given `kimg` thousand real examples. It stays at or
    above 0; above 1 it is as 1, which the published rule allows too. D's signs at the penalties'
    examples, which the published code counts as well, do not count here.

    Images pass the filters of the geometric transforms (sym6 wavelets) at p 0 too, which changes
    them a little. They are mirrored as a whole, not as far as the largest map of the batch reads,
    which moves a few pixels of the edge by less than 1e-6.
    """
    names = frozenset(transform_names(transforms))
    probability = Probability(0.0, target=target, images=1000 * kimg, every=every)
    if not isinstance(p, str):
        probability = Probability(p, ramp or 0)

    def apply(examples: Tensor, draws: torch.Generator, p: Tensor) -> Tensor:
        from gan_bench.components.augmentations.ada.parameters import draw_parameters
        from gan_bench.components.augmentations.ada.pipe import transformed

        return transformed(examples, draw_parameters(names, examples, draws, p))

    return Augmentation(apply, probability=probability)
