"""The journal: what is written is read, torn lines are no records, times are left aside."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from helpers.journals import repeatable

from gan_bench.errors import DamagedError
from gan_bench.journal import reading
from gan_bench.journal.writing import Journal


def test_what_is_written_is_read(tmp_path: Path) -> None:
    record = Journal(tmp_path)
    record.start({"device": "cpu"})
    record.protocol({"eval/x": {"generated": 10}})
    record.metrics(5, {"train/d_loss": 0.1 + 0.2, "train/g_loss": math.nan, "a": -math.inf})
    record.system(5, {"system/images_per_s": 3.0})
    record.image(5, "samples", b"png")
    record.end("FINISHED")
    records, offset = reading.read_records(tmp_path)
    assert [r["kind"] for r in records] == ["start", "protocol", "metrics", "system", "image",
                                            "end"]
    values = records[2]["values"]
    assert values["train/d_loss"] == 0.1 + 0.2
    assert math.isnan(values["train/g_loss"])
    assert values["a"] == -math.inf
    assert (tmp_path / records[4]["file"]).read_bytes() == b"png"
    assert (records[-1]["status"], records[-1]["step"]) == ("FINISHED", 5)
    assert reading.read_records(tmp_path, offset) == ([], offset)
    assert reading.last(tmp_path) == records[-1]


def test_reading_on_from_an_offset_gives_the_rest_once(tmp_path: Path) -> None:
    record = Journal(tmp_path)
    record.metrics(1, {"a": 1.0})
    first, offset = reading.read_records(tmp_path)
    record.metrics(2, {"a": 2.0})
    second, offset = reading.read_records(tmp_path, offset)
    assert [r["step"] for r in first + second] == [1, 2]


def test_a_torn_last_line_is_no_record_until_it_is_whole(tmp_path: Path) -> None:
    Journal(tmp_path).metrics(1, {"a": 1.0})
    path = tmp_path / reading.FILE
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-7])
    records, offset = reading.read_records(tmp_path)
    assert len(records) == 1
    assert reading.last(tmp_path) == records[0]
    path.write_bytes(whole + whole)
    assert len(reading.read_records(tmp_path, offset)[0]) == 1


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    sound = (json.dumps({"t": 1, "kind": "metrics", "step": 1, "values": {}}) + "\n").encode()
    (tmp_path / reading.FILE).write_bytes(2 * sound + b"\0\0\0\n")
    for read in (reading.read_records, reading.last,
                 lambda folder: reading.read_records(folder, len(sound))):
        with pytest.raises(DamagedError, match=r"journal\.jsonl: line 3 is damaged.*delete the f"):
            read(tmp_path)
    assert reading.first(tmp_path) == json.loads(sound)


GOOD: list[dict[str, Any]] = [
    {"t": 1, "kind": "start", "step": 0, "facts": {"versions": {}, "dataset": {
        "name": "digits", "fingerprint": "f", "train": 1, "test": 1}}},
    {"t": 1, "kind": "protocol", "step": 0, "protocol": {"a": {"extractor": "x", "weights": "y"}}},
    {"t": 1, "kind": "metrics", "step": 5, "values": {"a": 1.5, "b": 3, "c": "nan", "d": "-inf"}},
    {"t": 1, "kind": "image", "step": 5, "name": "samples", "file": "samples/samples-0000005.png"},
    {"t": 1, "kind": "resume", "step": 5, "note": "", "drift": {"torch": ["1", "2"]}, "void": True},
    {"t": 1, "kind": "end", "step": 5, "status": "FINISHED", "why": "", "weights": None},
]
BAD = [
    "3", "[]", "null", '"a"', "{}", "[" * 100_000, "9" * 5_000, '{"kind": "end", "step": 3}',
    "\xff",
    *(json.dumps({**record, key: value}) for record in GOOD for key, value in (
        ("t", None), ("t", "1"), ("t", -1), ("t", 1.5), ("t", True), ("t", 10**18), ("step", -1),
        ("step", "5"), ("step", 10**30), ("kind", "x"), ("kind", []), ("kind", None))),
    *(json.dumps({**GOOD[i], **change}) for i, change in (
        (0, {"facts": 3}), (0, {"facts": {"versions": []}}), (0, {"facts": {"dataset": {}}}),
        (0, {"facts": {"dataset": {**GOOD[0]["facts"]["dataset"], "train": "1"}}}),
        (1, {"protocol": []}), (1, {"protocol": {"a": 3}}),
        (1, {"protocol": {"a": {"weights": 3}}}), (1, {"protocol": {"a": {"extractor": []}}}),
        (2, {"values": []}), (2, {"values": {"a": "1"}}), (2, {"values": {"a": None}}),
        (2, {"values": {"a": True}}), (2, {"values": {"a": 10**30}}), (2, {"values": {"a": [1]}}),
        (3, {"file": "samples/../../../../etc/passwd"}), (3, {"file": "/etc/passwd"}),
        (3, {"file": "samples/other-0000005.png"}), (3, {"name": 3}), (3, {"file": None}),
        (3, {"name": "../up", "file": "samples/../up-0000005.png"}),
        (3, {"name": "n" * 300, "file": f"samples/{'n' * 300}-0000005.png"}),
        (3, {"name": "", "file": "samples/-0000005.png"}),
        (3, {"name": ".", "file": "samples/.-0000005.png"}),
        (3, {"name": "\U0001F600", "file": "samples/\U0001F600-0000005.png"}),
        (4, {"drift": []}), (4, {"drift": {"a": 3}}), (4, {"drift": {"a": [1]}}), (4, {"void": 1}),
        (4, {"note": None}), (5, {"status": "GREAT"}), (5, {"why": None}), (5, {"weights": 3}),
        (5, {"why": "a\0b"}), (5, {"why": "\ud800"}))),
    json.dumps(GOOD[2]).replace("1.5", "NaN"), json.dumps(GOOD[2]).replace("1.5", "Infinity"),
]


def test_sound_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / reading.FILE).write_text("".join(json.dumps(line) + "\n" for line in GOOD))
    assert [record["kind"] for record in reading.read_records(tmp_path)[0]] == [
        line["kind"] for line in GOOD]


@pytest.mark.parametrize("line", BAD, ids=range(len(BAD)))
def test_a_line_that_somebody_has_put_there_is_named(tmp_path: Path, line: str) -> None:
    """Whatever it holds, it is found when it is read, and not by what works with the records."""
    (tmp_path / reading.FILE).write_bytes(line.encode("latin-1", "replace") + b"\n")
    for read in (reading.read_records, reading.last, reading.first):
        with pytest.raises(DamagedError, match=r"journal\.jsonl: line 1 is damaged.*delete the f"):
            read(tmp_path)


@pytest.mark.parametrize("what", ["link", "folder", "pipe"])
def test_a_journal_is_a_plain_file(tmp_path: Path, what: str) -> None:
    file = tmp_path / reading.FILE
    (tmp_path / "elsewhere").write_text(json.dumps(GOOD[0]) + "\n")
    if what == "link":
        file.symlink_to("elsewhere")
    elif what == "folder":
        file.mkdir()
    else:
        os.mkfifo(file)  # whoever opens one for reading waits for a writer
    for use in (reading.read_records, reading.last, reading.first, reading.is_open, Journal):
        with pytest.raises(DamagedError, match=r"journal\.jsonl: (cannot be used|is not a plain)"):
            use(tmp_path)
    assert (tmp_path / "elsewhere").read_text() == json.dumps(GOOD[0]) + "\n"


def test_the_last_line_may_be_very_long(tmp_path: Path) -> None:
    record = Journal(tmp_path)
    record.metrics(1, {"a": 1.0})
    record.end("FAILED", "x" * 200_000)
    found = reading.last(tmp_path)
    assert found is not None
    assert len(found["why"]) == 200_000


def test_no_journal_is_no_record(tmp_path: Path) -> None:
    assert reading.read_records(tmp_path) == ([], 0)
    assert reading.last(tmp_path) is None


def test_repeatable_leaves_out_times_and_measurements_only(tmp_path: Path) -> None:
    record = Journal(tmp_path)
    record.metrics(1, {"a": 1.0})
    record.system(1, {"b": 2.0})
    record.end("FINISHED")
    kept = repeatable(reading.read_records(tmp_path)[0])
    assert kept == [{"kind": "metrics", "step": 1, "values": {"a": 1.0}},
                    {"kind": "end", "step": 1, "status": "FINISHED", "why": "", "weights": None}]


@pytest.mark.process
def test_a_record_survives_sigkill(tmp_path: Path) -> None:
    """Written by another process, which kills itself right after the call."""
    code = f"""
