"""The launcher, as a user starts it: a command in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from helpers.commands import forked
from helpers.journals import repeatable
from helpers.launching import (
    GAN_BENCH,
    MODULES,
    console_script,
    folder_of_modules,
    gan_bench,
    new_root,
    run,
)
from helpers.runs import write_experiment
from helpers.studies import copy_of, here

import gan_bench as package
from gan_bench.atomic import this_machine
from gan_bench.config.experiment import load_experiment
from gan_bench.journal import reading, schema
from gan_bench.journal.drift import NUMERICS


def leavings(root: Path) -> dict[str, tuple[list[schema.Record], bytes]]:
    return {folder.name: (repeatable(reading.read_records(folder)[0]),
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


def test_the_log_of_a_run_has_a_line_for_every_record_of_its_losses(finished: Path) -> None:
    logs = list((finished / "root").glob("runs/tiny/*/log.txt"))
    assert len(logs) == 4
    for log in logs:
        records, _ = reading.read_records(log.parent)
        losses = [(record["step"], record["values"]) for record in records
                  if record["kind"] == "metrics" and "train/d_loss" in record["values"]]
        lines = log.read_text().splitlines()
        assert [step for step, _ in losses] == [2, 4, 6]
        for line, (step, values) in zip(lines, losses, strict=True):
            expected = (f" step {step}/6 d_loss {values['train/d_loss']:.4g} "
                        f"g_loss {values['train/g_loss']:.4g} ")
            assert re.fullmatch(r"[-0-9]{10} [0-9:]{8}" + re.escape(expected) + r"\S+ steps/s",
                                line)


def test_another_root_and_another_number_of_slots_give_the_same_bits(finished: Path,
                                                                     tmp_path: Path) -> None:
    done = here("run", write_experiment(tmp_path), "--root", tmp_path / "other", "--slots", 1)
    assert done.returncode == 0, done.stderr
    assert leavings(tmp_path / "other") == leavings(finished / "root")


def test_again_trains_nothing(finished: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (finished / "root" / "runs").rglob("*.jsonl")}
    done = here("run", finished / "tiny.yaml", "--root", finished / "root")
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
    done = here("run", tmp_path / "copy" / "tiny.yaml", "--root", root)
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
        done = here("run", tmp_path / "copy" / "tiny.yaml", "--root", root)
        assert done.returncode == 1, done.stderr
        assert "3 of 4 runs are done" in done.stdout
        words = f"({damaged.parent.name}): {damaged}: line {number} is damaged"
        assert words in done.stdout
        assert "MLflow does not take" not in done.stdout
        assert "MLflow lacks some results: " in done.stderr
        assert "copies the missing results, and gan-bench report " in done.stderr
        assert f"{damaged}: line {number} is damaged" in done.stderr
        assert f"{older}: line 1 is damaged" in done.stderr
        assert damaged.read_bytes() == before
        with sqlite3.connect(root / "mlflow.db") as db:
            assert db.execute("select count(*) from runs where status = 'FINISHED' and "
                              "name != 'study'"
                              ).fetchone() == (3,)
    expected = leavings(finished / "root")[torn.parent.name]
    assert (repeatable(reading.read_records(torn.parent)[0]),
            (torn.parent / "final.safetensors").read_bytes()) == expected


def test_mlflow_has_every_run_whole(finished: Path) -> None:
    with sqlite3.connect(finished / "root" / "mlflow.db") as db:
        runs = db.execute("select run_uuid, status from runs where lifecycle_stage = 'active' "
                          "and name != 'study'").fetchall()
        assert [status for _, status in runs] == ["FINISHED"] * 4
        for uuid, _ in runs:
            tags = dict(db.execute("select key, value from tags where run_uuid = ?", (uuid,)))
            folder = finished / "root" / "runs" / "tiny" / tags["run_id"]
            expected = sorted(
                (key, record["step"], record["t"], value)
                for record in reading.read_records(folder)[0]
                if record["kind"] in ("metrics", "system")
                for key, value in record["values"].items())
            assert sorted(db.execute(
                "select key, step, timestamp, value from metrics where run_uuid = ?", (uuid,)
            ).fetchall()) == expected


def test_the_summary_names_every_variant_and_score(finished: Path) -> None:
    done = here("run", finished / "tiny.yaml", "--root", finished / "root")
    for word in ("d_accuracy_real", "d_accuracy_fake", "nearest_train_mse", "plain", "saturating",
                 "baseline", "95% interval"):
        assert word in done.stdout


def test_json_lines_are_json_and_end_with_every_run(finished: Path) -> None:
    done = here("run", finished / "tiny.yaml", "--root", finished / "root", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-1]["event"] == "end"
    assert [r["state"] for r in lines[-1]["runs"]] == ["FINISHED"] * 4
    assert set(lines[-1]["runs"][0]["scores"]) == {"d_accuracy_real", "d_accuracy_fake",
                                                    "nearest_train_mse"}


def test_on_a_terminal_a_table_is_drawn_in_place(tmp_path: Path) -> None:
    """Under a pseudo-terminal: a live table while it trains, the summary after it, status 0."""
    import pty

    argv = [*GAN_BENCH, "run", str(write_experiment(tmp_path)), "--root", str(new_root(tmp_path)),
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
    done = here("plan", finished / "tiny.yaml", "--root", finished / "root", "--json")
    assert [json.loads(line)["state"] for line in done.stdout.splitlines()] == ["FINISHED"] * 4
    fresh = here("plan", finished / "tiny.yaml", "--root", finished / "no")
    assert fresh.stdout.count("WAITING") == 4
    assert not (finished / "no").exists()


def test_sample_writes_a_picture_or_an_array(finished: Path, tmp_path: Path) -> None:
    import numpy as np

    folder = next((finished / "root" / "runs" / "tiny").glob("*/final.safetensors")).parent
    png, npz = tmp_path / "a.png", tmp_path / "a.npz"
    for out in (png, npz):
        done = here("sample", folder.name[:8], "--root", finished / "root", "-n", 70, "-o", out)
        assert done.returncode == 0, done.stderr
    assert png.read_bytes().startswith(b"\x89PNG")
    images = np.load(npz)["images"]
    assert (images.shape, images.dtype) == ((70, 16, 16, 1), np.uint8)
    assert images.std() > 1
    unknown = here("sample", "zzz", "--root", finished / "root", "-o", png)
    assert (unknown.returncode, unknown.stderr.count("\n")) == (2, 1)


def test_a_run_that_raises_or_dies_stops_no_other(tmp_path: Path, plugin: dict[str, str]) -> None:
    done = forked("run", write_experiment(tmp_path), "--root", new_root(tmp_path), "--set",
                  "variants={good: {}, bad: {loss: explosive}, dead: {loss: deadly}}",
                  "--set", "seeds=[0]", env=plugin)
    assert done.returncode == 1
    assert "FAILED bad seed 0" in done.stdout
    assert "boom at last" in done.stdout
    assert "KILLED dead seed 0" in done.stdout
    assert "SIGKILL" in done.stdout
    assert "resumed (2 of 2)" in done.stdout
    assert "resumed (3" not in done.stdout
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


def test_sync_copies_everything_into_another_store(finished: Path, tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/other.db"
    done = forked("sync", "--root", finished / "root", "--to", uri)
    assert (done.returncode, done.stdout) == (0, "4 runs, 4 brought up to date\n")
    again = here("sync", "--root", finished / "root", "--to", uri)
    assert (again.returncode, again.stdout) == (0, "4 runs, 0 brought up to date\n")
    rows = []
    for database in (finished / "root" / "mlflow.db", tmp_path / "other.db"):
        with sqlite3.connect(database) as db:
            rows.append(sorted(db.execute(
                "select t.value, m.key, m.timestamp, m.step, m.value from metrics m join tags t "
                "on t.run_uuid = m.run_uuid where t.key = 'run_id'").fetchall()))
    assert rows[0] == rows[1]
    assert len(rows[0]) > 100
    nothing = here("sync", "--root", tmp_path / "nothing")
    assert (nothing.returncode, nothing.stderr.count("\n")) == (2, 1)


def test_the_table_after_a_run_says_that_it_mixes_numerics(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "root" / "runs", tmp_path / "runs")
    alike = here("run", finished / "tiny.yaml", "--root", tmp_path)
    assert "4 of 4 runs are done" in alike.stdout
    assert "program versions" not in alike.stdout
    file = next(tmp_path.glob("runs/tiny/*/journal.jsonl"))
    file.write_text(file.read_text().replace(f'"numerics": {NUMERICS}', '"numerics": 3', 1))
    mixed = here("run", finished / "tiny.yaml", "--root", tmp_path)
    assert "4 of 4 runs are done" in mixed.stdout
    [line] = [line for line in mixed.stdout.splitlines() if "program versions" in line]
    assert line.startswith("runs of 2 program versions are compared (")
    assert "numerics 3: 1 run" in line
    assert f"numerics {NUMERICS}: 3 runs" in line


def test_plan_tells_of_other_versions_and_of_older_runs(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "root" / "runs", tmp_path / "runs")
    file = next(tmp_path.glob("runs/tiny/*/journal.jsonl"))
    file.write_text(file.read_text().replace(f'"numerics": {NUMERICS}', '"numerics": 0', 1))
    done = here("plan", finished / "tiny.yaml", "--root", tmp_path)
    assert f"{file.parent.name}: numerics 0 and now {NUMERICS}" in done.stdout
    assert done.stdout.count("and now") == 1
    other = here("plan", finished / "tiny.yaml", "--root", tmp_path, "--set", "base.steps=7")
    _, older = other.stdout.split("4 other runs of tiny")
    expected = {}
    for spec in tmp_path.glob("runs/tiny/*/spec.json"):
        values = json.loads(spec.read_text())
        expected[spec.parent.name] = [values["variant"], str(values["seed"]), "FINISHED", "6/6"]
    assert {line.split()[0]: line.split()[1:] for line in older.splitlines()[2:]} == expected
    assert other.stdout.count("WAITING") == 4


def test_a_root_with_dots_in_its_path_can_be_used_again(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With further seeds, by the environment, and by its plain name."""
    file, work, root = write_experiment(tmp_path), tmp_path / "work", tmp_path / "root"
    work.mkdir()
    monkeypatch.chdir(work)
    calls: list[tuple[str, dict[str, str]]] = [
        ("../root", {}), ("", {"GAN_BENCH_ROOT": "a/../../root"}), (str(root), {})]
    for count, (spelling, env) in enumerate(calls, 1):
        option = ["--root", spelling] if spelling else []
        start = forked if count == 1 else here  # a process of its own, and then this one
        done = start("run", file, *option, "--set", f"seeds={[*range(count)]}", env=env)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
        assert f"{2 * count} of {2 * count} runs are done. " in done.stdout
        hints = done.stdout.splitlines()[-2:]
    assert [hint.endswith(f" --root {root}") for hint in hints] == [True, True], hints
    assert list(work.iterdir()) == []
    again = here("sync", "--root", "../root")
    assert (again.returncode, again.stdout) == (0, "6 runs, 0 brought up to date\n")
    with closing(sqlite3.connect(root / "mlflow.db")) as database:
        places = {place for (place,) in database.execute("select artifact_uri from runs "
                                                       "where name != 'study'")}
    assert len(places) == 6
    assert all(place.startswith(f"{(root / 'artifacts').as_uri()}/") for place in places)


