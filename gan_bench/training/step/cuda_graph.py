"""An engine's step as a CUDA graph: recorded once, then replayed with a single launch.

The networks here are so small that a GPU waits for Python nearly all the time. A graph runs the
same kernels in the same order, so its numbers are those of `Engine.step`. It reads the inputs of a
step from fixed places in the device's memory: batches and labels are copied there, `Engine.begin`
writes the learning rate, the number of the step and all numbers that change with it, and random
numbers come from the generators' seeds, which a replay reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gan_bench.errors import UserError, one_line
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.networks import StepMetrics
from gan_bench.training.step.step_batch import StepBatch

WARM_UP = 3  # steps before a recording, in which libraries choose kernels and optimizers get state


class CapturedStep:
    """The steps of an engine on CUDA; each kind of step is recorded after its first few steps.

    `Engine.graph_key` and `observe` define the kind of a step. Steps without a key, and the steps
    before a recording, run in the engine itself.

    Args:
        engine: On a CUDA device, with its state loaded: a graph does not see tensors that replace
            its own later.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._counts: Counter[tuple[float, ...]] = Counter()
        self._recorded: dict[tuple[float, ...], tuple[torch.cuda.CUDAGraph, StepMetrics]] = {}
        self._inputs: StepBatch | None = None
        self._memory = torch.cuda.graph_pool_handle()
        # A graph is recorded on the stream of its replays: cuBLAS has a workspace for each stream,
        # and runs that share a workspace would overwrite it. CUDA cannot record the default stream.
        self._stream = torch.cuda.current_stream()
        if self._stream == torch.cuda.default_stream():
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def step(self, step: int, batch: StepBatch, observe: bool = False) -> StepMetrics:
        """Do what `Engine.step` does; the returned metrics are valid until the next step.

        Raises:
            UserError: Something in the step waits for the device; a third-party network may.
        """
        graph_key = self.engine.graph_key(step)
        if graph_key is None:
            return self.engine.step(step, batch, observe)
        kind = (observe, *graph_key)
        if kind not in self._recorded and self._counts[kind] < WARM_UP:
            self._counts[kind] += 1
            if self._counts[kind] < WARM_UP:
                return self.engine.step(step, batch, observe)
            self.engine.begin(step)  # a schedule may wait for the device
            with _sync_refused():
                return self.engine.update(step, batch, observe)
        if self._inputs is None:
            self._inputs = batch.empty_like()
        torch._foreach_copy_(self._inputs.tensors(), batch.tensors())
        self.engine.begin(step)
        if kind not in self._recorded:
            self._recorded[kind] = self._record(step, self._inputs, observe)
        graph, metrics = self._recorded[kind]
        graph.replay()
        return metrics

    def _record(self, step: int, inputs: StepBatch, observe: bool,
                ) -> tuple[torch.cuda.CUDAGraph, StepMetrics]:
        graph = torch.cuda.CUDAGraph()
        if torch.__version__ < "2.14":  # newer versions register them on first use
            for generator in self.engine.generators:
                graph.register_generator_state(generator)
        # All kinds share their memory, because they never run at the same time.
        with torch.cuda.graph(graph, pool=self._memory, stream=self._stream):
            metrics = self.engine.update(step, inputs, observe)
        return graph, metrics


@contextmanager
def _sync_refused() -> Iterator[None]:
    """Raise a clear error where code waits for the device; a recording would fail obscurely.

    Raises:
        UserError: Code inside the block waits for the device.
    """
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        raise UserError(f"a step of this run cannot be a CUDA graph, because it waits for the "
                        f"device ({one_line(error)}): set compute.graphs: false") from error
    finally:
        torch.cuda.set_sync_debug_mode(before)
