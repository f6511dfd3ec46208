"""The page of a report: one HTML file that needs no other file and fetches nothing.

Text from MLflow is untrusted. jinja2 escapes all of it, figures are parsed and written again as
trees, and the page's policy allows only its own script, by its hash, and fetches nothing.
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

from gan_bench.compare.agreement import disagreements
from gan_bench.compare.findings import Finding, why_no_score
from gan_bench.compare.frames import MEASURED_BY, PARAM, PROTOCOL, SCORE
from gan_bench.compare.results import Results
from gan_bench.compare.search.budget_space import params_of
from gan_bench.compare.search.budgets import Budgets
from gan_bench.compare.search.counted_draws import each_once
from gan_bench.compare.training_curves import CurveSummary
from gan_bench.config.declared import Declared
from gan_bench.errors import count
from gan_bench.journal.schema import Status
from gan_bench.report.alignment import aligned_cells, aligned_rows
from gan_bench.report.cards import grids, in_order
from gan_bench.report.digits import (
    DASH,
    format_interval,
    format_value,
    mean_decimals,
    true_minus,
)
from gan_bench.report.exports import LONG, cells, title
from gan_bench.report.inlining import Drawing, inline
from gan_bench.report.matrix import SIGNS, matrices
from gan_bench.report.samples import PagePictures
from gan_bench.report.search.budget_section import budget_section
from gan_bench.report.terminal import table_notes

SCRIPT = re.compile(r"<script>(.*?)</script>", re.DOTALL)
HIDDEN = ("experiment", "variant", "seed")  # params that the page shows elsewhere
SECTIONS = (
    ("answer", "Answer"), ("budgets", "Budgets"), ("samples", "Samples"), ("scores", "Scores"),
    ("curves", "Curves"), ("dynamics", "Dynamics"), ("protocol", "How it was measured"),
    ("runs", "Runs and failures"), ("spec", "What was run"), ("again", "To repeat it"))


@dataclass(frozen=True)
class Content:
    """The content of a page.

    Attributes:
        findings: Of all scores and experiments; the page shows the first one first.
        drawings: The figures of each finding.
        overall: The figures of no single score.
        shown: The sample grids of each experiment.
        command: The command that writes the report.
        beside: The other files of the report.
        notes: What to know before all else.
        every: All runs of each experiment; `shown` has those that are compared seed by seed.
        tuned: The draws of each experiment; None of one without a search.
        of_budgets: The figures of these, by the place of the experiment.
    """

    findings: Sequence[Finding]
    drawings: Sequence[Sequence[Drawing]]
    overall: Sequence[Drawing]
    shown: Sequence[tuple[Results, PagePictures]]
    command: str
    beside: Sequence[str]
    notes: Sequence[str] = field(default=())
    every: Sequence[Results] = field(default=())
    tuned: Sequence[Budgets | None] = field(default=())
    of_budgets: Mapping[int, Sequence[Drawing]] = field(default_factory=dict)


def html(content: Content) -> str:
    """Return the page."""
    templates = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                     undefined=jinja2.StrictUndefined)
    templates.filters |= {"name": _breakable, "minus": true_minus}
    source = files("gan_bench.report").joinpath("template.html").read_text(encoding="utf-8")
    numbers = itertools.count(1)

    def inlined(drawing: Drawing) -> dict[str, str]:
        svg = inline(drawing.svg, f"f{next(numbers)}-", drawing.about)
        return {"svg": svg, "caption": drawing.caption, "about": drawing.about,
                "name": drawing.name}

    several = len(content.shown) > 1
    pairs = zip(content.findings, content.drawings, strict=True)
    views = [_view(finding, [inlined(drawing) for drawing in drawings], i == 0, several)
             for i, (finding, drawings) in enumerate(pairs)]
    compared = [results for results, _ in content.shown]
    reported = [finding.score for finding in content.findings]
    tuned = [budget_section(budgets, reported, [inlined(drawing) for drawing in
                                                content.of_budgets.get(i, ())], several)
             for i, budgets in enumerate(content.tuned) if budgets]
    script = SCRIPT.search(source)
    assert script is not None, "the template has a script"
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    return templates.from_string(source).render(
        script_hash=digest, views=views, columns=LONG, command=content.command,
        experiments=[_experiment(results) for results in content.every], tuned=tuned,
        title=" and ".join(results.experiment for results in compared),
        overall=[inlined(drawing) for drawing in content.overall],
        grids=[grids(results, in_order(shown, results, content.findings), i)
               for i, (results, shown) in enumerate(content.shown)],
        matrices=matrices(content.findings), disagreements=disagreements(content.findings),
        contents=_contents(bool(views), bool(tuned)), notes=content.notes,
        beside=content.beside, signs=SIGNS,
        why_none="no chosen draw is confirmed yet" if tuned else why_no_score(compared))


def _contents(has_scores: bool, has_budgets: bool) -> list[tuple[str, str]]:
    """Return the sections of the page: id and title."""
    absent = set() if has_scores else {"scores", "curves", "protocol"}
    absent |= set() if has_budgets else {"budgets"}
    return [(key, words) for key, words in SECTIONS if key not in absent]


def _breakable(name: str) -> Markup:
    """Return a name with line breaks allowed between its parts."""
    return Markup(re.sub(r"(&[a-z#0-9]+;|[-_/=]|[.,](?!\d))(?=.)", r"\1<wbr>", str(escape(name))))


def _view(finding: Finding, figures: list[dict[str, str]], first: bool, several: bool,
          ) -> dict[str, Any]:
    """Return what the page shows of one score."""
    results, baseline = finding.results, finding.results.baseline
    says = [{"verdict": row.verdict or "", "text": row.comparison.sentence}
            for row in finding.rows if row.comparison]
    says += [{"verdict": "", "text": f"{row.variant} is not compared: {row.refused}"}
             for row in finding.rows if row.refused and row.variant != baseline]
    if len(finding.rows) == 1:
        says = [{"verdict": "", "text": "There is only one variant: nothing to compare it with."}]
    label = f"{results.experiment}: {finding.label}" if several else finding.label
    no_direction = "Neither direction of this score is better: it has a difference, but no verdict."
    return {"label": label, "title": title(finding), "experiment": results.experiment,
            "first": first, "says": says, "baseline": baseline,
            "rows": aligned_rows(cells(finding, LONG), 2),
            "verdicts": [row.verdict or "" for row in finding.rows], "beside": _beside(finding),
            "table_notes": table_notes(finding.rows, baseline),
            "figures": figures,
            "protocols": _protocols(results, finding.score),
            "why_none": "" if finding.better else no_direction}


def _beside(finding: Finding) -> dict[str, Any]:
    """Return the second table, of what does not decide."""
    quality = next((curves.threshold for curves in finding.curves.values() if curves.steps), None)
    heads = ["Best checkpoint, mean [95% interval]", "Area under the curve, mean [95% interval]"]
    if finding.noise:
        heads += ["SD between seeds", "SD between sets of latents"]
    if quality is not None:
        heads += ["Runs that reached baseline quality", "Median steps [95% interval]",
                  "Median seconds [95% interval]"]
    rows = []
    for row in finding.rows:
        curves, noise = finding.curves.get(row.variant), finding.noise.get(row.variant)
        digits = mean_decimals(row.summary)
        line = [row.variant]
        line += [format_interval(curves.best), format_interval(curves.area)] if curves else [
            DASH, DASH]
        if finding.noise:
            line += [format_value(noise.seed, decimals=digits),
                     format_value(noise.sampling, decimals=digits)] if noise else [DASH, DASH]
        if quality is not None:
            line += _times_to_quality(curves)
        rows.append(line)
    return {"heads": heads, "rows": aligned_rows(rows), "noise": bool(finding.noise),
            "quality": None if quality is None else format_value(quality)}


def _times_to_quality(curves: CurveSummary | None) -> list[str]:
    """Return how many runs reached the quality, and their median steps and seconds."""
    if curves is None or curves.steps is None or curves.seconds is None:
        return [DASH] * 3
    return [f"{curves.steps.reached} of {curves.steps.n}", format_interval(curves.steps.median),
            format_interval(curves.seconds.median)]


def _protocols(results: Results, score: str) -> list[dict[str, Any]]:
    """Return how a score was measured: each protocol, and of which variants' runs it is."""
    column = PROTOCOL + score
    if column not in results.runs:
        return []
    runs = each_once(results.runs)
    measured = runs[runs[column] != ""]
    protocols = []
    for (text, by), runs in measured.groupby([column, MEASURED_BY + score], sort=False):
        variants = ", ".join(dict.fromkeys(runs["variant"].astype(str)))
        facts = [(key, _plain(value)) for key, value in json.loads(str(text)).items()
                 if value is not None]
        facts += [("measured later by", by)] if by else []
        protocols.append({"facts": facts, "of": f"{count(len(runs), 'run')} of {variants}"})
    if len(protocols) == 1:
        protocols[0]["of"] = "all runs"
    return protocols


