"""The report of a search: the answer is that of confirmed runs and budgets, in every file."""

from __future__ import annotations

import csv
import json
import math
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers.tuned import tuned, tuned_results
from rich.console import Console

from gan_bench.cli.results.study_summary import study_summary, summary_of
from gan_bench.compare.results import Results
from gan_bench.compare.search.budget_numbers import budget_tests, table_rows
from gan_bench.compare.search.counted_draws import with_shared_draws
from gan_bench.errors import UserError
from gan_bench.journal.layout import Workspace
from gan_bench.report.search.budget_terminal import BudgetTable, budget_lines
from gan_bench.report.write import Written, warnings_of, write_report
from gan_bench.tracking.pages.study_run import StudySummary

NAN = math.nan
LOW = [9.0, *(10.0 + (7 * j) % 29 for j in range(1, 30))]
HIGH = [50.0, *(NAN if j % 4 == 0 else 40.0 + (5 * j) % 29 for j in range(1, 30))]
CONFIRMED = {"plain": [42.0, 43.0, 44.0], "r1": [11.0, 12.0, 13.0]}


def write(results: Results, out: Path, formats: str = "html,csv") -> Written:
    stored = replace(results, uri=f"sqlite:///{out / 'store.db'}")
    return write_report([stored], out, formats.split(","))


def page_text(out: Path) -> str:
    """Return the text of the page without its figures, a space for each tag."""
    html = (out / "report.html").read_text("utf-8")
    html = re.sub(r"(?s)<svg.*?</svg>|<style>.*?</style>|<script.*?</script>", " ", html)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def section(text: str, begin: str, end: str) -> str:
    return text[text.index(begin):text.index(end, text.index(begin))]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("budgets")
    write(tuned_results({"plain": HIGH, "r1": LOW[:1] + [each + 1 for each in LOW[1:]]},
                        {"plain": CONFIRMED["plain"], "r1": CONFIRMED["r1"]}), folder)
    return folder


def test_the_answer_is_of_confirmed_runs_and_budgets(out: Path) -> None:
    answer = section(page_text(out), "Answer With their tuning", "Budgets Each variant")
    assert "▲ r1, with its tuning, is better than plain at a budget of 1, 5 and 10 draws" in answer
    assert "The chosen settings, under fresh seeds" in answer
    assert "43.0" in answer  # the mean of plain's confirm runs, and not of its draws
    assert "42" not in section(answer, "Variant", "Mean of the final scores").split("[")[0]
    assert re.search(r"▲ ?r1 is better than plain: difference −31", answer)


def test_the_section_has_its_tables(out: Path) -> None:
    budgets = section(page_text(out), "Budgets Each variant", "Samples ")
    order = [budgets.index(words) for words in (
        "30 draws of each (draw 0 is the file's own setting)", "What a budget buys",
        "0 (the file's own)", "29 (all)", "At equal device-hours", "At equal images",
        "Selected and confirmed", "The space", "What each variant was given",
        "Every draw and its score")]
    assert order == sorted(order)
    assert "selected by fd_classifier, which is reported too" in budgets
    assert "log_uniform 0.01 .. 100 (only penalties r1)" in budgets
    assert "not measured" not in budgets
    assert "7 of 29 diverged" not in budgets  # that is in a figure
    assert re.search(r"plain 3 30 of 30 7 ", budgets)
    assert re.search(r"r1 4 30 of 30 0 ", budgets)


def test_every_number_of_the_table_is_on_the_page(out: Path) -> None:
    text = page_text(out)
    budgets = tuned({"plain": HIGH, "r1": LOW[:1] + [each + 1 for each in LOW[1:]]}, CONFIRMED)
    for row in table_rows(budgets, budget_tests(budgets)):
        if row.best:
            best = row.best
            ends = sorted((best.good, best.bad))
            shown = [f"{value:.2f}" if math.isfinite(value) else "∞" for value in
                     (best.median, *ends)]
            assert f"{shown[0]} [{shown[1]}, {shown[2]}]" in text


