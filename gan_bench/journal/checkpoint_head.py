"""What a checkpoint says of itself, read without torch: its step and its circumstances.

A checkpoint is an archive of `torch.save`, whose pickle refers to tensors in other members. Here
the pickle is read with inert objects in place of all that it refers to: nothing is imported or
called.
"""

from __future__ import annotations

import pickle
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gan_bench.errors import UserError

PICKLE = "/data.pkl"  # the end of the name of the member that holds the plain values


@dataclass(frozen=True)
class CheckpointHead:
    """The plain values of a checkpoint.

    Attributes:
        step: The last completed step.
        facts: The circumstances of the run, as in its journal's start record.
    """

    step: int
    facts: dict[str, Any]


def read_head(file: Path) -> CheckpointHead:
    """Return what a checkpoint says of itself; its checksum is not computed.

    Raises:
        UserError: It is no checkpoint.
        FileNotFoundError: There is no such file.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            name = next(name for name in archive.namelist() if name.endswith(PICKLE))
            with archive.open(name) as content:
                values = _Inert(content).load()
        step, facts = values["step"], values["facts"]
    except FileNotFoundError:
        raise
    except Exception:  # a damaged or forged file raises many types of errors
        raise UserError(f"{file} is damaged, or no checkpoint of this version") from None
    if type(step) is not int or step < 0 or not isinstance(facts, dict):
        raise UserError(f"{file} is damaged, or no checkpoint of this version")
    return CheckpointHead(step, facts)


class _Nothing(dict[Any, Any]):
    """Stands for any object of a pickle: takes all arguments and states, and ignores them."""

    def __init__(self, *arguments: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        pass


class _Inert(pickle.Unpickler):
    """Builds plain values, and nothing else."""

    def find_class(self, module: str, name: str) -> type[_Nothing]:
        return _Nothing

    def persistent_load(self, number: object) -> None:
        return None
