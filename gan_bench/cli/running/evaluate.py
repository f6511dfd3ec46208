"""What `gan-bench evaluate` does: any samples, against any data set, by any metrics.

The samples are those of a finished run, or images of any origin. Every score comes with its
protocol.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from gan_bench.cli.options import advised, parse_data_set, run_command, use_plugin_files
from gan_bench.config.experiment import load_experiment
from gan_bench.config.initial_weights import find_run
from gan_bench.config.statistics_file import read_statistics
from gan_bench.errors import Say, UserError
from gan_bench.evaluation.external_images import ARRAYS
from gan_bench.evaluation.features.given_statistics import statistics_of
from gan_bench.evaluation.given_images import measure_images
from gan_bench.evaluation.measurement import Report, Side, Wanted
from gan_bench.evaluation.metrics.base import asks_d
from gan_bench.evaluation.score_directions import directions
from gan_bench.journal.layout import WEIGHTS, Execution, Workspace, is_trained
from gan_bench.journal.segments import segments
from gan_bench.launcher.preparation import LaunchSettings
from gan_bench.paths import normal_path
from gan_bench.registry import Part
from gan_bench.tracking.runs.older_ids import older_runs
from gan_bench.training.trained_scores import log_scores, measure_run

SIDES: dict[str | None, Side] = {None: None, "train": "train", "test": "test"}
ARROWS = {"lower": " ↓", "higher": " ↑", None: ""}


@dataclass(frozen=True)
class EvaluateOptions:
    """The options of `gan-bench evaluate` as the user types them.

    Attributes:
        data_set: A name, or a YAML mapping.
        image_size: The data set's image_size.
        experiment: The file that gives data set, metrics and number of samples.
        metrics: Names, separated by commas.
        samples, split, resize, log: As in `Wanted`.
        plugins: Plug-in files.
        statistics: The file of the statistics in `Wanted`.
    """

    data_set: str | None = None
    image_size: int | None = None
    experiment: Path | None = None
    metrics: str | None = None
    samples: int | None = None
    split: str | None = None
    resize: bool = False
    log: bool = False
    plugins: Sequence[Path] = ()
    statistics: Path | None = None


def resolve_options(options: EvaluateOptions, data_root: Path, root: Path) -> Wanted:
    """Return what to measure, with the experiment's values where the options give none.

    Raises:
        UserError: An option is invalid, two of them exclude each other, or the experiment's file
            is invalid.
    """
    if options.split not in SIDES:
        raise UserError(f"--split is train or test, not {options.split!r}")
    if options.data_set and options.experiment:
        raise UserError("give --dataset or --experiment, not both")
    use_plugin_files(options.plugins)
    data_set = _data_set(options)
    names = _metric_names(options.metrics)
    samples = options.samples
    statistics = read_statistics(options.statistics) if options.statistics else None
    if options.experiment:
        run = load_experiment(options.experiment, data_root, [], options.plugins,
                              root=root).runs[0]
        measured = run.evaluate.final or run.evaluate
        data_set = run.dataset
        names = names or [name for name in measured.metrics if not asks_d(name)]
        samples = samples or measured.samples
        statistics = statistics or statistics_of(measured, names)
    return Wanted(data_set=data_set, metrics=names, samples=samples, split=SIDES[options.split],
                  resize=options.resize, log=options.log, statistics=statistics)


def _data_set(options: EvaluateOptions) -> Part | None:
    if options.data_set is not None:
        return parse_data_set(options.data_set, options.image_size)
    if options.image_size is not None:
        raise UserError("--image-size belongs to --dataset; give both")
    return None


def _metric_names(text: str | None) -> list[str] | None:
    """Return the names in a list; None if there is no list."""
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise UserError(f"--metric {text!r} has an empty name; write it as A,B")
    return names


def evaluate(source: str, wanted: Wanted, workspace: Workspace, say: Say,
             ) -> tuple[Report, Path | None]:
    """Measure a source; return the report, and the run's folder if it is one.

    Args:
        source: A path: a run's folder, a file of weights or a checkpoint with `spec.json` beside
            it, or images as `external_images.read_images` takes them; or a run's id, or how it
            begins.
        wanted: What to measure.
        workspace: Where runs, data sets and the cache are.
        say: Receives a line before each slow step.

    Raises:
        UserError: There is no such source; it is not finished, not readable, too small, or of
            another shape than the data set; a metric does not apply.
    """
    path = Path(source)
    if not source:
        raise UserError("give what to measure: a run's id, or a path of images")
    if not os.path.exists(path):  # unlike Path.exists, this accepts names of any length
        if path.suffix or len(path.parts) > 1:
            raise UserError(f"{source:.400}: there is no such file or folder")
        path = find_run(workspace.root, source)
    if path.suffix == ".safetensors" or (path.suffix == ".pt" and _is_run(path.parent)):
        folder = normal_path(path.parent)
        return measure_run(folder, path.name, wanted, workspace, say), folder
    if _is_run(path):
        folder = normal_path(path)
        return measure_run(folder, WEIGHTS, wanted, workspace, say), folder
    if path.is_file() and path.suffix in (".pt", ".pth", ".ckpt"):
        raise UserError(f"{path}: weights are read only from a run's folder, beside its "
                        f"spec.json; for another program's generator, give images (a folder, "
                        f"{', '.join(ARRAYS)})")
    if wanted.log:
        raise UserError(f"--log adds to a run, but {path} is not a run")
    return measure_images(path, wanted, workspace, say), None


def _is_run(folder: Path) -> bool:
    """Whether a folder is a run's; other programs too call a file `spec.json`."""
    file = folder / "spec.json"
    if not file.is_file():
        return False
    if segments(folder) or (folder / WEIGHTS).exists():
        return True
    try:
        values = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and {"experiment", "variant", "seed", "model"} <= values.keys()


