"""Claims: one holder at a time, whoever dies, freezes or comes back; on any machine."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from helpers.launching import gan_bench

from gan_bench.errors import UserError
from gan_bench.journal.sharing import claims
from gan_bench.journal.sharing.claims import (
    LEASE_VARIABLE,
    ClaimedError,
    Release,
    SupersededError,
    Watch,
    holder_of,
    lease,
    lost_attempts,
    newest_claim,
    releases_after,
    take,
)

HOLD = """
import sys, time
from pathlib import Path
from gan_bench.journal.sharing.claims import take
claim = take(Path(sys.argv[1]))
print(claim.attempt, flush=True)
time.sleep(600)
"""


def hold(folder: Path, *wrapper: str, **environment: str) -> subprocess.Popen[str]:
    """Start a process that claims a folder; return once it holds it."""
    process = subprocess.Popen([*wrapper, sys.executable, "-c", HOLD, str(folder)], text=True,
                               stdout=subprocess.PIPE, env={**os.environ, **environment})
    assert process.stdout is not None
    assert process.stdout.readline().strip().isdecimal()
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


@pytest.mark.parametrize(("text", "seconds"), [
    (None, 120), ("", 120), ("1", 1), ("2.5", 2.5), ("86400", 86400), ("1e3", 1000)])
def test_the_seconds_of_a_lease_are_read(text: str | None, seconds: float,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LEASE_VARIABLE, raising=False)
    if text is not None:
        monkeypatch.setenv(LEASE_VARIABLE, text)
    assert lease() == seconds


@pytest.mark.parametrize("text", ["2min", "nan", "inf", "-5", "0", "0.9", "86401", "1,5", "0x10"])
def test_what_is_no_lease_is_one_clear_line(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LEASE_VARIABLE, text)
    with pytest.raises(UserError, match=rf"^GAN_BENCH_LEASE={text}: is no number of seconds from 1 "
                                        rf"to 86400; set the same on all machines, or none for"):
        lease()


@pytest.mark.process
def test_a_command_refuses_what_is_no_lease(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    done = gan_bench("status", "--root", tmp_path, env={LEASE_VARIABLE: "2min"})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == ("error: GAN_BENCH_LEASE=2min: is no number of seconds from 1 to 86400; "
                           "set the same on all machines, or none for 120\n")
    assert gan_bench("--help", env={LEASE_VARIABLE: "2min"}).returncode == 0


def test_a_claim_is_held_until_it_is_released(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    first = take(tmp_path)
    holder = holder_of(tmp_path)
    assert holder is not None
    assert (holder.pid, holder.is_here) == (os.getpid(), True)
    with pytest.raises(ClaimedError, match=rf"is being written by process {os.getpid()}; wait"):
        take(tmp_path)
    first.release(Release.FAILED)
    assert holder_of(tmp_path) is None
    second = take(tmp_path)
    assert (first.attempt, second.attempt, lost_attempts(tmp_path, 1, 2)) == (1, 2, 0)
    assert releases_after(tmp_path, 0) == [Release.FAILED]
    assert releases_after(tmp_path, 1) == []
    second.release()
    assert releases_after(tmp_path, 0) == [Release.FAILED, Release.DONE]
    assert sorted(os.listdir(tmp_path)) == ["attempt.1", "attempt.2"]


def test_a_holder_that_is_superseded_is_told(tmp_path: Path) -> None:
    claim = take(tmp_path)
    claim.refuse_superseded()
    (tmp_path / "attempt.2").touch()
    with pytest.raises(SupersededError, match="another process has taken over"):
        claim.refuse_superseded()
    (tmp_path / "attempt.2").unlink()
    claim.refuse_superseded()
    (tmp_path / "attempt.1").unlink()
    with pytest.raises(SupersededError):
        claim.refuse_superseded()
    claim.release()


@pytest.mark.process
def test_the_claim_of_a_dead_process_is_free_at_once_and_its_writer_may_live(tmp_path: Path,
                                                                             ) -> None:
    process = hold(tmp_path)
    with pytest.raises(ClaimedError, match=f"process {process.pid};"):
        take(tmp_path)
    end(process)
    claim = take(tmp_path)
    assert (claim.attempt, lost_attempts(tmp_path, 1, 2)) == (2, 1)
    claim.release()


@pytest.mark.process
def test_another_process_of_the_same_number_holds_nothing(tmp_path: Path) -> None:
    """Numbers of processes are used again; the one that made the claim started earlier."""
    take(tmp_path).release()
    file = tmp_path / "attempt.1"
    values = json.loads(file.read_text().splitlines()[0])
    line = json.dumps({**values, "started": values["started"] - 1}) + "\n"
    file.write_text(line + f"{3:012d}".ljust(claims.WIDTH - 1) + "\n")
    assert holder_of(tmp_path) is None
    file.write_text(line.replace(f'"started": {values["started"] - 1}',
                                 f'"started": {values["started"]}') + f"{3:012d}\n")
    assert holder_of(tmp_path) is not None


def test_a_copy_of_a_claim_claims_nothing(tmp_path: Path) -> None:
    """As in a copy of a root whose original is being worked on."""
    (tmp_path / "original").mkdir()
    (tmp_path / "copy").mkdir()
    claim = take(tmp_path / "original")
    (tmp_path / "copy" / "attempt.1").write_bytes(
        (tmp_path / "original" / "attempt.1").read_bytes())
    assert holder_of(tmp_path / "original") is not None
    assert holder_of(tmp_path / "copy") is None
    (tmp_path / "original").rename(tmp_path / "moved")
    assert holder_of(tmp_path / "moved") is not None
    claim.release()


@pytest.mark.process
def test_a_frozen_holder_is_lost_after_the_lease_and_not_before(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(claims.LEASE_VARIABLE, "1.5")
    process, watch = hold(tmp_path), Watch()
    try:
        begin = time.monotonic()
        while time.monotonic() < begin + 2.5:  # it beats, so it is never lost
            state = newest_claim(tmp_path)
            assert state is not None
            assert not watch.is_lost(tmp_path, state)
            time.sleep(0.05)
        process.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        while not watch.is_lost(tmp_path, newest_claim(tmp_path) or state):
            assert time.monotonic() < begin + 10
            time.sleep(0.02)
        assert 1.2 < time.monotonic() - begin < 3
        assert holder_of(tmp_path) is not None  # who only looks once cannot tell
        claim = take(tmp_path, watch=watch)
        assert (claim.attempt, lost_attempts(tmp_path, 1, 2)) == (2, 1)
        process.send_signal(signal.SIGCONT)
        with pytest.raises(ClaimedError, match=f"process {os.getpid()}"):
            take(tmp_path, watch=watch)
        claim.release()
    finally:
        end(process)


@pytest.mark.process
def test_a_process_elsewhere_is_judged_by_its_heartbeat_alone(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another namespace of processes, as in a container or on another machine."""
    if subprocess.run(["unshare", "-rpf", "--mount-proc", "true"], check=False,
                      capture_output=True).returncode:
        pytest.skip("this machine allows no namespaces of processes (unshare -rpf)")
    monkeypatch.setenv(claims.LEASE_VARIABLE, "1")
    process, watch = hold(tmp_path, "unshare", "-rpf", "--mount-proc", "--kill-child"), Watch()
    holder = holder_of(tmp_path)
    assert holder is not None
    assert not holder.is_here
    assert str(holder) == f"process {holder.pid} on {holder.host}"
    end(process)
    with pytest.raises(ClaimedError):  # nobody knows yet
        take(tmp_path, watch=watch)
    time.sleep(1.3)
    take(tmp_path, watch=watch).release()


