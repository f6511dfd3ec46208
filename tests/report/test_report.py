"""From real runs in MLflow to a report's files, and everything that can be wrong with them."""

from __future__ import annotations

import re
import resource
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.browser import gan_bench_ui
from helpers.commands import forked
from helpers.reports import refused, report, summary
from helpers.studies import edited, ended, here, of_run, write_study

from gan_bench import load_results
from gan_bench.cli.results.report import _names
from gan_bench.compare.combine import combine
from gan_bench.compare.findings import findings
from gan_bench.journal.drift import NUMERICS
from gan_bench.journal.sharing.lock import locked
from gan_bench.report.exports import as_latex, as_markdown, latex

ALL = [".report.json", "history.parquet", "pairs.csv", "report.html", "summary.csv",
       "table-narrow.md", "table-narrow.tex", "table-wide.md", "table-wide.tex", "table.md",
       "table.tex"]
UNKNOWN = "delete from experiment_tags"  # so that nothing but the runs says what variants there are

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


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
    for name in ("fd_random-seeds", "dynamics", "samples", "samples-plain", "samples-sat"):
        assert {f"{name}.{kind}" for kind in ("svg", "png", "pdf")} <= drawn
    assert not any("-pairs" in name for name in drawn)  # the table has the only pair
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
    assert done.returncode == 0
    assert done.stderr == ("bare: these are the runs of the last `gan-bench run`, with "
                           "--set base.steps=2 --set 'seeds=[0]' --set base.sample_every=2\n")
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
    report(studies, tmp_path, "losses", "more", formats="csv,figures")
    drawn = {file.name for file in (tmp_path / "figures").iterdir()}
    assert "fd_random-pairs.pdf" in drawn
    assert "d_accuracy_real-pairs.svg" not in drawn  # no direction of it is better
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
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Files of no more than 100 KB: the page is larger, the tables are not.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 * 1024, limits[1]))
    try:
        done = here("report", "losses", "--root", studies, "--out", out, "--format", "html,csv")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert done.returncode == 2
    assert "cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before


def test_a_run_says_how_to_compare(studies: Path) -> None:
    file = studies.parent / "losses.yaml"
    store = f"sqlite:///{studies}/mlflow.db"  # the usual one, by its name
    done = here("run", file, "--root", studies, "--tracking-uri", store)
    where = f" --root {studies} --tracking-uri {store}"
    done_line, compare = done.stdout.splitlines()[-2:]
    assert done_line.endswith(f" runs are done. Look at them: gan-bench ui{where}")
    assert compare == f"Compare them: gan-bench report losses --open{where}"


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
