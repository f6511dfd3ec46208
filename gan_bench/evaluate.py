"""The Evaluator: samples once, features once per extractor, then every metric that is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from gan_bench import rng
from gan_bench.data import Dataset
from gan_bench.data.gaussians import modes
from gan_bench.errors import UserError
from gan_bench.features import Extractor, Features, Say, plain_float32
from gan_bench.features.cache import reference_features
from gan_bench.metrics.nearest import nearest
from gan_bench.outcome import DURING, FINAL
from gan_bench.pictures import pair_picture, to_uint8
from gan_bench.registry import EXTRACTORS, METRICS, Entry, Part
from gan_bench.spec import EvaluateSpec, RunSpec

BATCH = 250  # samples that G makes, and images that D judges, at a time
STREAM = "evaluation"


def _silent(line: str) -> None:
    pass


def prepare(metrics: list[str], data: Dataset, cache: Path, say: Say) -> None:
    """Make ready, once and before any training, what the metrics need: extractors and references.

    Args:
        metrics: Names of registered metrics.
        data: The data set, on the device that the runs will use.
        cache: Where trained extractors and reference features are kept.
        say: Is told what takes long.

    Raises:
        UserError: A metric cannot measure this data; an extractor's weights are not to be had, or
            it misses the data's gate; the cache cannot be written.
    """
    entries = [METRICS[name] for name in metrics]
    for entry in entries:
        if reason := entry.facts["refuses"](data.facts):
            raise UserError(f"{entry.name} {reason}")
    extractors = _extractors(entries, data, cache, say)
    _references(entries, extractors, data, cache, say)


def generate(generator: nn.Module, latents: Tensor, device: str) -> Tensor:
    """Return the generator's samples: uint8 images (N, C, H, W), or float32 vectors (N, D).

    Raises:
        FloatingPointError: A sample is not finite.
    """
    samples = []
    for batch in torch.split(latents, BATCH):
        made = generator(batch.to(device)).float()
        if not made.isfinite().all():
            raise FloatingPointError("the generator makes samples that are not finite")
        samples.append(to_uint8(made) if made.dim() == 4 else made)
    return torch.cat(samples)


def nearest_picture(samples: Tensor, data: Dataset) -> bytes:
    """Return a PNG of generated images, each with its nearest training image on its right.

    Nearest in pixels, as the metrics that ask for the picture measure it.

    Args:
        samples: (N, C, H, W) in [-1, 1], on the CPU.
        data: A data set of images.
    """
    made, train = to_uint8(samples), data.train.images.cpu()
    with threadpool_limits(torch.get_num_threads(), user_api="blas"):
        index, _ = nearest(made.flatten(1).numpy(), train.flatten(1).numpy())
    return pair_picture(made, train[torch.from_numpy(index)])


@contextmanager
def undisturbed(*networks: nn.Module, seed: int) -> Iterator[None]:
    """Put the networks in eval mode, without gradients; leave everything as it was found.

    Everything: the mode of every layer, all buffers, and torch's global random state, which starts
    from `seed` within, for networks that draw noise of their own.
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
    variant.

    Attributes:
        protocol: How each score is measured, by its name: extractor and the hash of its weights,
            numbers of generated and real examples, split, weights of G, quantisation, latents.
            The same for all seeds of a variant.
    """

    def __init__(self, spec: RunSpec, data: Dataset, cache: Path, device: str,
                 plan: EvaluateSpec | None = None) -> None:
        """Load what `prepare` has made.

        Args:
            plan: The measurement after the last step, `spec.evaluate.final`, whose scores are
                named `final/<name>`; by default the one during training.

        Raises:
            UserError: As `prepare`, where something was not prepared.
        """
        self._spec, self._device = spec, device
        self._prefix = FINAL if plan else DURING
        plan = plan or spec.evaluate
        self._latents = latents(spec, plan.samples)
        metrics = [METRICS[name] for name in plan.metrics]
        self._scorer = Scorer(metrics, plan.samples, spec.dataset, data, cache)
        self.protocol = {self._prefix + name: protocol
                         for name, protocol in self._scorer.protocol(**provenance(spec)).items()}

    def __call__(self, generator: nn.Module, discriminator: nn.Module) -> dict[str, float]:
        """Return the scores as `eval/<name>`, or `final/…`; networks and random state stay as is.

        Args:
            generator: (n, latent_dim) float32 → (n, C, H, W) in [-1, 1], or (n, D).
            discriminator: Such examples → logits (n,) or (n, 1).

        Raises:
            FloatingPointError: The generator or an extractor made something that is not finite.
        """
        with undisturbed(generator, discriminator, seed=rng.derive(self._spec.seed, STREAM, 1)):
            samples = generate(generator, self._latents, self._device)
            scores = self._scorer(samples, discriminator)
        return {self._prefix + name: value for name, value in scores.items()}


def latents(spec: RunSpec, count: int) -> Tensor:
    """Return the latents (count, latent_dim) that a run is measured with."""
    return torch.randn(count, int(spec.model.args["latent_dim"]),
                       generator=rng.generator(spec.seed, STREAM))


def provenance(spec: RunSpec) -> dict[str, object]:
    """Return what a protocol says of where a run's samples come from."""
    return {"generator": "ema" if spec.ema else "raw",
            "quantisation": "uint8(x * 127.5 + 128)" if spec.data.is_image else None,
            "latents": f"the run's seed, stream {STREAM}"}


