"""A root that was moved or copied: the addresses of artifacts in its database follow it.

MLflow stores absolute addresses, `<root>/artifacts/<experiment>/<run>/artifacts`. Other roots may
keep runs in the same database, and their artifacts are elsewhere for good. So an address is changed
only if the run is the root's by its recorded origin, and the earlier place is gone or this root is
a copy of it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from gan_bench.errors import UserError
from gan_bench.journal.layout import DATABASE
from gan_bench.paths import normal_path
from gan_bench.tracking.runs import cursor as cursors
from gan_bench.tracking.runs.origin import ROOT_TAG, recorded_origin
from gan_bench.tracking.runs.tags import ABOUT
from gan_bench.tracking.store.database import open_read_only

EXPERIMENTS = ("select e.experiment_id, e.name, e.artifact_location, t.value is not null from "
               f"experiments e left join experiment_tags t on t.experiment_id = e.experiment_id "
               f"and t.key = '{ABOUT}' where e.experiment_id != 0")
RUNS = ("select r.run_uuid, coalesce(r.artifact_uri, ''), e.name, t.value from runs r "
        "join experiments e on e.experiment_id = r.experiment_id "
        f"left join tags t on t.run_uuid = r.run_uuid and t.key = '{ROOT_TAG}'")


@dataclass(frozen=True)
class LocatedExperiment:
    """A row of MLflow's table of experiments; `is_ours`: whether the program has made it."""

    id: int
    name: str
    location: str
    is_ours: bool


@dataclass(frozen=True)
class LocatedRun:
    """A row of MLflow's table of runs.

    Attributes:
        id, location: MLflow's.
        experiment: The name of its experiment.
        root: The id of the root that made it; None if it has no such tag.
    """

    id: str
    location: str
    experiment: str
    root: str | None


@dataclass
class Addresses:
    """The addresses in the database of a root that lead out of the root's artifacts.

    Attributes:
        experiments: Those whose folder of runs the root has.
        runs: The runs of the root.
        strangers: The runs of other roots.
        earlier: Where the root was, or the root that it is a copy of, with the experiment's name.
        written: The path of the root that its file of origin says.
    """

    root: Path
    experiments: list[LocatedExperiment] = field(default_factory=list)
    runs: list[LocatedRun] = field(default_factory=list)
    strangers: list[LocatedRun] = field(default_factory=list)
    earlier: set[tuple[Path, str]] = field(default_factory=set)
    written: str = ""


def follow_root(database: Path) -> Addresses:
    """Change the addresses that a moved or copied root has left behind, all or none of them.

    Args:
        database: The one in the root.

    Returns:
        Those that still lead out of the root.

    Raises:
        sqlite3.Error: It cannot be read or written.
        OSError: A cursor file of the root cannot be written.
        UserError: As `open_read_only`.
    """
    root = database.parent
    with closing(open_read_only(database)) as connection:
        addresses = outward_addresses(connection, root)
    experiments = [each for each in addresses.experiments if _is_left_behind(addresses, each)]
    runs = [each for each in (*addresses.runs, *addresses.strangers) if _has_moved(addresses, each)]
    if not (experiments or runs):
        return addresses
    # First the cursors: once no address leads out of the root, none of this is looked at.
    for place in {place for place, _ in addresses.earlier}:
        for folder in _run_folders(root):
            cursors.take_over(folder, f"sqlite:///{place / DATABASE}")
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executemany(
            "update experiments set artifact_location = ? where experiment_id = ?",
            [(_inside(root, each.location, 2), each.id) for each in experiments])
        connection.executemany("update runs set artifact_uri = ? where run_uuid = ?",
                               [(_inside(root, each.location, 4), each.id) for each in runs])
    return replace(addresses, runs=[each for each in addresses.runs if each not in runs],
                   experiments=[each for each in addresses.experiments if each not in experiments])


def check_addresses(database: Path) -> None:
    """Let the addresses in a root's database follow the root; check that MLflow writes only there.

    Raises:
        UserError: The database cannot be written, or an address of the root's runs leads out of it.
    """
    try:
        addresses = follow_root(database)
    except (sqlite3.Error, OSError) as error:
        raise UserError(f"cannot use {database} as MLflow's database ({error}); make it writable, "
                        f"or name another with --tracking-uri") from error
    for experiment in addresses.experiments:
        if not experiment.is_ours:
            raise UserError(f"{database}: its experiment {experiment.name!r} is not of gan-bench, "
                            f"and keeps its artifacts in {experiment.location}; give one of the "
                            f"two another name")
        raise UserError(f"{database}: the artifacts of {experiment.name!r} belong to "
                        f"{experiment.location}, where another root keeps them; "
                        f"{_start_over(database)}")
    for run in addresses.runs:
        raise UserError(f"{database}: the artifacts of its run {run.id} belong to {run.location}, "
                        f"out of {database.parent / 'artifacts'}; {_start_over(database)}")


