"""A checksum that is quick enough for every start: it reads memory about as fast as a copy does."""

from __future__ import annotations

import hashlib
from pathlib import Path

BLOCK = 1 << 22  # bytes
WIDTH = 512  # words of 8 bytes in a row of a block


def checksum(path: Path) -> str:
    """Return 16 hex digits of a file's content, against damage and not against forgery.

    They are the sha256 of the sums of all rows and columns of blocks, which numpy adds up at
    several GB a second, where sha256 of all the bytes takes ten times as long. Any change within
    three words of a block changes them.

    Raises:
        OSError: The file cannot be read.
    """
    import numpy as np

    digest, buffer = hashlib.sha256(), bytearray(BLOCK)
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            rows = size // (8 * WIDTH)
            words = np.frombuffer(buffer, "<u8", rows * WIDTH).reshape(rows, WIDTH)
            digest.update(words.sum(axis=1).tobytes())
            digest.update(words.sum(axis=0).tobytes())
            digest.update(memoryview(buffer)[8 * WIDTH * rows : size])
    return digest.hexdigest()[:16]
