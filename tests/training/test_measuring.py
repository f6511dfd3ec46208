"""Finished runs, measured later: the same bits as if they had been measured so from the start."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from helpers.runs import a_run

from gan_bench.compare.training_curves import scores_by_latents, training_curves
from gan_bench.components import data as datasets
from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError
from gan_bench.evaluation.features.base import Extractor
from gan_bench.journal import reading, writing
from gan_bench.journal.about import asked_weights, read_about, write_about
from gan_bench.journal.layout import Execution, Workspace, snapshot_file, snapshot_steps
from gan_bench.journal.schema import Kind, Status
from gan_bench.journal.scores.missing_scores import MissingScores, is_recorded, missing_scores
from gan_bench.journal.scores.score_names import protocol_digest
from gan_bench.journal.status import Progress
from gan_bench.report.study import load_results
from gan_bench.training.measuring import measure_trained
from gan_bench.training.run import prepare, run_one

TEXT = """\
name: tiny
dataset: {name: digits, image_size: 16}
seeds: [0]
base: {model: {name: dcgan, width: 8}, batch_size: 16, steps: 6, log_every: 2, ema: 0.9,
       penalties: [spectral_norm, instance_noise]}
variants: {plain: }
evaluate: {every: 2, samples: 60, metrics: [classes_covered], snapshots: true}
compute: {device: cpu}
"""
# With metrics of features, of pixels and of D; a picture; further latents.
ALL = ("evaluate.metrics=[classes_covered, fd_classifier, nearest_train_mse, d_accuracy, "
       "memorisation]", "evaluate.latent_sets=3")


def silent(line: str) -> None:
    pass


def spec_of(root: Path, *settings: str) -> RunSpec:
    (root / "file").mkdir(exist_ok=True)
    spec = a_run(root / "file", *settings, text=TEXT)
    prepare(load_experiment(root / "file" / "tiny.yaml", root, list(settings)), root, root, silent)
    return spec


def train(root: Path, *settings: str) -> Path:
    run_one(spec_of(root, *settings), root, root)
    return spec_of(root, *settings).folder(root)


def measure(root: Path, *settings: str) -> Progress:
    """Measure the run of a root by what it lacks; return it."""
    spec = spec_of(root, *settings)
    workspace = Workspace(root, root)
    load = partial(datasets.load, spec.dataset, root, workspace.cache, "cpu", facts=spec.data)
    measure_trained(spec, Execution(workspace), load)
    spec.write(root)
    return follow(spec, root)


def follow(spec: RunSpec, root: Path) -> Progress:
    run = Progress(spec, spec.folder(root))
    run.follow()
    return run


def values_of(folder: Path) -> dict[tuple[str, int], float]:
    return {(name, record["step"]): value for record in reading.read_records(folder)[0]
            if record["kind"] == Kind.METRICS for name, value in record["values"].items()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    train(root)
    return root


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> Path:
    """A root whose run was measured by all metrics from the start."""
    root = tmp_path_factory.mktemp("whole")
    shutil.copytree(trained / "cache", root / "cache")
    train(root, *ALL)
    return root


@pytest.fixture
def root(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path / "root")
    return tmp_path / "root"


def test_what_is_measured_later_has_the_bits_of_what_was_measured_at_once(root: Path, whole: Path,
                                                                          ) -> None:
    run = measure(root, *ALL)
    folder, expected = run.folder, spec_of(whole, *ALL).folder(whole)
    assert folder.name == expected.name
    assert values_of(folder) == values_of(expected)
    assert len(values_of(folder)) == 65
    assert (folder / "final.safetensors").read_bytes() == (
        expected / "final.safetensors").read_bytes()
    fresh = follow(run.spec, whole)
    assert (run.scores, run.protocols, run.state) == (fresh.scores, fresh.protocols, "FINISHED")
    assert list(run.scores) == list(fresh.scores)
    pictures = {file.name: file.read_bytes() for file in (folder / "samples").iterdir()}
    assert pictures == {file.name: file.read_bytes() for file in (expected / "samples").iterdir()}
    assert "nearest-0000006.png" in pictures
    assert not missing_scores(run)


def test_so_have_scores_of_requested_classes(trained: Path, tmp_path: Path) -> None:
    """Of a conditional run without snapshots, measured with its last weights."""
    settings = ("base.condition=concat", "evaluate.snapshots=false", "evaluate.every=null")
    more = ("evaluate.final_metrics=[classes_covered, label_accuracy]",
            "evaluate.final_samples=90")
    for name in ("later", "whole"):
        shutil.copytree(trained / "cache", tmp_path / name / "cache")
    train(tmp_path / "later", *settings)
    later = measure(tmp_path / "later", *settings, *more)
    whole = follow(spec_of(tmp_path / "whole", *settings, *more), tmp_path / "whole")
    train(tmp_path / "whole", *settings, *more)
    whole.follow()
    digest = protocol_digest(whole.protocols["classes_covered"])
    values, expected = values_of(later.folder), values_of(whole.folder)
    renamed = {(name.replace(f"final-{digest}/", "final/"), step): value
               for (name, step), value in values.items() if not name.startswith("eval/")}
    assert renamed == expected
    assert sum(name.startswith("class/final/label_accuracy/") for name, _ in values) == 10
    assert later.scores == whole.scores
    assert set(later.scores) == {"classes_covered", "label_accuracy"}


def test_run_one_measures_what_is_trained(root: Path, whole: Path) -> None:
    spec = spec_of(root, *ALL)
    before = (spec.folder(root) / "final.safetensors").stat().st_mtime_ns
    outcome = run_one(spec, root, root, stop=lambda: True)  # it would stop a training at once
    assert (outcome.run, outcome.status) == (spec.id, Status.FINISHED)
    assert values_of(spec.folder(root)) == values_of(spec_of(whole, *ALL).folder(whole))
    assert (spec.folder(root) / "final.safetensors").stat().st_mtime_ns == before


def test_measuring_again_adds_nothing(root: Path) -> None:
    folder = measure(root, *ALL).folder
    before = (folder / reading.FILE).read_bytes()
    measure(root, *ALL)
    assert (folder / reading.FILE).read_bytes() == before


def test_without_snapshots_there_is_the_final_value_alone(root: Path) -> None:
    spec = spec_of(root, *ALL)
    shutil.rmtree(spec.folder(root) / "snapshots")
    measure(root, *ALL)
    steps = {step for name, step in values_of(spec.folder(root)) if name == "eval/fd_classifier"}
    assert steps == {6}
    read = load_results("tiny", root=root)
    assert read.runs["score.fd_classifier"].notna().all()
    (note,) = (note for note in read.notes if "final value only" in note)
    assert note.startswith("authpct, d_accuracy_fake, d_accuracy_real, fd_classifier, nearest_")


def test_a_time_is_that_of_the_step(root: Path) -> None:
    folder = spec_of(root).folder(root)
    trained = {record["step"]: record["t"] for record in reading.read_records(folder)[0]
               if record["kind"] != Kind.PROTOCOL}
    measure(root, *ALL)
    for record in reading.read_records(folder)[0]:
        if record["kind"] == Kind.METRICS and "eval/fd_classifier" in record["values"]:
            assert record["t"] == trained[record["step"]]


def test_another_number_of_samples_has_another_name_and_is_what_counts(root: Path) -> None:
    first = follow(spec_of(root), root).scores
    later = ("evaluate.samples=80", "evaluate.latent_sets=2")
    run = measure(root, *later)
    values = values_of(run.folder)
    (name,) = {name for name, _ in values if name.startswith("eval-")}
    assert name.endswith("/classes_covered")
    assert run.scores == {"classes_covered": values[name, 6]}
    assert run.protocols["classes_covered"]["generated"] == 80
    assert values["eval/classes_covered", 6] == first["classes_covered"]
    assert {step for each, step in values if each == name} == {2, 4, 6}
    digest = name.partition("/")[0].removeprefix("eval-")
    again = values[f"again-{digest}/1/classes_covered", 6]

    read = load_results("tiny", root=root)
    assert list(read.runs["score.classes_covered"]) == [values[name, 6]]
    (curve,) = training_curves(read, "classes_covered")
    assert list(curve.values) == [values[name, step] for step in (2, 4, 6)]
    assert scores_by_latents(read, "classes_covered") == {"plain": {0: [values[name, 6], again]}}
    # And back: nothing is measured, and the first values count.
    assert missing_scores(follow(spec_of(root), root)) == MissingScores()
    read = load_results("tiny", root=root)
    assert list(read.runs["score.classes_covered"]) == [first["classes_covered"]]
    (curve,) = training_curves(read, "classes_covered")
    assert list(curve.values) == [values["eval/classes_covered", step] for step in (2, 4, 6)]
    assert scores_by_latents(read, "classes_covered") == {
        "plain": {0: [first["classes_covered"]]}}


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the records of a run's journal."""
    records = [json.loads(line) for line in (folder / reading.FILE).read_text().splitlines()]
    for record in records:
        change(record)
    (folder / reading.FILE).write_text("".join(json.dumps(record) + "\n" for record in records))


