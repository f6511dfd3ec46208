"""An experiment read back from MLflow is what its journals hold, from a database as from a server.

Against real stores: an SQLite file, and an `mlflow server` in a process of its own.
"""

from __future__ import annotations

import json
import logging
import math
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers.privileges import drop_privileges, open_folder
from helpers.runs import write_experiment
from helpers.servers import mlflow_server
from pandas.testing import assert_frame_equal

import gan_bench
from gan_bench.compare import results as module
from gan_bench.compare.results import Results
from gan_bench.config.declared import Declared, parse_amount
from gan_bench.config.experiment import load_experiment
from gan_bench.config.run_id import settings_digest
from gan_bench.config.spec import ComputeSpec, EvaluateSpec, RunSpec
from gan_bench.data_facts import DataFacts
from gan_bench.errors import UserError
from gan_bench.journal import reading
from gan_bench.journal.about import write_about
from gan_bench.journal.layout import Workspace
from gan_bench.journal.spec_file import read_values
from gan_bench.journal.writing import Journal
from gan_bench.registry import DATASETS, MODELS
from gan_bench.report.study import load_results
from gan_bench.tracking.mirror import Mirror
from gan_bench.tracking.runs.origin import instance_of
from gan_bench.tracking.store.address import mlflow_environment
from gan_bench.tracking.store.client import Store, open_store

FACTS = {"versions": {"torch": "2.15.0", "numerics": 3, "gan_bench": "0.1.0"},
         "device": "cpu", "threads": 1,
         "dataset": {"name": "digits", "fingerprint": "f" * 64, "train": 1438, "test": 359}}
FD, ACC = ({"extractor": "classifier", "weights": "0a1b", "generated": n} for n in (200, 900))
PROTOCOL = {"eval/fd_classifier": FD}
ABOUT = Declared(question="Why?", command="gan-bench run study.yaml", baseline="zeta",
                 paired=True, margin=parse_amount("5%"), variants=("zeta", "alpha", "never"))
CURVE = {2: math.nan, 4: math.inf, 6: -math.inf, 8: 1e-300}
End = tuple[str, str]


@pytest.fixture(autouse=True)
def _no_tracking_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def spec_of(variant: str, seed: int, experiment: str = "study", steps: int = 8) -> RunSpec:
    return RunSpec(
        experiment=experiment, variant=variant, seed=seed, model=MODELS.parse("mlp"),
        dataset=DATASETS.parse("digits"), data=DataFacts((1, 8, 8), 10, 1438, 359, "digest"),
        steps=steps, batch_size=sum(variant.encode()), compute=ComputeSpec(),
        evaluate=EvaluateSpec(metrics=["d_accuracy"]))


def a_run(root: Path, variant: str, seed: int, score: float = 3.5, end: End | None = (
        "FINISHED", ""), experiment: str = "study", steps: int = 8, final: bool = False) -> Path:
    """Write a run's journal as training would, and return its folder."""
    folder = spec_of(variant, seed, experiment, steps).write(root)
    book = Journal(folder)
    book.start(FACTS)
    book.protocol({**PROTOCOL, "final/fd_classifier": ACC, "final/classifier_score": ACC}
                  if final else PROTOCOL)
    for step, value in CURVE.items():
        book.metrics(step, {"train/g_loss": value, "train/d_loss": seed + step / 7})
        book.system(step, {"system/steps_per_s": 1e3})
        time.sleep(0.002)
    book.metrics(4, {"eval/fd_classifier": score + 40})
    if end is None or end[0] in ("FINISHED", "DIVERGED"):
        book.metrics(8, {"eval/fd_classifier": score})
    if final:
        book.metrics(8, {"final/fd_classifier": score / 3, "final/classifier_score": 9.0})
        book.metrics(8, {"again/1/fd_classifier": score / 4})
    if end:
        book.end(*end)
    else:
        book.close()
    return folder


