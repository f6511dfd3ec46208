"""Images that another program generated: a folder, an archive or an array.

Nothing is converted silently. Another size is refused unless the user asks for resizing. Colour
counts as grey only if the three channels are equal. Floats must lie in -1..1 or 0..1: a batch
that is stretched by its minimum and maximum is another batch. Images with over 8 bits a channel,
transparency or several frames are refused.
"""

from __future__ import annotations

import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from gan_bench.components.data.arrangement import SUFFIXES, is_image
from gan_bench.components.data.files import TAR, ZIP, check_unpacked, contents, list_files
from gan_bench.components.data.pixels import FORMATS, channel_bits, resize, square
from gan_bench.components.value_range import to_uint8
from gan_bench.errors import UserError, one_line, printable
from gan_bench.evaluation.features.base import evenly

ARRAYS = (".npz", ".npy")
OVERSHOOT = 0.1  # how far below 0 a filter may push images whose range is 0..1
NAMES = ("images", "vectors", "arr_0")  # of arrays in a .npz, the likeliest first
Shape = tuple[int, ...]


@dataclass(frozen=True)
class ExternalSamples:
    """Examples to be measured.

    Attributes:
        samples: (N, C, H, W) uint8, or (N, D) float32.
        quantisation: How they became uint8; None for vectors.
        resized: From which size and how; None if they had the right size.
    """

    samples: Tensor
    quantisation: str | None
    resized: str | None = None


class _Refused(ValueError):
    """Says what is wrong with an image and what to do; the image's name goes before it."""


def read_images(path: Path, shape: Shape, count: int | None, resizing: bool) -> ExternalSamples:
    """Read `count` examples of the shape, evenly spread over all of them; None reads all.

    Args:
        path: A folder, .tar or .zip of image files, in the order of their names; or a .npz or .npy
            of (N, H, W, C), (N, C, H, W) or (N, H, W), or of (N, D) vectors.
        shape: (C, H, W) with H = W, or (D,).
        count: Number of examples, at least 2.
        resizing: Whether other sizes are resampled (the centred square, bilinear) or refused.

    Raises:
        UserError: The path is missing or broken or holds too few examples, or an example has
            another size, number of channels, type or range.
    """
    if path.suffix.lower() in ARRAYS:
        return _from_array(_load(path), path, shape, count, resizing)
    if len(shape) == 1:
        raise UserError(f"{path}: the data set holds vectors: give a .npz with an array of "
                        f"(N, {shape[0]}) floats")
    if not path.is_dir() and not path.name.lower().endswith(TAR + ZIP):
        raise UserError(f"{path}: neither a folder nor one of {', '.join(TAR + ZIP + ARRAYS)}")
    return _from_files(path, shape, count, resizing)


def _from_files(path: Path, shape: Shape, count: int | None, resizing: bool) -> ExternalSamples:
    listing = list_files(path, is_image)
    names = sorted(listing.sizes)
    if not names:
        broken = f"; {listing.describe_broken()}" if listing.broken else ""
        raise UserError(f"{path}: holds no images ({', '.join(SUFFIXES)}){broken}")
    names = [names[i] for i in _spread(len(names), count, path)]
    rows = {name: row for row, name in enumerate(names)}
    images = np.empty((len(names), *shape), np.uint8)
    others: set[tuple[int, int]] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        for name, content in contents(path, rows):
            try:
                image = _decode(content)
                if image.size != (shape[2], shape[1]):
                    others.add(image.size)
                    if not resizing:
                        raise _Refused(_wrong_size(image.height, image.width, shape))
                    image = square(image, shape[1])
                images[rows[name]] = _channels(_array(image)[None], shape[0])[0]
            except _Refused as error:
                raise UserError(f"{path}/{name}: {error}") from None
            except Exception as error:  # PIL's decoders raise many types at broken files
                raise UserError(f"{path}/{name}: cannot be decoded ({one_line(error)}); save it "
                                f"again, or leave it out") from None
    resized = f"bilinear, centred square, from {_listed(others)}" if others else None
    return ExternalSamples(torch.from_numpy(images), "8 bits, as given", resized)


