"""The public names, used as the package's docstring says."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from configparser import ConfigParser
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import DIGITS, write_experiment

import gan_bench
from gan_bench.config.declared import Declared
from gan_bench.journal.about import ABOUT, read_about, write_about
from gan_bench.journal.layout import Workspace
from gan_bench.journal.schema import Status
from gan_bench.journal.status import progress_of
from gan_bench.tracking.reader import read_experiment
from gan_bench.tracking.store.client import open_store


def test_every_public_name_is_there() -> None:
    assert sorted(gan_bench.__all__) == sorted(gan_bench._HOMES)
    assert all(getattr(gan_bench, name) is not None for name in gan_bench.__all__)


def test_the_version_is_looked_up_when_it_is_read() -> None:
    described = ConfigParser()
    described.read(Path(__file__).parents[2] / "setup.cfg")
    assert gan_bench.__version__ == described["metadata"]["version"]
    code = ("import sys, gan_bench; before = 'importlib.metadata' in sys.modules\n"
            "gan_bench.__version__\n"
            "print(before, 'importlib.metadata' in sys.modules, 'torch' in sys.modules)")
    # Without site: what is installed beside the package may import more when Python starts.
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True,
                          check=True,
                          env={"PYTHONPATH": str(Path(gan_bench.__file__).parents[1])})
    assert done.stdout.split() == ["False", "True", "False"]


def state() -> dict[str, Any]:
    """Return what a run sets in its process."""
    return {
        "threads": torch.get_num_threads(),
        "deterministic": (torch.are_deterministic_algorithms_enabled(),
                          torch.is_deterministic_algorithms_warn_only_enabled()),
        "fill": torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        "benchmark": torch.backends.cudnn.benchmark,
        "tf32": (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32),
        "draws": torch.get_rng_state().tolist(),
        # A variable of OpenMP is scikit-learn's, which sets it on import.
        "environment": {k: v for k, v in os.environ.items() if not k.startswith("KMP_")},
    }


def test_a_run_from_python_leaves_the_process_as_it_was(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that is refused: all that it sets is set otherwise before."""
    spec = gan_bench.load_experiment(write_experiment(tmp_path), tmp_path,
                                     ["base.model.name=mlp_dropout"])
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    original = state()
    try:
        torch.set_num_threads(2)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = True  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = True
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        before = state()
        with pytest.raises(gan_bench.UserError):
            gan_bench.run_one(spec.runs[0], tmp_path / "unprepared", tmp_path)
        assert state() == before
        gan_bench.prepare(spec, tmp_path, tmp_path, lambda line: None)
        assert state() == before
        assert gan_bench.run_one(spec.runs[0], tmp_path, tmp_path).status == "FINISHED"
        assert state() == before
    finally:
        torch.set_num_threads(original["threads"])
        torch.use_deterministic_algorithms(original["deterministic"][0],
                                           warn_only=original["deterministic"][1])
        torch.utils.deterministic.fill_uninitialized_memory = (  # type: ignore[attr-defined]
            original["fill"])
        torch.backends.cudnn.benchmark = original["benchmark"]
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = original["tf32"]