def test_a_score_of_an_older_definition_is_measured_anew(root: Path) -> None:
    """And what has the present one is not, though an older version has recorded it."""
    settings = ("evaluate.metrics=[memorisation, fd_random]", "evaluate.latent_sets=2")
    folder = measure(root, *settings).folder
    edit(folder, lambda record: record.pop("recording", None))
    assert missing_scores(follow(spec_of(root, *settings), root)) == MissingScores()
    before = values_of(folder)

    def make_older(record: dict[str, Any]) -> None:
        record.get("protocol", {}).get("eval/nearest_ratio", {}).pop("ratio", None)

    edit(folder, make_older)
    only = ["memorisation"]
    assert missing_scores(follow(spec_of(root, *settings), root)) == MissingScores(
        only, only, {2: only, 4: only})
    (note,) = (note for note in load_results("tiny", root=root).notes if "not measured" in note)
    assert "the experiment asks: nearest_ratio of 1 of 1 finished run" in note
    run = measure(root, *settings)
    digest = protocol_digest(run.protocols["nearest_ratio"])
    anew, again = f"eval-{digest}/nearest_ratio", f"again-{digest}/1/nearest_ratio"
    assert values_of(folder) == before | {
        (anew, step): before["eval/nearest_ratio", step] for step in (2, 4, 6)} | {
        (again, 6): before["again/1/nearest_ratio", 6]}
    assert run.protocols["nearest_ratio"]["ratio"] == (
        "train / held out, over that of the neighbours")
    run.recording = None
    assert not missing_scores(run)
    read = load_results("tiny", root=root)
    assert not [note for note in read.notes if "not measured" in note]
    assert list(read.runs["metric.nearest_ratio"]) == [anew]
    assert list(read.runs["metric.authpct"]) == ["eval/authpct"]


