"""The launcher, as a user starts it: a command in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from runs import install, write_experiment

from gan_bench import journal
from gan_bench.drift import NUMERICS
from gan_bench.experiment import load_experiment

GAN_BENCH = [sys.executable, "-m", "gan_bench.cli"]


def gan_bench(*arguments: object, env: dict[str, str] | None = None, timeout: float = 240,
              ) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GAN_B"))}
    return subprocess.run([*GAN_BENCH, *map(str, arguments)], capture_output=True, text=True,
                          check=False, timeout=timeout, env={**environment, **(env or {})})


def run(tmp_path: Path, root: str, *more: object, env: dict[str, str] | None = None,
        ) -> subprocess.CompletedProcess[str]:
    return gan_bench("run", write_experiment(tmp_path), "--root", tmp_path / root, *more, env=env)


def leavings(root: Path) -> dict[str, tuple[list[journal.Record], bytes]]:
    return {folder.name: (journal.repeatable(journal.read(folder)[0]),
                          (folder / "final.safetensors").read_bytes())
            for folder in (root / "runs" / "tiny").iterdir() if folder.is_dir()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the experiment has been run, with two slots, into `root`."""
    folder = tmp_path_factory.mktemp("finished")
    done = run(folder, "root", "--slots", 2)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    return folder


def test_every_run_leaves_its_record_and_its_weights(finished: Path) -> None:
    left = leavings(finished / "root")
    spec = load_experiment(finished / "tiny.yaml", finished)
    assert set(left) == {run.id for run in spec.runs}
    for records, _ in left.values():
        assert (records[0]["kind"], records[-1]["status"]) == ("start", "FINISHED")


def test_another_root_and_another_number_of_slots_give_the_same_bits(finished: Path,
                                                                     tmp_path: Path) -> None:
    done = run(tmp_path, "other", "--slots", 1)
    assert done.returncode == 0, done.stderr
    assert leavings(tmp_path / "other") == leavings(finished / "root")


