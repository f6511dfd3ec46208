"""What `plan` says of runs that continue from others, and of what checkpoints take. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gan_bench.cli.running.clean import megabytes
from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import count
from gan_bench.journal.layout import newest_checkpoint
from gan_bench.journal.schema import Status
from gan_bench.journal.shorter_runs import Beginning, beginnings
from gan_bench.journal.spec_file import ReadValues, read_values


def beginnings_of(spec: ExperimentSpec, root: Path, states: Mapping[str, Status],
                  read: ReadValues = read_values) -> dict[str, Beginning]:
    """Return how those runs can begin that are to be trained and have relatives.

    Args:
        states: By id, without the runs that are taken over from an earlier version.
        read: Reads the `spec.json` of a folder.
    """
    idle = [run for run in spec.runs if run.id in states and not states[run.id].is_result
            and states[run.id] != Status.RUNNING]
    return beginnings(root / "runs" / spec.name, idle, spec.runs, spec.annealed, read)


def checkpoint_lines(spec: ExperimentSpec, root: Path, records: Sequence[Mapping[str, Any]],
                     ) -> list[str]:
    """Return what the checkpoints of all runs take once they are finished, as far as it is known.

    A checkpoint is as large as any other of its variant, or of the run that it continues from.

    Args:
        records: Of the plan.
    """
    home = root / "runs" / spec.name
    sizes: dict[str, int] = {}
    for record in records:
        holder = record["id"] if record["state"] == Status.FINISHED else record["continues"]
        if holder is None or record["variant"] in sizes:
            continue
        file = newest_checkpoint(home / holder)
        if file.exists():
            sizes[record["variant"]] = file.stat().st_size
    if not sizes:
        return []
    total = sum(sizes[run.variant] for run in spec.runs if run.variant in sizes)
    number = sum(run.variant in sizes for run in spec.runs)
    unknown = [variant for variant in spec.variants if variant not in sizes]
    others = f"; not known yet: {', '.join(unknown)}" if unknown else ""
    return ["", f"the last checkpoints of {count(number, 'run')} take {megabytes(total)} on the "
            f"disk{others} (run --keep-checkpoints none keeps none, clean frees them)"]
