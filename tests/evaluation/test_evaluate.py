"""The Evaluator on real digits and on Gaussians, with real networks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from gan_bench import rng
from gan_bench.components import data as datasets
from gan_bench.components.data import Dataset
from gan_bench.components.data.gaussians import modes
from gan_bench.components.models import Networks, build_networks
from gan_bench.components.value_range import to_uint8
from gan_bench.config.spec import ComputeSpec, EvaluateSpec, RunSpec
from gan_bench.errors import UserError
from gan_bench.evaluation.comparability import refusal
from gan_bench.evaluation.evaluator import Evaluator, generate, prepare_metrics
from gan_bench.registry import DATASETS

IMAGE_METRICS = ["fd_classifier", "classifier_score", "d_accuracy", "nearest_train_mse"]
POINT_METRICS = ["high_quality", "modes_covered", "d_accuracy", "nearest_train_mse"]


def must_not_say(line: str) -> None:
    raise AssertionError(f"nothing was to be done, and {line!r} was said")


def load(cache: Path, dataset: dict[str, Any]) -> Dataset:
    part = DATASETS.parse(dataset)
    datasets.prepare_data(part, cache, cache)
    return datasets.load(part, cache, cache, "cpu")


def spec_of(data: Dataset, dataset: dict[str, Any], metrics: list[str], **settings: Any) -> RunSpec:
    model = settings.pop("model", {"name": "mlp", "latent_dim": 8, "width": 8})
    samples = settings.pop("samples", 300)
    return RunSpec(
        experiment="e", variant="v", seed=settings.pop("seed", 3), dataset=dataset, data=data.facts,
        steps=1, model=model, evaluate=EvaluateSpec(samples=samples, metrics=metrics),
        compute=ComputeSpec(), **settings)


DIGITS = {"name": "digits", "image_size": 8}
RING = {"name": "gaussians", "kind": "ring", "samples": 4000}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def digits(cache: Path) -> Dataset:
    data = load(cache, DIGITS)
    said: list[str] = []
    prepare_metrics(IMAGE_METRICS, data, cache, said.append)
    assert len(said) == 1  # one set of reference features; the weights ship
    prepare_metrics(IMAGE_METRICS, data, cache, must_not_say)
    return data


@pytest.fixture(scope="module")
def ring(cache: Path) -> Dataset:
    return load(cache, RING)


@pytest.fixture(scope="module")
def evaluator(digits: Dataset, cache: Path) -> Evaluator:
    return Evaluator(spec_of(digits, DIGITS, IMAGE_METRICS), digits, cache, "cpu")


@pytest.fixture
def networks(digits: Dataset) -> Networks:
    spec = spec_of(digits, DIGITS, IMAGE_METRICS)
    return build_networks(spec.model, digits.facts.shape, seed=1)


class Replay(nn.Module):
    """A generator that makes given examples, one after the other, whatever its latents."""

    def __init__(self, examples: Tensor) -> None:
        super().__init__()
        self.examples, self.next = examples, 0

    def forward(self, latents: Tensor) -> Tensor:
        index = torch.arange(self.next, self.next + len(latents)) % len(self.examples)
        self.next += len(latents)
        return self.examples[index]


class Brightness(nn.Module):
    """A discriminator whose logit is the mean of the image, so that its accuracy is known."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1).mean(dim=1)


def as_float(images: Tensor) -> Tensor:
    return images.float() / 127.5 - 1


def test_quantisation_keeps_all_256_levels() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(as_float(levels)), levels)


def test_the_training_set_itself_scores_as_it_must(digits: Dataset, cache: Path) -> None:
    spec = spec_of(digits, DIGITS, IMAGE_METRICS, samples=len(digits.train.images))
    bright = as_float(digits.train.images)
    evaluator = Evaluator(spec, digits, cache, "cpu")
    scores = evaluator(Replay(bright), Brightness())
    assert scores["eval/fd_classifier"] == pytest.approx(0, abs=1e-5)
    assert scores["eval/nearest_train_mse"] == 0
    assert 8 < scores["eval/classifier_score"] < 10
    means = as_float(digits.test.images).mean(dim=(1, 2, 3))
    assert scores["eval/d_accuracy_real"] == pytest.approx(float((means > 0).float().mean()))
    means = bright.mean(dim=(1, 2, 3))
    assert scores["eval/d_accuracy_fake"] == pytest.approx(float((means < 0).float().mean()))


def test_worse_images_score_worse(digits: Dataset, cache: Path) -> None:
    images = as_float(digits.test.images)
    spec = spec_of(digits, DIGITS, ["fd_classifier"], samples=len(images))
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    assert digits.test.labels is not None
    evaluator = Evaluator(spec, digits, cache, "cpu")

    def distance(fakes: Tensor) -> float:
        return evaluator(Replay(fakes.clamp(-1, 1)), Brightness())["eval/fd_classifier"]

    held_out = distance(images)
    little, much = distance(images + 0.2 * noise), distance(images + 0.5 * noise)
    blurred = distance(nn.functional.avg_pool2d(images, 3, stride=1, padding=1))
    one_class = distance(images[digits.test.labels == 3])
    assert 0 < held_out < little < much
    assert held_out < blurred
    assert held_out < one_class


