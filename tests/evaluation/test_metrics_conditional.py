"""Whether G makes what it is asked for, class by class: closed forms, and runs from end to end."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import Brightness, Replay, named, save_pngs
from helpers.runs import DIGITS, a_run, write_experiment
from helpers.studies import here
from numpy.typing import NDArray
from torch import Tensor, nn

from gan_bench.components import data as datasets
from gan_bench.components.data import Dataset
from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import RunSpec
from gan_bench.data_facts import DataFacts
from gan_bench.errors import SpecError, UserError
from gan_bench.evaluation.evaluator import Evaluator, labels_of, latents, prepare_metrics
from gan_bench.evaluation.features.base import Features
from gan_bench.evaluation.metrics.conditional import (
    Labels,
    check_classes,
    class_gaussians,
    intra_fd,
    label_accuracy,
    refuses_small_classes,
)
from gan_bench.evaluation.metrics.frechet import frechet_distance
from gan_bench.journal import reading
from gan_bench.journal.scores.score_names import FINAL

METRICS = ["label_accuracy", "intra_fd_classifier"]
ASKED = DIGITS.replace("metrics: [d_accuracy, nearest_train_mse]", f"metrics: {METRICS}").replace(
    "samples: 50", "samples: 300").replace("  plain:\n  saturating: {loss: saturating}\n",
                                           "  plane: {condition: concat}\n"
                                           "  product: {condition: projection}\n")


def features(values: NDArray[np.float64]) -> Features:
    return Features(values, None, "test")


def test_label_accuracy_is_the_share_of_samples_of_the_class_asked_for() -> None:
    taken = named([0, 1, 1, 1, 2], 3)
    found = label_accuracy(None, taken, Labels(np.array([0, 0, 1, 1, 2])))
    assert found == {"label_accuracy": 0.8, "class/label_accuracy/0": 0.5,
                     "class/label_accuracy/1": 1.0, "class/label_accuracy/2": 1.0}
    other = label_accuracy(None, taken, Labels(np.array([1, 0, 2, 0, 0])))
    assert other == {"label_accuracy": 0.0, "class/label_accuracy/0": 0.0,
                     "class/label_accuracy/1": 0.0, "class/label_accuracy/2": 0.0}


def test_a_generator_that_makes_the_next_class_is_never_right() -> None:
    asked = np.arange(1000) % 10
    right, off = (label_accuracy(None, named(made, 10), Labels(asked))["label_accuracy"]
                  for made in (asked, (asked + 1) % 10))
    assert (right, off) == (1.0, 0.0)
    draws = np.random.default_rng(0)
    deaf = label_accuracy(None, named(draws.integers(10, size=1000), 10), Labels(asked))
    assert deaf["label_accuracy"] == pytest.approx(0.1, abs=0.03)
    fake = named([0, 1], 2)
    assert fake.logits is not None
    fake.logits[1, 0] = np.nan
    with pytest.raises(FloatingPointError, match="logits of test are not all finite"):
        label_accuracy(None, fake, Labels(np.array([0, 1])))


def two_classes(counts: tuple[int, int], seed: int) -> tuple[Features, NDArray[np.int64]]:
    """Two Gaussians that have neither mean nor spread in common, in turn as far as they go."""
    draws = np.random.default_rng(seed)
    values = np.concatenate([draws.normal(size=(counts[0], 4)),
                             5 + 3 * draws.normal(size=(counts[1], 4))])
    order = draws.permutation(sum(counts))
    return features(values[order]), np.repeat([0, 1], counts)[order]


def test_intra_distance_is_that_of_each_class_by_hand() -> None:
    real, of_real = two_classes((60, 40), seed=0)
    fake, asked = two_classes((90, 30), seed=1)
    found = intra_fd(real, fake, Labels(asked, of_real))
    by_hand = [frechet_distance(features(real.values[of_real == k]),
                                features(fake.values[asked == k])) for k in (0, 1)]
    assert min(by_hand) > 0.01
    assert [found[f"class/intra_fd_classifier/{k}"] for k in (0, 1)] == pytest.approx(by_hand,
                                                                                      rel=1e-9)
    assert found["intra_fd_classifier"] == pytest.approx(sum(by_hand) / 2, rel=1e-9)
    assert len(found) == 3
    fitted = class_gaussians(of_real, real)
    assert intra_fd(real, features(fake.values), Labels(asked, of_real)) == found
    assert class_gaussians(of_real, real) is fitted  # once
    swapped = intra_fd(real, fake, Labels(1 - asked, 1 - of_real))  # other labels, other Gaussians
    assert swapped["class/intra_fd_classifier/0"] == found["class/intra_fd_classifier/1"]
    assert swapped["intra_fd_classifier"] == pytest.approx(found["intra_fd_classifier"])


def test_intra_distance_of_a_set_to_itself_is_0_and_wrong_labels_are_seen() -> None:
    real, labels = two_classes((60, 60), seed=0)
    same = intra_fd(real, features(real.values), Labels(labels, labels))
    assert same["intra_fd_classifier"] == pytest.approx(0, abs=1e-9)
    wrong = intra_fd(real, features(real.values), Labels(1 - labels, labels))
    between = frechet_distance(*(features(real.values[labels == k]) for k in (0, 1)))
    assert wrong["intra_fd_classifier"] == pytest.approx(between, rel=1e-9)
    assert between > 50
    assert frechet_distance(real, features(real.values)) == pytest.approx(0, abs=1e-9)
    shift = np.array([3.0, 0, 0, 4.0])
    moved = real.values + shift * (labels == 1)[:, None]
    found = intra_fd(real, features(moved), Labels(labels, labels))
    assert found["class/intra_fd_classifier/0"] == pytest.approx(0, abs=1e-9)
    assert found["class/intra_fd_classifier/1"] == pytest.approx(25, rel=1e-9)
    assert found["intra_fd_classifier"] == pytest.approx(12.5, rel=1e-9)


def test_classes_without_two_images_are_named() -> None:
    check_classes(Labels(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])))
    for asked, real, words in (
            ([0, 0, 1], [0, 0, 1, 1], "class 1 has 1; raise evaluate.samples"),
            ([0, 0, 0], [0, 0, 1, 1], "class 1 has 0; raise evaluate.samples"),
            ([0, 0, 1, 1], [0, 1, 1], "class 0 has 1; add images")):
        with pytest.raises(UserError, match=words):
            check_classes(Labels(np.array(asked), np.array(real)))


def test_few_training_images_a_class_are_refused() -> None:
    facts = DataFacts(shape=(1, 8, 8), classes=10, train=1000, test=10, digest="")
    assert refuses_small_classes(facts) is None
    few = DataFacts(shape=(1, 8, 8), classes=10, train=999, test=10, digest="")
    assert refuses_small_classes(few) == (
        "needs 100 training images a class, and there are 99; use label_accuracy")
    none = DataFacts(shape=(1, 8, 8), classes=0, train=1000, test=10, digest="")
    assert "this data set has none" in (refuses_small_classes(none) or "")


# --- the Evaluator --------------------------------------------------------------------------------


class Obedient(nn.Module):
    """A generator that shows training images of the class asked for, or of one `off` beside it."""

    def __init__(self, data: Dataset, off: int = 0) -> None:
        super().__init__()
        labels = data.train.labels
        assert labels is not None
        self.off, self.shown = off, [0] * 10
        self.classes = [data.train.images[labels == k].float() / 127.5 - 1 for k in range(10)]

    def forward(self, latents: Tensor) -> Tensor:
        made = []
        for asked in latents[:, -10:].argmax(1).tolist():
            images = self.classes[(asked + self.off) % 10]
            made.append(images[self.shown[asked] % len(images)])
            self.shown[asked] += 1
        return torch.stack(made)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def digits(root: Path) -> Dataset:
    spec = a_run(root, text=ASKED)
    datasets.prepare_data(spec.dataset, root, root / "cache")
    data = datasets.load(spec.dataset, root, root / "cache", "cpu")
    prepare_metrics(METRICS, data, root / "cache", lambda line: None)
    return data


def spec_of(root: Path, *overrides: str) -> RunSpec:
    return a_run(root, *overrides, text=ASKED)


def test_of_real_digits_the_classes_are_told_apart(root: Path, digits: Dataset) -> None:
    measure = Evaluator(spec_of(root, "evaluate.samples=1400"), digits, root / "cache", "cpu")
    right = measure(Obedient(digits), Brightness())
    wrong = measure(Obedient(digits, off=1), Brightness())
    assert 0.95 < right["eval/label_accuracy"] <= 1
    assert 0 <= wrong["eval/label_accuracy"] < 0.02
    assert right["eval/intra_fd_classifier"] < 0.3 * wrong["eval/intra_fd_classifier"]
    for scores in right, wrong:
        assert set(scores) == {f"eval/{name}" for name in METRICS} | {
            f"class/{name}/{k}" for name in METRICS for k in range(10)}
        assert np.mean([scores[f"class/intra_fd_classifier/{k}"] for k in range(10)]
                       ) == pytest.approx(scores["eval/intra_fd_classifier"], rel=1e-12)
    assert digits.train.labels is not None
    order = digits.train.images[digits.train.labels.argsort()]
    deaf = measure(Replay(order), Brightness())
    assert 0.05 < deaf["eval/label_accuracy"] < 0.15


def test_what_it_is_asked_for_is_what_its_latents_say(root: Path, digits: Dataset) -> None:
    spec = spec_of(root)
    drawn = latents(spec, 300, digits.train.labels)
    asked = labels_of(spec, drawn)
    assert asked is not None
    assert torch.equal(nn.functional.one_hot(asked, 10).float(), drawn[:, -10:])
    plain = spec.model_copy(update={"condition": "none"})
    assert labels_of(plain, latents(plain, 300, digits.train.labels)) is None


def test_each_measurement_has_names_of_its_own(root: Path, digits: Dataset) -> None:
    spec = spec_of(root, "evaluate.final_samples=400", "evaluate.latent_sets=2")
    last = Evaluator(spec, digits, root / "cache", "cpu", spec.evaluate.final, FINAL)
    scores = last(Obedient(digits), Brightness())
    assert set(scores) == {f"final/{name}" for name in METRICS} | {
        f"class/final/{name}/{k}" for name in METRICS for k in range(10)}
    again = last.again(Obedient(digits), Brightness())
    assert set(again) == {f"again/1/{name}" for name in METRICS}
    protocol = last.protocol
    assert set(protocol) == {f"final/{name}" for name in METRICS}
    accuracy, distance = (protocol[f"final/{name}"] for name in METRICS)
    assert accuracy["labels"] == distance["labels"] == "as often as in the training data"
    assert (accuracy["real"], accuracy["split"], accuracy["generated"]) == (0, None, 400)
    assert (distance["real"], distance["split"], distance["extractor"]) == (1438, "train",
                                                                            "classifier")


def test_labels_that_do_not_suffice_are_refused_before_training(root: Path, digits: Dataset,
                                                                ) -> None:
    labels = digits.train.labels
    assert labels is not None
    rare = labels.clone()
    rare[rare == 7] = 6
    rare[0] = 7  # one example, which is asked for in two draws of a thousand
    other = datasets.Dataset(digits.name, digits.facts, datasets.Split(digits.train.images, rare),
                             digits.test, digits.fingerprint)
    why = ("intra_fd_classifier needs 2 training images of every class, and class 7 has 1; add "
           "images to it, remove it, or use label_accuracy")
    with pytest.raises(UserError, match=why):
        Evaluator(spec_of(root), other, root / "cache", "cpu")
    with pytest.raises(UserError, match=why):  # once, and not in every run
        prepare_metrics(METRICS, other, root / "cache", lambda line: None)
    prepare_metrics(["label_accuracy"], other, root / "cache", lambda line: None)


# --- from end to end ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A study of two variants, with the scores of another measurement at the end: what was printed.
    """
    folder = tmp_path_factory.mktemp("study")
    done = here("run", write_experiment(folder, ASKED), "--root", folder / "root", "--set",
                "evaluate.final_samples=400")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def test_the_mean_is_compared_and_each_class_is_logged(study: tuple[Path, str]) -> None:
    folder, shown = study
    table = shown[shown.index("95% interval"):]
    for name, arrow in (("label_accuracy", "↑"), ("intra_fd_classifier", "↓")):
        assert f"{name} {arrow}" in table
    assert "class/" not in shown
    names = {f"{part}{name}" for part in ("eval/", "final/") for name in METRICS} | {
        f"class/{part}{name}/{k}" for part in ("", "final/") for name in METRICS for k in range(10)}
    with sqlite3.connect(folder / "root" / "mlflow.db") as db:
        for (run,) in db.execute("select run_uuid from runs where name != 'study'").fetchall():
            rows = dict(db.execute("select key, count(*) from metrics where run_uuid = ? and key "
                                   "not like 'train/%' and key not like 'system/%' group by key",
                                   (run,)).fetchall())
            assert rows == {name: 1 if "final/" in name else 2 for name in names}
    done = here("report", "tiny", "--root", folder / "root", "--out", folder / "report",
                "--format", "html,csv,md")
    assert done.returncode == 0, done.stdout + done.stderr
    with (folder / "report" / "pairs.csv").open() as file:
        assert {row["score"] for row in csv.DictReader(file)} == set(METRICS)


