"""The sample grids of a page: read from MLflow, cut to size, and so many as the page can hold."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from gan_bench.report.figures.mosaics import ACROSS, GREY, Pixels, tiles
from gan_bench.tracking.address import is_server, quiet_mlflow, reason
from gan_bench.tracking.artifacts import AT_ONCE, PICTURE, pictures_of_database, pictures_of_server

if TYPE_CHECKING:

    from gan_bench.compare.results import Results

BUDGET = 2_200_000  # bytes of all pictures of a page; base64 makes a third more of them
MOST = 240  # pictures: more are no comparison that anyone looks through
SEEDS, STEPS, VARIANTS = 5, 12, 24  # at most; fewer steps are shown before fewer than 2 seeds
COUNTS = (64, 36, 16, 9, 4, 1)  # samples of a grid, of its left upper corner
Grids = dict[str, dict[int, dict[int, bytes]]]  # variant → seed → step → picture
Place = tuple[str, int, int]  # variant, seed, step


@dataclass(frozen=True)
class Pictures:
    """The sample grids that a report looks at.

    Attributes:
        raw: As they are in MLflow.
        seeds, steps: Those that were taken.
        notes: What was not, in words.
    """

    raw: Grids
    seeds: list[int]
    steps: list[int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Shown:
    """The pictures of a page.

    Attributes:
        grids: WebP, in their own pixels: the page enlarges them.
        seeds, steps: In order.
        width, height: In pixels, of the largest.
        notes: What is not shown, in words.
    """

    grids: Grids
    seeds: list[int]
    steps: list[int]
    width: int
    height: int
    notes: tuple[str, ...]


@quiet_mlflow()
def pictures(results: Results) -> Pictures:
    """Return the sample grids of all variants under some seeds, at some of the steps.

    What is not there is left out: a run that failed early, artifacts that were deleted.
    """
    try:
        places = _places(results)
    except Exception as error:  # a server, or whatever driver is behind the address
        why = reason(error, results.uri)
        return Pictures({}, [], [], (f"MLflow does not give the pictures: {why}",))
    steps = sorted({step for found in places.values() for step in found})
    if not steps:
        return Pictures({}, [], [], ("there are no pictures of samples in MLflow",))
    runs = results.runs.loc[[run for run in results.runs.index if str(run) in places]]
    variants = [name for name in results.variants if (runs["variant"] == name).any()]
    seeds = sorted({int(seed) for seed in runs["seed"]})
    kept = variants[:VARIANTS]
    few_seeds, few_steps = _few(len(kept), seeds, steps)
    raw: Grids = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [(str(row.variant), int(row.seed), step, pool.submit(places[str(run)][step]))
                   for run, row in zip(runs.index, runs.itertuples(), strict=True)
                   if str(row.variant) in kept and int(row.seed) in few_seeds
                   for step in few_steps if step in places[str(run)]]
        for variant, seed, step, answer in waiting:
            with suppress(Exception):  # one that is not there any more is shown as missing
                raw.setdefault(variant, {}).setdefault(seed, {})[step] = answer.result()
    notes = (_of(some, every, what) for some, every, what in (
        (kept, variants, "variants"), (few_seeds, seeds, "seeds"), (few_steps, steps, "steps")))
    return Pictures(raw, few_seeds, few_steps, tuple(filter(None, notes)))


def shown(taken: Pictures, pages: int = 1) -> Shown:
    """Return the pictures with as many samples each as the page can hold.

    Args:
        pages: How many experiments share the page.
    """
    cut = {(variant, seed, step): found for variant, own in taken.raw.items()
           for seed, by_step in own.items() for step, png in by_step.items()
           if (found := _cut(png))}
    most = max((len(samples) for samples in cut.values()), default=0)
    for count in COUNTS:
        made = _encoded(cut, count, BUDGET // pages)
        if made or count == COUNTS[-1]:
            break
    grids: Grids = {}
    for (variant, seed, step), (content, _) in made.items():
        grids.setdefault(variant, {}).setdefault(seed, {})[step] = content
    width, height = (max((size[i] for _, size in made.values()), default=0) for i in (0, 1))
    few = (f"{count} of {most} samples of each grid",) if count < most else ()
    return Shown(grids, taken.seeds, taken.steps, width, height, (*taken.notes, *few))


def _few(variants: int, seeds: list[int], steps: list[int]) -> tuple[list[int], list[int]]:
    """Return the first seeds, and steps evenly spread, so that there are no more than `MOST`."""
    n, m = min(len(seeds), SEEDS), min(len(steps), STEPS)
    while variants * n * m > MOST and (n > 1 or m > 2):
        if n > 2 or m <= 4:
            n, m = (n - 1, m) if n > 1 else (n, m - 1)
        else:
            m -= 1
    return seeds[:n], [steps[i] for i in np.linspace(0, len(steps) - 1, m).round().astype(int)]


def _of(kept: Sequence[object], every: Sequence[object], what: str) -> str:
    return f"{len(kept)} of {len(every)} {what}" if len(kept) < len(every) else ""


def _encoded(cut: dict[Place, list[Pixels]], count: int, budget: int,
             ) -> dict[Place, tuple[bytes, tuple[int, int]]]:
    """Return each picture as WebP, and its size; nothing if together they pass the budget.

    WebP without loss takes less room than PNG, and every browser shows it. One sample each is
    taken at any size: `MOST` limits it.
    """
    made, total = {}, 0
    for place, samples in cut.items():
        picture, buffer = _picture(samples, count), io.BytesIO()
        picture.save(buffer, "WEBP", lossless=True, quality=80, method=4)
        made[place] = buffer.getvalue(), picture.size
        total += len(made[place][0])
        if total > budget and count > COUNTS[-1]:
            return {}
    return made


def _cut(png: bytes) -> list[Pixels]:
    try:
        return tiles(png)
    except (OSError, ValueError, SyntaxError):  # all that PIL raises for a damaged file
        return []


def _picture(samples: list[Pixels], count: int) -> Image.Image:
    """Return a square of the samples of the grid's left upper corner, a pixel between them."""
    if len(samples) == 1:
        return Image.fromarray(samples[0])
    across = int(min(count, len(samples)) ** 0.5)
    high, wide = samples[0].shape[:2]
    canvas = np.full((across * (high + 1) - 1, across * (wide + 1) - 1, 3), GREY, np.uint8)
    for i in range(across):
        for j in range(across):
            y, x = i * (high + 1), j * (wide + 1)
            canvas[y:y + high, x:x + wide] = samples[i * ACROSS + j]
    return Image.fromarray(canvas)


def _places(results: Results) -> dict[str, dict[int, Callable[[], bytes]]]:
    """Return for each run and step how to get its grid."""
    places: dict[str, dict[int, tuple[int, Callable[[], bytes]]]] = {}
    named = {mlflow: str(run) for run, mlflow in results.runs["mlflow_run"].items()}
    listing = pictures_of_server if is_server(results.uri) else pictures_of_database
    for mlflow, name, get in listing(results.uri, list(named)):
        if found := PICTURE.fullmatch(name):
            step, t = int(found[1]), int(found[2])
            own = places.setdefault(named[mlflow], {})
            if step not in own or t > own[step][0]:  # a run that began again drew it again
                own[step] = t, get
    return {run: {step: get for step, (_, get) in own.items()} for run, own in places.items()}


