"""run_one: the only place that assembles the parts of a run."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from gan_bench.atomic import replacing
from gan_bench.components import data as datasets
from gan_bench.components.models import build_networks, make_networks
from gan_bench.components.penalties import constrain
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import (
    Say,
    UserError,
    explained,
    is_full,
    is_out_of_memory,
    one_line,
    unwritable,
)
from gan_bench.evaluation.evaluator import Evaluator, prepare_metrics, refuse_too_many_samples
from gan_bench.evaluation.features.given_statistics import statistics_of
from gan_bench.journal import reading
from gan_bench.journal.about import declare
from gan_bench.journal.drift import since
from gan_bench.journal.layout import (
    WEIGHTS,
    Execution,
    KeepCheckpoints,
    Workspace,
    is_trained,
    make_snapshot_folder,
    remove_checkpoints,
    snapshot_file,
)
from gan_bench.journal.plugin_files import provide_parts, write_plugins
from gan_bench.journal.schema import Status
from gan_bench.journal.score_names import FINAL
from gan_bench.journal.shorter_runs import beginnings, source_folders
from gan_bench.journal.status import Outcome
from gan_bench.journal.writing import Journal
from gan_bench.paths import AnyPath, as_path
from gan_bench.registry import MODELS, PENALTIES, use_plugins
from gan_bench.tracking.address import is_server, quiet_mlflow, resolve_uri
from gan_bench.tracking.client import open_store
from gan_bench.tracking.sync import sync_run
from gan_bench.training import checkpoint
from gan_bench.training.checkpoint import Checkpoint
from gan_bench.training.circumstances import circumstances, drifted, facts, refuse_drift
from gan_bench.training.continuing import continue_from
from gan_bench.training.contract.networks import shapes_problem
from gan_bench.training.device import peak_memory, resolve_device, set_up_torch, torch_as_before
from gan_bench.training.engine import Engine
from gan_bench.training.initial import load_initial_weights, refuse_unfit_weights
from gan_bench.training.loop import Evaluate, Training
from gan_bench.training.measuring import measure_trained
from gan_bench.training.packing import runs_together
from gan_bench.training.profiling import Profiler

BY_USER = "stopped by the user"


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
        As `prepare_runs`.

    Raises:
        UserError: As `prepare_runs`.
    """
    workspace = Workspace(as_path(root), as_path(data_root))
    together = prepare_runs(experiment, Execution(workspace, allow_drift=allow_drift), say)
    declare(experiment, workspace)
    return together


