"""What `gan-bench sample` does."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from gan_bench.atomic import replacing
from gan_bench.components import data as datasets
from gan_bench.components.value_range import to_float, to_uint8
from gan_bench.config.initial_weights import find_run
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError, unwritable
from gan_bench.evaluation.evaluator import held_out_pairs
from gan_bench.evaluation.sample_grid import sample_picture, triple_picture
from gan_bench.hardware import refuse_more_than_memory
from gan_bench.journal.layout import WEIGHTS, Workspace
from gan_bench.training.trained import (
    Truncation,
    draw,
    draw_between,
    labels_in_turn,
    load_generator,
)

FILES = (".png", ".npz")


def write_samples(workspace: Workspace, run: str, out: Path, n: int, seed: int, *,
                  interpolate: bool = False, limit: float | None = None, psi: float = 1.0) -> None:
    """Write n samples of a run to a .png grid, to a .npz, or as a .png each into a folder.

    The .npz holds `images`, uint8 (n, H, W, C) as other tools expect them, or `vectors`, float32
    (n, D); for a class-conditional run their `labels`, int64 (n,); and for an image-conditional
    run the held-out `inputs` that they were made from and the `targets`, uint8 as `images`. A .png
    then shows input, output and target side by side.

    Args:
        workspace: The root of the runs, and where inputs are.
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
    folder = find_run(workspace.root, run)
    spec, generator = load_generator(folder)
    if out.suffix not in FILES and len(spec.data.shape) < 3:
        raise UserError(f"{out}: the samples of this run are points, not images; name a .png or a "
                        f".npz")
    # All samples exist twice as float32: in batches, then as one tensor.
    refuse_more_than_memory(8 * n * math.prod(spec.data.shape), f"{n:,} samples")
    truncation, labels = Truncation(limit, psi), None
    pairs = _pairs(spec, workspace, n, interpolate) if spec.condition_kind == "image" else None
    if pairs is not None:
        samples = draw(spec, generator, n, seed, truncation, to_float(pairs[0]))
    elif interpolate:
        samples, labels = draw_between(spec, generator, n, seed, truncation)
    else:
        samples = draw(spec, generator, n, seed, truncation)
        labels = labels_in_turn(spec, n)
    if not samples.isfinite().all():
        raise UserError(f"{folder / WEIGHTS}: the generator makes samples that are not finite; "
                        f"there is nothing to write")
    try:
        if out.suffix in FILES:
            _write_file(out, samples, labels, pairs)
        else:
            _write_folder(out, samples)
    except OSError as error:
        raise unwritable(out, error, elsewhere="choose another --out") from None


def _pairs(spec: RunSpec, workspace: Workspace, n: int, interpolate: bool,
           ) -> tuple[Tensor, Tensor]:
    """Return n inputs of held-out pairs, and their targets."""
    if interpolate:
        raise UserError("--interpolate goes from one latent to another, and this run makes images "
                        "from inputs: leave it out")
    if n > spec.data.test:
        raise UserError(f"--n {n:,} is more than the {spec.data.test:,} held-out inputs of this "
                        f"run's data, of which one sample each is made: give at most as many")
    datasets.prepare_data(spec.dataset, workspace.data_root, workspace.cache)
    data = datasets.load(spec.dataset, workspace.data_root, workspace.cache, "cpu")
    if data.facts.digest != spec.data.digest:
        raise UserError(f"{spec.dataset}: the data are not those of the run: give its --data-root")
    return held_out_pairs(data, n)


def _write_file(out: Path, samples: Tensor, labels: Tensor | None,
                pairs: tuple[Tensor, Tensor] | None) -> None:
    with replacing(out) as temporary, temporary.open("wb") as file:
        if out.suffix == ".npz":
            np.savez(file, **_arrays(samples, labels, pairs))
        elif pairs is not None:
            file.write(triple_picture(*pairs, samples))
        else:
            file.write(sample_picture(samples))


def _write_folder(out: Path, samples: Tensor) -> None:
    """Write each image at its size, under its place: 0000.png, 0001.png, …"""
    out.mkdir(parents=True, exist_ok=True)
    digits = max(4, len(str(len(samples) - 1)))
    for i, image in enumerate(to_uint8(samples).permute(0, 2, 3, 1).numpy()):
        Image.fromarray(image.squeeze(-1) if image.shape[-1] == 1 else image).save(
            out / f"{i:0{digits}}.png")


def _arrays(samples: Tensor, labels: Tensor | None, pairs: tuple[Tensor, Tensor] | None,
            ) -> dict[str, Any]:
    arrays: dict[str, Any] = {} if labels is None else {"labels": labels.numpy()}
    if samples.dim() == 2:
        return {"vectors": samples.numpy(), **arrays}
    images = {"images": to_uint8(samples)}
    if pairs is not None:
        images |= {"inputs": pairs[0], "targets": pairs[1]}
    return {**{name: some.permute(0, 2, 3, 1).numpy() for name, some in images.items()}, **arrays}