def test_a_run_measured_again_says_the_same_of_every_class(study: tuple[Path, str]) -> None:
    folder, _ = study
    run = next((folder / "root" / "runs" / "tiny").glob("*/final.safetensors")).parent
    before = {k: v for record in reading.read_records(run)[0]
             for k, v in record.get("values", {}).items()}
    done = here("evaluate", run.name, "--root", folder / "root", "--json", "--log")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["scores"] == found["journalled"] == {
        name: before[f"final/{name}"] for name in METRICS}
    assert found["classes"] == {f"class/{name}/{k}": before[f"class/final/{name}/{k}"]
                                for name in METRICS for k in range(10)}
    after = {k: v for record in reading.read_records(run)[0]
            for k, v in record.get("values", {}).items()}
    assert after == before  # nothing new, so nothing added
    done = here("evaluate", run.name, "--root", folder / "root", "--json", "--log", "--samples",
                1450)
    other = json.loads(done.stdout)
    after = {k: v for record in reading.read_records(run)[0]
            for k, v in record.get("values", {}).items()}
    added = {k.split("/", 1)[1]: v for k, v in after.items() if k not in before}
    assert all(k.startswith("final-") for k in after if k not in before)
    assert added == other["scores"] | other["classes"]
    assert len(added) == 22
    shown = here("evaluate", run.name, "--root", folder / "root").stdout
    assert "label_accuracy by class  0: " in shown
    few = here("evaluate", run.name, "--root", folder / "root", "--samples", 150)
    assert (few.returncode, few.stderr.count("\n")) == (2, 1)
    assert "intra_fd_classifier needs at least 200 samples, and there are 150" in few.stderr


