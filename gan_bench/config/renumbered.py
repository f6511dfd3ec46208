"""Which settings have had other numbers since a change of the program, under the same keys."""

from __future__ import annotations

from gan_bench import registry
from gan_bench.config.spec import RunSettings
from gan_bench.data_facts import DataFacts


def renumbered(settings: RunSettings, data: DataFacts) -> int | None:
    """Return the last NUMERICS that changed the numbers of these keys and values.

    A run's specification holds it, so that its id differs from that of a run before the change.
    None if there is none, or if the id tells such runs apart without it.
    """
    penalties = [registry.PENALTIES[part.name] for part in settings.penalties]
    is_halved = settings.d_loss_reduction == "mean" and not registry.LOSSES[
        settings.loss.name].facts.one_term
    if is_halved and any(penalty.facts.term for penalty in penalties):
        return 4  # the penalty too is divided by 2
    has_planes = settings.condition == "concat" and len(data.shape) == 3
    if has_planes and any(penalty.name == "spectral_norm" for penalty in penalties):
        return 4  # another bound of the label planes
    return None
