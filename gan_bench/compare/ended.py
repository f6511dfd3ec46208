"""The runs that a comparison starts from: how each ended, and its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gan_bench.config.run_id import settings_digest
from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import DamagedError, count
from gan_bench.journal.layout import run_folders
from gan_bench.journal.schema import Status
from gan_bench.journal.spec_file import read_values
from gan_bench.journal.status import Progress, state_of

SHOWN = 10  # seeds that a note names


@dataclass(frozen=True)
class RunResult:
    """One run, as comparisons see it: read from its journal, or from MLflow.

    Attributes:
        variant, seed: The run's.
        status: How the run ended, or that it has not ended.
        scores: The final scores, by name.
        protocols: How each score was measured, by the same names.
        classes: The number of classes of the data; 0 if unknown.
        numerics: The NUMERICS of a run that was read from its journal.
    """

    variant: str
    seed: int
    status: Status
    scores: Mapping[str, float]
    protocols: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    classes: int = 0
    numerics: int | None = None

    @classmethod
    def of(cls, run: Progress) -> RunResult:
        """Return the result that a journal records."""
        return cls(run.spec.variant, run.spec.seed, run.state, run.scores, run.protocols,
                   run.spec.data.classes, run.numerics)

    @property
    def collapsed(self) -> bool | None:
        """Whether fewer than half of the modes, or of the classes, have a final sample.

        The field has no convention for a collapse; this one is the program's. Recall and coverage
        show a milder loss of modes. None if neither was counted, or the run has not finished.
        """
        if self.status != Status.FINISHED:
            return None
        modes = self.protocols.get("modes_covered", {}).get("real")
        for name, total in (("modes_covered", modes), ("classes_covered", self.classes)):
            if name in self.scores and total:
                return bool(self.scores[name] < int(total) / 2)
        return None


def left_out_seeds(spec: ExperimentSpec, root: Path) -> list[int]:
    """Return the seed of each result of the variants whose seed the file does not list.

    Raises:
        UserError: A folder of a run is a link.
    """
    of_variant = {run.settings: run for run in spec.runs}
    planned = {run.id for run in spec.runs}
    seeds = []
    for folder in run_folders(root / "runs" / spec.name):
        if folder.name in planned:
            continue
        try:
            values = read_values(folder)
            like = of_variant.get(settings_digest(values))
            if not like or values["seed"] in spec.seeds:  # under an older id, say
                continue
            if state_of(like.with_seed(values["seed"]), root)[0].is_result:
                seeds.append(values["seed"])
        except DamagedError:  # `sync`, which must read it too, says so
            continue
    return seeds


def left_out_line(seeds: Sequence[int]) -> str:
    """Return the note on runs whose seeds the experiment does not list, a seed for each run."""
    which = ", ".join(map(str, sorted(set(seeds))[:SHOWN]))
    more = ", …" if len(set(seeds)) > SHOWN else ""
    return (f"left out: {count(len(seeds), 'run')} of seeds that the experiment does not list "
            f"({which}{more})")
