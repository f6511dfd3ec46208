"""`gan-bench export`: the generator as a file that needs no gan-bench."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from helpers.studies import here

from gan_bench.cli.export import export_generator
from gan_bench.errors import UserError
from gan_bench.training.trained import load_generator


@pytest.fixture(scope="module")
def folder(studies: Path) -> Path:
    """The folder of a trained run."""
    return next((studies / "runs" / "losses").glob("*/final.safetensors")).parent


def test_the_file_gives_what_the_generator_gives(studies: Path, folder: Path, tmp_path: Path,
                                                 ) -> None:
    out = tmp_path / "g.pt2"
    done = here("export", folder.name, "-o", out, "--root", studies)
    assert done.returncode == 0, done.stderr
    spec, generator = load_generator(folder)
    dimension = int(spec.model.args["latent_dim"])
    assert done.stdout == f"{out}: input (N, {dimension}) float32\n"
    program = torch.export.load(out).module()
    latents = torch.randn(5, dimension, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():  # of another number of latents than that of the export
        torch.testing.assert_close(program(latents), generator(latents))


def test_what_cannot_be_written_is_one_line(studies: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"must end in \.pt2 or \.onnx"):
        export_generator(studies, folder.name, tmp_path / "g.pth")
    if importlib.util.find_spec("onnxscript") is None:
        with pytest.raises(UserError, match=r"an \.onnx needs the package onnxscript; pip install"):
            export_generator(studies, folder.name, tmp_path / "g.onnx")
    else:
        export_generator(studies, folder.name, tmp_path / "g.onnx")
    assert not (tmp_path / "g.pth").exists()
