"""The sample grids of a page as cards: a few samples of each variant, all of them on request."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from gan_bench.compare.findings import Finding
from gan_bench.compare.results import Results
from gan_bench.report.samples import PagePictures

WIDEST, CELL = 1240, 300  # pixels: all columns of pictures together, and one of them
FEW, CARD = 4, 320  # samples in a row of a card until it is opened, and pixels of these at most


def in_order(shown: PagePictures, results: Results, findings: Sequence[Finding]) -> PagePictures:
    """Return the pictures in the order of the answer: by the leading score."""
    rows = next((finding.rows for finding in findings
                 if finding.results.experiment == results.experiment), [])
    order = [row.variant for row in rows] or list(shown.grids)
    return replace(shown, grids={name: shown.grids[name] for name in order if name in shown.grids})


def grids(results: Results, shown: PagePictures, place: int) -> dict[str, Any]:
    """Return the pictures of an experiment: those of the cards, and all for the controls."""
    rows, every = [], {}
    for i, (variant, by_seed) in enumerate(shown.grids.items()):
        for seed in shown.seeds:
            every[f"{place}-{i}-{seed}"] = {
                step: "data:image/webp;base64," + base64.b64encode(content).decode()
                for step, content in by_seed.get(seed, {}).items()}
        first = every[f"{place}-{i}-{shown.seeds[0]}"].pop(shown.steps[-1], "")
        rows.append({"variant": variant, "key": f"{place}-{i}", "source": first})
    widest = min(CELL, WIDEST // max(1, len(shown.seeds)))
    scale = max(1, widest // shown.width) if shown.width else 1
    return {"experiment": results.experiment, "rows": rows, "seeds": shown.seeds,
            "steps": shown.steps, "every": every, "notes": shown.notes,
            "width": shown.width * scale, "height": shown.height * scale, "card": _card(shown)}


def _card(shown: PagePictures) -> dict[str, Any]:
    """Return the sizes of a card: of its picture, and of the first samples of it."""
    share = 1.0
    if shown.across > FEW:  # between two samples is one pixel
        share = (FEW * (shown.width + 1) / shown.across - 1) / shown.width
    few = share * shown.width
    scale = max(1, int(CARD // few)) if few else 1
    return {"few": round(few * scale), "all": round(shown.width * scale), "part": 1 / share,
            "shape": f"{shown.width} / {shown.height}" if shown.height else "1",
            "count": shown.across ** 2 if share < 1 else 0, "shown": FEW ** 2}
