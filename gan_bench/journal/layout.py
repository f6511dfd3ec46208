"""The root folder, where runs leave what they make: its layout, and who may write to it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gan_bench.errors import UserError
from gan_bench.journal import reading


@dataclass(frozen=True)
class Execution:
    """Where and how runs are executed: nothing of it is part of their specification.

    Attributes:
        root: Where they leave what they make.
        data_root: Where data sets lie.
        checkpoint_every: Seconds between two checkpoints of a run; None: 30, or as many more as
            keep their cost below 1 % of the time.
        allow_drift: Whether to go on from a checkpoint that another version of torch, or another
            device, has made; the journal then says so.
        profile: Whether to profile some steps of each run that begins, and is not gone on with.
    """

    root: Path
    data_root: Path
    checkpoint_every: float | None = None
    allow_drift: bool = False
    profile: bool = False


CHECKPOINTS = "checkpoint.pt", "checkpoint.before.pt"  # of a run: the newest, the one before


def cache_of(root: Path) -> Path:
    """Return where decoded data, extractors and reference features are kept."""
    return root / "cache"


def make_root(root: Path) -> None:
    """Make the root folder.

    Raises:
        UserError: It cannot be made or written to.
    """
    try:
        (root / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--root {root}: cannot be made: {error.strerror}") from None
    if not os.access(root / "runs", os.W_OK):
        raise UserError(f"--root {root}: is not writable; give another with --root")


def make_folder(folder: Path) -> None:
    """Make the folder of an experiment or of a run.

    Raises:
        UserError: Something else lies where it belongs, or a link to another place.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be used: {error.strerror}; move it away") from None
    _refuse_link(folder)


def _refuse_link(folder: Path) -> None:
    if folder.is_symlink():
        raise UserError(f"{folder}: is a link; move it away: what lies in the root stays in the "
                        f"root, which may be a link itself")


def remove_checkpoints(folder: Path) -> None:
    """Delete a run's checkpoints: it has ended, or begins again."""
    for name in CHECKPOINTS:
        (folder / name).unlink(missing_ok=True)


def run_folders(experiment: Path) -> list[Path]:
    """Return the folders of an experiment's runs that have begun, the file's own or older ones.

    Raises:
        UserError: One of them is a link to another place.
    """
    found = sorted(file.parent for file in experiment.glob(f"*/{reading.FILE}"))
    for folder in (experiment, *found):
        _refuse_link(folder)
    return found


