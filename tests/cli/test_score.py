"""`gan-bench evaluate` and `extractor train`: scores of runs and of foreign images."""

from __future__ import annotations

import json
import math
import re
import resource
import shutil
import sqlite3
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import save_pngs
from helpers.launching import gan_bench
from helpers.runs import DIGITS, a_run
from helpers.studies import here
from safetensors.torch import load as load_st
from safetensors.torch import save
from torch import Tensor

from gan_bench.cli import app
from gan_bench.cli.results.sample import write_samples
from gan_bench.cli.running.evaluate import EvaluateOptions, as_text, evaluate, evaluate_and_log
from gan_bench.compare.ended import RunResult
from gan_bench.compare.rows import summarise
from gan_bench.components import data as datasets
from gan_bench.components.data import Dataset
from gan_bench.config.declared import Declared
from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError
from gan_bench.evaluation.comparability import protocol_differences, refusal
from gan_bench.evaluation.features.classifier import classifier
from gan_bench.evaluation.measurement import Report, Wanted
from gan_bench.evaluation.metrics.frechet import frechet_distance
from gan_bench.evaluation.scorer import Scorer
from gan_bench.journal import reading, writing
from gan_bench.journal.layout import Workspace
from gan_bench.journal.scores.score_names import protocol_digest
from gan_bench.journal.status import Progress, progress_of, state_of
from gan_bench.registry import DATASETS, METRICS
from gan_bench.tracking.runs.packed_tags import PROTOCOLS, unpack
from gan_bench.tracking.store.client import open_store
from gan_bench.tracking.sync import sync_runs
from gan_bench.training.run import prepare, run_one
from gan_bench.training.trained_scores import Logged, log_scores

DIGITS_16 = DATASETS.parse({"name": "digits", "image_size": 16})
SCORED = DIGITS.replace("metrics: [d_accuracy, nearest_train_mse]",
                        "metrics: [fd_classifier, classifier_score, d_accuracy, nearest_train_mse]")


def silent(line: str) -> None:
    pass


