"""The journal: what is written is read, torn lines are no records, times are left aside."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gan_bench import journal
from gan_bench.errors import UserError
from gan_bench.journal import Journal


def test_what_is_written_is_read(tmp_path: Path) -> None:
    record = Journal(tmp_path)
    record.start({"device": "cpu"})
    record.protocol({"eval/x": {"generated": 10}})
    record.metrics(5, {"train/d_loss": 0.1 + 0.2, "train/g_loss": math.nan, "a": -math.inf})
    record.system(5, {"system/images_per_s": 3.0})
    record.image(5, "samples", b"png")
    record.end("FINISHED")
    records, offset = journal.read(tmp_path)
    assert [r["kind"] for r in records] == ["start", "protocol", "metrics", "system", "image",
                                            "end"]
    values = records[2]["values"]
    assert values["train/d_loss"] == 0.1 + 0.2
    assert math.isnan(values["train/g_loss"])
    assert values["a"] == -math.inf
    assert (tmp_path / records[4]["file"]).read_bytes() == b"png"
    assert (records[-1]["status"], records[-1]["step"]) == ("FINISHED", 5)
    assert journal.read(tmp_path, offset) == ([], offset)
    assert journal.last(tmp_path) == records[-1]


def test_reading_on_from_an_offset_gives_the_rest_once(tmp_path: Path) -> None:
    record = Journal(tmp_path)
    record.metrics(1, {"a": 1.0})
    first, offset = journal.read(tmp_path)
    record.metrics(2, {"a": 2.0})
    second, offset = journal.read(tmp_path, offset)
    assert [r["step"] for r in first + second] == [1, 2]


def test_a_torn_last_line_is_no_record_until_it_is_whole(tmp_path: Path) -> None:
    Journal(tmp_path).metrics(1, {"a": 1.0})
    path = tmp_path / journal.FILE
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:-7])
    records, offset = journal.read(tmp_path)
    assert len(records) == 1
    assert journal.last(tmp_path) == records[0]
    path.write_bytes(whole + whole)
    assert len(journal.read(tmp_path, offset)[0]) == 1


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / journal.FILE).write_bytes(b"\0\0\0\n")
    for read in (journal.read, journal.last):
        with pytest.raises(UserError, match=r"journal\.jsonl: is damaged.*delete the folder"):
            read(tmp_path)


def test_no_journal_is_no_record(tmp_path: Path) -> None:
    assert journal.read(tmp_path) == ([], 0)
    assert journal.last(tmp_path) is None


def test_repeatable_leaves_out_times_and_measurements_only(tmp_path: Path) -> None:
    record = Journal(tmp_path)
    record.metrics(1, {"a": 1.0})
    record.system(1, {"b": 2.0})
    record.end("FINISHED")
    kept = journal.repeatable(journal.read(tmp_path)[0])
    assert kept == [{"kind": "metrics", "step": 1, "values": {"a": 1.0}},
                    {"kind": "end", "step": 1, "status": "FINISHED", "why": "", "weights": None}]


def test_a_record_survives_sigkill(tmp_path: Path) -> None:
    """Written by another process, which kills itself right after the call."""
    code = f"""
import os, signal
from pathlib import Path
from gan_bench.journal import Journal
record = Journal(Path({str(tmp_path)!r}))
for step in range(100):
    record.metrics(step, {{"a": float(step)}})
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    assert [r["step"] for r in journal.read(tmp_path)[0]] == list(range(100))


def test_a_line_that_finds_no_room_leaves_nothing_behind(tmp_path: Path) -> None:
    """The disk takes 50 bytes of it, as `ulimit -f` does too; the next record has room again."""
    code = f"""
import resource
from pathlib import Path
from gan_bench import journal
folder = Path({str(tmp_path)!r})
record = journal.Journal(folder)
record.metrics(1, {{"a": 1.0}})
size = (folder / journal.FILE).stat().st_size
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
    assert [(r["kind"], r["step"]) for r in journal.read(tmp_path)[0]] == [("metrics", 1),
                                                                           ("end", 1)]