def test_runs_are_listed_with_their_draws(out: Path) -> None:
    runs = section(page_text(out), "Runs and failures All made", "What was run")
    assert "Draw Seed Run State" in runs
    assert "7 of 66 runs did not finish" in runs
    assert "4, select 0 plain-4-0 DIVERGED" in runs
    assert re.search(r"\d+, confirm 10 plain-", runs)


def test_drawn_settings_are_no_difference_between_variants(out: Path) -> None:
    spec = section(page_text(out), "What was run What", "To repeat it")
    for key in ("g_optimizer", "d_steps", "width"):
        assert key not in spec
    assert "batch_size: 64" in spec


def test_the_files_beside(out: Path) -> None:
    budgets = pd.read_csv(out / "budgets.csv")
    assert len(budgets) == 2 * 30  # the file's own, and 1 … 29
    own = budgets[(budgets["budget"] == 0) & (budgets["variant"] == "plain")].iloc[0]
    assert own["median"] == 50.0
    at_ten = budgets[(budgets["budget"] == 10) & (budgets["variant"] == "r1")].iloc[0]
    assert at_ten["verdict"] == "better"
    assert at_ten["p_beats"] == pytest.approx(1)
    assert math.isnan(at_ten["median_low"])
    at_two = budgets[(budgets["budget"] == 2) & (budgets["variant"] == "r1")].iloc[0]
    assert at_two["median_low"] < at_two["median"] < at_two["median_high"]
    assert math.isnan(at_two["p_adjusted"])  # no budget of the table
    whole = budgets[(budgets["budget"] == 29) & (budgets["variant"] == "plain")].iloc[0]
    assert (whole["confirmed"], whole["confirmed_seeds"]) == (43.0, 3)
    draws = pd.read_csv(out / "draws.csv")
    assert len(draws) == 60
    assert draws["is_default"].sum() == 2
    lost = draws[draws["diverged"] > 0]
    assert len(lost) == 7
    assert (lost["selected"] == math.inf).all()
    chosen = draws[draws["chosen"] == 1].set_index("variant")
    assert chosen.loc["plain", "confirmed"] == 43.0
    assert chosen.loc["plain", "optimism"] == pytest.approx(43.0 - chosen.loc["plain", "selected"])
    assert set(draws["drawn.d_steps"].astype(int)) <= {1, 2, 5}


def test_the_summary_is_of_the_confirmed_runs(out: Path) -> None:
    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        rows = {row["variant"]: row for row in csv.DictReader(file)}
    assert {name: int(row["n"]) for name, row in rows.items()} == {"plain": 3, "r1": 3}
    assert float(rows["plain"]["mean"]) == 43.0


def test_what_the_command_prints(tmp_path: Path) -> None:
    lines = write(tuned_results({"plain": HIGH, "r1": LOW}, {"plain": CONFIRMED["plain"]}),
                  tmp_path, "csv").lines
    assert "With their tuning, by fd_classifier ↓" in lines
    assert any(line.startswith("  r1, with its tuning, is better than plain") for line in lines)
    assert "The chosen settings under fresh seeds, by fd_classifier (lower is better)" in lines


def test_a_search_that_only_selected_so_far_has_a_page(tmp_path: Path) -> None:
    results = tuned_results({"plain": HIGH, "r1": LOW})
    results.runs.loc["r1-3-0", "status"] = "RUNNING"
    lines = write(replace(results, choice={"plain": results.choice["plain"]}), tmp_path).lines
    assert "no chosen draw is confirmed yet: no setting is compared under fresh seeds" in lines
    text = page_text(tmp_path)
    assert "No chosen draw is confirmed yet." in text
    assert "Draws without a score yet: 1 of 30 of r1." in text
    assert "What a budget buys" in text
    assert "By fd_classifier, which decides" not in text


