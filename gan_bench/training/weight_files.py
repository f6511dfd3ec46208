"""The files of a run's networks: the last ones, and snapshots of measurements."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from gan_bench.atomic import replacing
from gan_bench.journal.layout import (
    WEIGHTS,
    make_snapshot_folder,
    snapshot_file,
)
from gan_bench.training.step.engine import Engine


def save_weights(engine: Engine, folder: Path) -> str:
    """Write the final weights of all networks to `final.safetensors`; return the file's sha256."""
    tensors = {f"generator.{k}": v for k, v in engine.generator.state_dict().items()}
    tensors |= {f"discriminator.{k}": v for k, v in engine.discriminator.state_dict().items()}
    if engine.ema is not None:
        tensors |= {f"ema.{k}": v for k, v in engine.ema.state_dict().items()}
    # On the disk itself before the journal says that the run is finished.
    _save(tensors, folder / WEIGHTS)
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def save_snapshot(engine: Engine, folder: Path, step: int) -> None:
    """Keep the networks that are measured at a step."""
    make_snapshot_folder(folder)
    _save(engine.measured_state(), snapshot_file(folder, step))


def _save(tensors: Mapping[str, Tensor], file: Path) -> None:
    with replacing(file, durable=True) as temporary:
        save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, temporary)