def _experiment(results: Results) -> dict[str, Any]:
    """Return what the page shows of an experiment as a whole."""
    runs = each_once(results.runs)
    declared = results.declared
    words = [f"compared with {results.baseline}",
             "paired by seed" if declared.paired else "not paired", _margin_words(declared)]
    versions = [(str(version) or "an unknown version", count(len(group), "run"))
                for version, group in runs.groupby("version", sort=False)]
    table: list[dict[str, Any]] = [
        {"variant": str(row["variant"]), "seed": int(row["seed"]), "run": str(run),
              "draw": _draw_text(row), "status": row["status"], "step": f"{int(row['step']):,}",
              "seconds": format_value(float(row["seconds"])), "version": row["version"],
              "why": row["why"]} for run, row in runs.iterrows()]
    columns = [aligned_cells([format_value(float(value)) for value in runs[SCORE + name]])
               for name in results.scores]
    for i, entry in enumerate(table):
        entry["scores"] = [column[i] for column in columns]
    return {"name": results.experiment, "question": results.declared.question,
            "command": results.declared.command,
            "declared": "; ".join(words), "versions": versions,
            "scores": [declared.label(name) for name in results.scores],
            "runs": table, "failures": [row for row in table if row["status"] != Status.FINISHED],
            "searched": declared.search is not None, "facts": _facts(results.runs),
            **_spec(results)}