def test_a_run_from_python(tmp_path: Path) -> None:
    spec = gan_bench.load_experiment(write_experiment(tmp_path), tmp_path)
    said: list[str] = []
    gan_bench.prepare(spec, tmp_path, tmp_path, said.append)
    outcome = gan_bench.run_one(spec.runs[0], tmp_path, tmp_path)
    assert outcome == gan_bench.Outcome(spec.runs[0].id, Status.FINISHED)
    folder = spec.runs[0].folder(tmp_path)
    run, generator = gan_bench.load_generator(str(folder))
    assert run == gan_bench.load_generator(folder)[0]
    assert run == spec.runs[0]
    images = gan_bench.draw(run, generator, 300, seed=1)
    assert images.shape == (300, 1, 16, 16)
    assert torch.equal(images[:7], gan_bench.draw(run, generator, 300, seed=1)[:7])
    assert not torch.equal(images, gan_bench.draw(run, generator, 300, seed=2))


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the file that the package's example reads."""
    (tmp_path / "experiments").mkdir()
    head = "name: dcgan_vs_mlp\nbaseline: saturating\nquestion: Which?"
    text = DIGITS.replace("name: tiny", head)
    (tmp_path / "experiments" / "dcgan_vs_mlp.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_the_example_of_the_package_runs_as_it_stands(study: Path) -> None:
    example = [line.strip() for line in str(gan_bench.__doc__).splitlines()
               if line.startswith("    ")]
    names: dict[str, Any] = {}
    for line in example:  # the last reads the results
        before = state()
        exec(line, names)
    assert state() == before
    spec, results = names["spec"], names["results"]
    assert names["outcome"] == gan_bench.Outcome(spec.runs[0].id, Status.FINISHED)
    assert (list(results.runs.index), list(results.runs["status"])) == (
        [spec.runs[0].id], ["FINISHED"])
    declared = results.declared
    assert (declared.question, declared.baseline) == ("Which?", spec.runs[0].variant)
    scores = progress_of(spec.runs[0], study / "mlruns").scores
    assert results.runs["score.nearest_train_mse"].item() == scores["nearest_train_mse"]
    assert {2, 3, 4, 6} <= set(results.history["step"])
    assert results.notes == ("3 of 4 declared runs are not in MLflow: plain seed 1; "
                             "saturating seeds 0, 1",
                             "the baseline saturating has no runs yet: compared with plain",)
    # A further run is there too, and the declared baseline with it; nothing is there twice.
    gan_bench.run_one(spec.runs[2], "mlruns", "data")
    again = gan_bench.load_results("dcgan_vs_mlp", root=f"{study}/experiments/../mlruns")
    assert list(again.runs.index) == [spec.runs[0].id, spec.runs[2].id]
    assert again.runs["mlflow_run"].iloc[0] == results.runs["mlflow_run"].item()
    assert (again.declared.baseline, again.notes) == (
        "saturating", ("2 of 4 declared runs are not in MLflow: plain seed 1; saturating "
                       "seed 1",))


def test_a_launchers_command_outlives_the_preparation_from_python(study: Path) -> None:
    spec = gan_bench.load_experiment("experiments/dcgan_vs_mlp.yaml", "data")
    home = study / "mlruns" / "runs" / "dcgan_vs_mlp"
    home.mkdir(parents=True)
    for command in ("", "gan-bench run my.yaml"):
        write_about(home, Declared(command=command, question="Another?"))
        gan_bench.prepare(spec, "mlruns", "data", lambda line: None)
        assert read_about(home) == spec.declared.with_changes(command=command)
    (home / ABOUT).write_text('{"margin": "wide"}')
    gan_bench.prepare(spec, "mlruns", "data", lambda line: None)
    assert read_about(home) == spec.declared


@pytest.mark.parametrize("way", [{"mirror": True}, {"tracking_uri": "sqlite:///team.db"}])
def test_a_run_from_python_is_in_mlflow_where_that_is_asked_for(study: Path, way: dict[str, Any],
                                                                ) -> None:
    spec = gan_bench.load_experiment("experiments/dcgan_vs_mlp.yaml", "data")
    gan_bench.prepare(spec, "mlruns", "data", lambda line: None)
    stores = study / "mlruns" / "mlflow.db", study / "team.db"
    gan_bench.run_one(spec.runs[1], "mlruns", "data")
    assert not any(file.exists() for file in stores)
    before = state()
    outcome = gan_bench.run_one(spec.runs[0], "mlruns", "data", **way)
    assert state() == before
    assert outcome == gan_bench.Outcome(spec.runs[0].id, Status.FINISHED)
    assert [file.exists() for file in stores] == ["mirror" in way, "mirror" not in way]
    stored = read_experiment(f"sqlite:///{stores['mirror' not in way]}", "dcgan_vs_mlp")
    assert [(run.tags["run_id"], run.tags["status"]) for run in stored.runs] == [
        (spec.runs[0].id, "FINISHED")]
    assert "eval/nearest_train_mse" in stored.runs[0].metrics
    assert spec.runs[0].folder("mlruns") == Path("mlruns/runs/dcgan_vs_mlp", spec.runs[0].id)


def test_a_store_that_cannot_be_used_is_said_before_any_training(study: Path) -> None:
    spec = gan_bench.load_experiment("experiments/dcgan_vs_mlp.yaml", "data")
    gan_bench.prepare(spec, "mlruns", "data", lambda line: None)
    (study / "bad.db").write_text("no database")
    for uri, words in (("sqlite:///bad.db", "cannot use .*bad.db as MLflow's database"),
                       ("plain_folder", "cannot track runs in 'plain_folder'")):
        with pytest.raises(gan_bench.UserError, match=words):
            gan_bench.run_one(spec.runs[0], "mlruns", "data", tracking_uri=uri)
    assert not spec.runs[0].folder("mlruns").exists()
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    outcome = gan_bench.run_one(spec.runs[0], "mlruns", "data",
                                tracking_uri=f"http://127.0.0.1:{port}")
    assert outcome.status == Status.FINISHED
    (line,) = outcome.missing
    assert line.startswith("MLflow may lack what the journal has: ")
    assert f"--to http://127.0.0.1:{port}` copies it" in line


def test_a_store_of_a_third_party_is_only_read(study: Path) -> None:
    spec = gan_bench.load_experiment("experiments/dcgan_vs_mlp.yaml", "data")
    gan_bench.prepare(spec, "mlruns", "data", lambda line: None)
    gan_bench.run_one(spec.runs[0], "mlruns", "data")
    open_store(Workspace(study / "theirs"))
    for uri in ("sqlite:///theirs/mlflow.db", f"sqlite:///{study}/mlruns/../theirs/mlflow.db"):
        with pytest.raises(gan_bench.UserError, match="no experiment 'dcgan_vs_mlp'"):
            gan_bench.load_results("dcgan_vs_mlp", uri)
    assert not (study / "mlruns" / "mlflow.db").exists()


@pytest.mark.parametrize("wrong", [None, 7, b"mlruns", "a\0b"])
def test_what_is_no_path_is_refused_in_a_line(study: Path, wrong: Any) -> None:
    spec = gan_bench.load_experiment("experiments/dcgan_vs_mlp.yaml", "data")
    for call in (lambda: gan_bench.load_experiment(wrong, "data"),
                 lambda: gan_bench.load_experiment("experiments/dcgan_vs_mlp.yaml", wrong),
                 lambda: gan_bench.prepare(spec, wrong, "data", print),
                 lambda: gan_bench.prepare(spec, "mlruns", wrong, print),
                 lambda: gan_bench.run_one(spec.runs[0], wrong, "data"),
                 lambda: gan_bench.run_one(spec.runs[0], "mlruns", wrong),
                 lambda: gan_bench.load_generator(wrong),
                 lambda: gan_bench.load_results("dcgan_vs_mlp", root=wrong)):
        with pytest.raises(gan_bench.UserError, match="is not a path: give a str"):
            call()
    with pytest.raises(gan_bench.UserError, match=r"cannot track runs in 'mlruns/mlflow\.db'"):
        gan_bench.load_results("dcgan_vs_mlp", Path("mlruns/mlflow.db"))  # type: ignore[arg-type]
    assert not (study / "mlruns").exists()