def test_images_and_unconditional_runs_are_refused(
        study: tuple[Path, str], tmp_path: Path) -> None:
    folder, _ = study
    save_pngs(tmp_path / "images", np.zeros((30, 1, 16, 16), np.uint8))
    (tmp_path / "plain").mkdir()
    plain = write_experiment(tmp_path / "plain", DIGITS.replace("steps: 6", "steps: 2"))
    root = tmp_path / "plain" / "root"
    assert here("run", plain, "--root", root, "--set", "seeds=[0]").returncode == 0
    run = next(root.glob("runs/tiny/*/final.safetensors")).parent.name
    images, asks_none = "images have no labels", f"{run} asks for no class"
    for source, more, why in (
            *((tmp_path / "images", ["--dataset", "digits", "--image-size", 16, "--metric", name],
               images) for name in METRICS),
            (tmp_path / "images", ["--experiment", folder / "tiny.yaml"], images),
            *((run, ["--metric", name], asks_none) for name in METRICS)):
        done = here("evaluate", source, *more, "--root", root)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"compares each sample with its requested class, but {why}" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("overrides", "where", "message"), [
    (["variants.plane.condition=none"], "13:36: evaluate.metrics: ",
     "label_accuracy compares each sample with its requested class, but `condition: none` "
     "requests none; give every variant a condition"),
    (["evaluate.samples=199"], "--set evaluate.samples=199: ",
     "intra_fd_classifier needs at least 200 samples, not 199"),
])
def test_a_plan_that_cannot_be_measured_is_refused(
        tmp_path: Path, overrides: list[str], where: str, message: str) -> None:
    with pytest.raises(SpecError) as error:
        load_experiment(write_experiment(tmp_path, ASKED), tmp_path, overrides)
    lines = [line.replace(f"{tmp_path}/tiny.yaml:", "") for line in error.value.lines]
    assert any(line.startswith(where) and message in line for line in lines), lines
    fine = [*overrides, f"evaluate.metrics={'[fd_classifier]'}"]
    load_experiment(write_experiment(tmp_path, ASKED), tmp_path, fine)


def test_data_without_labels_are_refused(tmp_path: Path) -> None:
    save_pngs(tmp_path / "pictures", np.zeros((60, 1, 16, 16), np.uint8))
    text = ASKED.replace("{name: digits, image_size: 16}",
                         "{name: image_folder, path: pictures, image_size: 16, channels: 1}")
    with pytest.raises(SpecError) as error:
        load_experiment(write_experiment(tmp_path, text), tmp_path)
    for name in METRICS:
        assert f"tiny.yaml:13:36: evaluate.metrics: {name} needs labels" in str(error.value)
