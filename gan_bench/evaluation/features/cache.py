"""The cache of reference features, and `publish`, which writes a cache entry whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.atomic import scratch_folder
from gan_bench.components.data.checksum import checksum
from gan_bench.errors import Say, UserError
from gan_bench.evaluation.features.base import Extractor, Features
from gan_bench.evaluation.features.gaussian import Gaussian
from gan_bench.evaluation.features.repeatable import one_thread

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

UNFINISHED = ".unfinished-"  # how the name of an entry begins that is being written
FORMAT = "4"  # of the files, and of how they are computed: with checksums
CHECKSUMS = "checksums.json"


def publish(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a temporary folder, then rename it to `folder` in one step.

    If another process was faster, its folder stays and this one is deleted.

    Raises:
        UserError: The disk is full or read-only.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with scratch_folder(folder.parent, UNFINISHED) as temporary:
            write(temporary)
            try:
                temporary.rename(folder)
            except OSError:
                if not folder.is_dir():
                    raise
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror or error}); "
                        f"make room, or choose another root") from None


def damaged(folder: Path, error: Exception) -> UserError:
    """Return the error that says what to do about a cache entry that cannot be read."""
    reason = (str(error).splitlines() or [""])[0] or type(error).__name__
    return UserError(f"{folder}: this part of the cache is damaged ({reason}); "
                     f"delete the folder and run again, which recreates it")


def reference_features(extractor: Extractor, images: torch.Tensor, source: str, cache: Path,
                       say: Say) -> Features:
    """Return the features of real images: computed once, then mapped from the cache.

    They are memory-mapped: concurrent runs share one copy. The content is compared with its
    checksums each time, which reads it once at the speed of memory.

    Args:
        images: (N, C, H, W) uint8, N ≥ 2.
        source: The data set's fingerprint and the split.
        cache: The cache folder; the features lie in its `features/`.
        say: Receives a line before the features are computed.

    Raises:
        UserError: The cache cannot be written, or is damaged.
    """
    # Float32 convolutions differ in the last digits between kinds of device.
    kind = images.device.type
    key = hashlib.sha256(f"{FORMAT}/{extractor.id}/{source}/{kind}".encode()).hexdigest()[:12]
    folder = cache / "features" / f"{extractor.name}-{key}"
    if not folder.exists():
        say(f"computing the {extractor.name} features of {len(images):,} real images, once")
        with one_thread():  # the bits must not depend on the threads of the first command
            features = extractor(images)
            publish(folder, lambda temporary: _write(features, temporary))
    return _read(folder, extractor.id)


def _write(features: Features, folder: Path) -> None:
    import numpy as np

    np.save(folder / "values.npy", features.values)
    if features.logits is not None:
        np.save(folder / "logits.npy", features.logits)
    np.save(folder / "mean.npy", features.gaussian.mean)
    np.save(folder / "factor.npy", features.gaussian.factor)
    sums = {file.stem: checksum(file) for file in folder.glob("*.npy")}
    (folder / CHECKSUMS).write_text(json.dumps(sums, sort_keys=True))


def _read(folder: Path, extractor: str) -> Features:
    import numpy as np

    def mapped(name: str) -> NDArray[np.float64]:
        # Copy on write, as of a data set: torch warns where a metric takes a read-only array.
        array: NDArray[np.float64] = np.load(folder / f"{name}.npy", mmap_mode="c")
        return array

    try:
        sums = json.loads((folder / CHECKSUMS).read_text())
        for name in sorted({*sums, "values", "mean", "factor"}):
            if checksum(folder / f"{name}.npy") != sums.get(name):
                raise ValueError(f"the content of {name}.npy has changed")
        values, mean, factor = mapped("values"), mapped("mean"), mapped("factor")
        logits = mapped("logits") if "logits" in sums else None
    except (OSError, ValueError, EOFError, AttributeError, TypeError) as error:
        raise damaged(folder, error) from None
    return Features(values, logits, extractor, fitted=Gaussian(mean, factor))
