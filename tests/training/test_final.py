"""Another measurement after the last step: its plan, its names, and that protocols never mix."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.runs import a_run, write_experiment

from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import EvaluateSpec
from gan_bench.errors import SpecError, UserError
from gan_bench.journal import reading
from gan_bench.journal.layout import Workspace
from gan_bench.journal.status import progress_of
from gan_bench.training import run

FINAL = ("evaluate.final_samples=60", "evaluate.final_metrics=[nearest_train_mse]")


def test_no_final_measurement_where_nothing_differs(tmp_path: Path) -> None:
    plain = a_run(tmp_path)
    assert plain.evaluate.final is None
    assert a_run(tmp_path, "evaluate.final_samples=50").evaluate.final is None
    assert a_run(tmp_path, "evaluate.final_samples=null").id == plain.id
    assert a_run(tmp_path, *FINAL).id == plain.id


def test_the_final_plan_takes_over_what_it_does_not_change() -> None:
    plan = EvaluateSpec(samples=20, metrics=["d_accuracy"], final_samples=90)
    assert plan.final is not None
    assert (plan.final.samples, plan.final.metrics) == (90, ["d_accuracy"])
    plan = EvaluateSpec(samples=20, metrics=["d_accuracy"], final_metrics=["fd_classifier"])
    assert plan.final is not None
    assert (plan.final.samples, plan.final.metrics) == (20, ["fd_classifier"])
    assert plan.all_metrics == ["d_accuracy", "fd_classifier"]


@pytest.mark.parametrize("overrides", [(), FINAL], ids=["one plan", "two plans"])
def test_no_name_stands_for_two_protocols(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    spec = a_run(tmp_path, "base.steps=7", *overrides)
    run.datasets.prepare_data(spec.dataset, tmp_path, Workspace(tmp_path).cache)
    assert run.run_one(spec, tmp_path, tmp_path).status == "FINISHED"
    records, _ = reading.read_records(spec.folder(tmp_path))
    protocol = next(r["protocol"] for r in records if r["kind"] == "protocol")
    steps: dict[str, list[int]] = {}
    for record in records:
        for name in record.get("values", {}):
            if name in protocol:
                steps.setdefault(name, []).append(record["step"])
    during = {"eval/d_accuracy_real", "eval/d_accuracy_fake", "eval/nearest_train_mse"}
    if overrides:
        assert steps == {**{name: [3, 6] for name in during}, "final/nearest_train_mse": [7]}
        assert protocol["eval/nearest_train_mse"]["generated"] == 50
        assert protocol["final/nearest_train_mse"]["generated"] == 60
        scores = progress_of(spec, tmp_path).scores
        assert set(scores) == {"nearest_train_mse"}
        values = [r["values"] for r in records if "final/nearest_train_mse" in r.get("values", {})]
        assert scores["nearest_train_mse"] == values[0]["final/nearest_train_mse"]
    else:
        assert steps == {name: [3, 6, 7] for name in during}
        assert set(progress_of(spec, tmp_path).scores) == {
            "d_accuracy_real", "d_accuracy_fake", "nearest_train_mse"}


@pytest.mark.parametrize(("override", "where", "what"), [
    ("evaluate={metrics: [d_accuracy, fd_random], samples: 300, final_metrics: [fd_random]}",
     "evaluate.metrics", "d_accuracy is never measured: give evaluate.every, at most the 6 steps, "
     "or name it in final_metrics"),
    ("evaluate={every: 7, metrics: [d_accuracy, nearest_train_mse], final_metrics: []}",
     "evaluate.metrics", "d_accuracy, nearest_train_mse are never measured: give evaluate.every, "
     "at most the 6 steps, or name them in final_metrics"),
    ("evaluate.final_metrics=[fid, fid]", "evaluate.final_metrics", "a metric is named twice"),
    ("evaluate.final_metrics=[fidd]", "evaluate.final_metrics", "did you mean 'fid'"),
    ("evaluate.final_metrics=[high_quality]", "evaluate.final_metrics", "needs known modes"),
    ("evaluate.metrics=[kd_classifier_subsets]", "evaluate.samples",
     "kd_classifier_subsets needs at least 1,000 samples, not 50"),
    ("evaluate.final_metrics=[kd_classifier_subsets]", "evaluate.final_samples",
     "kd_classifier_subsets needs at least 1,000 samples, not 50")])
def test_what_is_refused(tmp_path: Path, override: str, where: str, what: str) -> None:
    with pytest.raises(SpecError, match=what) as caught:
        a_run(tmp_path, override)
    assert where in caught.value.lines[0]


@pytest.mark.parametrize(("key", "labels"), [
    ("samples", "none"), ("samples", "concat"), ("final_samples", "none")])
def test_more_samples_than_memory_holds_are_refused_before_training(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, labels: str) -> None:
    """What is free is the latents (64 float32, and 10 labels) and the samples, each twice, of 900.
    """
    each = 4 * (64 + (10 if labels == "concat" else 0)) + 2 * 16 * 16
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=900 * each))
    conditional = [f"base.condition={labels}", "evaluate.metrics=[nearest_train_mse]",
                   "base.model.latent_dim=64"]
    for count, refused in ((900, False), (901, True)):
        spec = load_experiment(write_experiment(tmp_path), tmp_path,
                               [*conditional, f"evaluate.{key}={count}"])
        if not refused:
            run.prepare(spec, tmp_path, tmp_path, lambda line: None)
            continue
        with pytest.raises(UserError, match=rf"^evaluate.{key}: 901 samples would take 0.0 GB, "
                                            r"but only 0.0 GB is free; ask for fewer$"):
            run.prepare(spec, tmp_path, tmp_path, lambda line: None)