def test_a_score_of_other_weights_is_measured_anew(root: Path) -> None:
    """Which are the present ones is known once the extractor is prepared."""
    settings = ("evaluate.metrics=[fd_random, classes_covered]",)
    folder = measure(root, *settings).folder
    before, home = values_of(folder), root / "runs" / "tiny"
    spec_of(root, *settings)
    assert asked_weights(home) == {}
    edit(folder, lambda record: record.get("protocol", {}).get("eval/fd_random", {}).update(
        weights="0123456789ab"))
    assert missing_scores(follow(spec_of(root), root)) == MissingScores()
    spec = spec_of(root, *settings)
    assert asked_weights(home).keys() == {"fd_random"}
    assert missing_scores(follow(spec, root)) == MissingScores(
        ["fd_random"], [], {2: ["fd_random"], 4: ["fd_random"]})
    assert not is_recorded(spec.recording, spec, folder)
    run = measure(root, *settings)
    assert run.protocols["fd_random"]["weights"] == asked_weights(home)["fd_random"]
    digest = protocol_digest(run.protocols["fd_random"])
    assert values_of(folder) == before | {
        (f"eval-{digest}/fd_random", step): before["eval/fd_random", step] for step in (2, 4, 6)}
    assert not missing_scores(run)
    assert list(load_results("tiny", root=root).runs["metric.fd_random"]) == [
        f"eval-{digest}/fd_random"]


def test_sets_belong_to_the_measurement_that_counts_and_not_to_an_equal_one(root: Path) -> None:
    run = follow(spec_of(root), root)
    value, protocol = run.scores["classes_covered"], run.protocols["classes_covered"]
    name = "final/classes_covered"
    writing.amend(run.folder, writing.Amendment(
        {name: {**protocol, "generated": 80}}, {name: value, "again/1/classes_covered": 0.5}))
    spec_of(root)
    read = load_results("tiny", root=root)
    assert list(read.runs["metric.classes_covered"]) == ["eval/classes_covered"]
    assert scores_by_latents(read, "classes_covered") == {"plain": {0: [value]}}
    spec_of(root, "evaluate.final_samples=80")
    read = load_results("tiny", root=root)
    assert list(read.runs["metric.classes_covered"]) == [name]
    assert scores_by_latents(read, "classes_covered") == {"plain": {0: [value, 0.5]}}


