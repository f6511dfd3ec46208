"""The result of a decoder, and the types that all decoders share."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from gan_bench.data_facts import DataFacts
from gan_bench.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ImageSize = Annotated[int, Field(ge=8, le=256, description="height and width in pixels")]

Few = Annotated[int, Field(
    ge=2, description="number of training examples that networks are trained with, the same in all "
    "runs; extractors, and what generated images are compared with, keep all; null: all")] | None


def of_few(facts: DataFacts, train: int | None) -> DataFacts:
    """Return the facts of a data set whose networks are trained with a part of it.

    Args:
        facts: Those of the whole.
        train: The data set's argument of this name, a `Few`.

    Raises:
        UserError: There are not so many training examples.
    """
    if train is None:
        return facts
    if train > facts.train:
        raise UserError(f"train: {train:,} is more than the {facts.train:,} training examples")
    return replace(facts, train=train, whole=facts.train)


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
