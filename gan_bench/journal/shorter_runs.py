"""Which runs a run can continue from: those that differ in nothing but the steps. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gan_bench.config.annealing import annealed_keys
from gan_bench.config.run_id import identifying_settings, lineage_of
from gan_bench.config.spec import RunSpec
from gan_bench.errors import DamagedError, UserError
from gan_bench.journal import reading
from gan_bench.journal.checkpoint_head import read_head
from gan_bench.journal.drift import describe_drift, since, versions
from gan_bench.journal.layout import is_trained, newest_checkpoint, run_folders, snapshot_file
from gan_bench.journal.spec_file import ReadValues, read_values


@dataclass(frozen=True)
class Predecessor:
    """A run that another run can continue from.

    Attributes:
        folder: Of the run.
        step: Of its checkpoint, or of its snapshot.
        is_snapshot: Whether the run has the networks after the last step of the other run, which
            need no further step: those of a run without a weight average are all in a snapshot.
        intervals: Those for which its curves have fewer points than the other run's, in words.
    """

    folder: Path
    step: int
    is_snapshot: bool = False
    intervals: str = ""


@dataclass(frozen=True)
class Beginning:
    """How a run can begin that has relatives: runs that differ in nothing but the steps.

    Attributes:
        predecessors: Those that it can continue from, the furthest first.
        obstacles: Why it cannot continue from the others, a line each.
        own: The step of its own checkpoint; 0 if it has none.
    """

    predecessors: tuple[Predecessor, ...] = ()
    obstacles: tuple[str, ...] = ()
    own: int = 0

    def __str__(self) -> str:
        if self.predecessors:
            first = self.predecessors[0]
            fewer = f", with fewer points so far: {first.intervals}" if first.intervals else ""
            if first.is_snapshot:
                return f"takes the networks of step {first.step} from {first.folder.name}{fewer}"
            return f"continues {first.folder.name} from step {first.step}{fewer}"
        if self.own or not self.obstacles:
            return ""
        return f"trains from zero: {'; '.join(self.obstacles)}"


def beginnings(home: Path, runs: Sequence[RunSpec], described: Sequence[RunSpec] = (),
               places: Mapping[str, Mapping[str, str]] | None = None,
               read: ReadValues = read_values) -> dict[str, Beginning]:
    """Return, by id, how those of the runs can begin that have relatives on the disk.

    Args:
        home: The folder of the experiment, in which the relatives lie.
        runs: They are to be trained.
        described: Runs whose specification need not be read from the disk.
        places: By variant, where the file sets its `annealed_keys`.
        read: Reads the `spec.json` of a folder.
    """
    folders = run_folders(home)
    if not folders or not runs:
        return {}
    by_lineage: dict[str, list[RunSpec]] = {}
    for run in runs:
        by_lineage.setdefault(run.lineage, []).append(run)
    specs = {run.id: run for run in described}
    found: dict[str, tuple[list[Predecessor], list[str]]] = {}
    for folder in folders:
        for run in by_lineage.get(_lineage(folder, specs, read), ()):
            if folder.name == run.id:
                continue
            predecessors, obstacles = found.setdefault(run.id, ([], []))
            seen = _look(folder, run, (places or {}).get(run.variant, {}))
            if isinstance(seen, Predecessor):
                predecessors.append(replace(seen, intervals=_longer_intervals(folder, run, read)))
            elif seen:
                obstacles.append(seen)
    own = {run.id: _own_step(home / run.id) for run in runs if run.id in found}
    return {run_id: _sorted(predecessors, obstacles, own[run_id])
            for run_id, (predecessors, obstacles) in found.items()}


def predecessor_folders(found: Mapping[str, Beginning]) -> dict[str, tuple[Path, ...]]:
    """Return, by id, the folders of the runs to continue from, as `Execution` takes them."""
    return {run_id: tuple(predecessor.folder for predecessor in beginning.predecessors)
            for run_id, beginning in found.items() if beginning.predecessors}


def _sorted(predecessors: list[Predecessor], obstacles: list[str], own: int) -> Beginning:
    further = [predecessor for predecessor in predecessors if predecessor.step > own]
    further.sort(key=lambda predecessor: (-predecessor.step, predecessor.folder))
    return Beginning(tuple(further), tuple(dict.fromkeys(obstacles)), own)


def _longer_intervals(folder: Path, run: RunSpec, read: ReadValues) -> str:
    """Return the intervals of a run's points, where another run has points between them."""
    try:
        values = read(folder)
    except DamagedError:
        return ""
    evaluate = values.get("evaluate")
    before: dict[str, Any] = {
        "log_every": values.get("log_every"),
        "evaluate.every": evaluate.get("every") if isinstance(evaluate, dict) else None}
    now = {"log_every": run.log_every, "evaluate.every": run.evaluate.every}
    return ", ".join(f"{key} {before[key] or 'none'} (now {every})" for key, every in now.items()
                     if every and (not before[key] or every % before[key]))


def _lineage(folder: Path, specs: Mapping[str, RunSpec], read: ReadValues) -> str:
    """Return the lineage of a run on the disk; empty if it cannot be read."""
    if folder.name in specs:
        return specs[folder.name].lineage
    with suppress(DamagedError):
        values = read(folder)
        return lineage_of(identifying_settings(values), values["seed"])
    return ""


def _own_step(folder: Path) -> int:
    """Return the step of a run's own checkpoint; 0 if it has none."""
    with suppress(UserError, OSError):
        return read_head(newest_checkpoint(folder)).step
    return 0


def has_last_networks(folder: Path, run: RunSpec) -> bool:
    """Whether a snapshot of another run holds the networks that a run ends with, and its losses.

    A snapshot holds the generator that is measured: of a run with a weight average, not G itself.
    """
    return (run.ema is None and run.steps % run.log_every == 0
            and snapshot_file(folder, run.steps).exists())


def _versions() -> dict[str, object]:
    return {"versions": versions()}


def _look(folder: Path, run: RunSpec, places: Mapping[str, str]) -> Predecessor | str:
    """Return the relative as a predecessor, or why it is none; empty if that is no news."""
    try:
        if reading.is_open(folder):
            return f"{folder.name} is being trained"
        if has_last_networks(folder, run):
            began = reading.began(folder) or {}
            if not annealed_keys(run) and not since(began.get("facts", {}), _versions()):
                return Predecessor(folder, run.steps, is_snapshot=True)
        head = read_head(newest_checkpoint(folder))
    except FileNotFoundError:
        return f"{folder.name} keeps no checkpoint" if is_trained(folder) else ""
    except (UserError, OSError) as error:
        return str(error)
    if head.step >= run.steps:
        why = (f", and steps is no multiple of log_every, {run.log_every}"
               if snapshot_file(folder, run.steps).exists() and run.steps % run.log_every else "")
        return f"{folder.name} has no state of step {run.steps:,}, only of {head.step:,}{why}"
    if keys := annealed_keys(run):
        where = f"{places[keys[0]]}: {keys[0]}" if keys[0] in places else keys[0]
        key, _, argument = keys[0].partition(".")
        what = {"penalties": "noise or weight of a penalty", "augmentation": "p",
                "ema": "half-life of the average"}.get(
            key, "betas" if argument == "betas" else "learning rate")
        return (f"{where}: every step's {what} depends on the number of all steps, so "
                f"{folder.name} is of no use")
    if drift := since(head.facts, _versions()):
        return f"{folder.name} was trained with {describe_drift(drift)}"
    return Predecessor(folder, head.step)
