"""Names for scores that are measured after a run: a plain one may stand for another protocol."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from gan_bench.config.spec import RunSpec
from gan_bench.journal.scores.score_names import (
    CLASS,
    DURING,
    FINAL,
    bare_name,
    latent_set_name,
    protocol_digest,
    remeasured_name,
    split_latent_set,
    split_score,
)
from gan_bench.journal.status import Progress


def last_phase(spec: RunSpec) -> str:
    """Return what the names of the scores after a run's last step begin with."""
    return FINAL if spec.evaluate.final else DURING


@dataclass
class FreeNames:
    """The full names of scores in a run that may have the plain ones for other protocols.

    Attributes:
        run: The run.
        protocols: How each new score is measured, by full name.
    """

    run: Progress
    protocols: dict[str, Any] = field(default_factory=dict)

    def reserve(self, protocols: Mapping[str, Any]) -> None:
        """Note how scores will be measured, by their plain names."""
        for plain, protocol in protocols.items():
            self.protocols[self._full(plain, protocol)] = protocol

    def rename(self, scores: Mapping[str, float], protocols: Mapping[str, Any],
               ) -> dict[str, float]:
        """Return scores under names that are free, and note how each is measured."""
        renamed = {}
        for plain, value in scores.items():
            if plain.startswith(CLASS):
                score = next(name for name in protocols if plain.startswith(_class_prefix(name)))
                full, label = (self._full(score, protocols[score]),
                               plain.removeprefix(_class_prefix(score)))
                phase, _, name = full.partition("/")
                renamed[plain if full == score else f"{phase}/{CLASS}{name}/{label}"] = value
            else:
                full = self._full(plain, protocols[plain])
                self.protocols[full] = protocols[plain]
                renamed[full] = value
        return renamed

    def rename_sets(self, scores: Mapping[str, float], protocols: Mapping[str, Any], phase: str,
                    compared: Mapping[str, tuple[str, float]] | None = None) -> dict[str, float]:
        """Return scores on further sets of latents under the names of their first set.

        Args:
            compared: The scores of the first set that the run has, by bare name.
        """
        renamed = {}
        for plain, value in scores.items():
            split = split_latent_set(plain)
            assert split is not None, "an Evaluator names them"
            _, number, name = split
            full = self._full(phase + name, protocols[phase + name])
            if compared and name in compared:
                full = compared[name][0]
            renamed[latent_set_name(number, name, full)] = value
        return renamed

    def _full(self, plain: str, protocol: Mapping[str, Any]) -> str:
        split = split_score(plain)
        assert split is not None, "an Evaluator names it"
        phase, name = split
        run, as_json = self.run, json.loads(json.dumps(protocol))
        is_other_phase = phase == DURING and FINAL + name in run.measured
        if run.announced.get(plain) == as_json and not is_other_phase:
            return plain
        is_new = all(bare_name(full) != name for full in run.measured)
        return plain if is_new else remeasured_name(plain, protocol_digest(as_json))


def _class_prefix(score: str) -> str:
    """Return how the names of a score's classes begin."""
    phase, _, name = score.partition("/")
    return f"{CLASS}{name}/" if f"{phase}/" == DURING else f"{CLASS}{phase}/{name}/"
