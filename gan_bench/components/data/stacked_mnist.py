"""Stacked MNIST: three digits as the channels of an image, 1000 countable modes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.components.data.arrays import Arrays, ArraySplit, ImageSize
from gan_bench.components.data.mnist import MNIST, SIZE, TEST, TRAIN, describe_mnist, mnist
from gan_bench.data_facts import DataFacts
from gan_bench.errors import Say
from gan_bench.registry import DATASETS, DatasetFacts
from gan_bench.rng import derive

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from gan_bench.components.data.decoded import Dataset, Split


def describe_stacked_mnist(data_root: Path, *, image_size: int) -> DataFacts:
    """Return the facts, which are constants; the gate is that of MNIST's classifier."""
    return DataFacts(shape=(3, image_size, image_size), classes=1000, train=TRAIN, test=TEST,
                     digest=f"stacked-1-{MNIST.digest}", gate=MNIST.gate)


def first_channel(data: Dataset) -> Dataset:
    """Return MNIST from the stack: the first channel holds all of it, in its order.

    It has MNIST's fingerprint, so that both data sets share a classifier.
    """
    from gan_bench.components.data.decoded import Dataset, Split, fingerprint

    def grey(split: Split) -> Split:
        assert split.labels is not None
        return Split(split.images[:, :1].contiguous(), split.labels // 100)

    def arrays(split: Split) -> ArraySplit:
        assert split.labels is not None
        return ArraySplit(split.images.cpu().numpy(), split.labels.cpu().numpy())

    train, test = grey(data.train), grey(data.test)
    facts = describe_mnist(MNIST, Path(), image_size=data.facts.shape[-1])
    return Dataset("mnist", facts, train, test,
                   fingerprint(Arrays(arrays(train), arrays(test))))


@DATASETS.register("stacked_mnist", DatasetFacts(describe=describe_stacked_mnist,
                                                   channel=first_channel))
def stacked_mnist(data_root: Path, say: Say, *, image_size: ImageSize = SIZE) -> Arrays:
    """Three MNIST digits as red, green and blue: 70,000 images, 1000 modes (Metz et al. 2017).

    The label is the number of the three digits, red first: 0..999. Published versions draw triples
    of digits at random. Here each channel is a permutation of MNIST (red: the identity), the same
    for every run. So there are as many images as in MNIST, every digit occurs once per channel, no
    test digit is in the training split, and each mode has 60 training images on average.
    """
    digits = mnist(data_root, say, image_size=image_size)
    return Arrays(_stack(digits.train, "train"), _stack(digits.test, "test"))


def _stack(digits: ArraySplit, name: str) -> ArraySplit:
    import numpy as np

    def shuffled(channel: str) -> NDArray[np.intp]:
        draws = np.random.default_rng(derive(0, f"stacked_mnist/{name}/{channel}"))
        return draws.permutation(len(digits.images))

    assert digits.labels is not None
    orders = [np.arange(len(digits.images)), shuffled("green"), shuffled("blue")]
    images = np.concatenate([digits.images[order] for order in orders], axis=1)
    red, green, blue = (digits.labels[order] for order in orders)
    return ArraySplit(images, 100 * red + 10 * green + blue)
