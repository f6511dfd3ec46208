"""Bad input, as a user gives it: one clear message, status 2, no traceback, nothing left behind."""

from __future__ import annotations

import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.commands import forked
from helpers.launching import gan_bench
from helpers.runs import DIGITS, write_experiment
from helpers.studies import here

import gan_bench as package
from gan_bench.cli import app
from gan_bench.config.experiment import load_experiment

FOLDER = DIGITS.replace("{name: digits, image_size: 16}",
                        "{name: image_folder, path: pictures, image_size: 16}")


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(("command", "default"), [
    ("run", "[default: one per"), ("report", "[default: reports/EXPERIMENT"),
    ("evaluate", "[default: train]"), ("power", "[default: all that")])
def test_help_shows_defaults_that_are_words(command: str, default: str) -> None:
    shown = here(command, "--help")
    assert shown.returncode == 0
    assert default in " ".join(shown.stdout.replace("│", " ").split())


def test_help_and_list_are_quick_and_light(tmp_path: Path) -> None:
    """What `plan`, `list` and `--help` import is checked, not their time, which is measured in
    benchmarks."""
    code = ("import sys; from gan_bench.cli import app\nsys.argv = ['gan-bench', *{args}]\n"
            "try: app.main()\nexcept SystemExit as end: assert not end.code, end.code\n"
            "heavy = {{'torch', 'mlflow', 'numpy', 'scipy', 'sklearn'}} & set(sys.modules)\n"
            "assert not heavy, heavy")
    file = write_experiment(tmp_path)
    for args in (["--help"], ["--version"], ["list"], ["schema"], ["show", "hinge"],
                 ["plan", str(file), "--root", str(tmp_path)]):
        done = subprocess.run([sys.executable, "-c", code.format(args=args)], capture_output=True,
                              text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_version_is_that_of_the_package() -> None:
    done = gan_bench("--version")
    assert (done.returncode, done.stdout, done.stderr) == (
        0, f"gan-bench {package.__version__}\n", "")


@pytest.mark.parametrize("command", ["run", "plan"])
def test_all_errors_of_a_file_on_lines_of_their_own(tmp_path: Path, command: str) -> None:
    file = write_experiment(tmp_path, DIGITS.replace("width: 16", "widht: 16")
                            .replace("batch_size: 32", "batch_size: many"))
    done = forked(command, file, "--root", tmp_path / "root")
    refused(done, "tiny.yaml:5:22: base.model.widht", "tiny.yaml:6:3: base.batch_size")
    assert not (tmp_path / "root").exists()


def test_missing_file(tmp_path: Path) -> None:
    refused(forked("run", tmp_path / "no.yaml"), "no such file")


def test_data_neither_to_hand_nor_downloadable(tmp_path: Path) -> None:
    file = write_experiment(tmp_path, DIGITS.replace("name: digits", "name: kmnist"))
    dead = {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    done = gan_bench("run", file, "--root", tmp_path / "root", "--data-root", tmp_path / "data",
                     env=dead)
    refused(done, "kmnist")
    assert not list((tmp_path / "root" / "runs").rglob("journal.jsonl"))
    assert not [p for p in (tmp_path / "data").rglob("*") if p.is_file()]


def test_truncated_data_file_is_named(tmp_path: Path, mnist_root: Path) -> None:
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for source in (mnist_root / "MNIST" / "raw").iterdir():
        (raw / source.name).write_bytes(source.read_bytes())
    images = raw / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-100])
    file = write_experiment(tmp_path, DIGITS.replace("name: digits", "name: mnist"))
    done = here("run", file, "--root", tmp_path / "root", "--data-root", tmp_path / "data")
    refused(done, "train-images-idx3-ubyte")


