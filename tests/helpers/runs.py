"""Run specifications for tests, made from the YAML that a user would write."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path

import gan_bench
from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import RunSpec

DIGITS = """\
name: tiny
dataset: {name: digits, image_size: 16}
seeds: [0, 1]
base:
  model: {name: mlp, width: 16}
  batch_size: 32
  steps: 6
  log_every: 2
  sample_every: 3
variants:
  plain:
  saturating: {loss: saturating}
evaluate: {every: 3, samples: 50, metrics: [d_accuracy, nearest_train_mse]}
compute: {device: cpu}
"""


def write_experiment(folder: Path, text: str = DIGITS) -> Path:
    """Write an experiment file into a folder."""
    file = folder / "tiny.yaml"
    file.write_text(textwrap.dedent(text))
    return file


def a_run(folder: Path, *overrides: str, text: str = DIGITS) -> RunSpec:
    """Return the first run of an experiment."""
    return load_experiment(write_experiment(folder, text), folder, list(overrides)).runs[0]


def install(site: Path, name: str, source: str, *groups: str) -> dict[str, str]:
    """Put a package of one module where pip would, with its entry points.

    Args:
        site: The folder of installed packages.
        name: Of the package, its module and its entry points.
        source: The module.
        groups: What it adds to: `losses`, `models`, …

    Returns:
        What the environment of a command must hold for the package to be found.
    """
    info = site / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (site / f"{name}.py").write_text(source)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("".join(
        f"[gan_bench.{group}]\n{name} = {name}\n" for group in groups))
    ours = Path(gan_bench.__file__).parents[1]
    return {"PYTHONPATH": os.pathsep.join([str(site), str(ours)])}
