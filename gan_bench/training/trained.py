"""Samples of a finished run, from its final weights."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from gan_bench import rng
from gan_bench.components.latents import draw_latents, within_limit
from gan_bench.components.models import build_networks, with_condition
from gan_bench.components.networks.style_mapping import truncated
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError, one_line, worded
from gan_bench.journal import reading
from gan_bench.journal.layout import WEIGHTS, newest_checkpoint
from gan_bench.journal.spec_file import read_spec
from gan_bench.paths import AnyPath, as_path
from gan_bench.registry import MODELS
from gan_bench.training import checkpoint

BATCH = 256


def load_generator(folder: AnyPath, weights: str = WEIGHTS) -> tuple[RunSpec, nn.Module]:
    """Return a run's specification and its trained generator, in eval mode on the CPU.

    The generator is the weight average if the run has one, as in the run's measurements.

    Args:
        folder: Holds the run's `spec.json` and its weights.
        weights: The name of the file of weights there, or of a checkpoint (`.pt`).

    Raises:
        UserError: The run has no such weights, or they are damaged, or not of this specification.
    """
    folder = as_path(folder)
    try:
        spec = read_spec(folder)
        generator = build_networks(spec.model, spec.data.shape, spec.seed, spec.condition,
                                   spec.data.classes, spec.data.input).generator
    except UserError:  # the model is not registered here
        raise
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        why = one_line(error)
        if isinstance(error, ValidationError):  # its first line only counts the errors
            why = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {worded(problem)}"
                            for problem in error.errors()[:3])
        raise UserError(f"{folder / 'spec.json'}: cannot be read as a run's specification: {why}; "
                        f"repeat its `gan-bench run` in another root to recreate it"
                        ) from None
    if not (folder / weights).exists():
        saved = newest_checkpoint(folder)
        hint = f", or name its {saved.name}" if saved.exists() else ""
        raise UserError(f"{folder}: has no {weights}; repeat its `gan-bench run` to finish it"
                        f"{hint}")
    if weights == WEIGHTS:
        check_weights(folder)
    tensors = _tensors(folder / weights, "ema" if spec.ema else "generator")
    try:
        generator.load_state_dict(tensors)
    except RuntimeError as error:  # its last line names the cause
        why = str(error).strip().splitlines()[-1].strip()
        raise UserError(f"{folder / weights}: these are not the weights of the generator in "
                        f"spec.json: {why}") from None
    return spec, generator.eval()


def check_weights(folder: Path) -> None:
    """Refuse final weights whose sha256 differs from the one in the run's journal."""
    end = reading.last(folder)
    expected = end.get("weights") if end else None
    if expected and hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest() != expected:
        raise UserError(f"{folder / WEIGHTS}: is not the file that the run ended with (its sha256 "
                        f"differs); delete it, and repeat its `gan-bench run` to recreate it")


def _tensors(file: Path, network: str) -> dict[str, Tensor]:
    """Return the tensors of one network from a file of weights or from a checkpoint."""
    if file.suffix == ".pt":
        saved: dict[str, Tensor] = checkpoint.read(file).engine.get(network) or {}
        return saved
    try:
        tensors = load_file(file)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: cannot be read: {one_line(error)}; repeat its "
                        f"`gan-bench run` in another root to recreate it") from None
    prefix = f"{network}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


@dataclass(frozen=True)
class Truncation:
    """How far samples keep to what a generator makes best; less variety, more quality.

    Attributes:
        limit: Values of normal latents beyond ±limit are drawn anew; None: they stay.
        psi: Styles w lie at mean + psi · (w − mean); 1: they stay.
    """

    limit: float | None = None
    psi: float = 1.0


NO_TRUNCATION = Truncation()


@torch.no_grad()
def draw(spec: RunSpec, generator: nn.Module, n: int, seed: int,
         truncation: Truncation = NO_TRUNCATION, inputs: Tensor | None = None) -> Tensor:
    """Return n samples from latents of the stream `sample`, in [-1, 1] (vectors: unbounded).

    The samples of a class-conditional generator have the classes in turn.

    Args:
        inputs: (n, C, H, W) float32 in [-1, 1], what an image-conditional generator starts from.

    Raises:
        UserError: This generator cannot be truncated so.
    """
    condition = labels_in_turn(spec, n) if inputs is None else inputs
    latents = with_condition(_drawn(spec, n, seed, truncation), condition, spec.data.classes)
    return _samples(spec, generator, latents, truncation)


def _drawn(spec: RunSpec, n: int, seed: int, truncation: Truncation) -> Tensor:
    latents = draw_latents(spec.latents, n, int(spec.model.args["latent_dim"]),
                           rng.generator(seed, "sample"))
    if truncation.limit is None:
        return latents
    if not latents.shape[1]:
        raise UserError("this generator has no latents to limit; leave out the limit")
    if spec.latents != "normal":
        raise UserError(f"the latents of this run are {spec.latents}, within ±1: there are none "
                        f"beyond a limit to draw anew; leave out the limit")
    return within_limit(latents, truncation.limit, rng.generator(seed, "sample, drawn anew"))


def _samples(spec: RunSpec, generator: Any, latents: Tensor, truncation: Truncation) -> Tensor:
    if truncation.psi == 1:
        return torch.cat([generator(batch) for batch in torch.split(latents, BATCH)])
    mean = getattr(getattr(generator, "mapping", None), "average", None)
    if not MODELS[spec.model.name].facts.styles or mean is None:
        raise UserError(f"psi draws styles w to their mean, and the G of {spec.model} has no mean "
                        f"w: leave out psi; a limit of the latents truncates any generator")
    return torch.cat([generator.synthesis(truncated(generator.styles(batch), mean, truncation.psi))
                      for batch in torch.split(latents, BATCH)])


@torch.no_grad()
def draw_between(spec: RunSpec, generator: nn.Module, n: int, seed: int,
                 truncation: Truncation = NO_TRUNCATION) -> tuple[Tensor, Tensor | None]:
    """Return n samples in the rows of a square grid, and the labels of a conditional generator.

    Each row goes in equal steps from one latent to another: on the sphere for normal latents (White
    2016, "Sampling generative networks"), on a line for uniform ones. A row has one class.

    Raises:
        UserError: This generator cannot be truncated so.
    """
    across = math.isqrt(max(n - 1, 0)) + 1
    rows = -(-n // across)
    ends = _drawn(spec, 2 * rows, seed, truncation)
    between = _on_sphere if spec.latents == "normal" else torch.lerp
    shares = torch.linspace(0, 1, across)
    pairs = zip(ends[:rows], ends[rows:], strict=True)
    latents = torch.stack([between(a, b, share) for a, b in pairs for share in shares])[:n]
    labels = labels_in_turn(spec, rows)
    if labels is not None:
        labels = labels.repeat_interleave(across)[:n]
    latents = with_condition(latents, labels, spec.data.classes)
    return _samples(spec, generator, latents, truncation), labels


def _on_sphere(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Return the point between two latents (D,) on the arc that joins their directions."""
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=0).clamp(-1, 1)
    angle = torch.acos(cosine)
    if float(angle) < 1e-4:
        return torch.lerp(a, b, share)
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)


def labels_in_turn(spec: RunSpec, n: int) -> Tensor | None:
    """Return the labels (n,) int64 of class-conditional samples; None without classes."""
    return torch.arange(n) % spec.data.classes if spec.condition_kind == "class" else None
