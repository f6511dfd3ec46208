"""The page of a report: one HTML file that needs nothing else, and fetches nothing.

What comes from MLflow is anybody's text. jinja2 escapes all of it, figures are parsed and written
anew as trees, and a policy in the page lets no script run but its own, by its hash, and nothing be
fetched from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any
from xml.etree import ElementTree

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from gan_bench.compare.findings import Finding
from gan_bench.compare.results import PARAM, PROTOCOL, SCORE, Results
from gan_bench.journal.schema import Status
from gan_bench.report.exports import LONG, cells, interval, number, title
from gan_bench.report.figures.style import INK, count
from gan_bench.report.samples import Shown
from gan_bench.report.terminal import notes

SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
HIDDEN = ("experiment", "variant", "seed")  # params that are told elsewhere
SIGNS = {"better": "▲", "worse": "▼", "equivalent": "=", "inconclusive": "?"}
WIDEST, CELL = 1240, 300  # pixels: all columns of pictures together, and one of them


@dataclass(frozen=True)
class Drawing:
    """A figure of the page.

    Attributes:
        about: What it shows, for those who cannot see it.
        svg: As matplotlib wrote it.
        caption: Below it.
    """

    about: str
    svg: bytes
    caption: str = ""


@dataclass(frozen=True)
class Content:
    """All that a page shows.

    Attributes:
        found: Of all scores, and experiments; the first is shown first.
        drawings: Those of each finding.
        overall: Those of no single score.
        shown: The sample grids of each experiment.
        command: How to make the report.
        beside: What else was written, for the reader to find.
        notes: What there is to know before all else.
    """

    found: Sequence[Finding]
    drawings: Sequence[Sequence[Drawing]]
    overall: Sequence[Drawing]
    shown: Sequence[tuple[Results, Shown]]
    command: str
    beside: Sequence[str]
    notes: Sequence[str] = field(default=())


def html(content: Content) -> str:
    """Return the page."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    environment.filters |= {"name": _breakable, "stacked": _stacked}
    source = files("gan_bench.report").joinpath("template.html").read_text(encoding="utf-8")
    inlined = _Inlined()
    views = [_view(one, drawings, inlined, i == 0, len(content.shown) > 1)
             for i, (one, drawings) in enumerate(zip(content.found, content.drawings, strict=True))]
    results = [one for one, _ in content.shown]
    script = SCRIPT.search(source)
    assert script is not None, "the template has a script"
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    return environment.from_string(source).render(
        script_hash=digest, views=views, columns=LONG, command=content.command,
        experiments=[_experiment(one) for one in results],
        title=" and ".join(one.experiment for one in results),
        overall=[inlined(one) for one in content.overall],
        grids=[_grids(one, shown, number) for number, (one, shown) in enumerate(content.shown)],
        notes=content.notes,
        beside=content.beside, signs=SIGNS)


def _breakable(name: str) -> Markup:
    """Return a name that breaks where it is put together, and nowhere else if that is enough."""
    return Markup(re.sub(r"(&[a-z#0-9]+;|[-_/=]|[.,](?!\d))(?=.)", r"\1<wbr>", str(escape(name))))


def _stacked(text: str) -> Markup:
    """Return an estimate with its interval, or why there is none, on a line below."""
    value, bracket, rest = text.partition(" [" if " [" in text else " (")
    return Markup("{}<small>{}</small>").format(value, bracket.strip() + rest) if rest else (
        escape(text))


class _Inlined:
    """Makes figures part of the page, with ids of their own."""

    def __init__(self) -> None:
        self._figures = 0

    def __call__(self, drawing: Drawing) -> dict[str, str]:
        self._figures += 1
        return {"svg": inline(drawing.svg, f"f{self._figures}-", drawing.about),
                "caption": drawing.caption, "about": drawing.about}


