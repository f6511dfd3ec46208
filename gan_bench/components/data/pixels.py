"""Decodes images to uint8 arrays of one size: the only module that resamples.

The filter is PIL's bilinear, which antialiases when it shrinks. torchvision's `Resize` of PIL
images uses it too, and so do the published MNIST-GAN scripts. "Bilinear" in other libraries aliases
when it shrinks, which moves FID by more than many published improvements (Parmar et al. 2022, "On
Aliased Resizing", section 3). An image that has the right size is never resampled.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

# The formats of image files; with others allowed, Pillow would start Ghostscript for PostScript.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")


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


def decode(data: bytes, channels: Literal[1, 3], size: int) -> NDArray[np.uint8]:
    """Decode one image file: upright, centre-cropped to a square, resampled.

    The image is turned by the camera's orientation tag. Colour becomes grey by ITU-R 601, and
    transparency is dropped, both as in `PIL.Image.convert`. Only the first frame of an animation
    counts.

    Returns:
        `(channels, size, size)` uint8.

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
        image: Image.Image = ImageOps.exif_transpose(opened)
        if image.mode.startswith(("I", "F")) or is_deep(data):
            raise ValueError(f"more than 8 bits a channel (mode {image.mode}); convert it to 8")
        return _channels_first(square(image.convert("L" if channels == 1 else "RGB"), size))


def is_deep(data: bytes) -> bool:
    """Whether an encoded image is a PNG of 16 bits a channel: Pillow reads colour ones as 8."""
    depth = data[24:25]  # after the signature: length and name of the header, width, height
    return data.startswith(b"\x89PNG\r\n\x1a\n") and depth == b"\x10"


def _channels_first(image: Image.Image) -> NDArray[Any]:
    import numpy as np

    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
