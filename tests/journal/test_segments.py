"""Segments: what a writer that was lost from sight adds is no part of the journal any more."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest
from helpers.runs import a_run

from gan_bench.errors import DamagedError
from gan_bench.journal import reading, segments, writing
from gan_bench.journal.layout import checkpoint_files, checkpoint_names, remove_checkpoints
from gan_bench.journal.sharing import claims
from gan_bench.journal.sharing.claims import SupersededError
from gan_bench.journal.status import Progress
from gan_bench.journal.writing import Journal
from gan_bench.training import checkpoint
from gan_bench.training.checkpoint import Checkpoint


def lose(folder: Path, attempt: int) -> None:
    """Let a claim of this process look as if its holder had frozen on another machine."""
    file = folder / f"attempt.{attempt}"
    text = file.read_text().replace(claims.boot_id(), "another machine")
    file.write_text(text)


class Patient(claims.Watch):
    """Has watched every holder on another machine for longer than the lease."""

    def is_lost(self, folder: Path, state: claims.ClaimState, name: str = "attempt") -> bool:
        return state.is_gone or (state.holder is not None and not state.holder.is_here)


def take_over(folder: Path) -> Journal:
    return Journal(folder, writing.claim_run(folder, Patient()))


def steps(folder: Path) -> list[int]:
    return [record["step"] for record in reading.read_records(folder)[0]]


@pytest.fixture
def zombie(tmp_path: Path) -> Journal:
    """A journal with three records, whose writer was lost and lives."""
    book = Journal(tmp_path)
    book.start({})
    book.metrics(1, {"a": 1.0})
    book.metrics(2, {"a": 2.0})
    lose(tmp_path, 1)
    return book


def test_what_a_lost_writer_adds_later_does_not_count(tmp_path: Path, zombie: Journal) -> None:
    size = reading.length(tmp_path)
    with closing(take_over(tmp_path)) as book:
        assert (book.segment, book.position) == (2, size)
        assert steps(tmp_path) == [0, 1, 2]
        os.write(zombie._fd, b'{"t": 1, "kind": "metrics", "step": 3, "values": {"a": 9.0}}\n')
        assert steps(tmp_path) == [0, 1, 2]
        book.metrics(3, {"a": 3.0})
        assert steps(tmp_path) == [0, 1, 2, 3]
        assert (reading.last(tmp_path) or {})["values"] == {"a": 3.0}
        with pytest.raises(SupersededError, match="another process has taken over"):
            zombie.metrics(4, {"a": 9.0})
    assert reading.length(tmp_path) == len(reading.content(tmp_path)) > size
    records = reading.tail(tmp_path, size)
    assert [(record["step"], end) for record, end in records] == [(3, reading.length(tmp_path))]


def test_a_torn_line_of_a_lost_writer_does_not_count(tmp_path: Path, zombie: Journal) -> None:
    size = reading.length(tmp_path)
    os.write(zombie._fd, b'{"t": 1, "kind": "met')
    with closing(take_over(tmp_path)) as book:
        assert book.position == size
        os.write(zombie._fd, b'rics", "step": 3, "values": {}}\n')
        book.metrics(7, {"a": 3.0})
    assert steps(tmp_path) == [0, 1, 2, 7]


def test_after_a_release_the_same_file_goes_on(tmp_path: Path, zombie: Journal) -> None:
    claim = writing.claim_run(tmp_path, Patient())
    with closing(Journal(tmp_path, claim)) as book:
        book.metrics(3, {"a": 3.0})
    claim.release()
    with closing(Journal(tmp_path)) as book:
        assert book.segment == 2
        book.metrics(4, {"a": 3.0})
    assert segments.segments(tmp_path) == [1, 2]
    assert steps(tmp_path) == [0, 1, 2, 3, 4]


def test_lost_before_the_first_line_and_awake_after_the_end(tmp_path: Path) -> None:
    """The first attempt creates its file when the second one has finished."""
    late = writing.claim_run(tmp_path)
    lose(tmp_path, 1)
    with closing(take_over(tmp_path)) as book:
        book.start({})
        book.metrics(1, {"a": 1.0})
    assert segments.segments(tmp_path) == [2]
    (tmp_path / reading.FILE).write_text('{"t": 1, "kind": "metrics", "step": 9, "values": {}}\n')
    assert steps(tmp_path) == [0, 1]
    with pytest.raises(SupersededError):
        late.refuse_superseded()


def test_a_segment_that_appears_late_is_in_no_chain(tmp_path: Path, zombie: Journal) -> None:
    """Of an attempt that was lost before it wrote, between two others."""
    between = writing.claim_run(tmp_path, Patient())
    lose(tmp_path, 2)
    with closing(take_over(tmp_path)) as book:
        assert book.segment == 3
        book.metrics(3, {"a": 3.0})
        segments.create_segment(tmp_path, between.attempt, 1, 0)
        with (tmp_path / "journal.2.jsonl").open("a") as file:
            file.write('{"t": 1, "kind": "metrics", "step": 9, "values": {"a": 9.0}}\n')
        assert steps(tmp_path) == [0, 1, 2, 3]
        book.metrics(4, {"a": 3.0})
    assert steps(tmp_path) == [0, 1, 2, 3, 4]


def test_a_reader_that_has_read_too_far_begins_again(tmp_path: Path, zombie: Journal) -> None:
    (tmp_path / "elsewhere").mkdir()
    run = Progress(a_run(tmp_path / "elsewhere"), tmp_path)
    run.follow()
    assert run.values == {"a": 2.0}
    with closing(take_over(tmp_path)) as book:
        os.write(zombie._fd, b'{"t": 1, "kind": "metrics", "step": 3, "values": {"b": 9.0}}\n')
        run.offset += len(b'{"t": 1, "kind": "metrics", "step": 3, "values": {"b": 9.0}}\n')
        run.values["b"] = 9.0
        book.metrics(3, {"a": 3.0})
        assert run.follow()
    assert run.values == {"a": 3.0}


def test_checkpoints_of_a_lost_writer_are_taken_if_their_records_count(
        tmp_path: Path, zombie: Journal) -> None:
    checkpoint.write(tmp_path, Checkpoint(2, reading.length(tmp_path), {"versions": {}}, {}))
    with closing(take_over(tmp_path)) as book:
        found, problems = checkpoint.newest(tmp_path, 10)
        assert (found.step if found else None, problems) == (2, [])
        book.metrics(3, {"a": 3.0})
        late = Checkpoint(3, reading.length(tmp_path), {"versions": {}}, {})
        checkpoint.write(tmp_path, late)  # by the lost writer
        found, problems = checkpoint.newest(tmp_path, 10)
        assert (found.step if found else None) == 2
        assert "does not belong to the journal" in problems[0]
        for step in (4, 5):
            book.metrics(step, {"a": 3.0})
            checkpoint.write(tmp_path, Checkpoint(step, book.position, {"versions": {}}, {}),
                             book.segment)
        found, problems = checkpoint.newest(tmp_path, 10)
        assert (found.step if found else None, problems) == (5, [])
    assert [file.name for _, file in checkpoint_files(tmp_path)] == [*checkpoint_names(2)]


@pytest.mark.parametrize("head", [b"", b"{}\n", b"x" * 300, b'{"after": 2, "counts": 0}\n',
                                  b'{"after": 1, "counts": -1}\n', b'{"after": "1"}\n'])
def test_a_segment_that_does_not_say_what_it_follows_is_damage(tmp_path: Path, head: bytes,
                                                               ) -> None:
    (tmp_path / "journal.2.jsonl").write_bytes(head)
    with pytest.raises(DamagedError, match=r"journal\.2\.jsonl: line 1 is damaged: it does not "
                                           r"say what the file follows; delete the folder"):
        reading.read_records(tmp_path)
    assert reading.FILE not in os.listdir(tmp_path)


def test_a_damaged_line_of_a_later_segment_is_named(tmp_path: Path, zombie: Journal) -> None:
    with closing(take_over(tmp_path)) as book:
        book.metrics(3, {"a": 3.0})
    with (tmp_path / "journal.2.jsonl").open("a") as file:
        file.write("[]\n")
    with pytest.raises(DamagedError, match=r"journal\.2\.jsonl: line 3 is damaged: it is not a"):
        reading.read_records(tmp_path)


def test_a_release_without_a_record_hides_no_lost_writer(tmp_path: Path, zombie: Journal) -> None:
    """The second attempt finds no room for a sibling's claim, and gives the run back."""
    writing.claim_run(tmp_path, Patient()).release()
    with closing(take_over(tmp_path)) as book:
        assert book.segment == 3
        os.write(zombie._fd, b'{"t": 1, "kind": "metrics", "step": 9, "values": {"a": 9.0}}\n')
        book.metrics(3, {"a": 3.0})
    assert steps(tmp_path) == [0, 1, 2, 3]


