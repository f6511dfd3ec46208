"""What the inputs of pairs are made by: pure functions of uint8 images, the targets.

Each takes images `(N, C, H, W)` uint8 and returns their inputs, `(N, C', H, W)` uint8; C' is 1 for
`edges` and `grey`, and else C. `INPUTS` has them by name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, ValidationError

from gan_bench.errors import shown, worded
from gan_bench.registry import Entry, NoFacts
from gan_bench.registry.entry import nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Images = NDArray[np.uint8]

Share = Annotated[float, Field(gt=0, lt=1)]
LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R 601
HIDDEN = 128  # the level that takes the place of what is hidden
CHUNK = 512  # images at a time
INPUTS: dict[str, Entry[Images, NoFacts]] = {}

Function = Callable[..., "Images"]


def _input(function: Function) -> Function:
    name = function.__name__
    INPUTS[name] = Entry(name, function, NoFacts())
    return function


@_input
def edges(images: Images, draws: np.random.Generator, *, threshold: Share = 0.2) -> Images:
    """White where the Sobel gradient of the brightness is above `threshold`, and else black.

    The gradient is in units of the whole range of brightness: a step from black to white has 1.
    """
    import numpy as np

    level = np.pad(_brightness(images) / 255, ((0, 0), (1, 1), (1, 1)), mode="edge")
    smooth = np.array([1, 2, 1]) / 4
    height, width = images.shape[2:]
    down = sum(s * level[:, :, i : i + width] for i, s in enumerate(smooth))
    across = sum(s * level[:, i : i + height] for i, s in enumerate(smooth))
    vertical, horizontal = down[:, 2:] - down[:, :-2], across[:, :, 2:] - across[:, :, :-2]
    is_edge = np.hypot(vertical, horizontal) > threshold
    return np.where(is_edge, 255, 0).astype(np.uint8)[:, None]


@_input
def low_resolution(images: Images, draws: np.random.Generator, *,
                   factor: Annotated[int, Field(ge=2, le=64)] = 4) -> Images:
    """The image, made `factor` times as small and enlarged again, bilinearly both times.

    So a copy of the input is the bilinear baseline of super-resolution.
    """
    from gan_bench.components.data.pixels import resize

    side = images.shape[2]
    return resize(resize(images, max(1, side // factor)), side)


@_input
def blur(images: Images, draws: np.random.Generator, *,
         sigma: Annotated[float, Field(gt=0, le=32)] = 1.0) -> Images:
    """A Gaussian blur whose standard deviation is `sigma` pixels; borders are continued."""
    import numpy as np

    reach = math.ceil(3 * sigma)
    weights = np.exp(-np.square(np.arange(-reach, reach + 1) / sigma) / 2)
    weights /= weights.sum()
    blurred = images.astype(np.float64)
    for axis in (2, 3):
        width = [(0, 0)] * 4
        width[axis] = (reach, reach)
        padded, side = np.pad(blurred, width, mode="edge"), images.shape[axis]
        blurred = sum(weight * padded.take(range(i, i + side), axis=axis)
                      for i, weight in enumerate(weights))
    return _levels(blurred)


@_input
def mask(images: Images, draws: np.random.Generator, *, share: Share = 0.5) -> Images:
    """The image without its centre: a grey square of `share` of its side, to be painted in."""
    hidden = images.copy()
    side = images.shape[2]
    of_square = max(1, round(share * side))
    first = (side - of_square) // 2
    hidden[:, :, first : first + of_square, first : first + of_square] = HIDDEN
    return hidden


@_input
def grey(images: Images, draws: np.random.Generator) -> Images:
    """The brightness of a colour image, by ITU-R 601: the input of colourisation."""
    return _levels(_brightness(images))[:, None]


@_input
def noise(images: Images, draws: np.random.Generator, *, std: Share = 0.2) -> Images:
    """Gaussian noise of `std` of the whole range on each value, clipped to it.

    The noise of an image is the same in every run.
    """
    import numpy as np

    return _levels(images + 255 * std * draws.standard_normal(images.shape, dtype=np.float64))


@_input
def inverted(images: Images, draws: np.random.Generator) -> Images:
    """The negative: white becomes black. A simple proof that a generator follows its input."""
    return 255 - images


def parse_input(value: object) -> dict[str, Any]:
    """Return the name of an input and all its arguments, defaults filled in.

    Args:
        value: A name, or a mapping with `name` and arguments.

    Raises:
        ValueError: There is no such name, or an argument is wrong.
    """
    if isinstance(value, str):
        value = {"name": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
        raise ValueError(f"an input is a name, or a mapping with `name` and arguments, not "
                         f"{shown(value)}; known: {', '.join(INPUTS)}")
    name = value["name"]
    if name not in INPUTS:
        raise ValueError(f"no input is called {shown(name)}; {nearest(name, list(INPUTS))}")
    schema = INPUTS[name].schema
    try:
        checked = schema.model_validate({k: v for k, v in value.items() if k != "name"})
    except ValidationError as error:
        first = error.errors()[0]
        argument = ".".join(map(str, first["loc"]))
        known = ", ".join(schema.model_fields) or "none"
        what = (f"has no argument {shown(argument)}; its arguments: {known}"
                if first["type"] == "extra_forbidden" else f"{argument}: {worded(first)}")
        raise ValueError(f"input {name}: {what}") from None
    return {"name": name, **checked.model_dump(mode="json")}


def why_no_input(given: Mapping[str, Any], shape: tuple[int, ...]) -> str | None:
    """Return why an input cannot be made of images of this shape; None if it can."""
    if given["name"] == "grey" and shape[0] == 1:
        return "grey makes inputs of colour images, and these are grey already"
    if given["name"] == "low_resolution" and given["factor"] > shape[1]:
        return f"low_resolution: factor {given['factor']} is more than the {shape[1]} pixels"
    return None


def input_shape(given: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape (C', H, W) of the inputs of images of this shape."""
    return (1, *shape[1:]) if given["name"] in ("edges", "grey") else shape


def make_inputs(images: Images, given: Mapping[str, Any], seed: int) -> Images:
    """Return the inputs of a split.

    Args:
        images: `(N, C, H, W)` uint8.
        given: As `parse_input` returns it.
        seed: Of the noise, if the input has any.

    Returns:
        `(N, C', H, W)` uint8.
    """
    import numpy as np

    arguments = {k: v for k, v in given.items() if k != "name"}
    function, draws = INPUTS[given["name"]].factory, np.random.default_rng(seed)
    made = np.empty((len(images), *input_shape(given, images.shape[1:])), np.uint8)
    for start in range(0, len(images), CHUNK):  # in float64, which all at once would fill memory
        rows = slice(start, start + CHUNK)
        made[rows] = function(images[rows], draws, **arguments)
    return made


def _brightness(images: Images) -> NDArray[np.float64]:
    """The brightness (N, H, W) of grey or colour images, 0..255."""
    import numpy as np

    if images.shape[1] == 1:
        return images[:, 0].astype(np.float64)
    return np.tensordot(images.astype(np.float64), LUMA, axes=(1, 0))


def _levels(values: NDArray[np.float64]) -> Images:
    import numpy as np

    return np.rint(values).clip(0, 255).astype(np.uint8)
