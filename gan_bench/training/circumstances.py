"""Records what a run's numbers depend on besides its specification, and refuses to mix it."""

from __future__ import annotations

import platform
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from gan_bench.components import data as datasets
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import DamagedError, UserError
from gan_bench.hardware import cpu_name
from gan_bench.journal import reading
from gan_bench.journal.drift import describe_drift, since, versions
from gan_bench.journal.layout import is_trained
from gan_bench.training import checkpoint
from gan_bench.training.device import resolve_precision


def drifted(folder: Path, drift: dict[str, list[Any]]) -> str:
    """Return the message that a checkpoint was made under other circumstances, and what to do."""
    return (f"{folder.name} was begun with {describe_drift(drift)}, so its numbers would differ: "
            f"resume its checkpoint with --allow-drift, which is recorded, or delete {folder} to "
            f"begin it again")


def facts(spec: RunSpec, data: datasets.Dataset, device: str) -> dict[str, Any]:
    """Return the circumstances and the data set of a run, for its journal's `start`.

    Keys: those of `circumstances`; `git_commit`, of the working folder, or None; `dataset`, with
    `name`, `fingerprint` and the numbers of `train` and `test` examples.
    """
    return {
        **circumstances(spec, device),
        "git_commit": _git_commit(),
        "dataset": {"name": data.name, "fingerprint": data.fingerprint,
                    "train": data.facts.train, "test": data.facts.test},
    }


def circumstances(spec: RunSpec, device: str) -> dict[str, Any]:
    """Return what a run's numbers depend on besides its specification and its data.

    Keys: `versions`, as `drift.versions` and Python's; `device`, cpu or cuda, and `device_name`;
    `precision`, as resolved; `threads`.
    """
    return {
        "versions": {**versions(), "python": platform.python_version()},
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "precision": resolve_precision(spec, device),
        "threads": spec.compute.threads,
    }


def refuse_drift(experiment: ExperimentSpec, root: Path, here: dict[str, Any]) -> None:
    """Refuse to resume checkpoints that were made under other circumstances."""
    drifts = []
    for run in experiment.runs:
        folder = run.folder(root)
        try:
            if is_trained(folder):  # what it keeps is not resumed
                continue
            began = reading.first(folder)
        except DamagedError:  # the launcher reports it, and does not run it
            continue
        if began is None or not since(began.get("facts", {}), here):
            continue
        saved, _ = checkpoint.newest(folder, run.steps)
        if saved and (drift := since(saved.facts, here)):
            drifts.append(drifted(folder, drift))
    if drifts:
        others = f" (and {len(drifts) - 1} more runs)" if len(drifts) > 1 else ""
        raise UserError(drifts[0] + others)


@lru_cache
def _git_commit() -> str | None:
    """Return the commit of the working folder's repository, which may hold the code and YAML."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True,
                              timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