def mirrored(root: Path, *folders: Path, uri: str | None = None) -> Store:
    store = open_store(Workspace(root, tracking_uri=uri))
    mirror = Mirror(store)
    for folder in folders:
        mirror.sync(folder)
    return store


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with a study of all kinds of runs, and its database; another experiment beside it."""
    root = tmp_path_factory.mktemp("results")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        folders = [
            a_run(root, "alpha", 0, 9.0, ("DIVERGED", "a loss was not finite at step 8")),
            a_run(root, "alpha", 1, 5.0, None),
            a_run(root, "alpha", 2, end=("FAILED", "out of memory")),
            a_run(root, "zeta", 2, end=("KILLED", "stopped by the user")),
            a_run(root, "zeta", 11, 7.25, final=True),
            a_run(root, "zeta", 0, math.nan),
            a_run(root, "zeta", 1, 2.5), a_run(root, "zeta", 3, math.inf),
        ]
        write_about(root / "runs" / "study", ABOUT)
        mirrored(root, *folders, a_run(root, "lone", 0, experiment="studies"))
    return root


@pytest.fixture(scope="module")
def server(root: Path) -> Iterator[str]:
    """The address of a real MLflow server on the same database."""
    with mlflow_server(root, f"sqlite:///{root / 'mlflow.db'}") as address:
        yield address


@pytest.fixture(params=["local", "server"])
def found(request: pytest.FixtureRequest, root: Path, tmp_path: Path) -> Results:
    """The study as each kind of store gives it, without a look at the root."""
    uri = (request.getfixturevalue("server") if request.param == "server"
           else f"sqlite:///{root / 'mlflow.db'}")
    return load_results("study", uri, root=tmp_path)


def truth(root: Path) -> tuple[dict[str, list[Any]], dict[tuple[str, str, int], tuple[float, ...]]]:
    """What the journals hold: their records by run, and values by run, metric and step."""
    records = {folder.name: reading.read_records(folder)[0]
               for folder in (root / "runs" / "study").iterdir() if folder.is_dir()}
    return records, {(run, metric, record["step"]): ((record["t"] - book[0]["t"]) / 1000, value)
                     for run, book in records.items() for record in book
                     for metric, value in record.get("values", {}).items()}


def test_a_database_and_a_server_give_the_same(root: Path, server: str) -> None:
    local, remote = load_results("study", root=root), load_results("study", server, root)
    assert_frame_equal(local.runs, remote.runs)
    assert_frame_equal(local.history, remote.history)
    assert (local.declared, local.notes) == (remote.declared, remote.notes)
    assert (local.uri, remote.uri) == (f"sqlite:///{root / 'mlflow.db'}", server)


def test_all_values_are_the_journals(root: Path, found: Results) -> None:
    _, values = truth(root)
    history = found.history
    assert len(history) == len(values) > 60
    for row in history.itertuples():
        seconds, value = values.pop((row.run, row.metric, row.step))
        assert repr(row.value) == repr(value)
        assert row.seconds == pytest.approx(seconds, abs=1e-9)
    assert not values
    assert list(history.columns) == ["run", "variant", "seed", "metric", "step", "seconds", "value"]
    assert [str(kind) for kind in history.dtypes] == [
        "category", "category", "int64", "category", "int64", "float64", "float64"]
    losses = history[(history["metric"] == "train/g_loss")
                     & (history["run"] == found.runs.index[0])]
    assert [repr(v) for v in losses["value"]] == ["nan", "inf", "-inf", "1e-300"]
    assert list(history["run"].unique()) == list(found.runs.index)


def test_each_run_is_told_as_it_stands(root: Path, found: Results) -> None:
    records, _ = truth(root)
    runs = found.runs
    assert runs.index.name == "run"
    assert [*zip(runs["variant"], runs["seed"], runs["status"], strict=True)] == [
        ("zeta", 0, "FINISHED"), ("zeta", 1, "FINISHED"), ("zeta", 2, "KILLED"),
        ("zeta", 3, "FINISHED"), ("zeta", 11, "FINISHED"),
        ("alpha", 0, "DIVERGED"), ("alpha", 1, "RUNNING"), ("alpha", 2, "FAILED")]
    assert list(runs["why"]) == ["", "", "stopped by the user", "", "",
                                 "a loss was not finite at step 8", "", "out of memory"]
    assert [repr(v) for v in runs["score.fd_classifier"]] == [
        "nan", "2.5", "nan", "inf", repr(7.25 / 3), "nan", "nan", "nan"]
    assert [repr(v) for v in runs["score.classifier_score"]] == ["nan"] * 4 + ["9.0"] + ["nan"] * 3
    protocols = [json.loads(text or "null") for text in runs["protocol.fd_classifier"]]
    assert protocols == [FD, FD, None, FD, ACC, None, None, None]
    for run, row in runs.iterrows():
        book = records[str(run)]
        assert row["started"] == pd.Timestamp(book[0]["t"], unit="ms", tz="UTC")
        # What is not in MLflow's history (a protocol, the last word) has a time too.
        last = max(r["t"] for r in book if r["kind"] in ("metrics", "system", "end"))
        assert row["seconds"] == pytest.approx((last - book[0]["t"]) / 1000)
        assert row["version"] == "gan_bench 0.1.0, numerics 3, torch 2.15.0"
        assert (row["step"], row["params.model"], row["params.steps"]) == (8, "mlp", "8")
        assert spec_of(row["variant"], row["seed"]).id == run
    assert runs["mlflow_run"].str.fullmatch("[0-9a-f]{32}").all()
    assert runs["variant"].dtype == pd.CategoricalDtype(["zeta", "alpha"], ordered=True)


def test_what_the_experiment_declares_comes_along(root: Path, found: Results) -> None:
    for read in (found, load_results("study", root=root)):
        assert read.declared == ABOUT
        assert (read.baseline, read.variants, read.notes) == ("zeta", ["zeta", "alpha"], ())
        assert read.scores == ["fd_classifier", "classifier_score"]
    other = Declared(baseline="alpha", variants=("alpha", "zeta"))
    assert load_results("study", root=root, declared=other).variants == ["alpha", "zeta"]


def test_comparisons_see_every_run(found: Results) -> None:
    seen = {(one.variant, one.seed): one for one in found.ended()}
    assert len(seen) == len(found.runs)
    assert math.isnan(seen["zeta", 0].scores["fd_classifier"])  # it finished, and has none
    assert seen["zeta", 1].scores == {"fd_classifier": 2.5}
    assert seen["zeta", 11].scores == {"fd_classifier": 7.25 / 3, "classifier_score": 9.0}
    assert seen["zeta", 11].protocols == {"fd_classifier": ACC, "classifier_score": ACC}
    assert (seen["alpha", 0].status, seen["alpha", 0].scores) == ("DIVERGED", {})
    assert {one.classes for one in seen.values()} == {10}


def test_some_variants_alone(found: Results) -> None:
    part = found.only(["alpha"])
    assert (part.variants, len(part.runs), set(part.history["variant"])) == (
        ["alpha"], 3, {"alpha"})
    turned = found.only(["alpha", "zeta"])
    assert list(turned.runs["variant"].unique()) == ["alpha", "zeta"]
    assert_frame_equal(turned.runs.sort_index(), found.runs.sort_index(),
                       check_categorical=False)
    with pytest.raises(UserError, match=r"no runs of a variant 'zetta'; did you mean 'zeta'"):
        found.only(["zetta"])


def test_the_example_of_the_docstring(root: Path, tmp_path: Path,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    """As written: the experiment's name is its own, and its runs are in ./mlruns."""
    home = tmp_path / "mlruns"
    folders = [a_run(home, variant, seed, 3.0 + seed, experiment="dcgan_vs_mlp")
               for variant in ("a", "b") for seed in (0, 1)]
    mirrored(home, *folders)
    monkeypatch.chdir(tmp_path)
    lines = [line.strip() for line in str(module.__doc__).splitlines() if line[:4] == "    "]
    assert len(lines) == 3
    names: dict[str, Any] = {"gan_bench": gan_bench}
    exec(lines[0], names)
    described, curves = (eval(line, names) for line in lines[1:])
    assert described["mean"].to_dict() == {"a": 3.5, "b": 3.5}
    assert described["count"].to_dict() == {"a": 2, "b": 2}
    assert list(curves.index) == [4, 6, 8]  # NaN is no value to pandas
    assert list(curves.columns) == ["a", "b"]
    assert curves.loc[8].to_dict() == {"a": 1e-300, "b": 1e-300}