def inline(svg: bytes, prefix: str, about: str) -> str:
    """Return a figure as an element of the page: its ink is that of the page's text.

    Args:
        svg: As matplotlib writes it.
        prefix: Of its ids, which the figures of a page would otherwise share.
        about: What it shows, in words.
    """
    tree = ElementTree.fromstring(svg)
    for parent in tree.iter():
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):  # the page has the style
                parent.remove(child)
    for element in tree.iter():
        element.tag = _local(element.tag)
        for key in list(element.attrib):
            value = element.attrib.pop(key).replace(INK, "currentColor")
            key = _local(key)
            if key == "id":
                value = prefix + value
            elif key == "href" and value.startswith("#"):
                value = "#" + prefix + value[1:]
            elif "url(#" in value:
                value = value.replace("url(#", f"url(#{prefix}")
            element.set(key, _shorter(value) if key in ("d", "style") else value)
    width = float(tree.attrib.pop("width").removesuffix("pt"))
    tree.attrib.pop("height", None)
    tree.attrib.pop("version", None)
    tree.set("style", f"--width: {width * 4 / 3:.0f}px")
    tree.set("role", "img")
    tree.set("aria-label", about)
    return ElementTree.tostring(tree, encoding="unicode")


def _local(name: object) -> str:
    return str(name).rpartition("}")[2]


def _shorter(text: str) -> str:
    """Return a path with two decimals of a point, which are more than any screen shows."""
    return re.sub(r"(\.\d\d)\d+", r"\1", " ".join(text.split()))


def _view(one: Finding, drawings: Sequence[Drawing], inlined: _Inlined, first: bool,
          several: bool) -> dict[str, Any]:
    """Return what the page shows of one score."""
    results, baseline = one.results, one.results.baseline
    says = [{"verdict": row.verdict or "", "text": row.comparison.sentence}
            for row in one.rows if row.comparison]
    says += [{"verdict": "", "text": f"{row.variant} is not compared: {row.refused}"}
             for row in one.rows if row.refused and row.variant != baseline]
    if len(one.rows) == 1:
        says = [{"verdict": "", "text": "There is one variant, and nothing to compare it with."}]
    label = f"{results.experiment}: {one.score}" if several else one.score
    return {"label": label, "title": title(one), "experiment": results.experiment, "first": first,
            "says": says, "baseline": baseline, "rows": cells(one, LONG),
            "verdicts": [row.verdict or "" for row in one.rows], "beside": _beside(one),
            "table_notes": notes(one.rows, baseline), "figures": [inlined(d) for d in drawings],
            "protocols": _protocols(results, one.score),
            "why_none": "" if one.better else "Neither direction of this score is better, so there "
                                              "is a difference, and no verdict."}


def _beside(one: Finding) -> dict[str, Any]:
    """Return the second table, of what does not decide."""
    quality = next((c.threshold for c in one.courses.values() if c.steps), None)
    heads = ["Best checkpoint, mean [95% interval]", "Area under the curve, mean [95% interval]"]
    heads += ["SD between seeds", "SD between sets of latents"] if one.noise else []
    heads += ["Got there", "Median steps [95% interval]",
              "Median seconds [95% interval]"] if quality is not None else []
    rows = []
    for row in one.rows:
        course, noise = one.courses.get(row.variant), one.noise.get(row.variant)
        line = [row.variant, interval(course.best) if course else "–",
                interval(course.area) if course else "–"]
        if one.noise:
            line += [number(noise.seed), number(noise.sampling)] if noise else ["–", "–"]
        if quality is not None:
            steps, seconds = (course.steps, course.seconds) if course else (None, None)
            line += ([f"{steps.reached} of {steps.n}", interval(steps.median),
                      interval(seconds.median)] if steps and seconds else ["–"] * 3)
        rows.append(line)
    return {"heads": heads, "rows": rows, "noise": bool(one.noise),
            "quality": None if quality is None else number(quality)}


def _protocols(results: Results, score: str) -> list[dict[str, Any]]:
    """Return how a score was measured: each protocol, and of which variants' runs it is."""
    column = PROTOCOL + score
    if column not in results.runs:
        return []
    known = results.runs[results.runs[column] != ""]
    groups = [(text, list(dict.fromkeys(own["variant"].astype(str))), len(own))
              for text, own in known.groupby(column, sort=False)]
    return [{"facts": [(key, _plain(value)) for key, value in json.loads(str(text)).items()
                       if value is not None],
             "of": "all runs" if len(groups) == 1 else f"{count(n, 'run')} of {', '.join(variants)}"
             } for text, variants, n in groups]


