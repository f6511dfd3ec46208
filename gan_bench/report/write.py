"""Write a report: from an experiment in MLflow to a page, tables and figures."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from gan_bench.atomic import scratch_folder
from gan_bench.compare.agreement import disagreements
from gan_bench.compare.findings import Finding, findings, why_no_score
from gan_bench.compare.labels import labelled
from gan_bench.compare.results import Results
from gan_bench.compare.search.budgets import Budgets, budgets_of
from gan_bench.compare.search.counted_draws import each_once
from gan_bench.compare.stats.overflow import within_range
from gan_bench.errors import count, unwritable
from gan_bench.journal.schema import RESULTS, Status
from gan_bench.report import exports
from gan_bench.report.exports import title
from gan_bench.report.figures.look import PAGE, Look
from gan_bench.report.inlining import Drawing
from gan_bench.report.manifest import install_report
from gan_bench.report.page import Content, html
from gan_bench.report.papers import Spread, paper_tables
from gan_bench.report.rendering import CAPTION, ReportFigure, render_all, report_figures
from gan_bench.report.samples import page_pictures, read_pictures
from gan_bench.report.search.budget_exports import budgets_frame, draws_frame
from gan_bench.report.search.budget_figures import budget_figures
from gan_bench.report.search.budget_terminal import said_of, title_of
from gan_bench.report.terminal import table_notes

PAGE_FILE = "report.html"
UNCONFIRMED = "no chosen draw is confirmed yet: no setting is compared under fresh seeds"
UNFINISHED = ".gan-bench-report-"  # prefix of the folder of a report that is being written


@dataclass(frozen=True)
class Written:
    """A written report.

    Attributes:
        files: Paths of the files; the page is first if there is one.
        lines: Lines for the terminal: what to know first, the verdicts of the leading score, and
            where the files are.
        is_complete: Whether MLflow shows all runs of the root.
    """

    files: list[Path]
    lines: list[str]
    is_complete: bool = True


@dataclass(frozen=True)
class Shown:
    """What a report shows.

    Attributes:
        every: All runs of each experiment.
        compared: Those of each that are compared seed by seed.
        tuned: The draws of each; None of one without a search.
        findings: Of all scores and experiments.
    """

    every: Sequence[Results]
    compared: Sequence[Results]
    tuned: Sequence[Budgets | None]
    findings: Sequence[Finding]


def write_report(experiments: Sequence[Results], out: Path, formats: Collection[str],
                 score: str | None = None, command: str = "", notes: Sequence[str] = (),
                 *, takes_over: bool = False, look: Look = PAGE, spread: Spread = "sd",
                 options: str = "") -> Written:
    """Write the report of an experiment, or of several with data sets of their own.

    Files are replaced only after all are written, so a report that fails leaves the previous one.
    Files that no report wrote are never replaced or removed. Earlier versions recorded no files:
    with `takes_over` and without a record, files with a report's names count as a report's.

    Args:
        experiments: Their results; `combine` merges those that share a data set.
        out: The folder; created if it does not exist.
        formats: Of html, csv, tex, md, parquet and figures.
        score: The leading score; None for the first that the experiment lists.
        command: How to write this report, for the page.
        notes: What to know before all else.
        takes_over: As for `install_report`.
        look: Width, font and titles of the figures in `figures/`; the page has its own.
        spread: What follows a mean in the tables for papers.
        options: Of the command: the experiments, and the options that change what a report shows,
            for the folder's record.

    Raises:
        UserError: No run has ended, or has such a score; the folder cannot be written, or a file
            of another origin is in the way there.
    """
    every = [labelled(results) for results in experiments]
    tuned = [budgets_of(results) for results in every]
    shown = [results.compared() for results in every]
    all_findings = [finding for whole, some, budgets in zip(every, shown, tuned, strict=True)
                    for finding in _findings_of(whole, some, budgets, score)]
    lead = all_findings[0].score if all_findings else None
    all_findings.sort(key=lambda finding: finding.score != lead)  # the lead of every experiment
    notes = list(notes)
    for whole, some in zip(every, shown, strict=True):
        prefix = f"{whole.experiment}: " if len(experiments) > 1 else ""
        notes += [prefix + line for line in (*warnings_of(whole), *few_seeds(some), *whole.notes)]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with scratch_folder(out, UNFINISHED) as folder:
            _write_tables(folder, experiments, all_findings, tuned, formats, spread)
            _write_pictures(folder, Shown(every, shown, tuned, all_findings), formats, command,
                            notes, look)
            installed = install_report(folder, out, options, takes_over=takes_over)
    except OSError as error:
        raise unwritable(error.filename or out, error, elsewhere="choose another --out") from None
    files = [out / name for name in installed.files]
    files.sort(key=lambda file: (file != out / PAGE_FILE, file))
    place = files[0] if files[0] == out / PAGE_FILE else out
    said = [line for budgets in tuned if budgets
            for line in (title_of(budgets), *(f"  {words}" for words in said_of(budgets)))]
    return Written(files, [*notes, *said, *_verdict_lines(all_findings, shown, tuned),
                           *installed.sentences, str(place)])


def _findings_of(whole: Results, some: Results, budgets: Budgets | None, score: str | None,
                 ) -> list[Finding]:
    """Return the findings of an experiment; none of a search that has only selected so far.

    Args:
        whole: All its runs.
        some: Those that are compared seed by seed.
    """
    has_selected = budgets is not None and any(tuned.random for tuned in budgets.variants)
    if not len(some.runs) and has_selected:
        return []
    return findings(some if len(some.runs) else whole, score)


def _verdict_lines(all_findings: Sequence[Finding], experiments: Sequence[Results],
                   tuned: Sequence[Budgets | None]) -> list[str]:
    """Return the title and the verdicts of the leading score."""
    if not all_findings:
        return [UNCONFIRMED if any(tuned) else why_no_score(experiments)]
    lead = all_findings[0]
    lines = [*(pair.sentence for pair in lead.comparisons), *not_compared(lead),
             *disagreements(all_findings), *table_notes(lead.rows, lead.results.baseline)]
    of_chosen = "The chosen settings under fresh seeds, by " if any(tuned) else ""
    return [of_chosen + title(lead), *(f"  {line}" for line in lines)]


def not_compared(finding: Finding) -> list[str]:
    """Return why variants have no verdict, a line each."""
    return [f"{row.variant} is not compared: {row.refused}" for row in finding.rows if row.refused]


def _machines(runs: pd.DataFrame) -> list[str]:
    """Return which kinds of machines the runs are spread over, if that is more than one.

    A difference between machines looks like one between variants where a seed's runs are on two.
    """
    known = runs[runs["device"] != ""]
    kinds = known["device"].value_counts()
    if len(kinds) < 2:
        return []
    each = "; ".join(f"{kind}: {count(int(n), 'run')}" for kind, n in kinds.items())
    split = [str(seed) for seed, devices in known.groupby("seed")["device"]
             if devices.nunique() > 1]
    seeds = (f"; seeds whose runs are on several: {', '.join(split)}" if split else
             "; the runs of each seed are on one")
    return [f"runs on {len(kinds)} kinds of machines are compared ({each}){seeds}"]


def warnings_of(results: Results) -> list[str]:
    """Return what a reader must know before any number: versions, and runs without a result."""
    runs, lines = each_once(results.runs), []
    versions = runs["version"].value_counts()
    if len(versions) > 1:
        each = "; ".join(f"{version or 'unknown'}: {count(n, 'run')}"
                         for version, n in versions.items())
        lines.append(f"runs of {len(versions)} program versions are compared ({each})")
    lines += _machines(runs)
    for variant, precisions in runs.groupby("variant", observed=True)["precision"]:
        recorded = precisions[precisions != ""]
        if recorded.nunique() > 1:
            each = "; ".join(f"{precision}: {count(int(n), 'run')}"
                             for precision, n in recorded.value_counts().items())
            lines.append(f"runs of {variant} were computed in different precisions ({each})")
    states = runs["status"].value_counts()
    unfinished = {state: int(n) for state, n in states.items() if state not in RESULTS}
    if unfinished:
        lines.append(f"{sum(unfinished.values())} of {count(len(runs), 'run')} have no result: "
                     + ", ".join(f"{n} {state}" for state, n in unfinished.items()))
    if lost := int(states.get(Status.DIVERGED, 0)):
        lines.append(f"{lost} of {count(len(runs), 'run')} diverged; they count, and rank last")
    for run in results.ended():
        bad = [name for name, value in run.scores.items() if math.isnan(within_range(value))]
        if run.status == Status.FINISHED and bad:
            lines.append(f"{run.variant} seed {run.seed} finished with scores that are not finite, "
                         f"or too large to compare ({', '.join(bad)}): for these it counts as "
                         f"diverged")
    return lines


def few_seeds(results: Results) -> list[str]:
    """Return which variants have a single seed, if any has."""
    few = results.runs.groupby("variant", observed=True)["seed"].nunique()
    if not (few == 1).any():
        return []
    names = ", ".join(map(str, few.index[few == 1]))
    return [f"only one seed of {names}, so there are no intervals and no verdict: how much results "
            f"differ between seeds is unknown"]


def _write_tables(folder: Path, experiments: Sequence[Results], findings: Sequence[Finding],
                  tuned: Sequence[Budgets | None], formats: Collection[str], spread: Spread,
                  ) -> None:
    """Write the tables into an empty folder."""
    searched = [budgets for budgets in tuned if budgets]
    if "csv" in formats and searched:
        exports.write_csv(budgets_frame(searched), folder / "budgets.csv")
        exports.write_csv(draws_frame(searched), folder / "draws.csv")
    if "csv" in formats:
        exports.write_csv(exports.summary_frame(findings), folder / "summary.csv")
        exports.write_csv(exports.pairs_frame(findings), folder / "pairs.csv")
    tables = paper_tables(findings, spread)
    if "tex" in formats:
        (folder / "table.tex").write_text(exports.as_latex(findings), encoding="utf-8")
        for table in tables:
            (folder / f"{table.name}.tex").write_text(table.as_latex(), encoding="utf-8")
    if "md" in formats:
        (folder / "table.md").write_text(exports.as_markdown(findings), encoding="utf-8")
        for table in tables:
            (folder / f"{table.name}.md").write_text(table.as_markdown(), encoding="utf-8")
    if "parquet" in formats:
        exports.write_history(experiments, folder / "history.parquet")


def _write_pictures(folder: Path, shown: Shown, formats: Collection[str], command: str,
                    notes: Sequence[str], look: Look) -> None:
    """Write the figures and the page into the folder."""
    if not {"html", "figures"} & set(formats):
        return
    experiments, findings = shown.compared, shown.findings
    pictures = [read_pictures(results) for results in experiments]
    drawn = [*budget_figures(shown.every, shown.tuned),
             *report_figures(experiments, findings, pictures)]
    rendered: list[dict[str, bytes]] = []
    if "figures" in formats:
        rendered = render_all(drawn, ("svg", "png", "pdf"), look)
        _write_figures(folder / "figures", drawn, rendered, look)
    if "html" not in formats:
        return
    if not rendered or look != PAGE:
        drawn = [figure for figure in drawn if figure.on_page]
        rendered = render_all(drawn, ("svg",))
    drawings: dict[int | None, list[Drawing]] = {}
    of_budgets: dict[int, list[Drawing]] = {}
    for figure, contents in zip(drawn, rendered, strict=True):
        if not figure.on_page:
            continue
        drawing = Drawing(figure.about, contents["svg"], figure.caption, figure.place)
        if figure.tuned is None:
            drawings.setdefault(figure.view, []).append(drawing)
        else:
            of_budgets.setdefault(figure.tuned, []).append(drawing)
    by_finding = [drawings.get(i, []) for i in range(len(findings))]
    on_page = [page_pictures(raw, len(experiments)) for raw in pictures]
    page = html(Content(
        findings, by_finding, drawings.get(None, []),
        list(zip(experiments, on_page, strict=True)),
        command, sorted(file.name for file in folder.iterdir()), notes, shown.every, shown.tuned,
        of_budgets))
    (folder / PAGE_FILE).write_text(page, encoding="utf-8")


def _write_figures(folder: Path, drawn: Sequence[ReportFigure],
                   rendered: Sequence[dict[str, bytes]], look: Look) -> None:
    """Write each figure in its formats; without titles, their captions into a file of their own."""
    folder.mkdir()
    captions = []
    for figure, contents in zip(drawn, rendered, strict=True):
        captions.append(f"## {figure.name}\n\n{contents[CAPTION].decode()}\n")
        for kind, content in contents.items():
            if kind != CAPTION:
                (folder / f"{figure.name}.{kind}").write_bytes(content)
    if not look.has_titles:
        (folder / "captions.md").write_text("\n".join(captions), encoding="utf-8")