def _decode(content: bytes) -> Image.Image:
    try:
        opened = Image.open(io.BytesIO(content), formats=FORMATS)
    except UnidentifiedImageError:
        raise _Refused("the content has no known image format; save it again, or leave it out"
                       ) from None
    if getattr(opened, "n_frames", 1) > 1:
        raise _Refused("holds several frames; save each as an image of its own")
    if (bits := channel_bits(opened, content)) > 8:
        raise _Refused(f"has {bits} bits a channel; save it as 8-bit grey or RGB")
    image: Image.Image = ImageOps.exif_transpose(opened)
    if "transparency" in image.info:
        raise _Refused("has transparent pixels; save it without transparency")
    if image.mode == "P":
        image = image.convert("RGB")
    if image.mode == "1":
        image = image.convert("L")
    if image.mode not in ("L", "RGB"):
        raise _Refused(f"has Pillow's mode {image.mode}; save it as 8-bit grey or RGB, without "
                       f"transparency")
    return image


def _array(image: Image.Image) -> NDArray[np.uint8]:
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _load(path: Path) -> NDArray[Any]:
    """The array of a .npy; or of a .npz the array with one of NAMES, or the only one."""
    try:
        if path.suffix.lower() == ".npy":
            _check_fits(path, path.stat().st_size)
        loaded = np.load(path)
        if isinstance(loaded, np.ndarray):
            return loaded
        with loaded:
            name = next((name for name in NAMES if name in loaded.files), None)
            if name is None and len(loaded.files) != 1:
                raise UserError(f"{path}: which array? it holds {', '.join(loaded.files) or 'none'}"
                                f"; call the right one `images`")
            name = name or loaded.files[0]
            member = name if name in loaded.zip.namelist() else f"{name}.npy"
            size = loaded.zip.getinfo(member).file_size
            check_unpacked(path, size)
            _check_fits(path, size)
            array = loaded[name]
            if not isinstance(array, np.ndarray):  # numpy returns the bytes of any other file
                raise ValueError(f"its member {name} is not an array")
            return array
    except UserError:
        raise
    except Exception as error:  # numpy and zipfile raise many types at broken files
        raise UserError(f"{path}: cannot be read as an array: {_reason(error)}; save it again, "
                        f"with numpy.save or numpy.savez") from None


