"""From encoded images of any size to uint8 arrays of one size: the only place that resamples.

Bilinear in PIL, which antialiases when it shrinks. It is what torchvision's `Resize` does to PIL
images, and so the filter behind the published MNIST-GAN scripts; other libraries' "bilinear" alias
when shrinking and move FID by more than many an improvement claimed (Parmar et al. 2022, "On
Aliased Resizing", section 3). An image that has the right size already is never resampled.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

# Of the files that count as images; Pillow would also start Ghostscript, for PostScript.
FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "GIF", "TIFF", "PPM")


def square(image: Image.Image, size: int) -> Image.Image:
    """Return the largest centred square of `image`, resampled to `size` pixels a side."""
    from PIL import Image

    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    if image.size != (side, side):
        image = image.crop((left, top, left + side, top + side))
    return image if side == size else image.resize((size, size), Image.Resampling.BILINEAR)


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

    The camera's orientation tag is obeyed. Colour becomes grey by ITU-R 601, and transparency is
    dropped, both as `PIL.Image.convert` does it; of an animation, the first frame is taken.

    Returns:
        `(channels, size, size)` uint8.

    Raises:
        ValueError: No image, or more than 8 bits a channel: reducing them is the user's choice.
        Exception: Whatever PIL raises at a broken file.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        opened = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError("the content is of no known image format") from None
    with opened:
        image: Image.Image = ImageOps.exif_transpose(opened)
        if image.mode.startswith(("I", "F")) or is_deep(data):
            raise ValueError(f"more than 8 bits a channel (mode {image.mode}); convert it to 8")
        return _channels_first(square(image.convert("L" if channels == 1 else "RGB"), size))


def is_deep(data: bytes) -> bool:
    """Whether an encoded image is a PNG of 16 bits a channel: Pillow reads one in colour as 8."""
    depth = data[24:25]  # after the signature: length and name of the header, width, height
    return data.startswith(b"\x89PNG\r\n\x1a\n") and depth == b"\x10"


def _channels_first(image: Image.Image) -> NDArray[Any]:
    import numpy as np

    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
