"""What `gan-bench sample` does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from gan_bench.atomic import replacing
from gan_bench.components.value_range import to_uint8
from gan_bench.config.initial_weights import find_run
from gan_bench.errors import UserError, unwritable
from gan_bench.evaluation.sample_grid import sample_picture
from gan_bench.hardware import refuse_more_than_memory
from gan_bench.journal.layout import WEIGHTS
from gan_bench.training.trained import draw, labels_in_turn, load_generator


def write_samples(root: Path, run: str, out: Path, n: int, seed: int) -> None:
    """Write n samples of a run to a .png grid, or to a .npz.

    The .npz holds `images`, uint8 (n, H, W, C) as other tools expect them, or `vectors`, float32
    (n, D); and for a conditional run their `labels`, int64 (n,).

    Raises:
        UserError: There is no such run, it is not finished, the file's type is unknown, the samples
            do not fit into memory or are not finite, or the file cannot be written.
    """
    if out.suffix not in (".png", ".npz"):
        raise UserError(f"{out}: the name must end in .png or .npz")
    folder = find_run(root, run)
    spec, generator = load_generator(folder)
    # All samples exist twice as float32: in batches, then as one tensor.
    refuse_more_than_memory(8 * n * math.prod(spec.data.shape), f"{n:,} samples")
    samples = draw(spec, generator, n, seed)
    if not samples.isfinite().all():
        raise UserError(f"{folder / WEIGHTS}: the generator makes samples that are not finite; "
                        f"there is nothing to write")
    try:
        with replacing(out) as temporary, temporary.open("wb") as file:
            if out.suffix == ".png":
                file.write(sample_picture(samples))
            else:
                np.savez(file, **_arrays(samples, labels_in_turn(spec, n)))
    except OSError as error:
        raise unwritable(out, error, elsewhere="choose another --out") from None


def _arrays(samples: Tensor, labels: Tensor | None) -> dict[str, Any]:
    arrays = {} if labels is None else {"labels": labels.numpy()}
    if samples.dim() == 2:
        return {"vectors": samples.numpy(), **arrays}
    return {"images": to_uint8(samples).permute(0, 2, 3, 1).numpy(), **arrays}
