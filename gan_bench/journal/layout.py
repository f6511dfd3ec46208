"""The layout of the root folder, which holds everything that runs write."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gan_bench.atomic import final_name
from gan_bench.config.initial_weights import FINAL_WEIGHTS
from gan_bench.errors import UserError, unwritable
from gan_bench.journal import reading
from gan_bench.journal.schema import RESULTS, Kind
from gan_bench.journal.segments import JOURNAL_FILES
from gan_bench.journal.sharing.claims import ATTEMPT
from gan_bench.paths import normal_path

if TYPE_CHECKING:
    from gan_bench.config.spec import RunSpec
    from gan_bench.journal.sharing.claims import Claim
    from gan_bench.registry import Plugin

KeepCheckpoints = Literal["last", "none"]

# Files of a run's folder.
DATABASE = "mlflow.db"  # MLflow's, in the root
WEIGHTS, LOG = FINAL_WEIGHTS, "log.txt"
# Of the runs in an experiment's folder.
JOURNALS, CLAIMS = f"*/{JOURNAL_FILES}", f"*/{ATTEMPT}.*"
TABLE, TRACE = "profile.txt", "trace.json.gz"  # of a profiled run


@dataclass(frozen=True)
class Workspace:
    """The places that runs read and write.

    Attributes:
        root: The folder that runs write to; absolute and without `..`, however it was given.
        data_root: The folder of the data sets; likewise.
        tracking_uri: MLflow's store; None: MLFLOW_TRACKING_URI, or the database in `root`.

    Raises:
        UserError: A folder is not a path.
    """

    root: Path = Path("mlruns")
    data_root: Path = Path("data")
    tracking_uri: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", normal_path(self.root))
        object.__setattr__(self, "data_root", normal_path(self.data_root))

    @property
    def database(self) -> Path:
        """MLflow's database in the root, which need not exist yet."""
        return self.root / DATABASE

    @property
    def artifacts(self) -> Path:
        """The folder where MLflow keeps files, unless the store is a server."""
        return self.root / "artifacts"

    @property
    def cache(self) -> Path:
        """The folder of decoded data, extractors and reference features."""
        return self.root / "cache"

    def run_folder(self, spec: RunSpec) -> Path:
        """Return the folder of a run, which need not exist yet."""
        return spec.folder(self.root)


@dataclass(frozen=True)
class Execution:
    """Where and how runs are executed; no part of their specification.

    Attributes:
        workspace: Where the runs, the data sets and MLflow's store are.
        checkpoint_every: Seconds between two checkpoints of a run; None: 30, or as many more as
            keep their cost below 1 % of the time.
        allow_drift: Whether to resume from a checkpoint of another version of torch or another
            device; the journal then records it.
        profile: Whether to profile some steps of each run that begins; a resumed run is not
            profiled.
        keep_checkpoints: `last`: a finished run keeps the state after its last step, from which a
            run with more steps continues; `none`: it keeps no state.
        shorter_runs: By run id, the folders of runs that it can continue from, the furthest first.
        plugins: The plug-in files whose parts the runs may use.
        claims: By run id, the claims that the process which started this one holds.
    """

    workspace: Workspace
    checkpoint_every: float | None = None
    allow_drift: bool = False
    profile: bool = False
    keep_checkpoints: KeepCheckpoints = "last"
    shorter_runs: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    plugins: tuple[Plugin, ...] = ()
    claims: Mapping[str, Claim] = field(default_factory=dict)


CHECKPOINTS = "checkpoint.pt", "checkpoint.before.pt"  # of a run: the newest, and the previous
_CHECKPOINT = re.compile(r"checkpoint(?:\.([1-9][0-9]{0,8}))?(\.before)?\.pt")


def checkpoint_names(segment: int) -> tuple[str, str]:
    """Return the names of the newest and the previous checkpoint of a segment's writer.

    Each segment of a journal has a writer of its own, and so have the checkpoints beside it.
    """
    if segment == 1:
        return CHECKPOINTS
    return f"checkpoint.{segment}.pt", f"checkpoint.{segment}.before.pt"


def checkpoint_files(folder: Path) -> list[tuple[int, Path]]:
    """Return the checkpoints of a run, the newest first, each with the number of its segment."""
    found = []
    with suppress(FileNotFoundError, NotADirectoryError):
        for name in os.listdir(folder):
            if match := _CHECKPOINT.fullmatch(name):
                found.append((int(match[1] or 1), not match[2], folder / name))
    return [(segment, file) for segment, _, file in sorted(found, reverse=True)]


def newest_checkpoint(folder: Path) -> Path:
    """Return the newest checkpoint of a run; without any, where its first one would be."""
    files = checkpoint_files(folder)
    return files[0][1] if files else folder / CHECKPOINTS[0]


