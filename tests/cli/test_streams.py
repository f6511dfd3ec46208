"""What the program prints to: other encodings, closed streams, a full disk, and no reader."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest
from helpers.launching import GAN_BENCH, gan_bench, new_root
from helpers.runs import write_experiment

pytestmark = pytest.mark.process


def shell(redirection: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command line with redirections of a shell: `>&-` closes stdout."""
    command = ["bash", "-c", f'exec "$@" {redirection}', "bash", *GAN_BENCH, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)


def brief(tmp_path: Path) -> list[object]:
    """Return the arguments that train a short experiment."""
    return ["run", write_experiment(tmp_path), "--root", new_root(tmp_path), "--set", "seeds=[0]",
            "--set", "base.steps=3"]


def test_a_terminal_that_is_not_utf_8(tmp_path: Path) -> None:
    if shutil.which("localedef") is None or subprocess.run(
            ["localedef", "-i", "en_US", "-f", "ISO-8859-1", tmp_path / "en_US.ISO-8859-1"],
            check=False, capture_output=True).returncode:
        pytest.skip("localedef cannot make a locale here")
    latin = {"LOCPATH": str(tmp_path), "LC_ALL": "en_US.ISO-8859-1", "PYTHONUTF8": "0"}
    command = [*brief(tmp_path), "--set", "evaluate.metrics=[fd_random]"]
    done = subprocess.run([*GAN_BENCH, *map(str, command)], capture_output=True,
                          check=False, timeout=240, env={**os.environ, **latin})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == b""
    assert b"fd_random ? " in done.stdout  # an arrow
    for command in (["list"], ["plan", tmp_path / "tiny.yaml"]):
        done = subprocess.run([*GAN_BENCH, *map(str, command)], capture_output=True,
                              check=False, timeout=240, env={**os.environ, **latin})
        assert (done.returncode, done.stderr) == (0, b"")
    assert "2 variants × 2 seeds = 4" in done.stdout.decode("latin-1")


def test_a_terminal_of_ascii(tmp_path: Path) -> None:
    done = gan_bench("plan", write_experiment(tmp_path), env={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "2 variants ? 2 seeds = 4" in done.stdout


@pytest.mark.parametrize("closed", [
    pytest.param(">&-", marks=pytest.mark.long), pytest.param("2>&-", marks=pytest.mark.long),
    "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(tmp_path: Path, closed: str) -> None:
    done = shell(closed, *brief(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert ("2 of 2 runs are done" in done.stdout) == (closed == "2>&-")
    with closing(sqlite3.connect(tmp_path / "root" / "mlflow.db")) as database:
        assert database.execute("select count(*) from runs where name != 'study'"
                                ).fetchone() == (2,)
    assert shell(closed, "plan", tmp_path / "none.yaml").returncode == 2


def without_reader(*arguments: object, stream: str = "stdout") -> subprocess.CompletedProcess[str]:
    """Run the command line with a stream whose reader has ended."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, stream: writer}
        return subprocess.run([*GAN_BENCH, *map(str, arguments)], text=True, check=False,
                              timeout=240, **streams)
    finally:
        os.close(writer)


@pytest.mark.parametrize("arguments", [["list"], ["--help"], ["schema"], ["--version"]])
def test_a_reader_that_has_ended_is_no_error(arguments: list[str]) -> None:
    done = without_reader(*arguments)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_reader_of_errors_that_has_ended(tmp_path: Path) -> None:
    done = without_reader("plan", tmp_path / "none.yaml", stream="stderr")
    assert (done.returncode, done.stdout) == (141, "")


def test_runs_whose_reader_ends_stop_with_checkpoints(tmp_path: Path) -> None:
    arguments = [*brief(tmp_path), "--set", "base.steps=20000", "--slots", "2"]
    process = subprocess.Popen([*GAN_BENCH, *map(str, arguments)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    for line in process.stdout:
        if ": started" in line:
            break
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=120) == 141, errors
    assert errors == "stopped; the same command resumes the unfinished runs\n"
    states = gan_bench("plan", tmp_path / "tiny.yaml", "--root", tmp_path / "root", "--set",
                       "seeds=[0]", "--set", "base.steps=20000").stdout
    assert "RUNNING" not in states
    assert states.count("KILLED") == 2
    assert len(list(tmp_path.glob("root/runs/tiny/*/checkpoint.pt"))) == 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_to_a_full_disk_is_one_line() -> None:
    done = shell("> /dev/full", "list")
    assert (done.returncode, done.stderr) == (
        2, "error: standard output: No space left on device; make room\n")
