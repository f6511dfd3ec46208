"""What `gan-bench evaluate` does: any samples, against any data set, by any metrics.

The samples are those of a finished run, or images that something else generated. Every score comes
with its protocol, and a run's scores stand beside those in its journal only where both were
measured alike.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from gan_bench import rng
from gan_bench.cli.options import parse_data_set
from gan_bench.components import data as datasets
from gan_bench.components.data import Dataset
from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import RunSpec, data_facts, describe_shape
from gan_bench.errors import Say, UserError
from gan_bench.evaluation.evaluator import (
    STREAM,
    generate,
    labels_of,
    latents,
    provenance,
    undisturbed,
)
from gan_bench.evaluation.external_images import ARRAYS, read_images
from gan_bench.evaluation.metrics.base import asks_d, asks_labels
from gan_bench.evaluation.protocol import digest, refusal
from gan_bench.evaluation.scorer import Scorer
from gan_bench.evaluation.scores import directions
from gan_bench.hardware import refuse_more_than_memory
from gan_bench.journal import reading, writing
from gan_bench.journal.layout import Workspace
from gan_bench.journal.names import CLASS, WEIGHTS
from gan_bench.journal.schema import RESULTS, Kind
from gan_bench.journal.status import Progress
from gan_bench.registry import EXTRACTORS, METRICS, MetricEntry, Part
from gan_bench.training import checkpoint
from gan_bench.training.device import resolve_device, set_up_torch
from gan_bench.training.trained import find_run, load_generator

Side = Literal["train", "test"] | None
SIDES: dict[str | None, Side] = {None: None, "train": "train", "test": "test"}
# Measured by default, as far as they apply: what needs no download and no discriminator.
USUAL = ("fd_classifier", "kd_classifier", "precision_classifier", "recall_classifier",
         "classifier_score", "fd_random", "nearest_train_mse", "high_quality", "modes_covered")


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of `gan-bench evaluate` as the user types them.

    Attributes:
        data_set: A name, or a YAML mapping.
        image_size: The data set's image_size.
        experiment: The file that data set, metrics and number of samples are taken from.
        metrics: Names, separated by commas.
        samples, split, resize, log: As in `Wanted`.
    """

    data_set: str | None = None
    image_size: int | None = None
    experiment: Path | None = None
    metrics: str | None = None
    samples: int | None = None
    split: str | None = None
    resize: bool = False
    log: bool = False


@dataclass(frozen=True)
class Wanted:
    """What is asked for; None: what the source itself says, or the usual.

    Attributes:
        data_set: What to measure against.
        metrics: Names of metrics.
        samples: How many to generate, or to take of those given.
        split: Which split of the data set stands for the real images in metrics of features.
        resize: Whether images of another size are resampled.
        log: Whether the scores are to be added to a run, so that anything else is refused.
    """

    data_set: Part | None = None
    metrics: list[str] | None = None
    samples: int | None = None
    split: Side = None
    resize: bool = False
    log: bool = False


@dataclass(frozen=True)
class Report:
    """Scores, and how they were measured.

    Attributes:
        source: What was measured.
        scores: By name.
        protocols: By the same names.
        classes: What scores are of single classes, as `class/<score>/<label>`.
        journalled: What the run's journal has of them, where it was measured alike.
        not_alike: Why other scores of the journal are not set beside these, by name.
    """

    source: str
    scores: dict[str, float]
    protocols: dict[str, dict[str, Any]]
    classes: dict[str, float] = field(default_factory=dict)
    journalled: dict[str, float] = field(default_factory=dict)
    not_alike: dict[str, str] = field(default_factory=dict)


def resolve_options(options: EvaluateOptions, data_root: Path) -> Wanted:
    """Return what the options ask for, with the experiment's values where they say nothing.

    Raises:
        UserError: An option is invalid, two of them exclude each other, or the experiment's file
            is invalid.
    """
    if options.split not in SIDES:
        raise UserError(f"--split is train or test, not {options.split!r}")
    if options.data_set and options.experiment:
        raise UserError("give --data-set or --experiment, not both")
    data_set = _data_set(options)
    names = _metric_names(options.metrics)
    samples = options.samples
    if options.experiment:
        run = load_experiment(options.experiment, data_root, []).runs[0]
        measured = run.evaluate.final or run.evaluate
        data_set = run.dataset
        names = names or [name for name in measured.metrics if not asks_d(name)]
        samples = samples or measured.samples
    return Wanted(data_set=data_set, metrics=names, samples=samples, split=SIDES[options.split],
                  resize=options.resize, log=options.log)


