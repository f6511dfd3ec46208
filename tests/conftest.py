"""What tests share: real data, where there is any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from studies import make_studies

# Before anything imports numpy or torch: each of the processes that pytest-xdist starts would take
# as many threads as there are cores. What a run is computed with, it says itself.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How many mutated files the suite tries, and `make faults`.
settings.register_profile("suite", max_examples=600)
settings.register_profile("faults", max_examples=2_000)
settings.load_profile("suite")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The data root that GAN_BENCH_DATA names; without it the test is skipped."""
    folder = os.environ.get("GAN_BENCH_DATA")
    if not folder:
        pytest.skip("GAN_BENCH_DATA names no data root")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def mnist_root(data_root: Path) -> Path:
    """A data root that holds MNIST; without one the test is skipped."""
    if not (data_root / "MNIST" / "raw" / "train-images-idx3-ubyte").exists():
        pytest.skip(f"no MNIST in {data_root}, which GAN_BENCH_DATA names")
    return data_root


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of two real studies, trained once: `losses` and `more` (tests/studies.py)."""
    return make_studies(tmp_path_factory.mktemp("studies"))