def test_again_trains_nothing(finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (finished / "root" / "runs").rglob("*.jsonl")}
    done = gan_bench("run", finished / "tiny.yaml", "--root", finished / "root")
    assert done.returncode == 0
    assert "4 of 4 runs are done" in done.stdout
    assert "started" not in done.stdout
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_an_unfinished_run_is_finished_and_no_other(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "copy")
    root = tmp_path / "copy" / "root"
    (root / "mlflow.db").unlink()  # its artifacts lie where the original's do
    runs = sorted(p.parent for p in root.glob("runs/tiny/*/journal.jsonl"))
    torn = (runs[1] / "journal.jsonl").read_bytes()
    (runs[1] / "journal.jsonl").write_bytes(torn[: len(torn) // 2])
    (runs[2] / "final.safetensors").unlink()  # the journal has its end, and keeps it
    done = gan_bench("run", tmp_path / "copy" / "tiny.yaml", "--root", root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("started") == 2
    assert leavings(root) == leavings(finished / "root")


def test_a_damaged_run_stops_no_other(finished: Path, tmp_path: Path) -> None:
    """A line in the middle of one journal; an older run of which nothing can be read."""
    shutil.copytree(finished, tmp_path / "copy")
    root = tmp_path / "copy" / "root"
    (root / "mlflow.db").unlink()
    damaged, torn, *_ = sorted(root.glob("runs/tiny/*/journal.jsonl"))
    lines = damaged.read_bytes().splitlines(keepends=True)
    damaged.write_bytes(b"".join([*lines[:6], b"\0" * 20 + b"\n", *lines[7:]]))
    torn.write_bytes(torn.read_bytes()[:-200])
    older = root / "runs" / "tiny" / ("0" * 12) / "journal.jsonl"
    older.parent.mkdir()
    for first, number in (("", 7), ("[]\n", 1)):
        damaged.write_text(first + damaged.read_text())
        older.write_text("[]\n")
        before = damaged.read_bytes()
        done = gan_bench("run", tmp_path / "copy" / "tiny.yaml", "--root", root)
        assert done.returncode == 1, done.stderr
        assert "3 of 4 runs are done" in done.stdout
        words = f"({damaged.parent.name}): {damaged}: line {number} is damaged"
        assert words in done.stdout
        assert "MLflow does not take" not in done.stdout
        assert "MLflow has not got everything: " in done.stderr
        assert f"{damaged}: line {number} is damaged" in done.stderr
        assert f"{older}: line 1 is damaged" in done.stderr
        assert damaged.read_bytes() == before
        with sqlite3.connect(root / "mlflow.db") as db:
            assert db.execute("select count(*) from runs where status = 'FINISHED'"
                              ).fetchone() == (3,)
    expected = leavings(finished / "root")[torn.parent.name]
    assert (journal.repeatable(journal.read(torn.parent)[0]),
            (torn.parent / "final.safetensors").read_bytes()) == expected


def test_mlflow_has_every_run_whole(finished: Path) -> None:
    with sqlite3.connect(finished / "root" / "mlflow.db") as db:
        runs = db.execute("select run_uuid, status from runs where lifecycle_stage = 'active'"
                          ).fetchall()
        assert [status for _, status in runs] == ["FINISHED"] * 4
        for uuid, _ in runs:
            tags = dict(db.execute("select key, value from tags where run_uuid = ?", (uuid,)))
            folder = finished / "root" / "runs" / "tiny" / tags["run_id"]
            expected = sorted(
                (key, record["step"], record["t"], value) for record in journal.read(folder)[0]
                if record["kind"] in ("metrics", "system")
                for key, value in record["values"].items())
            assert sorted(db.execute(
                "select key, step, timestamp, value from metrics where run_uuid = ?", (uuid,)
            ).fetchall()) == expected


def test_the_summary_names_every_variant_and_score(finished: Path) -> None:
    done = gan_bench("run", finished / "tiny.yaml", "--root", finished / "root")
    for word in ("d_accuracy_real", "d_accuracy_fake", "nearest_train_mse", "plain", "saturating",
                 "baseline", "95% interval"):
        assert word in done.stdout


def test_json_lines_are_json_and_end_with_every_run(finished: Path) -> None:
    done = gan_bench("run", finished / "tiny.yaml", "--root", finished / "root", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["event"] == "end"
    assert [r["state"] for r in lines[-1]["runs"]] == ["FINISHED"] * 4
    assert set(lines[-1]["runs"][0]["scores"]) == {"d_accuracy_real", "d_accuracy_fake",
                                                    "nearest_train_mse"}


def test_on_a_terminal_a_table_is_drawn_in_place(tmp_path: Path) -> None:
    """Under a pseudo-terminal: a live table while it trains, the summary after it, status 0."""
    import pty

    argv = [*GAN_BENCH, "run", str(write_experiment(tmp_path)), "--root", str(tmp_path / "root"),
            "--set", "seeds=[0]", "--set", "base.steps=200"]
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover
        os.execve(argv[0], argv, {**os.environ, "TERM": "xterm", "COLUMNS": "140", "LINES": "40"})
    shown = b""
    with contextlib.suppress(OSError):  # the terminal closes with the process
        while chunk := os.read(terminal, 65536):
            shown += chunk
    _, status = os.waitpid(pid, 0)
    text = shown.decode()
    assert os.waitstatus_to_exitcode(status) == 0, text
    assert "Traceback" not in text
    for heading in ("variant", "seed", "state", "step", "steps/s", "D loss", "G loss",
                    "last score", "left"):
        assert heading in text
    assert "200/200" in text
    assert "RUNNING" in text
    assert "2 of 2 ended" in text
    assert text.index("2 of 2 ended") < text.index("95% interval")


def test_plan_shows_states(finished: Path) -> None:
    done = gan_bench("plan", finished / "tiny.yaml", "--root", finished / "root", "--json")
    assert [json.loads(line)["state"] for line in done.stdout.splitlines()] == ["FINISHED"] * 4
    fresh = gan_bench("plan", finished / "tiny.yaml", "--root", finished / "no")
    assert fresh.stdout.count("WAITING") == 4
    assert not (finished / "no").exists()


def test_sample_writes_a_picture_or_an_array(finished: Path, tmp_path: Path) -> None:
    import numpy as np

    folder = next((finished / "root" / "runs" / "tiny").glob("*/final.safetensors")).parent
    png, npz = tmp_path / "a.png", tmp_path / "a.npz"
    for out in (png, npz):
        done = gan_bench("sample", folder.name[:8], "--root", finished / "root", "-n", 70, "-o",
                         out)
        assert done.returncode == 0, done.stderr
    assert png.read_bytes().startswith(b"\x89PNG")
    images = np.load(npz)["images"]
    assert (images.shape, images.dtype) == ((70, 16, 16, 1), np.uint8)
    assert images.std() > 1
    unknown = gan_bench("sample", "zzz", "--root", finished / "root", "-o", png)
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)


PLUGIN = '''\
from gan_bench.registry import LOSSES
from gan_bench.losses import non_saturating

@LOSSES.register("explosive")
def explosive(*, at: int = 3):
    """Raises."""
    inner, calls = non_saturating(), [0]
    def generator(fake_logits, real_logits):
        calls[0] += 1
        if calls[0] == at:
            raise RuntimeError("boom at last")
        return inner.generator(fake_logits, real_logits)
    return type(inner)(inner.discriminator, generator)

@LOSSES.register("deadly")
def deadly():
    """Kills its process."""
    import os, signal
    inner = non_saturating()
    return type(inner)(inner.discriminator, lambda *logits: os.kill(os.getpid(), signal.SIGKILL))
'''


@pytest.fixture
def plugin(tmp_path: Path) -> dict[str, str]:
    """An installed package that adds two losses, as another project would."""
    return install(tmp_path / "site", "explosive", PLUGIN, "losses")


def test_a_run_that_raises_or_dies_stops_no_other(tmp_path: Path, plugin: dict[str, str]) -> None:
    done = run(tmp_path, "root", "--set",
               "variants={good: {}, bad: {loss: explosive}, dead: {loss: deadly}}",
               "--set", "seeds=[0]", env=plugin)
    assert done.returncode == 1
    assert "FAILED bad seed 0" in done.stdout
    assert "boom at last" in done.stdout
    assert "KILLED dead seed 0" in done.stdout
    assert "SIGKILL" in done.stdout
    assert "taken up again (2 of 2)" in done.stdout
    assert "taken up again (3" not in done.stdout
    assert "1 of 3 runs are done" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    with sqlite3.connect(tmp_path / "root" / "mlflow.db") as db:
        status = dict(db.execute(
            "select t.value, r.status from runs r join tags t on t.run_uuid = r.run_uuid "
            "where t.key = 'variant'").fetchall())
    assert status == {"good": "FINISHED", "bad": "FAILED", "dead": "KILLED"}
    artifacts = [p.read_text() for p in tmp_path.glob("root/artifacts/tiny/*/artifacts/log.txt")]
    assert sum("boom at last" in text and "Traceback" in text for text in artifacts) == 1
    logs = [(p.parent, p.read_text()) for p in tmp_path.glob("root/runs/tiny/*/log.txt")]
    assert sum("boom at last" in text for _, text in logs) == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopping_writes_checkpoints_ends_the_workers_and_says_so(
        tmp_path: Path, number: int, status: int) -> None:
    process, workers = started(tmp_path)
    os.killpg(process.pid, number)  # as a terminal does, and `timeout`
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, out + err
    assert "the same command goes on" in err
    assert "0 of 4 runs are done" in out
    assert out.count("stopped by the user") == 4  # a line when it happens, and under the table
    gone(workers)
    for file in tmp_path.glob("root/runs/tiny/*/journal.jsonl"):
        assert (file.parent / "checkpoint.pt").exists()
    with sqlite3.connect(tmp_path / "root" / "mlflow.db") as db:
        assert db.execute("select status, count(*) from runs group by status").fetchall() == [
            ("KILLED", 2)]


def test_stopping_while_it_starts_is_a_line(tmp_path: Path) -> None:
    """The server that forks the workers is importing torch, and is sent the signal too."""
    process = launched(tmp_path)
    while not (servers := [p for p in psutil.Process(process.pid).children()
                           if "forkserver" in " ".join(p.cmdline())]):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    assert err == "stopped; the same command goes on with what is not finished\n"
    _, alive = psutil.wait_procs(servers, timeout=60)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


def test_stopping_twice_stops_at_once(tmp_path: Path) -> None:
    process, workers = started(tmp_path)
    training = [w for w in workers if any(f.path.endswith(journal.FILE) for f in w.open_files())]
    assert len(training) == 2
    for worker in training:
        worker.suspend()  # so that it cannot write its checkpoint
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("stopping"):
            break
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 143, out + err
    assert out.count("stopped by the user, before it could write a checkpoint") == 4
    gone(workers)


def test_workers_die_with_the_launcher(tmp_path: Path) -> None:
    process, workers = started(tmp_path)
    process.kill()
    process.wait()
    gone(workers)


def test_a_second_launcher_leaves(tmp_path: Path) -> None:
    process, workers = started(tmp_path)
    done = run(tmp_path, "root")
    process.kill()
    process.communicate()
    gone(workers)
    assert done.returncode == 2
    assert f"by process {process.pid}" in done.stderr


def launched(tmp_path: Path) -> subprocess.Popen[str]:
    """Start a long experiment, in a group of processes of its own."""
    return subprocess.Popen(
        [*GAN_BENCH, "run", write_experiment(tmp_path), "--root", tmp_path / "root", "--set",
         "base.steps=1000000", "--slots", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
        # A test suite in the background of a shell runs with Ctrl-C ignored, and hands that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))


def started(tmp_path: Path) -> tuple[subprocess.Popen[str], Sequence[psutil.Process]]:
    """Start a long experiment; return it and its processes once two runs are under way."""
    process = launched(tmp_path)
    deadline = time.monotonic() + 180
    while sum(len(journal.read(p.parent)[0]) > 3
              for p in tmp_path.glob("root/runs/tiny/*/journal.jsonl")) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return process, psutil.Process(process.pid).children(recursive=True)


def gone(workers: Sequence[psutil.Process]) -> None:
    assert len(workers) >= 3
    _, alive = psutil.wait_procs(workers, timeout=60)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []


class Server:
    """A real MLflow server, which can be killed and started again."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.uri, self.folder = f"http://127.0.0.1:{self.port}", folder

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--port", str(self.port), "--workers", "1",
             "--backend-store-uri", f"sqlite:///{self.folder}/server.db",
             "--artifacts-destination", str(self.folder / "served")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"})
        deadline = time.monotonic() + 180
        while socket.socket().connect_ex(("127.0.0.1", self.port)):
            assert time.monotonic() < deadline
            time.sleep(0.2)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def holds(self) -> tuple[list[tuple[str, int]], int]:
        """Return the number of runs by status, and of rows of one metric."""
        with sqlite3.connect(self.folder / "server.db") as db:
            counts = db.execute("select status, count(*) from runs where lifecycle_stage = "
                                "'active' group by status").fetchall()
            (rows,) = db.execute("select count(*) from metrics where key = 'train/d_loss'"
                                 ).fetchone()
        return counts, rows


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that has been started."""
    server = Server(tmp_path)
    server.start()
    yield server
    server.kill()


def begun(tmp_path: Path, *more: str) -> subprocess.Popen[str]:
    """Start an experiment; return its process once a run is under way."""
    process = subprocess.Popen([*GAN_BENCH, "run", write_experiment(tmp_path), "--root",
                                tmp_path / "root", *more], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        if "RUNNING" in line or "started" in line:
            break
    return process


def test_a_server_that_dies_loses_nothing(tmp_path: Path, server: Server) -> None:
    """Training goes on, the status is 3, and `sync` completes MLflow's record."""
    more = ["--tracking-uri", server.uri, "--set", "seeds=[0]", "--set", "base.steps=400"]
    process = begun(tmp_path, *more, "--json")
    server.kill()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, err
    assert f"gan-bench sync --root {tmp_path / 'root'} --to {server.uri}" in err
    end = json.loads(out.splitlines()[-1])
    assert [r["state"] for r in end["runs"]] == ["FINISHED"] * 2
    assert server.uri in end["not_in_mlflow"]
    early = gan_bench("sync", "--root", tmp_path / "root", "--to", server.uri)
    assert (early.returncode, early.stderr.count("Traceback")) == (2, 0)
    server.start()
    assert gan_bench("sync", "--root", tmp_path / "root", "--to", server.uri).returncode == 0
    assert server.holds() == ([("FINISHED", 2)], 2 * 200)


def test_a_server_that_is_away_for_a_while_is_waited_for_and_slows_nothing(
        tmp_path: Path, server: Server) -> None:
    process = begun(tmp_path, "--tracking-uri", server.uri, "--set", "seeds=[0]", "--set",
                    "base.steps=10000", "--set", "base.log_every=50", "--set",
                    "evaluate.every=2500", "--set", "base.sample_every=2500", "--slots", "2")
    time.sleep(3)
    server.kill()
    time.sleep(3)
    server.start()
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, out + err
    assert out.count("MLflow does not take what it is given") == 1
    assert server.holds() == ([("FINISHED", 2)], 2 * 200)


def test_a_server_that_is_not_there_yet_stops_no_training(tmp_path: Path) -> None:
    server = Server(tmp_path)
    done = run(tmp_path, "root", "--tracking-uri", server.uri, "--set", "seeds=[0]")
    assert done.returncode == 3, done.stdout + done.stderr
    assert "training goes on" in done.stdout
    assert "2 of 2 runs are done" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_sync_copies_everything_into_another_store(finished: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/other.db"
    done = gan_bench("sync", "--root", finished / "root", "--to", uri)
    assert (done.returncode, done.stdout) == (0, "4 runs, 4 brought up to date\n")
    again = gan_bench("sync", "--root", finished / "root", "--to", uri)
    assert (again.returncode, again.stdout) == (0, "4 runs, 0 brought up to date\n")
    rows = []
    for database in (finished / "root" / "mlflow.db", tmp_path / "other.db"):
        with sqlite3.connect(database) as db:
            rows.append(sorted(db.execute(
                "select t.value, m.key, m.timestamp, m.step, m.value from metrics m join tags t "
                "on t.run_uuid = m.run_uuid where t.key = 'run_id'").fetchall()))
    assert rows[0] == rows[1]
    assert len(rows[0]) > 100
    nothing = gan_bench("sync", "--root", tmp_path / "nothing")
    assert (nothing.returncode, nothing.stderr.count("\n")) == (2, 1)


def test_sync_says_killed_of_what_a_dead_launcher_left(tmp_path: Path) -> None:
    process, workers = started(tmp_path)
    process.kill()
    process.communicate()
    gone(workers)
    assert gan_bench("sync", "--root", tmp_path / "root").returncode == 0
    with sqlite3.connect(tmp_path / "root" / "mlflow.db") as db:
        assert db.execute("select status, count(*) from runs group by status").fetchall() == [
            ("KILLED", 2)]
    plan = gan_bench("plan", tmp_path / "tiny.yaml", "--root", tmp_path / "root", "--set",
                     "base.steps=1000000", "--json")
    assert [json.loads(line)["state"] for line in plan.stdout.splitlines()].count("KILLED") == 2


def test_plan_tells_of_other_versions_and_of_older_runs(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "root" / "runs", tmp_path / "runs")
    file = next(tmp_path.glob("runs/tiny/*/journal.jsonl"))
    file.write_text(file.read_text().replace(f'"numerics": {NUMERICS}', '"numerics": 0', 1))
    done = gan_bench("plan", finished / "tiny.yaml", "--root", tmp_path)
    assert f"{file.parent.name}: numerics 0 and now {NUMERICS}" in done.stdout
    assert done.stdout.count("and now") == 1
    other = gan_bench("plan", finished / "tiny.yaml", "--root", tmp_path, "--set", "base.steps=7")
    assert "4 older runs of tiny" in other.stdout
    assert other.stdout.count("WAITING") == 4