@pytest.mark.parametrize(("version", "said"), [(None, ""), ("9.9", "torch 9.9")])
def test_another_torch_that_measures_later_is_said(root: Path, version: str | None, said: str,
                                                   ) -> None:
    """That of the training is said of the run, and is not repeated."""
    folder = measure(root, "evaluate.metrics=[classes_covered, fd_random]").folder
    if version:
        edit(folder, lambda record: record.get("by", {}).get("versions", {}).update(torch=version))
    read = load_results("tiny", root=root)
    assert list(read.runs["measured_by.fd_random"]) == [said]
    assert list(read.runs["measured_by.classes_covered"]) == [""]


def test_what_a_run_lacks_is_said(root: Path) -> None:
    spec_of(root, "evaluate.samples=80")
    read = load_results("tiny", root=root)
    (note,) = (note for note in read.notes if note.startswith("not measured"))
    assert note.startswith("not measured on 80 samples by the present definition, as the "
                           "experiment asks: classes_covered of 1 of 1 finished run; `gan-bench "
                           "evaluate` of the experiment's file")
    home = root / "runs" / "tiny"
    write_about(home, read_about(home).with_changes(command="gan-bench run a.yaml --set base.g=1"))
    assert any(f"; `gan-bench evaluate a.yaml --set base.g=1 --root {root}` measures them" in note
               for note in load_results("tiny", root=root).notes)
    assert "score.classes_covered" not in read.runs or read.runs[
        "score.classes_covered"].isna().all()


def test_the_final_measurement_may_differ_later(root: Path) -> None:
    run = measure(root, "evaluate.final_samples=70", "evaluate.final_metrics=[fd_classifier]")
    values = values_of(run.folder)
    assert run.scores == {"fd_classifier": values["final/fd_classifier", 6]}
    assert {step for name, step in values if name == "eval/classes_covered"} == {2, 4, 6}


def test_missing_scores_are_those_that_can_be_measured(root: Path) -> None:
    spec = spec_of(root, "evaluate.metrics=[classes_covered, fd_classifier]")
    folder = spec.folder(root)
    assert snapshot_steps(folder) == {2, 4, 6}
    snapshot_file(folder, 4).unlink()
    assert missing_scores(follow(spec, root)) == MissingScores(
        ["fd_classifier"], [], {2: ["fd_classifier"]})
    other = spec_of(root, "base.log_every=1", "evaluate.every=3")
    assert missing_scores(follow(other, root)) == MissingScores()


@pytest.mark.parametrize("file", ["final.safetensors", "snapshots/step-0000002.safetensors"])
def test_damaged_weights_leave_the_run_as_it_was(root: Path, file: str) -> None:
    folder = spec_of(root).folder(root)
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[:-100])
    before = (folder / reading.FILE).read_bytes()
    with pytest.raises(UserError, match=str(folder / file)):
        measure(root, *ALL)
    assert (folder / reading.FILE).read_bytes() == before


def test_samples_that_are_not_finite_are_a_divergence(root: Path) -> None:
    """As they are where they are measured during training."""
    from safetensors.torch import load_file, save_file

    folder = spec_of(root).folder(root)
    file = snapshot_file(folder, 2)
    weights = load_file(file)
    save_file({name: tensor * float("nan") if name.startswith("ema.") else tensor
               for name, tensor in weights.items()}, file)
    run = measure(root, *ALL)
    assert (run.state, run.why) == (
        Status.DIVERGED, "the generator makes samples that are not finite, at step 2")


