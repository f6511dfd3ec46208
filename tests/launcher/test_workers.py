"""Workers that share a root: each run is done once, to the bits of one machine alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from helpers.commands import Forked, forked
from helpers.journals import repeatable
from helpers.launching import GAN_BENCH, clean_environment, gan_bench
from helpers.runs import DIGITS, a_run, write_experiment

from gan_bench.cli.work import parse_period
from gan_bench.errors import RUNS_LEFT, UserError
from gan_bench.journal import reading
from gan_bench.journal.schema import Record
from gan_bench.journal.sharing.claims import holder_of, newest_claim

pytestmark = pytest.mark.process

LONG = DIGITS.replace("steps: 6", "steps: 3000").replace("log_every: 2", "log_every: 20").replace(
    "sample_every: 3", "sample_every: 3000").replace("every: 3,", "every: 3000,")


def start(*arguments: object, log: Path) -> subprocess.Popen[bytes]:
    """Start a command whose processes all have a lease of two seconds."""
    with log.open("wb") as output:
        return subprocess.Popen([*GAN_BENCH, *map(str, arguments)], stdout=output, stderr=output,
                                env={**clean_environment(), "GAN_BENCH_LEASE": "2"})


def results(root: Path) -> dict[str, tuple[list[Record], bytes]]:
    return {folder.name: (repeatable(reading.read_records(folder)[0]),
                          (folder / "final.safetensors").read_bytes())
            for folder in (root / "runs" / "tiny").iterdir() if folder.is_dir()}


def folders(root: Path) -> list[Path]:
    return sorted(file.parent for file in root.glob("runs/tiny/*/spec.json"))


def wait_for(condition: object, seconds: float = 180) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_three_workers_do_each_run_once_and_a_sync_brings_them(tmp_path: Path) -> None:
    file = write_experiment(tmp_path)
    alone = forked("run", file, "--root", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    workers = [Forked("work", file, "--root", tmp_path / "root", "--slots", 1) for _ in range(3)]
    texts = [(worker.wait(), "".join(worker.read())) for worker in workers]
    for status, text in texts:
        assert status == 0, text
        assert "4 of 4 runs that waited are over" in text
    assert sum(text.count("random features") + text.count("once") for _, text in texts) <= 1
    assert results(tmp_path / "root") == results(tmp_path / "alone")
    for folder in folders(tmp_path / "root"):
        assert [path.name for path in folder.glob("attempt.*")] == ["attempt.1"]
        assert (folder / "attempt.1").read_text().splitlines()[1].strip() == "done"
    assert not (tmp_path / "root" / "mlflow.db").exists()
    done = forked("sync", "--root", tmp_path / "root")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("mirrored") == 4
    again = forked("work", "tiny", "--root", tmp_path / "root")
    assert (again.returncode, again.stdout.count("started")) == (0, 0)


def test_a_second_run_joins_the_first_and_stop_ends_both(tmp_path: Path) -> None:
    file, root = write_experiment(tmp_path, LONG), tmp_path / "root"
    first = Forked("run", file, "--root", root, "--slots", 1)
    try:
        wait_for(lambda: any(map(holder_of, folders(root))))
        second = Forked("run", file, "--root", root, "--slots", 1, "--json")
        wait_for(lambda: sum(1 for folder in folders(root) if holder_of(folder)) == 2)
        shown = forked("status", "tiny", "--root", root, "--json")
        assert shown.stdout.count('"state": "RUNNING"') == 2
        assert f'"process": {first.pid}' in shown.stdout
        assert f'"process": {second.pid}' in shown.stdout
        done = forked("stop", "tiny", "--root", root)
        assert done.returncode == 0, done.stderr
        assert f"process {first.pid} is asked to write 1 checkpoint and to leave" in done.stdout
        assert (first.wait(60), second.wait(60)) == (RUNS_LEFT, RUNS_LEFT)
        texts = ["".join(process.read()) for process in (first, second)]
        assert "Traceback" not in "".join(texts)
        why = "`gan-bench stop tiny` asked for it"
        assert f"left: {why}" in texts[0]
        assert "0 of 4 runs are done. " in texts[0]
        (end,) = (json.loads(line) for line in texts[1].splitlines() if '"event": "end"' in line)
        assert (end["left"], end["failed"]) == (why, 0)
        assert not any(map(holder_of, folders(root)))
        refused = forked("work", "tiny", "--root", root)
        assert (refused.returncode, refused.stderr.strip()) == (
            2, "error: tiny was stopped by `gan-bench stop`; `gan-bench run` goes on with it")
    finally:
        for process in (first, second):
            process.kill()
    begun = [folder for folder in folders(root) if (folder / "attempt.1").exists()]
    assert len(begun) == 2
    assert all((folder / "checkpoint.pt").exists() for folder in begun)


def test_a_worker_leaves_when_its_time_is_over(tmp_path: Path) -> None:
    file, root = write_experiment(tmp_path, LONG), tmp_path / "root"
    done = forked("work", file, "--root", root, "--slots", 1, "--for", "1s")
    assert done.returncode == 75, done.stderr
    assert "left: the time is over" in done.stdout
    begun = [folder for folder in folders(root) if (folder / "attempt.1").exists()]
    assert len(begun) == 1
    assert (reading.last(begun[0]) or {})["status"] == "KILLED"
    assert (begun[0] / "checkpoint.pt").exists()


def test_a_frozen_worker_is_replaced_and_writes_no_more(tmp_path: Path) -> None:
    text = LONG.replace("steps: 3000", "steps: 1200").replace("seeds: [0, 1]", "seeds: [0]")
    file, root = write_experiment(tmp_path, text), tmp_path / "root"
    alone = forked("run", file, "--root", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    frozen = start("work", file, "--root", root, "--slots", 1, log=tmp_path / "a.txt")
    wait_for(lambda: any(reading.last(folder) for folder in folders(root)))
    held = [folder for folder in folders(root) if holder_of(folder)]
    family = [frozen.pid, *(p.pid for p in psutil.Process(frozen.pid).children(recursive=True))]
    for pid in family:
        os.kill(pid, signal.SIGSTOP)
    other = start("work", file, "--root", root, "--slots", 1, log=tmp_path / "b.txt")
    try:
        wait_for(lambda: (newest_claim(held[0]) or 0).attempt == 2)  # type: ignore[union-attr]
        for pid in family:
            os.kill(pid, signal.SIGCONT)
        assert other.wait(120) == 0, (tmp_path / "b.txt").read_text()
        assert frozen.wait(120) == 0, (tmp_path / "a.txt").read_text()
    finally:
        for process in (frozen, other):
            process.kill()
    assert "another process has taken it over" in (tmp_path / "a.txt").read_text()
    assert "Traceback" not in (tmp_path / "a.txt").read_text()
    assert (held[0] / "journal.2.jsonl").exists()
    assert results(root) == results(tmp_path / "alone")


def test_a_run_that_fails_is_tried_by_one_worker_alone(tmp_path: Path,
                                                       plugin: dict[str, str]) -> None:
    text = DIGITS.replace("saturating: {loss: saturating}", "bad: {loss: explosive}")
    file, root = write_experiment(tmp_path, text), tmp_path / "root"
    workers = [Forked("work", file, "--root", root, "--slots", 1, env=plugin) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [1, 1]
    for worker in workers:
        said = "".join(worker.read())
        assert "2 of 4 runs that waited are over, 2 failed" in said
        assert "Traceback" not in said
    for folder in folders(root):
        assert [path.name for path in folder.glob("attempt.*")] == ["attempt.1"]


def test_what_is_not_prepared_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "root" / "runs").mkdir(parents=True)
    for command in ("work", "stop"):
        done = forked(command, "tiny", "--root", tmp_path / "root")
        assert done.returncode == 2
        assert done.stderr.splitlines() == [
            f"error: {tmp_path / 'root'} holds no prepared experiment 'tiny'; give its YAML file, "
            f"or another --root"]


@pytest.mark.parametrize(("text", "seconds"), [
    ("4h", 14400), ("90s", 90), ("1h30m", 5400), ("0.5m", 30), ("2d", 172800)])
def test_a_period_is_read(text: str, seconds: float) -> None:
    assert parse_period(text) == seconds


@pytest.mark.parametrize("text", ["", "4", "h", "4 h", "4hours", "-1h", "1:30"])
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="is no time; write 4h, 30m, 90s or 1h30m"):
        parse_period(text)


# os.open as on a disk with a bad block: reading one run's claim fails.
BAD_BLOCK = """\
import errno, os
sound = os.open
def reading(path, *rest, **more):
    if str(path).endswith(os.environ["BAD_BLOCK"]):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
    return sound(path, *rest, **more)
