"""One run: the only place that assembles its parts, and ends it however it ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

from gan_bench.components import data as datasets
from gan_bench.config.spec import RunSpec
from gan_bench.errors import (
    Say,
    UserError,
    is_full,
    is_out_of_memory,
    one_line,
    unwritable,
)
from gan_bench.evaluation.evaluator import Evaluator, conditions_of
from gan_bench.journal import reading
from gan_bench.journal.drift import since
from gan_bench.journal.layout import (
    Execution,
    remove_checkpoints,
    remove_snapshots,
    remove_unfinished,
)
from gan_bench.journal.plugin_files import provide_parts, write_plugins
from gan_bench.journal.schema import Status
from gan_bench.journal.scores.free_names import FreeNames, last_phase
from gan_bench.journal.scores.score_names import FINAL
from gan_bench.journal.sharing.claims import Release, SupersededError
from gan_bench.journal.status import Outcome, Progress
from gan_bench.journal.writing import Journal
from gan_bench.training import checkpoint
from gan_bench.training.checkpoint import Checkpoint
from gan_bench.training.circumstances import drifted, facts
from gan_bench.training.continuing import continue_from
from gan_bench.training.device import peak_memory, resolve_device, set_up_torch
from gan_bench.training.initial import load_initial_weights
from gan_bench.training.loop import Evaluate, Training
from gan_bench.training.step.engine import Engine
from gan_bench.training.weight_files import save_snapshot, save_weights

BY_USER = "stopped by the user"


class Run:
    """One run: trained, measured and recorded, from its last checkpoint if it has one.

    Leaves `spec.json`, `journal.jsonl`, `samples/` and `final.safetensors` in the run's folder, to
    the bit what a run leaves that was never interrupted. An interrupted one leaves checkpoints.

    Args:
        load: Returns the run's data, on its device.
        log: As for `Training`.

    Attributes:
        outcome: How the run ended; None while it goes on.
        cadence: When the next checkpoint is due.

    Raises:
        UserError: The data or an extractor is not prepared, memory does not suffice, a checkpoint
            is of another version, or the run does not repeat what its journal holds; here and in
            `step`. The journal says so then, and `outcome` is FAILED.
    """

    def __init__(self, spec: RunSpec, execution: Execution, load: Callable[[], datasets.Dataset],
                 log: Say | None = None) -> None:
        self.spec = spec
        self.outcome: Outcome | None = None
        self._keep = execution.keep_checkpoints
        self._is_recorded_alike = False
        provide_parts({"sources": spec.sources}, execution.workspace.run_folder(spec))
        self._folder = spec.write(execution.workspace.root)
        write_plugins(spec, self._folder)
        try:
            self._journal = Journal(self._folder, execution.claims.get(spec.id))
        except OSError as error:
            raise unwritable(self._folder / reading.FILE, error) from error
        with self._failures_recorded():
            self._engine, self._training, self._facts, self._is_recorded_alike = _begin(
                spec, execution, self._journal, load, log)
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
            self._journal.refuse_superseded()
            weights = save_weights(self._engine, self._folder)
            is_whole = status == Status.FINISHED and self._begun_at < self.spec.steps
            keep = self._keep if is_whole else "none"
            if keep == "last":
                self._keep_last_state()
            self._journal.refuse_superseded()
            remove_unfinished(self._folder)  # while nobody else may write there
            self._end(status, why, weights)
        remove_checkpoints(self._folder, self._journal.segment, keep)
        return False

    def checkpoint(self) -> None:
        """Write a checkpoint of the last step; its time does not count as training."""
        with self._failures_recorded(), self._training.clock.paused():
            begin = time.perf_counter()
            position = self._journal.flush()
            self._journal.refuse_superseded()
            checkpoint.write(self._folder, Checkpoint(self.done, position, self._facts,
                                                      self._engine.state()),
                             self._journal.segment)
            self.cadence.taken(time.perf_counter() - begin)

    def _keep_last_state(self) -> None:
        """Write a checkpoint of the last step, which a run with more steps can continue from."""
        position = self._journal.flush()
        with suppress(OSError):  # without it the run is finished too
            checkpoint.write(self._folder, Checkpoint(self.done, position, self._facts,
                                                      self._engine.state()),
                             self._journal.segment)

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
        # The steps of a shorter run may have been recorded otherwise: what they lack is looked for.
        recording = self.spec.recording if self._is_recorded_alike else None
        self._journal.end(status, why, weights, recording)

    def _end_superseded(self, error: SupersededError) -> None:
        """End a run whose journal is another process's now."""
        self.outcome = Outcome(self.spec.id, Status.KILLED, str(error))
        self._journal.close(Release.KILLED)

    @contextmanager
    def _failures_recorded(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            self._end(Status.KILLED, BY_USER)
            raise
        except SupersededError as error:
            self._end_superseded(error)
            raise
        except BaseException as error:
            explained = _explained(error, self.spec)
            try:
                self._end(Status.FAILED, one_line(explained))
            except SupersededError as superseded:  # who took over removed what it began to write
                self._end_superseded(superseded)
                raise superseded from error
            except OSError:  # a full disk; the exception tells the caller
                self._journal.close()
            if explained is error:
                raise
            raise explained from error


def _begin(spec: RunSpec, execution: Execution, record: Journal,
           load: Callable[[], datasets.Dataset], log: Say | None,
           ) -> tuple[Engine, Training, dict[str, Any], bool]:
    """Assemble the parts of a run.

    Returns:
        Its engine, its training, its facts, and whether all steps before were recorded as it
        records.
    """
    device, cache = resolve_device(spec), execution.workspace.cache
    set_up_torch(spec)
    data = load()
    here = facts(spec, data, device) | {"recording": spec.recording}
    conditions = conditions_of(spec, data.train)
    evaluator = Evaluator(spec, data, cache, device)
    final = None
    if spec.evaluate.final:
        final = Evaluator(spec, data, cache, device, spec.evaluate.final, FINAL)
    protocol = evaluator.protocol | (final.protocol if final else {})
    engine = Engine(spec, device, here["precision"], conditions)
    own = checkpoint.newest(record.folder, spec.steps)
    continued = continue_from(execution.shorter_runs.get(spec.id, ()), own[0].step if own[0] else 0,
                              record, engine, here, protocol)
    if continued.is_spoilt:
        engine = Engine(spec, device, here["precision"], conditions)
    start, is_recorded_alike = continued.step, True
    begun = continued.recording
    if start == 0:
        start, is_recorded_alike, begun = _resume(spec, record, engine, here,
                                                  execution.allow_drift, *own)
    if start == 0:
        load_initial_weights(spec, engine, execution.workspace.root)
        record.start(here)
    names = FreeNames(_so_far(spec, record.folder) if start else Progress(spec, record.folder))
    names.reserve(protocol)
    if start == 0 or not is_recorded_alike:
        record.protocol(names.protocols)
    if start == 0 and continued.problems:
        record.resume(0, "; ".join(continued.problems), {}, void=False)
    during, last = _named(evaluator, names), _named(final, names) if final else None
    at_end: list[Evaluate] = [last or during]
    if spec.evaluate.latent_sets > 1:
        at_end.append(_named_sets(final or evaluator, names, last_phase(spec)))
    snapshot = partial(save_snapshot, engine, record.folder) if spec.evaluate.snapshots else None
    is_whole = start == 0 or (is_recorded_alike and begun == spec.recording)
    training = Training(engine, data, during, at_end, record, snapshot, start=start, log=log)
    return engine, training, here, is_whole


def _so_far(spec: RunSpec, folder: Path) -> Progress:
    run = Progress(spec, folder)
    run.follow()
    return run


def _named(evaluator: Evaluator, names: FreeNames) -> Evaluate:
    """Return the measurement under names that stand for no other protocol in this run.

    They are the plain ones, unless the run was killed and resumes with other measurements.
    """
    return lambda generator, discriminator: names.rename(evaluator(generator, discriminator),
                                                         evaluator.protocol)


def _named_sets(evaluator: Evaluator, names: FreeNames, phase: str) -> Evaluate:
    return lambda generator, discriminator: names.rename_sets(
        evaluator.again(generator, discriminator), evaluator.protocol, phase)


def _resume(spec: RunSpec, record: Journal, engine: Engine, here: dict[str, Any],
            allow_drift: bool, found: Checkpoint | None, problems: list[str],
            ) -> tuple[int, bool, str | None]:
    """Restore engine and journal to a step that can be resumed.

    Returns:
        That step, whether the same things as before it are measured and recorded, and the
        `RunSpec.recording` of the first steps if it is known.

    Args:
        found, problems: As `checkpoint.newest` returns them.

    Raises:
        UserError: The checkpoint was made under other circumstances, which is not allowed.
    """
    folder = record.folder
    began = reading.began(folder)
    if began is None:
        return 0, True, None
    drift = since(found.facts if found else began.get("facts", {}), here)
    if found and drift and not allow_drift:
        raise UserError(drifted(folder, drift))
    step, position = (found.step, found.position) if found else (0, 0)
    # With other software no step repeats to the bit, and without deterministic algorithms none
    # can be relied on to. Nor does a record, if something else is measured or recorded now.
    # (Runs of earlier versions do not say what was.)
    begun: str | None = began.get("facts", {}).get("recording")
    before = found.facts.get("recording") if found else begun
    is_recorded_alike = before == spec.recording
    alike = not drift and not allow_drift and spec.compute.deterministic
    again = alike and is_recorded_alike and record.repeat(position)
    record.refuse_superseded()  # nothing of a process that has taken over is removed
    if found is None:
        remove_checkpoints(folder, record.segment)
    else:
        try:
            engine.load(found.engine)
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"{folder}: its checkpoint does not fit its networks any more "
                            f"({one_line(error)}); their code must have changed: delete the folder "
                            f"to begin the run again") from None
    if not again:
        remove_snapshots(folder, step)  # before the records are void: a kill leaves none of them
    record.resume(step, "; ".join(problems), drift, void=not again)
    return step, is_recorded_alike, begun


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
