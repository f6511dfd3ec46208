"""How many runs share a GPU and a process."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch

from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import Say, UserError
from gan_bench.registry import PENALTIES
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

MOST_TOGETHER = 8  # runs that share a GPU, unless the experiment says how many


def runs_together(experiment: ExperimentSpec, device: str, precision: str,
                  say: Say) -> int:
    """Return how many runs share a GPU in one process: the requested number, if it fits.

    The memory of a run is measured in one step of the variant that needs most.

    Raises:
        UserError: The requested number does not fit, or not even a single run fits.
    """
    asked = experiment.runs[0].compute.pack
    if device != "cuda":
        return 1
    needs = max(_memory_of(run, precision) for run in of_different_size(experiment.runs))
    torch.cuda.empty_cache()
    free = torch.cuda.mem_get_info()[0] * 9 // 10  # cuDNN's and the metrics' own on top
    fit = max(1, free // needs)
    if asked == "auto":
        if fit < MOST_TOGETHER:
            say(f"{fit} runs at once on a GPU, not {MOST_TOGETHER}: a step needs "
                f"{needs / 1e9:.2g} GB, but only {free / 1e9:.2g} are free")
        return min(fit, MOST_TOGETHER)
    if asked > fit:
        raise UserError(f"compute.pack is {asked}, but a step needs {needs / 1e9:.2g} GB of the "
                        f"{free / 1e9:.2g} that are free: set it to {fit} or less, or to auto")
    return asked


def of_different_size(runs: Sequence[RunSpec]) -> list[RunSpec]:
    """Return one of the runs for each of their settings that a step's memory depends on.

    The draws of a search differ in rates and weights above all, which take no memory.
    """
    def size(run: RunSpec) -> str:
        parts = [[(part.name, _form(part.args)) for part in some] for some in (
            [run.g_optimizer], [run.d_optimizer], run.penalties, run.augmentation)]
        return repr((run.model, run.loss, run.condition, parts, run.batch_size, run.order,
                     run.d_steps, run.g_steps, run.share_fakes, run.joint_weight > 0,
                     run.ema is None, run.accumulate, run.one_pass))

    return [*{size(run): run for run in runs}.values()]


def _form(value: object) -> object:
    """Return an argument; of a rate or a weight, and of one that changes, whether it is above 0."""
    if isinstance(value, float):
        return value > 0  # at 0, momentum keeps no tensors
    if isinstance(value, dict):
        return "points" in value or {key: _form(each) for key, each in value.items()}
    return [_form(each) for each in value] if isinstance(value, list) else value


def fullest_step(spec: RunSpec) -> int:
    """Return the number of a step in which all penalties act, however seldom."""
    return math.lcm(*(PENALTIES.build(part).every for part in spec.penalties))


def _memory_of(spec: RunSpec, precision: str) -> int:
    """Return the GPU memory, in bytes, of a run's networks and one step, the fullest."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    engine = Engine(spec, "cuda", precision)
    shape = (spec.batch_size, *spec.data.shape)
    real, conditions = torch.zeros(shape, device="cuda"), None
    if spec.condition_kind == "class":
        conditions = torch.zeros(spec.batch_size, dtype=torch.int64, device="cuda")
    elif spec.condition_kind == "image":
        conditions = torch.zeros((spec.batch_size, *spec.data.input), device="cuda")
    g_real = torch.cat([real] * spec.g_steps) if engine.needs_real else None
    batch = StepBatch([real] * spec.d_steps, g_real=g_real)
    if conditions is not None:
        batch = replace(batch, labels=[conditions] * spec.d_steps,
                        g_labels=torch.cat([conditions] * spec.g_steps))
    try:
        engine.step(fullest_step(spec), batch, observe=True)
    except torch.cuda.OutOfMemoryError:
        raise UserError(f"variant {spec.variant}: a step with batch_size {spec.batch_size} needs "
                        f"more memory than the GPU has: choose a smaller batch_size or model"
                        ) from None
    return torch.cuda.max_memory_allocated() - before
