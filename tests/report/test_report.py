"""From real runs in MLflow to a report's files, and everything that can be wrong with them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
from helpers.browser import gan_bench_ui
from helpers.commands import forked
from helpers.studies import edited, ended, here, of_run, write_study

from gan_bench import load_results
from gan_bench.cli.results.report import Asked, _names, make_report
from gan_bench.compare.combine import combine
from gan_bench.compare.findings import findings
from gan_bench.compare.training_curves import TrainingCurve, summarise_curves
from gan_bench.errors import UserError
from gan_bench.hardware import usable_cores
from gan_bench.journal.drift import NUMERICS
from gan_bench.journal.layout import Workspace
from gan_bench.journal.lock import locked
from gan_bench.report.exports import as_latex, as_markdown, latex
from gan_bench.report.samples import BUDGET, MAX_PICTURES, Pictures, _few, page_pictures
from gan_bench.report.write import UNFINISHED, Written

ALL = [".report.json", "history.parquet", "pairs.csv", "report.html", "summary.csv",
       "table-narrow.md", "table-narrow.tex", "table-wide.md", "table-wide.tex", "table.md",
       "table.tex"]
UNKNOWN = "delete from experiment_tags"  # so that nothing but the runs says what variants there are


@pytest.fixture(autouse=True)
def _no_warning() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield


def report(root: Path, out: Path, *names: str, uri: str | None = None, **asked: Any) -> Written:
    asked = {"formats": "csv", **asked}
    return make_report(Asked(names or ("losses",), out=out, **asked), Workspace(root, root, uri),
                       "command",                        lambda line: None)


def summary(out: Path, score: str = "fd_random") -> pd.DataFrame:
    frame = pd.read_csv(out / "summary.csv", keep_default_na=False, na_values=[""])
    return frame[frame["score"] == score].set_index("variant")


def refused(*words: str) -> Any:
    return pytest.raises(UserError, match=".*".join(map(re.escape, words)))


@pytest.fixture(scope="module")
def whole(studies: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a whole report, as the command line writes it."""
    folder = tmp_path_factory.mktemp("whole")
    out = folder / "deep" / "er"
    done = forked("report", "losses", "--root", studies, "--out", out, "--open",
                  env={"BROWSER": f"sh -c 'echo %s > {folder}/opened'"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    first, verdict, note, *more, page = done.stdout.splitlines()
    assert note.startswith("  p: of no difference from ")
    assert more == (["  p of an equivalent variant: of a difference beyond the margin, the "
                     "larger of two one-sided tests"]
                    if "equivalent" in (out / "table.md").read_text().partition("\n###")[0] else [])
    assert first == "fd_random (lower is better)"
    assert verdict.startswith("  sat ")
    assert " plain " in verdict
    assert page == str(out / "report.html")
    return out


def test_all_files_are_there_and_nothing_else(whole: Path) -> None:
    assert sorted(file.name for file in whole.iterdir() if file.is_file()) == ALL
    drawn = {file.name for file in (whole / "figures").iterdir()}
    scores = ("fd_random", "classes_covered", "d_accuracy_real", "d_accuracy_fake")
    assert {f"{score}-{what}.svg" for score in scores for what in ("seeds", "curves")} <= drawn
    for name in ("fd_random-pairs", "dynamics", "samples", "samples-plain", "samples-sat"):
        assert {f"{name}.{kind}" for kind in ("svg", "png", "pdf")} <= drawn
    assert "d_accuracy_real-pairs.svg" not in drawn  # no direction of it is better
    assert (whole / "report.html").stat().st_size < 2e6


def test_the_tables_are_those_of_the_runs(studies: Path, whole: Path) -> None:
    results = load_results("losses", root=studies)
    scores = results.runs.groupby("variant", observed=True)["score.fd_random"]
    table = summary(whole)
    for name, numbers in (("mean", scores.mean()), ("sd", scores.std()), ("median",
                          scores.median()), ("best", scores.min()), ("worst", scores.max())):
        np.testing.assert_allclose(table[name], numbers, rtol=1e-9)
    assert (table["n"] == 3).all()
    assert (table["diverged"] == 0).all()
    assert table["collapsed"].notna().all()
    gap = scores.mean()["sat"] - scores.mean()["plain"]
    assert table.loc["sat", "difference"] == pytest.approx(gap, rel=1e-9)
    assert pd.isna(table.loc["plain", "difference"])
    assert (table[["sd_latents", "sd_seeds"]] >= 0).all(axis=None)
    assert summary(whole, "d_accuracy_real")["best"].isna().all()
    pairs = pd.read_csv(whole / "pairs.csv")
    assert pairs.loc[pairs["score"] == "fd_random", ["variant", "against"]].values.tolist() == [
        ["sat", "plain"]]
    history = pd.read_parquet(whole / "history.parquet")
    pd.testing.assert_frame_equal(history, results.history, check_categorical=False)


def test_best_checkpoint_and_area_are_beside_the_final_score(studies: Path, whole: Path) -> None:
    history = load_results("losses", root=studies).history
    curve = history[history["metric"] == "eval/fd_random"].groupby(["variant", "run"],
                                                                   observed=True)["value"]
    table = summary(whole)
    best = curve.min().groupby("variant", observed=True).mean()
    area = curve.mean().groupby("variant", observed=True).mean()  # of two points, as it happens
    np.testing.assert_allclose(table["best_checkpoint"], best, rtol=1e-9)
    np.testing.assert_allclose(table["area_under_curve"], area, rtol=1e-9)


def curve(values: list[float], status: str = "FINISHED", variant: str = "a", seed: int = 0,
          ) -> TrainingCurve:
    steps = np.arange(1.0, len(values) + 1) * 10
    return TrainingCurve(variant, seed, status, steps, steps / 2, np.array(values))


def test_courses_in_closed_form() -> None:
    runs = [curve([5, 1, 3]), curve([9, 3, 5], seed=1), curve([9], "DIVERGED", seed=2),
            curve([8, 6, 4], variant="b"), curve([8, 4], "KILLED", variant="b", seed=1)]
    a, b = summarise_curves(runs, "lower", "a").values()
    assert (a.best.value, a.area.value) == (2.0, (2.5 + 5) / 2)  # trapezia: 2.5 and 5
    assert a.best.note == "over the 2 of 3 runs that did not diverge"
    assert a.threshold == 4.0  # of the last ones, 3 and 5
    assert a.steps is not None
    assert b.steps is not None
    assert (a.steps.n, a.steps.reached, b.steps.n, b.steps.reached) == (3, 2, 1, 1)
    assert (a.steps.median.value, b.steps.median.value) == (20.0, 30.0)
    assert a.steps.mean == 20 + 10 / 3  # the one that diverged is not there at 30 either
    assert b.seconds is not None
    assert b.seconds.median.value == 15.0
    # The quickest never gets there: that does not make the one that does look like half of them.
    quick = replace(curve([9, 8, 7], seed=1), seconds=np.array([1.0, 2.0, 3.0]))
    curves = [curve([5, 1, 3]), quick, curve([9, 9, 9], seed=2)]
    (half,) = summarise_curves(curves, "lower", "a").values()
    assert half.seconds is not None
    assert half.steps is not None
    assert (half.seconds.reached, half.steps.reached) == (1, 1)
    assert np.isnan([half.seconds.median.value, half.steps.median.value]).all()
    assert summarise_curves(runs, None, "a")["a"].steps is None
    assert summarise_curves(runs, "higher", "a")["b"].best.value == 8.0


def test_tables_for_papers(whole: Path) -> None:
    tex, md = (whole / "table.tex").read_text(), (whole / "table.md").read_text()
    assert tex.count(r"\toprule") == tex.count(r"\end{table}") == 4
    rows = [line for line in tex.splitlines() if line.startswith("  sat &")]
    assert len(rows) == 4
    assert all(line.count("&") == 7 and line.endswith(r"\\") for line in rows)
    assert r"fd\_random" in tex
    lines = [line for line in md.splitlines() if line.startswith("| sat")]
    assert len(lines) == 4
    assert all(line.count("|") == 9 for line in lines)


def test_figures_for_a_column_beside_a_page_with_its_own(studies: Path, tmp_path: Path) -> None:
    done = here("report", "losses", "--root", studies, "--out", tmp_path, "--width", "3.25",
                "--font", "serif", "--no-titles", "--spread", "interval", "--format",
                "html,figures,tex")
    assert done.returncode == 0, done.stderr
    pdf = (tmp_path / "figures" / "fd_random-seeds.pdf").read_bytes()
    assert re.search(rb"/MediaBox \[ ?0 0 234 ", pdf)
    captions = (tmp_path / "figures" / "captions.md").read_text()
    assert "## fd_random-curves\n\nfd_random during training · losses\nThick: " in captions
    page = (tmp_path / "report.html").read_text()
    assert "--width: 768px" in page  # 8 inches, as ever
    assert "--width 3.25 --font serif --no-titles --spread interval" in page
    assert r"95\% t-interval" in (tmp_path / "table-wide.tex").read_text()


def test_labels_stand_on_the_page_and_in_the_tables_and_names_in_the_csv(
        studies: Path, tmp_path: Path) -> None:
    file = write_study(tmp_path, "losses", "{plain: {}, sat: {loss: saturating}}", sets=3)
    file.write_text(file.read_text() + "labels: {sat: 'Saturating (ours)', fd_random: FD}\n")
    done = report(studies, tmp_path / "out", str(file), formats="html,csv,tex,md,figures,parquet")
    out = tmp_path / "out"
    assert done.lines[0] == "FD (lower is better)"
    assert "Saturating (ours)" in done.lines[1]
    page = (out / "report.html").read_text().split("<main>")[1]
    assert page.count("Saturating (ours)") > 10
    assert "By FD, which decides" in page
    for name in ("table.md", "table-wide.md", "table-wide.tex", "table-narrow.tex", "table.tex"):
        text = (out / name).read_text()
        assert "Saturating (ours)" in text
        assert "fd\\_random" not in text
    assert list(summary(out).index) == ["plain", "sat"]
    assert summary(out)["label"].tolist() == ["plain", "Saturating (ours)"]
    pairs = pd.read_csv(out / "pairs.csv")
    names = pairs[["variant", "label", "against", "against_label"]].drop_duplicates()
    assert names.values.tolist() == [["sat", "Saturating (ours)", "plain", "plain"]]
    assert set(pd.read_parquet(out / "history.parquet")["variant"]) == {"plain", "sat"}
    assert (out / "figures" / "samples-sat.svg").exists()
    assert "Saturating (ours)" in (out / "figures" / "fd_random-seeds.svg").read_text()


def test_what_latex_and_markdown_would_take_for_commands(studies: Path, tmp_path: Path) -> None:
    name = r"a_b & 50% $x$ #1 {y} ~ ^ \input{z} | <b>"
    uri = edited(studies, tmp_path, [
        f"update tags set value = '{name}' where key = 'variant' and value = 'sat'",
        UNKNOWN])
    found = findings(load_results("losses", uri, tmp_path))
    tex, md = as_latex(found), as_markdown(found)
    assert (r"a\_b \& 50\% \$x\$ \#1 \{y\} \textasciitilde{} \textasciicircum{} "
            r"\textbackslash{}input\{z\} | <b>") in tex
    row = next(line for line in md.splitlines() if line.startswith("| a"))
    assert r"\| &lt;b&gt; |" in row
    assert r"a\_b &amp; 50% $x$ \#1" in row
    assert latex("two\nlines") == "two lines"


def test_what_terminals_and_spreadsheets_would_take_for_commands(studies: Path, tmp_path: Path,
                                                                 ) -> None:
    name = "=cmd|\x1b[2J\x1b]0;x\x07"
    uri = edited(studies, tmp_path, [
        f"update tags set value = '{name}' where key = 'variant' and value = 'sat'",
        UNKNOWN])
    done = here("report", "losses", "--root", tmp_path / "root", "--tracking-uri", uri, "--out",
                tmp_path / "out", "--format", "csv,md,tex")
    assert done.returncode == 0, done.stderr
    assert "=cmd|\\x1b[2J" in done.stdout
    assert done.stdout.replace("\n", "").isprintable()
    for file in ("summary.csv", "pairs.csv"):
        text = (tmp_path / "out" / file).read_text()
        assert text.replace("\n", "").isprintable()
        frame = pd.read_csv(tmp_path / "out" / file)
        names = set(frame["variant"]) | set(frame.get("against", []))
        assert names == {"plain", "'=cmd|\\x1b[2J\\x1b]0;x\\x07"}
        texts = frame.select_dtypes(exclude="number").stack().astype(str)
        assert not texts.str.match(r"[=+@\t\r-]").any()


def test_a_report_is_the_same_again_and_opens(studies: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    done = here("report", "losses", "--root", studies, "--out", out)
    assert done.returncode == 0, done.stderr
    opened = whole.parents[1] / "opened"
    assert opened.read_text().strip() == (whole / "report.html").as_uri()
    for file in whole.rglob("*"):
        if file.is_file():
            assert (out / file.relative_to(whole)).read_bytes() == file.read_bytes(), file.name


def test_metric_baseline_and_variants(studies: Path, tmp_path: Path) -> None:
    done = report(studies, tmp_path, baseline="sat", metric="classes_covered")
    assert done.lines[0] == "classes_covered (higher is better)"
    table = summary(tmp_path)
    assert (table["baseline"] == "sat").all()
    assert pd.isna(table.loc["sat", "difference"])
    done = report(studies, tmp_path, variants="sat")
    assert list(summary(tmp_path).index) == ["sat"]
    with refused("no finished run of losses has a score 'fd_randon'", "fd_random"):
        report(studies, tmp_path, metric="fd_randon")
    with refused("--baseline", "'plian'", "plain"):
        report(studies, tmp_path, baseline="plian")
    with refused("no runs of a variant 'plian'", "plain"):
        report(studies, tmp_path, variants="sat,plian")
    with refused("--baseline: plain is not among --variants"):
        report(studies, tmp_path, variants="sat", baseline="plain")
    with refused("--format", "'htm'", "html"):
        report(studies, tmp_path, formats="htm")


def test_names_with_commas_in_them() -> None:
    known = ["a", "betas=[0.5, 0.9]", "b"]
    assert _names("a,betas=[0.5, 0.9],b", known) == known
    assert _names("b, a", known) == ["b", "a"]
    assert _names("a,zzz", known) == ["a", "zzz"]
    assert _names(None, known) == []


def test_an_experiment_by_its_file(studies: Path, tmp_path: Path) -> None:
    file = write_study(tmp_path, "losses", "{plain: {}, sat: {loss: saturating}}", sets=3)
    file.write_text(file.read_text() + "baseline: sat\n")
    report(studies, tmp_path / "out", str(file))
    assert (summary(tmp_path / "out")["baseline"] == "sat").all()
    with refused("--set"):
        report(studies, tmp_path / "out", settings=["seeds=[0]"])


@pytest.mark.parametrize(("arguments", "words"), [
    (["lossen"], ["no experiment 'lossen'", "losses"]),
    (["losses", "losses"], ["named twice"]),
    (["no.yaml"], ["no such file"]),
    (["losses", "--tracking-uri", "http://127.0.0.1:9"], ["cannot read MLflow", "127.0.0.1:9"]),
])
def test_one_clear_line(studies: Path, tmp_path: Path, arguments: list[str],
                        words: list[str]) -> None:
    done = here("report", *arguments, "--root", studies, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ") or "no.yaml" in words[0] + arguments[0]
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "out").exists()


def test_no_finished_run(studies: Path, tmp_path: Path) -> None:
    uri = edited(studies, tmp_path, [
        "update tags set value = 'RUNNING' where key = 'status'"])
    command = f"gan-bench sync --root {studies} --to {uri}"
    with refused(f"MLflow shows no finished run of losses yet; {studies} has 6 finished runs that "
                 f"it lacks, and `{command}` copies them"):
        report(studies, tmp_path / "out", uri=uri)
    with refused("losses has no finished run yet (6 RUNNING); wait for one, or continue: gan-ben"):
        report(tmp_path, tmp_path / "out", uri=uri)


def test_all_runs_diverged(studies: Path, tmp_path: Path) -> None:
    uri = edited(studies, tmp_path, [
        "update tags set value = 'DIVERGED' where key = 'status'"])
    done = report(studies, tmp_path / "out", uri=uri, formats="html,csv,tex,md,parquet,figures")
    assert "6 of 6 runs diverged; they count, and rank last" in done.lines
    assert "every run diverged: there is no score to compare" in done.lines
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Every run diverged: there is no score to compare." in page
    assert page.count("<td>DIVERGED</td>") == 12  # those that failed, and all of them


def test_runs_without_a_metric_have_not_diverged(tmp_path: Path) -> None:
    file = write_study(tmp_path, "bare", "{plain: {}, sat: {loss: saturating}}")
    short = ["--set", "evaluate={metrics: []}", "--set", "base.steps=2", "--set", "seeds=[0]",
             "--set", "base.sample_every=2"]
    assert here("run", file, "--root", tmp_path / "root", *short).returncode == 0
    done = here("report", "bare", "--root", tmp_path / "root", "--format", "html,csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert "no score was measured: name metrics in evaluate.metrics, or add" in done.stdout
    page = (tmp_path / "root" / "reports" / "bare" / "report.html").read_text()
    assert "<p>No score was measured: name metrics in evaluate.metrics, or add" in page
    assert "diverged: there" not in done.stdout + page


def test_diverged_failed_and_nan_are_counted_apart(studies: Path, tmp_path: Path) -> None:
    uri = edited(studies, tmp_path, [
        *ended("sat", 0, "DIVERGED", "d_loss is NaN at step 7"),
        *ended("sat", 1, "FAILED", "out of memory"),
        f"update metrics set is_nan = 1, value = 0 where key = 'eval/fd_random' and step = 20 and "
        f"run_uuid = {of_run('plain', 2)}"])
    done = report(studies, tmp_path / "out", uri=uri, formats="html,csv")
    table = summary(tmp_path / "out")
    assert table[["n", "diverged", "no_result"]].values.tolist() == [[3, 1, 0], [2, 1, 1]]
    assert table["worst"].tolist() == [np.inf, np.inf]
    assert (table["mean"] < 1e6).all()
    assert table.loc["sat", "verdict"] == "inconclusive"
    first = "\n".join(done.lines)
    assert "1 of 6 runs have no result: 1 FAILED" in first
    assert "1 of 6 runs diverged" in first
    page = (tmp_path / "out" / "report.html").read_text()
    for words in ("d_loss is NaN at step 7", "out of memory"):
        assert f">{words}</td>" in page


def test_scores_and_losses_too_large_to_compare_are_said_and_give_no_warning(
        studies: Path, tmp_path: Path) -> None:
    uri = edited(studies, tmp_path, [
        f"update metrics set value = {value} where key like '%{key}' and run_uuid = "
        f"{of_run(variant, seed)}"
        for key in ("fd_random", "train/g_loss") for variant, seed, value in (
            ("sat", 0, 1.5e308), ("sat", 1, -1.2e308), ("sat", 2, 1e120), ("plain", 1, 1e200))])
    done = report(studies, tmp_path / "out", uri=uri, formats="html,csv,tex,md,parquet,figures")
    assert summary(tmp_path / "out")[["n", "diverged"]].values.tolist() == [[3, 1], [3, 3]]
    assert ("sat seed 0 finished with scores that are not finite, or too large to compare "
            "(fd_random): for these it counts as diverged") in done.lines
    assert not any(line.startswith("plain seed 0 finished") for line in done.lines)
    assert np.isfinite(summary(tmp_path / "out").loc["plain", "mean_high"])
    history = pd.read_parquet(tmp_path / "out" / "history.parquet")["value"]
    assert history.max() == 1.5e308  # as measured


def test_one_seed(studies: Path, tmp_path: Path) -> None:
    uri = edited(studies, tmp_path, [
        "update runs set lifecycle_stage = 'deleted' where run_uuid in (select run_uuid from tags "
        "where key = 'seed' and value != '0')"])
    done = report(studies, tmp_path / "out", uri=uri, formats="html,csv,figures")
    assert "only one seed of plain, sat, so there are no intervals and no verdict" in done.lines[0]
    assert done.lines[1] == ("4 of 6 declared runs are not in MLflow: plain seeds 1, 2; sat seeds "
                             "1, 2")
    assert "fewer than two runs" in done.lines[3]
    table = summary(tmp_path / "out")
    assert table[["mean_low", "sd", "p", "difference_low"]].isna().all(axis=None)
    assert (table["note"].str.contains("one seed: no interval")).all()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<small>(one seed: no interval)</small>" in page


def test_a_metric_that_some_runs_lack(studies: Path, tmp_path: Path) -> None:
    uri = edited(studies, tmp_path, [
        f"delete from metrics where key like '%fd_random' and run_uuid = {of_run('sat', 1)}",
        f"delete from tags where key = 'protocol.eval/fd_random' and run_uuid = "
        f"{of_run('sat', 1)}"])
    report(studies, tmp_path / "out", uri=uri)
    table = summary(tmp_path / "out")
    assert table[["n", "no_result"]].values.tolist() == [[3, 0], [2, 1]]
    assert summary(tmp_path / "out", "classes_covered")["n"].tolist() == [3, 3]


def test_the_newer_of_two_measurements_of_a_step_counts(studies: Path, tmp_path: Path) -> None:
    uri = edited(studies, tmp_path, [
        f"insert into metrics select key, value + {value}, timestamp + {later}, run_uuid, step, "
        f"is_nan from metrics where key = 'eval/fd_random' and step = 20 and value < 1000 and "
        f"run_uuid = {of_run('sat', 1)}" for value, later in ((5000, 50), (7000, -50))])
    runs = load_results("losses", uri, tmp_path).runs
    score = runs[(runs["variant"] == "sat") & (runs["seed"] == 1)]["score.fd_random"].item()
    assert 5000 < score < 6000


def test_runs_that_were_not_measured_alike_are_not_compared(studies: Path, tmp_path: Path) -> None:
    uri = edited(studies, tmp_path, [
        "update tags set value = json_set(value, '$.weights', '0123') "
        f"where key = 'protocol.eval/fd_random' and run_uuid = {of_run('sat', 1)}"])
    report(studies, tmp_path / "out", uri=uri, formats="html,csv")
    table = summary(tmp_path / "out")
    assert pd.isna(table.loc["sat", "mean"])
    assert "weights" in table.loc["sat", "note"]
    assert table.loc["plain", "n"] == 3
    page = (tmp_path / "out" / "report.html").read_text()
    assert "sat is not compared: not measured alike: weights" in page
    assert "<dd>0123</dd>" in page
    assert "1 run of sat" in page
    assert (pd.read_csv(tmp_path / "out" / "pairs.csv")["score"] != "fd_random").all()


def test_another_torch_that_measured_later_is_in_the_protocol(studies: Path, tmp_path: Path,
                                                              ) -> None:
    uri = edited(studies, tmp_path, [
        "insert into tags (key, value, run_uuid) values "
        f"('measured_by.eval/fd_random', 'torch 9.9', {of_run('sat', 1)})"])
    report(studies, tmp_path / "out", uri=uri, formats="html")
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.count("<dt>measured later by</dt><dd>torch 9.9</dd>") == 1
    assert "fd_random: 1 run of sat</h3>" in page
    assert "fd_random: 5 runs of plain, sat</h3>" in page


def test_two_program_versions_are_said_first(studies: Path, tmp_path: Path) -> None:
    uri = edited(studies, tmp_path, [
        f"update tags set value = '9.9' where key = 'gan_bench_version' and run_uuid = "
        f"{of_run('sat', 1)}"])
    done = report(studies, tmp_path / "out", uri=uri, formats="html")
    assert "runs of 2 program versions are compared" in done.lines[0]
    assert "gan_bench 9.9" in done.lines[0]
    page = (tmp_path / "out" / "report.html").read_text()
    assert page.index("runs of 2 program versions are compared") < page.index("Answer</h2>")
    assert len(re.findall(r"<td>gan_bench 9\.9, numerics \d+, torch [^<]*</td>", page)) == 1


def test_several_experiments(studies: Path, tmp_path: Path) -> None:
    report(studies, tmp_path, "losses", "more")
    table = summary(tmp_path)
    assert list(table.index) == ["plain", "sat", "wide"]
    assert (table["holm_over"].dropna() == 2).all()
    assert len(pd.read_csv(tmp_path / "pairs.csv").query("score == 'fd_random'")) == 3
    uri = edited(studies, tmp_path, [
        "update tags set value = 'plain' where key = 'variant' and value = 'wide'", UNKNOWN])
    report(tmp_path, tmp_path, "losses", "more", uri=uri)
    assert list(summary(tmp_path).index) == ["losses/plain", "losses/sat", "more/plain"]
    means = summary(tmp_path)["mean"].to_numpy()
    np.testing.assert_allclose(means, table["mean"], rtol=1e-9)


@pytest.mark.parametrize(("which", "said"), [
    ((), False), (("losses",), True), (("more",), True), (("losses", "more"), False)])
def test_experiments_that_are_paired_in_part_are_not_and_the_report_says_so(
        studies: Path, tmp_path: Path, which: tuple[str, ...], said: bool) -> None:
    both = [replace(load_results(name, root=studies), declared=load_results(
        name, root=studies).declared.with_changes(paired=name in which))
        for name in ("losses", "more")]
    (merged,) = combine(both)
    assert merged.declared.paired == (len(which) == 2)
    assert (("not all of the experiments declare `paired`: runs are not compared seed by seed"
             in merged.notes), "paired" in " ".join(merged.notes)) == (said, said)


@pytest.mark.parametrize("data", ["digits", "letters"])
def test_experiments_that_were_not_measured_alike(studies: Path, tmp_path: Path, data: str) -> None:
    uri = edited(studies, tmp_path, [
        "update tags set value = json_set(replace(value, '\"data\": \"digits', "
        f"'\"data\": \"{data}'), '$.quantisation', '0123') where "
        f"key = 'protocol.eval/fd_random' and run_uuid = {of_run('wide', seed, 'more')}"
        for seed in range(3)])
    with refused("losses and more cannot be in one report", "quantisation", " against 0123"):
        report(studies, tmp_path / "out", "losses", "more", uri=uri)


def test_experiments_on_different_data(studies: Path, tmp_path: Path) -> None:
    uri = edited(studies, tmp_path, [
        "update tags set value = replace(value, '\"data\": \"digits', '\"data\": \"letters') where "
        f"key like 'protocol.%' and run_uuid = {of_run('wide', seed, 'more')}" for seed in range(3)
    ] + ["update tags set value = 'plain' where key = 'variant' and value = 'wide'", UNKNOWN])
    report(tmp_path, tmp_path / "out", "losses", "more", uri=uri, formats="html,csv,figures")
    table = pd.read_csv(tmp_path / "out" / "summary.csv").query("score == 'fd_random'")
    assert table[["experiment", "variant"]].values.tolist() == [
        ["losses", "plain"], ["losses", "sat"], ["more", "plain"]]
    assert table["difference"].notna().tolist() == [False, True, False]
    assert (tmp_path / "out" / "figures" / "fd_random-profiles.pdf").exists()
    page = (tmp_path / "out" / "report.html").read_text()
    assert "There is only one variant: nothing to compare it with." in page


def test_a_lost_store_is_filled_again_from_the_journals(studies: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    shutil.copytree(studies / "runs", root / "runs")
    journal = next((root / "runs" / "losses").glob("*/journal.jsonl"))
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-1]))  # it died before it could say how it ended
    done = here("report", "losses", "--root", root, "--format", "csv")
    assert done.returncode == 0, done.stderr
    frames = [load_results("losses", root=place) for place in (studies, root)]
    assert (frames[1].runs["status"] == "KILLED").sum() == 1
    assert frames[1].runs.loc[journal.parent.name, "why"] == "its process died without a word"
    assert len(frames[1].history) == len(frames[0].history)
    assert set(pd.read_csv(root / "reports" / "losses" / "summary.csv")["no_result"]) == {0, 1}
    with closing(sqlite3.connect(root / "mlflow.db")) as db:  # and no other experiment
        assert db.execute("select count(*) from experiments where name = 'more'").fetchone() == (0,)


def test_a_store_of_somebody_elses_is_only_read(studies: Path, tmp_path: Path) -> None:
    shutil.copytree(studies / "runs", tmp_path / "root" / "runs")
    uri = edited(studies, tmp_path, [
        f"delete from metrics where key like '%fd_random' and run_uuid = {of_run('sat', 1)}"])
    for _ in range(2):
        report(tmp_path / "root", tmp_path / "out", uri=uri)
    assert summary(tmp_path / "out")["n"].tolist() == [3, 2]


def test_a_server_gives_the_same_page_as_its_database(
        studies: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with gan_bench_ui(studies) as address:
        report(studies, tmp_path / "a", uri=address, formats="html,csv")
        assert capfd.readouterr().err == ""  # MLflow draws a bar for each file that it downloads
    report(studies, tmp_path / "b", formats="html,csv")
    for name in ("report.html", "summary.csv", "pairs.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert (tmp_path / "a" / "report.html").read_text().count("data:image/webp;base64,") == 18


def test_an_experiment_that_is_being_run(studies: Path, tmp_path: Path) -> None:
    with locked(studies / "runs" / "losses"):
        done = here("report", "losses", "--root", studies, "--format", "csv", "--out",
                    tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "losses is already being run by process" in done.stderr
    assert len(summary(tmp_path / "out")) == 2


def test_a_report_that_fails_leaves_the_one_before(studies: Path, whole: Path, tmp_path: Path,
                                                   ) -> None:
    out = tmp_path / "out"
    shutil.copytree(whole, out)
    (out / "summary.csv").write_text("before")
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    done = subprocess.run(  # files of no more than 100 KB: the page is larger, the tables are not
        ["bash", "-c", 'ulimit -f 100; exec "$@"', "bash", sys.executable, "-m", "gan_bench",
         "report", "losses", "--root", studies, "--out", out],
        capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes()
            for file in folder.rglob("*") if file.is_file()}


def test_a_report_replaces_its_files_and_no_others(studies: Path, tmp_path: Path) -> None:
    """The last report's files are replaced and removed; the user's stay, whatever their names."""
    report(studies, tmp_path, formats="csv,figures")
    written = contents(tmp_path)
    assert {"summary.csv", "figures/samples-sat.png", ".report.json"} <= written.keys()
    users = {"notes.txt": b"mine", "figures/fid-seeds.png": b"mine", "figures/plot.pdf": b"mine",
             ".report-old/a.txt": b"mine", "figures/samples-plain.pdf": b"changed by hand"}
    (tmp_path / ".report-old").mkdir()
    for name, content in users.items():
        (tmp_path / name).write_bytes(content)
    os.utime(tmp_path / ".report-old", (0, 0))
    report(studies, tmp_path, formats="figures", variants="sat")
    after = contents(tmp_path)
    assert users.items() <= after.items()
    assert "figures/samples-sat.png" in after
    assert "figures/samples-plain.png" not in after  # a figure of the first report alone
    assert after["summary.csv"] == written["summary.csv"]  # no csv was asked for
    report(studies, tmp_path, formats="csv", variants="sat")
    assert contents(tmp_path)["summary.csv"] != written["summary.csv"]
    assert users.items() <= contents(tmp_path).items()


@pytest.mark.parametrize("name", ["summary.csv", "pairs.csv/mine.txt", "figures"])
def test_a_file_in_the_way_is_refused_before_anything_is_written(studies: Path, tmp_path: Path,
                                                                name: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    place = tmp_path / Path(name).parts[0]
    with refused(f"{place}: is in the way: {tmp_path} has no record (.report.json) of an earlier "
                 f"report; move it away, or choose another --out"):
        report(studies, tmp_path, formats="csv,figures")
    assert contents(tmp_path) == {name: b"mine"}
    file.unlink()
    shutil.rmtree(place, ignore_errors=True)
    report(studies, tmp_path)
    (tmp_path / "table.tex").symlink_to(tmp_path / "summary.csv")
    before = contents(tmp_path)
    with refused(f"{tmp_path / 'table.tex'}: is in the way"):
        report(studies, tmp_path, formats="csv,tex")
    assert contents(tmp_path) == before
    assert (tmp_path / "table.tex").is_symlink()
    (tmp_path / "table.tex").unlink()
    (tmp_path / "summary.csv").write_text("changed by hand")
    with refused(f"{tmp_path / 'summary.csv'}: is in the way: the last report did not write it, "
                 f"or changes came since"):
        report(studies, tmp_path)
    assert (tmp_path / "summary.csv").read_text() == "changed by hand"


def test_the_roots_folder_holds_reports_of_a_version_without_a_list(studies: Path) -> None:
    """They are replaced there by their names; links, folders and changed files are not."""
    out = studies / "reports" / "losses"
    make_report(Asked(["losses"], formats="csv,tex"), Workspace(studies, studies), "", print)
    written = contents(out)
    (out / ".report.json").unlink()
    (out / "summary.csv").write_text("of an earlier version")
    (out / "notes.txt").write_text("mine")
    (out / "table.tex").unlink()
    (out / "table.tex").symlink_to("notes.txt")
    with refused(f"{out / 'table.tex'}: is in the way: {out} has no record (.report.json)"):
        report(studies, out, formats="csv,tex")
    assert (out / "summary.csv").read_text() == "of an earlier version"
    (out / "table.tex").unlink()
    report(studies, out, formats="csv,tex")
    assert contents(out) == {**written, "notes.txt": b"mine"}
    (out / "summary.csv").write_text("changed by hand")
    with refused(f"{out / 'summary.csv'}: is in the way: the last report did not write it"):
        report(studies, out)
    shutil.rmtree(out)


@pytest.mark.parametrize("text", ["", "[]", '{"files: 3}', '{"files": {"a": 1}}', "mine"])
def test_a_list_of_another_origin_is_refused(studies: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / ".report.json").write_text(text)
    with refused(f"{tmp_path / '.report.json'}: is not the list"):
        report(studies, tmp_path)
    assert contents(tmp_path) == {".report.json": text.encode()}


def test_the_advice_on_a_damaged_list_keeps_what_the_user_has_changed(studies: Path, tmp_path: Path,
                                                                      ) -> None:
    out = studies / "reports" / "losses"
    make_report(Asked(["losses"], formats="csv,tex"), Workspace(studies, studies), "", print)
    (out / "table.tex").write_text("changed by hand")
    (out / ".report.json").write_text("{")
    with refused(f"{out / '.report.json'}: is not the list of what the last report wrote; move the "
                 f"folder away, or choose another --out"):
        make_report(Asked(["losses"], formats="csv,tex"), Workspace(studies, studies), "", print)
    out.rename(tmp_path / "away")
    make_report(Asked(["losses"], formats="csv,tex"), Workspace(studies, studies), "", print)
    assert (tmp_path / "away" / "table.tex").read_text() == "changed by hand"
    assert "changed by hand" not in (out / "table.tex").read_text()
    shutil.rmtree(out)


def test_a_list_names_no_file_of_another_folder(studies: Path, tmp_path: Path) -> None:
    """Whoever sent the folder knows the content of a file outside it."""
    out = tmp_path / "out"
    report(studies, out, formats="figures")
    (tmp_path / "mine.svg").write_text("mine")
    listed = json.loads((out / ".report.json").read_text())
    digest = hashlib.sha256(b"mine").hexdigest()
    for name in ("figures/../../mine.svg", "../mine.svg", str(tmp_path / "mine.svg")):
        listed["files"][name] = [digest]
    (out / ".report.json").write_text(json.dumps(listed))
    report(studies, out, formats="figures", variants="sat")
    assert (tmp_path / "mine.svg").read_text() == "mine"
    assert not (out / "figures" / "samples-plain.png").exists()


def test_a_report_that_is_killed_between_two_files_is_no_obstacle(studies: Path, tmp_path: Path,
                                                                 ) -> None:
    """The process dies once its first new file is in its place; the next report replaces both."""
    report(studies, tmp_path)
    before = contents(tmp_path)
    code = f"""
import os, signal
from pathlib import Path
from gan_bench.cli.results.report import Asked, make_report
from gan_bench.journal.layout import Workspace
replace = Path.replace
def once(file, target):
    replace(file, target)
    if Path(target).suffix == ".csv":
        os.kill(os.getpid(), signal.SIGKILL)
Path.replace = once
root = Path({str(studies)!r})
make_report(Asked(["losses"], out=Path({str(tmp_path)!r}), formats="csv", variants="sat"),
            Workspace(root, root), "", print)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    killed = contents(tmp_path)
    changed = {name for name in before if killed[name] != before[name]} - {".report.json"}
    assert len(changed) == 1
    report(studies, tmp_path)
    after = contents(tmp_path)
    assert all(after[name] == before[name] for name in before)


@pytest.mark.skipif(usable_cores() < 2, reason="one core draws in the report's process")
def test_the_processes_that_draw_die_with_the_report(studies: Path, tmp_path: Path) -> None:
    """They hold its locks, and would wait for ever for someone to take their figures."""
    process = subprocess.Popen(
        [sys.executable, "-m", "gan_bench", "report", "losses", "--root", studies, "--out",
         tmp_path / "out"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        drawing: list[psutil.Process] = []
        while len(drawing) < 2:
            assert process.poll() is None, "the report ended before it drew"
            time.sleep(0.05)
            drawing = psutil.Process(process.pid).children()
    finally:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(drawing, timeout=30)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    (left,) = (tmp_path / "out").glob(f"{UNFINISHED}*")
    report(studies, tmp_path / "out")
    assert not left.exists()


def test_a_run_says_how_to_compare(studies: Path) -> None:
    file = studies.parent / "losses.yaml"
    store = f"sqlite:///{studies}/mlflow.db"  # the usual one, by its name
    done = here("run", file, "--root", studies, "--tracking-uri", store)
    where = f" --root {studies} --tracking-uri {store}"
    done_line, compare = done.stdout.splitlines()[-2:]
    assert done_line.endswith(f" runs are done. Look at them: gan-bench ui{where}")
    assert compare == f"Compare them: gan-bench report losses --open{where}"


def test_pictures_within_the_budget() -> None:
    from io import BytesIO

    from PIL import Image

    rng = np.random.default_rng(0)

    def grid(side: int) -> bytes:
        canvas = np.full((2 + 8 * (side + 2),) * 2 + (3,), 128, np.uint8)
        for y in range(2, len(canvas), side + 2):
            for x in range(2, len(canvas), side + 2):
                canvas[y:y + side, x:x + side] = rng.integers(0, 256, (side, side, 3))
        buffer = BytesIO()
        Image.fromarray(canvas).save(buffer, "PNG")
        return buffer.getvalue()

    small = page_pictures(Pictures({"a": {0: {1: grid(4)}}}, [0], [1]))
    assert small.notes == ()
    assert (small.width, small.height) == (39, 39)  # 8 × 4 and 7 between them
    assert Image.open(BytesIO(small.grids["a"][0][1])).format == "WEBP"
    one = grid(32)
    many = page_pictures(Pictures({"a": {0: dict.fromkeys(range(30), one)}}, [0], [*range(30)]))
    assert many.notes == ("16 of 64 samples of each grid",)
    assert many.width == 4 * 32 + 3
    sizes = [len(content) for content in many.grids["a"][0].values()]
    assert len(sizes) == 30
    assert BUDGET / 2 < sum(sizes) <= BUDGET
    grids = Image.open(BytesIO(one)), Image.open(BytesIO(many.grids["a"][0][0]))
    whole, part = (np.asarray(picture.convert("RGB")) for picture in grids)
    for i in range(4):  # those of the upper left corner
        np.testing.assert_array_equal(part[33 * i:33 * i + 32, 33:65],
                                      whole[2 + 34 * i:34 + 34 * i, 36:68])


@pytest.mark.parametrize(("variants", "seeds", "steps"), [(4, 5, 5), (2, 100, 100), (24, 10, 50),
                                                          (100, 3, 3), (1, 1, 1)])
def test_no_more_pictures_than_anyone_looks_through(variants: int, seeds: int, steps: int) -> None:
    some, when = _few(variants, [*range(seeds)], [*range(0, 10 * steps, 10)])
    assert variants * len(some) * len(when) <= MAX_PICTURES or (len(some), len(when)) == (1, 2)
    assert when[-1] == 10 * (steps - 1)
    assert when[0] == 0
    if variants * seeds * steps <= MAX_PICTURES:
        assert (len(some), len(when)) == (seeds, steps)


def test_two_numerics_are_two_program_versions(studies: Path, tmp_path: Path) -> None:
    uri = edited(studies, tmp_path, [
        f"update tags set value = '3' where key = 'numerics_version' and run_uuid = "
        f"{of_run('sat', 1)}"])
    done = report(studies, tmp_path / "out", uri=uri, formats="csv")
    assert "runs of 2 program versions are compared" in done.lines[0]
    assert re.search(r", numerics 3, torch [^;)]*: 1 run\b", done.lines[0])
    assert f", numerics {NUMERICS}, torch " in done.lines[0]
    alike = report(studies, tmp_path / "alike", formats="csv")
    assert not any("program versions" in line for line in alike.lines)


def test_a_study_on_two_kinds_of_machines_is_named(studies: Path, tmp_path: Path) -> None:
    from gan_bench.report.write import warnings_of

    assert not any("kinds of machines" in line
                   for line in warnings_of(load_results("losses", root=studies)))
    for folder in ("one", "both"):
        (tmp_path / folder).mkdir()
    move = "update tags set value = 'A100' where key = 'device_name' and run_uuid = "
    one = edited(studies, tmp_path / "one", [move + of_run("sat", 1)])
    [line] = [line for line in warnings_of(load_results("losses", tracking_uri=one))
              if "kinds of machines" in line]
    assert line.startswith("runs on 2 kinds of machines are compared (")
    assert "; A100: 1 run)" in line
    assert line.endswith("; seeds whose runs are on several: 1")
    both = edited(studies, tmp_path / "both", [move + of_run(variant, 1)
                                               for variant in ("sat", "plain")])
    [line] = [line for line in warnings_of(load_results("losses", tracking_uri=both))
              if "kinds of machines" in line]
    assert "; A100: 2 runs)" in line
    assert line.endswith("; the runs of each seed are on one")


def test_runs_of_one_variant_in_two_precisions_are_named(studies: Path, tmp_path: Path) -> None:
    from gan_bench.report.write import warnings_of

    line = "runs of plain were computed in different precisions (float32: 2 runs; bfloat16: 1 run)"
    assert line not in warnings_of(load_results("losses", root=studies))
    uri = edited(studies, tmp_path, [
        f"update tags set value = 'bfloat16' where key = 'precision' and "
        f"run_uuid = {of_run('plain', 1)}"])
    assert line in warnings_of(load_results("losses", uri, studies))
