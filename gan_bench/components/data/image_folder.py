"""The user's own images: a folder, or an archive that is read without being extracted."""

from __future__ import annotations

import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from gan_bench.components.data.arrangement import Arrangement, arrange, is_image
from gan_bench.components.data.arrays import Arrays, ArraySplit, Few, ImageSize, of_few
from gan_bench.components.data.files import contents, list_files
from gan_bench.data_facts import DataFacts, gate_over
from gan_bench.errors import Say, UserError
from gan_bench.registry import DATASETS, DatasetFacts

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def describe_image_folder(data_root: Path, *, path: str, image_size: int,
                          channels: int, train: int | None = None) -> DataFacts:
    """Return the facts, from the list of names and sizes alone.

    So an image that replaces another of exactly the same size stays unnoticed: give the new image
    another name.

    Raises:
        UserError: The folder or archive is missing, broken, or has too few images.
    """
    _, arrangement = _find(data_root, path)
    test = len(arrangement.test)
    facts = DataFacts(
        shape=(channels, image_size, image_size), classes=len(arrangement.classes),
        train=len(arrangement.train), test=test, digest=arrangement.digest,
        gate=gate_over(arrangement.test_shares, test) if arrangement.classes else 0.0,
        notes=arrangement.notes())
    return of_few(facts, train)


@DATASETS.register("image_folder", DatasetFacts(describe=describe_image_folder))
def image_folder(
    data_root: Path, say: Say, *,
    path: Annotated[str, Field(min_length=1, description="relative to the data folder "
                               "(--data-root), or absolute")],
    image_size: ImageSize, channels: Literal[1, 3] = 3, train: Few = None,
) -> Arrays:
    """The images of a folder, .tar, .tar.gz or .zip, centre-cropped and resized.

    `train/` and `test/` (or `val/`) at the top are the splits; without them every tenth image, by
    name, is held out. If every image lies in a folder of its class, there are labels.
    """
    source, arrangement = _find(data_root, path)
    count, held_out = len(arrangement.train), len(arrangement.test)
    which = f": {arrangement.left_out}" if arrangement.left_out else ""
    say(f"decoding {count:,} + {held_out:,} images of {source}, {arrangement.describe_labels()}; "
        f"{arrangement.ignored:,} other files ignored{which}")
    images = _decode(source, arrangement.train + arrangement.test, channels, image_size, say)
    return Arrays(ArraySplit(images[:count], _labels(arrangement, arrangement.train)),
                  ArraySplit(images[count:], _labels(arrangement, arrangement.test)))


def _find(data_root: Path, path: str) -> tuple[Path, Arrangement]:
    """The folder or archive, and its images."""
    try:
        given = Path(path).expanduser()
    except RuntimeError as error:  # `~user` without such a user
        raise UserError(f"{path:.400}: {error}") from None
    source = data_root / given
    return source, arrange(list_files(source, is_image, _where(data_root, given)), source)


def _where(data_root: Path, given: Path) -> str:
    """What follows the message that nothing lies at a path: where it was looked up, and why."""
    if given.is_absolute():
        return ""
    hint = (f"; a relative path is looked up in the data folder, {data_root.absolute()} "
            "(--data-root), not beside the YAML file")
    with suppress(OSError, ValueError):  # a name that is too long, or has a NUL in it
        if given.exists():
            return f"{hint}; the working folder has one: give --data-root . or its absolute path"
    return f"{hint}; put the images there, or give another --data-root or an absolute path"


def _labels(arrangement: Arrangement, names: list[str]) -> NDArray[np.int64] | None:
    import numpy as np

    if not arrangement.classes:
        return None
    return np.array([arrangement.labels[name] for name in names], np.int64)


def _decode(
    source: Path, names: list[str], channels: Literal[1, 3], size: int, say: Say
) -> NDArray[np.uint8]:
    """Return the images in the order of `names`; say what is not used of them."""
    import numpy as np
    from PIL import Image

    from gan_bench.components.data.pixels import decode

    images = np.empty((len(names), channels, size, size), np.uint8)
    rows = {name: row for row, name in enumerate(names)}
    missing = set(names)
    transparent, animated = list[str](), list[str]()
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for name, data in contents(source, rows):
            try:
                image = decode(data, channels, size)
            except Exception as error:  # PIL's decoders raise many types at broken files
                place = os.fspath(source / name) if source.is_dir() else f"{source}, member {name}"
                raise UserError(f"{place}: cannot be read as an image: "
                                f"{error or type(error).__name__}") from error
            images[rows[name]] = image.pixels
            transparent += [name] * image.is_transparent
            animated += [name] * image.has_frames
            missing.discard(name)
    if missing:
        raise UserError(f"{source}: {min(missing)} has vanished since it was listed; run again")
    for some, what in ((transparent, "transparent pixels: the colours below them count"),
                       (animated, "several frames: the first counts")):
        if some:
            has = "images have" if len(some) > 1 else "image has"
            say(f"{source}: {len(some):,} {has} {what} ({min(some):.200}"
                f"{' first' if len(some) > 1 else ''})")
    return images
