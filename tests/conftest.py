"""What tests share: real data, where there is any; what is trained once; which files come first."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from filelock import FileLock
from helpers import commands
from helpers.databases import copied
from helpers.launching import plugin as plugin
from helpers.searches import train_search
from helpers.studies import copy_of, make_studies
from hypothesis import settings

from gan_bench.tracking.store import client

# Before anything imports numpy or torch: each of the processes that pytest-xdist starts would take
# as many threads as there are cores. What a run is computed with, it says itself.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# pytest-xdist says 80 to its processes; commands in a pipe would break their lines there.
os.environ.pop("COLUMNS", None)

# How many mutated files the suite tries, and `make faults`.
settings.register_profile("suite", max_examples=300)
settings.register_profile("faults", max_examples=2_000)
settings.load_profile("suite")

# The files that take longest, so that none of them is begun last: `make test` hands out whole files
# (what a file trains for its tests is then trained once), in the order in which they are collected.
FIRST = ("faults", "report", "report_files", "kills", "benchmarks", "server", "execute",
         "stopping", "resources", "plugins", "blocks", "own_code", "analysis", "score", "ui",
         "page", "data", "mirror", "results", "safety", "store", "metrics_conditional", "power",
         "cli", "profiling", "fuzz", "curve_means")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    order = {f"test_{name}": place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


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


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that the first process which asks for it has filled, for all of them.

    Nobody may change what is in it: whoever wants to, copies it.
    """
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"once-{name}"
    with FileLock(f"{folder}.lock"):
        if not (folder / "made").exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed here
            folder.mkdir()
            make(folder)
            (folder / "made").touch()
    return folder


@pytest.fixture(autouse=True)
def _own_environment() -> Iterator[None]:
    """Restore the environment: a launcher in this process sets variables for its workers."""
    with patch.dict(os.environ):
        yield


CREATE = client._create_sqlite


@pytest.fixture(scope="session")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new database of MLflow's: what its 60 migrations make of an empty file."""
    return once(tmp_path_factory, "database",
                lambda folder: CREATE(folder / "mlflow.db", folder)) / "mlflow.db"


@pytest.fixture(scope="session", autouse=True)
def _migrated_once(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let each root that needs a database have a copy of `database`.

    In this process and in those of `helpers.commands`, where the migrations would take seconds for
    each root; other commands migrate, and so do tests that ask for `from_nothing`.
    """
    def database() -> Path:
        found: Path = request.getfixturevalue("database")
        return found

    with (patch.object(client, "_create_sqlite", copied(database)),
          patch.object(commands, "migrated", database)):
        yield


@pytest.fixture
def from_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let new databases be migrated, as in a user's process."""
    monkeypatch.setattr(client, "_create_sqlite", CREATE)


@pytest.fixture(scope="session")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The root of two real studies, trained once: `losses` and `more`, with their files beside it.

    Each process has a copy, for a report locks what it brings up to date.
    """
    made = once(tmp_path_factory, "studies", make_studies)
    folder = tmp_path_factory.mktemp("studies")
    for file in made.glob("*.yaml"):
        shutil.copy(file, folder)
    return copy_of(made / "root", folder / "root")


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search that one command has trained: its file, its root and `output.txt`."""
    made = once(tmp_path_factory, "searched", train_search)
    folder = tmp_path_factory.mktemp("searched")
    for name in ("tuned.yaml", "output.txt"):
        shutil.copy(made / name, folder)
    copy_of(made / "root", folder / "root")
    return folder


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the experiment of tests/helpers/faults.py, run without a disturbance."""
    from helpers.faults import run_undisturbed  # which imports torch

    return once(tmp_path_factory, "undisturbed", lambda folder: run_undisturbed(folder, steps=400))