def _experiment(results: Results) -> dict[str, Any]:
    """Return what the page says of an experiment as a whole."""
    runs = results.runs
    declared = results.declared
    margin = declared.margin
    words = [f"compared with {results.baseline}",
             "paired by seed" if declared.paired else "not paired"]
    words.append("no margin of equivalence" if not margin else "margin of equivalence " + (
        ", ".join(f"{name} {amount}" for name, amount in margin.items())
        if isinstance(margin, dict) else str(margin)))
    versions = [(str(version) or "an unknown version", count(len(own), "run"))
                for version, own in runs.groupby("version", sort=False)]
    table = [{"variant": str(row["variant"]), "seed": int(row["seed"]), "run": str(run),
              "status": row["status"], "step": f"{int(row['step']):,}",
              "seconds": number(float(row["seconds"])), "version": row["version"],
              "why": row["why"], "scores": [number(float(row[SCORE + name]))
                                            for name in results.scores]}
             for run, row in runs.iterrows()]
    return {"name": results.experiment, "question": results.question, "command": results.command,
            "declared": "; ".join(words), "versions": versions, "scores": results.scores,
            "runs": table, "failures": [row for row in table if row["status"] != Status.FINISHED],
            "facts": _facts(runs), **_spec(runs)}


def _facts(runs: pd.DataFrame) -> str:
    states = ", ".join(f"{n} {state.lower()}" for state, n in runs["status"].value_counts().items())
    first, last = runs["started"].min(), runs["started"].max()
    when = f"{first:%Y-%m-%d}" + (f" to {last:%Y-%m-%d}" if last.date() > first.date() else "")
    return (f"{count(len(runs), 'run')}: {count(runs['variant'].nunique(), 'variant')}, "
            f"{count(runs['seed'].nunique(), 'seed')}; {states}; begun {when}")


def _spec(runs: pd.DataFrame) -> dict[str, Any]:
    """Return what all variants share, as YAML, and in what they differ."""
    first = runs.drop_duplicates("variant").set_index("variant")
    keys = [c for c in first if c.startswith(PARAM) and c.removeprefix(PARAM) not in HIDDEN]
    differing = [c for c in keys if first[c].nunique() > 1]
    shared = {c.removeprefix(PARAM): str(first[c].iloc[0]) for c in keys
              if c not in differing and first[c].iloc[0] != ""}
    return {"shared": yaml_of(shared), "differing": [c.removeprefix(PARAM) for c in differing],
            "variants": [(str(name), [str(row[c]) or "–" for c in differing])
                         for name, row in first.iterrows()]}


def yaml_of(params: dict[str, str]) -> str:
    """Return flat params as a YAML file has them: `model: {name: mlp, width: 16}`."""
    groups: dict[str, list[str]] = {}
    for key, value in params.items():
        head, _, rest = key.partition(".")
        groups.setdefault(head, []).append(f"{rest}: {value}" if rest else value)
    lines = []
    for head, parts in groups.items():
        own = [f"name: {part}" if head in params and i == 0 else part
               for i, part in enumerate(parts)]
        nested = len(parts) > 1 or head not in params
        lines.append(f"{head}: {{{', '.join(own)}}}" if nested else f"{head}: {parts[0]}")
    return "\n".join(lines)


def _plain(value: object) -> str:
    return f"{value:,}" if type(value) is int else str(value)


def _grids(results: Results, shown: Shown, place: int) -> dict[str, Any]:
    """Return the pictures of an experiment: those of the last step, and all of them for the slider.
    """
    rows, every = [], {}
    for i, (variant, own) in enumerate(shown.grids.items()):
        row = []
        for seed in shown.seeds:
            by_step = {step: "data:image/webp;base64," + base64.b64encode(content).decode()
                       for step, content in own.get(seed, {}).items()}
            name = f"{place}-{i}-{seed}"
            last = by_step.pop(shown.steps[-1], "")
            every[name] = by_step
            row.append({"name": name, "last": last, "about": f"{variant}, seed {seed}"})
        rows.append({"variant": variant, "cells": row})
    widest = min(CELL, WIDEST // max(1, len(shown.seeds)))
    scale = max(1, widest // shown.width) if shown.width else 1
    return {"experiment": results.experiment, "rows": rows, "seeds": shown.seeds,
            "steps": shown.steps, "every": every, "notes": shown.notes,
            "width": shown.width * scale, "height": shown.height * scale}
