"""The loop: batch → step → journal; at intervals also measure and sample."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from gan_bench import rng
from gan_bench.components.data import Dataset
from gan_bench.components.latents import draw_latents
from gan_bench.components.models import with_condition
from gan_bench.components.value_range import to_float
from gan_bench.config.spec import RunSpec
from gan_bench.errors import Say
from gan_bench.evaluation.evaluator import (
    conditions_of,
    held_out_pairs,
    measured_latents,
    nearest_picture,
)
from gan_bench.evaluation.sample_grid import sample_picture, triple_picture
from gan_bench.journal.schema import Status
from gan_bench.journal.writing import Journal
from gan_bench.registry import METRICS
from gan_bench.training.device import peak_memory
from gan_bench.training.step.cuda_graph import CapturedStep
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

Evaluate = Callable[[torch.nn.Module, torch.nn.Module], dict[str, float]]
GRID = 64  # samples in a grid
TRIPLES = 32  # inputs in a grid, each with its output and its target
NEAREST = "nearest"  # the name of a picture
PAIRS = 32  # samples beside their nearest training images


class Batches:
    """Batches of real data, gathered on the device from the resident tensor.

    Every epoch is one permutation, which depends only on the seed and the epoch. A last, partial
    batch is dropped.
    """

    def __init__(self, images: Tensor, batch_size: int, seed: int, stream: str = "data") -> None:
        self._images, self._size, self._seed, self._stream = images, batch_size, seed, stream
        self._per_epoch = len(images) // batch_size
        self._epoch = -1
        self._order = torch.empty(0)

    def __getitem__(self, index: int) -> Tensor:
        """Return batch number `index`, from 0: float32 in [-1, 1], or unchanged vectors."""
        return to_float(self._images[self.places(index)])

    def places(self, index: int) -> Tensor:
        """Return the indices in the data set, (N,), of the examples of batch number `index`."""
        epoch, place = divmod(index, self._per_epoch)
        if epoch != self._epoch:
            draws = rng.generator(self._seed, self._stream, epoch)
            order = torch.randperm(len(self._images), generator=draws)
            self._epoch, self._order = epoch, order.to(self._images.device)
        return self._order[place * self._size : (place + 1) * self._size]


class Training:
    """The training of a run: each step takes a batch, updates, records, and measures when due.

    Args:
        engine: With the state after step `start`.
        data: The training data, on the engine's device.
        evaluate: Measures every `evaluate.every` steps.
        at_end: The measurements after the last step, in order; may contain `evaluate`.
        journal: Receives the records: losses, scores and pictures.
        snapshot: Keeps the networks of a step that `evaluate` measures.
        log: Receives a line for people every `log_every` steps.
        start: The last completed step; 0 for a new run. After the last step of all, the first
            `step` only measures.

    Attributes:
        done: The last completed step.
        ended: None while there are more steps; then (status, why): FINISHED, or DIVERGED with the
            first step at which a loss, or samples or their features, were not finite.
        clock: Measures the speed; time while it is paused does not count.
    """

    def __init__(self, engine: Engine, data: Dataset, evaluate: Evaluate,
                 at_end: Sequence[Evaluate], journal: Journal,
                 snapshot: Callable[[int], None] | None = None, *, start: int = 0,
                 log: Say | None = None) -> None:
        spec = engine.spec
        self._engine, self._data, self._journal = engine, data, journal
        self._evaluate, self._at_end, self._snapshot = evaluate, at_end, snapshot
        self._log = log
        self._batches = Batches(data.train.images, spec.batch_size, spec.seed)
        # A separate order, so that D sees the same batches for every loss of G.
        self._g_batches = Batches(data.train.images, spec.batch_size, spec.seed, "data/generator")
        self._labels = conditions_of(spec, data.train)
        self._latents = grid_latents(spec, data)
        captured = spec.compute.graphs and engine.device != "cpu"
        self._update = CapturedStep(engine).step if captured else engine.step
        self.done = start
        self.ended: tuple[Status, str] | None = None
        self.clock = _Clock(spec.batch_size, start)
        if start == 0:
            with self.clock.paused():  # the untrained G; MLflow's slider begins at step 0
                self._sample(0)

    def step(self) -> bool:
        """Take the next step and write its records; return whether there are more steps."""
        spec, step, journal = self._engine.spec, self.done + 1, self._journal
        if step > spec.steps:  # the networks of the last step were given
            return self._finish_step(spec.steps)
        last = step == spec.steps
        logging = last or due(step, spec.log_every)
        watching = logging or due(step, spec.sample_every) or due(step, spec.evaluate.every)
        seen = self._update(step, self._batch(step), logging)
        self.done = step
        if logging:
            values = dict(zip(seen, torch.stack(list(seen.values())).tolist(), strict=True))
            journal.metrics(step, values)
            pace = self.clock.lap(step, self._engine.device)
            journal.system(step, pace)
            if self._log is not None:  # of numbers that the host has already
                self._log(log_line(step, spec.steps, values, pace))
        if watching and (bad := int(self._engine.first_bad)):
            self.ended = Status.DIVERGED, f"a loss was not finite at step {bad}"
            return False
        return self._finish_step(step)

    def _finish_step(self, step: int) -> bool:
        """Measure and sample what is due after a step; return whether there are more steps."""
        spec, journal = self._engine.spec, self._journal
        last = step == spec.steps
        measures = list(self._at_end) if last else []
        if due(step, spec.evaluate.every) and self._evaluate not in measures:
            measures.insert(0, self._evaluate)
        with self.clock.paused():
            try:
                for measure in measures:
                    journal.metrics(step, measure(self._engine.measured,
                                                  self._engine.discriminator))
                if self._snapshot is not None and due(step, spec.evaluate.every):
                    self._snapshot(step)
            except FloatingPointError as error:
                self.ended = Status.DIVERGED, f"{error}, at step {step}"
                return False
            if last or due(step, spec.sample_every):
                self._sample(step)
            if last and shows_nearest(spec):
                journal.image(step, NEAREST, nearest_of(self._engine, self._data))
        if last:
            self.ended = Status.FINISHED, ""
        return not last

    def _batch(self, step: int) -> StepBatch:
        spec, needs_real = self._engine.spec, self._engine.needs_real
        of_d = range((step - 1) * spec.d_steps, step * spec.d_steps)
        of_g = range((step - 1) * spec.g_steps, step * spec.g_steps)
        real = [self._batches[i] for i in of_d]
        g_real = torch.cat([self._g_batches[i] for i in of_g]) if needs_real else None
        if self._labels is None:
            return StepBatch(real, g_real=g_real)
        labels = [to_float(self._labels[self._batches.places(i)]) for i in of_d]
        if spec.fake_labels == "independent":
            return StepBatch(real, labels, None, self._drawn_labels(step, "g", spec.g_steps),
                             [*self._drawn_labels(step, "d", spec.d_steps).chunk(spec.d_steps)],
                             self._drawn_labels(step, "own", 1))
        g_labels = [labels[i % spec.d_steps] for i in range(spec.g_steps)]
        if needs_real:
            g_labels = [to_float(self._labels[self._g_batches.places(i)]) for i in of_g]
        return StepBatch(real, labels, g_real, torch.cat(g_labels))

    def _drawn_labels(self, step: int, whose: str, batches: int) -> Tensor:
        """Return labels of training examples that are drawn for fakes, (batches × N,)."""
        assert self._labels is not None, "the run is conditional"
        spec, device = self._engine.spec, self._labels.device
        draws = torch.Generator(device).manual_seed(
            rng.derive(spec.seed, f"fake_labels/{whose}", step))
        chosen = torch.randint(len(self._labels), (batches * spec.batch_size,), generator=draws,
                               device=device)
        return self._labels[chosen]

    def _sample(self, step: int) -> None:
        samples = self._engine.sample(self._latents)
        if self._engine.spec.condition_kind == "image":
            picture = triple_picture(*held_out_pairs(self._data, len(samples)), samples)
        else:
            picture = sample_picture(samples)
        self._journal.image(step, "samples", picture)


def log_line(step: int, steps: int, values: Mapping[str, float], pace: Mapping[str, float],
             ) -> str:
    """Return a step's losses and the pace, with the time on the clock.

    `2026-11-29 20:10:33 step 50/1000 d_loss 1.234 g_loss 0.8763 12.5 steps/s`
    """
    losses = [f"{name.removeprefix('train/')} {value:.4g}" for name, value in values.items()
              if name in ("train/d_loss", "train/g_loss")]
    return (f"{time.strftime('%Y-%m-%d %H:%M:%S')} step {step}/{steps} {' '.join(losses)} "
            f"{pace['system/steps_per_s']:.4g} steps/s")


def due(step: int, every: int | None) -> bool:
    """Return whether something with this interval in steps happens at this step."""
    return every is not None and step % every == 0


def grid_latents(spec: RunSpec, data: Dataset) -> Tensor:
    """Return the latents of a run's grids, (GRID, latent_dim), then conditions if it has any.

    Classes are in order; inputs are those of held-out pairs, evenly spread, `TRIPLES` at most.
    """
    if spec.condition_kind == "image":
        return measured_latents(spec, data, min(TRIPLES, spec.data.test))
    latents = draw_latents(spec.latents, GRID, int(spec.model.args["latent_dim"]),
                           rng.generator(spec.seed, "grid"))
    if spec.condition == "none":
        return latents
    in_order = torch.arange(GRID) * spec.data.classes // GRID  # of the classes
    return with_condition(latents, in_order, spec.data.classes)


def nearest_of(engine: Engine, data: Dataset) -> bytes:
    """Return the picture of a run's samples beside their nearest training images, a PNG."""
    return nearest_picture(engine.sample(grid_latents(engine.spec, data))[:PAIRS], data)


def shows_nearest(spec: RunSpec) -> bool:
    """Whether a metric of the run asks for samples beside their nearest training images."""
    return spec.data.is_image and any(METRICS[name].facts.picture == "nearest"
                                      for name in spec.evaluate.all_metrics)


class _Clock:
    """The speed of training between two laps, without the paused time."""

    def __init__(self, batch_size: int, step: int) -> None:
        self._batch_size = batch_size
        self._since, self._from_step, self._out = time.perf_counter(), step, 0.0

    def lap(self, step: int, device: str) -> dict[str, float]:
        now = time.perf_counter()
        steps_per_s = (step - self._from_step) / max(now - self._since - self._out, 1e-9)
        self._since, self._from_step, self._out = now, step, 0.0
        return {"system/steps_per_s": steps_per_s,
                "system/peak_memory_mb": peak_memory(device) / 1e6,
                "system/images_per_s": steps_per_s * self._batch_size}

    @contextmanager
    def paused(self) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._out += time.perf_counter() - start
