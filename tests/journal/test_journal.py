"""The journal: what is written is read, torn lines are no records, times are left aside."""

from __future__ import annotations

import errno
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from helpers.journals import repeatable, write_journal
from helpers.runs import write_experiment

from gan_bench.errors import DamagedError, UserError
from gan_bench.journal import reading, writing
from gan_bench.journal.sharing.claims import Claim
from gan_bench.journal.sharing.lock import is_locked, locked
from gan_bench.journal.writing import Amendment, Journal


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
    for use in (reading.read_records, reading.last, reading.first, reading.length, Journal):
        with pytest.raises(DamagedError, match=r"journal\.jsonl: (cannot be used|is not a plain)"):
            use(tmp_path)
    assert (tmp_path / "elsewhere").read_text() == json.dumps(GOOD[0]) + "\n"
    assert not reading.is_open(tmp_path)  # what could not be opened is not claimed any longer


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
                    {"kind": "end", "step": 1, "status": "FINISHED", "why": "", "weights": None,
                     "recording": None}]


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

    record = Journal(tmp_path)
    monkeypatch.setattr(os, "fsync", spy)
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


# Scores that are added to a run which has ended


NAME = "evaluate-0a1b/fd"
PROTOCOL = {NAME: {"generated": 10}}


def ended_run(folder: Path) -> tuple[Path, bytes]:
    """Return the folder of a finished run below an experiment's folder, and its journal."""
    run = folder / "study" / "run"
    run.mkdir(parents=True)
    write_journal(run)
    return run, (run / reading.FILE).read_bytes()


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond `size`, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_scores_are_added_whole_or_not_at_all_on_a_full_disk(tmp_path: Path) -> None:
    run, before = ended_run(tmp_path)
    file = run / reading.FILE
    assert writing.amend(run, Amendment(PROTOCOL, {NAME: 1.0}))
    size = file.stat().st_size - len(before)
    for room in range(size):
        file.write_bytes(before)
        with no_file_beyond(len(before) + room), pytest.raises(OSError, match="too large") as why:
            writing.amend(run, Amendment(PROTOCOL, {NAME: 1.0}))
        assert why.value.filename == str(file)
        assert file.read_bytes() == before
    with no_file_beyond(len(before) + size):
        assert writing.amend(run, Amendment(PROTOCOL, {NAME: 1.0}))
    assert file.read_bytes().startswith(before)
    assert file.stat().st_size == len(before) + size
    kinds = [record["kind"] for record in reading.read_records(run)[0]][-4:]
    assert kinds == ["end", "protocol", "metrics", "end"]


def test_scores_that_a_killed_process_was_adding_leave_the_run_as_it_was(tmp_path: Path) -> None:
    """Wherever the process was: a launcher finds the run ended, and can add the scores again."""
    run, before = ended_run(tmp_path)
    file = run / reading.FILE
    writing.amend(run, Amendment(PROTOCOL, {NAME: 1.0}))
    after = file.read_bytes()
    for size in range(len(before), len(after)):
        for use in (lambda: writing.last_whole(run), lambda: locked(run.parent).__enter__()):
            file.write_bytes(after[:size])
            use()
            last = reading.last(run)
            assert last is not None
            assert (last["kind"], last["status"]) == ("end", "FINISHED")
        assert writing.amend(run, Amendment(PROTOCOL, {NAME: 1.0}))
        assert [record["kind"] for record in reading.read_records(run)[0]][-4:] == [
            "end", "protocol", "metrics", "end"]


def test_what_a_new_attempt_has_written_after_an_end_stays(tmp_path: Path) -> None:
    for begin in (lambda book: book.start({}), lambda book: book.resume(10, "", {}, True)):
        run, before = ended_run(tmp_path / str(len(list(tmp_path.iterdir()))))
        book = Journal(run)
        begin(book)
        book.metrics(11, {"a": 1.0})
        book.close()
        written = (run / reading.FILE).read_bytes()
        assert written.startswith(before)
        Journal(run).close()
        assert (run / reading.FILE).read_bytes() == written
        writing.settle_run(run, "KILLED", "signal 9")
        assert (run / reading.FILE).read_bytes().startswith(written)
        assert [r["kind"] for r in reading.read_records(run)[0]][-2:] == ["metrics", "end"]


def test_no_scores_are_added_to_a_journal_that_is_being_written(tmp_path: Path) -> None:
    run, before = ended_run(tmp_path)
    book = Journal(run)
    with pytest.raises(UserError, match=f"run is being written by process {os.getpid()}; wait"):
        writing.amend(run, Amendment(PROTOCOL, {NAME: 1.0}))
    book.close()
    assert reading.content(run) == before
    assert writing.amend(run, Amendment(PROTOCOL, {NAME: 1.0}))


@pytest.mark.parametrize("ends", [False, True])
def test_no_scores_are_added_to_a_run_that_has_begun_again(tmp_path: Path, ends: bool) -> None:
    run, _ = ended_run(tmp_path)
    with closing(Journal(run)) as book:
        book.start({})
    if ends:
        writing.settle_run(run, "KILLED", "signal 9")
    begun = (run / reading.FILE).read_bytes()
    with pytest.raises(UserError, match=r"run: the run is not finished, so no score is added; run "
                                        r"its experiment to the end first$"):
        writing.amend(run, Amendment(PROTOCOL, {NAME: 1.0}))
    assert (run / reading.FILE).read_bytes() == begun


def train(run: Path, number: int, claim: Claim) -> None:
    with closing(Journal(run, claim)) as book:
        book.metrics(number, {"a": 1.0})


