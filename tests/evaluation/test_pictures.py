"""Pictures of samples, compared with torchvision's."""

from __future__ import annotations

import io
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.utils import make_grid

from gan_bench.components.value_range import to_float
from gan_bench.evaluation.grid_layout import KEYWORD
from gan_bench.evaluation.sample_grid import pair_picture, sample_picture


@pytest.mark.parametrize("shape", [(64, 1, 32, 32), (70, 3, 8, 16), (2, 1, 8, 8), (5, 3, 64, 64)])
def test_a_grid_is_torchvisions_enlarged(shape: tuple[int, int, int, int]) -> None:
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    picture = np.asarray(Image.open(io.BytesIO(sample_picture(to_float(images)))))
    columns = int(np.ceil(np.sqrt(shape[0])))
    grid = make_grid(images, nrow=columns, padding=2, pad_value=128).permute(1, 2, 0).numpy()
    factor = picture.shape[0] // grid.shape[0]
    assert np.array_equal(picture, grid.repeat(factor, 0).repeat(factor, 1))
    assert 300 < picture.shape[1] < 600


def test_the_bytes_of_a_grid_are_those_of_its_pixels_and_its_record() -> None:
    """Nothing else changes: pictures of points and of pairs have no record."""
    images = torch.randint(0, 256, (64, 1, 28, 28), dtype=torch.uint8)
    grid = sample_picture(to_float(images))
    assert grid == sample_picture(to_float(images))
    others = sample_picture(torch.randn(10, 2)), pair_picture(images[:4], images[4:8])
    assert [KEYWORD.encode() in png for png in (grid, *others)] == [True, False, False]
    with Image.open(io.BytesIO(grid)) as picture:
        assert set(picture.info) == {KEYWORD}
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(picture)).save(buffer, "PNG")
    plain = buffer.getvalue()
    start = grid.index(b"tEXt") - 4
    assert grid[:start] + grid[start + 12 + int.from_bytes(grid[start:start + 4]):] == plain


@pytest.mark.process
def test_a_run_imports_no_torchvision() -> None:
    """It would import all of its models, and so take twice as long to start."""
    script = "import gan_bench.training.run, sys; "\
             "assert not {'torchvision', 'mlflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