# What is left out, and said.

@pytest.fixture
def fresh(tmp_path: Path) -> Store:
    """A study of two variants, two seeds each, in a store of its own."""
    write = [a_run(tmp_path, variant, seed) for variant in ("plain", "other") for seed in (0, 1)]
    write_about(tmp_path / "runs" / "study", Declared(baseline="plain",
                                                      variants=("plain", "other")))
    return mirrored(tmp_path, *write)


def rows(read: Results) -> list[tuple[str, int]]:
    return [(str(v), int(s)) for v, s in zip(read.runs["variant"], read.runs["seed"], strict=True)]


ALL = [("plain", 0), ("plain", 1), ("other", 0), ("other", 1)]


def test_a_run_deleted_in_mlflow_is_gone(fresh: Store, tmp_path: Path) -> None:
    before = load_results("study", root=tmp_path)
    assert rows(before) == ALL
    fresh.client.delete_run(before.runs["mlflow_run"].iloc[1])
    after = load_results("study", root=tmp_path)
    assert rows(after) == [ALL[0], *ALL[2:]]
    assert after.notes == (
        f"1 run of the journals is deleted in MLflow: left out (plain seed 1); `gan-bench sync "
        f"--root {tmp_path} --anew` copies it anew",)
    assert_frame_equal(after.runs, before.runs.drop(before.runs.index[1]))
    assert spec_of("plain", 1).id not in set(after.history["run"])


