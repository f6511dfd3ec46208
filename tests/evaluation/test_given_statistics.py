"""A Fréchet distance from a file of statistics is that from the images themselves."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import DIGITS, write_experiment
from helpers.studies import copy_of, here

from gan_bench.components import data as datasets
from gan_bench.components.data import Dataset
from gan_bench.config.experiment import load_experiment
from gan_bench.config.statistics_file import Statistics, read_statistics
from gan_bench.errors import UserError
from gan_bench.evaluation.comparability import refusal
from gan_bench.evaluation.evaluator import Evaluator, prepare_metrics
from gan_bench.evaluation.features.base import Extractor, Features
from gan_bench.evaluation.features.given_statistics import given_features
from gan_bench.evaluation.scorer import Scorer
from gan_bench.journal.status import Progress
from gan_bench.registry import DATASETS, EXTRACTORS, METRICS

PART = DATASETS.parse({"name": "digits", "image_size": 16})
NAMES = ["fd_random", "fd_random_norm", "kd_random"]


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def digits(cache: Path) -> Dataset:
    datasets.prepare_data(PART, cache, cache)
    return datasets.load(PART, cache, cache, "cpu")


@pytest.fixture(scope="module")
def extractor(digits: Dataset, cache: Path) -> Extractor:
    return EXTRACTORS["random"].factory(digits, cache, "cpu", silent)


def save(file: Path, values: Any) -> Statistics:
    """Write statistics as pytorch-fid does."""
    np.savez_compressed(file, mu=np.mean(values, axis=0), sigma=np.cov(values, rowvar=False))
    return read_statistics(file)


def test_both_routes_agree_on_the_same_images(digits: Dataset, extractor: Extractor, cache: Path,
                                              tmp_path: Path) -> None:
    samples = digits.test.images[:300]
    statistics = save(tmp_path / "stats.npz", extractor(digits.train.images).values)
    metrics = [METRICS[name] for name in NAMES]
    of_images = Scorer(metrics, 300, PART, digits, cache)
    of_file = Scorer(metrics, 300, PART, digits, cache, statistics=statistics)
    expected, scores = of_images(samples), of_file(samples)
    assert scores["fd_random"] == pytest.approx(expected["fd_random"], rel=1e-9)
    assert scores["fd_random_norm"] == pytest.approx(expected["fd_random_norm"], rel=1e-9)
    assert scores["kd_random"] == expected["kd_random"]  # which needs the images
    assert scores["fd_random"] > 0
    protocols, others = of_file.protocol(), of_images.protocol()
    assert protocols["kd_random"] == others["kd_random"]
    assert protocols["fd_random"] == {**others["fd_random"], "data": statistics.name, "real": None,
                                      "split": None}
    assert refusal(protocols["fd_random"], others["fd_random"]).startswith(
        f"not measured alike: data {statistics.name} against digits ")
    other = save(tmp_path / "other.npz", extractor(digits.train.images).values + 1)
    third = Scorer(metrics, 300, PART, digits, cache, statistics=other)
    assert refusal(protocols["fd_random"], third.protocol()["fd_random"]) == (
        f"not measured alike: data {statistics.name} against {other.name}")
    assert third(samples)["fd_random"] != pytest.approx(scores["fd_random"], rel=0.1)
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "stats.npz").rename(moved / "s.npz")
    again = Scorer(metrics, 300, PART, digits, cache, statistics=read_statistics(moved / "s.npz"))
    assert again.protocol() == protocols


@pytest.mark.parametrize("count", [40, 1438])
def test_they_agree_with_fewer_images_than_features(digits: Dataset, extractor: Extractor,
                                                    tmp_path: Path, count: int) -> None:
    real, fake = (Features(extractor(images).values, None, extractor.id)
                  for images in (digits.train.images[:count], digits.test.images))
    width = real.values.shape[1]
    assert (count < width) == (count == 40)
    given = given_features(save(tmp_path / "stats.npz", real.values), extractor,
                           digits.train.images)
    distance = METRICS["fd_random"].factory
    expected = distance(real, fake)
    assert distance(given, fake) == pytest.approx(expected, rel=1e-9)
    assert given.values.shape == (0, width)


def test_what_does_not_fit_the_extractor_is_refused(digits: Dataset, extractor: Extractor,
                                                    cache: Path, tmp_path: Path) -> None:
    values = extractor(digits.train.images).values
    width = values.shape[1]
    narrow = save(tmp_path / "narrow.npz", values[:, :-1])
    words = (rf"narrow.npz: has statistics of {width - 1} features, and the extractor random has "
             rf"{width}; leave out the Fréchet distances of random, or give")
    for call in (lambda: prepare_metrics(["fd_random"], digits, cache, silent, narrow),
                 lambda: Scorer([METRICS["fd_random"]], 300, PART, digits, cache,
                                statistics=narrow)):
        with pytest.raises(UserError, match=words):
            call()
    prepare_metrics(["kd_random"], digits, cache, silent, narrow)  # it does not use them
    spread = np.cov(values, rowvar=False)
    spread[0, 1] = spread[1, 0] = 5 * np.sqrt(spread[0, 0] * spread[1, 1]) + 1
    np.savez(tmp_path / "bad.npz", mu=values.mean(axis=0), sigma=spread)
    with pytest.raises(UserError, match=r"bad.npz: sigma has eigenvalues below 0"):
        given_features(read_statistics(tmp_path / "bad.npz"), extractor, digits.train.images)


def test_statistics_need_no_features_of_the_data(digits: Dataset, extractor: Extractor,
                                                 tmp_path: Path) -> None:
    """Which take hours for a large data set."""
    statistics = save(tmp_path / "stats.npz", extractor(digits.train.images[:200]).values)
    said: list[str] = []
    prepare_metrics(["fd_random"], digits, tmp_path / "cache", said.append, statistics)
    assert said == []
    assert not (tmp_path / "cache" / "features").exists()
    prepare_metrics(["fd_random", "kd_random"], digits, tmp_path / "cache", said.append, statistics)
    assert len(said) == 1


def test_a_file_that_changes_before_a_run_measures_is_refused(digits: Dataset, cache: Path,
                                                              extractor: Extractor,
                                                              tmp_path: Path) -> None:
    file = tmp_path / "stats.npz"
    statistics = save(file, extractor(digits.train.images).values)
    text = DIGITS.replace("metrics: [d_accuracy", "reference: {statistics: stats.npz}, "
                          "metrics: [fd_random, d_accuracy")
    run = load_experiment(write_experiment(tmp_path, text), tmp_path).runs[0]
    evaluator = Evaluator(run, digits, cache, "cpu")
    assert evaluator.protocol["eval/fd_random"]["data"] == statistics.name
    assert "stats.npz" not in json.dumps(evaluator.protocol)
    save(file, extractor(digits.train.images).values + 1)
    with pytest.raises(UserError, match=rf"stats.npz: has changed \(its sha256 is \w+, and "
                                        rf"{statistics.sha256[:12]} is asked for\)"):
        Evaluator(run, digits, cache, "cpu")


def test_evaluate_with_statistics(studies: Path, digits: Dataset, extractor: Extractor,
                                  tmp_path: Path) -> None:
    file = tmp_path / "stats.npz"
    statistics = save(file, extractor(digits.train.images).values)
    run = load_experiment(studies.parent / "losses.yaml", tmp_path).runs[0]
    done = here("evaluate", run.folder(studies), "--root", studies, "--statistics", file,
                "--metric", "fd_random,kd_random", "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    plain = json.loads(here("evaluate", run.folder(studies), "--root", studies,
                            "--metric", "fd_random", "--json").stdout)
    assert report["scores"]["fd_random"] == pytest.approx(plain["scores"]["fd_random"], rel=1e-9)
    assert report["protocols"]["fd_random"]["data"] == statistics.name
    assert report["protocols"]["kd_random"]["data"].startswith("digits ")
    assert "fd_random" in plain["journalled"]
    assert "fd_random" not in report["journalled"]
    assert f"data {statistics.name} against digits" in report["not_alike"]["fd_random"]
    torch.save({}, tmp_path / "bad.npz")
    for arguments, words in (
            (["--statistics", file, "--metric", "kd_random"], "only Fréchet distances"),
            (["--statistics", tmp_path / "bad.npz"], "bad.npz: is not a file of statistics"),
            (["--statistics", tmp_path / "none.npz"], "none.npz: cannot be read: No such file")):
        refused = here("evaluate", run.folder(studies), "--root", studies, *arguments)
        assert (refused.returncode, refused.stderr.count("\n")) == (2, 1), refused.stderr
        assert words in refused.stderr


def test_a_reference_that_is_named_later_is_measured_and_compared_alone(
        studies: Path, digits: Dataset, extractor: Extractor, tmp_path: Path) -> None:
    """And the data set's own is there again, unmeasured, once the file names no other."""
    root = copy_of(studies, tmp_path / "root")
    statistics = save(tmp_path / "stats.npz", extractor(digits.train.images).values + 0.1)
    text = (studies.parent / "losses.yaml").read_text()
    file = tmp_path / "losses.yaml"
    named = text.replace("latent_sets:", "reference: {statistics: stats.npz}, latent_sets:")
    assert named != text
    journals = {path: path.read_bytes() for path in root.glob("runs/losses/*/journal.jsonl")}
    means = []
    for content, grows in ((text, False), (named, True), (text, False)):
        file.write_text(content)
        before = {path: path.read_bytes().count(b'"metrics"') for path in journals}
        ran = here("run", file, "--root", root)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert "6 of 6 runs are done" in ran.stdout
        assert all((path.read_bytes().count(b'"metrics"') > n) == grows
                   for path, n in before.items())
        done = here("report", "losses", "--root", root, "--format", "csv", "--out",
                    tmp_path / f"out{len(means)}")
        assert done.returncode == 0, done.stderr
        with (tmp_path / f"out{len(means)}" / "summary.csv").open() as table:
            rows = [row for row in csv.DictReader(table) if row["score"] == "fd_random"]
        means.append([row["mean"] for row in rows])
        assert [row["n"] for row in rows] == ["3", "3"]
    assert means[0] == means[2] != means[1]
    file.write_text(named)
    plan = here("plan", file, "--root", root).stdout
    assert f"reference {tmp_path / 'stats.npz'} for Fréchet distances" in plan
    assert here("run", file, "--root", root).returncode == 0
    run = load_experiment(file, tmp_path).runs[0]
    measured = here("evaluate", run.folder(root), "--root", root, "--json")
    assert json.loads(measured.stdout)["protocols"]["fd_random"]["data"] == statistics.name
    (tmp_path / "stats.npz").rename(tmp_path / "away.npz")
    missing = here("evaluate", run.folder(root), "--root", root)
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1), missing.stderr
    assert "stats.npz: cannot be read: No such file" in missing.stderr
    other = here("evaluate", run.folder(root), "--root", root, "--metric", "kd_random")
    assert other.returncode == 0, other.stderr  # which needs no statistics
    (tmp_path / "away.npz").rename(tmp_path / "stats.npz")
    progress = Progress(load_experiment(file, tmp_path).runs[0], run.folder(root))
    progress.follow()
    data = {protocol["data"] for full, protocol in progress.announced.items()
            if full.endswith("/fd_random")}
    assert {statistics.name, *data} == data
    assert len(data) == 2
