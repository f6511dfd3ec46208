"""What the file of a queue may hold: every field is checked."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path

import pytest

from gan_bench.errors import UserError
from gan_bench.journal.queue_file import FILE, Queue, read_queue

QUEUE = Queue(begun={"0a": 1}, measured=["0a"], shorter_runs={"0a": ["study/0b"]}, retries=2,
              together=0, threads=1, data_root="/data", checkpoint_every=0.5, allow_drift=False,
              keep_checkpoints="last")
# Of each field, what it may not hold.
WRONG = {
    "begun": [None, [], {"0a": True}, {"0a": "1"}, {"0a": 1.5}, {"0a": None}, "0a"],
    "measured": [None, "0a", {}, [1], [["0a"]]],
    "shorter_runs": [None, [], {"0a": "study/0b"}, {"0a": [1]}, {"0a": None}],
    "retries": [None, "2", True, 2.5, []], "together": [None, "0", False, 0.5],
    "threads": [None, "1", True, {}], "data_root": [None, 3, ["/data"], True],
    "checkpoint_every": ["1", True, [], {}], "allow_drift": [None, 0, 1, "no", []],
    "keep_checkpoints": [None, "first", 1, ["last"], {}],
}


def write(home: Path, **values: object) -> None:
    (home / FILE).write_text(json.dumps({**QUEUE.__dict__, **values}))


def test_a_queue_is_read_as_it_was_written(tmp_path: Path) -> None:
    write(tmp_path)
    assert read_queue(tmp_path) == QUEUE
    assert read_queue(tmp_path).__dict__ == QUEUE.__dict__  # which is written
    write(tmp_path, checkpoint_every=None, begun={}, shorter_runs={}, measured=[], retries=0)
    queue = read_queue(tmp_path)
    assert (queue.checkpoint_every, queue.begun, queue.shorter_runs) == (None, {}, {})
    write(tmp_path, checkpoint_every=30)
    assert read_queue(tmp_path).checkpoint_every == 30
    assert read_queue(tmp_path).execution(tmp_path).shorter_runs == {
        "0a": (tmp_path / "runs" / "study" / "0b",)}


def test_every_field_of_a_queue_is_checked(tmp_path: Path) -> None:
    write(tmp_path, more=1)
    with pytest.raises(UserError, match="is damaged"):
        read_queue(tmp_path)
    assert set(WRONG) == {field.name for field in fields(Queue)}
    for name, values in WRONG.items():
        for value in values:
            write(tmp_path, **{name: value})
            with pytest.raises(UserError, match=r"queue\.json: is damaged; delete it, and repeat"):
                print(name, value, read_queue(tmp_path))
        (tmp_path / FILE).write_text(json.dumps(
            {key: value for key, value in QUEUE.__dict__.items() if key != name}))
        with pytest.raises(UserError, match="is damaged"):
            read_queue(tmp_path)


@pytest.mark.parametrize("text", [
    b"", b"{}", b"[]", b"null", b"\0\0", b"\xff", b"[" * 100_000, b'{"a": 1' + b"0" * 5000 + b"}"])
def test_a_file_that_is_no_queue_is_a_line(tmp_path: Path, text: bytes) -> None:
    (tmp_path / FILE).write_bytes(text)
    with pytest.raises(UserError, match="is damaged; delete it"):
        read_queue(tmp_path)


def test_a_queue_that_there_is_not_is_a_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"is not prepared in .*: give its YAML file, or run it"):
        read_queue(tmp_path / "runs" / "study")
