"""An engine's step as a CUDA graph: recorded once, then replayed with a single launch.

The networks here are so small that a GPU waits for Python nearly all the time. A graph holds the
same kernels in the same order, so its numbers are those of `Engine.step`. What changes from step to
step reaches it through fixed places in the device's memory: batches and labels by a copy, the
learning rate and the number of the step by `Engine.begin`, random numbers through the generators'
seeds, which a replay reads.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gan_bench.errors import UserError, one_line
from gan_bench.training.engine import Engine, Seen
from gan_bench.training.step_batch import StepBatch

WARM = 3  # steps before a recording: libraries choose kernels, optimizers make their state


class CapturedStep:
    """The steps of an engine on CUDA; each kind of step is recorded when it has become routine.

    A kind is what `Engine.alike` and `observe` tell apart. Where each step is another, and until
    a recording is there, steps are taken by the engine itself.

    Args:
        engine: On a CUDA device, its state loaded: what is loaded later would not be where the
            graphs look for it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._taken: Counter[tuple[bool, ...]] = Counter()
        self._recorded: dict[tuple[bool, ...], tuple[torch.cuda.CUDAGraph, Seen]] = {}
        self._inputs: StepBatch | None = None
        self._memory = torch.cuda.graph_pool_handle()
        # Recorded where it is replayed: cuBLAS has a workspace for each stream, and runs that share
        # one would overwrite each other's. Nothing is ever recorded on the default stream.
        self._stream = torch.cuda.current_stream()
        if self._stream == torch.cuda.default_stream():
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def step(self, step: int, batch: StepBatch, observe: bool = False) -> Seen:
        """Do what `Engine.step` does; what is returned holds until the next step.

        Raises:
            UserError: Something in the step waits for the device, as a network of somebody else's
                may.
        """
        alike = self.engine.alike(step)
        if alike is None:
            return self.engine.step(step, batch, observe)
        kind = (observe, *alike)
        if kind not in self._recorded and self._taken[kind] < WARM:
            self._taken[kind] += 1
            if self._taken[kind] < WARM:
                return self.engine.step(step, batch, observe)
            with _waiting_refused():
                return self.engine.step(step, batch, observe)
        if self._inputs is None:
            self._inputs = batch.empty_like()
        torch._foreach_copy_(self._inputs.tensors(), batch.tensors())
        self.engine.begin(step)
        if kind not in self._recorded:
            self._recorded[kind] = self._record(step, self._inputs, observe)
        graph, seen = self._recorded[kind]
        graph.replay()
        return seen

    def _record(self, step: int, inputs: StepBatch, observe: bool,
                ) -> tuple[torch.cuda.CUDAGraph, Seen]:
        graph = torch.cuda.CUDAGraph()
        if torch.__version__ < "2.14":  # from then on by itself, as they are asked
            for generator in self.engine.generators:
                graph.register_generator_state(generator)
        # All kinds share their memory: they never run at the same time.
        with torch.cuda.graph(graph, pool=self._memory, stream=self._stream):
            seen = self.engine.update(step, inputs, observe)
        return graph, seen


@contextmanager
def _waiting_refused() -> Iterator[None]:
    """Let what waits for the device fail, and say so: within a recording it would fail in riddles.

    Raises:
        UserError: Something has.
    """
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        raise UserError(f"a step of this run cannot be a CUDA graph, for it waits for the device "
                        f"({one_line(error)}): set compute.graphs: false") from error
    finally:
        torch.cuda.set_sync_debug_mode(before)
