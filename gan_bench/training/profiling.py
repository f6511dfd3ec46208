"""Where a run's time goes: torch's profiler over some of its steps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch.profiler import ProfilerActivity, profile

from gan_bench.atomic import replacing
from gan_bench.journal.layout import TABLE, TRACE

if TYPE_CHECKING:
    from gan_bench.training.single_run import Run

BEFORE, STEPS = 10, 20  # steps before the profile, and the largest number of profiled steps
ROWS = 40


class Profiler:
    """Profiles some early steps of a run, without changing their numbers.

    It writes a table, `profile.txt`, and a trace for Perfetto or chrome://tracing, `trace.json.gz`.
    They include the work between the steps: batches, records, pictures, measurements.

    Args:
        steps: The number of the run's steps, at least 3, because the last is not profiled.
        folder: The run's folder.
        device: The run's device; a run on the CPU gets no profile of a GPU.
    """

    def __init__(self, steps: int, folder: Path, device: str) -> None:
        self._before = min(BEFORE, steps // 3)
        self._count = min(STEPS, steps - self._before - 1)
        self._folder, self._device = folder, device

    @contextmanager
    def turn(self, run: Run) -> Iterator[int]:
        """Yield how many steps `run` takes in this turn: 1, or all the profiled steps."""
        if run.done != self._before:
            yield 1
            return
        activities = [ProfilerActivity.CPU]
        if self._device == "cuda":
            activities.append(ProfilerActivity.CUDA)
            torch.cuda.synchronize()  # finish the kernels of earlier steps
        with profile(activities=activities) as recorded:
            yield self._count
        where = "self_cuda_time_total" if self._device == "cuda" else "self_cpu_time_total"
        table = recorded.key_averages().table(sort_by=where, row_limit=ROWS,
                                              max_name_column_width=60)
        with replacing(self._folder / TABLE) as temporary:
            temporary.write_text(f"steps {self._before + 1} to {run.done}\n{table}\n")
        with replacing(self._folder / TRACE) as temporary:
            # torch compresses the trace if the name ends in .gz.
            compressed = temporary.with_name(temporary.name + ".gz")
            recorded.export_chrome_trace(str(compressed))
            compressed.replace(temporary)
