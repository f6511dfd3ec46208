"""Where a run's time goes: torch's profiler over some of its steps."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity, profile

from gan_bench.atomic import replacing
from gan_bench.journal.names import TABLE, TRACE

T = TypeVar("T")
BEFORE, STEPS = 10, 20  # steps before those that are profiled, and how many these are at most
ROWS = 40


def profiled(steps: Generator[None, None, T], count: int, folder: Path, device: str,
             ) -> Generator[None, None, T]:
    """Take a run's steps, and profile some early ones; their numbers stay what they are.

    Leaves a table, `profile.txt`, and a trace for Perfetto or chrome://tracing, `trace.json.gz`.
    They include what happens between the steps: batches, records, pictures, measurements.

    Args:
        steps: Each `next` is a step.
        count: How many there are: the last is not profiled, so at least 3.
        folder: The run's.
        device: Where it is computed: on a CPU, a GPU that is there too has nothing to show.
    """
    before = min(BEFORE, count // 3)
    for _ in range(before):
        try:
            next(steps)
        except StopIteration as end:  # it has diverged
            return end.value  # type: ignore[no-any-return]
        yield
    activities = [ProfilerActivity.CPU]
    if device == "cuda":
        activities.append(ProfilerActivity.CUDA)
        torch.cuda.synchronize()  # what earlier steps have launched is none of these
    taken, ended = 0, None
    with profile(activities=activities) as found:
        for _ in range(min(STEPS, count - before - 1)):  # without giving way to other runs
            taken += 1
            try:
                next(steps)
            except StopIteration as end:
                ended = end
                break
    where = "self_cuda_time_total" if device == "cuda" else "self_cpu_time_total"
    table = found.key_averages().table(sort_by=where, row_limit=ROWS, max_name_column_width=60)
    with replacing(folder / TABLE) as temporary:
        temporary.write_text(f"steps {before + 1} to {before + taken}\n{table}\n")
    with replacing(folder / TRACE) as temporary:
        # What torch writes is compressed where the name says so.
        compressed = temporary.with_name(temporary.name + ".gz")
        found.export_chrome_trace(str(compressed))
        compressed.replace(temporary)
    if ended:
        return ended.value  # type: ignore[no-any-return]
    yield
    return (yield from steps)
