"""Finds what cannot be in a step: parts of batches, averages, numbers that change. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from gan_bench import registry
from gan_bench.config.ema_decay import MOST_INITIAL, HalfLife
from gan_bench.config.spec import RunSettings
from gan_bench.registry import Part, Scheduled


def step_conflicts(settings: RunSettings, steps: int | None) -> list[tuple[str, str]]:
    """Return the conflicts, as (key, reason).

    Args:
        steps: The number of steps; None if it is not known.
    """
    parts = [*_accumulation_conflicts(settings)] or _group_conflicts(settings)
    return [*parts, *_own_step_conflicts(settings), *_fake_label_conflicts(settings),
            *_average_conflicts(settings, steps), *_schedule_conflicts(settings, steps)]


def _accumulation_conflicts(settings: RunSettings) -> Iterator[tuple[str, str]]:
    """Yield why batches cannot be given in parts."""
    batch, count = settings.batch_size, settings.accumulate
    if batch % count or batch // count < 2:
        start = min(count, batch // 2)
        closest = next(k for distance in range(start) for k in (start - distance, start + distance)
                       if k <= batch // 2 and batch % k == 0)
        yield "accumulate", (f"a batch of {batch:,} has no {count:,} equal parts of at least 2 "
                             f"examples: choose a divisor of batch_size, such as {closest:,}")
    if count > 1 and settings.share_fakes:
        yield "accumulate", ("has no use with share_fakes, which keeps G's whole batch in memory "
                             "for D: set share_fakes: false")


def _own_step_conflicts(settings: RunSettings) -> Iterator[tuple[str, str]]:
    """Yield why penalties cannot take steps of their own."""
    first: dict[str, Part] = {}
    for part in settings.penalties:
        if not part.args.get("own_step"):
            continue
        facts = registry.PENALTIES[part.name].facts
        if facts.needs_targets:
            yield "penalties", (f"{part} compares the fakes of G's update with their targets, so "
                                f"it has no step of its own: leave out own_step")
            continue
        network = "G" if facts.g_term else "D"
        optimizer = settings.g_optimizer if network == "G" else settings.d_optimizer
        if "betas" not in optimizer.args:
            yield "penalties", (f"the own_step of {part} corrects the betas of {network}'s "
                                f"optimizer, but {optimizer} has none: choose adam, or leave out "
                                f"own_step")
        other = first.setdefault(network, part)
        every = [each.args.get("every", 1) for each in (other, part)]
        if every[0] != every[1]:
            yield "penalties", (f"{other} and {part} share a step of {network}'s optimizer, but "
                                f"act every {every[0]:,} and every {every[1]:,} steps: give both "
                                f"the same `every`, or one of them no own_step")


def _fake_label_conflicts(settings: RunSettings) -> Iterator[tuple[str, str]]:
    """Yield why fakes cannot have labels of their own."""
    if settings.fake_labels == "beside":
        return
    if settings.condition == "none":
        yield "fake_labels", "has no effect without labels: leave it out, or give a condition"
    if settings.share_fakes:
        yield "fake_labels", ("with share_fakes D judges G's fakes beside its own real examples: "
                              "set share_fakes: false, or leave it out")
    if registry.LOSSES[settings.loss.name].facts.needs_real:
        yield "fake_labels", (f"{settings.loss} compares each fake with a real example of its "
                              f"label: leave it out")
    for part in settings.penalties:
        facts = registry.PENALTIES[part.name].facts
        if facts.term and facts.judges == "both":
            yield "fake_labels", (f"{part} gives D mixtures of fakes and reals, or both, under the "
                                  f"label of the real example: leave out one of them")


def _group_conflicts(settings: RunSettings) -> list[tuple[str, str]]:
    """Return that D cannot divide a batch into groups of equal size, if so."""
    group = registry.MODELS[settings.model.name].facts.group(**settings.model.args)
    batch = settings.batch_size // settings.accumulate
    if group is not None and settings.one_pass and group > batch:
        return [("model", f"{settings.model} judges {group:,} examples together, but with one_pass "
                          f"D sees {batch:,} fakes and {batch:,} reals at once: choose a group of "
                          f"at most {batch:,}, or leave out one_pass")]
    if group is None or batch % min(group, batch) == 0:
        return []
    nearest = max(size for size in range(1, group) if batch % size == 0)
    whole = "batch_size" if settings.accumulate == 1 else "batch_size / accumulate"
    what = "a batch" if settings.accumulate == 1 else "a part of a batch"
    return [("model", f"{settings.model} judges {group:,} examples together, but {what} has "
                      f"{batch:,}: choose a group that divides {whole}, such as {nearest:,}")]


def _average_conflicts(settings: RunSettings, steps: int | None) -> list[tuple[str, str]]:
    """Return why keys of a weight average act on none, or why it keeps random initial weights."""
    if settings.ema is None:
        fields = RunSettings.model_fields
        return [(key, "has no effect without ema: leave it out, or give ema")
                for key in ("ema_ramp", "ema_start", "ema_statistics")
                if getattr(settings, key) != fields[key].default]
    if steps is None:
        return []
    if settings.ema_start > steps:
        return [("ema_start", f"the average would be a copy of G until step {settings.ema_start:,},"
                              f" and the run has {steps:,}: lower it, or leave out ema")]
    averaging = settings.averaging
    assert averaging is not None, "it has been checked"
    share = replace(averaging, steps=steps).initial_share()
    if share <= MOST_INITIAL:
        return []
    ramp = "null" if settings.ema_ramp is None else f"{settings.ema_ramp:g}"
    is_decay = isinstance(settings.ema, float)
    ema = f"{settings.ema:g}" if isinstance(settings.ema, float) else "with a half-life"
    return [("ema", f"after {steps:,} steps {share:.2g} of the average would be G's random initial "
                    f"weights (ema {ema}, ema_ramp {ramp}): leave out ema_ramp, or lower "
                    f"{'ema' if is_decay else 'half_life'}")]


def _schedule_conflicts(settings: RunSettings, steps: int | None) -> list[tuple[str, str]]:
    """Return the numbers that are to change, and never do in a run of this length."""
    parts: list[tuple[str, registry.Registry[Any, Any], Part]] = [
        ("g_optimizer", registry.OPTIMIZERS, settings.g_optimizer),
        ("d_optimizer", registry.OPTIMIZERS, settings.d_optimizer),
        *(("penalties", registry.PENALTIES, part) for part in settings.penalties),
        *(("augmentation", registry.AUGMENTATIONS, part) for part in settings.augmentation)]
    numbers = [(key, f"{part}: {argument}", number) for key, entries, part in parts
               for argument, found in entries.scheduled(part).items() for number in found]
    if isinstance(settings.ema, HalfLife) and isinstance(settings.ema.half_life, Scheduled):
        numbers.append(("ema", "half_life", settings.ema.half_life))
    return [(key, f"{what} begins to change after {number.points[0][0]:,g} {number.unit}, when the "
                  f"run of {steps:,} steps is over: move its points")
            for key, what, number in numbers
            if steps is not None and number.begins_after(steps, settings.images_per_step)]
