"""The report of a real search: the journals' numbers on its page, in the browser and in MLflow."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.browser import Browser
from helpers.studies import here

import gan_bench
from gan_bench.cli.results.study_summary import study_summary, summary_of
from gan_bench.compare.ended import RunResult
from gan_bench.compare.results import read_results
from gan_bench.compare.rows import summarise
from gan_bench.compare.search.budget_journals import results_of_journals
from gan_bench.compare.search.budgets import budgets_of
from gan_bench.compare.search.confirming import compared_runs, with_confirm_runs
from gan_bench.compare.stats.search.budget import best_quantile, expected_best
from gan_bench.compare.stats.search.budget_pairs import probability_better_paired
from gan_bench.config.experiment import load_experiment
from gan_bench.errors import UserError
from gan_bench.journal.layout import Workspace
from gan_bench.journal.status import Progress, progress_of
from gan_bench.report.figures import render

NAME, SCORE = "tuned", "fd_random"
Scores = dict[tuple[str, int, str, int], float]  # variant, draw, stage, seed


@pytest.fixture(scope="module")
def journals(searched: Path) -> list[Progress]:
    """The runs of both stages, as their journals have them."""
    spec = load_experiment(searched / "tuned.yaml", searched)
    whole = with_confirm_runs(spec, searched / "root")
    return [progress_of(run, searched / "root") for run in whole.runs]


@pytest.fixture(scope="module")
def scores(journals: list[Progress]) -> Scores:
    return {(run.spec.variant, run.spec.draw or 0, run.spec.stage, run.spec.seed): run.scores[SCORE]
            for run in journals}


@pytest.fixture(scope="module")
def report(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report")
    done = here("report", NAME, "--root", searched / "root", "--out", out, "--format", "html,csv")
    assert done.returncode == 0, done.stderr
    assert "With their tuning, by fd_random" in done.stdout
    return out


def of_draws(scores: Scores, variant: str) -> list[float]:
    """Return the scores of the random draws."""
    return [scores[variant, draw, "select", 0] for draw in (1, 2)]


def test_what_a_budget_buys_is_of_the_journals_scores(report: Path, scores: Scores) -> None:
    table = pd.read_csv(report / "budgets.csv").set_index(["variant", "budget"])
    for variant in ("unpenalised", "r1"):
        values = of_draws(scores, variant)
        assert table.loc[(variant, 0), "median"] == scores[variant, 0, "select", 0]
        for n in (1, 2):
            row = table.loc[(variant, n)]
            assert row["median"] == best_quantile(values, n)
            assert row["quartile_worse"] == best_quantile(values, n, 0.75)
            assert row["expected"] == pytest.approx(expected_best(values, n))
    for n in (1, 2):
        assert table.loc[("r1", n), "p_beats"] == pytest.approx(probability_better_paired(
            of_draws(scores, "r1"), of_draws(scores, "unpenalised"), n))


def test_the_choice_and_the_confirmation_are_of_the_journals(report: Path, scores: Scores) -> None:
    draws = pd.read_csv(report / "draws.csv")
    summary = pd.read_csv(report / "summary.csv").set_index(["variant", "score"])
    for variant in ("unpenalised", "r1"):
        selected = {draw: scores[variant, draw, "select", 0] for draw in (0, 1, 2)}
        best = min(selected, key=lambda draw: selected[draw])
        (chosen,) = [row for _, row in draws.iterrows()
                     if row["variant"] == variant and row["chosen"] == 1]
        assert chosen["draw"] == best
        mean = np.mean([scores[variant, best, "confirm", seed] for seed in (10, 11)])
        assert chosen["confirmed"] == pytest.approx(mean)
        assert chosen["optimism"] == pytest.approx(mean - selected[best])
        assert summary.loc[(variant, SCORE), "mean"] == pytest.approx(mean)
        assert summary.loc[(variant, SCORE), "n"] == 2


def test_journals_and_mlflow_show_the_same_study(searched: Path, journals: list[Progress]) -> None:
    """So a report after `run`, of the same runs, writes nothing into MLflow."""
    workspace = Workspace(searched / "root")
    from_mlflow = summary_of(read_results(workspace, NAME, None), workspace)
    results = read_results(workspace, NAME, None)
    declared = results.declared
    budgets = budgets_of(results_of_journals(NAME, declared, journals))
    rows = summarise([RunResult.of(run) for run in compared_runs(journals, declared)], declared)
    from_journals = study_summary(rows, declared, NAME, workspace, budgets)
    assert from_mlflow is not None
    assert from_journals is not None
    assert from_mlflow.digest == from_journals.digest
    of_mlflow = budgets_of(results)
    assert of_mlflow is not None
    assert budgets is not None
    for a, b in zip(of_mlflow.variants, budgets.variants, strict=True):
        assert [draw.values for draw in a.draws] == [draw.values for draw in b.draws]
        assert [draw.seconds for draw in a.draws] == pytest.approx(
            [draw.seconds for draw in b.draws])  # both of the journals
        assert a.images == b.images


def test_the_study_run_has_the_table_of_budgets(searched: Path) -> None:
    root = searched / "root"
    number = json.loads((root / "runs" / NAME / "study.json").read_text())["mlflow.db"]
    with closing(sqlite3.connect(root / "mlflow.db")) as db:
        (tables,) = db.execute("select value from tags where run_uuid = ? and key = "
                               "'mlflow.loggedArtifacts'", (number["mlflow_run_id"],)).fetchone()
    assert [each["path"] for each in json.loads(tables)] == ["summary.json", "budgets.json"]
    (file,) = root.rglob(f"{number['mlflow_run_id']}/artifacts/budgets.json")
    table = json.loads(file.read_text())
    assert [row[table["columns"].index("draws")] for row in table["data"]] == [0, 1, 2, 0, 1, 2]


def test_run_ends_with_the_table_of_budgets(searched: Path) -> None:
    printed = (searched / "output.txt").read_text()
    order = [printed.index(words) for words in (
        "With their tuning, by fd_random", "0 (the file's own)", "2 (all)",
        "The chosen settings under fresh seeds", "runs are done")]
    assert order == sorted(order)


def test_a_notebook_has_draws_and_budgets(searched: Path, report: Path) -> None:
    results = gan_bench.load_results(NAME, root=searched / "root")
    budgets = results.budgets()
    assert list(budgets["budget"]) == [0, 1, 2, 0, 1, 2]
    assert len(results.draws()) == 6
    assert results.table().shape[0] == 2
    assert "With their tuning" not in results._repr_html_()
    assert "The chosen settings, under fresh seeds" in results._repr_html_()
    for kind in ("best", "chance", "seconds", "choice", "space"):
        assert render(results.plot(kind=kind), "png")  # type: ignore[arg-type]


def test_without_a_search_there_are_no_draws(studies: Path) -> None:
    results = gan_bench.load_results("losses", root=studies)
    for ask in (results.budgets, results.draws, lambda: results.plot(kind="best")):
        with pytest.raises(UserError, match="losses has no search, and so no draws"):
            ask()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if shutil.which("chromium") is None:
        pytest.skip("no chromium on the PATH")
    with Browser((1440, 900)) as page:
        yield page


@pytest.mark.parametrize("width", [400, 768, 1440])
def test_the_page_fits_every_window(browser: Browser, report: Path, width: int) -> None:
    browser.call("Emulation.setDeviceMetricsOverride", width=width, height=900,
                 deviceScaleFactor=1, mobile=False)
    browser.open((report / "report.html").as_uri())
    browser.wait("document.readyState == 'complete' && !!document.querySelector('footer')")
    assert browser.js("document.documentElement.scrollWidth") == width
    heads = browser.js("[...document.querySelectorAll('h2')].map(h => h.innerText)")
    assert heads[:3] == ["Answer", "Budgets", "Samples"]
    assert browser.js("[...document.querySelectorAll('section[aria-labelledby=budgets] svg')]"
                      ".length") == 5
    first = browser.js("document.querySelector('section[aria-labelledby=answer]').innerText")
    assert first.index("With their tuning, by fd_random") < first.index("under fresh seeds")
