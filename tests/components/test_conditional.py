"""Class-conditional training: what G and D are told, and that G learns to listen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.runs import DIGITS, a_run, write_experiment
from torch import Tensor

from gan_bench.cli.results.sample import write_samples
from gan_bench.components import data as datasets
from gan_bench.components.data import Dataset
from gan_bench.components.models import build_networks, with_condition
from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import RunSpec
from gan_bench.errors import SpecError
from gan_bench.evaluation.evaluator import Evaluator, latents, prepare_metrics
from gan_bench.journal.layout import Workspace
from gan_bench.registry import MODELS
from gan_bench.training.loop import Batches
from gan_bench.training.run import run_one
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch
from gan_bench.training.trained import draw, load_generator

WAYS = ["concat", "projection"]
HEAD = DIGITS.replace("metrics: [d_accuracy, nearest_train_mse]", "metrics: [nearest_train_mse]")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    datasets.prepare_data(a_run(folder).dataset, folder, folder / "cache", lambda line: None)
    return folder


@pytest.fixture(scope="module")
def digits(root: Path) -> Dataset:
    return datasets.load(a_run(root).dataset, root, root / "cache", "cpu")


def conditional(folder: Path, way: str, *overrides: str) -> RunSpec:
    return a_run(folder, "variants={}", f"base.condition={way}", *overrides, text=HEAD)


def trained(spec: RunSpec, digits: Dataset, steps: int) -> Engine:
    engine, batches = Engine(spec, "cpu"), Batches(digits.train.images, spec.batch_size, spec.seed)
    labels = digits.train.labels
    assert labels is not None
    for step in range(steps):
        told = labels[batches.places(step)]
        g_real = batches[step] if engine.needs_real else None
        engine.step(step + 1, StepBatch([batches[step]], [told], g_real, told))
    return engine


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", [entry.name for entry in MODELS
                                   if entry.facts.takes == "class"])
def test_every_family_is_told_the_label(tmp_path: Path, root: Path, model: str, way: str) -> None:
    spec = conditional(tmp_path, way, f"base.model={{name: {model}, width: 8}}",
                       f"dataset.image_size={32 if model in ('resnet', 'biggan') else 16}")
    datasets.prepare_data(spec.dataset, root, root / "cache", lambda line: None)
    digits = datasets.load(spec.dataset, root, root / "cache", "cpu")
    engine = trained(spec, digits, 3)
    engine.generator.eval()
    engine.discriminator.eval()
    z, x = torch.randn(6, int(spec.model.args["latent_dim"])), digits.train.images[:6] / 127.5 - 1
    ones, twos = torch.full((6,), 1), torch.full((6,), 2)
    with torch.no_grad():
        made = engine.generator(with_condition(z, ones, 10))
        assert made.shape == x.shape
        assert made.abs().max() <= 1 or not MODELS[model].facts.bounded
        assert not torch.equal(made, engine.generator(with_condition(z, twos, 10)))
        logits = engine.discriminator(x, ones)
        assert logits.shape == (6,)
        assert not torch.equal(logits, engine.discriminator(x, twos))
    other = Engine(spec, "cpu")
    other.load(engine.state())
    again, on = (torch.cat([p.detach().flatten() for p in e.discriminator.parameters()])
                 for e in (other, engine))
    assert torch.equal(again, on)


def test_projection_is_the_plain_d_and_an_inner_product() -> None:
    """Miyato and Koyama 2018, equation 3: with no embedding, the unconditional D is left."""
    part = MODELS.parse({"name": "dcgan", "width": 8})
    d = build_networks(part, (1, 16, 16), 0, "projection", 10).discriminator.eval()
    plain = build_networks(part, (1, 16, 16), 0).discriminator.eval()
    plain.load_state_dict(dict(zip(
        plain.state_dict(), [v for k, v in d.state_dict().items() if "embedding" not in k],
        strict=True)))
    x, y = torch.randn(5, 1, 16, 16), torch.tensor([0, 1, 2, 3, 4])
    with torch.no_grad():
        pooled = d.features(x).sum((2, 3))  # type: ignore[operator]
        expected = plain(x) + (d.embedding.weight[y] * pooled).sum(1)  # type: ignore[index, union-attr]
        torch.testing.assert_close(d(x, y), expected)
        d.embedding.weight.zero_()  # type: ignore[union-attr, operator]
        torch.testing.assert_close(d(x, y), plain(x))


def test_g_learns_to_make_what_it_is_asked_for(tmp_path: Path, root: Path, digits: Dataset) -> None:
    """After 600 steps the embedded classifier finds most of the labels that were asked for."""
    from gan_bench.evaluation.views import extractors_of
    from gan_bench.registry import METRICS

    spec = conditional(tmp_path, "concat", "base.model={name: mlp, width: 32}",
                       "base.batch_size=64")
    engine = trained(spec, digits, 600)
    engine.generator.eval()
    labels = torch.arange(200) % 10
    with torch.no_grad():
        made = engine.generator(with_condition(torch.randn(200, 100), labels, 10))
    images = (made * 127.5 + 128).clamp(0, 255).to(torch.uint8)
    prepare_metrics(["class_kl"], digits, root / "cache", lambda line: None)
    classifier = extractors_of([METRICS["class_kl"]], digits, root / "cache",
                               lambda line: None)["classifier"]
    logits = classifier(images).logits
    assert logits is not None
    right = float((logits.argmax(1) == labels.numpy()).mean())
    assert 0.5 < right <= 1


def test_spectral_norm_lets_a_label_weigh_as_much_as_an_image(digits: Dataset) -> None:
    """Planes are bounded as the broadcast of a value for each class is: σ · side, and not σ."""
    from gan_bench.components.penalties import constrain
    from gan_bench.registry import PENALTIES

    assert digits.train.labels is not None
    images, labels = digits.train.images[:100] / 127.5 - 1, digits.train.labels[:100]
    for model in ("mlp", "dcgan"):
        part = MODELS.parse({"name": model, "width": 16} | (
            {"d_norm": "none"} if model == "dcgan" else {}))
        d = build_networks(part, (1, 16, 16), 0, "concat", 10).discriminator
        constrain(d, [PENALTIES.build(PENALTIES.parse("spectral_norm"))], 0)
        for _ in range(50):
            d(images, labels)
        d.eval()
        with torch.no_grad():
            bounds = {
                type(layer).__name__: float(torch.linalg.matrix_norm(layer.weight.flatten(1), 2))
                for layer in d.modules() if hasattr(layer, "parametrizations")}
            logits = torch.stack([d(images, torch.full((100,), label)) for label in range(10)])
        assert bounds.pop("ParametrizedEmbedding") == pytest.approx(16, rel=1e-3)
        assert [*bounds.values()] == pytest.approx([1] * len(bounds), rel=0.02)
        assert 0.5 < logits.std(0).mean() / logits.std(1).mean() < 8  # 0.1 to 0.24 with σ ≤ 1


@pytest.mark.parametrize("way", WAYS)
def test_a_run_is_measured_sampled_and_loaded(tmp_path: Path, way: str) -> None:
    spec = conditional(tmp_path, way, "base.ema=0.9", "base.penalties=[spectral_norm]")
    datasets.prepare_data(spec.dataset, tmp_path, tmp_path / "cache", lambda line: None)
    assert run_one(spec, tmp_path, tmp_path).status == "FINISHED"
    found, generator = load_generator(spec.folder(tmp_path))
    assert found.condition == way
    assert draw(found, generator, 20, 0).shape == (20, 1, 16, 16)


def test_labels_to_measure_by_come_as_often_as_in_the_data(tmp_path: Path, digits: Dataset) -> None:
    spec = conditional(tmp_path, "concat")
    known = digits.train.labels
    assert known is not None
    told = latents(spec, 20_000, known)[:, 100:]
    assert torch.equal(told.sum(1), torch.ones(20_000))
    torch.testing.assert_close(told.mean(0), known.bincount().float() / len(known), rtol=0,
                               atol=0.01)
    plain = latents(spec.model_copy(update={"condition": "none"}), 20_000, known)
    assert torch.equal(latents(spec, 20_000, known)[:, :100], plain)


def test_a_grid_goes_through_the_classes(tmp_path: Path, root: Path, digits: Dataset,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    from gan_bench.journal.writing import Journal
    from gan_bench.training import loop

    spec = conditional(tmp_path, "concat")
    asked: list[Tensor] = []
    engine = Engine(spec, "cpu")
    sample = engine.sample
    monkeypatch.setattr(engine, "sample", lambda z: asked.append(z) or sample(z))
    evaluator = Evaluator(spec, digits, root / "cache", "cpu")
    folder = spec.write(tmp_path)
    training = loop.Training(engine, digits, evaluator, [evaluator], Journal(folder))
    while training.step():
        pass
    labels = asked[0][:, 100:].argmax(1)
    assert labels.tolist() == sorted(labels.tolist())
    assert labels.bincount().tolist() == [7, 6, 7, 6, 6, 7, 6, 7, 6, 6]


@pytest.mark.parametrize(("overrides", "message"), [
    (["base.condition=projection", "dataset={name: gaussians}",
      "base.model={name: mlp_dropout}", "evaluate.metrics=[modes_covered]"],
     "projection needs labels, but this data set has none"),
    (["base.condition=concat", "base.share_fakes=true", "base.d_steps=2"], "set d_steps: 1"),
    (["base.condition=concat", "evaluate.metrics=[d_accuracy]"], "d_accuracy gives D images"),
    (["base.condition=concat", "base.share_fakes=true", "base.loss=relativistic_pairing"],
     "set share_fakes: false"),
    (["base.condition=label"], "'none', 'concat' or 'projection'"),
])
def test_what_cannot_be_is_refused(tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(SpecError) as error:
        load_experiment(write_experiment(tmp_path, HEAD), tmp_path, overrides)
    assert message in str(error.value)


def test_ids_of_unconditional_runs_are_what_they_were(tmp_path: Path) -> None:
    plain = a_run(tmp_path, "variants={}", text=HEAD)
    assert a_run(tmp_path, "variants={}", "base.condition=none", "base.penalties=[]",
                 "base.loss={name: non_saturating, label_smoothing: 0.0}", text=HEAD).id == plain.id
    ways = {conditional(tmp_path, way).id for way in WAYS}
    assert len(ways | {plain.id}) == 3


@pytest.mark.parametrize("way", ["none", "concat"])
def test_an_array_of_samples_says_which_class_each_is_of(tmp_path: Path, root: Path, way: str,
                                                         ) -> None:
    spec = conditional(tmp_path, way, "base.steps=1")
    prepare_metrics(spec.evaluate.metrics, datasets.load(spec.dataset, root, root / "cache", "cpu"),
            root / "cache", lambda line: None)
    run_one(spec, root, root)
    write_samples(Workspace(root), spec.id, tmp_path / "a.npz", 23, 0)
    with np.load(tmp_path / "a.npz") as arrays:
        assert set(arrays) == ({"images"} if way == "none" else {"images", "labels"})
        if way != "none":
            assert arrays["labels"].dtype == np.int64
            assert arrays["labels"].tolist() == [i % 10 for i in range(23)]
