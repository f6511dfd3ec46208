"""The commands that `helpers.kills` kills, and what each of them leaves."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from helpers.downloads import Site, download, serve
from helpers.images import save_pngs
from helpers.journals import repeatable
from helpers.kills import Part
from helpers.servers import mlflow_server
from helpers.studies import copy_of, make_studies
from helpers.warm import OUTPUT, STARTED, Job, command

from gan_bench.cli.results.report import FORMATS
from gan_bench.journal import reading
from gan_bench.journal.segments import FILE as JOURNAL
from gan_bench.report.write import UNFINISHED
from gan_bench.tracking.runs.cursor import FILE as CURSORS
from gan_bench.tracking.store import client

TINY = """\
name: prepared
dataset: {{name: image_folder, path: {images}, image_size: 16, channels: 1}}
seeds: [0]
base: {{model: {{name: mlp, width: 16}}, batch_size: 16, steps: 2, log_every: 1, sample_every: 2}}
variants: {{plain: {{}}}}
evaluate: {{every: 2, samples: 50, metrics: [fd_classifier]}}
compute: {{device: cpu}}
"""
# Tags: times, the id of the root, bytes of the journal, and what a run says that resumes after it
# was killed.
PASSING = ("heartbeat", "gan_bench.root", "gan_bench.attempt", "gan_bench.copied",
           "resumed_after_step")
LAST_WORDS = "artifacts/log.txt"  # MLflow keeps it of an attempt that was killed
FOREIGN = {"notes.txt": b"mine", "figures/mine.txt": b"mine too", ".report": b"and mine",
           "data/pairs.csv": b"a,b\n"}


@contextmanager
def all_parts(folder: Path) -> Iterator[list[Part]]:
    """Train two studies and start the servers in an empty folder; yield all parts."""
    own = folder / "made"
    own.mkdir(parents=True)
    trained = make_studies(own)
    empty = empty_store(own)
    shutil.copytree(empty.parent, own / "server")
    with mlflow_server(own / "server", f"sqlite:///{own}/server/mlflow.db") as address, \
            serve(own / "site") as site:
        yield [evaluate(trained), sync(trained), to_server(trained, address, own / "server"),
               report(trained), preparation(own, empty), downloads(site)]


@contextmanager
def short_parts(folder: Path, trained: Path) -> Iterator[list[Part]]:
    """Yield the parts that need no MLflow server, with less to do: no migrations, no figures.

    Args:
        folder: An empty folder.
        trained: The root of `make_studies`.
    """
    empty = empty_store(folder)
    with serve(folder / "site") as site:
        yield [evaluate(trained), sync(trained, empty), report(trained, "csv,md,tex,parquet"),
               preparation(folder, empty), downloads(site)]


def empty_store(folder: Path) -> Path:
    """Create MLflow's database in a new folder."""
    empty = folder / "empty" / "mlflow.db"
    empty.parent.mkdir()
    client._create_sqlite(empty, folder / "empty" / "artifacts")
    return empty


def evaluate(trained: Path) -> Part:
    """`gan-bench evaluate RUN --log`, which computes reference features too."""
    def fill(place: Path) -> None:
        copy_of(trained, place / "root")
        shutil.rmtree(place / "root" / "cache" / "features")

    def job(place: Path) -> Job:
        run = min((place / "root").glob("runs/losses/*/journal.jsonl")).parent
        return Job(command, ("evaluate", run, "--log", "--root", place / "root", "--samples", 300,
                             "--metric", "fd_random,classes_covered"), place)

    return Part("evaluate", fill, job, _root, "root/cache/features/*")


def sync(trained: Path, empty: Path | None = None) -> Part:
    """`gan-bench sync` into an SQLite store that does not exist yet.

    Args:
        empty: What MLflow's migrations make of a new file; None: they are run, for seconds.
    """
    def job(place: Path) -> Job:
        return Job(_sync, (empty, "sync", "--root", place / "root"), place)

    return Part("sync", partial(_journals_only, trained, "more"), job, _root, "root/.mlflow-*")


def _sync(empty: Path | None, *arguments: object) -> None:
    from mlflow.store.db import utils

    if empty:  # in this process, which ends
        utils._initialize_tables = lambda engine: shutil.copy(empty, engine.url.database)
    command(*arguments)


def to_server(trained: Path, address: str, server: Path) -> Part:
    """`gan-bench sync` into an MLflow server, where each folder's experiment has its own name."""
    def fill(place: Path) -> None:
        _journals_only(trained, "more", place)
        (place / "root/runs/more").rename(place / "root/runs" / place.name)
        for file in place.glob("root/runs/*/*/spec.json"):
            spec = json.loads(file.read_text())
            file.write_text(json.dumps({**spec, "experiment": place.name}))

    def job(place: Path) -> Job:
        return Job(command, ("sync", "--root", place / "root", "--to", address), place)

    def left(place: Path) -> dict[str, Any]:
        found = _root(place, server / "mlflow.db")
        return renamed(found, place.name, "more")

    return Part("server", fill, job, left, "root/runs/*/*/mirror.json")


def report(trained: Path, formats: str = ",".join(FORMATS)) -> Part:
    """`gan-bench report NAME --out DIR`, where DIR holds files of the user."""
    def fill(place: Path) -> None:
        copy_of(trained, place / "root")
        for name, content in FOREIGN.items():
            (place / "out" / name).parent.mkdir(parents=True, exist_ok=True)
            (place / "out" / name).write_bytes(content)

    def job(place: Path) -> Job:
        return Job(command, ("report", "more", "--root", "root", "--out", "out", "--format",
                             formats), place)

    def left(place: Path) -> dict[str, Any]:
        return {**_root(place), "report": _contents(place / "out")}

    return Part("report", fill, job, left, f"out/{UNFINISHED}*")


