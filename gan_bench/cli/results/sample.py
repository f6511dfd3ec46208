"""What `gan-bench sample` does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from gan_bench.atomic import replacing
from gan_bench.components.value_range import to_uint8
from gan_bench.config.initial_weights import find_run
from gan_bench.errors import UserError, unwritable
from gan_bench.evaluation.sample_grid import sample_picture
from gan_bench.hardware import refuse_more_than_memory
from gan_bench.journal.layout import WEIGHTS
from gan_bench.training.trained import (
    Truncation,
    draw,
    draw_between,
    labels_in_turn,
    load_generator,
)

FILES = (".png", ".npz")


def write_samples(root: Path, run: str, out: Path, n: int, seed: int, *,
                  interpolate: bool = False, limit: float | None = None, psi: float = 1.0) -> None:
    """Write n samples of a run to a .png grid, to a .npz, or as a .png each into a folder.

    The .npz holds `images`, uint8 (n, H, W, C) as other tools expect them, or `vectors`, float32
    (n, D); and for a conditional run their `labels`, int64 (n,).

    Args:
        root: The root of the runs.
        run: The run's id, or its first characters.
        out: The file or the folder; a name without an ending is a folder.
        n: The number of samples.
        seed: Of the latents.
        interpolate: Whether each row of a square grid goes from one latent to another.
        limit, psi: As of `Truncation`.

    Raises:
        UserError: There is no such run, it is not finished, the file's type is unknown, the samples
            do not fit into memory, are not finite or are no images, nothing can be written, or the
            generator cannot be truncated so.
    """
    if out.suffix not in FILES and (out.suffix or out.is_file()):
        raise UserError(f"{out}: the name must end in .png or .npz, or be that of a folder")
    if out.is_dir() and any(out.iterdir()):
        raise UserError(f"{out}: is a folder with files in it; name a new folder with --out")
    folder = find_run(root, run)
    spec, generator = load_generator(folder)
    if out.suffix not in FILES and len(spec.data.shape) < 3:
        raise UserError(f"{out}: the samples of this run are points, not images; name a .png or a "
                        f".npz")
    # All samples exist twice as float32: in batches, then as one tensor.
    refuse_more_than_memory(8 * n * math.prod(spec.data.shape), f"{n:,} samples")
    truncation = Truncation(limit, psi)
    if interpolate:
        samples, labels = draw_between(spec, generator, n, seed, truncation)
    else:
        samples = draw(spec, generator, n, seed, truncation)
        labels = labels_in_turn(spec, n)
    if not samples.isfinite().all():
        raise UserError(f"{folder / WEIGHTS}: the generator makes samples that are not finite; "
                        f"there is nothing to write")
    try:
        if out.suffix in FILES:
            _write_file(out, samples, labels)
        else:
            _write_folder(out, samples)
    except OSError as error:
        raise unwritable(out, error, elsewhere="choose another --out") from None


def _write_file(out: Path, samples: Tensor, labels: Tensor | None) -> None:
    with replacing(out) as temporary, temporary.open("wb") as file:
        if out.suffix == ".png":
            file.write(sample_picture(samples))
        else:
            np.savez(file, **_arrays(samples, labels))


def _write_folder(out: Path, samples: Tensor) -> None:
    """Write each image at its size, under its place: 0000.png, 0001.png, …"""
    out.mkdir(parents=True, exist_ok=True)
    digits = max(4, len(str(len(samples) - 1)))
    for i, image in enumerate(to_uint8(samples).permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
            out / f"{i:0{digits}}.png")


def _arrays(samples: Tensor, labels: Tensor | None) -> dict[str, Any]:
    arrays = {} if labels is None else {"labels": labels.numpy()}
    if samples.dim() == 2:
        return {"vectors": samples.numpy(), **arrays}
    return {"images": to_uint8(samples).permute(0, 2, 3, 1).numpy(), **arrays}
