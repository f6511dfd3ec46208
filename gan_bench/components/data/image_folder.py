"""The user's own images: a folder, or an archive that is read without being extracted."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gan_bench.components.data.arrays import Arrays, ArraySplit, ImageSize
from gan_bench.components.data.files import contents, sizes
from gan_bench.data_facts import DataFacts
from gan_bench.errors import Say, UserError
from gan_bench.registry import DATASETS, DatasetFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
HELD_OUT = 10  # every tenth, if there are no train/ and test/


@dataclass(frozen=True)
class Arrangement:
    """The splits and classes of the images.

    Attributes:
        train: Names of the training images, sorted.
        test: Names of the held-out images, sorted.
        labels: The class of each image; empty without class folders.
        classes: Names of the classes, sorted.
        digest: A hash of the names (without the folders that all images share) and sizes of the
            images: the same for a folder and an archive of it.
    """

    train: list[str]
    test: list[str]
    labels: Mapping[str, int]
    classes: list[str]
    digest: str


def is_image(name: str) -> bool:
    """Whether a file counts as an image: by its suffix, unless it is hidden or macOS metadata."""
    hidden = any(p == "__MACOSX" or (p.startswith(".") and p != ".") for p in name.split("/"))
    return name.lower().endswith(SUFFIXES) and not hidden


def arrange(sizes_by_name: Mapping[str, int], path: Path) -> Arrangement:
    """Sort images into splits and classes by their names.

    Args:
        sizes_by_name: As `files.sizes` returns them.
        path: The folder or archive, for messages.

    Raises:
        UserError: There are no images, or too few to hold any out.
    """
    images = sorted(name for name in sizes_by_name if is_image(name))
    if not images:
        raise UserError(f"{path}: holds no images ({', '.join(SUFFIXES)}) among its "
                        f"{len(sizes_by_name):,} files")
    # A folder that holds everything, as in many archives, is neither a split nor a class.
    whole = {name: [part for part in name.split("/") if part not in ("", ".")] for name in images}
    parents = [parts[:-1] for parts in whole.values()]
    ends = zip(min(parents), max(parents), strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ends))
    parts = {name: whole[name][shared:] for name in images}
    tops = {inner[0].lower() for inner in parts.values() if len(inner) > 1}
    if {"train", "test"} <= tops:
        train = [name for name in images if parts[name][0].lower() == "train"]
        test = [name for name in images if parts[name][0].lower() == "test"]
        folders = {name: parts[name][1:-1] for name in train + test}
    elif len(images) >= HELD_OUT:
        train = [name for i, name in enumerate(images) if i % HELD_OUT != HELD_OUT - 1]
        test = images[HELD_OUT - 1 :: HELD_OUT]
        folders = {name: parts[name][:-1] for name in images}
    else:
        raise UserError(f"{path}: too few images ({len(images)}) to hold out every tenth; add "
                        "images, or sort them into train/ and test/")
    classes, labels = [], {}
    if all(len(folder) == 1 for folder in folders.values()):
        classes = sorted({folder[0] for folder in folders.values()})
        index = {name: i for i, name in enumerate(classes)}
        labels = {name: index[folder[0]] for name, folder in folders.items()}
    lines = (f"{'/'.join(parts[name])}\0{sizes_by_name[name]}\n" for name in sorted(train + test))
    digest = hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]
    return Arrangement(train, test, labels, classes, digest)


def describe_image_folder(data_root: Path, *, path: str, image_size: int,
                          channels: int) -> DataFacts:
    """Return the facts, from the list of names and sizes alone.

    So an image that replaces another of exactly the same size stays unnoticed: give the new image
    another name.

    Raises:
        UserError: The folder or archive is missing, broken, or has too few images.
    """
    source = _resolve(data_root, path)
    arrangement = arrange(sizes(source), source)
    return DataFacts(
        shape=(channels, image_size, image_size), classes=len(arrangement.classes),
        train=len(arrangement.train), test=len(arrangement.test), digest=arrangement.digest,
        gate=0.5 if arrangement.classes else 0.0)


@DATASETS.register("image_folder", DatasetFacts(describe=describe_image_folder))
def image_folder(
    data_root: Path, say: Say, *,
    path: Annotated[str, Field(min_length=1, description="relative to the data root, or absolute")],
    image_size: ImageSize, channels: Literal[1, 3] = 3,
) -> Arrays:
    """The images of a folder, .tar, .tar.gz or .zip, centre-cropped and resized.

    `train/` and `test/` at the top are the splits; without them every tenth image, by name, is
    held out. If every image lies in a folder of its class, there are labels.
    """
    source = _resolve(data_root, path)
    sizes_by_name = sizes(source)
    arrangement = arrange(sizes_by_name, source)
    train, test = len(arrangement.train), len(arrangement.test)
    labelled = f"{len(arrangement.classes)} classes" if arrangement.classes else "no labels"
    ignored = len(sizes_by_name) - train - test
    say(f"decoding {train:,} + {test:,} images of {source}, {labelled}; "
        f"{ignored:,} other files ignored")
    images = _decode(source, arrangement.train + arrangement.test, channels, image_size)
    return Arrays(ArraySplit(images[:train], _labels(arrangement, arrangement.train)),
                  ArraySplit(images[train:], _labels(arrangement, arrangement.test)))


def _resolve(data_root: Path, path: str) -> Path:
    try:
        return data_root / Path(path).expanduser()
    except RuntimeError as error:  # `~user` without such a user
        raise UserError(f"{path:.400}: {error}") from None


def _labels(arrangement: Arrangement, names: list[str]) -> NDArray[np.int64] | None:
    import numpy as np

    if not arrangement.classes:
        return None
    return np.array([arrangement.labels[name] for name in names], np.int64)


def _decode(
    source: Path, names: list[str], channels: Literal[1, 3], size: int
) -> NDArray[np.uint8]:
    """Return the images in the order of `names`."""
    import numpy as np
    from PIL import Image

    from gan_bench.components.data.pixels import decode

    images = np.empty((len(names), channels, size, size), np.uint8)
    rows = {name: row for row, name in enumerate(names)}
    missing = set(names)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for name, data in contents(source, rows):
            try:
                images[rows[name]] = decode(data, channels, size)
            except Exception as error:  # PIL's decoders raise many types at broken files
                place = os.fspath(source / name) if source.is_dir() else f"{source}, member {name}"
                raise UserError(f"{place}: cannot be read as an image: "
                                f"{error or type(error).__name__}") from error
            missing.discard(name)
    if missing:
        raise UserError(f"{source}: {min(missing)} has vanished since it was listed; run again")
    return images