def test_runs_of_others_are_left_out(fresh: Store, tmp_path: Path) -> None:
    before = load_results("study", root=tmp_path)
    experiment = fresh.client.get_experiment_by_name("study").experiment_id
    tags: list[dict[str, str]] = [{}, {"run_id": "abc", "variant": "plain"},
                                  {"run_id": "abc", "variant": "plain", "seed": "two"}]
    for own in tags:
        run = fresh.client.create_run(experiment, tags=own).info.run_id
        fresh.client.log_metric(run, "eval/fd_classifier", 0.0)
    after = load_results("study", root=tmp_path)
    assert_frame_equal(after.runs, before.runs)
    assert_frame_equal(after.history, before.history)
    assert after.notes == ("left out: 3 runs that gan-bench did not make",)


def test_older_settings_of_a_variant_are_never_mixed_with_the_newer(fresh: Store, tmp_path: Path,
                                                                    ) -> None:
    time.sleep(0.002)
    mirrored(tmp_path, a_run(tmp_path, "plain", 0, 1.5, steps=9))
    read = load_results("study", root=tmp_path)
    assert rows(read) == [("plain", 0), *ALL[2:]]
    assert list(read.runs["params.steps"]) == ["9", "8", "8"]
    assert read.runs["score.fd_classifier"].iloc[0] == 1.5
    assert set(read.history["run"]) == set(read.runs.index)
    assert read.notes == ("left out: 2 runs under other settings of a variant",)


def test_settings_that_came_back_are_those_that_count(fresh: Store, tmp_path: Path) -> None:
    """Their runs are older than those of what was tried in between, and are not trained again."""
    time.sleep(0.002)
    mirrored(tmp_path, a_run(tmp_path, "plain", 0, 1.5, steps=9))
    now = {name: spec_of(name, 0).settings for name in ("plain", "other")}
    write_about(tmp_path / "runs" / "study", Declared(baseline="plain", settings=now))
    read = load_results("study", root=tmp_path)
    assert rows(read) == [*ALL[2:], *ALL[:2]]  # it is not known in which order
    assert list(read.runs["params.steps"]) == ["8"] * 4
    assert read.notes == ("left out: 1 run under other settings of a variant",)
    never = {"plain": spec_of("plain", 0, steps=10).settings}
    write_about(tmp_path / "runs" / "study", Declared(baseline="other", settings=never))
    assert rows(load_results("study", root=tmp_path)) == ALL[2:]


