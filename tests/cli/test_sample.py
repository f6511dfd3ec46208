"""`gan-bench sample`: a grid, arrays, a folder of images, and ways from one latent to another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.studies import here
from PIL import Image

from gan_bench.cli.results.sample import write_samples
from gan_bench.components.value_range import to_uint8
from gan_bench.errors import UserError
from gan_bench.journal.layout import Workspace
from gan_bench.training.trained import Truncation, _on_sphere, draw, draw_between, load_generator


@pytest.fixture(scope="module")
def folder(studies: Path) -> Path:
    """The folder of a trained run."""
    return next((studies / "runs" / "losses").glob("*/final.safetensors")).parent


def test_a_folder_holds_each_sample_as_it_is(studies: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "samples"
    done = here("sample", folder.name, "--root", studies, "-o", out, "-n", 5, "--seed", 3)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{out}: 5 samples\n"
    assert sorted(file.name for file in out.iterdir()) == [f"{i:04}.png" for i in range(5)]
    images = to_uint8(draw(*load_generator(folder), 5, 3))
    for i, image in enumerate(images):
        np.testing.assert_array_equal(np.asarray(Image.open(out / f"{i:04}.png")), image[0])


def test_a_folder_with_files_and_unknown_endings_are_refused(studies: Path, folder: Path,
                                                             tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match="is a folder with files in it; name a new folder"):
        write_samples(Workspace(studies), folder.name, tmp_path, 4, 0)
    with pytest.raises(UserError, match=r"must end in \.png or \.npz, or be that of a folder"):
        write_samples(Workspace(studies), folder.name, tmp_path / "a.jpg", 4, 0)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_rows_go_from_one_latent_to_another(studies: Path, folder: Path, tmp_path: Path) -> None:
    spec, generator = load_generator(folder)
    between, labels = draw_between(spec, generator, 16, 0)
    assert labels is None
    ends = draw(spec, generator, 8, 0)  # the same latents: first ends, then last ends of the rows
    rows = between.reshape(4, 4, *between.shape[1:])
    torch.testing.assert_close(rows[:, 0], ends[:4], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rows[:, -1], ends[4:], rtol=1e-4, atol=1e-5)
    steps = (rows[:, 1:] - rows[:, :-1]).flatten(2).norm(dim=2)
    assert (steps > 0).all()
    assert len(draw_between(spec, generator, 7, 0)[0]) == 7
    done = here("sample", folder.name, "--root", studies, "-o", tmp_path / "a.png", "-n", 16,
                "--interpolate")
    assert done.returncode == 0, done.stderr
    write_samples(Workspace(studies), folder.name, tmp_path / "b.png", 16, 0)
    assert (tmp_path / "a.png").read_bytes() != (tmp_path / "b.png").read_bytes()


def test_truncation_is_an_option(studies: Path, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.npz"
    done = here("sample", folder.name, "--root", studies, "-o", out, "-n", 5, "--limit", 0.5)
    assert done.returncode == 0, done.stderr
    spec, generator = load_generator(folder)
    expected = to_uint8(draw(spec, generator, 5, 0, Truncation(0.5))).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(np.load(out)["images"], expected.numpy())
    done = here("sample", folder.name, "--root", studies, "-o", tmp_path / "b.npz", "--psi", 0.5)
    assert done.returncode != 0
    assert "has no mean w: leave out psi" in done.stderr
    assert not (tmp_path / "b.npz").exists()


def test_the_way_stays_on_the_sphere() -> None:
    a, b = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
    a, b = a / a.norm(), b / b.norm()
    for share in (0.0, 0.25, 0.5, 1.0):
        point = _on_sphere(a, b, torch.tensor(share))
        assert float(point.norm()) == pytest.approx(1, abs=1e-5)
    torch.testing.assert_close(_on_sphere(a, b, torch.tensor(1.0)), b)
    torch.testing.assert_close(_on_sphere(a, a, torch.tensor(0.3)), a)
