"""The training that step.py and gpu.py time, and how far it is from what the machine can do.

The update is that of the widely copied scripts (G first, D on the same fakes, Adam), on MNIST at
32 pixels with batches of 256 instead of their 64. So ours and naive.py do the same update.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gan_bench.config.spec import RunSpec, data_facts
from gan_bench.registry import DATASETS, Part
from gan_bench.training.device import resolve_precision, set_up_torch
from gan_bench.training.loop import Batches, due
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

BATCH, EPOCHS, STEPS = 256, 100, 23_500  # 235 batches an epoch, as a DataLoader counts


class Steps(Protocol):
    """What trains: the engine, or what replays it."""

    def step(self, step: int, batch: StepBatch, observe: bool = False) -> dict[str, Tensor]:
        """As `gan_bench.training.step.engine.Engine.step`."""


def dataset() -> Part:
    """MNIST at 32 pixels."""
    return DATASETS.parse({"name": "mnist", "image_size": 32})


def spec_of(model: str | dict[str, Any], precision: str, device: str, seed: int = 0,
            batch_size: int = BATCH) -> RunSpec:
    """Return the run: what naive.py does, in the words of a specification."""
    return RunSpec.model_validate({
        "experiment": "benchmark", "variant": "benchmark", "seed": seed, "dataset": dataset(),
        "data": data_facts(dataset(), Path()), "model": model, "batch_size": batch_size,
        "steps": STEPS, "order": "g_first", "share_fakes": True, "evaluate": {},
        "compute": {"device": device, "precision": precision}})


def trainer(steps: Steps, spec: RunSpec, images: Tensor) -> Callable[[int], None]:
    """Return a function of the step that does what the training loop does: batch, update, log."""
    batches = Batches(images, spec.batch_size, spec.seed)

    def advance(step: int) -> None:
        logging = due(step, spec.log_every)
        seen = steps.step(step, StepBatch([batches[step - 1]]), logging)
        if logging:
            torch.stack(list(seen.values())).tolist()

    return advance


def timed(advance: Callable[[int], None], after: int, seconds: float, least: int = 1,
          wait: Callable[[], None] = lambda: None) -> tuple[float, int]:
    """Train for about so many seconds; return steps/s, and the number of the last step."""
    wait()
    step, begin = after, time.perf_counter()
    while step - after < least or time.perf_counter() - begin < seconds:
        step += 1
        advance(step)
    wait()
    return (step - after) / (time.perf_counter() - begin), step


def engine_of(spec: RunSpec) -> Engine:
    """Return the run's engine, and make torch's arithmetic what the run asks for.

    Raises:
        UserError: The device lacks the precision.
    """
    set_up_torch(spec)
    device = spec.compute.device
    return Engine(spec, device, resolve_precision(spec, device))


def flops_of(spec: RunSpec, images: Tensor) -> int:
    """Count the floating-point operations of an update's matrix products and convolutions.

    They are those that are really done, in the form in which the engine does them.
    """
    advance = trainer(engine_of(spec), spec, images)
    with FlopCounterMode(display=False) as counter:
        advance(1)
    return int(counter.get_total_flops())


def matmul_peak(precision: str, device: str, seconds: float, size: int,
                wait: Callable[[], None] = lambda: None) -> float:
    """Return the FLOP/s of the fastest of many products of two square matrices."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    one, two = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    product = one @ two
    best, end = 0.0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        wait()
        begin = time.perf_counter()
        torch.mm(one, two, out=product)
        wait()
        best = max(best, 2 * size**3 / (time.perf_counter() - begin))
    return best