class Scorer:
    """Measures samples, whatever made them: features once per extractor, then every metric.

    Args:
        metrics: Entries of METRICS that do not refuse the data.
        count: Number of samples.
        dataset: The part that the data set was made from.
        data: The data set.
        cache: Where trained extractors and reference features are kept.
        say: Is told what takes long.

    Raises:
        UserError: As `prepare`.
    """

    def __init__(self, metrics: Sequence[Entry[Any]], count: int, dataset: Part, data: Dataset,
                 cache: Path, say: Say = _silent) -> None:
        self._metrics, self._count, self._data = metrics, count, data
        self._extractors = _extractors(self._metrics, data, cache, say)
        self._references = _references(self._metrics, self._extractors, data, cache, say)
        self._sigma = 1.0
        for entry in self._metrics:
            match entry.facts["extractor"], entry.facts["reference"]:
                case "pixels" as view, split:
                    self._references[view, split] = _pixels(getattr(data, split).images)
                case "coordinates" as view, split:
                    centres, self._sigma = modes(dataset.args["kind"])
                    self._references[view, split] = self._coordinates(np.array(centres))
                case view, "frequencies" as split:
                    self._references[view, split] = _frequencies(data)
        self._check_counts()
        self._matched = {key: self._references[key].spread(count) for key in
                         {(entry.facts["extractor"], entry.facts["reference"])
                          for entry in metrics if entry.facts.get("matched")}}
        # As many real examples as samples: those of either split that D judges, or held-out ones.
        self._real = {split: _spread(getattr(data, split).images, count)
                      for split in ("train", "test")}
        # Kept, since their distances to the training images are too; D's view of them changes.
        self._held_out = {view: self._view(view, self._real["test"], None)
                          for view in {entry.facts["extractor"] for entry in metrics
                                       if entry.facts.get("held_out")} - {"discriminator"}}

    def __call__(self, samples: Tensor, discriminator: nn.Module | None = None) -> dict[str, float]:
        """Return the scores of `count` samples by name.

        Args:
            samples: uint8 (count, C, H, W), or float32 (count, D).
            discriminator: In eval mode; for the metrics that ask it.

        Raises:
            FloatingPointError: An extractor made something that is not finite.
        """
        # BLAS has threads of its own, and its sums too depend on how many.
        with torch.no_grad(), threadpool_limits(torch.get_num_threads(), user_api="blas"):
            fakes: dict[str, Features] = {}
            results: dict[str, float] = {}
            for entry in self._metrics:
                view, reference = entry.facts["extractor"], entry.facts["reference"]
                if view not in fakes:
                    fakes[view] = self._view(view, samples, discriminator)
                real = self._reference(entry)
                if view == "discriminator":
                    real = _logits(discriminator, self._real[reference])
                more = []
                if entry.facts.get("held_out"):
                    more.append(self._held_out.get(view) or _logits(discriminator,
                                                                    self._real["test"]))
                score = entry.factory(real, fakes[view], *more)
                results |= score if isinstance(score, dict) else {entry.name: score}
        return results

    def protocol(self, **how: object) -> dict[str, dict[str, object]]:
        """Return how each score is measured, by its name; `how` says where the samples are from."""
        return {name: {**self._measured_by(entry), **how, **entry.facts.get("protocol", {})}
                for entry in self._metrics for name in _scores(entry)}

    def _check_counts(self) -> None:
        """Refuse before training what the number of samples does not allow."""
        for entry in self._metrics:
            least = entry.facts.get("least", 2)
            if per_feature := entry.facts.get("least_per_feature"):
                real = self._references[entry.facts["extractor"], entry.facts["reference"]]
                least = per_feature * real.values.shape[1]
            if self._count < least:
                raise UserError(f"{entry.name} needs at least {least:,} samples, and there are "
                                f"{self._count:,}; give more, or leave it out")

    def _reference(self, entry: Entry[Any]) -> Features | None:
        """The real examples that a metric compares with; None where D makes them or none are."""
        known = self._matched if entry.facts.get("matched") else self._references
        return known.get((entry.facts["extractor"], entry.facts["reference"]))

    def _view(self, view: str, samples: Tensor, discriminator: nn.Module | None) -> Features:
        """The samples as the metrics of one view or extractor see them."""
        match view:
            case "pixels":
                return _pixels(samples)
            case "discriminator":
                return _logits(discriminator, samples)
            case "coordinates":
                return self._coordinates(samples.cpu().numpy())
        return self._extractors[view](samples)

    def _coordinates(self, points: np.ndarray[Any, Any]) -> Features:
        return Features(points.astype(np.float64) / self._sigma, None, "coordinates")

    def _measured_by(self, entry: Entry[Any]) -> dict[str, object]:
        view, reference = entry.facts["extractor"], entry.facts["reference"]
        real = self._reference(entry)
        extractor = self._extractors.get(view)
        held_out = {"held_out": len(self._real["test"])} if entry.facts.get("held_out") else {}
        match view, reference:
            case "discriminator", split:
                count = len(self._real[split])
            case _, "frequencies":
                count = self._data.facts.train
            case _:
                count = len(real.values) if real else 0
        return {
            "extractor": view,
            "weights": extractor.weights if extractor else None,
            "generated": self._count,
            "real": count,
            "split": "train" if reference == "frequencies" else reference,
            **held_out,
        }


