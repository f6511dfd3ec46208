"""Tables for papers."""

from __future__ import annotations

import math
import re

from helpers.scored import results_of

from gan_bench.compare.findings import findings
from gan_bench.compare.labels import labelled
from gan_bench.report.exports import as_latex, as_markdown, best_variants
from gan_bench.report.papers import paper_tables

RESULTS = results_of({
    "plain": {"fd_classifier": [20.0, 21.0, 22.0], "classifier_score": [5.0, 5.1, 5.2]},
    "dcgan_x": {"fd_classifier": [10.0, 11.0, 12.0], "classifier_score": [4.0, 4.1, 4.2]},
    "lost": {"fd_classifier": [1.0, 2.0, math.nan], "classifier_score": [3.0, 3.1, math.nan]}},
    labels={"dcgan_x": "DCGAN (ours)", "fd_classifier": "FD"})
FOUND = findings(labelled(RESULTS))


def test_a_wide_table_of_all_scores_and_a_narrow_one_of_the_first() -> None:
    wide, narrow = paper_tables(FOUND)
    assert (wide.name, narrow.name) == ("table-wide", "table-narrow")
    assert wide.heads == ["Variant", "FD ↓", "classifier_score ↑"]
    assert narrow.heads == ["Variant", "FD ↓", "Verdict"]
    assert wide.rows[1:] == [["DCGAN (ours)", "11.00 ± 1.00", "4.100 ± 0.100"],
                             ["plain", "21.00 ± 1.00", "5.100 ± 0.100"]]
    assert wide.rows[0][0] == "lost"
    assert wide.rows[0][1].endswith(" (1 of 3)")
    assert [row[2] for row in narrow.rows[1:]] == ["better", "baseline"]
    assert "Baseline: plain." in wide.caption
    assert "standard deviation over the seeds (3 runs of each variant)" in wide.caption
    assert "In parentheses: diverged runs" in wide.caption
    intervals, _ = paper_tables(FOUND, "interval")
    assert intervals.rows[2][1] == "21.00 [18.52, 23.48]"
    assert "95% t-interval" in intervals.caption


def test_the_best_mean_is_bold_and_no_variant_wins_by_losing_runs() -> None:
    wide, narrow = paper_tables(FOUND)
    assert wide.bold == {(1, 1), (2, 2)}
    assert narrow.bold == {(1, 1)}
    assert best_variants(FOUND[0]) == {"DCGAN (ours)"}  # `lost` has a better mean, of two of three


def test_latex_has_a_label_and_what_it_needs_escaped() -> None:
    wide, narrow = (table.as_latex() for table in paper_tables(FOUND))
    assert r"\begin{table*}" in wide
    assert r"\end{table*}" in wide
    assert r"\begin{table}" in narrow
    assert r"\label{tab:study-wide}" in wide
    assert r"\label{tab:study-narrow}" in narrow
    assert r"  DCGAN (ours) & \textbf{11.00 $\pm$ 1.00} & 4.100 $\pm$ 0.100 \\" in wide
    assert r"Variant & FD $\downarrow$ & classifier\_score $\uparrow$ \\" in wide
    assert all(text.isascii() for text in (wide, narrow))
    every = as_latex(FOUND)
    assert re.findall(r"\\label\{(.*)\}", every) == ["tab:study-fd-classifier",
                                                    "tab:study-classifier-score"]
    assert every.count(r"\textbf") == 2


def test_markdown() -> None:
    wide, _ = paper_tables(FOUND)
    lines = wide.as_markdown().splitlines()
    assert lines[1] == "| :-- | --: | --: |"
    assert lines[3] == "| DCGAN (ours) | **11.00 ± 1.00** | 4.100 ± 0.100 |"
    assert as_markdown(FOUND).count("**") == 4
