"""Files that are whole or not there, and what killed processes leave."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from helpers.forked import forking

from gan_bench.atomic import (
    STALE_AFTER,
    remove_abandoned,
    replacing,
    scratch_folder,
)


def test_a_file_has_the_mode_of_any_new_file(tmp_path: Path) -> None:
    """Also if its writer makes one that only the owner can read, as safetensors does."""
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "a") as temporary:
            temporary.unlink()
            temporary.touch(mode=0o600)
            temporary.write_text("whole")
        (tmp_path / "b").write_text("")
    finally:
        os.umask(before)
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("a", "b")]
    assert modes == [0o640, 0o640]
    assert (tmp_path / "a").read_text() == "whole"


def test_a_write_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "a"):
        _ = 1 / 0
    assert list(tmp_path.iterdir()) == []


def write_late(file: Path, text: str, connection: Connection) -> None:
    """What the other process does: it begins to write, and ends when it is told to."""
    with replacing(file) as temporary:
        temporary.write_text(text)
        connection.send(temporary.name)
        connection.recv()
    connection.send("")


def test_a_process_that_was_replaced_harms_no_other_that_writes_the_file(tmp_path: Path) -> None:
    """One that stood still writes the same file as the attempt that has taken over."""
    file, context = tmp_path / "a", forking()
    ours, theirs = context.Pipe()
    process = context.Process(target=write_late, args=(file, "late", theirs))
    process.start()
    name = ours.recv()
    with replacing(file) as temporary:
        assert temporary.name != name
        temporary.write_text("ours")
        ours.send("")
        ours.recv()  # it has written the file meanwhile
        assert file.read_text() == "late"
    process.join()
    assert process.exitcode == 0
    assert file.read_text() == "ours"
    assert os.listdir(tmp_path) == ["a"]


def test_what_killed_processes_leave_is_removed_by_the_next_that_writes_the_file(
        tmp_path: Path) -> None:
    context = forking()
    ours, theirs = context.Pipe()
    processes = [context.Process(target=write_late, args=(tmp_path / "a", "", theirs))
                 for _ in range(2)]
    names = []
    for process in processes:
        process.start()
        names.append(ours.recv())
    alive, dead = processes
    assert dead.pid is not None
    os.kill(dead.pid, signal.SIGKILL)
    dead.join()
    others = [".a.0a1b2c3d-1.tmp", ".ab.0a1b2c3d-1.tmp", ".b.tmp", names[1].replace(".a.", ".b."),
              ".a.tmp.txt"]
    stale = [".a.0a1b2c3d-2.tmp", ".a.tmp"]
    for name in (*others, *stale):
        (tmp_path / name).touch()
        age = STALE_AFTER + (-60 if name == others[0] else 60)
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    with replacing(tmp_path / "a"):
        pass
    assert sorted(os.listdir(tmp_path)) == sorted(["a", names[0], *others])
    ours.send("")
    alive.join()
    assert sorted(os.listdir(tmp_path)) == sorted(["a", *others])


def test_only_folders_of_processes_that_died_are_removed(tmp_path: Path) -> None:
    old = STALE_AFTER + 60
    made = {".mlflow-abcd_123": old, ".mlflow-abcd_124": old, ".mlflow-notes": old,
            ".mlflow-abcdefg9": 10, "elsewhere": old, ".download-abcd_123": old}
    for name, age in made.items():
        (tmp_path / name / "in").mkdir(parents=True)
        (tmp_path / name / "in" / "file").write_text("")
        for path in ("in/file", "in", "."):
            when = (tmp_path / name / "in" / "file").stat().st_ctime - age
            os.utime(tmp_path / name / path, (when, when))
    (tmp_path / ".mlflow-abcd_124" / "in" / "file").touch()  # a process still writes there
    (tmp_path / ".mlflow-abcd_125").symlink_to("elsewhere")
    (tmp_path / ".mlflow-abcd_126").write_text("a file")
    remove_abandoned(tmp_path, ".mlflow-")
    assert {path.name for path in tmp_path.iterdir()} == {
        *made, ".mlflow-abcd_125", ".mlflow-abcd_126"} - {".mlflow-abcd_123"}
    assert (tmp_path / "elsewhere" / "in" / "file").exists()


def fill(parent: Path, connection: Connection) -> None:
    """What the other process does: it writes, and waits to be killed."""
    with scratch_folder(parent, ".part-") as folder:
        (folder / "half").write_text("half")
        connection.send(folder.name)
        connection.recv()


def test_a_scratch_folder_is_there_while_its_process_lives_and_not_longer(tmp_path: Path) -> None:
    mine = tmp_path / ".part-mine"
    mine.mkdir()
    (tmp_path / f".part-{'0' * 32}").write_text("a file")
    kept = sorted([mine.name, f".part-{'0' * 32}"])
    context = forking()
    ours, theirs = context.Pipe()
    process = context.Process(target=fill, args=(tmp_path, theirs))
    process.start()
    name = ours.recv()
    remove_abandoned(tmp_path, ".part-")
    with scratch_folder(tmp_path, ".part-") as other:
        assert {name, other.name} < set(os.listdir(tmp_path))
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, name])
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert name in os.listdir(tmp_path)
    remove_abandoned(tmp_path, ".other-")
    assert name in os.listdir(tmp_path)
    remove_abandoned(tmp_path, ".part-")
    assert sorted(os.listdir(tmp_path)) == kept


def fill_with_child(parent: Path, connection: Connection) -> None:
    """As `fill`, with a forked child that outlives this process; send its id too."""
    with scratch_folder(parent, ".part-") as folder:
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        connection.send((folder.name, child))
        connection.recv()


def test_a_child_that_outlives_its_killed_parent_keeps_no_scratch_folder(tmp_path: Path) -> None:
    context = forking()
    ours, theirs = context.Pipe()
    process = context.Process(target=fill_with_child, args=(tmp_path, theirs))
    process.start()
    name, child = ours.recv()
    try:
        remove_abandoned(tmp_path, ".part-")
        assert os.listdir(tmp_path) == [name]
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        os.kill(child, 0)  # it lives
        remove_abandoned(tmp_path, ".part-")
        assert os.listdir(tmp_path) == []
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_scratch_folder_that_becomes_an_entry_stays(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, ".part-") as folder:
        (folder / "all").touch()
        folder.rename(tmp_path / "entry")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == [
        "entry", "entry/all"]


def test_a_scratch_folder_of_another_machine_stays_while_it_is_written_to(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where locks hold on one machine alone, another one finds the folder unlocked."""
    monkeypatch.setattr(fcntl, "flock", lambda descriptor, operation: None)
    with scratch_folder(tmp_path, ".part-") as folder:
        (folder / "half").touch()
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(socket, "gethostname", lambda: "another")
            remove_abandoned(tmp_path, ".part-")
            assert (folder / "half").exists()
            long_ago = time.time() - STALE_AFTER - 60
            for path in (folder / "half", folder):
                os.utime(path, (long_ago, long_ago))
            remove_abandoned(tmp_path, ".part-")
            assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("hours", [-2, 2])
