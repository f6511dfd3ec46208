"""What is known of a data set before it is read: enough to check a plan, without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class DataFacts:
    """Shape and size of a data set.

    Attributes:
        shape: `(C, H, W)` of uint8 images with H = W, or `(D,)` of float32 vectors.
        classes: Number of classes; 0 where there are no labels.
        train: Number of training examples.
        test: Number of held-out examples.
        digest: Changes whenever the content may have changed (published checksums for a public
            data set, names and sizes of the files for a folder). Part of a run's id.
        gate: The test accuracy that the embedded classifier must reach on this data to be used as
            a feature extractor; 0..1, unused without labels.
    """

    shape: tuple[int, ...]
    classes: int
    train: int
    test: int
    digest: str
    gate: float = 0.0

    @property
    def is_image(self) -> bool:
        """Whether the examples are images (and not vectors)."""
        return len(self.shape) == 3