def train_and_settle(run: Path, number: int, claim: Claim) -> None:
    train(run, number, claim)
    writing.settle_run(run, "KILLED", "w" * 300, claim)


def add_scores(run: Path, number: int, claim: Claim) -> None:
    writing.amend(run, Amendment({}, {f"evaluate-{number}/fd": 1.0}), claim)


WRITERS: dict[str, Callable[[Path, int, Claim], None]] = {
    "training": train, "settle": train_and_settle, "evaluate": add_scores}


@pytest.mark.process
@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_file_system_takes_no_half_record(tmp_path: Path, writer: str) -> None:
    """The run lies on a small tmpfs in a mount namespace; another file fills it, then leaves."""
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system in a namespace (unshare -rm)")
    code = f"""
import os
from pathlib import Path
from gan_bench.errors import UserError
from gan_bench.journal.sharing.claims import lost_attempts
from test_journal import WRITERS, Journal, ended_run, writing
run, write = ended_run(Path("small"))[0], WRITERS[{writer!r}]
file = run / "journal.jsonl"
if {writer!r} != "evaluate":
    journal = Journal(run)
    journal.start({{}})
    journal.close()
claim = writing.claim_run(run)
try:
    with open("small/filler", "wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass
except OSError:
    pass
for number in range(30, 200):  # until the last page of the journal is full
    before = file.read_bytes()
    try:
        write(run, number, claim)
    except OSError as error:
        assert error.strerror == "No space left on device", error
        assert str(error.filename) == str(file), error
        break
else:
    raise SystemExit("it found room")
after = file.read_bytes()
added = after.removeprefix(before)
assert after == before or ({writer!r} == "settle" and added.count(b"\\n") == 1), added
assert after.endswith(b"\\n")
claim.release()  # what has its place needs no more
try:
    writing.claim_run(run)
except UserError as error:
    assert "attempt." in str(error), error
    assert ": cannot be written: No space left on device; " in str(error), error
else:
    raise SystemExit("a claim found room")
os.unlink("small/filler")
claim = writing.claim_run(run)
assert lost_attempts(run, 1, claim.attempt) == 0
assert not [name for name in os.listdir(run) if name.startswith(".")]
write(run, number, claim)
assert file.read_bytes().startswith(after)
assert len(file.read_bytes()) > len(after)
"""
    (tmp_path / "small").mkdir()
    (tmp_path / "code.py").write_text(code)
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parents[1]),
                             *sys.path])
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c",
         f"mount -t tmpfs -o size=64k tmpfs small && {sys.executable} code.py"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0, done.stderr


# Locks


NO_LOCKS = """\
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
int flock(int fd, int operation) {
    FILE *answer = fopen(getenv("FLOCK_ANSWER"), "r");
    int number = 0;
    fscanf(answer, "%d", &number);
    fclose(answer);
    errno = number;
    return -1;
}
"""
ANSWERS = ("ENOSYS", "ENOLCK", "EOPNOTSUPP", "EIO", "EWOULDBLOCK")
# The words that a command must say.
COMMANDS = {"run": "[2 of 2 ended, 0 running]", "plan": "FINISHED  6/6", "sync": "2 runs"}
# One process for all of them: each would import MLflow, and start a server that imports torch.
UNDER_EACH = """\
import errno, fcntl, json, os, sys
from pathlib import Path
from helpers.studies import here

for name in sys.argv[2:]:
    Path(os.environ["FLOCK_ANSWER"]).write_text(str(getattr(errno, name)))
    try:
        fcntl.flock(0, fcntl.LOCK_SH)
        told = 0  # the library is not in place
    except OSError as error:
        told = error.errno
    said = {}
    for command in "run", "plan", "sync":
        given = [sys.argv[1], "--set", "seeds=[0]"] if command != "sync" else []
        done = here(command, *given, "--root", name)
        said[command] = done.returncode, done.stdout + done.stderr
    print(json.dumps([name, told, said]), flush=True)
"""


@pytest.fixture(scope="module")
def without_locks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a file system has given each answer to locks: roots, and `said.json`."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no C compiler")
    folder = tmp_path_factory.mktemp("locks")
    (folder / "locks.c").write_text(NO_LOCKS)
    library = folder / "locks.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "locks.c"], check=True)
    (folder / "answer").write_text("0")
    paths = os.pathsep.join([*map(str, Path(__file__).parents[1:3]), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", UNDER_EACH, write_experiment(folder), *ANSWERS], check=False,
        capture_output=True, text=True, stdin=subprocess.DEVNULL, cwd=folder, timeout=240, env={
            **os.environ, "LD_PRELOAD": str(library), "FLOCK_ANSWER": str(folder / "answer"),
            "PYTHONPATH": paths})
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "said.json").write_text(done.stdout)
    return folder


@pytest.mark.process
@pytest.mark.parametrize("answer", ANSWERS)
def test_what_a_file_system_answers_to_a_lock_changes_nothing(without_locks: Path, answer: str,
                                                              ) -> None:
    """A library in place of the kernel's answer: claims are no locks."""
    lines = map(json.loads, (without_locks / "said.json").read_text().splitlines())
    [(told, said)] = [(told, said) for name, told, said in lines if name == answer]
    assert told == getattr(errno, answer)  # the library is in place
    for command, words in COMMANDS.items():
        status, text = said[command]
        assert status == 0, text
        assert words in text
        assert "lock" not in text.replace(str(without_locks), "")
    assert not is_locked(without_locks / answer / "runs" / "tiny")