@pytest.mark.process
def test_no_file_of_the_working_folder_is_executed(tmp_path: Path) -> None:
    working = folder_of_modules(tmp_path / "downloaded", *MODULES, "torch", "gan_bench")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "GAN_B"))}
    done = subprocess.run(
        [*console_script(tmp_path), "run", write_experiment(tmp_path), "--root",
         tmp_path / "root", "--set", "seeds=[0]", "--set", "base.steps=3"],
        cwd=working, capture_output=True, text=True, check=False, timeout=240, env=clean)
    executed = working / "executed"
    assert not executed.exists(), executed.read_text()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 runs are done" in done.stdout


START = """\
import sys
from gan_bench.launcher.processes import fork_context

def look():
    preload = sys.modules.get("gan_bench.launcher.preload")
    print(preload and preload.__file__, flush=True)

if __name__ == "__main__":
    process = fork_context(1).Process(target=look)
    process.start()
    process.join()
"""


@pytest.mark.process
def test_the_fork_server_preloads_a_package_that_is_not_installed(tmp_path: Path) -> None:
    """It lies beside the script, as with `python -m gan_bench` in a checkout."""
    (tmp_path / "gan_bench").symlink_to(Path(package.__file__).parent)
    (tmp_path / "start.py").write_text(START)
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run([sys.executable, tmp_path / "start.py"], check=False, timeout=240,
                          capture_output=True, text=True, env=environment)
    assert done.stdout == f"{tmp_path}/gan_bench/launcher/preload.py\n", done.stderr


