"""Finds what of a run does not fit what its networks are conditioned on. No torch."""

from __future__ import annotations

from gan_bench import registry
from gan_bench.config.spec import EvaluateSpec, RunSettings
from gan_bench.data_facts import DataFacts


def condition_conflicts(settings: RunSettings, data: DataFacts, evaluate: EvaluateSpec,
                        ) -> list[tuple[str, str]]:
    """Return why a model, the data and `condition` do not fit each other, as (key, reason)."""
    model, takes = settings.model, registry.MODELS[settings.model.name].facts.takes
    if takes == "image":
        if not data.input:
            return [("model", f"{model} makes an image from an image, but this data set has no "
                              f"inputs: make pairs of it, `dataset: {{name: pairs, of: …, "
                              f"input: …}}`")]
        if settings.condition != "concat":
            return [("condition", f"{model} gives both networks an input, and its D has it beside "
                                  f"the image: set condition: concat")]
        return (_shared_conflicts(settings, evaluate, "inputs")
                + _input_conflicts(settings, data, evaluate))
    if settings.condition == "none":
        return []
    if data.input:
        taking = [entry.name for entry in registry.MODELS if entry.facts.takes == "image"]
        return [("condition", f"the condition of this data set is an image, and {model} takes a "
                              f"class: choose the model {' or '.join(taking)}, or leave condition "
                              f"out")]
    problems = _shared_conflicts(settings, evaluate, "labels")
    if data.classes < 2:
        problems.insert(0, ("condition", f"{settings.condition} needs labels, but this data set "
                                         f"has none; leave it out"))
    return problems


def _shared_conflicts(settings: RunSettings, evaluate: EvaluateSpec, what: str,
                      ) -> list[tuple[str, str]]:
    """Return what cannot be done under either kind of condition.

    Args:
        what: The conditions: labels or inputs.
    """
    problems = []
    if settings.share_fakes and settings.d_steps > 1:
        problems.append(("share_fakes", f"shared fakes have the {what} of one batch, but D sees "
                                        f"{settings.d_steps} batches a step: set d_steps: 1"))
    if settings.share_fakes and registry.LOSSES[settings.loss.name].facts.needs_real:
        problems.append(("share_fakes", f"with {settings.loss}, G's fakes take the {what} of G's "
                                        f"own real batch, so D cannot reuse them: set "
                                        f"share_fakes: false"))
    problems += [("evaluate.metrics", f"{name} gives D images without {what}, but this D is "
                                      f"conditional: remove it from evaluate.metrics")
                 for name in evaluate.all_metrics
                 if registry.METRICS[name].facts.extractor == "discriminator"]
    return problems


def _input_conflicts(settings: RunSettings, data: DataFacts, evaluate: EvaluateSpec,
                     ) -> list[tuple[str, str]]:
    """Return what cannot be done with pairs: G makes one image of each held-out input."""
    problems = [(f"evaluate.{key}", f"{samples:,} is more than the {data.test:,} held-out inputs, "
                                    f"of which one sample each is made: give {data.test:,} or less")
                for key, samples in (("samples", evaluate.samples),
                                     ("final_samples", evaluate.final_samples or 0))
                if samples > data.test]
    if evaluate.latent_sets > 1 and settings.model.args.get("latent_dim") == 0:
        problems.append(("evaluate.latent_sets", f"the G of {settings.model} has no latents, so "
                                                 f"all sets would give the same images: leave it "
                                                 f"out"))
    if settings.fake_labels == "independent":
        problems.append(("fake_labels", "an image is made from the input of its target: leave it "
                                        "out"))
    if settings.augmentation:
        names = ", ".join(map(str, settings.augmentation))
        problems.append(("augmentation", f"{names} would change an image and not its input: leave "
                                         f"it out"))
    return problems