def is_trained(folder: Path) -> bool:
    """Whether a run has ended in a result and has its weights."""
    last = reading.last(folder)
    is_ended = last is not None and last["kind"] == Kind.END and last["status"] in RESULTS
    return is_ended and (folder / WEIGHTS).exists()


SNAPSHOTS = "snapshots"  # the folder of a run's networks at the steps that were measured


def snapshot_file(folder: Path, step: int) -> Path:
    """Return the file of a run's networks after a step."""
    return folder / SNAPSHOTS / f"step-{step:07d}.safetensors"


def make_snapshot_folder(folder: Path) -> None:
    """Create the folder of a run's snapshots.

    Raises:
        UserError: It is a link.
    """
    (folder / SNAPSHOTS).mkdir(exist_ok=True)
    _refuse_snapshots_elsewhere(folder)


def _refuse_snapshots_elsewhere(folder: Path) -> None:
    if (folder / SNAPSHOTS).is_symlink():
        raise UserError(f"{folder / SNAPSHOTS}: is a link; remove it: a run's files stay in its "
                        f"folder")


def snapshot_steps(folder: Path) -> set[int]:
    """Return the steps of which a run's folder holds the networks."""
    names = (file.stem.partition("-")[2] for file in folder.glob(f"{SNAPSHOTS}/step-*.safetensors"))
    return {int(name) for name in names if name.isdecimal()}


def remove_snapshots(folder: Path, step: int) -> None:
    """Delete the networks of later steps when the records after a step become void.

    A later attempt may measure at other steps, or train other weights: nobody may take them for
    its networks.

    Raises:
        UserError: Their folder is a link.
    """
    _refuse_snapshots_elsewhere(folder)
    for later in snapshot_steps(folder):
        if later > step:
            snapshot_file(folder, later).unlink(missing_ok=True)


def make_root(root: Path) -> None:
    """Create the root folder.

    Raises:
        UserError: It cannot be created or written to.
    """
    try:
        (root / "runs").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(f"--root {root}", error, elsewhere="name another folder",
                         verb="created") from None
    if not os.access(root / "runs", os.W_OK):
        raise UserError(f"--root {root}: is not writable; give another with --root")


def make_folder(folder: Path) -> None:
    """Create the folder of an experiment or of a run.

    Raises:
        UserError: Another file, or a link, lies in its place, or the disk is full.
    """
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error, verb="used") from None
    _refuse_link(folder)


def _refuse_link(folder: Path) -> None:
    if folder.is_symlink():
        raise UserError(f"{folder}: is a link; move it away: the root's files stay in the root, "
                        f"which may be a link itself")


def remove_checkpoints(folder: Path, segment: int, keep: KeepCheckpoints = "none") -> None:
    """Delete a run's checkpoints when it has ended or begins again; `last` keeps the newest.

    And what a process that was killed in the midst of one has left: an attempt that took over from
    it writes checkpoints of other names, and never over that.

    Args:
        segment: That of the journal that the caller writes to. Those of later ones stay: should
            another process have taken the run over, they are its own.
    """
    left = [(int(match[1] or 1), file) for file in folder.glob(".checkpoint*.tmp")
            if (match := _CHECKPOINT.fullmatch(final_name(file.name)))]
    kept = 1 if keep == "last" else 0
    for number, file in [*left, *checkpoint_files(folder)[kept:]]:
        if number <= segment:
            file.unlink(missing_ok=True)


def remove_unfinished(folder: Path) -> None:
    """Delete what lost attempts of a run have begun to write, on whatever machine.

    The caller holds the run's claim. What processes write there without a claim stays: the mirror
    its cursor, a command that prepares the run its specification.
    """
    own = [file for file in folder.glob(".*.tmp")
           if (name := final_name(file.name)) in (WEIGHTS, TABLE, TRACE)
           or fnmatch(name, JOURNAL_FILES)]
    below = (file for where in ("samples", SNAPSHOTS) for file in folder.glob(f"{where}/.*.tmp")
             if final_name(file.name))
    for file in [*own, *below]:
        with suppress(OSError):
            file.unlink()


def run_folders(experiment: Path) -> list[Path]:
    """Return the folders of all runs of an experiment that have begun, older settings included.

    Raises:
        UserError: One of them is a link.
    """
    return _folders_with(experiment, JOURNALS)


def claimed_folders(experiment: Path) -> list[Path]:
    """Return the folders of all runs that were ever claimed, also of those without a record yet.

    Raises:
        UserError: One of them is a link.
    """
    return _folders_with(experiment, CLAIMS)


def _folders_with(experiment: Path, pattern: str) -> list[Path]:
    folders = sorted({file.parent for file in experiment.glob(pattern)})
    for folder in (experiment, *folders):
        _refuse_link(folder)
    return folders
