"""Decodes images to uint8 arrays of one size: the only module that resamples.

The filter is PIL's bilinear, which antialiases when it shrinks. torchvision's `Resize` of PIL
images uses it too, and so do the published MNIST-GAN scripts. "Bilinear" in other libraries aliases
when it shrinks, which moves FID by more than many published improvements (Parmar et al. 2022, "On
Aliased Resizing", section 3). An image that has the right size is never resampled.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

# The formats of image files; with others allowed, Pillow would start Ghostscript for PostScript.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")
ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")  # modes
BITS_PER_SAMPLE = 258  # TIFF's tag
PPM_HEADER = re.compile(rb"P[2356](?:[\s\d]|#[^\r\n]*)*")
PPM_COMMENT = re.compile(rb"#[^\r\n]*[\r\n]?")


def square(image: Image.Image, size: int) -> Image.Image:
    """Return the largest centred square of `image`, resampled to `size` pixels a side."""
    from PIL import Image

    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if image.size != (side, side):
        image = image.crop((left, top, left + side, top + side))
    if side == size:
        return image
    return image.resize((size, size), Image.Resampling.BILINEAR)


def resize(images: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resample a whole set.

    Args:
        images: `(N, C, H, W)` uint8 with H = W and C of 1 or 3.
        size: Pixels a side of the result.

    Returns:
        `(N, C, size, size)` uint8; `images` itself when it has that size.
    """
    import numpy as np
    from PIL import Image

    count, channels, height, _ = images.shape
    if height == size:
        return images
    resized = np.empty((count, channels, size, size), np.uint8)
    for source, target in zip(images, resized, strict=True):
        pixels = source[0] if channels == 1 else np.ascontiguousarray(source.transpose(1, 2, 0))
        target[:] = _channels_first(square(Image.fromarray(pixels), size))
    return resized


@dataclass(frozen=True)
class Decoded:
    """An image file as an array, and what the array lacks of it.

    Attributes:
        pixels: `(channels, size, size)` uint8.
        is_transparent: Whether a pixel was transparent: the colour below it counts.
        has_frames: Whether there are several frames: the first counts.
    """

    pixels: NDArray[np.uint8]
    is_transparent: bool
    has_frames: bool


def decode(data: bytes, channels: Literal[1, 3], size: int) -> Decoded:
    """Decode one image file: upright, centre-cropped to a square, resampled.

    The image is turned by the camera's orientation tag. Colour becomes grey by ITU-R 601, and
    transparency is dropped, both as in `PIL.Image.convert`. Only the first frame of an animation
    counts.

    Raises:
        ValueError: It is not an image, or has more than 8 bits a channel, which the user must
            reduce.
        Exception: PIL raises many types at broken files.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError("the content has no known image format") from None
    with opened:
        bits = channel_bits(opened, data)
        image: Image.Image = ImageOps.exif_transpose(opened)
        if bits > 8:
            raise ValueError(f"more than 8 bits a channel ({bits}, Pillow's mode {image.mode}); "
                             "convert it to 8")
        plain = image.convert("L" if channels == 1 else "RGB")
        return Decoded(_channels_first(square(plain, size)), _is_transparent(image),
                       _has_frames(opened))


def _is_transparent(image: Image.Image) -> bool:
    """Whether a pixel is transparent; an alpha channel alone does not make it so."""
    if image.mode not in ALPHA and "transparency" not in image.info:
        return False
    opaque = image.convert("RGBA").getchannel("A").histogram()[255]
    return opaque < image.width * image.height


def _has_frames(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # of a file that is broken behind its first frame, which is sound
        return True


def channel_bits(image: Image.Image, data: bytes) -> int:
    """Return how many bits a channel has in the file; at most 8 counts as 8.

    The mode does not tell it: of colour, Pillow keeps the upper 8 bits and drops the others.

    Args:
        image: As Pillow opened it, of a format in `FORMATS`.
        data: The content of the file.
    """
    bits = 0
    match image.format:
        case "PNG":
            bits = data[24]  # after the signature: length and name of the header, width, height
        case "TIFF":
            bits = max(image.tag_v2.get(BITS_PER_SAMPLE, (1,)))  # type: ignore[attr-defined]
        case "PPM":
            bits = _ppm_maximum(data).bit_length()
    if image.mode.startswith(("I", "F")):
        return bits if bits > 8 else 32
    return max(bits, 8)


def _ppm_maximum(data: bytes) -> int:
    """The level of white in a PPM or PGM; 0 in bitmaps and floats, whose headers have none."""
    header = PPM_HEADER.match(data)
    fields = PPM_COMMENT.sub(b"", header[0]).split() if header else []
    return int(fields[3]) if len(fields) > 3 else 0


def _channels_first(image: Image.Image) -> NDArray[Any]:
    import numpy as np

    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