@pytest.mark.parametrize("moment", ["before it looks", "while it looks"])
def test_a_process_that_wakes_before_its_first_record_touches_nothing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    """It froze after its claim; another one took over, and records in the very moment."""
    late = writing.claim_run(tmp_path).handed_on()
    content = reading.content
    books: list[Journal] = []

    def take_its_place() -> None:
        lose(tmp_path, 1)
        books.append(take_over(tmp_path))
        books[0].start({})
        books[0].metrics(1, {"a": 1.0})

    def frozen(folder: Path) -> bytes:
        monkeypatch.setattr(reading, "content", content)
        data = content(folder)
        if moment == "while it looks":
            take_its_place()
        return data

    if moment == "before it looks":
        take_its_place()
    monkeypatch.setattr(reading, "content", frozen)
    with pytest.raises(SupersededError, match="another process has taken over"):
        Journal(tmp_path, late)
    monkeypatch.setattr(reading, "content", content)
    with closing(books[0]):
        assert steps(tmp_path) == [0, 1]
        assert books[0].segment == 2


def test_checkpoints_of_a_successor_stay(tmp_path: Path, zombie: Journal) -> None:
    """Whoever wakes as the run ends, or begins again, removes what is its own."""
    names = ("checkpoint.pt", "checkpoint.before.pt", ".checkpoint.pt.0a1b2c3d-71.tmp")
    later = ("checkpoint.2.pt", "checkpoint.2.before.pt", ".checkpoint.2.pt.0a1b2c3d-72.tmp")
    for name in (*names, *later):
        (tmp_path / name).touch()
    remove_checkpoints(tmp_path, zombie.segment)
    assert sorted(path.name for path in tmp_path.glob("*checkpoint*")) == sorted(later)
    remove_checkpoints(tmp_path, 2, "last")
    assert [path.name for path in tmp_path.glob("*checkpoint*")] == ["checkpoint.2.pt"]