def test_evaluating_changes_nothing(evaluator: Evaluator, networks: Networks) -> None:
    generator, discriminator = networks.generator, networks.discriminator
    generator.train()
    frozen = next(m for m in generator.modules() if isinstance(m, nn.BatchNorm1d)).eval()
    discriminator.eval()
    modes_before = [m.training for n in (generator, discriminator) for m in n.modules()]
    state_before = [v.clone() for n in (generator, discriminator) for v in n.state_dict().values()]
    random_before = torch.random.get_rng_state(), np.random.get_state()[1].copy()

    first = evaluator(generator, discriminator)

    assert not frozen.training
    assert generator.training
    assert [m.training for n in (generator, discriminator) for m in n.modules()] == modes_before
    state = [v for n in (generator, discriminator) for v in n.state_dict().values()]
    assert all(torch.equal(now, before) for now, before in zip(state, state_before, strict=True))
    assert torch.equal(torch.random.get_rng_state(), random_before[0])
    assert np.array_equal(np.random.get_state()[1], random_before[1])
    assert torch.is_grad_enabled()
    assert evaluator(generator, discriminator) == first
    assert set(first) == set(evaluator.protocol)


class Restless(nn.Module):
    """A generator that draws noise of its own and counts its calls, even in eval mode."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(1))
        self.seen_training: bool | None = None

    def forward(self, latents: Tensor) -> Tensor:
        self.calls += 1
        self.seen_training = self.training
        return torch.rand(len(latents), 1, 8, 8) * 2 - 1


def test_a_restless_generator_is_left_as_it_was(evaluator: Evaluator, networks: Networks) -> None:
    generator = Restless().train()
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = evaluator(generator, networks.discriminator)
    assert generator.seen_training is False
    assert generator.training
    assert generator.calls.item() == 0
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(6)
    assert evaluator(generator, networks.discriminator) == first


def test_an_error_too_leaves_the_networks_as_they_were(
    evaluator: Evaluator, networks: Networks
) -> None:
    networks.generator.train()
    with torch.no_grad():
        next(networks.generator.parameters()).fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="samples that are not finite"):
        evaluator(networks.generator, networks.discriminator)
    assert all(m.training for m in networks.generator.modules())


class Recorder(nn.Module):
    """Keeps the latents it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.latents: list[Tensor] = []

    def forward(self, latents: Tensor) -> Tensor:
        self.latents.append(latents.clone())
        return torch.zeros(len(latents), 1, 8, 8)


def test_latents_depend_on_the_seed_alone(digits: Dataset, cache: Path) -> None:
    def latents(**settings: Any) -> Tensor:
        recorder = Recorder()
        spec = spec_of(digits, DIGITS, ["nearest_train_mse"], **settings)
        Evaluator(spec, digits, cache, "cpu")(recorder, Brightness())
        return torch.cat(recorder.latents)

    first = latents(seed=3)
    assert torch.equal(first, torch.randn(300, 8, generator=rng.generator(3, "evaluation")))
    other_variant = latents(seed=3, loss="saturating", batch_size=32,
                            model={"name": "mlp", "latent_dim": 8, "width": 16})
    assert torch.equal(first, other_variant)
    assert not torch.equal(first, latents(seed=4))


def test_the_protocol_says_how_each_score_is_measured(
    digits: Dataset, cache: Path, evaluator: Evaluator
) -> None:
    assert set(evaluator.protocol) == {
        "eval/fd_classifier", "eval/classifier_score", "eval/d_accuracy_real",
        "eval/d_accuracy_fake", "eval/nearest_train_mse"}
    frechet = evaluator.protocol["eval/fd_classifier"]
    weights = frechet.pop("weights")
    assert isinstance(weights, str)
    assert len(weights) == 12
    assert frechet == {
        "extractor": "classifier", "generated": 300, "data": f"digits {digits.fingerprint}",
        "real": 1438, "split": "train",
        "generator": "raw", "quantisation": "uint8(x * 127.5 + 128)",
        "latents": "the run's seed, stream evaluation"}
    frechet["weights"] = weights
    score = evaluator.protocol["eval/classifier_score"]
    assert (score["data"], score["real"], score["split"], score["splits"]) == (None, 0, None, 1)
    held_out = evaluator.protocol["eval/d_accuracy_real"]
    assert (held_out["real"], held_out["split"], held_out["weights"]) == (300, "test", None)
    assert evaluator.protocol["eval/nearest_train_mse"]["real"] == 1438
    json.dumps(evaluator.protocol)
    averaged = spec_of(digits, DIGITS, IMAGE_METRICS, ema=0.9, seed=9)
    theirs = Evaluator(averaged, digits, cache, "cpu").protocol
    expected = {key: {**value, "generator": "ema", "ema_statistics": "estimated"}
                for key, value in evaluator.protocol.items()}
    assert theirs == expected
    copied = spec_of(digits, DIGITS, IMAGE_METRICS, ema=0.9, ema_statistics="copied", seed=9)
    copied_protocol = Evaluator(copied, digits, cache, "cpu").protocol["eval/fd_classifier"]
    assert copied_protocol["ema_statistics"] == "copied"
    assert refusal(copied_protocol, theirs["eval/fd_classifier"]) == (
        "not measured alike: ema_statistics copied against estimated")


