"""MNIST and two data sets in its format: IDX files, in torchvision's layout."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.components.data.arrays import Arrays, ArraySplit, Few, ImageSize, of_few
from gan_bench.components.data.download import fetch, verified
from gan_bench.data_facts import DataFacts
from gan_bench.errors import Say, UserError
from gan_bench.registry import DATASETS, DatasetFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIZE, TRAIN, TEST = 28, 60_000, 10_000


@dataclass(frozen=True)
class IdxSource:
    """A set of four IDX files.

    Attributes:
        kind: The class in `torchvision.datasets`, and the name of the folder.
        digest: Published md5 of `train-images-idx3-ubyte.gz`.
        gate: See `DataFacts`.
        raw_md5: md5 of the unpacked files, where they are published.
    """

    kind: str
    digest: str
    gate: float
    raw_md5: Mapping[str, str] = field(default_factory=dict)


MNIST = IdxSource("MNIST", "f68b3c2dcbeaaa9fbdd348bbdeb94873", 0.98, {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
})
FASHION_MNIST = IdxSource("FashionMNIST", "8d4fb7e6c68d591d4c3dfef9ec88bf0d", 0.85)
KMNIST = IdxSource("KMNIST", "bdb82020997e1d708af4cf47b453dcf7", 0.88)


def describe_mnist(source: IdxSource, data_root: Path, *, image_size: int,
                   train: int | None = None) -> DataFacts:
    """Return the facts, which are constants."""
    facts = DataFacts(shape=(1, image_size, image_size), classes=10, train=TRAIN, test=TEST,
                      digest=source.digest, gate=source.gate)
    return of_few(facts, train)


@DATASETS.register("mnist", DatasetFacts(describe=partial(describe_mnist, MNIST)))
def mnist(data_root: Path, say: Say, *, image_size: ImageSize = SIZE,
          train: Few = None) -> Arrays:
    """MNIST: 70,000 handwritten digits, grey, 28 pixels (LeCun et al. 1998)."""
    return _decode(MNIST, data_root, say, image_size)


@DATASETS.register("fashion_mnist", DatasetFacts(describe=partial(describe_mnist, FASHION_MNIST)))
def fashion_mnist(data_root: Path, say: Say, *, image_size: ImageSize = SIZE,
                  train: Few = None) -> Arrays:
    """Fashion-MNIST: 70,000 articles of clothing, grey, 28 pixels (Xiao et al. 2017)."""
    return _decode(FASHION_MNIST, data_root, say, image_size)


@DATASETS.register("kmnist", DatasetFacts(describe=partial(describe_mnist, KMNIST)))
def kmnist(data_root: Path, say: Say, *, image_size: ImageSize = SIZE,
           train: Few = None) -> Arrays:
    """Kuzushiji-MNIST: 70,000 cursive characters, grey, 28 pixels (Clanuwat et al. 2018)."""
    return _decode(KMNIST, data_root, say, image_size)


def _decode(source: IdxSource, data_root: Path, say: Say, image_size: int) -> Arrays:
    import torchvision.datasets

    from gan_bench.components.data.pixels import resize

    kind = getattr(torchvision.datasets, source.kind)
    folder = data_root / source.kind / "raw"
    archives = dict(kind.resources)
    if not all((folder / a).exists() or (folder / a).with_suffix("").exists() for a in archives):
        fetch(partial(kind, download=True), f"{source.kind} from {' or '.join(kind.mirrors)}",
              f"place {', '.join(archives)} in {folder}, or name another data root", data_root, say)

    def read(stem: str, *shape: int) -> NDArray[np.uint8]:
        return _read(folder / stem, shape, archives[f"{stem}.gz"], source.raw_md5.get(stem))

    def split(prefix: str, count: int) -> ArraySplit:
        images = read(f"{prefix}-images-idx3-ubyte", count, SIZE, SIZE)
        labels = read(f"{prefix}-labels-idx1-ubyte", count)
        return ArraySplit(resize(images[:, None], image_size), labels.astype("int64"))

    return Arrays(split("train", TRAIN), split("t10k", TEST))


def _read(
    path: Path, shape: tuple[int, ...], packed_md5: str, raw_md5: str | None
) -> NDArray[np.uint8]:
    """Read an IDX file of bytes (format: http://yann.lecun.com/exdb/mnist, foot of the page).

    The packed file is preferred if both exist: its md5 is published for every set, and an
    interrupted unpacking may have truncated the other.
    """
    import numpy as np

    header = struct.pack(f">BBBB{len(shape)}I", 0, 0, 8, len(shape), *shape)
    size = len(header) + math.prod(shape)
    packed = path.with_name(f"{path.name}.gz")
    if packed.exists():
        path = packed
        try:
            data = gzip.decompress(verified(packed, md5=packed_md5))
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{packed}: cannot be unpacked: {error}") from error
    else:
        data = verified(path, md5=raw_md5, size=size)
    if len(data) != size or not data.startswith(header):
        expected = " by ".join(map(str, shape))
        raise UserError(f"{path}: is not an IDX file of {expected} bytes; delete it and run "
                        "again, which downloads it, or put a good copy in its place")
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(shape)