def test_a_search_without_any_result_has_no_report(tmp_path: Path) -> None:
    results = tuned_results({"plain": HIGH, "r1": LOW})
    results.runs["status"] = "RUNNING"
    with pytest.raises(UserError, match="has no finished run yet"):
        write(results, tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_a_run_of_several_draws_is_counted_once(tmp_path: Path) -> None:
    """Draws 1, 3 and 4 of plain have the same settings: 1 of the 8 runs diverged."""
    results = tuned_results({"plain": [2.0, NAN, 1.0], "r1": [3.0, 4.0, 5.0, 2.0, 6.0]})
    declared = results.declared.with_changes(shared={"plain": ((1, 3, 4),)})
    results = replace(results, declared=declared, runs=with_shared_draws(results.runs, declared))
    assert len(results.runs) == 10
    assert "1 of 8 runs diverged; they count, and rank last" in warnings_of(results)
    write(results, tmp_path)
    text = page_text(tmp_path)
    assert "8 runs: 2 variants, 5 draws, 1 seed; 7 finished, 1 diverged" in text
    assert "1 of 8 runs did not finish" in text


def test_all_draws_diverged(tmp_path: Path) -> None:
    write(tuned_results({"plain": [NAN] * 12, "r1": [NAN] * 12}, {"plain": [NAN, NAN]}), tmp_path)
    text = page_text(tmp_path)
    assert "So many draws diverged" not in text  # that is in a figure
    assert "∞ [∞, ∞]" in text


@pytest.mark.parametrize("width", [40, 80, 120, 200])
def test_the_table_of_the_terminal_fits(width: int) -> None:
    budgets = tuned({"plain": HIGH, "r1": LOW}, {"plain": CONFIRMED["plain"]})
    lines = budget_lines(budgets, width)
    assert max(map(len, lines)) <= width
    assert any("better" in line for line in lines)
    assert ("P(beats plain)" in lines[0]) == (width >= 120)
    console = Console(width=width, file=open("/dev/null", "w"), force_terminal=False)  # noqa: SIM115
    with console.capture() as shown:
        console.print(BudgetTable(budgets))
    assert "r1, with its tuning, is better than plain" in " ".join(shown.get().split())


def test_the_study_run_shows_budgets(tmp_path: Path) -> None:
    results = tuned_results({"plain": HIGH, "r1": LOW}, {"plain": CONFIRMED["plain"],
                                                         "r1": CONFIRMED["r1"]},
                            labels={"r1": "With R1"})
    summary = summary_of(results, Workspace(tmp_path))
    assert summary is not None
    assert summary.verdicts["fd_classifier.r1.budget_10"] == "better"
    assert summary.verdicts["fd_classifier.r1"] == "better"  # of the chosen settings
    assert "fd_classifier.plain.budget_10" not in summary.verdicts
    assert summary.budgets is not None
    table = pd.DataFrame(summary.budgets[1], columns=summary.budgets[0])
    assert table["draws"].tolist() == [0, 1, 5, 10, 29] * 2
    assert table["variant"].tolist() == ["plain"] * 5 + ["r1"] * 5
    assert table["verdict"].tolist()[:5] == ["reference"] * 5
    assert table["confirmed"].tolist()[4] == 43.0
    assert "- With R1, with its tuning, is better than plain" in summary.description
    assert "- The chosen settings: With R1 is better than plain" in summary.description
    assert set(summary.tables) == {"summary.json", "budgets.json"}
    json.dumps(summary.budgets)


def test_the_study_run_shows_budgets_before_any_draw_is_confirmed(tmp_path: Path) -> None:
    summary = summary_of(tuned_results({"plain": HIGH, "r1": LOW}), Workspace(tmp_path))
    assert summary is not None
    assert summary.rows == ()
    assert "By fd_classifier (lower is better):" in summary.description
    none: Any = tuned_results({"plain": [3.0], "r1": [3.0]})
    none.runs["status"] = "RUNNING"
    assert summary_of(none, Workspace(tmp_path)) is None


def test_a_digest_without_budgets_is_that_of_earlier_versions(tmp_path: Path) -> None:
    results = tuned_results({"plain": HIGH, "r1": LOW}, {"plain": [1.0], "r1": [2.0]})
    with_budgets = summary_of(results, Workspace(tmp_path))
    assert study_summary([], results.declared, "tuned", Workspace(tmp_path)) is None
    assert with_budgets is not None
    without = StudySummary("words", ("score", "n"), (("fd", 3),), {"fd.r1": "better"})
    assert without.digest == "dbdbc3bb27759252"  # by the class before it had budgets
    assert replace(without, budgets=with_budgets.budgets).digest != without.digest
