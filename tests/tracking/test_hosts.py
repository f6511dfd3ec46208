"""Machines with their own addresses share a root, and the link to MLflow is cut for a while.

They are namespaces of this machine: of network, host name, processes and mounts. MLflow is on
PostgreSQL, on a third one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.hosts import Network
from helpers.postgres import Postgres, journal_rows
from helpers.runs import write_experiment
from helpers.servers import free_port

from gan_bench.cli.results.ui import ui_command
from gan_bench.journal.layout import Workspace

GRID = """\
name: tiny
dataset: {name: digits, image_size: 16}
seeds: [0, 1, 2]
base: {model: {name: mlp, width: 16}, batch_size: 32, steps: 400, log_every: 2, sample_every: 200}
variants:
  plain:
  saturating: {loss: saturating}
evaluate: {every: 200, samples: 50, metrics: [d_accuracy, nearest_train_mse]}
compute: {device: cpu}
"""
PROGRAM = (sys.executable, "-m", "gan_bench")


def serve(network: Network, place: Path, postgres: Postgres, port: int, output: Path,
          ) -> subprocess.Popen[str]:
    """Start MLflow's server on the machine `store`, beside its database."""
    address = network.address("store")
    words, variables = ui_command(Workspace(place, tracking_uri=postgres.uri), port, address)
    return network.start("store", words, output, {**os.environ, **variables})


@pytest.mark.long
@pytest.mark.process
@pytest.mark.parametrize("seconds", [5, 60])
def test_a_link_that_is_cut_loses_nothing(tmp_path: Path, seconds: int) -> None:
    root, place, output, port = tmp_path / "root", tmp_path / "place", tmp_path / "out", free_port()
    root.mkdir()
    file = write_experiment(tmp_path, GRID)
    env = {key: value for key, value in os.environ.items() if key != "MLFLOW_TRACKING_URI"}
    processes: list[subprocess.Popen[str]] = []
    with Network(("store", "first", "second"), root, place) as network:
        uri, postgres = f"http://{network.address('store')}:{port}", Postgres(network.hub)
        try:
            processes.append(serve(network, place, postgres, port, output))
            network.wait_for("first", network.address("store"), port)
            run = network.start("first", [*PROGRAM, "run", file, "--root", place, "--slots", "1",
                                          "--tracking-uri", uri], output, env)
            work = network.start("second", [*PROGRAM, "work", file, "--root", place,
                                            "--slots", "1"], output, env)
            processes += [run, work]
            deadline = time.monotonic() + 120
            while not (before := len(postgres.metrics())):
                assert time.monotonic() < deadline, output.read_text()
                time.sleep(0.2)
            network.cut("first")
            assert not network.reaches("first", network.address("store"), port)
            cut = len(postgres.metrics())
            time.sleep(seconds)
            assert len(postgres.metrics()) == cut >= before
            network.mend("first")
            network.wait_for("first", network.address("store"), port)
            statuses = work.wait(300), run.wait(300)
            copied = network.start("second", [*PROGRAM, "sync", "--root", place, "--to", uri],
                                   output, env).wait(120)
            # The mirror waits half a minute after the last run; `sync` copies what is left.
            assert (statuses in ((0, 0), (0, 3)), copied) == (True, 0), output.read_text()
            rows = postgres.metrics()
        finally:
            for process in processes:
                process.kill()
                process.wait()
            postgres.remove()
    folders = sorted(claim.parent for claim in root.glob("runs/tiny/*/attempt.1"))
    assert len(folders) == 6
    assert rows == journal_rows(folders)
    assert len({row[:3] for row in rows}) == len(rows) > cut
    hosts = {claim.read_text().split('"host": "')[1].split('"')[0]
             for claim in root.glob("runs/tiny/*/attempt.*")}
    assert hosts == {"first", "second"}
