"""The public names, used as the package's docstring says."""

from __future__ import annotations

import os
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import write_experiment

import gan_bench


def test_every_public_name_is_there() -> None:
    assert sorted(gan_bench.__all__) == sorted(gan_bench._HOMES)
    assert all(getattr(gan_bench, name) is not None for name in gan_bench.__all__)


def test_the_version_is_looked_up_when_it_is_read() -> None:
    described = ConfigParser()
    described.read(Path(__file__).parents[2] / "setup.cfg")
    assert gan_bench.__version__ == described["metadata"]["version"]
    code = ("import sys, gan_bench; before = 'importlib.metadata' in sys.modules\n"
            "gan_bench.__version__\n"
            "print(before, 'importlib.metadata' in sys.modules, 'torch' in sys.modules)")
    # Without site: what is installed beside the package may import more when Python starts.
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True,
                          check=True, cwd=Path(gan_bench.__file__).parents[1])
    assert done.stdout.split() == ["False", "True", "False"]


def state() -> dict[str, Any]:
    """Return what a run sets in its process."""
    return {
        "threads": torch.get_num_threads(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(),
                          torch.is_deterministic_algorithms_warn_only_enabled()),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        "benchmark": torch.backends.cudnn.benchmark,
        "tf32": (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
        "draws": torch.get_rng_state().tolist(),
        # A variable of OpenMP is scikit-learn's, which sets it on import.
        "environment": {k: v for k, v in os.environ.items() if not k.startswith("KMP_")},
    }


def test_a_run_from_python_leaves_the_process_as_it_was(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is refused: all that it sets is set otherwise before."""
    spec = gan_bench.load_experiment(write_experiment(tmp_path), tmp_path,
                                     ["base.model.name=mlp_dropout"])
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    original = state()
    try:
        torch.set_num_threads(2)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        before = state()
        with pytest.raises(gan_bench.UserError):
            gan_bench.run_one(spec.runs[0], tmp_path / "unprepared", tmp_path)
        assert state() == before
        gan_bench.prepare(spec, tmp_path, tmp_path, lambda line: None)
        assert state() == before
        assert gan_bench.run_one(spec.runs[0], tmp_path, tmp_path).status == "FINISHED"
        assert state() == before
    finally:
        torch.set_num_threads(original["threads"])
        torch.use_deterministic_algorithms(original["deterministic"][0],
                                           warn_only=original["deterministic"][1])
        torch.utils.deterministic.fill_uninitialized_memory = (  # type: ignore[attr-defined]
            original["fill"])
        torch.backends.cudnn.benchmark = original["benchmark"]
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = original["tf32"]


def test_a_run_from_python(tmp_path: Path) -> None:
    spec = gan_bench.load_experiment(write_experiment(tmp_path), tmp_path)
    said: list[str] = []
    gan_bench.prepare(spec, tmp_path, tmp_path, said.append)
    outcome = gan_bench.run_one(spec.runs[0], tmp_path, tmp_path)
    assert outcome == gan_bench.Outcome(spec.runs[0].id, "FINISHED")
    run, generator = gan_bench.load_generator(spec.runs[0].folder(tmp_path))
    assert run == spec.runs[0]
    images = gan_bench.draw(run, generator, 300, seed=1)
    assert images.shape == (300, 1, 16, 16)
    assert torch.equal(images[:7], gan_bench.draw(run, generator, 300, seed=1)[:7])
    assert not torch.equal(images, gan_bench.draw(run, generator, 300, seed=2))
