"""The Evaluator: samples once, features once per extractor, then every metric that is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
from gan_bench.pictures import to_uint8
from gan_bench.registry import EXTRACTORS, METRICS, Entry
from gan_bench.spec import RunSpec

BATCH = 250  # samples that G makes, and images that D judges, at a time
STREAM = "evaluation"


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

    def __init__(self, spec: RunSpec, data: Dataset, cache: Path, device: str) -> None:
        """Load what `prepare` has made.

        Raises:
            UserError: As `prepare`, where something was not prepared.
        """
        self._spec, self._data, self._device = spec, data, device
        self._metrics = [METRICS[name] for name in spec.evaluate.metrics]
        self._latents = torch.randn(spec.evaluate.samples, int(spec.model.args["latent_dim"]),
                                    generator=rng.generator(spec.seed, STREAM))
        self._extractors = _extractors(self._metrics, data, cache, _silent)
        self._references = _references(self._metrics, self._extractors, data, cache, _silent)
        self._sigma = 1.0
        for entry in self._metrics:
            match entry.facts["extractor"], entry.facts["reference"]:
                case "pixels" as view, split:
                    self._references[view, split] = _pixels(getattr(data, split).images)
                case "coordinates" as view, split:
                    centres, self._sigma = modes(spec.dataset.args["kind"])
                    self._references[view, split] = self._coordinates(np.array(centres))
        self._held_out = _spread(data.test.images, spec.evaluate.samples)
        self.protocol = {f"eval/{name}": self._protocol(entry)
                         for entry in self._metrics for name in _scores(entry)}

    def __call__(self, generator: nn.Module, discriminator: nn.Module) -> dict[str, float]:
        """Return the scores as `eval/<name>`; the networks and all random state stay as they are.

        Args:
            generator: (n, latent_dim) float32 → (n, C, H, W) in [-1, 1], or (n, D).
            discriminator: Such examples → logits (n,) or (n, 1).

        Raises:
            FloatingPointError: The generator or an extractor made something that is not finite.
        """
        # BLAS has threads of its own, and its sums too depend on how many.
        with ExitStack() as stack:
            stack.enter_context(threadpool_limits(torch.get_num_threads(), user_api="blas"))
            stack.enter_context(undisturbed(generator, discriminator,
                                            seed=rng.derive(self._spec.seed, STREAM, 1)))
            samples = generate(generator, self._latents, self._device)
            fakes: dict[str, Features] = {}
            results: dict[str, float] = {}
            for entry in self._metrics:
                view, reference = entry.facts["extractor"], entry.facts["reference"]
                if view not in fakes:
                    fakes[view] = self._view(view, samples, discriminator)
                real = self._references.get((view, reference))
                if view == "discriminator":
                    real = _logits(discriminator, self._held_out)
                score = entry.factory(real, fakes[view])
                results |= score if isinstance(score, dict) else {entry.name: score}
        return {f"eval/{name}": value for name, value in results.items()}

    def _view(self, view: str, samples: Tensor, discriminator: nn.Module) -> Features:
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

    def _protocol(self, entry: Entry[Any]) -> dict[str, object]:
        view, reference = entry.facts["extractor"], entry.facts["reference"]
        real = self._references.get((view, reference))
        extractor = self._extractors.get(view)
        held_out = len(self._held_out) if view == "discriminator" else 0
        return {
            "extractor": view,
            "weights": extractor.weights if extractor else None,
            "generated": self._spec.evaluate.samples,
            "real": len(real.values) if real else held_out,
            "split": reference,
            "generator": "ema" if self._spec.ema else "raw",
            "quantisation": "uint8(x * 127.5 + 128)" if self._data.facts.is_image else None,
            "latents": f"the run's seed, stream {STREAM}",
            **entry.facts.get("protocol", {}),
        }


def _extractors(entries: list[Entry[Any]], data: Dataset, cache: Path, say: Say,
                ) -> dict[str, Extractor]:
    """The registered extractors that the metrics need, by name."""
    needed = {entry.facts["extractor"] for entry in entries} & set(EXTRACTORS.names())
    device = str(data.train.images.device)
    return {name: EXTRACTORS[name].factory(data, cache, device, say) for name in sorted(needed)}


def _references(entries: list[Entry[Any]], extractors: dict[str, Extractor], data: Dataset,
                cache: Path, say: Say) -> dict[tuple[str, str], Features]:
    """The features of real images that the metrics need, by extractor and split."""
    needed = {(entry.facts["extractor"], entry.facts["reference"]) for entry in entries}
    return {(name, split): reference_features(extractors[name], getattr(data, split).images,
                                              f"{data.fingerprint}/{split}", cache, say)
            for name, split in sorted(needed, key=str) if name in extractors and split}


def _scores(entry: Entry[Any]) -> tuple[str, ...]:
    """The names of a metric's scores."""
    return tuple(entry.facts.get("returns", (entry.name,)))


def _pixels(images: Tensor) -> Features:
    return Features(images.flatten(1).cpu().numpy(), None, "pixels")


def _logits(discriminator: nn.Module, images: Tensor) -> Features:
    """D's logits (N, 1) of uint8 images or of vectors."""
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


def _silent(line: str) -> None:
    pass