os.open = reading
"""


@pytest.mark.parametrize("command", ["run", "work"])
def test_a_claim_that_cannot_be_read_is_a_line_and_the_other_runs_go_on(
        tmp_path: Path, command: str) -> None:
    root, bad = tmp_path / "root", a_run(tmp_path)
    (bad.write(root) / "attempt.1").write_text("")
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BAD_BLOCK)
    words = [command, tmp_path / "tiny.yaml", "--root", root, "--slots", 1]
    done = gan_bench(*words, env={
        "PYTHONPATH": f"{tmp_path / 'site'}:{os.environ.get('PYTHONPATH', '')}",
        "BAD_BLOCK": f"{bad.id}/attempt.1"})
    assert done.returncode == RUNS_LEFT, done.stdout + done.stderr
    line = (f"{bad.folder(root)}/attempt.1: cannot be read (Input/output error), so nobody can "
            f"tell whether its holder lives; make it readable")
    assert done.stdout.count(f"{line}; other runs go on\n") == 1
    assert f"left: {line}\n" in done.stdout
    assert [folder.name for folder in folders(root)
            if not (folder / "final.safetensors").exists()] == [bad.id]
    assert "Traceback" not in done.stdout + done.stderr
    again = gan_bench(*words)
    assert again.returncode == 0, again.stdout + again.stderr
    assert (bad.folder(root) / "final.safetensors").exists()
