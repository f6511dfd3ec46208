"""Means of logged curves as scores: declared, refused, and compared in a report."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.journals import FACTS, new_run
from helpers.runs import DIGITS, a_run, write_experiment
from helpers.studies import here

from gan_bench.compare.results import read_results
from gan_bench.config.declared import CurveMean, Declared, Logged
from gan_bench.config.experiment import load_experiment
from gan_bench.config.experiment_checks import logged_steps
from gan_bench.errors import SpecError
from gan_bench.journal.about import write_about
from gan_bench.journal.layout import Workspace
from gan_bench.journal.writing import Journal
from gan_bench.registry import LOSSES
from gan_bench.report.study import load_results
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

MEAN = "early_g_grad_norm: {of: train/g_grad_norm, steps: [2, 4], better: higher}"


def test_the_curves_are_those_that_a_step_gives(tmp_path: Path) -> None:
    spec = a_run(tmp_path, "base.penalties=[r1, orthogonal_g]", "base.model.name=mlp_dropout",
                 "base.augmentation=[ada]")
    draws = torch.Generator().manual_seed(0)
    real = torch.rand(32, 1, 16, 16, generator=draws)
    assert set(Engine(spec, "cpu").step(1, StepBatch([real]), True)) == set(get_args(Logged))


def test_the_logged_steps_are_counted_as_training_counts_them() -> None:
    for every, steps, first, last in itertools.product((1, 3, 4), (1, 7, 8), (1, 4, 8), (4, 8, 9)):
        if first > last:
            continue
        there = {step for step in range(1, steps + 1) if step % every == 0 or step == steps}
        mean = CurveMean(of="train/g_loss", steps=[first, last])
        assert mean.logged(every, steps) == len(there & set(range(first, last + 1)))


@pytest.mark.parametrize(("mean", "place", "message"), [
    ("{early: {of: train/g_gradnorm, steps: [1, 4]}}", "early.of", "'train/g_grad_norm'"),
    ("{early: {of: train/g_loss, steps: [4, 1]}}", "early", "the first is after the last: [4, 1]"),
    ("{early: {of: train/g_loss, steps: [4]}}", "early.steps", "at least 2 values, not [4]"),
    ("{early: {of: train/g_loss, steps: [0, 4]}}", "early.steps.0", "at least 1"),
    ("{early: {of: train/g_loss, steps: [1, 1]}}", "early.steps",
     "plain has no logged value from step 1 to 1: it logs every 2 steps; choose a longer range, "
     "or a smaller log_every"),
    ("{early: {of: train/g_loss, steps: [1, 7]}}", "early.steps",
     "plain has 6 steps, fewer than 7"),
    ("{early: {of: train/d_penalty, steps: [1, 6]}}", "early.of",
     "plain has no train/d_penalty: none of its penalties is a term of D's loss"),
    ("{early: {of: train/augment_p, steps: [1, 6]}}", "early.of",
     "plain has no train/augment_p: none of its augmentations has a p"),
    ("{d_accuracy_real: {of: train/g_loss, steps: [1, 4]}}", "d_accuracy_real",
     "a metric gives a score 'd_accuracy_real'; choose another name"),
    ("{early: {of: train/g_loss, steps: [1, 4], best: higher}}", "early.best", "better"),
])
def test_what_is_no_mean_of_a_curve_is_refused(tmp_path: Path, mean: str, place: str,
                                               message: str) -> None:
    file = write_experiment(tmp_path, f"{DIGITS}curve_means: {mean}\n")
    line = file.read_text().count("\n")
    with pytest.raises(SpecError) as caught:
        load_experiment(file, tmp_path)
    told = str(caught.value).splitlines()[0]
    assert told.startswith(f"{file}:{line}:")
    assert f" curve_means.{place}: " in told
    assert message in told


@pytest.mark.parametrize(("variant", "mean", "message"), [
    ("{loss: saturating, log_every: 3}", "{of: train/g_loss, steps: [1, 6]}",
     "saturating logs 2 steps from 1 to 6, but plain logs 3: give both the same log_every"),
    ("{loss: relativistic_pairing}", "{of: train/d_loss_real, steps: [1, 6]}",
     "saturating has no train/d_loss_real: the loss relativistic_pairing has no separate"),
])
def test_every_variant_is_to_have_the_curve_alike(tmp_path: Path, variant: str, mean: str,
                                                  message: str) -> None:
    text = DIGITS.replace("{loss: saturating}", variant)
    file = write_experiment(tmp_path, f"{text}curve_means: {{early: {mean}}}\n")
    with pytest.raises(SpecError) as caught:
        load_experiment(file, tmp_path)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_losses_of_one_term_are_those_that_say_so(tmp_path: Path) -> None:
    for entry in LOSSES:
        engine = Engine(a_run(tmp_path, "variants={}", f"base.loss={entry.name}"), "cpu")
        real = torch.rand(32, 1, 16, 16, generator=torch.Generator().manual_seed(0))
        seen = engine.step(1, StepBatch([real], g_real=real if engine.needs_real else None), True)
        assert ("train/d_loss_real" in seen) is not entry.facts.one_term


def test_a_margin_may_be_of_a_mean(tmp_path: Path) -> None:
    file = write_experiment(tmp_path, f"{DIGITS}curve_means: {{{MEAN}}}\n"
                                      f"margin: {{early_g_grad_norm: 0.5, early_g_norm: 1}}\n")
    with pytest.raises(SpecError, match=r"margin.early_g_norm: no metric gives a score "
                                        r"'early_g_norm'; did you mean 'early_g_grad_norm'"):
        load_experiment(file, tmp_path)
    file.write_text(file.read_text().replace(", early_g_norm: 1", ""))
    assert str(load_experiment(file, tmp_path).declared.margin_of("early_g_grad_norm")) == "0.5"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained experiment that declares a mean."""
    folder = tmp_path_factory.mktemp("means")
    text = DIGITS.replace("log_every: 2", "log_every: 1").replace("plain:", "plain: {}")
    file = write_experiment(folder, f"{text}curve_means: {{{MEAN}}}\n")
    done = here("run", file, "--root", folder / "root")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_is_in_no_id(study: Path, tmp_path: Path) -> None:
    file = study / "tiny.yaml"
    without = write_experiment(tmp_path, file.read_text().partition("curve_means")[0])
    ids = [[run.id for run in load_experiment(one, tmp_path).runs] for one in (file, without)]
    assert ids[0] == ids[1]