@pytest.mark.parametrize(("make", "words"), [
    (lambda folder: None, ["pictures"]),
    (lambda folder: folder.mkdir(), ["pictures", "no image"]),
    (lambda folder: (folder.mkdir(), [(folder / f"{i}.png").write_bytes(b"no png")
                                      for i in range(64)]), ["pictures/0.png"]),
])
def test_bad_image_folder(tmp_path: Path, make: object, words: list[str]) -> None:
    (tmp_path / "data").mkdir()
    make(tmp_path / "data" / "pictures")  # type: ignore[operator]
    done = here("run", write_experiment(tmp_path, FOLDER), "--root", tmp_path / "root",
                "--data-root", tmp_path / "data")
    refused(done, *words)
    assert not list(tmp_path.glob("root/runs/tiny/*/journal.jsonl"))


def test_read_only_root(tmp_path: Path) -> None:
    if os.geteuid() == 0:  # whom no mode stops: a root below a file cannot be made by anyone
        (tmp_path / "file").write_text("")
        root = tmp_path / "file" / "root"
    else:
        root = tmp_path / "locked"
        root.mkdir(mode=0o500)
    refused(forked("run", write_experiment(tmp_path), "--root", root), "--root",
            "cannot be created" if os.geteuid() == 0 else "not writable")


@pytest.mark.parametrize("place", ["runs/tiny", "runs/tiny/{id}"])
def test_a_file_where_a_folder_belongs(tmp_path: Path, place: str) -> None:
    spec = load_experiment(write_experiment(tmp_path), tmp_path)
    path = tmp_path / "root" / place.format(id=spec.runs[0].id)
    path.parent.mkdir(parents=True)
    path.write_text("")
    done = here("run", tmp_path / "tiny.yaml", "--root", tmp_path / "root")
    refused(done, str(path), "move it away")


def test_database_of_a_newer_mlflow(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with sqlite3.connect(root / "mlflow.db") as db:
        db.execute("create table alembic_version (version_num varchar(32))")
        db.execute("insert into alembic_version values ('fffffffffff0')")
        db.execute("create table experiments (experiment_id, name, artifact_location)")
        db.execute("create table runs (run_uuid, artifact_uri)")
    done = here("run", write_experiment(tmp_path), "--root", root)
    refused(done, "mlflow.db is from a newer MLflow")
    assert not list(root.glob("runs/tiny/*/journal.jsonl"))


def test_cuda_where_there_is_none(tmp_path: Path) -> None:
    done = gan_bench("run", write_experiment(tmp_path), "--root", tmp_path / "root", "--set",
                     "compute.device=cuda", env={"CUDA_VISIBLE_DEVICES": ""})
    refused(done, "compute.device")


def test_plan_of_ten_thousand_runs(tmp_path: Path) -> None:
    file = write_experiment(tmp_path, DIGITS + """\
matrix:
  g_optimizer.lr: [1e-4, 2e-4, 3e-4, 4e-4, 5e-4, 6e-4, 7e-4, 8e-4, 9e-4, 1e-3]
  batch_size: [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
  d_steps: [1, 2, 3, 4, 5]
""")
    done = forked("plan", file, "--root", tmp_path, "--set", f"seeds={list(range(10))}")
    assert done.stdout.count("WAITING") == 10_000


def test_a_full_disk_under_the_launcher_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    """What a limit on the size of files gives in its place: no file takes a byte more."""
    file, root = write_experiment(tmp_path), tmp_path / "root"
    monkeypatch.setattr(sys, "argv", ["gan-bench", "run", str(file), "--root", str(root)])
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        with pytest.raises(SystemExit) as ended:
            app.main()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {root / 'preparation.1'}: cannot be written: File too large; raise the limit of "
        f"the size of files (ulimit -f), then repeat the command\n")
    assert sorted(path.name for path in root.rglob("*")) == ["runs"]


def test_a_path_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:
    file = write_experiment(tmp_path)
    about = tmp_path / "root" / "runs" / "tiny" / "about.json"
    about.mkdir(parents=True)
    monkeypatch.setattr(sys, "argv", ["gan-bench", "run", str(file), "--root",
                                      str(tmp_path / "root")])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        f"error: {about}: cannot be written: Is a directory; move it away, then repeat the "
        f"command\n")
    assert sorted(path.name for path in about.parent.iterdir()) == ["about.json"]