def evaluate_and_log(source: str, options: EvaluateOptions, workspace: Workspace, say: Say,
                     show: Callable[[Report], None]) -> list[str]:
    """Measure a source as the options say, log the scores if they ask for it, and show them.

    Args:
        source, workspace, say: As for `evaluate`.
        options: What the user asks for.
        show: Receives what was measured, even if it cannot be logged.

    Returns:
        What MLflow lacks of the run, or hides, and what to do, a line each.

    Raises:
        UserError: As `resolve_options`, `evaluate` and `log_scores`.
    """
    wanted = resolve_options(options, workspace.data_root, workspace.root)
    report, folder = evaluate(source, wanted, workspace, say)
    try:
        return log_scores(report, folder, workspace).missing if folder and wanted.log else []
    finally:
        show(report)


def evaluate_experiment(file: Path, options: EvaluateOptions, settings: list[str],
                        workspace: Workspace, slots: int | None, as_json: bool) -> int:
    """Measure the trained runs of an experiment by what they lack; return the exit status.

    It is 3 if runs are left out, because they are not trained.

    Args:
        file: The experiment's.
        options: `metrics` are measured beside those of the file, `samples` replaces the file's
            number after the last step.
        settings: Overrides of the file.
        workspace: Where the runs are.
        slots, as_json: As for `gan-bench run`.

    Raises:
        UserError: An option belongs to single runs, no run is trained, or as `run_experiment`.
    """
    from gan_bench.cli.running.run import run_experiment

    for option, value in (("dataset", options.data_set), ("image-size", options.image_size),
                          ("experiment", options.experiment), ("split", options.split),
                          ("resize", options.resize)):
        if value:
            raise UserError(f"--{option} belongs to a single run or to images; a file's runs are "
                            f"measured as the file says")
    command = run_command(file, settings, options.plugins)
    own = load_experiment(file, workspace.data_root, settings, options.plugins,
                          root=workspace.root)
    first = own.runs[0]
    final = first.evaluate.final or first.evaluate
    names = list(dict.fromkeys([*final.metrics, *(_metric_names(options.metrics) or [])]))
    settings = [*settings, f"evaluate.final_metrics={json.dumps(names)}",
                f"evaluate.final_samples={options.samples or final.samples}"]
    if options.statistics:
        reference = {"statistics": str(normal_path(options.statistics))}
        settings.append(f"evaluate.reference={json.dumps(reference)}")
    spec = load_experiment(file, workspace.data_root, settings, options.plugins,
                           root=workspace.root)
    declared = spec.declared.selecting_as(own.declared)  # which draws are chosen stays
    spec = spec.model_copy(update={"declared": declared})
    older = older_runs(workspace.root / "runs" / spec.name)  # which are taken over
    if not older and not any(is_trained(run.folder(workspace.root)) for run in spec.runs):
        raise UserError(f"no run of {spec.name} is trained yet: {advised(command, workspace)}")
    launch = LaunchSettings(Execution(workspace, allow_drift=True), slots,
                            run_command(file, settings, options.plugins), train=False)
    return run_experiment(spec, launch, as_json)


def as_json(report: Report) -> str:
    """Return the report as one JSON object."""
    return json.dumps({"source": report.source, "scores": report.scores,
                       "protocols": report.protocols, "classes": report.classes,
                       "journalled": report.journalled, "not_alike": report.not_alike,
                       "notes": report.notes})


def as_text(report: Report) -> str:
    """Return the report for a terminal: a table of the scores, the protocols below it."""
    by_class: dict[str, list[str]] = {}
    for name, value in report.classes.items():
        _, score, label = name.split("/")
        by_class.setdefault(score, []).append(f"{label}: {value:.4g}")
    classes = [f"{score} by class  {', '.join(values)}" for score, values in by_class.items()]
    lines = [f"  {line}" for line in protocol_lines(report.protocols)]
    lines += [f"  {name} in the run's journal: {why}" for name, why in report.not_alike.items()]
    return "\n".join([report.source, _table(report), *report.notes, *classes,
                      *([""] if classes or report.notes else []),
                      "how it was measured", *lines])


def _table(report: Report) -> str:
    from rich.console import Console
    from rich.table import Table

    better = directions()
    table = Table(box=None, pad_edge=False)
    for heading in ("score", "value", *(["in the journal"] if report.journalled else [])):
        table.add_column(heading, justify="left" if heading == "score" else "right")
    for name, value in report.scores.items():
        cells = [name + ARROWS[better.get(name)], f"{value:.6g}"]
        if name in report.journalled:
            cells.append(f"{report.journalled[name]:.6g}")
        table.add_row(*cells)
    output = StringIO()
    Console(file=output, width=120).print(table)
    return output.getvalue()


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
