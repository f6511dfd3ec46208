"""Runs executed in this process: what they need is prepared once, then one or several are run."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import torch

from gan_bench.components import data as datasets
from gan_bench.components.models import build_networks, make_networks
from gan_bench.components.penalties import constrain
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import (
    Say,
    UserError,
    explained,
)
from gan_bench.evaluation.evaluator import prepare_metrics, refuse_too_many_samples
from gan_bench.evaluation.features.given_statistics import statistics_of
from gan_bench.journal import reading
from gan_bench.journal.about import declare
from gan_bench.journal.layout import (
    LOG,
    Execution,
    KeepCheckpoints,
    Workspace,
    is_trained,
)
from gan_bench.journal.plugin_files import provide_parts
from gan_bench.journal.scores.extractor_weights import finished_runs, to_ask_for
from gan_bench.journal.sharing.claims import lease
from gan_bench.journal.shorter_runs import beginnings, predecessor_folders
from gan_bench.journal.status import Outcome
from gan_bench.paths import AnyPath, as_path
from gan_bench.registry import MODELS, PENALTIES, use_plugins
from gan_bench.tracking.store.address import is_server, quiet_mlflow, resolve_uri
from gan_bench.tracking.store.client import open_store
from gan_bench.tracking.sync import sync_run
from gan_bench.training.circumstances import circumstances, refuse_drift
from gan_bench.training.contract.networks import shapes_problem
from gan_bench.training.device import resolve_device, set_up_torch, torch_as_before
from gan_bench.training.initial import refuse_unfit_weights
from gan_bench.training.measuring import measure_trained
from gan_bench.training.packing import runs_together
from gan_bench.training.profiling import Profiler
from gan_bench.training.single_run import Run


def never() -> bool:
    """Return False: by default nothing stops a run."""
    return False


def prepare(experiment: ExperimentSpec, root: AnyPath, data_root: AnyPath, say: Say,
            allow_drift: bool = False) -> int:
    """Do once, before any training, what all the runs need, and refuse what cannot work.

    The root then holds what the experiment declares, which `load_results` compares by.

    Args:
        root, data_root: As in `gan_bench.journal.layout.Workspace`.
        say: Receives a line before each slow step.
        allow_drift: As in `gan_bench.journal.layout.Execution`.

    Returns:
        How many runs are to share a process: 1 on the CPU.

    Raises:
        UserError: As `prepare_runs`.
    """
    workspace = Workspace(as_path(root), as_path(data_root))
    together, prepared = prepare_runs(experiment, Execution(workspace, allow_drift=allow_drift),
                                      say)
    finished = finished_runs(experiment.runs, workspace.root)
    declare(experiment, workspace, to_ask_for(finished, prepared))
    return together


@torch_as_before()
def prepare_runs(experiment: ExperimentSpec, execution: Execution, say: Say, trains: bool = True,
                 ) -> tuple[int, dict[str, str]]:
    """Do once, before any training, what all the runs need, and refuse what cannot work.

    Downloads and decodes the data, trains or fetches the feature extractors, computes the
    reference features, and builds every variant's networks without weights.

    Args:
        trains: Whether this machine is one of those that train the runs; if not, nothing depends on
            its device.

    Returns:
        How many runs are to share a process, 1 on the CPU and 0 if other machines train; and by
        score the hash of its extractor's weights.

    Raises:
        UserError: The data or an extractor is unavailable, the device does not exist, samples do
            not fit into memory, a D cannot be constrained as asked, or a run has a checkpoint from
            another version or device, and going on from it is not allowed.
    """
    if experiment.plugins:
        use_plugins(experiment.plugins)
    first = experiment.runs[0]
    has_device = first.compute.device != "cuda" or torch.cuda.is_available()
    device = resolve_device(first) if trains or has_device else "cpu"
    set_up_torch(first)
    workspace = execution.workspace
    here = circumstances(first, device) if trains else {}
    if trains and not execution.allow_drift:
        refuse_drift(experiment, workspace.root, here)
    with torch.device("meta"):
        for run in {(run.variant, run.draw): run for run in experiment.runs}.values():
            provide_parts({"sources": run.sources}, workspace.run_folder(run))
            _refuse_other_shapes(run)
            if trains:
                refuse_too_many_samples(run, device)
            networks = make_networks(run.model, run.data.shape, run.condition, run.data.classes,
                                     run.data.input)
            penalties = [PENALTIES.build(part) for part in run.penalties]
            try:
                constrain(networks.discriminator, penalties, run.seed)
                refuse_unfit_weights(run, networks, workspace.root)
            except UserError as error:
                raise UserError(f"variant {run.variant}: {error}") from None
    datasets.prepare_data(first.dataset, workspace.data_root, workspace.cache, say)
    data = datasets.load(first.dataset, workspace.data_root, workspace.cache, device,
                         facts=first.data)
    weights = prepare_metrics(first.evaluate.all_metrics, data, workspace.cache, say,
                              statistics_of(first.evaluate))
    together = runs_together(experiment, device, here["precision"], say) if trains else 0
    return together, weights


def _refuse_other_shapes(run: RunSpec) -> None:
    """Refuse a third-party model whose networks do not fit the data, before anything is trained."""
    if MODELS[run.model.name].origin is None:
        return
    with torch.device("cpu"):
        networks = build_networks(run.model, run.data.shape, run.seed)
        try:
            problem = shapes_problem(networks, run.model, run.data.shape)
        except Exception as error:  # of third-party code
            problem = explained(error)
    if problem:
        raise UserError(f"variant {run.variant}: model {run.model}: {problem}")


@torch_as_before()
def run_one(spec: RunSpec, root: AnyPath, data_root: AnyPath, *,
            checkpoint_every: float | None = None, allow_drift: bool = False,
            keep_checkpoints: KeepCheckpoints = "last", stop: Callable[[], bool] = never,
            mirror: bool = False, tracking_uri: str | None = None) -> Outcome:
    """Train, measure and record one run in this process, from its last checkpoint if it has one.

    A run that is trained is only measured by what its journal lacks. Without a checkpoint it
    continues from a run in its experiment's folder that differs in nothing but the steps, if there
    is any.

    Args:
        root, data_root: As in `gan_bench.journal.layout.Workspace`.
        checkpoint_every, allow_drift, keep_checkpoints: As in `gan_bench.journal.layout.Execution`.
        stop: Is asked after every step; once it returns True, the run writes a checkpoint and ends
            KILLED.
        mirror: Whether to copy the run into MLflow when it has ended, however that was.
        tracking_uri: MLflow's store, if that is not the usual one of the root; it is mirrored then.

    Raises:
        UserError: As `Run`; or MLflow's store cannot be used, or `GAN_BENCH_LEASE` is no number of
            seconds, which is said before any training.
    """
    lease()  # refuses a mistake before the thread that shows signs of life counts by it
    workspace = Workspace(as_path(root), as_path(data_root), tracking_uri)
    home = workspace.run_folder(spec).parent
    execution = Execution(workspace, checkpoint_every, allow_drift,
                          keep_checkpoints=keep_checkpoints,
                          shorter_runs=predecessor_folders(beginnings(home, [spec])))
    load = partial(_load, spec, workspace)
    with _mirrored(spec, workspace, mirror or tracking_uri is not None) as missing:
        if is_trained(workspace.run_folder(spec)):
            outcome = measure_trained(spec, execution, load)
        else:
            outcome = _train(Run(spec, execution, load), stop)
    return replace(outcome, missing=tuple(missing))


def _train(run: Run, stop: Callable[[], bool]) -> Outcome:
    try:
        while run.step():
            if stop():
                run.stop()
            elif run.cadence.due():
                run.checkpoint()
    finally:
        run.close()
    assert run.outcome is not None
    return run.outcome


@contextmanager
def _mirrored(spec: RunSpec, workspace: Workspace, wanted: bool) -> Iterator[list[str]]:
    """Copy the run into MLflow on leaving, if that is wanted; yield a list for what MLflow lacks.

    Raises:
        UserError: The store is a database that cannot be used, or has no address. (A server may
            come back.)
    """
    missing: list[str] = []
    if not wanted:
        yield missing
        return
    with quiet_mlflow():
        if not is_server(resolve_uri(workspace)):
            open_store(workspace)
    try:
        yield missing
    finally:
        with quiet_mlflow():
            missing += sync_run(workspace, workspace.run_folder(spec))


def run_together(specs: Sequence[RunSpec], execution: Execution, *,
                 stop: Callable[[], bool] = never,
                 failed: Callable[[RunSpec, Exception], None]) -> None:
    """Run several runs in this process, one step each in turn, to the same bits as alone.

    A run that is trained is measured by what its journal lacks.

    On a GPU each has a stream of its own: while Python launches the step of one, the device is
    busy with those of others.

    Args:
        stop: As in `run_one`, for each of them.
        failed: Receives each run that raised, and its error; the other runs continue.
    """
    device = resolve_device(specs[0])
    # Once for all of them, who only read it.
    load = lru_cache(partial(_load, specs[0], execution.workspace))
    going: list[tuple[Run, AbstractContextManager[None], Profiler | None]] = []
    try:
        for spec in specs:
            # The CPU has no streams, and asking for one would initialise an unused GPU.
            stream: AbstractContextManager[None] = nullcontext()
            if device == "cuda":
                stream = torch.cuda.stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]
            try:
                folder, profiler = execution.workspace.run_folder(spec), None
                if is_trained(folder):
                    with stream:
                        measure_trained(spec, execution, load)
                    continue
                if execution.profile and reading.first(folder) is None:
                    profiler = Profiler(spec.steps, folder, device)
                with stream:  # where a captured step is recorded
                    run = Run(spec, execution, load, partial(append_line, folder / LOG))
                    going.append((run, stream, profiler))
            except Exception as error:
                failed(spec, error)
        while going:
            for run, stream, profiler in going:
                try:
                    with stream, profiler.turn(run) if profiler else nullcontext(1) as count:
                        for _ in range(count):
                            if not run.step():
                                break
                            if stop():
                                run.stop()
                            elif run.cadence.due():
                                run.checkpoint()
                except Exception as error:
                    failed(run.spec, error)
                    run.close()
            going = [turn for turn in going if turn[0].outcome is None]
    finally:
        for run, _, _ in going:
            with suppress(OSError):  # a full disk, and the others are to be closed too
                run.close()


def append_line(log: Path, line: str) -> None:
    """Append a line to a log that there is; a run never ends because its log cannot be written."""
    with suppress(OSError):
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)


def _load(spec: RunSpec, workspace: Workspace) -> datasets.Dataset:
    return datasets.load(spec.dataset, workspace.data_root, workspace.cache,
                         resolve_device(spec), facts=spec.data)
