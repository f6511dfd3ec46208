"""The facts of a data set before it is read: enough to check a plan, without torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from pydantic import Field


@dataclass(frozen=True)
class DataFacts:
    """Shape and size of a data set.

    Attributes:
        shape: `(C, H, W)` of uint8 images with H = W, or `(D,)` of float32 vectors.
        classes: Number of classes; 0 without labels.
        train: Number of training examples.
        test: Number of held-out examples.
        digest: Changes if the content may have changed (published checksums for a public data set,
            names and sizes of the files for a folder). It is part of a run's id.
        gate: The test accuracy that the embedded classifier must reach on this data to serve as a
            feature extractor; 0..1, unused without labels.
        notes: What a plan says of the data besides, in lines; no part of a run.
    """

    shape: tuple[int, ...]
    classes: int
    train: int
    test: int
    digest: str
    gate: float = 0.0
    notes: Annotated[tuple[str, ...], Field(exclude=True)] = field(default=(), compare=False)

    @property
    def is_image(self) -> bool:
        """Whether the examples are images (and not vectors)."""
        return len(self.shape) == 3
