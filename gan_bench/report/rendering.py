"""The figures of a report: which ones it has, and their rendering on all cores."""

from __future__ import annotations

import multiprocessing
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait

from matplotlib.figure import Figure

from gan_bench.compare.findings import Finding
from gan_bench.compare.results import Results
from gan_bench.errors import UserError, one_line
from gan_bench.hardware import end_with_parent, usable_cores
from gan_bench.report import figures
from gan_bench.report.figures.look import PAGE, Look
from gan_bench.report.figures.style import CaptionedFigure
from gan_bench.report.samples import Pictures

CAPTION = "caption"  # among the formats of a figure
MAX_SEQUENCES = 4  # with more variants only the baseline has a figure of samples over training
MAX_VARIANTS = 24  # a figure of more pairs or curves cannot be read


@dataclass(frozen=True)
class ReportFigure:
    """A figure to draw.

    Attributes:
        name: The name of its files, without ending.
        about: What it shows, for readers who cannot see it.
        draw: Draws it.
        caption: The text below it on the page.
        view: The index of its finding; None if it is not about a single score.
        on_page: Whether the page shows it; the page shows samples as grids.
        prints: Whether it is written as PNG and PDF too.
        tuned: The index of the experiment whose budgets it shows; None if it shows none.
        place: Which of the figures of budgets it is.
    """

    name: str
    about: str
    draw: Callable[[], Figure]
    caption: str = ""
    view: int | None = None
    on_page: bool = True
    prints: bool = True
    tuned: int | None = None
    place: str = ""


def report_figures(experiments: Sequence[Results], findings: Sequence[Finding],
                   pictures: Sequence[Pictures]) -> Iterator[ReportFigure]:
    """Yield the figures of a report.

    Only the figures of the leading score, and those of no single score, are printed: a PDF takes
    longer than all other formats.
    """
    yield from _score_figures(experiments, findings)
    yield from _profile_figures(findings)
    for results, grids in zip(experiments, pictures, strict=True):
        yield from _run_figures(experiments, results, grids)


def file_name(experiments: Sequence[Results], results: Results, subject: str) -> str:
    """Return the name of a figure's files; with the experiment's where a report has several."""
    return _safe(f"{results.experiment}-{subject}" if len(experiments) > 1 else subject)


def _score_figures(experiments: Sequence[Results], findings: Sequence[Finding],
                   ) -> Iterator[ReportFigure]:
    """Yield the figures of each finding."""
    for i, finding in enumerate(findings):
        results, score, label = finding.results, finding.score, finding.label
        name = partial(file_name, experiments, results)
        leads = score == findings[0].score
        order = [row.variant for row in finding.rows]
        yield ReportFigure(name(f"{score}-seeds"), f"Final {label} of every seed, by variant",
                           partial(figures.seed_dots, results, score, order), view=i, prints=leads)
        subset, caption = _drawn_variants(results)
        yield ReportFigure(name(f"{score}-curves"), f"{label} over training, by variant",
                           partial(figures.learning_curves, subset, score, order), caption, i,
                           prints=leads)
        if finding.better and len(finding.pairs) > 1:  # one cell is no map: the table says it
            pairs, against, note = finding.pairs, "each other", _family_note(finding)
            if len(results.variants) > MAX_VARIANTS:
                pairs, against, note = finding.comparisons, "the baseline", ""
            yield ReportFigure(name(f"{score}-pairs"), f"How likely a run of each variant beats "
                               f"one of {against}, by {label}",
                               partial(figures.heat_map, pairs, label, order), note, i,
                               prints=leads)


def _profile_figures(findings: Sequence[Finding]) -> Iterator[ReportFigure]:
    """Yield a figure for each score that several experiments have."""
    for score in dict.fromkeys(finding.score for finding in findings if finding.better):
        experiments = [finding.results for finding in findings if finding.score == score]
        if len(experiments) > 1:
            yield ReportFigure(_safe(f"{score}-profiles"),
                               f"Performance profiles of {score} over the experiments",
                               partial(figures.profiles, experiments, score))