def test_what_an_experiment_declares_has_the_settings_of_its_runs(tmp_path: Path) -> None:
    experiment = load_experiment(write_experiment(tmp_path), tmp_path)
    tags = {run.variant: settings_digest(read_values(run.write(tmp_path)))
            for run in experiment.runs}
    assert experiment.declared.settings == tags
    assert len(set(tags.values())) == 2


def test_variants_gone_from_the_file_are_left_out(fresh: Store, tmp_path: Path) -> None:
    write_about(tmp_path / "runs" / "study", Declared(baseline="other",
                                                      variants=("other", "new")))
    read = load_results("study", root=tmp_path)
    assert (rows(read), read.variants, read.baseline) == (ALL[2:], ["other"], "other")
    assert read.notes == ("left out: 2 runs of variants that the experiment no longer "
                          "has",)


def test_declared_runs_that_are_not_in_mlflow_are_named(fresh: Store, tmp_path: Path) -> None:
    declared = Declared(baseline="plain", variants=("plain", "other", "never"), seeds=(1, 2))
    write_about(tmp_path / "runs" / "study", declared)
    read = load_results("study", root=tmp_path)
    assert rows(read) == [("plain", 1), ("other", 1)]
    assert read.notes == ("left out: 2 runs of seeds that the experiment does not list (0)",
                          "4 of 6 declared runs are not in MLflow: plain seed 2; other seed 2; "
                          "never seeds 1, 2",)
    # A file that the caller names counts before what the last run has declared.
    whole = declared.with_changes(variants=("plain", "other"), seeds=(0, 1))
    assert load_results("study", root=tmp_path, declared=whole).notes == ()
    many = declared.with_changes(variants=(*(f"v{n}" for n in range(12)), "plain"),
                                 seeds=tuple(range(15)))
    (note,) = [note for note in load_results("study", root=tmp_path, declared=many).notes
               if "declared runs" in note]
    assert note.startswith("193 of 195 declared runs are not in MLflow: v0 seeds 0, 1, 2, 3, 4, 5, "
                           "6, 7, 8, 9, and 5 more; v1 seeds")
    assert note.endswith("v9 seeds 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, and 5 more; and 3 more")


def test_a_baseline_without_runs_is_said(fresh: Store, tmp_path: Path) -> None:
    write_about(tmp_path / "runs" / "study", Declared(baseline="new",
                                                      variants=("new", "other", "plain")))
    read = load_results("study", root=tmp_path)
    assert (read.baseline, read.variants) == ("other", ["other", "plain"])
    assert read.notes == ("the baseline new has no runs yet: compared with other",)
    assert read.declared.variants == ("new", "other", "plain")


@pytest.mark.parametrize("again", [None, ("FAILED", "no memory"), ("FINISHED", "")])
def test_the_same_run_from_two_roots_counts_once(fresh: Store, tmp_path: Path, again: End | None,
                                                 ) -> None:
    """The one that ended well counts; of two such, the reader's own. Never a part of each."""
    first = load_results("study", root=tmp_path).runs["mlflow_run"].iloc[0]
    time.sleep(0.002)
    second = tmp_path / "second"
    mirrored(second, a_run(second, "plain", 0, 1.25, again), uri=fresh.uri)
    read = load_results("study", root=tmp_path)
    assert rows(read) == ALL
    assert read.notes == ("left out: 1 run that the store holds twice",)
    assert (read.runs["mlflow_run"].iloc[0], read.runs["status"].iloc[0]) == (first, "FINISHED")
    losses = read.history[(read.history["run"] == read.runs.index[0])
                          & (read.history["metric"] == "eval/fd_classifier")]
    assert list(losses["value"]) == [43.5, 3.5]
    for root in (second, tmp_path / "elsewhere"):  # of which nobody's runs are: the newer counts
        theirs = load_results("study", fresh.uri, root)
        is_newer = again == ("FINISHED", "")
        assert (theirs.runs["mlflow_run"].loc[read.runs.index[0]] == first) is not is_newer


