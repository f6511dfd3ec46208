"""What is written whole or not at all, and what a killed process leaves of it."""

from __future__ import annotations

import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

from helpers.forked import forking

from gan_bench.atomic import remove_abandoned, scratch_folder


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


def test_a_scratch_folder_that_becomes_an_entry_stays(tmp_path: Path) -> None:
    with scratch_folder(tmp_path, ".part-") as folder:
        (folder / "all").touch()
        folder.rename(tmp_path / "entry")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*")] == [
        "entry", "entry/all"]
