"""A small experiment with a search, for the tests of all that knows of searches."""

from __future__ import annotations

from pathlib import Path

from helpers.studies import here

from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import ExperimentSpec

SEARCH = """\
name: tuned
dataset: {name: digits, image_size: 16}
base:
  model: {name: mlp, width: 16}
  batch_size: 32
  steps: 6
  log_every: 2
  sample_every: 3
matrix:
  penalties: [[], [{name: r1, gamma: 1.0}]]
search:
  draws: 3
  seed: 7
  space:
    g_optimizer.lr: {log_uniform: [1e-5, 1e-3]}
    d_steps: {int_uniform: [1, 3]}
    penalties.r1.gamma: {log_uniform: [0.01, 100], only: {penalties: r1}}
  select: {by: fd_random, seeds: [0]}
  confirm: {seeds: [10, 11]}
evaluate: {samples: 50, metrics: [fd_random, d_accuracy]}
compute: {device: cpu}
"""


def write_search(folder: Path, text: str = SEARCH) -> Path:
    """Write the experiment's file into a folder."""
    file = folder / "tuned.yaml"
    file.write_text(text)
    return file


def load_search(folder: Path, *overrides: str, text: str = SEARCH) -> ExperimentSpec:
    """Return the experiment."""
    return load_experiment(write_search(folder, text), folder, list(overrides))


def train_search(folder: Path) -> None:
    """Train the experiment in a folder, and keep what the command prints."""
    done = here("run", write_search(folder), "--root", folder / "root", "--slots", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "output.txt").write_text(done.stdout)
