"""Checkpoints: everything that a resumed run needs, in one place, whole or not at all.

Random numbers depend on the step alone, so there is no random state in them. A file is what
`torch.save` makes, and after it the sha256 of that: `torch.load(file, weights_only=True)` takes it
as it is. Nothing is ever unpickled that is not plain data.
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
from gan_bench.journal.layout import CHECKPOINTS

FILE, BEFORE = CHECKPOINTS
EVERY = 30.0  # seconds between two, unless that would cost more than
SHARE = 0.01  # of the time
DIGEST = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Checkpoint:
    """A run after a step.

    Attributes:
        step: The last step that has been made, with all its records.
        position: The bytes of the journal up to there.
        facts: What the run was on: the facts of its journal's start record.
        engine: `Engine.state()`.
    """

    step: int
    position: int
    facts: dict[str, Any]
    engine: dict[str, Any]


class Cadence:
    """When the next checkpoint is due.

    Args:
        every: Seconds between two; None: 30, or as many more as keep the cost below 1 %.
    """

    def __init__(self, every: float | None = None) -> None:
        self._every = every
        self._next = time.monotonic() + (EVERY if every is None else every)

    def due(self) -> bool:
        """Whether it is time for one."""
        return time.monotonic() >= self._next

    def taken(self, seconds: float) -> None:
        """Note that one has been written just now, and how long that took."""
        every = max(EVERY, seconds / SHARE) if self._every is None else self._every
        self._next = time.monotonic() + every


def write(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a run's checkpoint to the disk itself; the one before is kept, older ones are not.

    Raises:
        OSError: It cannot be written; those that are there stay.
    """
    buffer = io.BytesIO()
    torch.save(asdict(checkpoint), buffer)
    content = buffer.getbuffer()
    with replacing(folder / FILE, durable=True) as temporary:
        with temporary.open("wb") as file:
            file.write(content)
            file.write(hashlib.sha256(content).digest())
        fsync_path(temporary)  # before the good one loses its name
        if (folder / FILE).exists():
            (folder / FILE).replace(folder / BEFORE)


def read(file: Path) -> Checkpoint:
    """Read a checkpoint; its tensors are on the CPU.

    Raises:
        UserError: It is damaged, or no checkpoint.
        FileNotFoundError: There is none.
    """
    data = file.read_bytes()
    content, digest = data[:-DIGEST], data[-DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        raise UserError(f"{file} is damaged: its checksum is not that of its content")
    try:
        values = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        found = Checkpoint(**values)
    except Exception as error:  # torch raises all sorts of things at what somebody else has made
        raise UserError(f"{file} is no checkpoint of this version: {one_line(error)}") from None
    if (type(found.step) is not int or type(found.position) is not int
            or min(found.step, found.position) < 0 or not isinstance(found.facts, dict)
            or not isinstance(found.facts.get("versions", {}), dict)
            or not isinstance(found.engine, dict)):
        raise UserError(f"{file} is no checkpoint of this version: its parts are of other types")
    return found


def newest(folder: Path, steps: int) -> tuple[Checkpoint | None, list[str]]:
    """Return a run's newest sound checkpoint, and what is wrong with newer ones, in words.

    Args:
        steps: How many the run takes.
    """
    problems = []
    for name in (FILE, BEFORE):
        try:
            found = read(folder / name)
        except FileNotFoundError:
            continue
        except (UserError, OSError) as error:
            problems.append(str(error))
            continue
        if found.step >= steps:  # none is written after the last
            problems.append(f"{folder / name} is of step {found.step} of a run of {steps}")
        elif not reading.begins_line(folder, found.position):
            problems.append(f"{folder / name} is of another journal than the one there")
        else:
            return found, problems
    return None, problems