def test_runs_of_other_roots_count_with_a_note(fresh: Store, tmp_path: Path) -> None:
    """Seeds that this root has not; a reader who has no root in the store needs no note."""
    second = tmp_path / "second"
    mirrored(second, a_run(second, "plain", 5, 1.25), a_run(second, "plain", 6, 1.5), uri=fresh.uri)
    read = load_results("study", root=tmp_path)
    assert len(read.runs) == len(ALL) + 2
    assert read.notes == (f"counted too: 2 runs of another root that shares the store (id "
                          f"{instance_of(second)[:8]}); the table of `gan-bench run` counts this "
                          f"root's alone",)
    theirs = load_results("study", fresh.uri, second)
    assert theirs.notes == (f"counted too: {len(ALL)} runs of another root that shares the store "
                            f"(id {instance_of(tmp_path)[:8]}); the table of `gan-bench run` "
                            f"counts this root's alone",)
    assert load_results("study", fresh.uri, tmp_path / "elsewhere").notes == ()


def test_of_two_equal_runs_the_roots_own_counts(fresh: Store, tmp_path: Path) -> None:
    """Whichever is the newer, and although both have a result."""
    second = tmp_path / "second"
    own = a_run(second, "plain", 0, 1.25)
    mirrored(second, own, uri=fresh.uri)
    (tmp_path / "runs" / "study" / own.name / "mirror.json").unlink()
    time.sleep(0.002)
    mirrored(tmp_path, a_run(tmp_path, "plain", 0, 2.25))
    scores = {root: load_results("study", fresh.uri, root).runs["score.fd_classifier"].loc[own.name]
              for root in (second, tmp_path, tmp_path / "elsewhere")}
    assert scores == {second: 1.25, tmp_path: 2.25, tmp_path / "elsewhere": 2.25}


def test_a_run_that_goes_on_is_running_again(tmp_path: Path) -> None:
    folder = a_run(tmp_path, "plain", 0, end=("KILLED", "stopped by the user"))
    mirrored(tmp_path, folder)
    assert load_results("study", root=tmp_path).runs["status"].tolist() == ["KILLED"]
    book = Journal(folder)
    book.resume(8, "", {}, void=False)
    time.sleep(0.02)
    book.metrics(9, {"train/d_loss": 0.5})
    book.close()
    mirrored(tmp_path, folder)
    [row] = load_results("study", root=tmp_path).runs.to_dict("records")
    assert (row["status"], row["why"], row["step"]) == ("RUNNING", "", 9)
    records, _ = reading.read_records(folder)
    assert row["seconds"] == pytest.approx((records[-1]["t"] - records[0]["t"]) / 1000)


def test_no_run_has_begun_to_measure(tmp_path: Path) -> None:
    folder = spec_of("plain", 0).write(tmp_path)
    book = Journal(folder)
    book.start(FACTS)
    book.close()
    mirrored(tmp_path, folder)
    read = load_results("study", root=tmp_path)
    assert (rows(read), read.scores, len(read.history)) == ([("plain", 0)], [], 0)
    assert (read.runs["step"].iloc[0], read.runs["seconds"].iloc[0]) == (0, 0.0)
    assert [one.scores for one in read.ended()] == [{}]


# What cannot be read is one line.

def one_line(read: Callable[[], object]) -> str:
    with pytest.raises(UserError) as caught:
        read()
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize("kind", ["local", "server"])
def test_a_wrong_name_is_answered_with_the_nearest(
        root: Path, kind: str, request: pytest.FixtureRequest) -> None:
    uri = request.getfixturevalue("server") if kind == "server" else None
    assert one_line(lambda: load_results("stody", uri, root)) == (
        "there is no experiment 'stody' in MLflow; did you mean 'study' or 'studies'?")
    assert one_line(lambda: load_results("Default", uri, root)).startswith(
        "there is no experiment 'Default' in MLflow; ")


def test_nothing_to_read(tmp_path: Path) -> None:
    assert one_line(lambda: load_results("study", root=tmp_path)) == (
        f"there is no {tmp_path / 'mlflow.db'} yet: run an experiment first, or give --root or "
        f"--tracking-uri")
    assert list(tmp_path.iterdir()) == []
    store = open_store(Workspace(tmp_path))
    assert one_line(lambda: load_results("study", root=tmp_path)) == (
        "there is no experiment 'study' in MLflow; MLflow holds no experiments")
    store.client.create_run(store.client.create_experiment("study"))
    assert one_line(lambda: load_results("study", root=tmp_path)) == (
        "study has no runs yet (left out: 1 run that gan-bench did not make); train some first: "
        "gan-bench run")
    store.client.delete_experiment(store.client.get_experiment_by_name("study").experiment_id)
    assert "was deleted in MLflow" in one_line(lambda: load_results("study", root=tmp_path))
    assert "MLflow holds no experiments" in one_line(lambda: load_results("study2", root=tmp_path))


