"""The Evaluator measures a generator on a run's latents and leaves the training as it was."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from gan_bench import rng
from gan_bench.components.data import Dataset, Split
from gan_bench.components.latents import draw_latents
from gan_bench.components.models import with_condition
from gan_bench.components.value_range import to_float, to_uint8
from gan_bench.config.spec import EvaluateSpec, RunSpec
from gan_bench.config.statistics_file import Statistics
from gan_bench.errors import Say, UserError
from gan_bench.evaluation.features.base import evenly
from gan_bench.evaluation.features.given_statistics import statistics_of
from gan_bench.evaluation.features.repeatable import plain_float32
from gan_bench.evaluation.metrics.conditional import check_real_classes
from gan_bench.evaluation.metrics.nearest import nearest_rows
from gan_bench.evaluation.references import prepare_references
from gan_bench.evaluation.sample_grid import pair_picture
from gan_bench.evaluation.scorer import Scorer
from gan_bench.hardware import refuse_more_than_memory
from gan_bench.journal.scores.score_names import (
    CLASS,
    DURING,
    latent_set_name,
    score_name,
)
from gan_bench.registry import LOSSES, METRICS, scores_of

STREAM = "evaluation"
BATCH = 250  # samples that G generates at a time


def prepare_metrics(metrics: list[str], data: Dataset, cache: Path, say: Say,
                    statistics: Statistics | None = None) -> dict[str, str]:
    """Prepare the extractors and reference features of the metrics, once, before any training.

    Args:
        metrics: Names of registered metrics.
        data: The data set, on the device that the runs will use.
        cache: Where trained extractors and reference features are kept.
        say: Receives a line before each slow step.
        statistics: What takes the place of real examples for metrics of a Gaussian.

    Returns:
        By score, the hash of its extractor's weights, as its protocol will have it.

    Raises:
        UserError: A metric cannot measure this data, or one of its classes; an extractor's weights
            are unavailable, or a trained extractor is less accurate than the data set requires; the
            cache cannot be written.
    """
    entries = [METRICS[name] for name in metrics]
    for entry in entries:
        if reason := entry.facts.refuses(data.facts):
            raise UserError(f"{entry.name} {reason}")
        if entry.facts.asked and entry.facts.reference:
            labels = getattr(data, entry.facts.reference).labels
            check_real_classes(labels.cpu().numpy())
    weights = prepare_references(entries, data, cache, say, statistics)
    return {score: weights[entry.facts.extractor] for entry in entries
            if entry.facts.extractor in weights for score in scores_of(entry)}


def refuse_too_many_samples(spec: RunSpec, device: str) -> None:
    """Refuse measurements of more samples than the memory has room for.

    Raises:
        UserError: The latents and the samples of a measurement do not fit.
    """
    each = 4 * (int(spec.model.args["latent_dim"]) + spec.condition_size)
    if device == "cpu":  # as uint8 or float32, twice: in batches, then as one tensor
        each += 2 * math.prod(spec.data.shape) * (1 if spec.data.is_image else 4)
    plan = spec.evaluate
    for key, samples in (("samples", plan.samples), ("final_samples", plan.final_samples or 0)):
        refuse_more_than_memory(samples * each, f"evaluate.{key}: {samples:,} samples")


class NonFiniteSamples(FloatingPointError):
    """The generator makes samples that are not finite."""


def generate(generator: nn.Module, latents: Tensor, device: str) -> Tensor:
    """Return the generator's samples: uint8 images (N, C, H, W), or float32 vectors (N, D).

    Raises:
        NonFiniteSamples: A sample is not finite.
    """
    samples = []
    for batch in torch.split(latents, BATCH):
        generated = generator(batch.to(device)).float()
        if not generated.isfinite().all():
            raise NonFiniteSamples("the generator makes samples that are not finite")
        is_image = generated.dim() == 4
        samples.append(to_uint8(generated) if is_image else generated)
    return torch.cat(samples)


def nearest_picture(samples: Tensor, data: Dataset) -> bytes:
    """Return a PNG of generated images, each with its nearest training image on its right.

    The distance is in pixels, as in the metrics that ask for the picture.

    Args:
        samples: (N, C, H, W) in [-1, 1], on the CPU.
        data: A data set of images.
    """
    generated, train = to_uint8(samples), data.train.images.cpu()
    with threadpool_limits(torch.get_num_threads(), user_api="blas"):
        index, _ = nearest_rows(generated.flatten(1).numpy(), train.flatten(1).numpy())
    return pair_picture(generated, train[torch.from_numpy(index)])


@contextmanager
def undisturbed(*networks: nn.Module, seed: int) -> Iterator[None]:
    """Put the networks in eval mode, without gradients; restore their state afterwards.

    That state is the mode of every layer, all buffers, and torch's global random state. Inside the
    block the random state starts from `seed`, for networks that draw noise themselves.
    """
    layers = [(layer, layer.training) for network in networks for layer in network.modules()]
    buffers = [(buffer, buffer.clone()) for network in networks for buffer in network.buffers()]
    on_cuda = any(p.is_cuda for network in networks for p in network.parameters())
    devices = [torch.cuda.current_device()] if on_cuda else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), plain_float32():
        torch.default_generator.manual_seed(seed)
        if on_cuda:
            torch.cuda.manual_seed(seed)
        try:
            for network in networks:
                network.eval()
            yield
        finally:
            for layer, training in layers:
                layer.training = training
            for buffer, before in buffers:
                buffer.copy_(before)


class Evaluator:
    """Measures a generator by the metrics of a run's specification.

    The latents depend on the run's seed alone, so they are the same at every step and for every
    variant. Inputs are those of held-out pairs, evenly spread: the same for every seed too.

    Attributes:
        protocol: How each score is measured, by its name: extractor and the hash of its weights,
            data set, numbers of generated and real examples, split, weights of G, quantisation,
            latents. It is the same for all seeds of a variant.
    """

    def __init__(self, spec: RunSpec, data: Dataset, cache: Path, device: str,
                 plan: EvaluateSpec | None = None, phase: str = DURING) -> None:
        """Load what `prepare_metrics` has prepared.

        Args:
            plan: What to measure; by default what is measured during training.
            phase: What the names of scores begin with: DURING or FINAL.

        Raises:
            UserError: The same errors as `prepare_metrics`, if something is not prepared yet.
        """
        self._spec, self._device = spec, device
        self._phase, self._sets = phase, spec.evaluate.latent_sets
        plan = plan or spec.evaluate
        self._data = data
        self._boundary: float = LOSSES.build(spec.loss).boundary
        self._latents = measured_latents(spec, data, plan.samples)
        metrics = [METRICS[name] for name in plan.metrics]
        self._scorer = Scorer(metrics, plan.samples, spec.dataset, data, cache,
                              statistics=statistics_of(plan))
        if spec.condition_kind == "class":
            for k in range(self._sets):  # the further sets are generated at the very end only
                drawn = measured_latents(spec, data, plan.samples, k)
                self._scorer.check_labels(labels_of(spec, drawn))
        self.protocol = {score_name(self._phase, name): protocol
                         for name, protocol in self._scorer.protocol(**provenance(spec)).items()}

    def __call__(self, generator: nn.Module, discriminator: nn.Module) -> dict[str, float]:
        """Return the scores as `eval/<name>` or `final/<name>`.

        Scores of single classes are added as `class/<name>/<label>`, or `class/final/…`. They have
        another prefix, because variants are not compared by them. The networks and the random state
        do not change.

        Args:
            generator: (n, latent_dim) float32 → (n, C, H, W) in [-1, 1], or (n, D).
            discriminator: Such examples → logits (n,) or (n, 1).

        Raises:
            FloatingPointError: A sample or a feature is not finite.
        """
        scores = self._measure(generator, discriminator, self._latents)
        return {score_name(self._phase, name): value for name, value in scores.items()}

    def again(self, generator: nn.Module, discriminator: nn.Module) -> dict[str, float]:
        """Return the scores on the run's further sets of latents, as `again/<set>/<name>`.

        They show how much of the scatter between runs comes from the samples alone
        (`compare.stats.noise`). The rest is as in `__call__`.
        """
        scores: dict[str, float] = {}
        for k in range(1, self._sets):
            others = measured_latents(self._spec, self._data, len(self._latents), k)
            measured = self._measure(generator, discriminator, others)
            scores |= {latent_set_name(k, name): value for name, value in measured.items()
                       if not name.startswith(CLASS)}
        return scores

    def _measure(self, generator: nn.Module, discriminator: nn.Module, latents: Tensor,
                 ) -> dict[str, float]:
        def centred(examples: Tensor) -> Tensor:  # so that 0 is where D is undecided
            logits: Tensor = discriminator(examples) - self._boundary
            return logits

        with undisturbed(generator, discriminator, seed=rng.derive(self._spec.seed, STREAM, 1)):
            return self._scorer(generate(generator, latents, self._device), centred,
                                labels_of(self._spec, latents))


def conditions_of(spec: RunSpec, split: Split) -> Tensor | None:
    """Return the conditions of a run's examples: labels (N,) int64, or uint8 inputs; or None."""
    return {"nothing": None, "class": split.labels, "image": split.inputs}[spec.condition_kind]


