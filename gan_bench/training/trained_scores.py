"""Scores of a trained run, measured again: by other metrics, or against other data.

They are shown beside those in the run's journal only if both were measured in the same way.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from gan_bench import rng
from gan_bench.config.spec import RunSpec
from gan_bench.errors import Say, UserError, remedy
from gan_bench.evaluation.comparability import refusal
from gan_bench.evaluation.evaluator import (
    STREAM,
    generate,
    labels_of,
    measured_latents,
    provenance,
    undisturbed,
)
from gan_bench.evaluation.features.given_statistics import statistics_of
from gan_bench.evaluation.measurement import (
    Measurement,
    Report,
    Wanted,
    measure,
    prepare_scorer,
    refuse_metrics_of_labels,
    refuse_metrics_of_pairs,
)
from gan_bench.evaluation.metrics.base import asks_d
from gan_bench.hardware import refuse_more_than_memory
from gan_bench.journal import reading, writing
from gan_bench.journal.layout import WEIGHTS, Workspace
from gan_bench.journal.schema import RESULTS, Kind
from gan_bench.journal.scores.free_names import FreeNames, last_phase
from gan_bench.journal.scores.score_names import CLASS, protocol_digest, score_name
from gan_bench.journal.spec_file import read_spec
from gan_bench.journal.status import Progress
from gan_bench.paths import normal_path
from gan_bench.training import checkpoint
from gan_bench.training.device import resolve_device, set_up_torch
from gan_bench.training.trained import load_generator

STATISTICS_SINCE = 4  # the NUMERICS since which a run chooses the statistics of its average


def measure_run(folder: Path, weights: str, wanted: Wanted, workspace: Workspace, say: Say,
                ) -> Report:
    """Measure the generator of a run on the latents that the run itself was measured on.

    Args:
        folder: The run's folder.
        weights: The name of a file of weights there, or of a checkpoint.
        wanted: What to measure; what it leaves open is as in the run's last measurement.
        workspace: Where data sets and the cache are.
        say: Receives a line before each slow step.

    Raises:
        UserError: The run is not finished or not readable; its samples are not finite, too many
            for the memory, or of another shape than the data; a metric does not apply.
    """
    if wanted.resize:
        raise UserError("--resize is for images; leave it out for a run")
    spec, generator = load_generator(folder, weights)
    device = resolve_device(spec)
    set_up_torch(spec)  # so the bits are those of the run's own measurement
    measurement = _measurement(spec, wanted, folder)
    scorer = prepare_scorer(measurement, workspace, device, say)
    # All samples exist twice, as uint8 or float32: in batches, then as one tensor.
    sample_bytes = math.prod(spec.data.shape) * (1 if spec.data.is_image else 4)
    refuse_more_than_memory(2 * measurement.samples * sample_bytes,
                            f"{measurement.samples:,} samples")
    drawn = measured_latents(spec, scorer.data, measurement.samples)
    labels = labels_of(spec, drawn)
    scorer.check_labels(labels)
    samples = _samples(spec, generator.to(device), drawn, device, folder / weights)
    source = f"{spec.experiment}/{spec.id}, {spec.variant} seed {spec.seed}"
    report = measure(source, scorer, samples, _provenance(spec, folder / weights), labels)
    is_final = (weights == WEIGHTS and wanted.split is None
                and measurement.data_set == spec.dataset)
    return replace(_beside_journal(report, spec, folder), is_final=is_final)


@dataclass(frozen=True)
class Logged:
    """What became of scores that were logged.

    Attributes:
        is_new: Whether the journal lacked any of them.
        missing: What MLflow lacks of the run, or hides, and what to do, a line each.
    """

    is_new: bool
    missing: list[str]


def log_scores(report: Report, folder: Path, workspace: Workspace) -> Logged:
    """Add the scores to the run's journal, and mirror it into MLflow.

    Where the run was measured as its experiment measures it, a score gets the name that training
    gives it, or if this name stands for another protocol, `final-<digest of the protocol>/<score>`:
    a report then shows it if it is what the experiment asks for. Others are called
    `evaluate-<digest>/<score>`. So a name never stands for two protocols, and logging the same
    again changes nothing, here or there. The score of a class gets the same prefix.

    Args:
        report: Of the run.
        folder: The run's folder, in any root.
        workspace: Names the store; None there: that of the run's root.

    Raises:
        UserError: The run is not finished or in no root, its journal cannot be written, or the
            store has no address; nothing has changed then.
    """
    from gan_bench.tracking.runs.origin import run_root
    from gan_bench.tracking.store.address import resolve_uri
    from gan_bench.tracking.sync import sync_run

    folder = _in_root(folder)
    workspace = replace(workspace, root=run_root(folder))
    resolve_uri(workspace)  # refuses a mistake before anything changes
    last = writing.last_whole(folder)
    status = last["status"] if last is not None and last["kind"] == Kind.END else "without an end"
    if status not in RESULTS:  # the records after its checkpoint will be repeated
        raise UserError(f"{folder}: --log adds to a finished run, but this run is {status}: run "
                        f"its experiment to the end first")
    protocols, values = _named(report, folder)
    try:
        is_new = writing.amend(folder, writing.Amendment(protocols, values))
    except OSError as error:
        raise UserError(f"{error.filename or folder}: {error.strerror}: no score is added, and the "
                        f"run is as it was; {remedy(error, 'make it writable')}, then repeat the "
                        f"command") from None
    return Logged(is_new, sync_run(workspace, folder))


def _named(report: Report, folder: Path) -> tuple[dict[str, Any], dict[str, float]]:
    """Return protocols and scores by the names that they get in the run's journal."""
    if report.is_final:
        spec = read_spec(folder)
        run = Progress(spec, folder)
        run.follow()
        names, phase = FreeNames(run), last_phase(spec)
        plain = {score_name(phase, name): value
                 for name, value in (report.scores | report.classes).items()}
        values = names.rename(plain, {score_name(phase, name): protocol
                                      for name, protocol in report.protocols.items()})
        return names.protocols, values
    prefixes = {name: f"evaluate-{protocol_digest(protocol)}/"
                for name, protocol in report.protocols.items()}
    values = {prefixes[name] + name: value for name, value in report.scores.items()}
    for name, value in report.classes.items():
        score = name.removeprefix(CLASS).partition("/")[0]
        values[prefixes[score] + name] = value
    protocols = {prefixes[name] + name: protocol for name, protocol in report.protocols.items()}
    return protocols, values