@pytest.mark.parametrize("there", [True, False])
def test_reading_leaves_the_process_as_it_was(
        fresh: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Before and after: the environment and MLflow's log, whether it succeeds or not."""
    for name in mlflow_environment():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    monkeypatch.setenv("DO_NOT_TRACK", "0")
    log = logging.getLogger("mlflow")
    level, before = log.level, dict(os.environ)
    log.setLevel(logging.INFO)
    try:
        if there:
            assert len(load_results("study", root=tmp_path).runs) == 4
        else:
            assert "MLflow at http://127.0.0.1:9" in one_line(
                lambda: load_results("study", "http://127.0.0.1:9", tmp_path))
        assert dict(os.environ) == before
        assert log.level == logging.INFO
    finally:
        log.setLevel(level)


def test_a_server_that_is_down_is_one_line(tmp_path: Path) -> None:
    script = ("import sys\nfrom gan_bench import UserError, load_results\n"
              "try: load_results('study', 'http://me:secret@127.0.0.1:9')\n"
              "except UserError as error: print(error, file=sys.stderr)")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True,
                          cwd=tmp_path, timeout=120,
                          env={**os.environ, "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0"})
    assert (done.stdout, done.returncode) == ("", 0)
    assert done.stderr == ("cannot read MLflow at http://me:***@127.0.0.1:9: "
                           "Connection refused\n")


@pytest.mark.parametrize(("version", "message"), [
    ("ffffffffffff", "is from a newer MLflow (schema ffffffffffff, here "),
    ("451aebb31d03", "is from an older MLflow (schema 451aebb31d03, here ")])
def test_a_database_of_another_mlflow_is_refused_and_left_alone(
        fresh: Store, tmp_path: Path, version: str, message: str) -> None:
    database = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update alembic_version set version_num = ?", [version])
    before = dump(database)
    assert f"{database} {message}" in one_line(lambda: load_results("study", root=tmp_path))
    assert dump(database) == before


def dump(database: Path) -> list[str]:
    with closing(sqlite3.connect(database)) as connection:
        return list(connection.iterdump())


