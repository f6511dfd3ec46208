"""Real studies for the tests of the comparison: trained once, and read by all of them."""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import warnings
from collections.abc import Sequence
from contextlib import closing, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest
from helpers.launching import STRICT

from gan_bench.cli.app import main
from gan_bench.tracking.runs import cursor
from gan_bench.tracking.runs.packed_tags import PROTOCOL, PROTOCOLS, SETTINGS, unpack

STUDY = """\
name: {name}
question: Which loss?
dataset: {{name: digits, image_size: 16}}
seeds: [0, 1, 2]
base: {{model: {{name: mlp, width: 16}}, batch_size: 32, steps: 20, log_every: 5, sample_every: 10}}
variants: {variants}
evaluate: {{every: 10, samples: 100, metrics: [fd_random, d_accuracy, classes_covered],
  latent_sets: {sets}}}
margin: 5%
compute: {{device: cpu}}
"""


def here(*arguments: object, env: dict[str, str] | None = None,
         ) -> subprocess.CompletedProcess[str]:
    """Run the command line in this process, which has imported torch and MLflow for other tests.

    That saves seconds where a test is about the words of a command, or needs a trained run; what a
    process of its own is like, other tests of the same command see. Runs are trained in processes
    of their own, as always, which the fork server of the first call forks for all of them: `env` is
    for what the launcher itself reads.
    """
    out, err = io.StringIO(), io.StringIO()
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_TRACK", "GAN_B"))}
    with (patch.dict(os.environ, {**clean, **STRICT, **(env or {})}, clear=True),
          redirect_stdout(out), redirect_stderr(err),
          patch.object(sys, "argv", ["gan-bench", *map(str, arguments)]),
          warnings.catch_warnings()):
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(SystemExit) as end:
            main()
    return subprocess.CompletedProcess(arguments, end.value.code, out.getvalue(), err.getvalue())


def write_study(folder: Path, name: str, variants: str, sets: int = 1) -> Path:
    """Write an experiment file."""
    file = folder / f"{name}.yaml"
    file.write_text(STUDY.format(name=name, variants=variants, sets=sets))
    return file


def make_studies(folder: Path) -> Path:
    """Train two studies: `losses`, of two variants, and `more`, of one; return their root."""
    losses = write_study(folder, "losses", "{plain: {}, sat: {loss: saturating}}", sets=3)
    more = write_study(folder, "more", "{wide: {model: {width: 24}}}")
    for file in (losses, more):
        done = here("run", file, "--root", folder / "root")
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "root"


def copy_of(root: Path, to: Path) -> Path:
    """Copy a root to another place, and tell its store and its cursors that it is there."""
    shutil.copytree(root, to)
    for file in to.glob(f"runs/*/*/{cursor.FILE}"):
        file.write_text(file.read_text().replace(str(root), str(to)))
    with closing(sqlite3.connect(to / "mlflow.db")) as db, db:
        for table, column in ("experiments", "artifact_location"), ("runs", "artifact_uri"):
            db.execute(f"update {table} set {column} = replace({column}, ?, ?)",
                       (str(root), str(to)))
    return to


def edited(root: Path, folder: Path, statements: Sequence[str] = ()) -> str:
    """Return the address of a copy of the root's store, with what SQL has changed of it."""
    with closing(sqlite3.connect(root / "mlflow.db")) as db:
        db.execute("pragma wal_checkpoint(truncate)")
    copy = folder / "copy.db"
    shutil.copy(root / "mlflow.db", copy)
    with closing(sqlite3.connect(copy)) as db, db:
        _unpack_tags(db)
        for statement in statements:
            assert db.execute(statement).rowcount, statement
    return f"sqlite:///{copy}"


def _unpack_tags(db: sqlite3.Connection) -> None:
    """Put what hidden tags hold into params and tags of their own, as earlier versions did."""
    for run, key, text in db.execute("select run_uuid, key, value from tags where key in (?, ?)",
                                     (SETTINGS, PROTOCOLS)).fetchall():
        db.execute("delete from tags where run_uuid = ? and key = ?", (run, key))
        table = "params" if key == SETTINGS else "tags"
        values = unpack(text)
        plain = values if key == SETTINGS else {
            PROTOCOL + name: json.dumps(value, sort_keys=True) for name, value in values.items()}
        db.executemany(f"insert or replace into {table} (key, value, run_uuid) values (?, ?, ?)",
                       [(name, value, run) for name, value in plain.items()])


def of_run(variant: str, seed: int, experiment: str = "losses") -> str:
    """Return an SQL expression for MLflow's id of a run."""
    return (f"(select r.run_uuid from runs r join tags v on v.run_uuid = r.run_uuid and "
            f"v.key = 'variant' and v.value = '{variant}' join tags s on s.run_uuid = r.run_uuid "
            f"and s.key = 'seed' and s.value = '{seed}' join experiments e on e.experiment_id = "
            f"r.experiment_id and e.name = '{experiment}')")


def ended(variant: str, seed: int, status: str, why: str) -> list[str]:
    """Return SQL that lets a run have ended in another way."""
    run = of_run(variant, seed)
    return [f"update tags set value = '{status}' where key = 'status' and run_uuid = {run}",
            f"insert or replace into tags (key, value, run_uuid) values ('why', '{why}', {run})"]