def test_the_age_of_what_another_machine_writes_is_told_by_the_clock_of_the_folder(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int) -> None:
    """The file server sets the times of files; this machine's clock may be hours away from it."""
    young, old = ".a.0a1b2c3d-1.tmp", ".a.0a1b2c3d-2.tmp"
    scratch = [tmp_path / f".part-{number}{31 * '0'}" for number in (1, 2)]
    for path in scratch:
        path.mkdir()
    for name in (young, old):
        (tmp_path / name).touch()
    before = time.time() - STALE_AFTER - 60
    os.utime(tmp_path / old, (before, before))
    os.utime(scratch[1], (before, before))
    now = time.time() + hours * 3600
    monkeypatch.setattr(time, "time", lambda: now)
    with replacing(tmp_path / "a"):
        pass
    remove_abandoned(tmp_path, ".part-")
    assert sorted(os.listdir(tmp_path)) == sorted([young, scratch[0].name, "a"])


@pytest.mark.parametrize("name", ["a" * 224, "a" * 225, "\N{GREEK SMALL LETTER PI}" * 127 + "a"])
def test_a_file_may_have_the_longest_name(tmp_path: Path, name: str) -> None:
    """The names of its temporary files are longer than those of short names, and no longer."""
    with replacing(tmp_path / name) as temporary:
        begun = temporary.name
    assert len(begun.encode()) <= 255 - len(".gz")  # which a profile's writer appends
    (tmp_path / begun.replace(f"-{os.getpid()}.", "-4194305.")).touch()  # of a killed process
    with replacing(tmp_path / name):
        pass
    assert os.listdir(tmp_path) == [name]