CONTEND = """
import os, sys, time
from pathlib import Path
from gan_bench.errors import UserError
from gan_bench.journal.sharing.claims import take
folder, held = Path(sys.argv[1]), 0
begin = time.monotonic()
while time.monotonic() < begin + 3:
    try:
        claim = take(folder, "lease")
    except UserError:
        continue
    claim.forget_earlier()
    os.close(os.open(folder / "alone", os.O_CREAT | os.O_EXCL))
    os.unlink(folder / "alone")
    held += 1
    claim.release()
sys.exit(0 if held > 20 else 1)
"""


@pytest.mark.process
def test_never_do_two_processes_hold_a_lease_that_is_taken_again_and_again(tmp_path: Path,
                                                                           ) -> None:
    """Its earlier files are deleted meanwhile."""
    several = [subprocess.Popen([sys.executable, "-c", CONTEND, str(tmp_path)],
                                stderr=subprocess.PIPE, text=True) for _ in range(4)]
    errors = [process.communicate(timeout=120)[1] for process in several]
    assert [process.returncode for process in several] == [0, 0, 0, 0], errors
    assert len(os.listdir(tmp_path)) <= 2


@pytest.mark.parametrize("text", ["", "x", "[]\n", "{}\n", '{"pid": 1}\n', "[" * 100_000 + "\n"])
def test_a_damaged_claim_holds_nothing_and_keeps_its_number(tmp_path: Path, text: str) -> None:
    (tmp_path / "attempt.7").write_text(text)
    assert holder_of(tmp_path) is None
    claim = take(tmp_path)
    assert claim.attempt == 8
    claim.release()