def _draw_text(row: pd.Series) -> str:
    """Return the draw of a run and its stage; empty without a search."""
    draw = row.get("draw", pd.NA)
    return "" if pd.isna(draw) else f"{draw}, {row['stage']}"


def _margin_words(declared: Declared) -> str:
    margin = declared.margin
    if not margin:
        return "no margin of equivalence"
    amounts = str(margin)
    if isinstance(margin, dict):
        amounts = ", ".join(f"{name} {amount}" for name, amount in margin.items())
    return f"margin of equivalence {amounts}"


def _facts(runs: pd.DataFrame) -> str:
    draws = int(runs["draw"].nunique()) if "draw" in runs else 0
    runs = each_once(runs)
    states = ", ".join(f"{n} {state.lower()}" for state, n in runs["status"].value_counts().items())
    first, last = runs["started"].min(), runs["started"].max()
    days = f"{first:%Y-%m-%d}"
    if last.date() > first.date():
        days += f" to {last:%Y-%m-%d}"
    of_draws = f"{count(draws, 'draw')}, " if draws else ""
    return (f"{count(len(runs), 'run')}: {count(runs['variant'].nunique(), 'variant')}, "
            f"{of_draws}{count(runs['seed'].nunique(), 'seed')}; {states}; started {days}")


def _spec(results: Results) -> dict[str, Any]:
    """Return the parameters that all variants share, as YAML, and those that differ."""
    runs, name_of = results.runs, results.declared.name_of
    first = runs.drop_duplicates("variant").set_index("variant")
    space = results.declared.search.space if results.declared.search else {}
    hidden = (*HIDDEN, *(name for key in space for name in params_of(key)))
    keys = [c for c in first if c.startswith(PARAM) and c.removeprefix(PARAM) not in hidden]
    differing = [c for c in keys if first[c].nunique() > 1]
    shared = {c.removeprefix(PARAM): str(first[c].iloc[0]) for c in keys
              if c not in differing and first[c].iloc[0] != ""}
    return {"shared": yaml_of(shared), "differing": [c.removeprefix(PARAM) for c in differing],
            "variants": [(str(name), name_of(str(name)), [str(row[c]) or "–" for c in differing])
                         for name, row in first.iterrows()]}


def yaml_of(params: dict[str, str]) -> str:
    """Return flat params as YAML: `model: {name: mlp, width: 16}`."""
    groups: dict[str, list[str]] = {}
    for key, value in params.items():
        head, _, inner = key.partition(".")
        groups.setdefault(head, []).append(f"{inner}: {value}" if inner else value)
    lines = []
    for head, parts in groups.items():
        if len(parts) == 1 and head in params:
            lines.append(f"{head}: {parts[0]}")
            continue
        if head in params:
            parts = [f"name: {parts[0]}", *parts[1:]]
        lines.append(f"{head}: {{{', '.join(parts)}}}")
    return "\n".join(lines)


def _plain(value: object) -> str:
    return f"{value:,}" if type(value) is int else str(value)