def test_a_perfect_sampler_of_the_ring(ring: Dataset, cache: Path) -> None:
    centres, sigma = modes("ring")
    draws = np.random.default_rng(0)
    points = np.array(centres)[draws.integers(8, size=4000)] + sigma * draws.normal(size=(4000, 2))
    spec = spec_of(ring, RING, POINT_METRICS, samples=4000)
    prepare_metrics(POINT_METRICS, ring, cache, must_not_say)
    evaluator = Evaluator(spec, ring, cache, "cpu")
    judge = nn.Linear(2, 1)
    scores = evaluator(Replay(torch.from_numpy(points).float()), judge)
    assert scores["eval/high_quality"] == pytest.approx(0.98889, abs=0.007)
    assert scores["eval/modes_covered"] == 8
    assert 0 < scores["eval/nearest_train_mse"] < sigma**2
    assert 0 <= scores["eval/d_accuracy_real"] <= 1
    assert evaluator.protocol["eval/high_quality"]["quantisation"] is None
    half = Replay(torch.tensor(centres[:4]) + torch.tensor([0.0, 2.5 * sigma]))
    assert evaluator(half, judge)["eval/modes_covered"] == 4


def test_an_untrained_generator_is_measured(ring: Dataset, cache: Path) -> None:
    spec = spec_of(ring, RING, POINT_METRICS)
    networks = build_networks(spec.model, ring.facts.shape, seed=1)
    scores = Evaluator(spec, ring, cache, "cpu")(networks.generator, networks.discriminator)
    assert all(np.isfinite(value) for value in scores.values())
    assert scores["eval/high_quality"] < 0.5


def test_metrics_that_cannot_measure_the_data_are_refused(
    digits: Dataset, ring: Dataset, cache: Path
) -> None:
    with pytest.raises(UserError, match="fd_classifier needs images"):
        prepare_metrics(["fd_classifier"], ring, cache, must_not_say)
    with pytest.raises(UserError, match="modes_covered needs known modes"):
        prepare_metrics(["modes_covered"], digits, cache, must_not_say)
    unlabelled = replace(digits, facts=replace(digits.facts, classes=0))
    with pytest.raises(UserError, match="classifier_score needs labels"):
        prepare_metrics(["classifier_score"], unlabelled, cache, must_not_say)


def test_samples_are_made_in_fixed_batches(networks: Networks) -> None:
    latents = torch.randn(501, 8, generator=torch.Generator().manual_seed(0))
    recorder = Recorder()
    assert generate(recorder, latents, "cpu").shape == (501, 1, 8, 8)
    assert [len(batch) for batch in recorder.latents] == [250, 250, 1]
    with torch.no_grad():
        made = generate(networks.generator.eval(), latents, "cpu")
    assert made.dtype == torch.uint8


def test_distance_to_mnist_is_that_of_all_pairs(mnist_root: Path, tmp_path: Path) -> None:
    part = DATASETS.parse("mnist")
    datasets.prepare_data(part, mnist_root, tmp_path)
    data = datasets.load(part, mnist_root, tmp_path, "cpu")
    images = as_float(data.test.images[:20])
    spec = spec_of(data, {"name": "mnist"}, ["nearest_train_mse"], samples=20)
    found = Evaluator(spec, data, tmp_path, "cpu")(Replay(images), Brightness())
    train = data.train.images.flatten(1).float() / 127.5 - 1
    gaps = torch.stack([(train - image).square().mean(dim=1).min() for image in images.flatten(1)])
    assert found["eval/nearest_train_mse"] == pytest.approx(float(gaps.double().mean()), rel=1e-5)
    assert 0.01 < float(gaps.mean()) < 0.5


FIRST_AND_SECOND = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from gan_bench.components import data as datasets
from gan_bench.evaluation.scorer import Scorer
from gan_bench.registry import DATASETS, METRICS
part, cache = DATASETS.parse({"name": "digits", "image_size": 8}), Path(sys.argv[1])
data = datasets.load(part, cache, cache, "cpu")
scorer = Scorer([METRICS["fd_classifier"]], 2100, part, data, cache)
draws = torch.Generator().manual_seed(0)
images = data.train.images[torch.randint(len(data.train.images), (2100,), generator=draws)]
noise = 20 * torch.randn(images.shape, generator=draws)
samples = (images + noise).clamp(0, 255).to(torch.uint8)
print(*(scorer(samples)["fd_classifier"].hex() for _ in range(2)))
"""


@pytest.mark.process
def test_the_first_score_of_a_process_has_the_bits_of_the_second(digits: Dataset, cache: Path,
                                                                 ) -> None:
    """Scipy's BLAS has threads too, and their limit holds only for a library that is loaded."""
    free = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", FIRST_AND_SECOND, str(cache)], env=free,
                          capture_output=True, text=True, check=True)
    first, second = done.stdout.split()
    assert first == second
