"""Finds settings of a run that conflict, before the run costs anything. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from gan_bench import registry
from gan_bench.config.condition_checks import condition_conflicts
from gan_bench.config.spec import EvaluateSpec, RunSettings, condition_kind, describe_shape
from gan_bench.config.step_checks import step_conflicts
from gan_bench.data_facts import DataFacts
from gan_bench.errors import shown
from gan_bench.registry import Part

DECAYS = tuple(name for name, facts in registry.SCHEDULES.items() if facts.lowers)
# The keys of a decay, and the schedules that read them.
USED_BY = {"decay_every": DECAYS, "decay_factor": DECAYS, "decay_patience": ("plateau",)}


def steps_of(settings: RunSettings, data: DataFacts) -> int | None:
    """Return the number of steps; None if the settings state it nowhere or twice.

    An epoch is one pass of D over the data, and D takes `d_steps` batches a step.
    """
    if settings.epochs is None or settings.steps is not None:
        return settings.steps if settings.epochs is None else None
    return max(1, settings.epochs * (data.train // settings.batch_size) // settings.d_steps)


def find_conflicts(settings: RunSettings, dataset: Part, data: DataFacts, evaluate: EvaluateSpec,
            ) -> list[tuple[str, str]]:
    """Return the conflicts between a run's settings, as (key, reason); empty if there is none.

    The key is a setting of the run, or `evaluate.` and a setting of the measurement.
    """
    problems: list[tuple[str, str]] = []
    if (steps := steps_of(settings, data)) is None:
        both = settings.steps is not None
        problems.append(("epochs" if both else "", "give either `steps` or `epochs`" + (
            "; `--set base.steps=null` removes the steps" if both else "")))
    problems += _too_few_batches(settings, data)
    if settings.batch_size > data.train:
        problems.append(("batch_size", f"{settings.batch_size:,} is more than the {data.train:,} "
                                       f"training examples; choose a smaller batch"))
    refuse = registry.MODELS[settings.model.name].facts.refuses
    reason = refuse(data.shape, **settings.model.args)
    if "latent_dim" not in settings.model.args:
        problems.append(("model", f"{settings.model} has no argument latent_dim, the number of its "
                                  f"latents: the model's author must add this argument"))
    if reason:
        problems.append(("model", f"{settings.model} cannot make {describe_shape(data.shape)}: "
                                  f"{reason}"))
    problems += step_conflicts(settings, steps)
    problems += [(key, reason) for key, part in (("g_optimizer", settings.g_optimizer),
                                                 ("d_optimizer", settings.d_optimizer))
                 if (reason := why_no_rate(part) or _why_no_decay(part, steps))]
    problems += _penalty_conflicts(settings, steps)
    problems += _augmentation_conflicts(settings, data)
    problems += condition_conflicts(settings, data, evaluate)
    given = condition_kind(settings, data)
    problems += _metric_conflicts(evaluate, data, given, "")
    if registry.DATASETS[dataset.name].facts.modes is None:
        problems += [("evaluate.metrics", f"{name} needs known modes, but the data set {dataset} "
                                          f"states none")
                     for name in evaluate.all_metrics if data.shape == (2,)
                     and registry.METRICS[name].facts.extractor == "coordinates"]
    if evaluate.final is not None:
        problems += _metric_conflicts(evaluate.final, data, given, "final_")
        problems += _never_measured(evaluate, evaluate.final, steps)
    return problems


def _too_few_batches(settings: RunSettings, data: DataFacts) -> list[tuple[str, str]]:
    """Return that all epochs have fewer batches than a step takes, if they do."""
    if settings.epochs is None or settings.steps is not None or settings.batch_size > data.train:
        return []
    batches = settings.epochs * (data.train // settings.batch_size)
    if settings.d_steps <= batches:
        return []
    return [("epochs", f"all epochs together have {batches:,} batches, but a step takes "
                       f"{settings.d_steps:,}, its d_steps: give more epochs, or lower d_steps")]


def why_no_rate(optimizer: Part) -> str:
    """Return why no learning rate can be set; empty if one can."""
    for argument in ("lr", "schedule"):
        if argument not in optimizer.args:
            return (f"{optimizer} has no argument {argument}, but the learning rate is set from lr "
                    f"and schedule at each step: the optimizer's author must add this argument")
    lr, schedule = optimizer.args["lr"], optimizer.args["schedule"]
    if isinstance(lr, Mapping):  # as its type says, a number that changes
        return "" if schedule == "constant" else (
            f"{optimizer}: lr is given at points, and schedule {schedule} would change it too: "
            f"leave out one of them")
    if not isinstance(lr, int | float):
        return f"{optimizer}: lr is {shown(lr)}, which is not a number; give a number"
    if schedule not in registry.SCHEDULES:
        return (f"{optimizer}: there is no schedule {shown(schedule)}; "
                f"known: {', '.join(registry.SCHEDULES)}")
    return ""


def _why_no_decay(optimizer: Part, steps: int | None) -> str:
    """Return why an optimizer cannot lower its rate as its schedule says; empty if it can."""
    schedule, every = optimizer.args["schedule"], optimizer.args.get("decay_every")
    if reason := _ignored(optimizer):
        return reason
    if schedule not in DECAYS:
        return ""
    missing = [name for name in USED_BY if name not in optimizer.args]
    if missing:
        return (f"{optimizer} has no argument {' and no '.join(missing)}, which schedule "
                f"{schedule} needs: its author has to add it")
    if every is None:
        return (f"{optimizer}: schedule {schedule} lowers the rate after each so many steps: give "
                f"decay_every")
    # A plateau's first period sets the lowest mean, and `patience` + 1 periods must not be lower.
    earliest, cure = every, "decay_every"
    if schedule == "plateau":
        earliest, cure = every * (optimizer.args["decay_patience"] + 2), f"{cure} or decay_patience"
    if steps is not None and earliest >= steps:
        return (f"{optimizer}: the rate would be lowered after {earliest:,} steps at the earliest, "
                f"and there are {steps:,}: choose a smaller {cure}")
    return ""


def _ignored(optimizer: Part) -> str:
    """Return which keys of a decay the optimizer's schedule ignores; empty if it ignores none."""
    schedule = optimizer.args["schedule"]
    fields = registry.OPTIMIZERS[optimizer.name].schema.model_fields
    ignored = [key for key, users in USED_BY.items() if key in fields and schedule not in users
               and optimizer.args[key] != fields[key].default]
    if not ignored:
        return ""
    verb, pronoun = ("has", "it") if len(ignored) == 1 else ("have", "them")
    cures = [name for name in DECAYS if all(name in USED_BY[key] for key in ignored)]
    return (f"{optimizer}: {' and '.join(ignored)} {verb} no effect under schedule {schedule}: "
            f"leave {pronoun} out, or set schedule to {' or '.join(cures)}")


