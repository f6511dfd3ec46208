"""The root folder, where runs leave what they make: its layout, and who may write to it."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from gan_bench.atomic import replacing
from gan_bench.errors import DamagedError, UserError
from gan_bench.journal import reading, writing
from gan_bench.journal.schema import Status


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
ABOUT = "about.json"  # of an experiment: what its runs' notes in MLflow say of it


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


@contextmanager
def locked(experiment: Path) -> Iterator[None]:
    """Hold the lock of an experiment's folder, and put right what a dead launcher left behind.

    Raises:
        UserError: Another process holds it: two launchers would train the same runs. Or the folder
            cannot be used.
    """
    make_folder(experiment)
    with _lock_file(experiment) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise UserError(f"{experiment.name} is being run already, by process "
                            f"{file.read(20).strip()}; wait for it or stop it") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        for folder in run_folders(experiment):
            with suppress(DamagedError):  # whoever needs that run will say so
                writing.settle(folder, Status.KILLED, "its process died without a word")
        yield


def _lock_file(experiment: Path) -> IO[str]:
    try:
        descriptor = os.open(experiment / "lock", os.O_RDWR | os.O_CREAT | os.O_APPEND
                             | os.O_NOFOLLOW | os.O_NONBLOCK, 0o644)
    except OSError as error:
        raise UserError(f"{experiment / 'lock'}: cannot be used: {error.strerror}; move it away"
                        ) from None
    return os.fdopen(descriptor, "a+", errors="replace")


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


def write_about(experiment: Path, about: Mapping[str, Any]) -> None:
    """Keep what MLflow, and whoever compares, must know of an experiment beside its runs.

    Args:
        about: `question`, `command`, `baseline`, `paired`, `margin`, `variants`, `curve_means`, and
            by variant its `settings` and what `differs` from the baseline.

    Raises:
        OSError: It cannot be written.
    """
    with replacing(experiment / ABOUT) as temporary:
        temporary.write_text(json.dumps(about, indent=1) + "\n")


def read_about(experiment: Path) -> dict[str, Any]:
    """Return what `write_about` has kept, as far as it is what it should be."""
    try:
        return checked_about(json.loads((experiment / ABOUT).read_text()))
    except (OSError, ValueError, RecursionError):
        return {}


def checked_about(about: object) -> dict[str, Any]:
    """Return of what is said to be about an experiment what is of the right kind."""
    if not isinstance(about, dict):
        return {}
    kept: dict[str, Any] = {k: about[k] for k in ("question", "command", "baseline")
                            if isinstance(about.get(k), str)}
    kept |= {"paired": True} if about.get("paired") is True else {}
    for key in ("differs", "margin", "settings", "curve_means"):
        if isinstance(about.get(key), dict):
            kept[key] = {k: v for k, v in about[key].items() if isinstance(v, str)}
    if isinstance(about.get("margin"), str):
        kept["margin"] = about["margin"]
    if isinstance(about.get("variants"), list):
        kept["variants"] = [name for name in about["variants"] if isinstance(name, str)]
    return kept