def preparation(own: Path, empty: Path) -> Part:
    """`gan-bench run` of an image folder: decoded, its classifier trained, one run."""
    draws = np.random.default_rng(0)
    for label in range(2):
        dark = draws.integers(0, 100, (20, 1, 16, 16))
        save_pngs(own / "images" / f"class{label}", (dark + 100 * label).astype(np.uint8))

    def fill(place: Path) -> None:
        (place / "tiny.yaml").write_text(TINY.format(images=own / "images"))
        (place / "root").mkdir()
        shutil.copy(empty, place / "root")
        with closing(sqlite3.connect(place / "root" / "mlflow.db")) as db, db:
            db.execute("update experiments set artifact_location = replace(artifact_location, ?, "
                       "?)", (str(empty.parent), str(place / "root")))

    def job(place: Path) -> Job:
        return Job(command, ("run", "tiny.yaml", "--root", "root"), place)

    return Part("preparation", fill, job, _root, "root/cache/*/.*", starts=True)


def downloads(site: Site) -> Part:
    """The download of a data set, and its decoding."""
    return Part("download", lambda place: None, partial(download, site), _contents,
                "root/.*download-*")


def _journals_only(trained: Path, name: str, place: Path) -> None:
    """Copy an experiment that no store has seen."""
    shutil.copytree(trained / "runs" / name, place / "root" / "runs" / name,
                    ignore=shutil.ignore_patterns(CURSORS))


def renamed(found: Any, before: str, after: str) -> Any:
    """Replace a name in all texts, in dictionaries and lists of any depth."""
    if isinstance(found, str):
        return found.replace(before, after)
    if isinstance(found, dict):
        return {renamed(key, before, after): renamed(value, before, after)
                for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [renamed(value, before, after) for value in found]
    return found


def _contents(place: Path) -> dict[str, Any]:
    """All files and folders, but those that the harness and SQLite keep for themselves."""
    ours = {OUTPUT, STARTED}
    found = {}
    for path in sorted(place.rglob("*")):
        if path.name not in ours and not path.name.endswith(("-wal", "-shm")):
            content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
            found[str(path.relative_to(place))] = content
    return found


# A killed command leaves its claim, and the next one makes another; an index has a process's name.
CLAIM = re.compile(r"\.?(attempt|mirror|preparation|queue-change)\.[0-9a-f]+|over\..+\.[0-9]+")
# The attempt after a loss writes to files of its own. What they hold is compared: journals below,
# and of checkpoints only the newest stays.
OWN_FILES = re.compile(r"^(journal|checkpoint)\.[0-9]+\.")


def _root(place: Path, database: Path | None = None) -> dict[str, Any]:
    """What a root holds: names, caches, journals, and what MLflow has of its runs."""
    root = place / "root"
    found = [p.with_name(OWN_FILES.sub(r"\1.", p.name)) for p in root.rglob("*")
             if not p.name.endswith(("-wal", "-shm")) and not p.match(LAST_WORDS)
             and not CLAIM.fullmatch(p.name)]
    journals = {file.parent for file in found if file.name == JOURNAL}
    files = [*(file for file in found if file.name != JOURNAL),
             *(folder / JOURNAL for folder in journals)]
    names = [re.sub(r"[0-9a-f]{32}", "ID", re.sub(r"timestamp\+\d+", "", str(p.relative_to(root))))
             for p in files]
    return {"names": sorted(names), "cache": _contents(root / "cache"),
            "journals": {str(folder.relative_to(root)): repeatable(reading.read_records(folder)[0])
                         for folder in journals if folder.is_relative_to(root / "runs")},
            **_in_mlflow(database or root / "mlflow.db", [f.name for f in root.glob("runs/*")])}


def _in_mlflow(database: Path, experiments: list[str]) -> dict[str, Any]:
    """Rows and values of MLflow's runs, by experiment and run; times and measurements aside."""
    found: dict[str, Any] = {}
    with closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as db:
        for name in experiments:
            runs = db.execute(
                "select r.run_uuid, t.value, r.status, r.name, r.artifact_uri from runs r join "
                "experiments e on e.experiment_id = r.experiment_id and e.name = ? left join tags "
                "t on t.run_uuid = r.run_uuid and t.key = 'run_id' where r.lifecycle_stage = "
                "'active' order by t.value", (name,)).fetchall()
            found[f"MLflow runs of {name}"] = [run[1:4] for run in runs]
            for uuid, run, _, _, artifacts in runs:
                found[f"MLflow {name}/{run}"] = {
                    **_rows_of(db, uuid, database.parent), "files": sorted(
                        re.sub(r"timestamp\+\d+", "", str(path.relative_to(home)))
                        for home in [Path(artifacts.removeprefix("file://"))]
                        for path in home.rglob("*") if not path.match(LAST_WORDS))}
    return found


def _rows_of(db: sqlite3.Connection, uuid: str, home: Path) -> dict[str, Any]:
    def rows(what: str, table: str) -> list[tuple[Any, ...]]:
        return sorted(db.execute(f"select {what} from {table} where run_uuid = ?",
                                 (uuid,)).fetchall(), key=repr)

    measured = "case when key like 'system/%' then 0 else value end"
    inputs = db.execute("select count(*) from inputs where destination_id = ?", (uuid,)).fetchone()
    return {
        "metrics": rows(f"key, step, is_nan, {measured}", "metrics"),
        "latest metrics": rows(f"key, step, is_nan, {measured}", "latest_metrics"),
        "params": rows("key, value", "params"),
        "tags": [(key, value.replace(str(home), "HOME"))
                 for key, value in rows("key, value", "tags") if key not in PASSING and value],
        "data sets": inputs,
    }
