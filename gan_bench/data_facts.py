"""The facts of a data set before it is read: enough to check a plan, without torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True)
class DataFacts:
    """Shape and size of a data set.

    Attributes:
        shape: `(C, H, W)` of uint8 images with H = W, or `(D,)` of float32 vectors.
        classes: Number of classes; 0 without labels.
        train: Number of training examples that networks are trained with.
        test: Number of held-out examples.
        digest: Changes if the content may have changed (published checksums for a public data set,
            names and sizes of the files for a folder). It is part of a run's id.
        gate: The test accuracy that the embedded classifier must reach on this data to serve as a
            feature extractor; 0..1, unused without labels. Where no number is known for the data,
            `gate_over` gives one.
        whole: Number of all training examples, if `train` is fewer; None otherwise.
        input: `(C, H, W)` of the uint8 image that each example is paired with, which a generator
            makes the example from; empty without pairs.
        notes: What a plan says of the data besides, in lines; no part of a run.
    """

    shape: tuple[int, ...]
    classes: int
    train: int
    test: int
    digest: str
    gate: float = 0.0
    whole: int | None = None
    input: tuple[int, ...] = ()
    notes: Annotated[tuple[str, ...], Field(exclude=True)] = field(default=(), compare=False)

    @property
    def is_image(self) -> bool:
        """Whether the examples are images (and not vectors)."""
        return len(self.shape) == 3


def gate_over(shares: Sequence[float], held_out: int) -> float:
    """Return the test accuracy from which a classifier of such classes has learned something.

    It is the root of the largest class's share: of the log-likelihood that naming this class alone
    leaves, half is gone (.707 for 2 equal classes, .316 for 10, .032 for 1000, .975 for 95:5). On
    few images it lies 3 standard errors above that share, and never above 1.

    Args:
        shares: The share of each class among the held-out images.
        held_out: Their number.
    """
    largest = max(shares)
    chance = largest + 3 * math.sqrt(largest * (1 - largest) / held_out)
    return round(min(max(math.sqrt(largest), chance), 1.0), 3)