def test_features_that_are_not_finite_say_nothing_of_the_run(
        root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is the extractor's: the run stays finished, and can be measured later."""
    spec = spec_of(root, *ALL)
    before = (spec.folder(root) / reading.FILE).read_bytes()
    compute = Extractor.__call__

    def broken(self: Extractor, images: Any) -> Any:
        compute(self, images)
        raise FloatingPointError(f"{self.id} gives features that are not finite")

    with monkeypatch.context() as patch:
        patch.setattr(Extractor, "__call__", broken)
        with pytest.raises(UserError, match="features that are not finite, of the samples of step"):
            measure(root, *ALL)
    assert (spec.folder(root) / reading.FILE).read_bytes() == before
    assert measure(root, *ALL).state == Status.FINISHED


def test_further_sets_of_a_score_that_is_there_have_its_name(root: Path) -> None:
    """Also where the last measurement has other metrics, and so another prefix."""
    settings = ("evaluate.final_metrics=[classes_covered, fd_random]", "evaluate.latent_sets=2")
    run = measure(root, *settings)
    assert {"again/1/classes_covered", "again/1/fd_random"} <= run.values.keys()
    assert not missing_scores(run)
    run.recording = None
    assert not missing_scores(run)
    found = scores_by_latents(load_results("tiny", root=root), "classes_covered")
    assert len(found["plain"][0]) == 2


def test_what_a_void_attempt_has_measured_is_measured_anew(root: Path) -> None:
    """Its records are in the journal, and do not count."""
    spec = spec_of(root)
    folder = spec.folder(root)
    records = [json.loads(line) for line in (folder / reading.FILE).read_text().splitlines()]
    end = records.pop()
    at = next(i for i, record in enumerate(records) if record["step"] == 6)
    void = [{**records[at], "kind": "metrics", "values": {"eval/fd_classifier": 1.5}},
            {"t": records[at]["t"], "kind": "resume", "step": 4, "note": "", "drift": {},
             "void": True}]
    (folder / reading.FILE).write_text("".join(
        json.dumps(record) + "\n" for record in [*records[:at], *void, *records[at:], end]))
    run = measure(root, *ALL)
    assert run.scores["fd_classifier"] > 2
    assert not missing_scores(run)


def test_two_processes_never_use_a_name_for_two_protocols(root: Path) -> None:
    folder = spec_of(root).folder(root)
    name = "eval/fd_random"
    writing.amend(folder, writing.Amendment({name: {"extractor": "random", "weights": "a"}},
                                            {name: 1.0}))
    before = (folder / reading.FILE).read_bytes()
    with pytest.raises(UserError, match="another process has measured it at the same time; repeat"):
        writing.amend(folder, writing.Amendment({name: {"extractor": "random", "weights": "b"}},
                                                {name: 2.0}))
    assert (folder / reading.FILE).read_bytes() == before


def test_a_run_that_resumes_on_other_samples_keeps_protocols_apart(trained: Path, tmp_path: Path,
                                                                   ) -> None:
    """Killed twice: the names are the same after each."""
    shutil.copytree(trained / "cache", tmp_path / "cache")
    later = ("evaluate.samples=80", "evaluate.latent_sets=2")
    for settings, steps in (((), 2), (later, 2)):
        calls = iter(range(100))
        outcome = run_one(spec_of(tmp_path, *settings), tmp_path, tmp_path,
                          stop=lambda calls=calls, steps=steps: next(calls) == steps - 1)
        assert outcome.status == Status.KILLED
    assert run_one(spec_of(tmp_path, *later), tmp_path, tmp_path).status == Status.FINISHED
    run = follow(spec_of(tmp_path, *later), tmp_path)
    (name,) = {name for name in run.measured if name.startswith("eval-")}
    assert run.measured == {"eval/classes_covered": {2}, name: {4, 6}}
    assert (run.announced["eval/classes_covered"]["generated"],
            run.announced[name]["generated"]) == (60, 80)
    digest = name.partition("/")[0].removeprefix("eval-")
    assert f"again-{digest}/1/classes_covered" in run.values
    assert run.scores == {"classes_covered": run.values[name]}
    expected = measure(tmp_path, *later)  # the curve's first point, from its snapshot
    assert expected.measured[name] == {2, 4, 6}


def test_a_run_goes_on_when_something_else_is_recorded(trained: Path, tmp_path: Path) -> None:
    """It was killed after its checkpoint; what is recorded from there on is what is asked for."""
    shutil.copytree(trained / "cache", tmp_path / "cache")
    calls = iter(range(100))
    run_one(spec_of(tmp_path), tmp_path, tmp_path, stop=lambda: next(calls) == 2)
    settings = ("base.log_every=1", "evaluate.metrics=[classes_covered, d_accuracy]")
    outcome = run_one(spec_of(tmp_path, *settings), tmp_path, tmp_path)
    assert outcome.status == Status.FINISHED
    folder, expected = (spec_of(place).folder(place) for place in (tmp_path, trained))
    assert (folder / "final.safetensors").read_bytes() == (
        expected / "final.safetensors").read_bytes()
    values, before = values_of(folder), values_of(expected)
    assert {name: value for name, value in values.items() if name in before} == before
    assert {step for name, step in values if name == "eval/d_accuracy_real"} == {4, 6}
    assert {step for name, step in values if name == "train/g_loss"} == {2, 4, 5, 6}
    records: list[dict[str, Any]] = reading.valid(reading.read_records(folder)[0])
    assert "eval/d_accuracy_real" in json.dumps(
        [record for record in records if record["kind"] == Kind.PROTOCOL])
    assert set(follow(spec_of(tmp_path, *settings), tmp_path).scores) == {
        "classes_covered", "d_accuracy_real", "d_accuracy_fake"}
