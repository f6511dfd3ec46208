"""A real PostgreSQL server for tests, where its programs and a driver for Python are installed."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest
import sqlalchemy

from gan_bench.journal import reading


class Postgres:
    """A server on a port of the loopback device, with an empty database, `runs`.

    Args:
        space: The network namespace whose loopback device is meant; empty: this one.
    """

    def __init__(self, space: str = "") -> None:
        self._space = space
        folders = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
        folders += [Path(found).parent for found in [shutil.which("initdb")] if found]
        binaries = [folder for folder in folders if (folder / "initdb").exists()]
        if not binaries:
            pytest.skip("PostgreSQL's initdb is not installed")
        drivers = [name for name in ("psycopg", "psycopg2") if find_spec(name)]
        if not drivers:
            pytest.skip("neither psycopg nor psycopg2 is installed")
        self._binaries = binaries[0]
        self._user: str | int | None = None
        if os.geteuid() == 0:  # PostgreSQL refuses to run as root
            try:
                self._user = pwd.getpwnam("postgres").pw_uid
            except KeyError:
                self._user = 65534
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))
        if self._user is not None:
            os.chown(self._folder, int(self._user), -1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._call("initdb", "-D", "data", "-U", "me", "--auth=trust", "--no-sync")
        self.uri = f"postgresql+{drivers[0]}://me:se%40cret@127.0.0.1:{self._port}/runs"
        self.start()
        self._call("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", "me", "runs")

    def start(self) -> None:
        """Start it, again after a `stop`."""
        options = (f"-p {self._port} -c listen_addresses=127.0.0.1 "
                   f"-c unix_socket_directories={self._folder} -F")
        self._call("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        """Stop it, as a crash would."""
        self._call("pg_ctl", "-D", "data", "-m", "immediate", "stop")

    def metrics(self) -> list[tuple[str, str, int, int, float]]:
        """Return the rows of MLflow's metrics, of runs that are not deleted, in order.

        Each is the run's id, the metric, step, time in ms since 1970, and value.
        """
        engine = sqlalchemy.create_engine(  # by a file, which has no network
            self.uri.replace(f"127.0.0.1:{self._port}", "") + f"?host={self._folder}"
            f"&port={self._port}")
        query = sqlalchemy.text(
            "select t.value, m.key, m.step, m.timestamp, m.value from metrics m "
            "join runs r on r.run_uuid = m.run_uuid and r.lifecycle_stage = 'active' "
            "join tags t on t.run_uuid = m.run_uuid and t.key = 'run_id'")
        try:
            with engine.connect() as connection:
                return sorted(tuple(row) for row in connection.execute(query))
        finally:
            engine.dispose()

    def remove(self) -> None:
        """Stop it if it runs, and remove its files."""
        self._call("pg_ctl", "-D", "data", "-m", "immediate", "stop", check=False)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _call(self, program: str, *arguments: str, check: bool = True) -> None:
        command, user = [self._binaries / program, *arguments], self._user
        if self._space:  # which only root may enter
            command = ["nsenter", f"--net=/run/netns/{self._space}", "--setuid", str(user),
                       *command]
            user = None
        subprocess.run(command, cwd=self._folder, check=check, user=user,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def journal_rows(folders: list[Path]) -> list[tuple[str, str, int, int, float]]:
    """Return what the journals of runs hold, as `Postgres.metrics` returns it."""
    return sorted((folder.name, name, record["step"], record["t"], value) for folder in folders
                  for record in reading.valid(reading.read_records(folder)[0])
                  for name, value in record.get("values", {}).items())
