"""Networks that are trained with a part of a data set, and compared with all of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.runs import DIGITS, a_run, write_experiment

from gan_bench.cli.planning.plan import plan_text
from gan_bench.components.data import Dataset, load, prepare_data
from gan_bench.config.experiment import load_experiment
from gan_bench.errors import SpecError
from gan_bench.evaluation.views import RealExamples, views_of
from gan_bench.registry import DATASETS, METRICS, Part

DIGITS_16 = {"name": "digits", "image_size": 16}


def part_of(train: int | None) -> Part:
    return DATASETS.parse({**DIGITS_16, "train": train})


def loaded(train: int | None, cache: Path) -> Dataset:
    prepare_data(part_of(train), Path(), cache)
    return load(part_of(train), Path(), cache, "cpu")


def test_a_part_is_the_same_in_all_runs_and_holds_the_smaller_ones(tmp_path: Path) -> None:
    """And its labels are those of its images; what is decoded lies in the cache once."""
    whole, few, fewer = (loaded(train, tmp_path) for train in (None, 200, 50))
    assert [data.facts.train for data in (whole, few, fewer)] == [1438, 200, 50]
    assert whole.whole is whole.train
    for data in (few, fewer):
        assert torch.equal(data.whole.images, whole.train.images)
        assert torch.equal(data.test.images, whole.test.images)
        assert data.fingerprint == whole.fingerprint
    of_image = {image.numpy().tobytes(): int(label) for image, label in
                zip(whole.train.images, whole.train.labels, strict=True)}  # type: ignore[arg-type]
    assert len(of_image) > 1400
    pictures = []
    for data in (few, fewer):
        pictures.append([image.numpy().tobytes() for image in data.train.images])
        assert data.train.labels is not None
        assert [of_image[picture] for picture in pictures[-1]] == data.train.labels.tolist()
    assert len({*pictures[0]}) == 200
    assert {*pictures[1]} < {*pictures[0]}
    assert {*few.train.labels.tolist()} == {*range(10)}  # type: ignore[union-attr]
    assert len([*(tmp_path / "data").iterdir()]) == 1
    again = loaded(200, tmp_path / "other")
    assert torch.equal(again.train.images, few.train.images)


def test_extractors_see_all_and_distances_of_pixels_and_of_d_the_part(tmp_path: Path) -> None:
    few, whole = loaded(200, tmp_path), loaded(None, tmp_path)
    names = ("fd_random", "class_kl", "nearest_train_mse", "d_gap")
    metrics = [METRICS[name] for name in names]
    counts = []
    for data in (few, whole):
        examples = RealExamples(part_of(None), data, 500)
        views = views_of(metrics, examples, tmp_path, print)
        counts.append([views[metric.facts.extractor].real_count(metric) for metric in metrics])
        counts[-1].append(len(views["discriminator"]._few["train"]))  # type: ignore[attr-defined]
    assert counts == [[1438, 1438, 200, 200, 200], [1438, 1438, 1438, 500, 500]]


def test_it_is_in_the_id_unless_it_is_all(tmp_path: Path) -> None:
    plain, none, few, fewer = (a_run(tmp_path, *given) for given in (
        [], ["dataset.train=null"], ["dataset.train=200"], ["dataset.train=50"]))
    assert plain.id == none.id
    assert len({plain.id, few.id, fewer.id}) == 3
    assert few.data.train == 200
    spec = load_experiment(write_experiment(tmp_path, DIGITS), tmp_path, ["dataset.train=200"])
    assert "16×16 images, 200 (of 1,438) for training and 359 held out" in plan_text(spec, tmp_path)


def test_epochs_are_of_the_part(tmp_path: Path) -> None:
    text = DIGITS.replace("steps: 6", "epochs: 3")
    assert a_run(tmp_path, "dataset.train=200", text=text).steps == 3 * (200 // 32)


@pytest.mark.parametrize(("override", "message"), [
    ("dataset.train=2000", "tiny.yaml:2:1: dataset: train: 2,000 is more than the 1,438 training "
                           "examples"),
    ("dataset.train=20", "base.batch_size: 32 is more than the 20 "),
    ("dataset.train=1", "dataset.train: must be at least 2"),
])
def test_what_is_no_part_is_refused_with_the_line(tmp_path: Path, override: str, message: str,
                                                  ) -> None:
    with pytest.raises(SpecError) as error:
        a_run(tmp_path, override)
    assert message in str(error.value)


def test_metrics_that_compare_with_all_examples_are_not_refused_by_the_part(tmp_path: Path) -> None:
    """Each needs more than 200 training examples: 100 of a class, or subsets of 1,000."""
    given = ["dataset.train=200", "base.condition=concat", "variants={}", "evaluate.samples=1000"]
    for name in ("intra_fd_classifier", "kd_random_subsets"):
        assert a_run(tmp_path, *given, f"evaluate.metrics=[{name}]").data.train == 200