def _data_set(options: EvaluateOptions) -> Part | None:
    if options.data_set is not None:
        return parse_data_set(options.data_set, options.image_size)
    if options.image_size is not None:
        raise UserError("--image-size belongs to --data-set; give both")
    return None


def _metric_names(text: str | None) -> list[str] | None:
    """Return the names that a list holds; None for no list."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UserError(f"--metrics {text!r} has an empty name; write it as A,B")
    return names


def evaluate(source: str, wanted: Wanted, workspace: Workspace, say: Say,
             ) -> tuple[Report, Path | None]:
    """Measure a source; return the report, and the run's folder if it is one.

    Args:
        source: A path: a run's folder, a file of weights or a checkpoint with `spec.json` beside
            it, or images as `images.read_images` takes them; or a run's id, or how it begins.
        wanted: What to measure.
        workspace: Where runs, data sets and the cache are.
        say: Is told what takes long.

    Raises:
        UserError: There is no such source; it is not finished, not readable, too small, or of
            another shape than the data set; a metric does not apply.
    """
    path = Path(source)
    if not source:
        raise UserError("what is to be measured? give a run's id, or a path of images")
    if not os.path.exists(path):  # unlike Path's own, this says no to a name that is too long
        if path.suffix or len(path.parts) > 1:
            raise UserError(f"{source:.400}: there is no such file or folder")
        path = find_run(workspace.root, source)
    if path.suffix == ".safetensors" or (
            path.suffix == ".pt" and (path.parent / "spec.json").exists()):
        return _of_run(path.parent, path.name, wanted, workspace, say), path.parent
    if (path / "spec.json").exists():
        return _of_run(path, WEIGHTS, wanted, workspace, say), path
    if path.is_file() and path.suffix in (".pt", ".pth", ".ckpt"):
        raise UserError(f"{path}: weights are read from a run's folder alone, beside its "
                        f"spec.json; of another program's generator, give images (a folder, "
                        f"{', '.join(ARRAYS)})")
    if wanted.log:
        raise UserError(f"--log adds to a run, and {path} is none")
    return _of_images(path, wanted, workspace, say), None


def log_scores(report: Report, folder: Path, workspace: Workspace) -> bool:
    """Add the scores to the run's journal and mirror it into MLflow; return whether any is new.

    A name is `evaluate-<digest of the protocol>/<score>`, so it never stands for two protocols, and
    logging the same again changes nothing, here or there. What the score is of a class has the same
    before its own name.

    Raises:
        UserError: The run is not finished, or MLflow fails (the journal has the scores then, and
            logging again goes on from there).
    """
    from gan_bench.tracking.client import open_store
    from gan_bench.tracking.mirror import Mirror

    last = reading.last(folder)
    status = last["status"] if last is not None and last["kind"] == Kind.END else "without an end"
    if status not in RESULTS:  # what came after its checkpoint is still to be repeated
        raise UserError(f"{folder}: --log adds to a finished run, and this one is {status}: run "
                        f"its experiment to the end first")
    homes = {name: f"evaluate-{digest(report.protocols[name])}/" for name in report.scores}
    values = {homes[name] + name: value for name, value in report.scores.items()}
    for name, value in report.classes.items():
        score = name.removeprefix(CLASS).partition("/")[0]
        values[homes[score] + name] = value
    protocols = {homes[name] + name: protocol for name, protocol in report.protocols.items()}
    new = writing.amend(folder, protocols, values)
    Mirror(open_store(workspace)).sync(folder)
    return new


def protocol_lines(protocols: dict[str, dict[str, Any]]) -> list[str]:
    """Return the protocols as text: a line for each that differs, after the names it holds for."""
    groups: dict[str, list[str]] = {}
    for name, protocol in protocols.items():
        parts = []
        for key, value in protocol.items():
            if value is not None:
                parts.append(f"{key} {value:,}" if type(value) is int else f"{key} {value}")
        groups.setdefault(", ".join(parts), []).append(name)
    return [f"{', '.join(names)}: {text}" for text, names in groups.items()]


def _of_run(folder: Path, weights: str, wanted: Wanted, workspace: Workspace, say: Say,
            ) -> Report:
    if wanted.resize:
        raise UserError("--resize is about given images; leave it out for a run")
    spec, generator = load_generator(folder, weights)
    device = resolve_device(spec)
    set_up_torch(spec)  # and so the bits are those of the run's own measurement
    if spec.condition != "none" and wanted.data_set not in (None, spec.dataset):
        raise UserError(f"{folder.name} is conditional, and its labels are those of "
                        f"{spec.dataset}: leave out --data-set")
    own = spec.evaluate.final or spec.evaluate
    names = wanted.metrics or [n for n in own.metrics if not asks_d(n)]
    count = wanted.samples or own.samples
    if spec.condition == "none":
        _refuse_asked(names, f"{folder.name} is unconditional and asks for none")
    scorer = _scorer(wanted.data_set or spec.dataset, names, count, wanted.split, workspace, device,
                     say, spec.data.shape)
    generator.to(device)
    # All samples as uint8 or float32, in parts and then as one.
    each = math.prod(spec.data.shape) * (1 if spec.data.is_image else 4)
    refuse_more_than_memory(2 * count * each, f"{count:,} samples")
    drawn = latents(spec, count, scorer.train_labels)
    asked = labels_of(spec, drawn)
    scorer.check_labels(asked)
    try:
        with undisturbed(generator, seed=rng.derive(spec.seed, STREAM, 1)):
            samples = generate(generator, drawn, device)
    except FloatingPointError as error:
        raise UserError(f"{folder / weights}: {error}; there is nothing to measure") from None
    how = provenance(spec)
    if weights.endswith(".pt"):
        how["checkpoint"] = f"step {checkpoint.read(folder / weights).step}"
    elif weights != WEIGHTS:  # not those that the journal tells of
        how["checkpoint"] = weights
    report = Report(f"{spec.experiment}/{spec.id}, {spec.variant} seed {spec.seed}",
                    *_scores(scorer, samples, how, asked))
    return _beside_journal(report, spec, folder)


def _of_images(path: Path, wanted: Wanted, workspace: Workspace, say: Say) -> Report:
    if wanted.data_set is None:
        raise UserError(f"{path}: which data set is it to be measured against? give --data-set or "
                        f"--experiment")
    facts = data_facts(wanted.data_set, workspace.data_root)
    names = wanted.metrics or [
        entry.name for entry in map(METRICS.__getitem__, USUAL) if not entry.facts.refuses(facts)
        and not (entry.facts.extractor == "random" and facts.classes)
        and (wanted.split is None or _has_split(entry))]
    _refuse_asked(names, "images do not tell")
    given = read_images(path, facts.shape, wanted.samples, wanted.resize)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scorer = _scorer(wanted.data_set, names, len(given.samples), wanted.split, workspace, device,
                     say, facts.shape)
    how: dict[str, object] = {"generator": "given", "quantisation": given.quantisation,
                              "latents": None}
    if given.resized:
        how["resized"] = given.resized
    return Report(str(path), *_scores(scorer, given.samples.to(device), how))


def _scorer(data_set: Part, names: Sequence[str], count: int, split: Side,
            workspace: Workspace, device: str, say: Say, shape: tuple[int, ...]) -> Scorer:
    """Prepare the data and what the metrics need; refuse first what cannot be measured."""
    if not names:
        raise UserError("none of its metrics can be measured without the discriminator; name "
                        "others with --metrics")
    facts = data_facts(data_set, workspace.data_root)
    if facts.shape != shape:
        raise UserError(f"the run makes {describe_shape(shape)}, and {data_set} holds "
                        f"{describe_shape(facts.shape)}; name another --data-set")
    entries = [_against(METRICS[name], split) for name in names]
    for entry in entries:
        if asks_d(entry.name):
            raise UserError(f"{entry.name} asks the discriminator in training, and there is none "
                            f"here; leave it out of --metrics")
        if reason := entry.facts.refuses(facts):
            raise UserError(f"{entry.name} {reason}")
    data_root, cache = workspace.data_root, workspace.cache
    datasets.prepare_data(data_set, data_root, cache, say)
    data: Dataset = datasets.load(data_set, data_root, cache, device, facts=facts)
    return Scorer(entries, count, data_set, data, cache, say)


def _refuse_asked(names: Sequence[str], why: str) -> None:
    for name in names:
        if asks_labels(name):
            raise UserError(f"{name} compares with the class that each sample was asked for, and "
                            f"{why}; name others with --metrics")


def _has_split(entry: MetricEntry) -> bool:
    """Whether a metric compares features with those of real images, of whichever split."""
    return entry.facts.extractor in EXTRACTORS.names() and entry.facts.reference == "train"


def _against(entry: MetricEntry, split: Side) -> MetricEntry:
    """The metric with another split for its reference, if it is one that compares features."""
    if split in (None, entry.facts.reference) or entry.facts.reference is None:
        return entry
    if not _has_split(entry):
        raise UserError(f"{entry.name} is about {entry.facts.reference} alone; leave it out of "
                        f"--metrics, or leave out --split")
    return replace(entry, facts=replace(entry.facts, reference=split))


def _scores(scorer: Scorer, samples: Tensor, how: dict[str, object], asked: Tensor | None = None,
            ) -> tuple[dict[str, float], dict[str, dict[str, Any]], dict[str, float]]:
    """The scores, how they were measured, and what they are of single classes."""
    try:
        found = scorer(samples, None, asked)
    except FloatingPointError as error:
        raise UserError(str(error)) from None
    scores = {name: value for name, value in found.items() if not name.startswith(CLASS)}
    return scores, scorer.protocol(**how), {k: v for k, v in found.items() if k not in scores}


def _beside_journal(report: Report, spec: RunSpec, folder: Path) -> Report:
    """The report with what the run's own journal says of the same scores."""
    run = Progress(spec, folder)
    run.follow()
    reasons = {name: refusal(report.protocols[name], run.protocols[name])
               for name in report.scores if name in run.scores}
    return replace(report,
                   journalled={n: run.scores[n] for n, why in reasons.items() if not why},
                   not_alike={n: why for n, why in reasons.items() if why})


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    return json.dumps({"source": report.source, "scores": report.scores,
                       "protocols": report.protocols, "classes": report.classes,
                       "journalled": report.journalled, "not_alike": report.not_alike})