def test_the_weights_have_the_mode_of_the_other_files(finished: Path) -> None:
    for folder in (finished / "root" / "runs" / "tiny").glob("*/"):
        modes = {name: (folder / name).stat().st_mode & 0o777
                 for name in ("final.safetensors", "spec.json", "mirror.json")}
        assert len(set(modes.values())) == 1, modes


@pytest.mark.process
def test_more_slots_than_runs_cost_nothing(tmp_path: Path) -> None:
    """As many as no memory holds: `ulimit -v` leaves 8 GB."""
    limit = 8 * 2**30
    done = subprocess.run(
        [*GAN_BENCH, "run", write_experiment(tmp_path), "--root", new_root(tmp_path), "--set",
         "seeds=[0]", "--set", "base.steps=3", "--slots", str(10**10)],
        capture_output=True, text=True, check=False, timeout=240,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 of 2 runs are done" in done.stdout


def kept_by(runs: Path) -> dict[Path, bytes | bool]:
    """What each file holds, but for the lease of the queue, whose number counts its holders."""
    return {path: path.is_file() and path.read_bytes() for path in runs.rglob("*")
            if not re.fullmatch(r"queue-change\.[0-9]+", path.name)}


def test_a_start_that_is_refused_changes_nothing(finished: Path, tmp_path: Path) -> None:
    """The preparations refuse it: the experiment keeps what it declares, and no folder is left."""
    copy_of(finished / "root", tmp_path / "root")
    home = tmp_path / "root" / "runs" / "tiny"
    dead = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    before = kept_by(tmp_path / "root" / "runs")
    refused = ["--set", "question=Another?", "--set", "dataset={name: kmnist, image_size: 16}"]
    for name in ("tiny", "new"):
        done = here("run", finished / "tiny.yaml", "--root", tmp_path / "root", "--data-root",
                    tmp_path / "data", "--set", f"name={name}", *refused, env=dead)
        assert done.returncode == 2, done.stdout + done.stderr
        assert "kmnist" in done.stderr.lower()
    assert sorted(kept_by(tmp_path / "root" / "runs")) == sorted(before)  # a short diff first
    assert kept_by(tmp_path / "root" / "runs") == before
    assert (home / "about.json").exists()
    with closing(sqlite3.connect(tmp_path / "root" / "mlflow.db")) as database:
        names = database.execute("select name from experiments").fetchall()
        assert ("tiny",) in names
        assert ("new",) not in names


def test_a_long_temporary_folder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / ("t" * 100)
    folder.mkdir()
    done = gan_bench("run", write_experiment(tmp_path), "--root", tmp_path / "root",
                     env={"TMPDIR": str(folder)})
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {folder}: is too long for a temporary folder, in which a socket must lie; set "
        f"TMPDIR to a shorter one, such as /tmp\n")
    assert list((tmp_path / "root" / "runs").iterdir()) == []


def test_databases_that_killed_processes_left_are_removed(finished: Path, tmp_path: Path) -> None:
    copy_of(finished / "root", tmp_path / "root")
    leftovers = [tmp_path / "root" / f".mlflow-{name}"
                 for name in ("abcd1234", this_machine() + "0" * 24)]
    for leftover in leftovers:  # of an earlier version, which locked none, and of this one
        leftover.mkdir()
    os.utime(leftovers[0], (0, 0))
    done = here("run", finished / "tiny.yaml", "--root", tmp_path / "root")
    assert "4 of 4 runs are done" in done.stdout
    assert not any(leftover.exists() for leftover in leftovers)


def test_what_strangers_write_into_journals_moves_no_cursor(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "root" / "runs", tmp_path / "runs")
    file = next(tmp_path.glob("runs/tiny/*/journal.jsonl"))
    text = file.read_text()
    version = re.search('"torch": "([^"]*)"', text)
    assert version is not None
    file.write_text(text.replace(version[0], '"torch": "\\u001b[2J"'))
    done = here("plan", finished / "tiny.yaml", "--root", tmp_path)
    assert done.returncode == 0
    assert "torch \\x1b[2J and now" in done.stdout
    assert done.stdout.replace("\n", "").isprintable()