@torch_as_before()
def prepare_runs(experiment: ExperimentSpec, execution: Execution, say: Say) -> int:
    """Do once, before any training, what all the runs need, and refuse what cannot work.

    Downloads and decodes the data, trains or fetches the feature extractors, computes the
    reference features, and builds every variant's networks without weights.

    Returns:
        How many runs are to share a process: 1 on the CPU.

    Raises:
        UserError: The data or an extractor is unavailable, the device does not exist, samples do
            not fit into memory, a D cannot be constrained as asked, or a run has a checkpoint from
            another version or device, and going on from it is not allowed.
    """
    if experiment.plugins:
        use_plugins(experiment.plugins)
    first = experiment.runs[0]
    device = resolve_device(first)
    set_up_torch(first)
    here = circumstances(first, device)
    workspace = execution.workspace
    if not execution.allow_drift:
        refuse_drift(experiment, workspace.root, here)
    with torch.device("meta"):
        for run in {run.variant: run for run in experiment.runs}.values():
            provide_parts({"sources": run.sources}, workspace.run_folder(run))
            _refuse_other_shapes(run)
            refuse_too_many_samples(run, device)
            networks = make_networks(run.model, run.data.shape, run.condition, run.data.classes)
            penalties = [PENALTIES.build(part) for part in run.penalties]
            try:
                constrain(networks.discriminator, penalties, run.seed)
                refuse_unfit_weights(run, networks, workspace.root)
            except UserError as error:
                raise UserError(f"variant {run.variant}: {error}") from None
    datasets.prepare_data(first.dataset, workspace.data_root, workspace.cache, say)
    data = _load(first, workspace)
    prepare_metrics(first.evaluate.all_metrics, data, workspace.cache, say,
                    statistics_of(first.evaluate))
    return runs_together(experiment, device, here["precision"], say)


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

    Without one it continues from a run in its experiment's folder that differs in nothing but the
    steps, if there is any.

    Args:
        root, data_root: As in `gan_bench.journal.layout.Workspace`.
        checkpoint_every, allow_drift, keep_checkpoints: As in `gan_bench.journal.layout.Execution`.
        stop: Is asked after every step; once it returns True, the run writes a checkpoint and ends
            KILLED.
        mirror: Whether to copy the run into MLflow when it has ended, however that was.
        tracking_uri: MLflow's store, if that is not the usual one of the root; it is mirrored then.

    Raises:
        UserError: As `Run`; or MLflow's store cannot be used, which is said before any training.
    """
    workspace = Workspace(as_path(root), as_path(data_root), tracking_uri)
    home = workspace.run_folder(spec).parent
    execution = Execution(workspace, checkpoint_every, allow_drift,
                          keep_checkpoints=keep_checkpoints,
                          shorter_runs=source_folders(beginnings(home, [spec])))
    with _mirrored(spec, workspace, mirror or tracking_uri is not None) as missing:
        run = Run(spec, execution, partial(_load, spec, workspace))
        try:
            while run.step():
                if stop():
                    run.stop()
                elif run.cadence.due():
                    run.checkpoint()
        finally:
            run.close()
    assert run.outcome is not None
    return replace(run.outcome, missing=tuple(missing))


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
                    going.append((Run(spec, execution, load), stream, profiler))
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


class Run:
    """One run: trained, measured and recorded, from its last checkpoint if it has one.

    Leaves `spec.json`, `journal.jsonl`, `samples/` and `final.safetensors` in the run's folder, to
    the bit what a run leaves that was never interrupted. An interrupted one leaves checkpoints.

    Args:
        load: Returns the run's data, on its device.

    Attributes:
        outcome: How the run ended; None while it goes on.
        cadence: When the next checkpoint is due.

    Raises:
        UserError: The data or an extractor is not prepared, memory does not suffice, a checkpoint
            is of another version, or the run does not repeat what its journal holds; here and in
            `step`. The journal says so then, and `outcome` is FAILED.
    """

    def __init__(self, spec: RunSpec, execution: Execution, load: Callable[[], datasets.Dataset],
                 ) -> None:
        self.spec = spec
        self.outcome: Outcome | None = None
        self._keep = execution.keep_checkpoints
        provide_parts({"sources": spec.sources}, execution.workspace.run_folder(spec))
        self._folder = spec.write(execution.workspace.root)
        write_plugins(spec, self._folder)
        try:
            self._journal = Journal(self._folder)
        except OSError as error:
            raise unwritable(self._folder / reading.FILE, error) from error
        with self._failures_recorded():
            self._engine, self._training, self._facts = _begin(
                spec, execution, self._journal, load)
            self.cadence = checkpoint.Cadence(execution.checkpoint_every)
            # Of a run that takes no step, there are the networks and no more.
            self._begun_at = self._training.done

    @property
    def done(self) -> int:
        """The last completed step."""
        return self._training.done

    def step(self) -> bool:
        """Take the next step; return whether there are more. The last step closes the run."""
        if self.outcome is not None:
            return False
        with self._failures_recorded():
            if self._training.step():
                return True
            assert self._training.ended is not None
            status, why = self._training.ended
            weights = save_weights(self._engine, self._folder)
            is_whole = status == Status.FINISHED and self._begun_at < self.spec.steps
            keep = self._keep if is_whole else "none"
            if keep == "last":
                self._keep_last_state()
            self._end(status, why, weights)
        remove_checkpoints(self._folder, keep)
        return False

    def checkpoint(self) -> None:
        """Write a checkpoint of the last step; its time does not count as training."""
        with self._failures_recorded(), self._training.clock.paused():
            begin = time.perf_counter()
            checkpoint.write(self._folder, Checkpoint(self.done, self._journal.flush(),
                                                      self._facts, self._engine.state()))
            self.cadence.taken(time.perf_counter() - begin)

    def _keep_last_state(self) -> None:
        """Write a checkpoint of the last step, which a run with more steps can continue from."""
        position = self._journal.flush()
        with suppress(OSError):  # without it the run is finished too
            checkpoint.write(self._folder, Checkpoint(self.done, position, self._facts,
                                                      self._engine.state()))

    def stop(self) -> None:
        """Write a checkpoint and end the run KILLED."""
        self.checkpoint()
        with self._failures_recorded():
            self._end(Status.KILLED, BY_USER)

    def close(self) -> None:
        """End the run KILLED, without a checkpoint, unless it has ended."""
        if self.outcome is None:
            self._end(Status.KILLED, BY_USER)

    def _end(self, status: Status, why: str, weights: str | None = None) -> None:
        self.outcome = Outcome(self.spec.id, status, why)
        began = reading.began(self._folder) or {}
        # The steps of a shorter run may have been recorded otherwise: what they lack is looked for.
        is_whole = began.get("facts", {}).get("recording") == self.spec.recording
        self._journal.end(status, why, weights, self.spec.recording if is_whole else None)

    @contextmanager
    def _failures_recorded(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            self._end(Status.KILLED, BY_USER)
            raise
        except BaseException as error:
            explained = _explained(error, self.spec)
            try:
                self._end(Status.FAILED, one_line(explained))
            except OSError:  # a full disk; the exception tells the caller
                self._journal.close()
            if explained is error:
                raise
            raise explained from error


def _load(spec: RunSpec, workspace: Workspace) -> datasets.Dataset:
    return datasets.load(spec.dataset, workspace.data_root, workspace.cache,
                         resolve_device(spec), facts=spec.data)


def _begin(spec: RunSpec, execution: Execution, record: Journal,
           load: Callable[[], datasets.Dataset]) -> tuple[Engine, Training, dict[str, Any]]:
    """Assemble the parts of a run; return its engine, its training, and its facts."""
    device, cache = resolve_device(spec), execution.workspace.cache
    set_up_torch(spec)
    data = load()
    here = facts(spec, data, device) | {"recording": spec.recording}
    evaluator = Evaluator(spec, data, cache, device)
    final = None
    if spec.evaluate.final:
        final = Evaluator(spec, data, cache, device, spec.evaluate.final, FINAL)
    protocol = evaluator.protocol | (final.protocol if final else {})
    engine = Engine(spec, device, here["precision"], data.train.labels)
    own = checkpoint.newest(record.folder, spec.steps)
    continued = continue_from(execution.shorter_runs.get(spec.id, ()), own[0].step if own[0] else 0,
                              record, engine, here, protocol)
    if continued.is_spoilt:
        engine = Engine(spec, device, here["precision"], data.train.labels)
    start, is_recorded_alike = continued.step, True
    if start == 0:
        start, is_recorded_alike = _resume(spec, record, engine, here, execution.allow_drift, *own)
    if start == 0:
        load_initial_weights(spec, engine, execution.workspace.root)
        record.start(here)
    if start == 0 or not is_recorded_alike:
        record.protocol(protocol)
    if start == 0 and continued.problems:
        record.resume(0, "; ".join(continued.problems), {}, void=False)
    at_end: list[Evaluate] = [final or evaluator]
    if spec.evaluate.latent_sets > 1:
        at_end.append((final or evaluator).again)
    snapshot = partial(save_snapshot, engine, record.folder) if spec.evaluate.snapshots else None
    return engine, Training(engine, data, evaluator, at_end, record, snapshot, start=start), here


def _resume(spec: RunSpec, record: Journal, engine: Engine, here: dict[str, Any],
            allow_drift: bool, found: Checkpoint | None, problems: list[str]) -> tuple[int, bool]:
    """Restore engine and journal to a step that can be resumed.

    Returns:
        That step, and whether the same things as before it are measured and recorded.

    Args:
        found, problems: As `checkpoint.newest` returns them.

    Raises:
        UserError: The checkpoint was made under other circumstances, which is not allowed.
    """
    folder = record.folder
    began = reading.began(folder)
    if began is None:
        return 0, True
    drift = since(found.facts if found else began.get("facts", {}), here)
    if found and drift and not allow_drift:
        raise UserError(drifted(folder, drift))
    step, position = (found.step, found.position) if found else (0, 0)
    # With other software no step repeats to the bit, and without deterministic algorithms none
    # can be relied on to. Nor does a record, if something else is measured or recorded now.
    before = (found.facts if found else began.get("facts", {})).get("recording", spec.recording)
    is_recorded_alike = before == spec.recording
    alike = not drift and not allow_drift and spec.compute.deterministic
    again = alike and is_recorded_alike and record.repeat(position)
    if found is None:
        remove_checkpoints(folder)
    else:
        try:
            engine.load(found.engine)
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"{folder}: its checkpoint does not fit its networks any more "
                            f"({one_line(error)}); their code must have changed: delete the folder "
                            f"to begin the run again") from None
    record.resume(step, "; ".join(problems), drift, void=not again)
    return step, is_recorded_alike


def _explained(error: BaseException, spec: RunSpec) -> BaseException:
    """Return the error in terms of what the user can change, if that is possible."""
    if is_out_of_memory(error):
        return UserError(f"out of memory with batch_size {spec.batch_size} (peak "
                         f"{peak_memory(resolve_device(spec)) / 1e6:,.0f} MB): choose a smaller "
                         f"batch_size, model or evaluate.samples, or fewer runs at once "
                         f"(--slots)")
    if isinstance(error, OSError) and is_full(error):
        return UserError(f"the disk is full ({error.strerror}): make room, then the same command "
                         f"resumes from the last checkpoint")
    return error


def save_weights(engine: Engine, folder: Path) -> str:
    """Write the final weights of all networks to `final.safetensors`; return the file's sha256."""
    tensors = {f"generator.{k}": v for k, v in engine.generator.state_dict().items()}
    tensors |= {f"discriminator.{k}": v for k, v in engine.discriminator.state_dict().items()}
    if engine.ema is not None:
        tensors |= {f"ema.{k}": v for k, v in engine.ema.state_dict().items()}
    # On the disk itself before the journal says that the run is finished.
    _save(tensors, folder / WEIGHTS)
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


def save_snapshot(engine: Engine, folder: Path, step: int) -> None:
    """Keep the networks that are measured at a step."""
    make_snapshot_folder(folder)
    _save(engine.measured_state(), snapshot_file(folder, step))


def _save(tensors: Mapping[str, Tensor], file: Path) -> None:
    with replacing(file, durable=True) as temporary:
        save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, temporary)