def as_text(report: Report) -> str:
    """Return the report for a terminal: a table of the scores, the protocols below it."""
    from io import StringIO

    from rich.console import Console
    from rich.table import Table

    better = directions()
    arrows = {"lower": " ↓", "higher": " ↑"}
    table = Table(box=None, pad_edge=False)
    for heading in ("score", "value", *(["in the journal"] if report.journalled else [])):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for name, value in report.scores.items():
        known = report.journalled.get(name)
        table.add_row(name + arrows.get(better.get(name) or "", ""), f"{value:.6g}",
                      *([] if known is None else [f"{known:.6g}"]))
    console = Console(file=StringIO(), width=120)
    console.print(table)
    by_class: dict[str, list[str]] = {}
    for name, value in report.classes.items():
        _, score, label = name.split("/")
        by_class.setdefault(score, []).append(f"{label}: {value:.4g}")
    classes = [f"{score} by class  {', '.join(values)}" for score, values in by_class.items()]
    lines = [f"  {line}" for line in protocol_lines(report.protocols)]
    lines += [f"  {name} in the run's journal: {why}" for name, why in report.not_alike.items()]
    assert isinstance(console.file, StringIO)
    return "\n".join([report.source, console.file.getvalue(), *classes, *([""] if classes else []),
                      "how it was measured", *lines])
