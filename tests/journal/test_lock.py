"""Leases: one process at a time mirrors an experiment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from gan_bench.errors import UserError
from gan_bench.journal.sharing.claims import LEASE_VARIABLE, ClaimedError
from gan_bench.journal.sharing.lock import is_locked, locked


def test_a_lease_is_seen_without_being_taken(tmp_path: Path) -> None:
    home = tmp_path / "study"
    assert not is_locked(home)
    assert not home.exists()
    home.mkdir()
    assert not is_locked(home)
    assert list(home.iterdir()) == []
    with locked(home):
        assert is_locked(home)
        with (pytest.raises(UserError, match=f"^study is already being run by process "
                                             f"{os.getpid()}; wait for it or stop it$"),
              locked(home)):
            pass
    assert not is_locked(home)
    with locked(home):  # looking at it has left no lease behind
        pass


def test_a_lease_that_is_held_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    """As a command that reads holds it; one that is kept refuses."""
    held, ends = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(tmp_path):
            held.set()
            ends.wait(30)

    other = threading.Thread(target=hold)
    other.start()
    held.wait(30)
    began = time.monotonic()
    said: list[str] = []
    with (pytest.raises(UserError, match="is already being run by process"),
          locked(tmp_path, said.append)):
        pass
    assert said == []  # it is here, and alive
    assert 0.9 < time.monotonic() - began < 10
    threading.Timer(0.3, ends.set).start()
    with locked(tmp_path):
        assert is_locked(tmp_path)
    other.join()
    assert not is_locked(tmp_path)


@pytest.mark.parametrize("is_alive", [False, True])
def test_whose_sign_of_life_is_waited_for_is_said(tmp_path: Path, is_alive: bool,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder on another machine, which has died or goes on."""
    monkeypatch.setenv(LEASE_VARIABLE, "2")
    with locked(tmp_path):
        first, _ = (tmp_path / "mirror.1").read_text().splitlines()
    elsewhere = json.dumps({**json.loads(first), "boot": "another", "host": "n7", "pid": 7})
    file = tmp_path / "mirror.2"

    def beat(count: int) -> None:
        file.write_text(f"{elsewhere}\n{count:012d}{'':11}\n")

    beat(1)
    said: list[str] = []
    timer = threading.Timer(1.5, beat, [2])
    if is_alive:
        timer.start()
        with (pytest.raises(ClaimedError, match="already being run by process 7 on n7; wait"),
              locked(tmp_path, said.append)):
            pass
        timer.join()
    else:
        with locked(tmp_path, said.append):
            assert (tmp_path / "mirror.3").exists()
    assert said == [f"waiting for a sign of life of process 7 on n7, which copies {tmp_path.name} "
                    f"into MLflow; it is lost after 2 s without any"]


def test_looks_are_never_in_the_way(tmp_path: Path) -> None:
    """However often others look, each of many leases is taken at the first try."""
    ends = threading.Event()
    looks = []

    def look() -> None:
        while not ends.is_set():
            looks.append(is_locked(tmp_path))

    others = [threading.Thread(target=look) for _ in range(2)]
    for other in others:
        other.start()
    began = time.monotonic()
    try:
        for _ in range(50):
            with locked(tmp_path):
                pass
        assert time.monotonic() - began < 30
    finally:
        ends.set()
        for other in others:
            other.join()
    assert {*looks} == {True, False}


def test_many_leases_leave_one_file(tmp_path: Path) -> None:
    for number in range(1, 4):
        with locked(tmp_path):
            assert [path.name for path in tmp_path.iterdir()] == [f"mirror.{number}"]
    (tmp_path / "about.json").write_text("{}")
    with locked(tmp_path):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {"mirror.4", "about.json"}


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with (pytest.raises(UserError, match=r"none/study/mirror\.1: cannot be written: No such"),
          locked(tmp_path / "none" / "study")):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.process
def test_the_lease_of_a_dead_process_is_free_at_once(tmp_path: Path) -> None:
    """Also that of one which its parent has not waited for yet."""
    code = f"""
import time
from pathlib import Path
from gan_bench.journal.sharing.lock import locked
with locked(Path({str(tmp_path)!r})):
    print("held", flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    assert is_locked(tmp_path)
    with pytest.raises(UserError, match=f"run by process {process.pid};"), locked(tmp_path):
        pass
    process.send_signal(signal.SIGKILL)
    process.stdout.read()  # it is gone, and a zombie
    began = time.monotonic()
    with locked(tmp_path):
        pass
    assert time.monotonic() - began < 1
    process.communicate()
    assert not is_locked(tmp_path)


@pytest.mark.process
def test_two_processes_never_hold_a_lease_both(tmp_path: Path) -> None:
    """They begin and are refused again and again, while the files of past leases are removed."""
    (tmp_path / "study").mkdir()
    code = f"""
import os, sys, time
from pathlib import Path
from gan_bench.errors import UserError
from gan_bench.journal.sharing import lock
lock.POLL = 0.0001
held, end = 0, time.monotonic() + 10
while time.monotonic() < end:
    try:
        with lock.locked(Path({str(tmp_path)!r}) / "study"):
            os.close(os.open({str(tmp_path / "alone")!r}, os.O_CREAT | os.O_EXCL))
            os.unlink({str(tmp_path / "alone")!r})
            held += 1
    except UserError as error:
        assert "already being run" in str(error), error
print(held)
"""
    both = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    held = [int(output) for output, _ in said]
    assert min(held) > 10
    assert [path.name for path in tmp_path.iterdir()] == ["study"]
    assert [path.name for path in (tmp_path / "study").iterdir()] == [f"mirror.{sum(held)}"]


def test_a_link_is_no_lease(tmp_path: Path) -> None:
    """And a copy is none: the process that holds the first one does not know of it."""
    for name in ("study", "other", "copy"):
        (tmp_path / name).mkdir()
    with locked(tmp_path / "study"):
        file = tmp_path / "study" / "mirror.1"
        (tmp_path / "other" / "mirror.1").symlink_to(file)
        (tmp_path / "copy" / "mirror.1").write_bytes(file.read_bytes())
        before = file.read_bytes()
        for name in ("other", "copy"):
            assert not is_locked(tmp_path / name)
            with locked(tmp_path / name):
                assert is_locked(tmp_path / name)
        assert is_locked(tmp_path / "study")
        assert file.read_bytes() == before