import os, signal
from pathlib import Path
from gan_bench.journal.writing import Journal
record = Journal(Path({str(tmp_path)!r}))
for step in range(100):
    record.metrics(step, {{"a": float(step)}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    assert [r["step"] for r in reading.read_records(tmp_path)[0]] == list(range(100))


def test_pictures_and_their_names_are_on_the_disk_before_the_journal_is(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(os.path.relpath(os.readlink(f"/proc/self/fd/{descriptor}"), tmp_path))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    record = Journal(tmp_path)
    record.image(5, "samples", b"png")
    assert synced == []  # a checkpoint waits for the disk, and training does not
    record.flush()
    assert synced == ["samples/samples-0000005.png", "samples", ".", reading.FILE]
    record.flush()
    assert synced[4:] == [reading.FILE]
    record.close()


@pytest.mark.process
def test_a_line_that_finds_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    """The disk takes 50 bytes of it, as `ulimit -f` does too; the next record has room again."""
    code = f"""
import resource
from pathlib import Path
from gan_bench.journal import reading, writing
folder = Path({str(tmp_path)!r})
record = writing.Journal(folder)
record.metrics(1, {{"a": 1.0}})
size = (folder / reading.FILE).stat().st_size
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, resource.RLIM_INFINITY))
try:
    record.metrics(2, {{"a" * 100: 2.0}})
except OSError as error:
    assert "File too large" in str(error)
else:
    raise SystemExit("it found room")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
record.end("FAILED", "no room")
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))
    assert [(r["kind"], r["step"]) for r in reading.read_records(tmp_path)[0]] == [("metrics", 1),
                                                                           ("end", 1)]
