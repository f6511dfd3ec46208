"""Checkpoints: everything that a resumed run needs, in one file, complete or absent.

Random numbers depend only on the step, so a checkpoint holds no random state. A file is the output
of `torch.save`, followed by its sha256; `torch.load(file, weights_only=True)` reads it unchanged.
Only plain data is ever unpickled.
"""

from __future__ import annotations

import hashlib
import io
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from gan_bench.atomic import fsync_path, replacing
from gan_bench.errors import UserError, one_line
from gan_bench.journal import reading
from gan_bench.journal.layout import CHECKPOINTS, checkpoint_files, checkpoint_names
from gan_bench.journal.segments import counts

FILE, BEFORE = CHECKPOINTS
EVERY = 30.0  # seconds between two checkpoints, or longer if they cost more than
SHARE = 0.01  # of the training time
DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Checkpoint:
    """A run after a step.

    Attributes:
        step: The last completed step, with all its records.
        position: The size of the journal after that step, in bytes.
        facts: The circumstances of the run, as in its journal's start record.
        engine: `Engine.state()`.
    """

    step: int
    position: int
    facts: dict[str, Any]
    engine: dict[str, Any]


class Cadence:
    """When the next checkpoint is due.

    Args:
        every: Seconds between two checkpoints; None: 30, or longer to keep the cost below 1 %.
    """

    def __init__(self, every: float | None = None) -> None:
        self._every = every
        self._next = time.monotonic() + (EVERY if every is None else every)

    def due(self) -> bool:
        """Whether it is time for a checkpoint."""
        return time.monotonic() >= self._next

    def taken(self, seconds: float) -> None:
        """Note that a checkpoint was written just now, in so many seconds."""
        every = max(EVERY, seconds / SHARE) if self._every is None else self._every
        self._next = time.monotonic() + every


def write(folder: Path, checkpoint: Checkpoint, segment: int = 1) -> None:
    """Write a run's checkpoint durably; keep the previous checkpoint, remove older ones.

    Args:
        segment: `Journal.segment` of the writer.

    Raises:
        OSError: It cannot be written; the existing checkpoints stay.
    """
    newest, previous = checkpoint_names(segment)
    buffer = io.BytesIO()
    torch.save(asdict(checkpoint), buffer)
    content = buffer.getbuffer()
    with replacing(folder / newest, durable=True) as temporary:
        with temporary.open("wb") as file:
            file.write(content)
            file.write(hashlib.sha256(content).digest())
        fsync_path(temporary)  # before the previous checkpoint is renamed
        if (folder / newest).exists():
            (folder / newest).replace(folder / previous)
    if segment > 1 and (folder / previous).exists():
        for other, older in checkpoint_files(folder):
            if other < segment:
                older.unlink(missing_ok=True)


def read(file: Path) -> Checkpoint:
    """Read a checkpoint; its tensors are on the CPU.

    Raises:
        UserError: The file is damaged, or is not a checkpoint.
        FileNotFoundError: There is no such file.
    """
    data = file.read_bytes()
    content, digest = data[:-DIGEST], data[-DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise UserError(f"{file} is damaged: its checksum does not match its content")
    try:
        values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        saved = Checkpoint(**values)
    except Exception as error:  # torch raises many types of errors for third-party files
        raise UserError(f"{file} is not a checkpoint of this version: {one_line(error)}") from None
    if (type(saved.step) is not int or type(saved.position) is not int
            or min(saved.step, saved.position) < 0 or not isinstance(saved.facts, dict)
            or not isinstance(saved.facts.get("versions", {}), dict)
            or not isinstance(saved.engine, dict)):
        raise UserError(f"{file} is not a checkpoint of this version: its parts have other types")
    return saved


def newest(folder: Path, steps: int) -> tuple[Checkpoint | None, list[str]]:
    """Return a run's newest valid checkpoint, and the problems of newer ones, in words.

    Args:
        steps: The number of the run's steps.
    """
    problems = []
    for segment, file in checkpoint_files(folder):
        try:
            saved = read(file)
        except FileNotFoundError:
            continue
        except (UserError, OSError) as error:
            problems.append(str(error))
            continue
        if saved.step == steps:  # of a run whose end was not recorded; no step is left
            continue
        if saved.step > steps:
            problems.append(f"{file} is of step {saved.step}, but the run has only "
                            f"{steps} steps")
        elif not (reading.begins_line(folder, saved.position)
                  and counts(folder, segment, saved.position)):
            problems.append(f"{file} does not belong to the journal in its folder")
        else:
            return saved, problems
    return None, problems
