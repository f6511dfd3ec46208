"""CIFAR-10 from the pickled batches of its authors, in torchvision's layout."""

from __future__ import annotations

import io
import pickle
import tarfile
from functools import partial
from pathlib import Path
from typing import Any

from gan_bench.components.data.arrays import Arrays, ArraySplit, Few, ImageSize, of_few
from gan_bench.components.data.download import fetch, verified
from gan_bench.data_facts import DataFacts
from gan_bench.errors import Say
from gan_bench.registry import DATASETS, DatasetFacts

SIZE = 32
HARMLESS = {("numpy", "ndarray"), ("numpy", "dtype"), ("numpy.core.multiarray", "_reconstruct"),
            ("numpy._core.multiarray", "_reconstruct"), ("_codecs", "encode")}
MD5 = "c58f30108f718f92721af3b95e74349a"  # of cifar-10-python.tar.gz, published by its authors


def describe(data_root: Path, *, image_size: int, train: int | None) -> DataFacts:
    """Return the facts, which are constants."""
    facts = DataFacts(shape=(3, image_size, image_size), classes=10, train=50_000, test=10_000,
                      digest=MD5, gate=0.55)
    return of_few(facts, train)


@DATASETS.register("cifar10", DatasetFacts(describe=describe))
def cifar10(data_root: Path, say: Say, *, image_size: ImageSize = SIZE,
            train: Few = None) -> Arrays:
    """CIFAR-10: 60,000 photographs in 10 classes, colour, 32 pixels (Krizhevsky 2009)."""
    from torchvision.datasets import CIFAR10

    folder, archive = data_root / CIFAR10.base_folder, data_root / CIFAR10.filename
    of_train, of_test = dict(CIFAR10.train_list), dict(CIFAR10.test_list)

    def unpacked() -> bool:
        return all((folder / name).exists() for name in {**of_train, **of_test})

    if not unpacked() and not archive.exists():
        fetch(partial(CIFAR10, download=True), f"CIFAR-10 from {CIFAR10.url}",
              f"place {archive.name} in {data_root}, or name another data root", data_root, say)
    if unpacked():
        md5s = {**of_train, **of_test}
        batches = {name: verified(folder / name, md5=md5) for name, md5 in md5s.items()}
    else:
        batches = _unpack(verified(archive, md5=CIFAR10.tgz_md5), CIFAR10.base_folder)
    return Arrays(_split([batches[name] for name in of_train], image_size),
                  _split([batches[name] for name in of_test], image_size))


class _Arrays(pickle.Unpickler):
    """Accepts only arrays, text and numbers: any other pickle can run code."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the function or class that a pickled array names."""
        if (module, name) not in HARMLESS:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of an array")
        return super().find_class(module, name)


def _unpack(archive: bytes, folder: str) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = [m for m in tar if m.isfile() and m.name.startswith(folder)]
        return {Path(m.name).name: tar.extractfile(m).read() for m in members}  # type: ignore[union-attr]


def _split(batches: list[bytes], image_size: int) -> ArraySplit:
    import numpy as np

    from gan_bench.components.data.pixels import resize

    loaded: list[dict[str, Any]] = [
        _Arrays(io.BytesIO(batch), encoding="latin1").load() for batch in batches]
    images = np.concatenate([batch["data"] for batch in loaded]).reshape(-1, 3, SIZE, SIZE)
    labels = np.concatenate([np.asarray(batch["labels"], np.int64) for batch in loaded])
    return ArraySplit(resize(images, image_size), labels)