def _reason(error: Exception) -> str:
    """Why numpy could not read a file, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = printable(" ".join(str(error).split()))
    if "allow_pickle" in text:  # bad advice for a third-party file
        return "it is not an array of numbers"
    return text or type(error).__name__


def _check_fits(path: Path, size: int) -> None:
    """Refuse an array that does not fit into memory twice: as it is read, and as converted."""
    free = psutil.virtual_memory().available
    if size > free / 2:
        raise UserError(f"{path}: its array has {size / 1e9:,.1f} GB, and there are "
                        f"{free / 1e9:,.1f} GB of memory; give fewer images, or image files")


def _from_array(array: NDArray[Any], path: Path, shape: Shape, count: int | None,
                resizing: bool) -> ExternalSamples:
    try:
        if len(shape) == 1:
            if array.ndim != 2:  # a single number has no length
                raise ValueError(_no_vectors(array, shape))
            return _vectors(array[_spread(len(array), count, path)], shape)
        if array.ndim == 3:
            array = array[:, None]
        if array.ndim != 4 or not {array.shape[1], array.shape[3]} & {1, 3}:
            raise ValueError(f"has the shape {array.shape}; expected (N, H, W, C), (N, C, H, W) or "
                             f"(N, H, W), with 1 or 3 channels")
        if 0 in array.shape[1:]:
            raise ValueError(f"has the shape {array.shape}, without pixels; expected images of "
                             f"{shape[1]}×{shape[2]}")
        if array.shape[1] not in (1, 3):
            array = array.transpose(0, 3, 1, 2)
        array = array[_spread(len(array), count, path)]
        levels, quantisation = _levels(array)
        levels = np.ascontiguousarray(_channels(levels, shape[0]))
        height, width = levels.shape[2:]
        if (height, width) == shape[1:]:
            return ExternalSamples(torch.from_numpy(levels), quantisation)
        if not resizing or height != width:
            raise ValueError(_wrong_size(height, width, shape))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None
    return ExternalSamples(torch.from_numpy(resize(levels, shape[1])), quantisation,
                 f"bilinear, from {height}×{width}")


def _vectors(array: NDArray[Any], shape: Shape) -> ExternalSamples:
    if array.shape[1:] != shape or array.dtype.kind != "f":
        raise ValueError(_no_vectors(array, shape))
    with np.errstate(over="ignore"):
        points = array.astype(np.float32)
    if not np.isfinite(points).all():
        raise ValueError("holds values that are not finite, or too large for float32; check the "
                         "program that wrote them")
    return ExternalSamples(torch.from_numpy(points), None)


def _no_vectors(array: NDArray[Any], shape: Shape) -> str:
    return f"holds {array.dtype} of the shape {array.shape}; expected floats of (N, {shape[0]})"


def _levels(array: NDArray[Any]) -> tuple[NDArray[np.uint8], str]:
    """The array as uint8, and how it became uint8: the range of floats decides."""
    if array.dtype == np.uint8:
        if array.max() == 1:
            raise ValueError("holds only the levels 0 and 1; expected uint8 in 0..255")
        return array, "8 bits, as given"
    expected = "expected uint8 in 0..255, or floats in -1..1 or in 0..1"
    if array.dtype.kind != "f":
        raise ValueError(f"holds {array.dtype}; {expected}")
    # Through text, the shortest that identifies a float32: so 0.1 stays 0.1 in messages.
    low, high = float(str(array.min())), float(str(array.max()))
    if not -1 <= low <= high <= 1:  # NaN fails this too
        raise ValueError(f"holds floats from {low:.12g} to {high:.12g}; {expected}")
    if -OVERSHOOT < low < 0:
        raise ValueError(f"holds floats from {low:.12g} to {high:.12g}: images in 0..1 have no "
                         f"value below 0, and images in -1..1 have darker ones; clip them to "
                         f"0..1, or give uint8")
    floats = torch.from_numpy(array.astype(np.float32))
    if low < 0:
        return to_uint8(floats).numpy(), "uint8(x * 127.5 + 128)"
    return (floats * 255 + 0.5).to(torch.uint8).numpy(), "uint8(x * 255 + 0.5)"


def _channels(images: NDArray[np.uint8], channels: int) -> NDArray[np.uint8]:
    """The images (N, c, H, W) with the data set's number of channels, if that loses nothing."""
    if images.shape[1] == channels:
        return images
    if channels == 1 and (images == images[:, :1]).all():
        return images[:, :1]
    kinds = {1: "grey", 3: "colour"}
    raise _Refused(f"is {kinds[images.shape[1]]}, and the data set's images are "
                   f"{kinds[channels]}; convert the images, or name another --dataset")


def _wrong_size(height: int, width: int, shape: Shape) -> str:
    of_its_size = f"compare with a data set of that size (--image-size {height}), or "
    return (f"is {height}×{width} pixels, and the data set's images are {shape[1]}×{shape[2]}; "
            f"{(height == width) * of_its_size}give --resize")


def _spread(total: int, count: int | None, path: Path) -> list[int]:
    """Which of `total` examples to take: the first ones may all be of the same class."""
    if total < 2:
        raise UserError(f"{path}: holds {total} example{'s' * (total != 1)}, and scores need 2 at "
                        f"least; give more")
    count = total if count is None else count
    if total < count:
        raise UserError(f"{path}: holds {total:,} examples, and --samples asks for {count:,}; give "
                        f"more, or a smaller --samples")
    return evenly(total, count)


def _listed(sizes: set[tuple[int, int]]) -> str:
    texts = sorted(f"{height}×{width}" for width, height in sizes)
    return ", ".join(texts[:3]) + (", …" if len(texts) > 3 else "")