def _penalty_conflicts(settings: RunSettings, steps: int | None) -> list[tuple[str, str]]:
    """Return the penalties that do not fit the model, or never act."""
    model = registry.MODELS[settings.model.name].facts
    args = settings.model.args
    mixes = model.mixes(**args) and model.group(**args) is None
    zeros, scaled = model.zeros(**args), model.scaled(**args)
    problems = []
    for penalty in settings.penalties:
        facts = registry.PENALTIES[penalty.name].facts
        if mixes and facts.on_examples:
            problems.append(f"{penalty} needs a D that judges every example alone, but the D of "
                            f"{settings.model} uses batch norm: give the model `d_norm: none`")
        if zeros and facts.divides:
            problems.append(f"{penalty} divides weights by their norm, but some weights of the D "
                            f"of {settings.model} start at 0: give the model `init: default`")
        if scaled and facts.divides:
            problems.append(f"{penalty} cannot divide the weights of the D of {settings.model} "
                            f"by their norm: {scaled}")
        if facts.needs_styles and not model.styles:
            styled = " or ".join(entry.name for entry in registry.MODELS if entry.facts.styles)
            problems.append(f"{penalty} needs a G with styles w, but the G of {settings.model} has "
                            f"none: choose the model {styled}, or leave it out")
        if facts.needs_targets and model.takes != "image":
            problems.append(f"{penalty} compares images with the targets of their inputs, and "
                            f"{settings.model} has no inputs: choose a model that takes an image, "
                            f"or leave it out")
        every = penalty.args.get("every")
        if steps is not None and isinstance(every, int) and every > steps:
            problems.append(f"{penalty} acts every {every:,} steps, but the run has only "
                            f"{steps:,}: lower its `every`, or leave it out")
    return [("penalties", problem) for problem in problems]


