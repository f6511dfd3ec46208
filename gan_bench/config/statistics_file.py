"""Statistics of real features from elsewhere: the mean and the covariance in a `.npz`.

pytorch-fid, clean-fid and NVIDIA's EDM write the arrays `mu` (D,) and `sigma` (D, D). Pickles, as
StyleGAN's and EDM2's code writes them, are refused: reading one runs the code in it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_bench.errors import UserError, one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

LAYOUT = ("expected a .npz with mu (D,) and sigma (D, D), as pytorch-fid and clean-fid write it; "
          "of a pickle that you trust, save them with numpy.savez")
ROUNDING = 1e-5  # of the largest variance: float32 files are symmetric up to that
IN_PROTOCOL = "statistics "  # how a protocol's `data` begins where a file took the data's place


@dataclass(frozen=True, eq=False)
class Statistics:
    """The mean and the covariance of real features.

    Attributes:
        file: Where they come from.
        sha256: Of the file, 64 hex digits.
        mean: (D,) float64.
        spread: (D, D) float64, symmetric.
    """

    file: Path
    sha256: str
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]

    @property
    def name(self) -> str:
        """What stands for them in a protocol: the file's hash, wherever it lies."""
        return statistics_name(self.sha256)


def statistics_name(sha256: str) -> str:
    """Return what stands for statistics in a protocol."""
    return f"{IN_PROTOCOL}{sha256[:12]}"


def read_statistics(file: Path) -> Statistics:
    """Read the statistics in a file.

    Raises:
        UserError: It is missing, of another layout, or no mean and covariance.
    """
    import numpy as np

    try:
        with file.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror}; give a file of statistics"
                        ) from None
    try:
        loaded = np.load(file, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise ValueError("it is a single array")
        with loaded:
            missing = [name for name in ("mu", "sigma") if name not in loaded.files]
            if missing:
                raise ValueError(f"it has no {' and no '.join(missing)}, but "
                                 f"{', '.join(loaded.files)[:200] or 'nothing'}")
            mean, spread = loaded["mu"], loaded["sigma"]
    except Exception as error:  # numpy and zipfile raise many types at broken files
        why = "it is no .npz" if "pickle" in str(error) else one_line(error).partition(": ")[2]
        raise UserError(f"{file}: is not a file of statistics: {why or one_line(error)}; {LAYOUT}"
                        ) from None
    if problem := _problem(mean, spread):
        raise UserError(f"{file}: {problem}")
    spread = spread.astype(np.float64)
    return Statistics(file, sha256, mean.astype(np.float64), (spread + spread.T) / 2)


def _problem(mean: NDArray[Any], spread: NDArray[Any]) -> str:
    """Return why two arrays are no mean and covariance; empty if they may be."""
    import numpy as np

    if mean.ndim != 1 or spread.shape != (len(mean), len(mean)) or not len(mean):
        return f"mu has the shape {mean.shape} and sigma {spread.shape}; {LAYOUT}"
    for name, array in ("mu", mean), ("sigma", spread):
        if array.dtype.kind != "f":
            return f"{name} holds {array.dtype}, not floats; {LAYOUT}"
        if not np.isfinite(array).all():
            return f"{name} is not finite; compute the statistics anew"
    variances = spread.diagonal()
    bound = ROUNDING * float(variances.max())
    if np.abs(spread - spread.T).max() > max(bound, 0.0):
        return "sigma is not symmetric, so it is no covariance; compute the statistics anew"
    if variances.min() < 0 or not variances.max() > 0:
        return ("sigma has no positive variances, so it is no covariance; compute the statistics "
                "anew")
    return ""
