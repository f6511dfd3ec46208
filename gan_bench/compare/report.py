"""A report: from what MLflow holds of an experiment to a page, and tables and figures beside it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from gan_bench.compare import exports, figures
from gan_bench.compare.exports import title
from gan_bench.compare.findings import Finding, findings
from gan_bench.compare.grids import Pictures, pictures, shown
from gan_bench.compare.page import Content, Drawing, html
from gan_bench.compare.results import Results
from gan_bench.errors import UserError

PAGE = "report.html"


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


@dataclass(frozen=True)
class Plate:
    """A figure to be drawn.

    Attributes:
        name: Of its files, without ending.
        about, caption: As on the page.
        draw: Makes it.
        view: The place of the score that it is of; None: of no single one.
        on_page: Whether the page has it; samples are there as grids.
    """

    name: str
    about: str
    draw: Callable[[], Figure]
    caption: str = ""
    view: int | None = None
    on_page: bool = True


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
    notes = [*notes, *(line for results in several for line in first_of_all(results))]
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out, prefix=".report-") as folder:
            _write(Path(folder), several, found, formats, command, notes)
            files = _replace(Path(folder), out)
    except OSError as error:
        raise UserError(f"{error.filename or out}: cannot be written: {error.strerror}; make room, "
                        f"or give another --out") from None
    said = [one.sentence for one in found[0].comparisons] if found else []
    head = [title(found[0])] if found else ["every run diverged: there is no score to compare"]
    return Written(files, [*notes, *head, *(f"  {line}" for line in said),
                           f"{files[0]}" if files[0].name == PAGE else f"{out}"])


def first_of_all(results: Results) -> list[str]:
    """Return what a reader must know before any number: versions, and runs without a result."""
    runs, lines = results.runs, []
    versions = runs["version"].value_counts()
    if len(versions) > 1:
        each = "; ".join(f"{version or 'unknown'}: {n} runs" for version, n in versions.items())
        lines.append(f"{results.experiment}: runs of {len(versions)} program versions are compared "
                     f"({each})")
    states = runs["status"].value_counts()
    open_ends = {state: int(n) for state, n in states.items()
                 if state not in ("FINISHED", "DIVERGED")}
    if open_ends:
        lines.append(f"{results.experiment}: {sum(open_ends.values())} of {len(runs)} runs are no "
                     f"result: {', '.join(f'{n} {state}' for state, n in open_ends.items())}")
    if lost := int(states.get("DIVERGED", 0)):
        lines.append(f"{results.experiment}: {lost} of {len(runs)} runs diverged; they count, and "
                     f"rank last")
    few = runs.groupby("variant", observed=True)["seed"].nunique()
    if (few == 1).any():
        lines.append(f"{results.experiment}: one seed of {', '.join(map(str, few.index[few == 1]))}"
                     f": no intervals and no verdict, for there is nothing to judge the scatter of "
                     f"seeds by")
    return lines


def _write(folder: Path, several: Sequence[Results], found: Sequence[Finding],
           formats: Collection[str], command: str, notes: Sequence[str]) -> None:
    """Write all files into an empty folder."""
    tables = {
        "csv": (("summary.csv", lambda file: exports.summary_frame(found).to_csv(file, index=False)
                 ), ("pairs.csv", lambda file: exports.pairs_frame(found).to_csv(
                     file, index=False))),
        "tex": (("table.tex", lambda file: file.write_text(exports.as_latex(found))),),
        "md": (("table.md", lambda file: file.write_text(exports.as_markdown(found))),),
        "parquet": (("history.parquet", lambda file: exports.write_history(several, file)),)}
    for kind, makers in tables.items():
        for name, make in makers if kind in formats else ():
            make(folder / name)
    if not {"html", "figures"} & set(formats):
        return
    taken = [pictures(results) for results in several]
    drawings: dict[int | None, list[Drawing]] = {}
    if "figures" in formats:
        (folder / "figures").mkdir()
    for plate in plates(several, found, taken):
        if not plate.on_page and "figures" not in formats:
            continue
        figure = plate.draw()
        svg = figures.render(figure, "svg")
        if plate.on_page:
            drawings.setdefault(plate.view, []).append(Drawing(plate.about, svg, plate.caption))
        if "figures" in formats:
            (folder / "figures" / f"{plate.name}.svg").write_bytes(svg)
            for kind in ("png", "pdf"):
                figures.save(figure, folder / "figures" / f"{plate.name}.{kind}")
    if "html" in formats:
        beside = sorted(file.name for file in folder.iterdir())
        page = html(Content(found, [drawings.get(i, []) for i in range(len(found))],
                            drawings.get(None, []),
                            [(results, shown(own, len(several))) for results, own in zip(
                                several, taken, strict=True)], command, beside, notes))
        (folder / PAGE).write_text(page, encoding="utf-8")


def plates(several: Sequence[Results], found: Sequence[Finding], taken: Sequence[Pictures],
           ) -> Iterator[Plate]:
    """Yield the figures of a report."""
    def name(results: Results, what: str) -> str:
        return _safe(f"{results.experiment}-{what}" if len(several) > 1 else what)

    for i, one in enumerate(found):
        results, score = one.results, one.score
        yield Plate(name(results, f"{score}-seeds"), f"Final {score} of every seed, by variant",
                    lambda r=results, s=score: figures.seed_dots(r, s), view=i)
        yield Plate(name(results, f"{score}-curves"), f"{score} over training, by variant",
                    lambda r=results, s=score: figures.learning_curves(r, s), view=i)
        if one.better and one.pairs:
            yield Plate(name(results, f"{score}-pairs"),
                        f"How likely a run of each variant beats one of each other, by {score}",
                        lambda p=one.pairs, s=score: figures.heat_map(p, s),
                        _over_all(one), view=i)
    if len(several) > 1:
        for score in dict.fromkeys(one.score for one in found if one.better):
            having = [one.results for one in found if one.score == score]
            if len(having) > 1:
                yield Plate(_safe(f"{score}-profiles"),
                            f"Performance profiles of {score} over the experiments",
                            lambda h=having, s=score: figures.profiles(h, s))
    for results, own in zip(several, taken, strict=True):
        yield Plate(name(results, "dynamics"), "Losses and D's output over training, by variant",
                    lambda r=results: figures.dynamics(r))
        if own.raw:
            yield Plate(name(results, "samples"), "Samples of every variant and seed",
                        lambda o=own: figures.mosaic(
                            {v: {seed: by_step[max(by_step)] for seed, by_step in seeds.items()}
                             for v, seeds in o.raw.items()}), on_page=False)
        for variant, seeds in own.raw.items():
            seed = min(seeds)
            yield Plate(name(results, f"samples-{variant}"), f"Samples of {variant} over training",
                        lambda p=seeds[seed], v=variant, s=seed: figures.mosaic_over_steps(
                            p, f"{v}, seed {s}"), on_page=False)


def _safe(name: str) -> str:
    """Return a name as a file can have it."""
    return re.sub(r"[^\w.=-]", "_", name)[:120]


def _over_all(one: Finding) -> str:
    family, against = (max((c.family for c in pairs), default=0)
                       for pairs in (one.pairs, one.comparisons))
    return "" if family <= against else (
        f"Here Holm's correction is over all {family} pairs, which asks more of each than the "
        f"{against} against the baseline that the verdicts and the table are about.")


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
