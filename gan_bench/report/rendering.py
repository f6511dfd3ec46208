"""The figures of a report: which there are, and how they become files, on all cores at once."""

from __future__ import annotations

import multiprocessing
import os
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
from gan_bench.report import figures
from gan_bench.report.samples import Pictures

SEQUENCES = 4  # variants, above which the baseline's samples alone get a figure over training
MANY = 24  # variants, above which a figure of every pair, or of everyone's curves, shows nothing


@dataclass(frozen=True)
class Plate:
    """A figure to be drawn.

    Attributes:
        name: Of its files, without ending.
        about: What it shows, for those who cannot see it.
        draw: Makes it.
        caption: What the page says below it.
        view: The place of the score that it is of; None: of no single one.
        on_page: Whether the page has it; samples are there as grids.
        prints: Whether there is a PNG and a PDF of it too.
    """

    name: str
    about: str
    draw: Callable[[], Figure]
    caption: str = ""
    view: int | None = None
    on_page: bool = True
    prints: bool = True


def plates(several: Sequence[Results], found: Sequence[Finding], taken: Sequence[Pictures],
           ) -> Iterator[Plate]:
    """Yield the figures of a report.

    Those of the score that leads, and of none, are printed: a PDF takes longer than all else.
    """
    def name(results: Results, what: str) -> str:
        return _safe(f"{results.experiment}-{what}" if len(several) > 1 else what)

    for i, one in enumerate(found):
        results, score, leads = one.results, one.score, one.score == found[0].score
        yield Plate(name(results, f"{score}-seeds"), f"Final {score} of every seed, by variant",
                    partial(figures.seed_dots, results, score), view=i, prints=leads)
        some, caption = _some(results)
        yield Plate(name(results, f"{score}-curves"), f"{score} over training, by variant",
                    partial(figures.learning_curves, some, score), caption, i, prints=leads)
        many = len(results.variants) > MANY
        if one.better and one.pairs:
            yield Plate(name(results, f"{score}-pairs"), f"How likely a run of each variant beats "
                        f"one of {'the baseline' if many else 'each other'}, by {score}",
                        partial(figures.heat_map, one.comparisons if many else one.pairs, score),
                        "" if many else _over_all(one), i, prints=leads)
    for score in dict.fromkeys(one.score for one in found if one.better):
        having = [one.results for one in found if one.score == score]
        if len(having) > 1:
            yield Plate(_safe(f"{score}-profiles"),
                        f"Performance profiles of {score} over the experiments",
                        partial(figures.profiles, having, score))
    for results, own in zip(several, taken, strict=True):
        some, caption = _some(results)
        yield Plate(name(results, "dynamics"), "Losses and D's output over training, by variant",
                    partial(figures.dynamics, some), caption)
        if own.raw:
            last = {variant: {seed: by_step[max(by_step)] for seed, by_step in seeds.items()}
                    for variant, seeds in own.raw.items()}
            yield Plate(name(results, "samples"), "Samples of every variant and seed",
                        partial(figures.mosaic, last), on_page=False)
        for variant, seeds in own.raw.items():
            if len(own.raw) > SEQUENCES and variant != results.baseline:
                continue
            seed = min(seeds)
            yield Plate(name(results, f"samples-{variant}"), f"Samples of {variant} over training",
                        partial(figures.mosaic_over_steps, seeds[seed], f"{variant}, seed {seed}"),
                        on_page=False)


def rendered(drawn: Sequence[Plate], kinds: Sequence[str]) -> list[dict[str, bytes]]:
    """Return each figure in every format that it is wanted in, by the format's name.

    Args:
        kinds: Of those that are printed; the others are SVG alone.

    Raises:
        UserError: A process was killed.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    if cores == 1 or len(drawn) < 4:
        return [_render(plate, kinds) for plate in drawn]
    # Forked, they share the frames with us, which are too large to be sent.
    context = multiprocessing.get_context("fork")
    made: list[dict[str, bytes]] = [{} for _ in drawn]
    open_ends: list[Connection] = []
    for first in range(cores):
        receiver, sender = context.Pipe(duplex=False)
        places = range(first, len(drawn), cores)
        context.Process(target=_work, args=(drawn, places, kinds, sender), daemon=True).start()
        sender.close()
        open_ends.append(receiver)
    while open_ends:
        heard = wait(open_ends)  # whoever is not heard has to wait with what is next
        for receiver in [one for one in open_ends if one in heard]:
            try:
                place, contents = receiver.recv()
            except EOFError:
                open_ends.remove(receiver)
                continue
            if isinstance(contents, str):
                raise RuntimeError(f"{drawn[place].name}: {contents}")
            made[place] = contents
    if not all(made):
        raise UserError("a process that draws was killed, perhaps for want of memory")
    return made


def _work(drawn: Sequence[Plate], places: Sequence[int], kinds: Sequence[str],
          sender: Connection) -> None:
    for place in places:
        try:
            sender.send((place, _render(drawn[place], kinds)))
        except Exception as error:
            sender.send((place, one_line(error)))


def _render(plate: Plate, kinds: Sequence[str]) -> dict[str, bytes]:
    figure = plate.draw()
    return {kind: figures.render(figure, kind) for kind in kinds if plate.prints or kind == "svg"}


def _safe(name: str) -> str:
    """Return a name as a file can have it."""
    return re.sub(r"[^\w.=-]", "_", name)[:120]


def _some(results: Results) -> tuple[Results, str]:
    """Return the results of no more than `MANY` variants, the baseline among them, and say so."""
    names = results.variants
    if len(names) <= MANY:
        return results, ""
    kept = {results.baseline, *[name for name in names if name != results.baseline][:MANY - 1]}
    return results.only([name for name in names if name in kept]), (
        f"Drawn: {MANY} of {len(names)} variants; --variants chooses others.")


def _over_all(one: Finding) -> str:
    family, against = (max((c.family for c in pairs), default=0)
                       for pairs in (one.pairs, one.comparisons))
    return "" if family <= against else (
        f"Here Holm's correction is over all {family} pairs, which asks more of each than the "
        f"{against} against the baseline that the verdicts and the table are about.")
