"""Run specifications for tests, made from the YAML that a user would write."""

from __future__ import annotations

import textwrap
from pathlib import Path

from gan_bench.experiment import load_experiment
from gan_bench.spec import RunSpec

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