def test_a_claim_that_finds_no_room_leaves_nothing(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(UserError, match=r"attempt\.1: cannot be written: No such file"):
        take(missing)
    (tmp_path / "attempt.1").symlink_to(tmp_path / "elsewhere")
    claim = take(tmp_path)  # a link is no claim, and its number is taken
    assert claim.attempt == 2
    claim.release()
    assert sorted(os.listdir(tmp_path)) == ["attempt.1", "attempt.2"]


@pytest.mark.process
def test_what_a_process_leaves_that_is_killed_while_it_claims_is_removed(tmp_path: Path) -> None:
    process = hold(tmp_path)
    end(process)
    dead = (tmp_path / "attempt.1").read_bytes()
    claim = take(tmp_path)
    alive = (tmp_path / "attempt.2").read_bytes()
    claim.release()
    names = {f".attempt.{digit * 32}": content
             for digit, content in (("a", dead), ("b", alive), ("c", b"torn"))}
    for name, content in names.items():
        (tmp_path / name).write_bytes(content)
    take(tmp_path).release()
    assert sorted(name for name in os.listdir(tmp_path) if name.startswith(".")) == [
        f".attempt.{'b' * 32}", f".attempt.{'c' * 32}"]


def test_no_heartbeat_follows_a_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that beats may have begun its round before the claim was released."""
    claim, waiting = take(tmp_path), threading.Event()

    def sync(descriptor: int, sync: Callable[[int], None] = os.fsync) -> None:
        late.start()
        assert not waiting.wait(0.2)  # the heartbeat waits until the release is on the disk
        sync(descriptor)

    late = threading.Thread(target=lambda: (claim.beat(), waiting.set()))
    monkeypatch.setattr(os, "fsync", sync)
    claim.release(Release.FAILED)
    late.join(10)
    assert waiting.is_set()
    assert releases_after(tmp_path, 0) == [Release.FAILED]
    assert holder_of(tmp_path) is None


def test_a_lost_answer_to_a_link_is_no_claim_of_another(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of a network file system repeats the request, and finds its own file there."""
    def link(*arguments: Any, link: Callable[..., None] = os.link, **options: Any) -> None:
        link(*arguments, **options)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", link)
    claim = take(tmp_path)
    assert os.listdir(tmp_path) == ["attempt.1"]
    with pytest.raises(ClaimedError, match=f"process {os.getpid()};"):
        take(tmp_path)
    claim.release()


def test_a_claim_that_cannot_be_read_is_not_free(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim = take(tmp_path)

    def read(path: Any, *arguments: Any, open: Callable[..., int] = os.open, **options: Any) -> int:
        if Path(path).name == "attempt.1":
            raise OSError(errno.EIO, "Input/output error")
        return open(path, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", read)
        with pytest.raises(UserError, match=r"cannot be read \(Input/output error\), so"):
            take(tmp_path)
        state = newest_claim(tmp_path)
        assert state is not None
        assert not Watch().is_lost(tmp_path, state)
    assert os.listdir(tmp_path) == ["attempt.1"]
    claim.release()
    take(tmp_path).release()
