"""scikit-learn's handwritten digits: real data that needs no download."""

from __future__ import annotations

from pathlib import Path

from gan_bench.components.data.arrays import Arrays, Few, ImageSize, hold_out, of_few
from gan_bench.data_facts import DataFacts
from gan_bench.errors import Say
from gan_bench.registry import DATASETS, DatasetFacts

HELD_OUT = 5  # every fifth example


def describe_digits(data_root: Path, *, image_size: int, train: int | None) -> DataFacts:
    """Return the facts, which are constants; the digest is that of the pixels and labels."""
    facts = DataFacts(shape=(1, image_size, image_size), classes=10, train=1438, test=359,
                      digest="0b7e9c3202d7bcd2", gate=0.95)
    return of_few(facts, train)


@DATASETS.register("digits", DatasetFacts(describe=describe_digits))
def digits(data_root: Path, say: Say, *, image_size: ImageSize = 8,
           train: Few = None) -> Arrays:
    """scikit-learn's 1,797 handwritten digits, grey, 8 pixels; no download.

    The test part of UCI's "Optical Recognition of Handwritten Digits" (Alpaydin and Kaynak 1998).
    Each pixel counts the ink in a block of 4 by 4, 0..16, stretched here to 0..255. It has no
    published split: every fifth digit is held out.
    """
    import numpy as np
    from sklearn.datasets import load_digits

    from gan_bench.components.data.pixels import resize

    counts, labels = load_digits(return_X_y=True)
    native = np.rint(counts * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    return hold_out(resize(native, image_size), labels.astype(np.int64), HELD_OUT)