def scores_of(source: Path | str, root: Path, **wanted: Any) -> Report:
    wanted.setdefault("data_set", DIGITS_16)
    return evaluate(str(source), Wanted(**wanted), Workspace(root, root), silent)[0]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with one finished run, as the launcher would leave it but for MLflow."""
    folder = tmp_path_factory.mktemp("root")
    (folder / "file").mkdir()
    spec = load(folder)
    prepare(load_experiment(folder / "file" / "tiny.yaml", folder), folder, folder, silent)
    run_one(spec, folder, folder)
    return folder


def load(root: Path) -> RunSpec:
    return a_run(root / "file", text=SCORED)


@pytest.fixture(scope="module")
def digits(root: Path) -> Dataset:
    return datasets.load(DIGITS_16, root, root / "cache", "cpu")


def test_a_run_scores_as_in_its_journal_to_the_bit(root: Path) -> None:
    spec = load(root)
    report, folder = evaluate(spec.id[:6], Wanted(), Workspace(root, root), silent)
    assert folder == spec.folder(root)
    own = progress_of(spec, root).scores
    asked = {"fd_classifier", "classifier_score", "nearest_train_mse"}
    assert set(report.scores) == asked  # D's view is left out
    assert report.scores == {name: own[name] for name in asked} == report.journalled
    assert report.not_alike == {}
    for source in (folder, folder / "final.safetensors"):
        again, _ = evaluate(str(source), Wanted(), Workspace(root, root), silent)
        assert again.scores == report.scores


def test_what_was_measured_otherwise_is_not_set_beside(root: Path) -> None:
    spec = load(root)
    report, _ = evaluate(spec.id, Wanted(samples=60), Workspace(root, root), silent)
    assert report.journalled == {}
    assert report.not_alike["fd_classifier"] == "not measured alike: generated 60 against 50"
    report, _ = evaluate(spec.id, Wanted(metrics=["fd_classifier"], split="test"),
                         Workspace(root, root), silent)
    assert report.not_alike["fd_classifier"] == (
        "not measured alike: real 359 against 1,438, split test against train")


def test_a_score_against_other_data_is_another(
    root: Path, digits: Dataset, tmp_path: Path,
) -> None:
    """Extractors of fixed weights have one hash for all data, and pixels have none."""
    images = digits.test.images[:40]
    save_pngs(tmp_path / "data" / "train" / "0", images.numpy())
    save_pngs(tmp_path / "data" / "test" / "0", images.numpy())
    other = DATASETS.parse({"name": "image_folder", "path": str(tmp_path / "data"),
                            "image_size": 16, "channels": 1})
    metrics = ["fd_random", "nearest_train_mse"]
    run = load(root).id
    own, _ = evaluate(run, Wanted(metrics=metrics, samples=40), Workspace(root, root), silent)
    foreign, _ = evaluate(run, Wanted(other, metrics, 40), Workspace(root, root), silent)
    for name in metrics:
        assert own.scores[name] != foreign.scores[name]
        found = protocol_differences(own.protocols[name], foreign.protocols[name])
        assert found["data"] == (f"digits {digits.fingerprint}", foreign.protocols[name]["data"])
        assert foreign.protocols[name]["data"].startswith("image_folder ")
    assert "against digits " in foreign.not_alike["nearest_train_mse"]


def test_logging_adds_to_journal_and_mlflow_once(root: Path) -> None:
    from mlflow import MlflowClient

    spec = load(root)
    report, folder = evaluate(spec.id, Wanted(samples=60), Workspace(root, root), silent)
    assert folder is not None
    before, _ = reading.read_records(folder)
    uri = f"sqlite:///{root / 'mlflow.db'}"
    assert log_scores(report, folder, Workspace(root, root, uri)) == Logged(True, [])
    after, _ = reading.read_records(folder)
    assert after[: len(before)] == before
    assert [r["kind"] for r in after[len(before):]] == ["protocol", "metrics", "end"]
    assert after[-1] == before[-1]
    assert state_of(spec, root) == ("FINISHED", spec.steps)
    assert progress_of(spec, root).scores["nearest_train_mse"] != report.scores["nearest_train_mse"]

    assert log_scores(report, folder, Workspace(root, root, uri)) == Logged(False, [])
    assert reading.read_records(folder)[0] == after
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id], "attributes.run_name != 'study'")
    name = f"eval-{protocol_digest(report.protocols['fd_classifier'])}/fd_classifier"
    [row] = client.get_metric_history(run.info.run_id, name)
    assert (row.value, row.step) == (report.scores["fd_classifier"], spec.steps)
    assert unpack(run.data.tags[PROTOCOLS])[name] == report.protocols["fd_classifier"]
    assert run.info.status == "FINISHED"
    assert run.info.end_time == before[-1]["t"]


@pytest.mark.parametrize("way", ["run", "weights", "link"])
def test_a_run_named_by_a_relative_path_is_logged_in_its_root(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str,
) -> None:
    """Not in the root that the command names, which lacks the run."""
    folder = load(root).folder(root)
    number = 61 + ["run", "weights", "link"].index(way)
    (tmp_path / "best").symlink_to(folder)
    place, source = {"run": (folder.parent, folder.name), "weights": (folder, "final.safetensors"),
                     "link": (tmp_path, "best")}[way]
    monkeypatch.chdir(place)
    reports: list[Report] = []
    assert evaluate_and_log(source, EvaluateOptions(samples=number, log=True),
                            Workspace(tmp_path / "other", root), silent, reports.append) == []
    (report,) = reports
    assert not (tmp_path / "other" / "mlflow.db").exists()
    names = {name for record in reading.read_records(folder)[0]
             for name in record.get("values", ())}
    name = f"eval-{protocol_digest(report.protocols['fd_classifier'])}/fd_classifier"
    assert name in names
    mirrored = {key for (key,) in sqlite3.connect(root / "mlflow.db").execute(
        "select key from latest_metrics")}
    assert name in mirrored


def logged_names(folder: Path) -> set[str]:
    return {name for record in reading.read_records(folder)[0] for name in record.get("values", ())
            if name.startswith("eval-")}


def test_a_store_that_cannot_be_opened_loses_no_score(root: Path, tmp_path: Path) -> None:
    spec = load(root)
    report, folder = evaluate(spec.id, Wanted(samples=64), Workspace(root, root), silent)
    assert folder is not None
    before, database = logged_names(folder), tmp_path / "mlflow.db"
    database.write_text("mine")
    workspace = Workspace(root, root, f"sqlite:///{database}")
    logged = log_scores(report, folder, workspace)
    assert logged.is_new
    (line,) = logged.missing
    assert line.startswith(f"MLflow may lack what the journal has: cannot use {database} ")
    command = f"gan-bench sync --root {root} --to sqlite:///{database}"
    assert line.endswith(f"; once that is repaired, `{command}` copies it")
    added = logged_names(folder) - before
    assert {name.partition("/")[2] for name in added} == set(report.scores)
    database.unlink()
    assert sync_runs(workspace, silent).brought == 1
    with sqlite3.connect(database) as db:
        assert added <= {key for (key,) in db.execute("select key from latest_metrics")}


def test_a_store_without_an_address_leaves_the_journal_alone(root: Path) -> None:
    spec = load(root)
    report, folder = evaluate(spec.id, Wanted(samples=65), Workspace(root, root), silent)
    assert folder is not None
    before = (folder / reading.FILE).read_bytes()
    with pytest.raises(UserError, match="cannot track runs in 'runs'"):
        log_scores(report, folder, Workspace(root, root, "runs"))
    assert (folder / reading.FILE).read_bytes() == before


def test_a_server_that_is_down_hides_no_score(root: Path, tmp_path: Path) -> None:
    (root / "a server").mkdir()
    copy = root / "a server" / "runs" / "tiny" / load(root).id
    shutil.copytree(load(root).folder(root), copy)
    command = ["evaluate", copy, "--samples", 66, "--log", "--root", root, "--data-root", root,
               "--tracking-uri", "http://127.0.0.1:9"]
    done = here(*command)
    assert done.returncode == 3
    assert re.search(r"fd_classifier ↓ +[\d.]+", done.stdout)
    (line,) = done.stderr.splitlines()
    assert "http://127.0.0.1:9" in line
    assert line.endswith(f"; once that is repaired, `gan-bench sync --root "
                         f"'{root / 'a server'}' --to http://127.0.0.1:9` copies it")
    assert logged_names(copy) - logged_names(load(root).folder(root))
    again = here(*command, "--json")
    assert (again.returncode, again.stderr) == (3, done.stderr)
    assert json.loads(again.stdout)["scores"].keys() == {"fd_classifier", "classifier_score",
                                                         "nearest_train_mse"}


def test_a_run_that_was_deleted_in_mlflow_is_not_made_anew(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tiny" / load(root).id
    shutil.copytree(load(root).folder(root), folder)
    workspace = Workspace(tmp_path, root)
    (folder / "mirror.json").unlink(missing_ok=True)
    assert sync_runs(workspace, silent).brought == 1
    client = open_store(workspace).client
    experiment = client.get_experiment_by_name("tiny")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    client.delete_run(run.info.run_id)
    before = logged_names(folder)
    report, _ = evaluate(str(folder), Wanted(samples=67), Workspace(root, root), silent)
    for is_new in (True, False):
        logged = log_scores(report, folder, workspace)
        assert logged.is_new == is_new
        (line,) = logged.missing
        assert line.startswith("1 run of the journals is deleted in MLflow: left out (")
        assert line.endswith(f"`gan-bench sync --root {tmp_path} --anew` copies it anew")
        assert client.search_runs([experiment.experiment_id]) == []
    assert logged_names(folder) - before
    assert sync_runs(workspace, silent, anew=True).brought == 1
    (run,) = client.search_runs([experiment.experiment_id])
    assert logged_names(folder) <= run.data.metrics.keys()


def test_a_run_outside_a_root_is_not_logged(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "tiny" / load(root).id
    shutil.copytree(load(root).folder(root), copy)
    before = (copy / reading.FILE).read_bytes()
    report, folder = evaluate(str(copy), Wanted(), Workspace(root, root), silent)
    assert folder == copy
    with pytest.raises(UserError, match="--log adds to a run in a root, ROOT/runs/EXPERI"):
        log_scores(report, folder, Workspace(root, root))
    assert (copy / reading.FILE).read_bytes() == before


def test_a_full_disk_leaves_a_finished_run_as_it_was(root: Path) -> None:
    """Of the scores, 50 bytes find room in the journal: the run keeps its end."""
    spec = load(root)
    report, folder = evaluate(spec.id, Wanted(samples=70), Workspace(root, root), silent)
    assert folder is not None
    open_store(Workspace(root, root))  # there is room for the database
    file = folder / reading.FILE
    before, limits = file.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 50, limits[1]))
    try:
        with pytest.raises(UserError, match=r"journal\.jsonl: File too large: no score is added"):
            log_scores(report, folder, Workspace(root, root))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert file.read_bytes() == before
    assert state_of(spec, root) == ("FINISHED", spec.steps)


def test_images_score_as_they_do_by_hand(root: Path, digits: Dataset, tmp_path: Path) -> None:
    images = digits.test.images
    path = save_pngs(tmp_path / "a", images.numpy())
    report = scores_of(path, root)
    extractor = classifier(digits, root / "cache", "cpu", silent)
    by_hand = frechet_distance(extractor(digits.train.images), extractor(images))
    assert report.scores["fd_classifier"] == pytest.approx(by_hand, rel=1e-9)
    protocol = report.protocols["fd_classifier"]
    assert protocol["weights"] == extractor.weights
    assert (protocol["generated"], protocol["real"], protocol["split"]) == (359, 1438, "train")
    assert (protocol["generator"], protocol["latents"]) == ("given", None)
    assert "resized" not in protocol
    assert "fd_random" not in report.scores  # there are labels

    itself = scores_of(path, root, metrics=["fd_classifier"], split="test")
    assert itself.scores["fd_classifier"] == pytest.approx(0, abs=1e-4)
    np.savez(tmp_path / "b.npz", images.numpy()[:, 0] / np.float32(255))
    assert scores_of(tmp_path / "b.npz", root).scores == pytest.approx(report.scores, rel=1e-9)
    small = scores_of(path, root, data_set=DATASETS.parse({"name": "digits", "image_size": 8}),
                      metrics=["nearest_train_mse"], resize=True)
    assert small.protocols["nearest_train_mse"]["resized"].endswith("from 16×16")


def test_a_distance_of_too_few_samples_is_said_to_be_too_large(
        root: Path, digits: Dataset, tmp_path: Path) -> None:
    width = classifier(digits, root / "cache", "cpu", silent)(digits.test.images).values.shape[1]
    images = np.concatenate([digits.test.images.numpy()] * 2)[:width + 1]
    notes = {}
    for count in (width, width + 1):
        report = scores_of(save_pngs(tmp_path / str(count), images[:count]), root,
                           metrics=["fd_classifier", "kd_classifier"])
        notes[count] = report.notes
        assert all(note in as_text(report).splitlines() for note in report.notes)
    assert notes[width + 1] == ()
    assert [note.partition(";")[0] for note in notes[width]] == [
        f"fd_classifier: {width} samples for {width} features are too few, and the distance is far "
        f"too large: compare it only with scores of as many samples"]


@pytest.mark.parametrize(("source", "wanted", "words"), [
    ("{a}", {"data_set": None}, "no data set .*--dataset"),
    ("{a}", {"data_set": DATASETS.parse("digits")}, "is 16×16 pixels.* 8×8; .*--resize"),
    ("{a}", {"samples": 400}, "holds 359 examples, and --samples asks for 400"),
    ("{a}", {"metrics": ["d_accuracy"]}, "d_accuracy needs the discriminator"),
    ("{a}", {"metrics": ["high_quality"]}, "high_quality needs known modes"),
    ("{a}", {"metrics": ["fd_clasifier"]}, "did you mean 'fd_classifier'"),
    ("{a}", {"metrics": ["nearest_train_mse"], "split": "test"}, "uses only train"),
    ("{a}/none", {}, "there is no such file"),
    ("{a}/" + "x" * 5000, {}, "there is no such file"),
    ("x" * 5000, {}, "no run's id begins with"),
    ("", {}, "give what to measure"),
    ("{a}", {"log": True}, "--log adds to a run, but .*a is not a run"),
    ("{run}", {"resize": True}, "--resize is for images"),
    ("{nan}", {}, "final.safetensors: the generator makes samples that are not finite"),
    ("{other}", {}, r"final.safetensors: these are not the weights .* size mismatch for .*\."),
    ("{null}", {}, "spec.json: cannot be read as a run's specification: .*recreate it"),
    ("{deep}", {}, "spec.json: cannot be read as a run's specification: Recursion"),
    ("{text}", {}, "spec.json: cannot be read as a run's specification: .*latent_dim"),
    ("zzzz", {}, "no run's id begins with 'zzzz'"),
    ("{run}", {"data_set": DATASETS.parse("digits")}, "makes 1×16×16 images, but digits holds"),
    ("{run}/journal.jsonl", {}, "neither a folder nor one of"),
    ("{empty}", {}, "has no final.safetensors; repeat its `gan-bench run`"),
    ("{torn}", {}, "final.safetensors: cannot be read"),
    ("{nospec}/final.safetensors", {}, "spec.json: cannot be read as a run's specification"),
])
def test_what_cannot_be_measured_is_named(
    root: Path, digits: Dataset, tmp_path: Path, source: str, wanted: dict[str, Any], words: str,
) -> None:
    save_pngs(tmp_path / "a", digits.test.images.numpy())
    run = load(root).folder(root)
    spec, whole = (run / "spec.json").read_text(), (run / "final.safetensors").read_bytes()
    nans = save({k: v * math.nan if v.is_floating_point() else v
                 for k, v in load_st(whole).items()})
    broken = {
        "empty": (spec, None), "torn": (spec, whole[:5000]), "nospec": (None, whole[:5000]),
        "nan": (spec, nans), "other": (spec.replace('"width": 16', '"width": 17'), whole),
        "null": ("null", whole), "deep": ("[" * 200_000, whole),
        "text": (re.sub(r'"latent_dim": \d+', '"latent_dim": "x"', spec), whole)}
    for name, (text, weights) in broken.items():
        (tmp_path / name).mkdir()
        if text is not None:
            (tmp_path / name / "spec.json").write_text(text)
        if weights is not None:
            (tmp_path / name / "final.safetensors").write_bytes(weights)
    where = {name: tmp_path / name for name in ("a", *broken)} | {"run": run}
    with pytest.raises(UserError, match=words):
        scores_of(source.format(**where), root, **wanted)


@pytest.mark.parametrize("text", ['{"layers": 3}', "[1]", "{", "[" * 200_000, "\0"])
def test_images_beside_another_programs_spec_json_are_images(
    root: Path, digits: Dataset, tmp_path: Path, text: str,
) -> None:
    images = save_pngs(tmp_path / "a", digits.test.images.numpy())
    expected = scores_of(images, root, metrics=["nearest_train_mse"]).scores
    (tmp_path / "a" / "spec.json").write_text(text)
    assert scores_of(images, root, metrics=["nearest_train_mse"]).scores == expected
    (tmp_path / "a" / "network.pt").write_bytes(b"weights")
    with pytest.raises(UserError, match="weights are read only from a run's folder"):
        scores_of(tmp_path / "a" / "network.pt", root)


@pytest.mark.parametrize("name", ["mnist", "digits", "cifar10"])
def test_a_data_set_in_place_of_its_folder_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    run, file = load(root).id, root / "file" / "tiny.yaml"
    for command in (["evaluate", run], ["run", file], ["plan", file]):
        done = here(*command, "--root", root, "--data-root", name)
        assert done.returncode == 2, done.stdout
        assert done.stderr.count("\n") == 1
        assert f"--dataset {name}" in done.stderr
    assert here("plan", file, "--root", root, "--data-root", "nowhere").returncode == 0
    (tmp_path / name).mkdir()
    assert here("plan", file, "--root", root, "--data-root", name).returncode == 0


def test_other_weights_of_a_run_are_not_those_of_its_journal(root: Path) -> None:
    folder = load(root).folder(root)
    for name in ("final", "earlier"):
        (folder / f"{name}.safetensors").write_bytes((folder / "final.safetensors").read_bytes())
    source = str(folder / "earlier.safetensors")
    report, _ = evaluate(source, Wanted(), Workspace(root, root), silent)
    assert report.journalled == {}
    assert report.not_alike["fd_classifier"] == (
        "not measured alike: checkpoint earlier.safetensors against nothing")
    (folder / "earlier.safetensors").unlink()


def test_the_usual_metrics_with_either_split(root: Path, digits: Dataset, tmp_path: Path) -> None:
    path = save_pngs(tmp_path / "[/a]", digits.test.images.numpy())  # Rich's markup, too
    usual = scores_of(path, root)
    assert "nearest_train_mse" in usual.scores
    against_test = scores_of(path, root, split="test")
    assert set(against_test.scores) == {
        "fd_classifier", "kd_classifier", "precision_classifier", "recall_classifier"}
    assert {p["split"] for p in against_test.protocols.values()} == {"test"}
    assert as_text(against_test).startswith(f"{path}\nscore ")


@pytest.mark.long
def test_mnist_test_against_train_from_pngs(mnist_root: Path, tmp_path: Path) -> None:
    """What a user does with a peer's model: the command, on a folder of PNGs."""
    part = DATASETS.parse("mnist")
    datasets.prepare_data(part, mnist_root, tmp_path / "cache")
    mnist = datasets.load(part, mnist_root, tmp_path / "cache", "cpu")
    save_pngs(tmp_path / "pngs", mnist.test.images[::5].numpy())
    metrics = ["fd_classifier", "classifier_score"]
    command = ["evaluate", tmp_path / "pngs", "--dataset", "mnist", "--metric", ",".join(metrics),
               "--root", tmp_path, "--data-root", mnist_root]
    done = gan_bench(*command, "--json")
    assert done.returncode == 0, done.stderr
    assert "training" not in done.stderr  # the weights ship
    found = json.loads(done.stdout)
    protocol = found["protocols"]["fd_classifier"]
    assert (protocol["generated"], protocol["real"]) == (2000, 60_000)

    def scores(images: Tensor) -> dict[str, float]:
        scorer = Scorer([METRICS[m] for m in metrics], len(images), part, mnist, tmp_path / "cache")
        return scorer(images)

    test = mnist.test.images[::5]
    assert found["scores"] == pytest.approx(scores(test), rel=1e-6)
    draws = torch.Generator().manual_seed(0)
    blurs = [torch.nn.functional.avg_pool2d(test.float(), size, 1, size // 2).to(torch.uint8)
             for size in (3, 5)]
    noisy = [(test + sigma * torch.randn(test.shape, generator=draws)).clamp(0, 255)
             .to(torch.uint8) for sigma in (25, 100)]
    ones = mnist.test.images[mnist.test.labels == 1]
    distance = {name: scores(images)["fd_classifier"] for name, images in {
        "test": test, "blur 3": blurs[0], "blur 5": blurs[1], "noise 25": noisy[0],
        "noise 100": noisy[1], "ones": ones}.items()}
    assert 0 < 5 * distance["test"] < min(distance["blur 3"], distance["noise 25"])
    assert distance["blur 3"] < distance["blur 5"]
    assert distance["noise 25"] < distance["noise 100"]
    assert max(distance["blur 3"], distance["noise 25"]) < distance["ones"]
    assert scores(ones)["classifier_score"] < 1.5 < 9 < scores(test)["classifier_score"] < 10

    table = here(*command)
    for words in ("fd_classifier ↓", f"{distance['test']:.3g}", "how it was measured",
                  "generated 2,000", "real 60,000", f"weights {protocol['weights']}"):
        assert words in table.stdout


def test_the_command_refuses_in_one_line(tmp_path: Path) -> None:
    save_pngs(tmp_path / "a", np.zeros((3, 1, 9, 9), np.uint8))
    for arguments, words in (
        (["evaluate", tmp_path / "a", "--dataset", "digits"], "is 9×9 pixels"),
        (["evaluate", tmp_path / "a", "--dataset", "{name: digits"], "not valid YAML"),
        (["evaluate", tmp_path / "a", "--dataset", "digits", "--split", "all"], "train or test"),
        (["evaluate", tmp_path / "a", "--dataset", "{name: digits, image_size: x}"],
         "image_size: must be a whole number, not 'x'"),
        (["evaluate", tmp_path / "a", "--dataset", "digits", "--metric", "fd_random,"],
         "--metric 'fd_random,' has an empty name"),
        (["extractor", "train", "gaussians"], "needs images"),
    ):
        done = here(*arguments, "--root", tmp_path / "root")
        assert (done.returncode, done.stdout) == (2, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_the_recipe_remade(tmp_path: Path) -> None:
    """On the processor that made the shipped weights, the same bits; elsewhere, as good."""
    done = here("extractor", "train", "digits", "--out", tmp_path / "out", "--root", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the bits" in done.stdout.replace("same bits", "the bits").replace("other b", "the b")
    [folder] = (tmp_path / "out").iterdir()
    about = json.loads((folder / "about.json").read_text())
    assert f"sha256 {about['sha256'][:12]}" in done.stdout
    assert 0.95 < about["accuracy"] < 1
    assert not (tmp_path / "cache" / "extractors").exists()
    again = here("extractor", "train", "digits", "--out", tmp_path / "out", "--root", tmp_path)
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_differences_of_protocols() -> None:
    one: dict[str, Any] = {"extractor": "inception", "generated": 50_000, "split": "train"}
    assert protocol_differences(one, dict(one)) == {}
    assert refusal(one, dict(one)) == ""
    other = {**one, "generated": 10_000, "resized": "bilinear"}
    assert protocol_differences(one, other) == {"generated": (50_000, 10_000),
                                                "resized": (None, "bilinear")}
    assert refusal(one, other) == ("not measured alike: generated 50,000 against 10,000, "
                                   "resized nothing against bilinear")
    assert refusal(one, other, but=("generated", "resized")) == ""
    reordered = dict(reversed(one.items()))
    assert protocol_digest(one) == protocol_digest(reordered) != protocol_digest(other)


def test_a_table_never_mixes_protocols(tmp_path: Path) -> None:
    spec = a_run(tmp_path, "evaluate.metrics=[fd_classifier]")
    runs = []
    for variant, seed, weights, generator in (("a", 0, "1", "raw"), ("a", 1, "1", "raw"),
                                              ("b", 0, "1", "ema"), ("b", 1, "1", "ema"),
                                              ("c", 0, "1", "raw"), ("c", 1, "2", "raw")):
        folder = tmp_path / f"{variant}{seed}"
        folder.mkdir()
        record = writing.Journal(folder)
        facts = METRICS["fd_classifier"].facts
        record.protocol({"eval/fd_classifier": {
            "extractor": facts.extractor, "split": facts.reference, **facts.protocol,
            "weights": weights, "generator": generator, "generated": 50}})
        record.metrics(1, {"eval/fd_classifier": 10 + seed + ord(variant)})
        record.end("FINISHED")
        copy = spec.model_copy(update={"variant": variant, "seed": seed})
        runs.append(Progress(copy, folder))
        runs[-1].follow()
    ended = [RunResult.of(run) for run in runs]
    plain, averaged, mixed = summarise(ended, Declared(baseline="a"))
    assert (plain.refused, averaged.refused) == ("", "")  # `ema` is the variants' own setting
    assert averaged.comparison is not None
    assert averaged.comparison.difference.value == 1
    assert mixed.refused == "not measured alike: weights 2 against 1"
    assert math.isnan(mixed.summary.mean.value)
    assert (mixed.comparison, mixed.verdict) == (None, None)
    baseline_mixed = summarise(ended, Declared(baseline="c"))
    assert all(row.refused and row.comparison is None for row in baseline_mixed)


def test_scores_of_a_run_that_is_not_finished_are_not_logged(tmp_path: Path) -> None:
    """After its checkpoint, its journal has to repeat what it says."""
    spec = a_run(tmp_path, text=SCORED)
    prepare(load_experiment(tmp_path / "tiny.yaml", tmp_path), tmp_path, tmp_path, silent)
    asked = iter([False, False, False, True])
    assert run_one(spec, tmp_path, tmp_path, stop=lambda: next(asked)).status == "KILLED"
    folder = spec.folder(tmp_path)
    before = (folder / reading.FILE).read_bytes()
    source = str(folder / "checkpoint.pt")
    report, _ = evaluate(source, Wanted(), Workspace(tmp_path, tmp_path), silent)
    with pytest.raises(UserError, match=rf"{spec.id}: --log adds to a finished run, but this run "
                                        r"is KILLED: run its experiment to the end first"):
        log_scores(report, folder, Workspace(tmp_path))
    assert (folder / reading.FILE).read_bytes() == before
    assert run_one(spec, tmp_path, tmp_path).status == "FINISHED"
    assert log_scores(report, folder, Workspace(tmp_path)).is_new


def test_a_run_with_nothing_to_measure_again_is_refused(root: Path) -> None:
    spec = a_run(root / "file", "evaluate.metrics=[d_accuracy]", "seeds=[7]", text=SCORED)
    run_one(spec, root, root)
    with pytest.raises(UserError, match="none of its metrics can be measured without the "
                                        "discriminator; name others with --metric"):
        evaluate(spec.id, Wanted(), Workspace(root, root), silent)


def test_more_samples_than_there_is_memory_for_are_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec, free = load(root), 3 * 100 * 16 * 16  # bytes: room for 150 samples of uint8, and not 151
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=free))
    assert evaluate(spec.id, Wanted(samples=150), Workspace(root, root), silent)[0].scores
    with pytest.raises(UserError, match=r"151 samples would take 0.0 GB, but only 0.0 GB is "
                                        r"free; ask for fewer"):
        evaluate(spec.id, Wanted(samples=151), Workspace(root, root), silent)
    write_samples(Workspace(root), spec.id, tmp_path / "a.npz", 37, 0)  # of float32
    with pytest.raises(UserError, match="38 samples would take"):
        write_samples(Workspace(root), spec.id, tmp_path / "b.npz", 38, 0)
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]


