"""Under which weights of extractors the scores of an experiment count. No torch.

If an extractor is trained anew, or another file of weights is named, a score that was measured
before cannot be compared with one that is measured now. Only the prepared extractors know their
weights; a journal knows those that its scores were measured under.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gan_bench.config.spec import RunSpec
from gan_bench.errors import DamagedError
from gan_bench.journal.schema import Status
from gan_bench.journal.scores.score_names import bare_name
from gan_bench.journal.status import Progress, progress_of
from gan_bench.paths import AnyPath, as_path


def finished_runs(specs: Iterable[RunSpec], root: AnyPath) -> list[Progress]:
    """Return the finished runs whose files are not damaged."""
    runs = []
    for spec in specs:
        try:
            run = progress_of(spec, as_path(root))
        except DamagedError:  # whatever reads it next says so
            continue
        if run.state == Status.FINISHED:
            runs.append(run)
    return runs


def differ(runs: Iterable[Progress]) -> bool:
    """Whether a score of finished runs was measured under several weights of its extractor."""
    weights: dict[str, object] = {}
    return any(weights.setdefault(name, protocol.get("weights")) != protocol.get("weights")
               for run in runs if run.state == Status.FINISHED
               for name, protocol in run.protocols.items())


def to_ask_for(runs: Iterable[Progress], prepared: Mapping[str, str]) -> dict[str, str]:
    """Return the present weights behind each score that a finished run has under others too.

    Other scores need not ask for any, so that `plan` need not read the journals.

    Args:
        prepared: The weights of the extractor behind each score.
    """
    others = set()
    for run in runs:
        for full in run.measured if run.state == Status.FINISHED else ():
            name, weights = bare_name(full) or "", run.protocol_of(full).get("weights")
            if weights is not None and prepared.get(name, weights) != weights:
                others.add(name)
    return {name: prepared[name] for name in sorted(others)}