def test_the_score_is_the_mean_of_the_journal(study: Path) -> None:
    read = load_results("tiny", root=study / "root")
    for run, row in read.runs.iterrows():
        lines = (study / "root" / "runs" / "tiny" / str(run) / "journal.jsonl").read_text()
        values = [record["values"]["train/g_grad_norm"] for record in map(json.loads,
                                                                          lines.splitlines())
                  if record["kind"] == "metrics" and 2 <= record["step"] <= 4
                  and "train/g_grad_norm" in record["values"]]
        assert len(values) == 3
        assert row["score.early_g_grad_norm"] == pytest.approx(np.mean(values), rel=1e-12)
        assert json.loads(row["protocol.early_g_grad_norm"]) == {
            "mean of": "train/g_grad_norm", "from step": 2, "to step": 4, "logged steps": 3}


def test_the_report_compares_it(study: Path) -> None:
    out = study / "report"
    done = here("report", "tiny", "--root", study / "root", "--metric", "early_g_grad_norm",
                     "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "early_g_grad_norm" in done.stdout
    rows = pd.read_csv(out / "summary.csv").query("score == 'early_g_grad_norm'")
    assert list(rows["better"]) == ["higher", "higher"]
    read = load_results("tiny", root=study / "root").runs
    means = read.groupby("variant", observed=True)["score.early_g_grad_norm"].mean()
    assert dict(zip(rows["variant"], rows["mean"], strict=True)) == pytest.approx(dict(means))
    pair = pd.read_csv(out / "pairs.csv").query("score == 'early_g_grad_norm'")
    assert set(pair["verdict"]) <= {"better", "worse", "inconclusive"}
    assert len(pair) == 1
    page = (out / "report.html").read_text()
    assert "early_g_grad_norm" in page
    assert "higher is better" in page


def test_a_penalty_is_logged_where_it_is_due(tmp_path: Path) -> None:
    """And counted as it is logged, be it lazy, or one of several."""
    real = torch.rand(32, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for penalties, first, last in (
            ("[{name: r1, every: 4}]", 1, 6), ("[{name: r1, every: 3}]", 2, 6),
            ("[{name: r1, every: 4}, {name: r2, every: 3}, weight_clip]", 3, 6),
            ("[{name: r1, every: 5}, r2]", 1, 5)):
        run = a_run(tmp_path, f"base.penalties={penalties}", "base.log_every=2")
        engine = Engine(run, "cpu")
        seen = [step for step in range(1, 7) if "train/d_penalty" in engine.step(
            step, StepBatch([real]), step % 2 == 0)]
        mean = CurveMean(of="train/d_penalty", steps=[first, last])
        assert logged_steps(run, mean) == sum(first <= step <= last for step in seen) > 0


@pytest.mark.parametrize(("penalties", "message"), [
    ("[{name: r1, every: 3}]", "plain has no logged value from step 1 to 5: it logs every 2 steps, "
     "and has a penalty only every 3 steps; choose a longer range, or a smaller log_every"),
    ("[weight_clip, instance_noise]", "plain has no train/d_penalty: none of its penalties is a "
     "term of D's loss")])
def test_a_penalty_that_is_never_logged_is_refused(tmp_path: Path, penalties: str, message: str,
                                                   ) -> None:
    text = DIGITS.replace("  saturating: {loss: saturating}\n", "").replace(
        "  steps: 6\n", f"  steps: 6\n  penalties: {penalties}\n")
    text += "curve_means: {early: {of: train/d_penalty, steps: [1, 5]}}\n"
    with pytest.raises(SpecError) as caught:
        load_experiment(write_experiment(tmp_path, text), tmp_path)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_sums_of_both_networks_are_logged_apart(tmp_path: Path) -> None:
    def load(penalty: str) -> None:
        text = DIGITS.replace("  steps: 6\n", f"  steps: 6\n  penalties: [{penalty}]\n")
        text += "curve_means: {early: {of: train/g_penalty, steps: [1, 5]}}\n"
        load_experiment(write_experiment(tmp_path, text), tmp_path)

    load("orthogonal_g")
    with pytest.raises(SpecError, match="has no train/g_penalty: none of its penalties is a term "
                                        "of G's loss"):
        load("orthogonal_d")


def test_p_of_an_augmentation_has_a_mean_as_losses_have(tmp_path: Path) -> None:
    for given in ("ada", "{name: ada, p: 0.1}"):
        text = DIGITS.replace("  steps: 6\n", f"  steps: 6\n  augmentation: [flip, {given}]\n")
        text += "curve_means: {early: {of: train/augment_p, steps: [1, 5]}}\n"
        mean = load_experiment(write_experiment(tmp_path, text), tmp_path).declared.curve_means
        assert mean["early"].of == "train/augment_p"


def test_a_mean_takes_the_points_that_mlflow_did_not_receive(tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder = new_run(root, steps=5_000, log_every=1)  # MLflow receives every third
    book = Journal(folder)
    book.start(FACTS)
    values = np.random.default_rng(0).normal(size=5_001)
    for step in range(1, 5_001):
        book.metrics(step, {"train/d_loss": values[step]})
    book.end("FINISHED")
    write_about(folder.parent, Declared(baseline="narrow", curve_means={
        "early": CurveMean(of="train/d_loss", steps=[2, 2_000])}))
    results = load_results(folder.parent.name, root=root)
    assert len(results.history) == 1_667
    (row,) = results.runs.to_dict("records")
    assert row["score.early"] == np.mean(values[2:2_001])
    assert json.loads(row["protocol.early"])["logged steps"] == 1_999
    assert not any("early" in note for note in results.notes)
    # Elsewhere there is no journal: it says so, and the protocol does.
    elsewhere = load_results(folder.parent.name, f"sqlite:///{root}/mlflow.db", tmp_path / "no")
    (row,) = elsewhere.runs.to_dict("records")
    assert row["score.early"] == np.mean(values[3:2_001:3])
    assert json.loads(row["protocol.early"])["logged steps"] == 666
    assert [note for note in elsewhere.notes if "early" in note] == [
        "early: of 1 run over the logged steps that MLflow holds, at most 2,000 a curve; a report "
        "in the root that holds their journals takes all"]
    # A damaged journal is as none.
    (folder / "journal.jsonl").write_bytes(b"{}\n" + (folder / "journal.jsonl").read_bytes())
    there = read_results(Workspace(root), folder.parent.name, None)
    (row,) = there.runs.to_dict("records")
    assert json.loads(row["protocol.early"])["logged steps"] == 666