def _run_figures(experiments: Sequence[Results], results: Results, pictures: Pictures,
                 ) -> Iterator[ReportFigure]:
    """Yield the figures of an experiment's losses and samples."""
    name = partial(file_name, experiments, results)
    subset, caption = _drawn_variants(results)
    yield ReportFigure(name("dynamics"), "Losses and D's output over training, by variant",
                       partial(figures.dynamics, subset), caption)
    if pictures.raw:
        last = {variant: {seed: by_step[max(by_step)] for seed, by_step in seeds.items()}
                for variant, seeds in pictures.raw.items()}
        yield ReportFigure(name("samples"), "Samples of every variant and seed",
                           partial(figures.mosaic, last), on_page=False)
    for variant, seeds in pictures.raw.items():
        if len(pictures.raw) > MAX_SEQUENCES and variant != results.baseline:
            continue
        seed = min(seeds)
        file = name(f"samples-{results.declared.name_of(variant)}")
        yield ReportFigure(file, f"Samples of {variant} over training",
                           partial(figures.mosaic_over_steps, seeds[seed],
                                   f"{variant}, seed {seed}"), on_page=False)


def render_all(drawn: Sequence[ReportFigure], kinds: Sequence[str], look: Look = PAGE,
               ) -> list[dict[str, bytes]]:
    """Return each figure in all its formats, by the name of the format, and under `CAPTION` its
    caption.

    Args:
        drawn: The figures.
        kinds: The formats of printed figures; the others are SVG alone.
        look: Their width, font and titles.

    Raises:
        UserError: A process was killed.
    """
    cores = usable_cores() if sys.platform == "linux" else 1  # elsewhere a fork is not safe
    if cores == 1 or len(drawn) < 4:
        return [_render(figure, kinds, look) for figure in drawn]
    # Forked processes share the frames, which are too large to send.
    context = multiprocessing.get_context("fork")
    rendered: list[dict[str, bytes]] = [{} for _ in drawn]
    open_ends: list[Connection] = []
    for first in range(cores):
        receiver, sender = context.Pipe(duplex=False)
        places = range(first, len(drawn), cores)
        context.Process(target=_work, args=(drawn, places, kinds, look, sender),
                        daemon=True).start()
        sender.close()
        open_ends.append(receiver)
    while open_ends:
        ready = wait(open_ends)
        for receiver in [end for end in open_ends if end in ready]:
            try:
                place, contents = receiver.recv()
            except EOFError:
                open_ends.remove(receiver)
                continue
            if isinstance(contents, str):
                raise RuntimeError(f"{drawn[place].name}: {contents}")
            rendered[place] = contents
    if not all(rendered):
        raise UserError("a process that draws figures was killed: the machine may lack memory; "
                        "free some, and repeat the report")
    return rendered


def _work(drawn: Sequence[ReportFigure], places: Sequence[int], kinds: Sequence[str], look: Look,
          sender: Connection) -> None:
    end_with_parent()
    for place in places:
        try:
            sender.send((place, _render(drawn[place], kinds, look)))
        except Exception as error:
            sender.send((place, one_line(error)))


def _render(figure: ReportFigure, kinds: Sequence[str], look: Look) -> dict[str, bytes]:
    with figures.drawn_for(look):
        drawing = figure.draw()
        contents = {kind: figures.render(drawing, kind) for kind in kinds
                    if figure.prints or kind == "svg"}
    caption = drawing.caption if isinstance(drawing, CaptionedFigure) else ()
    return {**contents, CAPTION: "\n".join(caption).encode()}


def _safe(name: str) -> str:
    """Return a name that is valid for a file."""
    return re.sub(r"[^\w.=-]", "_", name)[:120]


def _drawn_variants(results: Results) -> tuple[Results, str]:
    """Return the results of at most `MAX_VARIANTS` variants with the baseline, and a caption."""
    names = results.variants
    if len(names) <= MAX_VARIANTS:
        return results, ""
    others = [name for name in names if name != results.baseline]
    drawn = {results.baseline, *others[:MAX_VARIANTS - 1]}
    return results.only([name for name in names if name in drawn]), (
        f"Drawn: {MAX_VARIANTS} of {len(names)} variants; --variants chooses others.")


def _family_note(finding: Finding) -> str:
    """Return a note if the pairs are a larger family than the comparisons of the table."""
    family = max((pair.family for pair in finding.pairs), default=0)
    in_table = max((pair.family for pair in finding.comparisons), default=0)
    if family <= in_table:
        return ""
    others = (f"over the {in_table} comparisons with the baseline"
              if not finding.results.declared.sweeps else "within each sweep of the grid")
    return (f"Here Holm's correction is over all {family} pairs. That is stricter than {others} in "
            f"the verdicts and the table.")
