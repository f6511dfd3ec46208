"""Runs by how their ids begin, and the weights that `init` names: found and hashed. No torch."""

from __future__ import annotations

import hashlib
import json
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from gan_bench.errors import UserError, shown
from gan_bench.paths import normal_path

FINAL_WEIGHTS = "final.safetensors"  # in a run's folder, once it is finished
MAX_HEADER = 100_000_000  # bytes, as in the safetensors library


def _check_id(value: object) -> object:
    """Refuse an id that YAML reads as a number, or that is no beginning of one."""
    if value is not None and not (isinstance(value, str)
                                  and re.fullmatch("[0-9a-f]{1,12}", value)):
        raise ValueError(f"a run's id, or its first characters, in quotes: 12 digits from 0 to 9 "
                         f"and a to f, not {shown(value)}")
    return value


class InitSpec(BaseModel):
    """Given weights that networks start from."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    run: Annotated[str | None, BeforeValidator(_check_id)] = Field(
        None, description="the id of a finished run, or its first characters; its last G and D")
    file: str | None = Field(
        None, description="a .safetensors file with tensors `generator.…` and `discriminator.…`, "
        "as runs leave it; relative to the experiment file")
    networks: list[Literal["generator", "discriminator"]] = Field(
        ["generator", "discriminator"], description="which networks start from them; a weight "
        "average starts as a copy of G")

    @model_validator(mode="after")
    def _names_weights(self) -> InitSpec:
        if (self.run is None) == (self.file is None):
            raise ValueError("give either `run` or `file`")
        if not self.networks or len(set(self.networks)) < len(self.networks):
            raise ValueError("networks: name generator, discriminator, or both once")
        return self

    def __str__(self) -> str:
        source = f"run {self.run}" if self.run else f"file {Path(str(self.file)).name}"
        both = len(self.networks) == 2
        return source if both else f"{source} ({self.networks[0]})"


class InitWeights(InitSpec):
    """Given weights that have been found.

    Attributes:
        run: The whole id.
        file: An absolute path.
        sha256: Of the file that holds them.
    """

    sha256: str


def resolve_init(init: InitSpec, home: Path, root: Path) -> InitWeights:
    """Return the weights that `init` names, with their hash.

    Args:
        home: The folder of the experiment file, to which a file's path is relative.
        root: The folder of everything that runs produce.

    Raises:
        UserError: There is no such run or file, the run is not finished, or the file is unreadable
            or holds no weights of a network that is asked for.
    """
    if init.run is not None:
        folder = find_run(root, init.run)
        found = init.model_copy(update={"run": folder.name})
        file = folder / FINAL_WEIGHTS
        if not file.exists():
            raise UserError(f"the run {folder.name} has no {FINAL_WEIGHTS}, as it is not finished; "
                            f"repeat its `gan-bench run`")
    else:
        file = normal_path(home / str(init.file))
        found = init.model_copy(update={"file": str(file)})
    shapes = tensor_shapes(file)
    for network in init.networks:
        if not any(name.startswith(f"{network}.") for name in shapes):
            raise UserError(f"{file}: holds no tensor {network}.…; leave {network} out of "
                            f"`networks`, or name another file")
    return InitWeights(**dict(found), sha256=hash_weights(file))


def initial_weights_file(init: InitWeights, root: Path) -> Path:
    """Return the file of the weights that a run starts from, which need not exist here."""
    if init.run is None:
        return Path(str(init.file))
    places = sorted(root.glob(f"runs/*/{init.run}/{FINAL_WEIGHTS}"))
    return places[0] if places else root / "runs" / "*" / init.run / FINAL_WEIGHTS


def hash_weights(file: Path) -> str:
    """Return the sha256 of a file.

    Raises:
        UserError: It cannot be read.
    """
    try:
        seen = file.stat()
        return _hash(file, seen.st_mtime_ns, seen.st_size)
    except OSError as error:
        raise UserError(f"{file!s:.300}: cannot be read: {error.strerror}") from None


@lru_cache
def _hash(file: Path, changed: int, size: int) -> str:
    """Return the sha256 of a file; a grid of many variants reads it once."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def tensor_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a .safetensors file by name, in the file's order.

    Raises:
        UserError: It cannot be read, or is no such file.
    """
    try:
        if file.exists() and not file.is_file():  # a pipe would block
            raise UserError(f"{file}: is no file")
        with file.open("rb") as content:
            length = int.from_bytes(content.read(8), "little")
            header = json.loads(content.read(length) if length <= MAX_HEADER else b"")
        return {name: tuple(int(n) for n in tensor["shape"])
                for name, tensor in header.items() if name != "__metadata__"}
    except OSError as error:
        raise UserError(f"{file!s:.300}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise UserError(f"{file}: is no .safetensors file, or is damaged") from None


def find_run(root: Path, run: str) -> Path:
    """Return the folder of the run whose id begins with `run`.

    The same run in two experiments has the same id and the same bits: a folder with its final
    weights comes first.

    Raises:
        UserError: No id, or more than one, begins with `run`.
    """
    folders = sorted(f for f in root.glob("runs/*/*") if f.is_dir() and f.name.startswith(run))
    ids = sorted({folder.name for folder in folders})
    if not run or not folders:
        hint = "`gan-bench status` of an experiment shows the ids of its runs"
        home = root / "runs" / Path(run).name
        if run and (run.endswith((".yaml", ".yml")) or os.path.isdir(home)):
            hint = f"it is an experiment: `gan-bench status {run}` shows the ids of its runs"
        raise UserError(f"no run's id begins with {run!r} under {root}; {hint}")
    if len(ids) > 1:
        raise UserError(f"the ids of {len(ids)} runs begin with {run!r}: {', '.join(ids[:4])}; "
                        f"give more of the id")
    trained = [folder for folder in folders if (folder / FINAL_WEIGHTS).exists()]
    return (trained or folders)[0]