def test_reading_changes_nothing(fresh: Store, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
        connection.execute("pragma wal_checkpoint(truncate)")
    before = (tmp_path / "mlflow.db").read_bytes()
    load_results("study", root=tmp_path)
    assert (tmp_path / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize(("content", "message"), [
    (b"no database, but text", "file is not a database"), (b"", "no such table"), (None, "Error")])
def test_what_is_no_database_of_mlflow(tmp_path: Path, content: bytes | None, message: str,
                                       ) -> None:
    database = tmp_path / "mlflow.db"
    database.mkdir() if content is None else database.write_bytes(content)
    line = one_line(lambda: load_results("study", root=tmp_path))
    assert line.startswith(f"cannot read MLflow at sqlite:///{database}: ")
    assert message in line


@pytest.mark.parametrize("name", ["a?b", "50% off", "%41", "a#b", "with space", "ümlaut", "a&b=c",
                                  "'quoted'", ":memory:"])
def test_a_database_may_lie_anywhere(root: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    database = folder / f"{name}.db"
    with (closing(sqlite3.connect(root / "mlflow.db")) as source,
          closing(sqlite3.connect(database)) as target):
        source.backup(target)
    read = load_results("study", f"sqlite:///{database}", root=tmp_path)
    assert_frame_equal(read.runs, load_results("study", root=root).runs)
    assert {path.name for path in tmp_path.iterdir()} == {name}


@pytest.fixture
def plain_user(root: Path) -> Iterator[Path]:
    """A copy of the database in a folder open to all, and no root's privileges to write there."""
    with open_folder() as folder:
        with (closing(sqlite3.connect(root / "mlflow.db")) as source,
              closing(sqlite3.connect(folder / "mlflow.db")) as target):
            source.backup(target)
            target.execute("pragma journal_mode = wal")
        load_results("study", root=root)  # import what only root may read
        yield folder


def test_a_database_that_cannot_be_written(root: Path, plain_user: Path) -> None:
    (plain_user / "mlflow.db").chmod(0o444)
    plain_user.chmod(0o777)
    drop_privileges()
    read = load_results("study", root=plain_user)
    assert list(read.runs["seed"]) == [0, 1, 2, 3, 11, 0, 1, 2]


def test_a_folder_that_cannot_be_written(root: Path, plain_user: Path) -> None:
    plain_user.chmod(0o555)
    drop_privileges()
    read = load_results("study", root=plain_user)
    assert list(read.runs["seed"]) == [0, 1, 2, 3, 11, 0, 1, 2]
    assert [path.name for path in plain_user.iterdir()] == ["mlflow.db"]


def test_what_is_not_in_the_file_yet_is_not_left_out(root: Path, plain_user: Path) -> None:
    """A log that cannot be read beside its database holds what would be missing."""
    (plain_user / "mlflow.db-wal").write_bytes(b"some")
    plain_user.chmod(0o555)
    drop_privileges()
    line = one_line(lambda: load_results("study", root=plain_user))
    assert line.startswith(f"{plain_user / 'mlflow.db'}: cannot be read in a folder that cannot be "
                           f"written to, as mlflow.db-wal holds newer data; copy both ")


@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_database_that_cannot_be_read(root: Path, plain_user: Path, what: str) -> None:
    (plain_user / "mlflow.db" if what == "file" else plain_user).chmod(0)
    drop_privileges()
    line = one_line(lambda: load_results("study", root=plain_user))
    assert line.startswith(f"cannot read MLflow at sqlite:///{plain_user / 'mlflow.db'}: ")


def test_runs_go_by_their_settings_where_names_have_changed(tmp_path: Path) -> None:
    """Two variants have swapped their names; of a third, an older name is in the store."""
    folders = [a_run(tmp_path, variant, seed) for variant in ("alpha", "zeta", "old")
               for seed in (0, 1)]
    mirrored(tmp_path, *folders)
    alpha, zeta, old = (spec_of(variant, 0).settings for variant in ("alpha", "zeta", "old"))
    declared = Declared(baseline="zeta", variants=("zeta", "alpha", "new"),
                        settings={"zeta": alpha, "alpha": zeta, "new": old})
    got = load_results("study", root=tmp_path, declared=declared)
    sizes = got.runs.groupby("variant", observed=True)["params.batch_size"].unique()
    assert {variant: [*map(int, size)] for variant, size in sizes.items()} == {
        "zeta": [sum(b"alpha")], "alpha": [sum(b"zeta")], "new": [sum(b"old")]}
    assert set(got.history["variant"]) == {"zeta", "alpha", "new"}
    assert sorted(got.notes) == [
        "2 runs of alpha count as zeta, the present name of their settings",
        "2 runs of old count as new, the present name of their settings",
        "2 runs of zeta count as alpha, the present name of their settings"]
    same = load_results("study", root=tmp_path, declared=declared.with_changes(
        variants=("zeta", "alpha", "old"), settings={"zeta": zeta, "alpha": alpha, "old": old}))
    assert same.notes == ()


def test_a_margin_that_is_none_is_one_line(fresh: Store, tmp_path: Path) -> None:
    (tmp_path / "runs" / "study" / "about.json").write_text(
        '{"baseline": "plain", "margin": "a lot"}')
    assert one_line(lambda: load_results("study", root=tmp_path)).startswith(
        "the stored declaration of study has an invalid margin or mean (margin: an amount is a "
        "number above 0")


def test_empty_columns_are_text_and_numbers(found: Results) -> None:
    for column in found.runs:
        if column.startswith(("params.", "protocol.", "metric.", "measured_by.")):
            assert found.runs[column].map(type).eq(str).all()
        if column.startswith("score."):
            assert found.runs[column].dtype == np.float64
