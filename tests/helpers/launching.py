"""Runs of the command line in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.runs import install, write_experiment

from gan_bench.tracking.store import client

GAN_BENCH = [sys.executable, "-m", "gan_bench"]
STRICT = {"PYTHONWARNINGS": "error::RuntimeWarning"}  # a division by zero is a traceback


def new_root(folder: Path) -> Path:
    """Make `root` in a folder, with a copied database that a command need not migrate."""
    root = folder / "root"
    root.mkdir()
    client._create_sqlite(root / "mlflow.db", root / "artifacts")
    return root


def clean_environment() -> dict[str, str]:
    """Return the variables that a command finds: a RuntimeWarning is an error."""
    return {**{name: value for name, value in os.environ.items()
               if not name.startswith(("MLFLOW_", "GAN_B"))}, **STRICT}


def gan_bench(*arguments: object, env: dict[str, str] | None = None, timeout: float = 240,
              ) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own, where a RuntimeWarning is an error."""
    return subprocess.run([*GAN_BENCH, *map(str, arguments)], capture_output=True, text=True,
                          check=False, timeout=timeout, env={**clean_environment(), **(env or {})})


def run(tmp_path: Path, root: str, *more: object, env: dict[str, str] | None = None,
        ) -> subprocess.CompletedProcess[str]:
    return gan_bench("run", write_experiment(tmp_path), "--root", tmp_path / root, *more, env=env)


PLUGIN = '''\
from gan_bench.registry import LOSSES
from gan_bench.components.losses import non_saturating

@LOSSES.register("explosive")
def explosive(*, at: int = 3):
    """Raises."""
    inner, calls = non_saturating(), [0]
    def generator(fake_logits, real_logits):
        calls[0] += 1
        if calls[0] == at:
            raise RuntimeError("boom at last")
        return inner.generator(fake_logits, real_logits)
    return type(inner)(inner.discriminator, generator)

@LOSSES.register("deadly")
def deadly():
    """Kills its process."""
    import os, signal
    inner = non_saturating()
    return type(inner)(inner.discriminator, lambda *logits: os.kill(os.getpid(), signal.SIGKILL))
'''


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """An installed package that adds two losses, as another project would."""
    return install(tmp_path / "site", "explosive", PLUGIN, "losses")


# Modules of Python that a new process of Python imports, or that MLflow does.
MODULES = ("random", "socket", "queue", "select", "logging", "struct", "tempfile", "selectors",
           "shutil", "bisect", "json", "uuid")


def folder_of_modules(folder: Path, *names: str) -> Path:
    """Make a folder with files that have names of modules and say in `executed` that they ran."""
    folder.mkdir()
    for name in names:
        (folder / f"{name}.py").write_text(
            f"open({str(folder / 'executed')!r}, 'a').write('{name} ')\nraise SystemExit('mine')\n")
    return folder


def console_script(folder: Path) -> list[str]:
    """Return the command that pip makes for `gan-bench`: it does not import from the cwd."""
    script = folder / "bin" / "gan-bench"
    script.parent.mkdir(exist_ok=True)
    script.write_text("from gan_bench.cli.app import main\nif __name__ == '__main__':\n"
                      "    main()\n")
    return [sys.executable, str(script)]
