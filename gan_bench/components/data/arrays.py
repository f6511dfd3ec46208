"""The result of a decoder, and the types that all decoders share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ImageSize = Annotated[int, Field(ge=8, le=256, description="height and width in pixels")]


@dataclass(frozen=True)
class ArraySplit:
    """One split of a data set, in memory.

    Attributes:
        images: `(N, C, H, W)` uint8, or `(N, D)` float32.
        labels: `(N,)` int64, or None.
        inputs: `(N, C, H, W)` uint8, the image that each example is to be made from; None without
            pairs.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64] | None
    inputs: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class Arrays:
    """Both splits of a decoded data set."""

    train: ArraySplit
    test: ArraySplit


def hold_out(images: NDArray[Any], labels: NDArray[np.int64], every: int) -> Arrays:
    """Use the last of each `every` examples, in their order, as the test split."""
    import numpy as np

    held = np.arange(len(images)) % every == every - 1
    return Arrays(ArraySplit(images[~held], labels[~held]), ArraySplit(images[held], labels[held]))
