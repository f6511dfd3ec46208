"""The public names, used as the package's docstring says."""

from __future__ import annotations

from pathlib import Path

import torch
from runs import write_experiment

import gan_bench


def test_every_public_name_is_there() -> None:
    assert sorted(gan_bench.__all__) == sorted(gan_bench._HOMES)
    assert all(getattr(gan_bench, name) is not None for name in gan_bench.__all__)


def test_a_run_from_python(tmp_path: Path) -> None:
    spec = gan_bench.load_experiment(write_experiment(tmp_path), tmp_path)
    said: list[str] = []
    threads = torch.get_num_threads()
    try:
        gan_bench.prepare(spec, tmp_path, tmp_path, said.append)
        outcome = gan_bench.run_one(spec.runs[0], tmp_path, tmp_path)
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(False)
    assert outcome == gan_bench.Outcome(spec.runs[0].id, "FINISHED")
    run, generator = gan_bench.load_generator(spec.runs[0].folder(tmp_path))
    assert run == spec.runs[0]
    images = gan_bench.draw(run, generator, 300, seed=1)
    assert images.shape == (300, 1, 16, 16)
    assert torch.equal(images[:7], gan_bench.draw(run, generator, 300, seed=1)[:7])
    assert not torch.equal(images, gan_bench.draw(run, generator, 300, seed=2))