def _augmentation_conflicts(settings: RunSettings, data: DataFacts) -> list[tuple[str, str]]:
    """Return the augmentations that cannot augment the data, or would share a curve of p."""
    problems, with_p = [], []
    for part in settings.augmentation:
        facts = registry.AUGMENTATIONS[part.name].facts
        if reason := facts.refuses(data.shape, **part.args):
            problems.append(f"{part} cannot augment {describe_shape(data.shape)}: {reason}")
        with_p += [part.name] if facts.has_p else []
    if len(with_p) > 1:
        problems.append(f"{' and '.join(with_p)} have a p each, but only one is logged: leave out "
                        f"all but one")
    return [("augmentation", problem) for problem in problems]


def _metric_conflicts(evaluate: EvaluateSpec, data: DataFacts, given: str, prefix: str,
                      ) -> list[tuple[str, str]]:
    """Return the metrics that cannot be measured, and why.

    Args:
        given: What G is given: `nothing`, a `class` or an `image`.
        prefix: The beginning of the keys' names.
    """
    problems = []
    for name in evaluate.metrics:
        facts = registry.METRICS[name].facts
        reason, least = facts.refuses(data), facts.least
        if not reason and facts.asked and given != "class":
            requests = "an input requests none: leave it out" if given == "image" else (
                "`condition: none` requests none; give every variant a condition, or leave it out")
            reason = f"compares each sample with its requested class, but {requests}"
        if not reason and facts.paired and given != "image":
            reason = ("compares each image with the target of its input, but this model makes "
                      "images of no input; choose a model that takes an image, or leave it out")
        if per_class := facts.least_per_class:
            least = per_class * data.classes
        # A run that is trained with a part is compared with all, but in these views.
        is_part = facts.extractor in ("pixels", "discriminator")
        real = data.train if is_part else data.whole or data.train
        if not reason and facts.reference == "train" and real < least:
            reason = f"needs {least:,} training examples, but there are {real:,}"
        if reason:
            problems.append((f"evaluate.{prefix}metrics", f"{name} {reason}"))
        elif evaluate.samples < least:
            problems.append((f"evaluate.{prefix}samples",
                             f"{name} needs at least {least:,} samples, not {evaluate.samples:,}"))
    return problems


def _never_measured(evaluate: EvaluateSpec, final: EvaluateSpec, steps: int | None,
                    ) -> list[tuple[str, str]]:
    """Return metrics meant for training that no step measures."""
    never = [name for name in evaluate.metrics if name not in final.metrics]
    if steps is None or not never or "metrics" not in evaluate.model_fields_set or (
            evaluate.every is not None and evaluate.every <= steps):
        return []
    verb, pronoun = ("is", "it") if len(never) == 1 else ("are", "them")
    return [("evaluate.metrics", f"{', '.join(never)} {verb} never measured: "
                                 f"give evaluate.every, at most the {steps:,} steps, or name "
                                 f"{pronoun} in final_metrics")]
