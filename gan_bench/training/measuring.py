"""Measures a finished run from its weights by what it was not measured by yet.

The networks, latents and random numbers are those of a measurement during training, so the scores
are the same to the bit as if the run had been measured by them from the start.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from gan_bench.components import data as datasets
from gan_bench.config.spec import EvaluateSpec, RunSpec
from gan_bench.errors import UserError, one_line
from gan_bench.evaluation.evaluator import Evaluator, NonFiniteSamples, conditions_of
from gan_bench.journal import writing
from gan_bench.journal.layout import WEIGHTS, Execution, snapshot_file
from gan_bench.journal.plugin_files import provide_parts, write_plugins
from gan_bench.journal.schema import Status
from gan_bench.journal.scores.free_names import FreeNames, last_phase
from gan_bench.journal.scores.missing_scores import MissingScores, missing_scores
from gan_bench.journal.scores.score_names import DURING
from gan_bench.journal.status import Outcome, Progress
from gan_bench.registry import METRICS, scores_of
from gan_bench.training.circumstances import circumstances
from gan_bench.training.device import resolve_device, set_up_torch
from gan_bench.training.loop import NEAREST, nearest_of, shows_nearest
from gan_bench.training.step.engine import Engine
from gan_bench.training.trained import check_weights


def measure_trained(spec: RunSpec, execution: Execution, load: Callable[[], datasets.Dataset],
                    ) -> Outcome:
    """Add to a finished run's journal the scores that its specification asks for and it lacks.

    Args:
        spec: The run, as its experiment asks for it now.
        execution: Where it is.
        load: Returns the run's data, on its device.

    Returns:
        How the run ended: DIVERGED if it was FINISHED, but its samples are not finite.

    Raises:
        UserError: Weights are missing or damaged, or a metric cannot be computed; the journal is
            as it was.
    """
    folder = spec.write(execution.workspace.root)
    provide_parts({"sources": spec.sources}, folder)
    claim = execution.claims.get(spec.id)
    run = Progress(spec, folder)
    run.follow()
    if missing := missing_scores(run):
        set_up_torch(spec)
        measuring = _Measuring(run, load(), execution.workspace.cache, resolve_device(spec))
        measuring.measure(missing)
        write_plugins(spec, folder)
        writing.amend(folder, measuring.amendment(), claim)
        run.follow()
    elif run.state == Status.FINISHED and run.recording != spec.recording:
        writing.amend(folder, writing.Amendment({}, {}, end={"recording": spec.recording}), claim)
    return Outcome(spec.id, run.state, run.why)


class _Measuring:
    """The measurements of one run.

    Args:
        run: The run, as its journal has it.
        data: Its data, on `device`.
        cache: Where extractors and reference features are.
    """

    def __init__(self, run: Progress, data: datasets.Dataset, cache: Path, device: str) -> None:
        self._run, self._data, self._cache, self._device = run, data, cache, device
        self._spec, self._names = run.spec, FreeNames(run)
        self._at_end: dict[str, float] = {}
        self._during: dict[int, dict[str, float]] = {}
        self._pictures: dict[str, bytes] = {}
        self._diverged = ""

    def amendment(self) -> writing.Amendment:
        """Return what to add to the journal."""
        end: dict[str, Any] = {"recording": self._spec.recording}
        if self._diverged:  # as if it had been measured so from the start
            end |= {"status": Status.DIVERGED.value, "why": self._diverged}
        return writing.Amendment(self._names.protocols, self._at_end, self._during, self._pictures,
                                 end, circumstances(self._spec, self._device))

    def measure(self, missing: MissingScores) -> None:
        """Measure what is missing, from the run's snapshots and final weights."""
        spec = self._spec
        engine = Engine(spec, self._device, circumstances(spec, self._device)["precision"],
                        conditions_of(spec, self._data.train))
        for step, metrics in missing.during.items():
            _load(engine, snapshot_file(self._run.folder, step))
            if not self._add(step, engine, self._evaluator(spec.evaluate, metrics, DURING)):
                return
        if not missing.final and not missing.sets:
            return
        check_weights(self._run.folder)
        _load(engine, self._run.folder / WEIGHTS)
        plan, phase = spec.evaluate.final or spec.evaluate, last_phase(spec)
        if missing.final and not self._add(spec.steps, engine,
                                           self._evaluator(plan, missing.final, phase)):
            return
        if missing.sets and not self._add_sets(engine, self._evaluator(plan, missing.sets, phase),
                                               missing.final):
            return
        if shows_nearest(spec):
            self._pictures[NEAREST] = nearest_of(engine, self._data)

    def _evaluator(self, plan: EvaluateSpec, metrics: Collection[str], phase: str) -> Evaluator:
        only = plan.model_copy(update={"metrics": list(metrics), "final_metrics": None})
        return Evaluator(self._spec, self._data, self._cache, self._device, only, phase)

    def _add(self, step: int, engine: Engine, evaluator: Evaluator) -> bool:
        """Add the scores of a step; return False if the run diverges there."""
        measured = self._measured(step, lambda: evaluator(engine.measured, engine.discriminator))
        if measured is None:
            return False
        scores = self._names.rename(measured, evaluator.protocol)
        if step == self._spec.steps:
            self._at_end |= scores
        else:
            self._during[step] = scores
        return True

    def _add_sets(self, engine: Engine, evaluator: Evaluator, anew: Collection[str]) -> bool:
        """Add the scores of the last step on further latents; return False if the run diverges.

        Args:
            anew: The metrics whose first set is measured now too.
        """
        measured = self._measured(self._spec.steps, lambda: evaluator.again(
            engine.measured, engine.discriminator))
        if measured is None:
            return False
        new = {score for name in anew for score in scores_of(METRICS[name])}
        compared = self._run.compared(self._run.asked())
        self._at_end |= self._names.rename_sets(
            measured, evaluator.protocol, last_phase(self._spec),
            {name: found for name, found in compared.items() if name not in new})
        return True

    def _measured(self, step: int, measure: Callable[[], dict[str, float]],
                  ) -> dict[str, float] | None:
        """Return scores; None if the run diverges, as it would if it were measured in training.

        Raises:
            UserError: Features of finite samples are not finite, which says nothing of the run.
        """
        try:
            return measure()
        except NonFiniteSamples as error:
            self._diverged = f"{error}, at step {step}"
            return None
        except FloatingPointError as error:
            raise UserError(f"{error}, of the samples of step {step}") from None


def _load(engine: Engine, file: Path) -> None:
    try:
        weights: dict[str, Tensor] = load_file(file)
        engine.load_measured(weights)
    except (SafetensorError, OSError, RuntimeError) as error:
        raise UserError(f"{file}: cannot be measured: {one_line(error)}; delete it, and repeat the "
                        f"command") from None
