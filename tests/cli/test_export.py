"""`gan-bench export`: the generator as a file that needs no gan-bench."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from helpers.studies import here

from gan_bench import Part, rng
from gan_bench.cli.results.export import _write, export_generator
from gan_bench.components.models import build_networks
from gan_bench.errors import UserError
from gan_bench.registry import MODELS
from gan_bench.training.trained import load_generator

with_onnx = pytest.mark.skipif(importlib.util.find_spec("onnxscript") is None,
                               reason="onnxscript is not installed; it is optional")


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
    assert not (tmp_path / "g.pth").exists()


def images_of(file: Path, latents: torch.Tensor) -> torch.Tensor:
    """Return what the generator in an .onnx draws, by the reference of the format."""
    from onnx.reference import ReferenceEvaluator

    (images,) = ReferenceEvaluator(str(file)).run(["images"], {"latents": latents.numpy()})
    return torch.from_numpy(images)


@with_onnx
def test_an_onnx_gives_what_the_generator_gives(studies: Path, folder: Path, tmp_path: Path,
                                                ) -> None:
    out = tmp_path / "g.onnx"
    done = here("export", folder.name, "-o", out, "--root", studies)
    assert done.returncode == 0, done.stderr
    spec, generator = load_generator(folder)
    dimension = int(spec.model.args["latent_dim"])
    assert done.stdout == f"{out}: input (N, {dimension}) float32\n"
    assert [file.name for file in tmp_path.iterdir()] == ["g.onnx"]  # weights and all
    latents = torch.randn(5, dimension, generator=rng.generator(0, "sample"))
    with torch.no_grad():
        torch.testing.assert_close(images_of(out, latents), generator(latents))
        assert not torch.allclose(images_of(out, latents), generator(-latents))


@pytest.mark.parametrize("name", ["biggan", "stylegan2"])
def test_what_is_special_to_a_family_survives_the_export(name: str, tmp_path: Path) -> None:
    part: Part = MODELS.parse({"name": name, "width": 8, "latent_dim": 8})
    generator = build_networks(part, (1, 32, 32), 0, "concat", 3).generator.eval()
    latents = torch.randn(4, 8 + 3, generator=rng.generator(0, "sample"))
    _write(generator, latents[:2], tmp_path / "g.pt2", ".pt2")
    loaded = torch.export.load(tmp_path / "g.pt2").module()
    with torch.no_grad():
        torch.testing.assert_close(loaded(latents), generator(latents))


@with_onnx
@pytest.mark.parametrize("name", ["biggan", "dcgan", "dcgan_upsample", "r3", "resnet",
                                  "stylegan2"])
def test_convolutions_survive_the_export_to_onnx(name: str, tmp_path: Path) -> None:
    part: Part = MODELS.parse({"name": name, "width": 8, "latent_dim": 8})
    networks = build_networks(part, (1, 32, 32), 0, "concat", 3)
    generator = networks.generator.eval()
    latents = torch.randn(4, 8 + 3, generator=rng.generator(0, "sample"))  # 3 classes
    _write(generator, latents[:2], tmp_path / "g.onnx", ".onnx")
    with torch.no_grad():
        torch.testing.assert_close(images_of(tmp_path / "g.onnx", latents), generator(latents),
                                   atol=2e-5, rtol=1e-4)
