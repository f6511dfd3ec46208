"""`gan-bench logs`: the log of a run, followed until the run ends, or Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.journals import FACTS, new_run
from helpers.launching import GAN_BENCH
from helpers.studies import here

from gan_bench.cli.running.evaluate import _is_run
from gan_bench.cli.running.logs import find_log
from gan_bench.errors import UserError
from gan_bench.journal.layout import LOG, WEIGHTS
from gan_bench.journal.writing import Journal


@pytest.fixture
def begun(tmp_path: Path) -> tuple[Path, Journal]:
    """A run that is being trained, with a line in its log."""
    folder = new_run(tmp_path)
    book = Journal(folder)
    book.start(FACTS)
    book.metrics(2, {"train/d_loss": 1.0})
    (folder / LOG).write_text("first line\n\x1b[2Jno cursor moves\n")
    return folder, book


def follow(root: Path, run: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*GAN_BENCH, "logs", run, "-f", "--root", str(root)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))


def read_until(process: subprocess.Popen[str], wanted: Callable[[str], bool]) -> str:
    """Return what a process prints until a line is as wanted."""
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if wanted(line):
            break
    return text


def test_the_log_is_shown_by_the_runs_id_its_beginning_and_its_folder(
        begun: tuple[Path, Journal], tmp_path: Path) -> None:
    folder, book = begun
    for name in (folder.name, folder.name[:5], folder):
        done = here("logs", name, "--root", tmp_path)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "first line\n\\x1b[2Jno cursor moves\n"
    book.close()
    (folder / LOG).unlink()
    done = here("logs", folder.name, "--root", tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "has no log.txt" in done.stderr


def test_a_run_whose_first_attempt_was_lost_is_a_run(tmp_path: Path) -> None:
    """The machine was lost before the first line; the next attempt has a file of its own."""
    folder = new_run(tmp_path)
    (folder / "journal.2.jsonl").write_text(
        '{"kind": "segment", "after": null, "counts": 0}\n')
    (folder / LOG).write_text("line\n")
    assert find_log(tmp_path / "nowhere", str(folder), follow=False) == folder
    with pytest.raises(UserError, match="no run's id begins with"):
        find_log(tmp_path / "nowhere", str(folder.parent), follow=False)
    (folder / "spec.json").write_text("[]")  # damaged, and a run's all the same
    assert _is_run(folder)
    (folder / "journal.2.jsonl").unlink()
    assert not _is_run(folder)


@pytest.mark.process
def test_a_followed_log_ends_with_its_run(begun: tuple[Path, Journal], tmp_path: Path) -> None:
    folder, book = begun
    process = follow(tmp_path, folder.name[:6])
    read_until(process, lambda line: "cursor" in line)
    with (folder / LOG).open("a") as log:
        log.write("half a li")
        log.flush()
        time.sleep(1)
        log.write("ne\n")
    assert read_until(process, lambda line: True) == "half a line\n"
    (folder / LOG).write_text("")  # a new attempt
    time.sleep(1)
    (folder / LOG).write_text("again\n")
    assert read_until(process, lambda line: True) == "again\n"
    assert process.poll() is None
    (folder / WEIGHTS).write_bytes(b"weights")
    with (folder / LOG).open("a") as log:
        log.write("the end")
    book.end("DIVERGED", "a loss was not finite at step 2")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (0, "the end\n")
    assert err == f"{folder.name} DIVERGED at step 2: a loss was not finite at step 2\n"


@pytest.mark.process
def test_ctrl_c_ends_it_without_a_word(begun: tuple[Path, Journal], tmp_path: Path) -> None:
    folder, book = begun
    process = follow(tmp_path, folder.name)
    read_until(process, lambda line: "cursor" in line)
    os.kill(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out, err) == (130, "", "")
    book.close()
