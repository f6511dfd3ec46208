"""Samples of a finished run, from its final weights."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gan_bench import rng
from gan_bench.atomic import replacing
from gan_bench.components.models import make_networks, with_labels
from gan_bench.config.spec import RunSpec, read_spec
from gan_bench.errors import UserError, one_line
from gan_bench.evaluation.sample_grid import sample_picture, to_uint8
from gan_bench.hardware import refuse_more_than_memory
from gan_bench.journal import reading
from gan_bench.journal.names import WEIGHTS
from gan_bench.training import checkpoint

BATCH = 256


def find_run(root: Path, run: str) -> Path:
    """Return the folder of the run whose id begins with `run`.

    The same run under two experiments has one id, and is the same to the bit.

    Raises:
        UserError: There is none, or more than one id that begins so.
    """
    found = sorted(f for f in root.glob("runs/*/*") if f.is_dir() and f.name.startswith(run))
    if not run or not found:
        raise UserError(f"no run's id begins with {run!r} under {root}; `gan-bench plan` shows ids")
    if len({f.name for f in found}) > 1:
        some = ", ".join(f"{f.parent.name}/{f.name}" for f in found[:4])
        raise UserError(f"{len(found)} runs' ids begin with {run!r}: {some}; give more of the id")
    return found[0]


def load_generator(folder: Path, weights: str = WEIGHTS) -> tuple[RunSpec, nn.Module]:
    """Return a run's specification and its trained generator, in eval mode on the CPU.

    The generator is the weight average where the run has one: what its scores were measured on.

    Args:
        folder: Holds the run's `spec.json` and its weights.
        weights: The name of the file of weights there, or of a checkpoint (`.pt`).

    Raises:
        UserError: The run has no such weights, or they are damaged, or not of this specification.
    """
    try:
        spec = read_spec(folder)
        with torch.device("meta"):
            generator = make_networks(spec.model, spec.data.shape, spec.condition,
                                      spec.data.classes).generator
    except UserError:  # a model that nobody knows here
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        why = one_line(error)
        if isinstance(error, ValidationError):  # whose first line only counts what follows it
            why = "; ".join(f"{'.'.join(map(str, found['loc']))}: {found['msg']}"
                            for found in error.errors()[:3])
        raise UserError(f"{folder / 'spec.json'}: cannot be read as a run's specification: {why}; "
                        f"`gan-bench run` its experiment in another root to "
                        f"make it anew") from None
    if not (folder / weights).exists():
        there = ", or name its checkpoint.pt" if (folder / checkpoint.FILE).exists() else ""
        raise UserError(f"{folder}: has no {weights}; `gan-bench run` its experiment to finish it"
                        f"{there}")
    if weights == WEIGHTS:
        _check_weights(folder)
    generator.to_empty(device="cpu")
    tensors = _tensors(folder / weights, "ema" if spec.ema else "generator")
    try:
        generator.load_state_dict(tensors)
    except RuntimeError as error:  # the first line of it says no more than that
        why = str(error).strip().splitlines()[-1].strip()
        raise UserError(f"{folder / weights}: these are not the weights of the generator that "
                        f"spec.json tells of: {why}") from None
    return spec, generator.eval()


def _check_weights(folder: Path) -> None:
    """Refuse final weights that are not those of which the run's journal tells."""
    end = reading.last(folder)
    known = end.get("weights") if end else None
    if known and hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() != known:
        raise UserError(f"{folder / WEIGHTS}: is not the file that the run ended with (its sha256 "
                        f"is another); delete it, and `gan-bench run` its experiment to remake it")


def _tensors(file: Path, network: str) -> dict[str, Tensor]:
    """The tensors of one network from a file of weights or from a checkpoint."""
    if file.suffix == ".pt":
        found: dict[str, Tensor] = checkpoint.read(file).engine.get(network) or {}
        return found
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: cannot be read: {one_line(error)}; `gan-bench run` its "
                        f"experiment in another root to make it anew") from None
    prefix = f"{network}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


@torch.no_grad()
def draw(spec: RunSpec, generator: nn.Module, n: int, seed: int) -> Tensor:
    """Return n samples from latents of the stream `sample`, in [-1, 1] (vectors: unbounded).

    Those of a conditional generator go through the classes in turn.
    """
    latents = torch.randn(n, int(spec.model.args["latent_dim"]),
                          generator=rng.generator(seed, "sample"))
    latents = with_labels(latents, _labels(spec, n), spec.data.classes)
    return torch.cat([generator(batch) for batch in torch.split(latents, BATCH)])


def _labels(spec: RunSpec, n: int) -> Tensor | None:
    """The labels (n,) int64 that samples are asked for; None where none are."""
    return None if spec.condition == "none" else torch.arange(n) % spec.data.classes


def write_samples(root: Path, run: str, out: Path, n: int, seed: int) -> None:
    """Write n samples of a run to a .png grid, or to a .npz.

    The .npz holds `images`, uint8 (n, H, W, C) as other tools expect them, or `vectors`, float32
    (n, D); and of a conditional run `labels`, int64 (n,), which the samples were asked for.

    Raises:
        UserError: No such run, not finished, another kind of file, too many for the memory that
            there is, or it cannot be written.
    """
    if out.suffix not in (".png", ".npz"):
        raise UserError(f"{out}: the name must end in .png or .npz")
    spec, generator = load_generator(find_run(root, run))
    # All of them as float32, in parts and then as one.
    refuse_more_than_memory(8 * n * math.prod(spec.data.shape), f"{n:,} samples")
    samples = draw(spec, generator, n, seed)
    try:
        with replacing(out) as temporary, temporary.open("wb") as file:
            if out.suffix == ".png":
                file.write(sample_picture(samples))
            else:
                np.savez(file, **_arrays(samples, _labels(spec, n)))
    except OSError as error:
        raise UserError(f"{out}: cannot be written: {error.strerror}") from None


def _arrays(samples: Tensor, labels: Tensor | None) -> dict[str, Any]:
    told = {} if labels is None else {"labels": labels.numpy()}
    if samples.dim() == 2:
        return {"vectors": samples.numpy(), **told}
    return {"images": to_uint8(samples).permute(0, 2, 3, 1).numpy(), **told}