def test_samples_that_are_not_finite_are_neither_measured_nor_written(root: Path, tmp_path: Path,
                                                                     ) -> None:
    spec = a_run(root / "file", "seeds=[5]", "base.optimizer={name: sgd, lr: 1.0e+38}", text=SCORED)
    assert run_one(spec, root, root).status == "DIVERGED"
    why = re.escape(f"{spec.id}/final.safetensors: the generator makes samples that are not finite")
    for name in ("a.npz", "a.png"):
        with pytest.raises(UserError, match=f"{why}; there is nothing to write$"):
            write_samples(Workspace(root), spec.id, tmp_path / name, 4, 0)
    with pytest.raises(UserError, match=f"{why}; there is nothing to measure$"):
        evaluate(spec.id, Wanted(), Workspace(root, root), silent)
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("error", [MemoryError("no room"), torch.cuda.OutOfMemoryError("no room"),
                                   RuntimeError("DefaultCPUAllocator: can't allocate memory: no")])
def test_out_of_memory_is_one_line(error: Exception, monkeypatch: pytest.MonkeyPatch,
                                   capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise error

    monkeypatch.setattr("gan_bench.cli.planning.schema.json_schema", fails)
    monkeypatch.setattr(sys, "argv", ["gan-bench", "schema"])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err == (
        "error: out of memory: choose fewer samples, or fewer runs at once\n")
    error.args = ("mat1 and mat2 shapes cannot be multiplied",)
    if type(error) is RuntimeError:  # a defect, and to be seen as one
        with pytest.raises(RuntimeError, match="mat1"):
            app.main()