def outward_addresses(connection: sqlite3.Connection, root: Path) -> Addresses:
    """Return the addresses in a root's own database that lead out of its artifacts."""
    home = root / "artifacts"
    inside = _Inside(home)
    experiments = [LocatedExperiment(*row) for row in connection.execute(EXPERIMENTS)]
    rows = [LocatedRun(*row) for row in connection.execute(RUNS)]
    addresses = Addresses(root, [
        each for each in experiments if each.location.startswith("file:")
        and not inside(each.location, 1) and (root / "runs" / each.name).is_dir()])
    outward = [row for row in rows if not inside(row.location, 2)]
    if not (addresses.experiments or outward):
        return addresses
    places = {place for row in outward if (place := _place_of(row)) is not None}
    stored = recorded_origin(root)
    addresses.written = stored.path if stored else ""
    named = _named_in_cursors(root, places)
    origins = {row.root for row in rows if row.id in named and row.root}
    origins |= {stored.id} if stored else set()
    for row in outward:
        is_own = row.id in named or row.root in origins
        (addresses.runs if is_own else addresses.strangers).append(row)
    for row in addresses.runs:
        place = _place_of(row)
        if place is None:
            continue
        is_gone = not os.path.exists(place / "artifacts" / row.experiment)
        is_copied = os.path.exists(home / row.experiment / row.id)
        if is_gone or is_copied or addresses.written == str(place):
            addresses.earlier.add((place, row.experiment))
    return addresses


def present_place(location: str, database: Path | None) -> Path:
    """Return the folder of a local address: in the root beside the database if that was moved.

    That is for databases that cannot be written, whose addresses stay as they are.
    """
    place = local_path(location)
    if database is None or os.path.exists(place) or "artifacts" not in place.parts[-4:-3]:
        return place
    moved = database.parent.joinpath(*place.parts[-4:])
    return moved if os.path.exists(moved) else place


def local_path(location: str) -> Path:
    """Return the path that MLflow makes of a local address, without `..`.

    A root given as `../root` left addresses with `..`, which are as good as any.
    """
    path = urlsplit(location).path if location.startswith("file:") else location
    return normal_path(url2pathname(path))


class _Inside:
    """Whether addresses lead into a root's artifacts, or are no local ones."""

    def __init__(self, home: Path) -> None:
        self._home, self._prefix = home.resolve(), f"{home.as_uri()}/"
        self._parents: dict[Path, bool] = {}

    def __call__(self, location: str, depth: int) -> bool:
        """Whether it leads there; all addresses with the same parent, so far up, do or do not."""
        if not location.startswith(("file:", "/")):
            return True
        rest = location.removeprefix(self._prefix)
        if rest != location and not {"..", "%"} & {*rest.split("/"), *rest}:
            return True
        path = local_path(location)
        parent = path.parents[depth - 1] if len(path.parents) >= depth else path
        if parent not in self._parents:
            self._parents[parent] = parent.resolve().is_relative_to(self._home)
        return self._parents[parent]


def _place_of(row: LocatedRun) -> Path | None:
    """Return the root that the address of a run names; None if it has another form."""
    parts = local_path(row.location).parts
    if parts[-4:] != ("artifacts", row.experiment, row.id, "artifacts"):
        return None
    return Path(*parts[:-4])


def _has_moved(addresses: Addresses, row: LocatedRun) -> bool:
    place = _place_of(row)
    if place is None:
        return False
    if row in addresses.runs:
        return (place, row.experiment) in addresses.earlier
    tail = Path("artifacts", row.experiment, row.id)  # of another root, kept in this one
    return os.path.exists(addresses.root / tail) and not os.path.exists(place / tail)


def _is_left_behind(addresses: Addresses, experiment: LocatedExperiment) -> bool:
    folder = local_path(experiment.location)
    if not experiment.is_ours or folder.parts[-2:] != ("artifacts", experiment.name):
        return False
    place = folder.parent.parent
    return ((place, experiment.name) in addresses.earlier or addresses.written == str(place)
            or not os.path.exists(folder))


def _inside(root: Path, location: str, depth: int) -> str:
    """Return the address of the same artifacts in the root: the last parts of the path stay."""
    return root.joinpath(*local_path(location).parts[-depth:]).as_uri()


def _named_in_cursors(root: Path, places: Iterable[Path]) -> set[str]:
    """Return MLflow's ids of the runs that the root's cursor files name in its own database."""
    uris = [f"sqlite:///{place / DATABASE}" for place in (root, *places)]
    names = {cursors.named_run(folder, uri) for folder in _run_folders(root) for uri in uris}
    return {name for name in names if name is not None}


def _run_folders(root: Path) -> list[Path]:
    return [file.parent for file in root.glob(f"runs/*/*/{cursors.FILE}")]


def _start_over(database: Path) -> str:
    return (f"move {database.name}* away, as it may hold other runs too, and run the experiment "
            f"again, which fills a new one from the runs' journals")
