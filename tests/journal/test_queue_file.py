"""The queue of an experiment: what workers that start later are to train."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import pytest
from helpers.journals import FACTS
from helpers.runs import write_experiment

from gan_bench.cli.running import clean
from gan_bench.cli.running.status_records import _progress
from gan_bench.config.experiment import load_experiment
from gan_bench.errors import UserError
from gan_bench.journal import reading
from gan_bench.journal.layout import Execution, Workspace
from gan_bench.journal.sharing import claims
from gan_bench.journal.sharing.claims import take
from gan_bench.journal.sharing.lock import is_worked_on
from gan_bench.journal.sharing.queue_file import (
    FILE,
    Queue,
    open_runs,
    read_queue,
    write_queue,
    write_specs,
)
from gan_bench.journal.status import Progress
from gan_bench.journal.writing import Journal
from gan_bench.launcher.launch import study_of_queue
from gan_bench.launcher.stages import Left

QUEUE = Queue(begun={"0a": 1}, measured=["0a"], shorter_runs={"0a": ["study/0b"]}, retries=2,
              together=0, threads=1, data_root="/data", checkpoint_every=0.5, allow_drift=False,
              keep_checkpoints="last", select=["0b"])
# Of each field, what it may not hold.
WRONG = {
    "begun": [None, [], {"0a": True}, {"0a": "1"}, {"0a": 1.5}, {"0a": None}, "0a"],
    "measured": [None, "0a", {}, [1], [["0a"]]],
    "shorter_runs": [None, [], {"0a": "study/0b"}, {"0a": [1]}, {"0a": None}],
    "retries": [None, "2", True, 2.5, []], "together": [None, "0", False, 0.5],
    "threads": [None, "1", True, {}], "data_root": [None, 3, ["/data"], True],
    "checkpoint_every": ["1", True, [], {}], "allow_drift": [None, 0, 1, "no", []],
    "keep_checkpoints": [None, "first", 1, ["last"], {}], "select": [None, "0a", {}, [1]],
}


@pytest.fixture
def runs(tmp_path: Path) -> list[Progress]:
    """The four runs of the tiny experiment, whose folders there are."""
    spec = load_experiment(write_experiment(tmp_path), tmp_path)
    return [Progress(run, run.write(tmp_path / "root")) for run in spec.runs]


def write(runs: list[Progress], retries: int = 2) -> int:
    root = runs[0].folder.parents[2]
    begun = write_specs(runs, root)
    return write_queue(runs[0].folder.parent, runs, begun, Execution(Workspace(root, root)),
                       retries, 1)


def test_a_command_for_a_part_takes_nothing_from_workers(runs: list[Progress]) -> None:
    home = runs[0].folder.parent
    assert write(runs) == 0
    claim = take(runs[0].folder)
    (runs[3].folder / "final.safetensors").touch()
    (runs[3].folder / "journal.jsonl").write_text(
        '{"t": 1, "kind": "end", "step": 6, "status": "FINISHED", "why": ""}\n')
    assert write(runs[:1], retries=5) == 2  # all but that run and the finished one
    queue = read_queue(home)
    assert open_runs(queue, home) == [run.spec.id for run in (runs[1], runs[2], runs[0])]
    assert queue.begun[runs[0].spec.id] == 1
    assert queue.retries == 5
    claim.release()
    assert write(runs[:1]) == 0  # nobody works on the others: the newest command says what is asked
    assert open_runs(read_queue(home), home) == [runs[0].spec.id]


def test_a_damaged_run_is_left_out_and_named(runs: list[Progress]) -> None:
    home = runs[0].folder.parent
    write(runs)
    (runs[1].folder / "journal.jsonl").write_text("\0\0\0\n")
    study, left = study_of_queue(home, read_queue(home))
    assert left == Left()
    assert [run.spec.id for run in study.waiting] == [
        run.spec.id for run in runs if run is not runs[1]]
    damaged, = (run for run in study.runs if run not in study.waiting)
    assert (damaged.spec.id, damaged.state) == (runs[1].spec.id, "FAILED")
    assert f"{runs[1].folder / 'journal.jsonl'}: line 1" in damaged.why


def write_file(home: Path, **values: object) -> None:
    (home / FILE).write_text(json.dumps({**QUEUE.__dict__, **values}))


def test_a_queue_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_file(tmp_path)
    assert read_queue(tmp_path) == QUEUE
    assert read_queue(tmp_path).__dict__ == QUEUE.__dict__  # which is written
    write_file(tmp_path, checkpoint_every=None, begun={}, shorter_runs={}, measured=[], retries=0)
    queue = read_queue(tmp_path)
    assert (queue.checkpoint_every, queue.begun, queue.shorter_runs) == (None, {}, {})
    write_file(tmp_path, checkpoint_every=30)
    assert read_queue(tmp_path).checkpoint_every == 30
    assert read_queue(tmp_path).execution(tmp_path).shorter_runs == {
        "0a": (tmp_path / "runs" / "study" / "0b",)}


def test_every_field_of_a_queue_is_checked(tmp_path: Path) -> None:
    write_file(tmp_path, more=1)
    with pytest.raises(UserError, match="is damaged"):
        read_queue(tmp_path)
    assert set(WRONG) == {field.name for field in fields(Queue)}
    for name, values in WRONG.items():
        for value in values:
            write_file(tmp_path, **{name: value})
            with pytest.raises(UserError, match=r"queue\.json: is damaged; delete it, and repeat"):
                print(name, value, read_queue(tmp_path))
        (tmp_path / FILE).write_text(json.dumps(
            {key: value for key, value in QUEUE.__dict__.items() if key != name}))
        if name == "select":  # which queues of earlier versions do not have
            assert read_queue(tmp_path).select == ()
            continue
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


def test_an_unreadable_claim_counts_as_held_and_is_named(runs: list[Progress],
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder may live: nothing of its run is taken away, or called killed."""
    run, home = runs[0], runs[0].folder.parent
    write(runs)
    with closing(Journal(run.folder)) as book:
        book.start(FACTS)
    read, state = claims._read, claims.ClaimState(1, None, "", 0, "Input/output error")
    monkeypatch.setattr(claims, "_read", lambda folder, *rest: (
        state if folder == run.folder else read(folder, *rest)))
    assert reading.is_open(run.folder)
    assert is_worked_on(home)
    record = _progress(run.folder, 6)
    assert (record["state"], record["by"]) == ("RUNNING", None)
    assert record["why"].startswith(f"{run.folder}/attempt.1: cannot be read (Input/output error)")
    assert write(runs[1:]) == 1  # that run stays in the queue
    monkeypatch.setattr(clean, "is_trained", lambda folder: True)
    assert not clean._is_done(run.folder)