def _extractors(entries: Sequence[Entry[Any]], data: Dataset, cache: Path, say: Say,
                ) -> dict[str, Extractor]:
    """The registered extractors that the metrics need, by name."""
    needed = {entry.facts["extractor"] for entry in entries} & set(EXTRACTORS.names())
    device = str(data.train.images.device)
    return {name: EXTRACTORS[name].factory(data, cache, device, say) for name in sorted(needed)}


def _references(entries: Sequence[Entry[Any]], extractors: dict[str, Extractor], data: Dataset,
                cache: Path, say: Say) -> dict[tuple[str, str], Features]:
    """The features of real images that the metrics need, by extractor and split."""
    needed = {(entry.facts["extractor"], entry.facts["reference"]) for entry in entries}
    return {(name, split): reference_features(extractors[name], getattr(data, split).images,
                                              f"{data.fingerprint}/{split}", cache, say)
            for name, split in sorted(needed, key=str)
            if name in extractors and split in ("train", "test")}


def _scores(entry: Entry[Any]) -> tuple[str, ...]:
    """The names of a metric's scores."""
    return tuple(entry.facts.get("returns", (entry.name,)))


def _frequencies(data: Dataset) -> Features:
    """The share of each class among the training labels, (K, 1)."""
    assert data.train.labels is not None
    counts = torch.bincount(data.train.labels.cpu(), minlength=data.facts.classes).numpy()
    return Features(counts[:, None] / counts.sum(), None, "labels")


def _pixels(images: Tensor) -> Features:
    return Features(images.flatten(1).cpu().numpy(), None, "pixels")


def _logits(discriminator: nn.Module | None, images: Tensor) -> Features:
    """D's logits (N, 1) of uint8 images or of vectors."""
    assert discriminator is not None, "the caller leaves out the metrics that ask D"
    logits = []
    for batch in torch.split(images, BATCH):
        scaled = batch.float() / 127.5 - 1 if batch.dtype == torch.uint8 else batch
        logits.append(discriminator(scaled).float().reshape(-1, 1))
    return Features(torch.cat(logits).cpu().numpy().astype(np.float64), None, "discriminator")


def _spread(images: Tensor, count: int) -> Tensor:
    """At most `count` of the images, evenly spread: a part of a test set may be easier than all."""
    if len(images) <= count:
        return images
    return images[torch.arange(count, device=images.device) * len(images) // count]
