"""A report: from what MLflow holds of an experiment to a page, and tables and figures beside it."""

from __future__ import annotations

import math
import shutil
import tempfile
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from gan_bench.compare.findings import Finding, findings
from gan_bench.compare.results import Results
from gan_bench.errors import UserError
from gan_bench.journal.schema import RESULTS, Status
from gan_bench.report import exports
from gan_bench.report.exports import title
from gan_bench.report.figures.style import count
from gan_bench.report.page import Content, Drawing, html
from gan_bench.report.rendering import plates, rendered
from gan_bench.report.samples import pictures, shown
from gan_bench.report.terminal import notes as table_notes

PAGE = "report.html"
UNFINISHED, LONGEST = ".report-", 600  # folder of a report that is being made; seconds


@dataclass(frozen=True)
class Written:
    """What a report has left.

    Attributes:
        files: Their paths, the page first if there is one.
        lines: What to say of it: what there is to know first, the verdicts of the score that
            leads, and where the files are.
    """

    files: list[Path]
    lines: list[str]


def write_report(several: Sequence[Results], out: Path, formats: Collection[str],
                 score: str | None = None, command: str = "", notes: Sequence[str] = (),
                 ) -> Written:
    """Write the report of an experiment, or of several with data sets of their own.

    No file is replaced before all are there, so that a report that fails leaves the one before.

    Args:
        several: What was read of them; `combine` makes one of those that share a data set.
        out: The folder; made if needed.
        formats: Of html, csv, tex, md, parquet and figures.
        score: The score that leads; None: the first that the experiment lists.
        command: How to make this report, for the page.
        notes: What there is to know before all else.

    Raises:
        UserError: No run has ended, or has such a score; the folder cannot be written.
    """
    found = [finding for results in several for finding in findings(results, score)]
    lead = found[0].score if found else None
    found.sort(key=lambda one: one.score != lead)  # of every experiment first
    notes = [*notes, *(f"{results.experiment}: {line}" if len(several) > 1 else line
                       for results in several
                       for line in (*first_of_all(results), *results.notes))]
    try:
        out.mkdir(parents=True, exist_ok=True)
        _tidy(out)
        with tempfile.TemporaryDirectory(dir=out, prefix=UNFINISHED) as folder:
            _write(Path(folder), several, found, formats, command, notes)
            files = _replace(Path(folder), out)
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot be written: {error.strerror}; make room, "
                        f"or give another --out") from None
    said = [*(one.sentence for one in found[0].comparisons), *not_compared(found[0]),
            *table_notes(found[0].rows, found[0].results.baseline)] if found else []
    head = [title(found[0])] if found else ["every run diverged: there is no score to compare"]
    return Written(files, [*notes, *head, *(f"  {line}" for line in said),
                           f"{files[0]}" if files[0].name == PAGE else f"{out}"])


def not_compared(one: Finding) -> list[str]:
    """Return why variants have no verdict, a line each; the baseline first, if it is its fault."""
    return [f"{row.variant} is not compared: {row.refused}" for row in one.rows if row.refused]


def first_of_all(results: Results) -> list[str]:
    """Return what a reader must know before any number: versions, and runs without a result."""
    runs, lines = results.runs, []
    versions = runs["version"].value_counts()
    if len(versions) > 1:
        each = "; ".join(f"{version or 'unknown'}: {count(n, 'run')}"
                         for version, n in versions.items())
        lines.append(f"runs of {len(versions)} program versions are compared ({each})")
    for variant, own in runs.groupby("variant", observed=True)["precision"]:
        if own[own != ""].nunique() > 1:
            each = "; ".join(f"{precision}: {count(int(n), 'run')}"
                             for precision, n in own[own != ""].value_counts().items())
            lines.append(f"runs of {variant} were computed in different precisions ({each})")
    states = runs["status"].value_counts()
    open_ends = {state: int(n) for state, n in states.items()
                 if state not in RESULTS}
    if open_ends:
        lines.append(f"{sum(open_ends.values())} of {count(len(runs), 'run')} have no result: "
                     + ", ".join(f"{n} {state}" for state, n in open_ends.items()))
    if lost := int(states.get(Status.DIVERGED, 0)):
        lines.append(f"{lost} of {count(len(runs), 'run')} diverged; they count, and rank last")
    for run in results.ended():
        bad = [name for name, value in run.scores.items() if not math.isfinite(value)]
        if run.status == Status.FINISHED and bad:
            lines.append(f"{run.variant} seed {run.seed} finished with scores that are not finite "
                         f"({', '.join(bad)}): there it counts as if it had diverged")
    few = runs.groupby("variant", observed=True)["seed"].nunique()
    if (few == 1).any():
        lines.append(f"one seed of {', '.join(map(str, few.index[few == 1]))}: no intervals and no "
                     f"verdict, for there is nothing to judge the scatter of seeds by")
    return lines


def _write(folder: Path, several: Sequence[Results], found: Sequence[Finding],
           formats: Collection[str], command: str, notes: Sequence[str]) -> None:
    """Write all files into an empty folder."""
    if "csv" in formats:
        exports.summary_frame(found).to_csv(folder / "summary.csv", index=False)
        exports.pairs_frame(found).to_csv(folder / "pairs.csv", index=False)
    if "tex" in formats:
        (folder / "table.tex").write_text(exports.as_latex(found), encoding="utf-8")
    if "md" in formats:
        (folder / "table.md").write_text(exports.as_markdown(found), encoding="utf-8")
    if "parquet" in formats:
        exports.write_history(several, folder / "history.parquet")
    if not {"html", "figures"} & set(formats):
        return
    files = "figures" in formats
    taken = [pictures(results) for results in several]
    drawn = [plate for plate in plates(several, found, taken) if plate.on_page or files]
    made = rendered(drawn, ("svg", "png", "pdf") if files else ("svg",))
    if files:
        (folder / "figures").mkdir()
        for plate, contents in zip(drawn, made, strict=True):
            for kind, content in contents.items():
                (folder / "figures" / f"{plate.name}.{kind}").write_bytes(content)
    if "html" in formats:
        drawings: dict[int | None, list[Drawing]] = {}
        for plate, contents in zip(drawn, made, strict=True):
            if plate.on_page:
                drawings.setdefault(plate.view, []).append(
                    Drawing(plate.about, contents["svg"], plate.caption))
        page = html(Content(
            found, [drawings.get(i, []) for i in range(len(found))], drawings.get(None, []),
            [(results, shown(own, len(several)))
             for results, own in zip(several, taken, strict=True)],
            command, sorted(file.name for file in folder.iterdir()), notes))
        (folder / PAGE).write_text(page, encoding="utf-8")


def _tidy(out: Path) -> None:
    """Remove what reports have left that were killed; a living one does not take so long."""
    for old in out.glob(f"{UNFINISHED}*"):
        if time.time() - old.stat().st_mtime > LONGEST:
            shutil.rmtree(old, ignore_errors=True)


def _replace(folder: Path, out: Path) -> list[Path]:
    """Move what was made to where it belongs, and remove figures of an earlier report."""
    made = sorted((file for file in folder.rglob("*") if file.is_file()),
                  key=lambda file: (file.name != PAGE, file))
    targets = [out / file.relative_to(folder) for file in made]
    drawn = out / "figures"
    if (folder / "figures").exists():
        drawn.mkdir(exist_ok=True)
    for file, target in zip(made, targets, strict=True):
        file.replace(target)
    if (folder / "figures").exists():
        for old in drawn.iterdir():
            if old not in targets and old.suffix in (".svg", ".png", ".pdf"):
                old.unlink()
    return targets
