"""The sample grids of a page: read from MLflow, and cut to what the page can hold."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from gan_bench.evaluation.grid_layout import GREY, columns_of
from gan_bench.report.figures.mosaics import Pixels, tiles
from gan_bench.tracking.runs.tags import parse_picture
from gan_bench.tracking.store.address import is_server, quiet_mlflow, reason
from gan_bench.tracking.store.artifacts import AT_ONCE, pictures_of_database, pictures_of_server

if TYPE_CHECKING:
    from gan_bench.compare.results import Results

BUDGET = 2_200_000  # bytes of all pictures of a page; base64 adds a third
MAX_PICTURES = 240  # a reader does not look through more
SEEDS, STEPS, VARIANTS = 5, 12, 24  # at most; steps are dropped before a second seed is
COUNTS = (64, 36, 16, 9, 4, 1)  # samples of a grid, from its upper left corner
Grids = dict[str, dict[int, dict[int, bytes]]]  # variant → seed → step → picture
Place = tuple[str, int, int]  # variant, seed, step


@dataclass(frozen=True)
class Pictures:
    """The sample grids of a report.

    Attributes:
        raw: The files in MLflow.
        seeds, steps: The chosen ones.
        notes: What was left out, in words.
    """

    raw: Grids
    seeds: list[int]
    steps: list[int]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PagePictures:
    """The pictures of a page.

    Attributes:
        grids: WebP, not enlarged: the page enlarges them.
        seeds, steps: In order.
        width, height: In pixels, of the largest picture.
        across: How many samples stand side by side in it.
        notes: What is not shown, in words.
    """

    grids: Grids
    seeds: list[int]
    steps: list[int]
    width: int
    height: int
    notes: tuple[str, ...]
    across: int = 1


@quiet_mlflow()
def read_pictures(results: Results) -> Pictures:
    """Return the sample grids of the variants, for a few seeds and steps.

    Absent pictures are left out: of a run that failed early, or artifacts that were deleted.
    """
    try:
        places = _places(results)
    except Exception as error:  # of a server, or of any database driver
        why = reason(error, results.uri)
        return Pictures({}, [], [], (f"the pictures cannot be read from MLflow: {why}",))
    steps = sorted({step for by_step in places.values() for step in by_step})
    if not steps:
        return Pictures({}, [], [], ("there are no pictures of samples in MLflow",))
    runs = results.runs.loc[[run for run in results.runs.index if str(run) in places]]
    variants = [name for name in results.variants if (runs["variant"] == name).any()]
    seeds = sorted({int(seed) for seed in runs["seed"]})
    few_variants = variants[:VARIANTS]
    few_seeds, few_steps = _few(len(few_variants), seeds, steps)
    raw: Grids = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = []
        for run, row in zip(runs.index, runs.itertuples(), strict=True):
            variant, seed = str(row.variant), int(row.seed)
            if variant not in few_variants or seed not in few_seeds:
                continue
            for step in few_steps:
                if step in places[str(run)]:
                    waiting.append((variant, seed, step, pool.submit(places[str(run)][step])))
        for variant, seed, step, answer in waiting:
            with suppress(Exception):  # a deleted picture is shown as missing
                raw.setdefault(variant, {}).setdefault(seed, {})[step] = answer.result()
    notes = (_share(few_variants, variants, "variants"), _share(few_seeds, seeds, "seeds"),
             _share(few_steps, steps, "steps"))
    return Pictures(raw, few_seeds, few_steps, tuple(filter(None, notes)))


def page_pictures(pictures: Pictures, experiments: int = 1) -> PagePictures:
    """Return the pictures, each with as many samples as the page can hold.

    Args:
        experiments: How many experiments share the page.
    """
    cut: dict[Place, list[Pixels]] = {}
    for variant, by_seed in pictures.raw.items():
        for seed, by_step in by_seed.items():
            for step, png in by_step.items():
                if samples := _cut(png):
                    cut[variant, seed, step] = samples
    largest = max((len(samples) for samples in cut.values()), default=0)
    for count in COUNTS:
        encoded = _encode(cut, count, BUDGET // experiments)
        if encoded or count == COUNTS[-1]:
            break
    grids: Grids = {}
    for (variant, seed, step), (content, _) in encoded.items():
        grids.setdefault(variant, {}).setdefault(seed, {})[step] = content
    width, height = (max((size[i] for _, size in encoded.values()), default=0) for i in (0, 1))
    few = (f"{count} of {largest} samples of each grid",) if count < largest else ()
    return PagePictures(grids, pictures.seeds, pictures.steps, width, height,
                        (*pictures.notes, *few), max(1, int(min(count, largest) ** 0.5)))


def _few(variants: int, seeds: list[int], steps: list[int]) -> tuple[list[int], list[int]]:
    """Return the first seeds, and steps evenly spread, for at most `MAX_PICTURES` pictures."""
    n, m = min(len(seeds), SEEDS), min(len(steps), STEPS)
    while variants * n * m > MAX_PICTURES and (n > 1 or m > 2):
        if n > 2 or m <= 4:
            n, m = (n - 1, m) if n > 1 else (n, m - 1)
        else:
            m -= 1
    return seeds[:n], [steps[i] for i in np.linspace(0, len(steps) - 1, m).round().astype(int)]


def _share(chosen: Sequence[object], every: Sequence[object], unit: str) -> str:
    return f"{len(chosen)} of {len(every)} {unit}" if len(chosen) < len(every) else ""


def _encode(cut: dict[Place, list[Pixels]], count: int, budget: int,
            ) -> dict[Place, tuple[bytes, tuple[int, int]]]:
    """Return each picture as WebP, and its size; nothing if all together exceed the budget.

    Lossless WebP is smaller than PNG, and every browser shows it. One sample each has no budget:
    `MAX_PICTURES` limits it.
    """
    encoded, total = {}, 0
    for place, samples in cut.items():
        picture, buffer = _picture(samples, count), io.BytesIO()
        picture.save(buffer, "WEBP", lossless=True, quality=80, method=4)
        encoded[place] = buffer.getvalue(), picture.size
        total += len(encoded[place][0])
        if total > budget and count > COUNTS[-1]:
            return {}
    return encoded


def _cut(png: bytes) -> list[Pixels]:
    try:
        return tiles(png)
    except (OSError, ValueError, SyntaxError):  # what PIL raises for a damaged file
        return []


def _picture(samples: list[Pixels], count: int) -> Image.Image:
    """Return a square of the samples in the grid's upper left corner, a pixel between them."""
    if len(samples) == 1:
        return Image.fromarray(samples[0])
    across = int(min(count, len(samples)) ** 0.5)
    high, wide = samples[0].shape[:2]
    canvas = np.full((across * (high + 1) - 1, across * (wide + 1) - 1, 3), GREY, np.uint8)
    for i in range(across):
        first = i * columns_of(len(samples))
        for j, sample in enumerate(samples[first:first + across]):
            y, x = i * (high + 1), j * (wide + 1)
            canvas[y:y + high, x:x + wide] = sample
    return Image.fromarray(canvas)


def _places(results: Results) -> dict[str, dict[int, Callable[[], bytes]]]:
    """Return for each run and step a function that reads its grid."""
    places: dict[str, dict[int, tuple[int, Callable[[], bytes]]]] = {}
    run_of = {mlflow: str(run) for run, mlflow in results.runs["mlflow_run"].items()}
    listing = pictures_of_server if is_server(results.uri) else pictures_of_database
    for mlflow, name, get in listing(results.uri, list(run_of)):
        if parsed := parse_picture(name):
            step, time = parsed
            by_step = places.setdefault(run_of[mlflow], {})
            if step not in by_step or time > by_step[step][0]:  # a resumed run draws it again
                by_step[step] = time, get
    return {run: {step: get for step, (_, get) in by_step.items()}
            for run, by_step in places.items()}