def _in_root(folder: Path) -> Path:
    """Return a run's folder as its root has it; a link elsewhere may lead there."""
    for place in (normal_path(folder), folder.resolve()):
        if place.parent.parent.name == "runs":
            return place
    raise UserError(f"{folder}: --log adds to a run in a root, ROOT/runs/EXPERIMENT/RUN; move it "
                    f"back there, or leave out --log")


def _measurement(spec: RunSpec, wanted: Wanted, folder: Path) -> Measurement:
    """What to measure a run by, with its last measurement where nothing else is asked for."""
    if spec.condition != "none" and wanted.data_set not in (None, spec.dataset):
        what = "labels" if spec.condition_kind == "class" else "inputs"
        raise UserError(f"{folder.name} is conditional with the {what} of "
                        f"{spec.dataset}: leave out --dataset")
    last = spec.evaluate.final or spec.evaluate
    names = wanted.metrics or [name for name in last.metrics if not asks_d(name)]
    if spec.condition_kind != "class":
        refuse_metrics_of_labels(names, f"{folder.name} asks for no class")
    if spec.condition_kind != "image":
        refuse_metrics_of_pairs(names, f"{folder.name} makes images of no input")
    samples = wanted.samples or last.samples
    if spec.condition_kind == "image" and samples > spec.data.test:
        raise UserError(f"{samples:,} samples are asked for, and there are {spec.data.test:,} "
                        f"held-out inputs, with one sample each: give at most as many")
    return Measurement(wanted.data_set or spec.dataset, names, samples, spec.data.shape,
                       wanted.split, wanted.statistics or statistics_of(spec.evaluate, names))


def _samples(spec: RunSpec, generator: nn.Module, drawn: Tensor, device: str, weights: Path,
             ) -> Tensor:
    try:
        with undisturbed(generator, seed=rng.derive(spec.seed, STREAM, 1)):
            return generate(generator, drawn, device)
    except FloatingPointError as error:
        raise UserError(f"{weights}: {error}; there is nothing to measure") from None


def _provenance(spec: RunSpec, weights: Path) -> dict[str, object]:
    """Where the samples come from; weights other than the final ones are named."""
    how = provenance(spec)
    began = reading.began(weights.parent) or {}
    numerics = began.get("facts", {}).get("versions", {}).get("numerics")
    if isinstance(numerics, int) and numerics < STATISTICS_SINCE:
        how.pop("ema_statistics", None)  # they are copied there, which its protocol does not say
    if weights.suffix == ".pt":
        how["checkpoint"] = f"step {checkpoint.read(weights).step}"
    elif weights.name != WEIGHTS:
        how["checkpoint"] = weights.name
    return how


def _beside_journal(report: Report, spec: RunSpec, folder: Path) -> Report:
    """Return the report with the same scores from the run's journal."""
    run = Progress(spec, folder)
    run.follow()
    reasons = {name: refusal(report.protocols[name], run.protocols[name])
               for name in report.scores if name in run.scores}
    return replace(report,
                   journalled={name: run.scores[name] for name, why in reasons.items() if not why},
                   not_alike={name: why for name, why in reasons.items() if why})
