"""What `gan-bench export` does: a generator as a file that needs no gan-bench."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn

from gan_bench import rng
from gan_bench.atomic import replacing
from gan_bench.components.latents import draw_latents
from gan_bench.components.models import with_condition
from gan_bench.config.initial_weights import find_run
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError, one_line, unwritable
from gan_bench.training.trained import labels_in_turn, load_generator

FILES = (".pt2", ".onnx")


def export_generator(root: Path, run: str, out: Path) -> str:
    """Write the generator of a run, and return the shape of its input in words.

    Raises:
        UserError: There is no such run, it is not finished, the file's type is unknown, onnxscript
            is missing, or the generator cannot be exported or written.
    """
    if out.suffix not in FILES:
        raise UserError(f"{out}: the name must end in .pt2 or .onnx")
    if out.suffix == ".onnx" and importlib.util.find_spec("onnxscript") is None:
        raise UserError(f"{out}: an .onnx needs the package onnxscript; pip install onnxscript, or "
                        f"name a .pt2")
    folder = find_run(root, run)
    spec, generator = load_generator(folder)
    example = _example(spec)
    try:
        with replacing(out) as temporary:
            _write(generator, example, temporary, out.suffix)
    except OSError as error:
        raise unwritable(out, error, elsewhere="choose another --out") from None
    except Exception as error:  # torch.export has many, and none in common
        raise UserError(f"{folder}: its generator cannot be exported: {one_line(error)}; sample "
                        f"writes its images") from None
    return f"(N, {example.shape[1]}) float32"


def _example(spec: RunSpec) -> Tensor:
    """Return an input of the generator: two latents, with their conditions if there are any."""
    latents = draw_latents(spec.latents, 2, int(spec.model.args["latent_dim"]),
                           rng.generator(0, "sample"))
    if spec.condition_kind == "image":
        return with_condition(latents, torch.zeros(2, *spec.data.input), 0)
    return with_condition(latents, labels_in_turn(spec, 2), spec.data.classes)


def _write(generator: nn.Module, example: Tensor, file: Path, suffix: str) -> None:
    batch = ({0: torch.export.Dim("batch")},)
    if suffix == ".onnx":
        torch.onnx.export(generator, (example,), str(file), dynamo=True, dynamic_shapes=batch,
                          input_names=["latents"], output_names=["images"], external_data=False,
                          verbose=False)
        return
    with file.open("wb") as opened:
        torch.export.save(torch.export.export(generator, (example,), dynamic_shapes=batch), opened)