def measured_latents(spec: RunSpec, data: Dataset, count: int, number: int = 0) -> Tensor:
    """Return one set of the latents that a run is measured with, as `latents` does.

    The inputs of an image-conditional run are those of held-out pairs, evenly spread.

    Args:
        number: Which set; the first is 0.
    """
    if spec.condition_kind != "image":
        return latents(spec, count, data.train.labels, number)
    drawn = draw_latents(spec.latents, count, int(spec.model.args["latent_dim"]),
                         rng.generator(spec.seed, _set_stream(STREAM, number)))
    return with_condition(drawn, to_float(held_out_pairs(data, count)[0]), 0)


def held_out_pairs(data: Dataset, count: int) -> tuple[Tensor, Tensor]:
    """Return `count` inputs of held-out pairs, evenly spread, and their targets: uint8, on the CPU.
    """
    assert data.test.inputs is not None
    rows = evenly(len(data.test.inputs), count)
    return data.test.inputs[rows].cpu(), data.test.images[rows].cpu()


def latents(spec: RunSpec, count: int, conditions: Tensor | None, number: int = 0,
            stream: str = STREAM) -> Tensor:
    """Return one set of latents (count, latent_dim) of a run.

    In a conditional run the condition follows, which is drawn from those of the training examples.

    Args:
        conditions: Of the training examples, as `conditions_of` returns them.
        number: Which set; the first is 0.
        stream: Of the run's random numbers.
    """
    stream = _set_stream(stream, number)
    drawn = draw_latents(spec.latents, count, int(spec.model.args["latent_dim"]),
                         rng.generator(spec.seed, stream))
    if spec.condition_kind == "nothing":
        return drawn
    assert conditions is not None, "refused when planned"
    chosen = torch.randint(len(conditions), (count,),
                           generator=rng.generator(spec.seed, f"{stream}, labels"))
    return with_condition(drawn, to_float(conditions[chosen.to(conditions.device)].cpu()),
                          spec.data.classes)


def _set_stream(stream: str, number: int) -> str:
    """Return the stream of random numbers of a set of latents."""
    return f"{stream}, set {number}" if number else stream


def labels_of(spec: RunSpec, latents: Tensor) -> Tensor | None:
    """Return the label, (N,) int64, that each latent of a run asks for; None without classes."""
    if spec.condition_kind != "class":
        return None
    return latents[:, -spec.data.classes:].argmax(dim=1)


def provenance(spec: RunSpec) -> dict[str, object]:
    """Return the part of a protocol that says where a run's samples come from."""
    how: dict[str, object] = {
        "generator": "ema" if spec.ema else "raw",
        "quantisation": "uint8(x * 127.5 + 128)" if spec.data.is_image else None,
        "latents": f"the run's seed, stream {STREAM}"}
    if spec.condition_kind == "image":
        how["inputs"] = "held out, evenly spread"
    return {**how, "ema_statistics": spec.ema_statistics} if spec.ema else how
