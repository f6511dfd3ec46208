"""What MLflow's study run shows of an experiment, from the rows of its final table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from gan_bench.cli.options import root_option, store_option
from gan_bench.cli.results.budget_summary import (
    budget_table,
    budget_verdict_tags,
    has_scores,
    said_of_budgets,
)
from gan_bench.compare.labels import variant_labels
from gan_bench.compare.results import Results
from gan_bench.compare.rows import Row, summarise
from gan_bench.compare.search.budget_numbers import budget_tests
from gan_bench.compare.search.budgets import Budgets, budgets_of
from gan_bench.compare.stats.summary import Estimate
from gan_bench.config.declared import Declared
from gan_bench.evaluation.score_directions import directions
from gan_bench.journal.layout import Workspace
from gan_bench.tracking.pages.experiment_page import description
from gan_bench.tracking.pages.study_run import Cell, StudySummary

COLUMNS = ("score", "better", "variant", "runs", "diverged", "no result", "mean", "low", "high",
           "difference", "difference low", "difference high", "p (Holm)", "verdict", "why")


def summary_of(results: Results, workspace: Workspace) -> StudySummary | None:
    """Return what the study run shows of an experiment as MLflow has it; None without a score."""
    rows = summarise(results.ended(), results.declared)
    return study_summary(rows, results.declared, results.experiment, workspace,
                         budgets_of(results))


def study_summary(rows: Sequence[Row], declared: Declared, experiment: str, workspace: Workspace,
                  budgets: Budgets | None = None) -> StudySummary | None:
    """Return what the study run shows; None without a score.

    Its table has the names of variants and scores, which MLflow's runs have too, and beside them
    the labels that any of them has. Its sentences have the labels alone.

    Args:
        rows: Of the final table.
        declared: What the experiment declares.
        experiment: Its name.
        workspace: Names the root and the store in the command that writes the report.
        budgets: The draws of a search, whose rows are those of its confirm runs; else None.
    """
    better = directions(declared)
    listed = [*(declared.final.scores if declared.final else ()), *(row.metric for row in rows)]
    scores = [score for score in dict.fromkeys(listed)
              if any(row.metric == score for row in rows)]
    scores.sort(key=lambda score: better.get(score) is None)  # stable: as in reports
    if not scores and not has_scores(budgets):
        return None
    ordered = [row for score in scores for row in rows if row.metric == score]
    labels = variant_labels(declared, list(dict.fromkeys(row.variant for row in rows)))
    said = [_sentence(row, labels) for row in ordered if row.metric == scores[0]]
    tests = budget_tests(budgets) if budgets else {}
    if budgets:
        chosen = [f"The chosen settings: {text}" for text in said if text]
        said = [*said_of_budgets(budgets), *chosen]
    verdicts = [_title(declared, [*scores, *([budgets.score] if budgets else [])][0]), *said]
    command = (f"gan-bench report {experiment}{root_option(workspace)}"
               f"{store_option(workspace, '--tracking-uri')}")
    report = (f"The report: `{command}` writes it to `{workspace.root / 'reports' / experiment}`, "
              f"and its page and figures to the run *study* here.")
    columns: dict[str, list[Cell]] = {name: [] for name in COLUMNS}
    for row in ordered:
        cells = _cells(row, better.get(row.metric) or "", declared.baseline)
        for name, cell in zip(COLUMNS, cells, strict=True):
            columns[name].append(cell)
    columns = _with_labels(columns, "score", {score: declared.label(score) for score in scores})
    columns = _with_labels(columns, "variant", labels)
    return StudySummary(
        description(declared, list(filter(None, verdicts)), report), tuple(columns),
        tuple(zip(*columns.values(), strict=True)),
        {f"{row.metric}.{row.variant}": _verdict(row, declared.baseline) for row in ordered}
        | (budget_verdict_tags(budgets, tests) if budgets else {}),
        budget_table(budgets, tests) if budgets else None)


def _title(declared: Declared, score: str) -> str:
    """Return a score with its better direction."""
    way, label = directions(declared).get(score), declared.label(score)
    return f"{label} ({way} is better)" if way else label


def _sentence(row: Row, labels: Mapping[str, str]) -> str:
    """Return the verdict on a row in words; empty without one."""
    pair = row.comparison
    if pair is None:
        return ""
    against = labels.get(pair.against, pair.against)
    return replace(pair, variant=labels[row.variant], against=against).sentence


def _with_labels(columns: dict[str, list[Cell]], of: str, labels: Mapping[str, str],
                 ) -> dict[str, list[Cell]]:
    """Return the columns with a further one of labels behind one of names, if any has a label."""
    if all(name == label for name, label in labels.items()):
        return columns
    result: dict[str, list[Cell]] = {}
    for name, cells in columns.items():
        result[name] = cells
        if name == of:
            result[f"{of} label"] = [labels[str(cell)] for cell in cells]
    return result


def report_files(files: Sequence[Path]) -> dict[str, Path] | None:
    """Return the files of a report that the study run holds, by their place; None without a page.

    These are the page, and the figures as PNG.
    """
    page = files[0]
    if page.suffix != ".html":
        return None
    return {file.relative_to(page.parent).as_posix(): file for file in files
            if file == page or file.suffix == ".png"}


def _cells(row: Row, better: str, baseline: str) -> tuple[Cell, ...]:
    pair, summary = row.comparison, row.summary
    difference = _ends(pair.difference) if pair else (None, None, None)
    return (row.metric, better, row.variant, summary.n, summary.diverged, row.absent,
            *_ends(summary.mean), *difference, pair.p_adjusted if pair else None,
            _verdict(row, baseline), pair.why if pair else row.refused)


def _ends(estimate: Estimate) -> tuple[Cell, Cell, Cell]:
    return estimate.value, estimate.low, estimate.high


def _verdict(row: Row, baseline: str) -> str:
    """Return the verdict in a word or two."""
    if row.variant == baseline:
        return "baseline"
    if row.refused:
        return "not compared"
    return row.verdict or "no verdict"
