"""Samples of a finished run, from its final weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gan_bench import rng
from gan_bench.components.models import make_networks, with_labels
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError, one_line
from gan_bench.journal import reading
from gan_bench.journal.names import WEIGHTS
from gan_bench.journal.spec_file import read_spec
from gan_bench.paths import AnyPath, as_path
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


def load_generator(folder: AnyPath, weights: str = WEIGHTS) -> tuple[RunSpec, nn.Module]:
    """Return a run's specification and its trained generator, in eval mode on the CPU.

    The generator is the weight average where the run has one: what its scores were measured on.

    Args:
        folder: Holds the run's `spec.json` and its weights.
        weights: The name of the file of weights there, or of a checkpoint (`.pt`).

    Raises:
        UserError: The run has no such weights, or they are damaged, or not of this specification.
    """
    folder = as_path(folder)
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
    latents = with_labels(latents, labels_in_turn(spec, n), spec.data.classes)
    return torch.cat([generator(batch) for batch in torch.split(latents, BATCH)])


def labels_in_turn(spec: RunSpec, n: int) -> Tensor | None:
    """The labels (n,) int64 that samples are asked for; None where none are."""
    return None if spec.condition == "none" else torch.arange(n) % spec.data.classes


