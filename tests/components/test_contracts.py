"""What every entry of the registries keeps, alone and with the others: new ones without a new test.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import write_experiment
from PIL import Image
from torch import Tensor

from gan_bench.components.data.gaussians import gaussians
from gan_bench.components.models import Networks, make_networks
from gan_bench.components.penalties import Penalty
from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import RunSpec
from gan_bench.errors import SpecError
from gan_bench.registry import LOSSES, MODELS, PENALTIES, Entry, ModelFacts, PenaltyFacts
from gan_bench.training.contract.base import (
    BATCH,
    advance,
    bits,
    build_for,
    engine_of,
    g_inputs,
    logits_of,
)
from gan_bench.training.contract.networks import resume_problem
from gan_bench.training.loop import Batches
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

ModelEntry = Entry[Any, ModelFacts]
SHAPES = [(channels, side, side) for side in (8, 14, 16, 28, 32, 64) for channels in (1, 3)]
SMALL = {"width": 4, "latent_dim": 20, "mapping_layers": 2}
OF_IMAGES = {"width": 4, "d_width": 4, "d_layers": 1}  # of a model that takes images
PICTURES = """\
name: tiny
dataset: {dataset}
seeds: [0]
base: {{model: {model}, condition: {condition}, batch_size: 4, steps: 4, ema: 0.9}}
evaluate: {{samples: 2, metrics: []}}
compute: {{device: cpu}}
"""
POINTS = """\
name: tiny
dataset: {{name: gaussians, samples: 2000}}
seeds: [0]
base:
  model: {{name: mlp_dropout, width: 16, latent_dim: 8, dropout: 0.0}}
  loss: {loss}
  penalties: {penalties}
  batch_size: 64
  steps: 50
compute: {{device: cpu}}
"""


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As runs have it: with more, sums may be added up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twenty images of random colours."""
    folder = tmp_path_factory.mktemp("pictures")
    draws = torch.Generator().manual_seed(0)
    for i in range(20):
        pixels = torch.randint(256, (64, 64, 3), dtype=torch.uint8, generator=draws)
        Image.fromarray(pixels.numpy()).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="module")
def ring(tmp_path_factory: pytest.TempPathFactory) -> Tensor:
    return torch.from_numpy(gaussians(tmp_path_factory.mktemp("ring"), print,
                                      samples=2000).train.images)


def small(entry: ModelEntry, **given: object) -> dict[str, Any]:
    """The arguments of a small network of this family, as far as it takes them."""
    of_kind = OF_IMAGES if entry.facts.takes == "image" else SMALL
    wanted: dict[str, Any] = {**of_kind, **given}
    return {"name": entry.name} | {key: value for key, value in wanted.items()
                                   if key in entry.schema.model_fields}


def refuses(entry: ModelEntry, shape: tuple[int, ...]) -> str | None:
    part = MODELS.parse(small(entry))
    return entry.facts.refuses(shape, **part.args)


def declares(entry: ModelEntry, fact: str, **given: object) -> bool:
    """Whether D is declared to have this property."""
    part = MODELS.parse(small(entry, **given))
    return bool(getattr(entry.facts, fact)(**part.args))


def a_shape(entry: ModelEntry) -> tuple[int, ...]:
    """A shape that the model makes: 32 pixels if it can, where each has all its kinds of layers."""
    return next(shape for shape in [(3, 32, 32), *SHAPES] if refuses(entry, shape) is None)


def plan(folder: Path, model: dict[str, Any], shape: tuple[int, ...], *overrides: str) -> RunSpec:
    """Return the run of an experiment on images of this shape."""
    dataset = {"name": "image_folder", "path": ".", "image_size": shape[1], "channels": shape[0]}
    condition = "none"
    if MODELS[model["name"]].facts.takes == "image":
        dataset, condition = {"name": "pairs", "of": dataset, "input": "inverted"}, "concat"
    text = PICTURES.format(model=model, dataset=dataset, condition=condition)
    return load_experiment(write_experiment(folder, text), folder, list(overrides)).runs[0]


def models(legal: bool) -> list[Any]:
    return [pytest.param(entry, shape, id=f"{entry.name}-{shape[0]}x{shape[1]}")
            for entry in MODELS for shape in SHAPES if (refuses(entry, shape) is None) == legal]


ENTRIES = [pytest.param(entry, id=entry.name) for entry in MODELS]


@pytest.mark.parametrize(("entry", "shape"), models(legal=True))
def test_a_model_builds_trains_samples_and_resumes_to_the_bit(
        pictures: Path, entry: ModelEntry, shape: tuple[int, ...]) -> None:
    spec = plan(pictures, small(entry), shape)
    assert spec.data.shape == shape
    with torch.device("meta"):
        planned = make_networks(spec.model, shape, spec.condition, 0, spec.data.input)
        made = planned.generator(g_inputs(spec.model, shape).to("meta"))
        assert made.shape == (BATCH, *shape)
        of_meta = logits_of(planned, spec.model, made)

    engine = engine_of(spec)
    before = bits(engine)
    seen = advance(engine, range(1, 3))
    assert all(bool(value.isfinite()) for one in seen for value in one.values())
    samples = engine.sample(g_inputs(spec.model, shape))
    assert samples.shape == (BATCH, *shape)
    if entry.facts.bounded:
        assert samples.abs().max() <= 1
    assert samples.std() > 0
    assert int(engine.first_bad) == 0
    moved = {name.split(".")[1] for (name, a), (_, b) in zip(before, bits(engine), strict=False)
             if a != b}
    assert {"generator", "discriminator", "ema"} <= moved

    assert resume_problem(spec) is None
    networks = Networks(engine.generator, engine.discriminator)
    logits = logits_of(networks, spec.model, samples)  # at last, for batch norm remembers it
    assert logits.shape == of_meta.shape
    assert logits.shape[1:] == () or entry.facts.takes == "image"
    assert logits.isfinite().all()


@pytest.mark.parametrize(("entry", "shape"), models(legal=False))
def test_a_size_that_a_model_cannot_make_is_refused_with_the_reason(
        pictures: Path, entry: ModelEntry, shape: tuple[int, ...]) -> None:
    with pytest.raises(SpecError) as error:
        plan(pictures, small(entry), shape)
    reason = refuses(entry, shape)
    assert reason
    assert "tiny.yaml:4:" in str(error.value)
    assert f"{entry.name} cannot make {shape[0]}×{shape[1]}×{shape[1]} images: {reason}" \
        in str(error.value)


@pytest.mark.parametrize("entry", ENTRIES)
def test_every_weight_is_drawn(entry: ModelEntry, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left as it was in memory would be NaN here."""
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        networks = build_for(MODELS.parse(small(entry)), a_shape(entry))
    finally:
        torch.use_deterministic_algorithms(False)
    for network in (networks.generator, networks.discriminator):
        assert all(value.isfinite().all() for value in network.state_dict().values())


@pytest.mark.parametrize("penalty", [pytest.param(entry, id=entry.name) for entry in PENALTIES])
@pytest.mark.parametrize("entry", ENTRIES)
def test_a_model_carries_every_penalty_that_it_does_not_refuse(
        pictures: Path, entry: ModelEntry, penalty: Entry[Penalty, PenaltyFacts]) -> None:
    override = f"base.penalties=[{penalty.name}]"
    given: dict[str, object] = {}
    for fact, of_penalty, message, cure in (
            ("mixes", "on_examples", "needs a D that judges every example", {"d_norm": "none"}),
            ("zeros", "divides", "divides weights by their norm", {"init": "default"})):
        if declares(entry, fact) and getattr(penalty.facts, of_penalty) and not (
                fact == "mixes" and declares(entry, "group")):
            with pytest.raises(SpecError, match=f"penalties: {penalty.name} {message}"):
                plan(pictures, small(entry), a_shape(entry), override)
            given = cure
    if declares(entry, "scaled") and penalty.facts.divides:
        with pytest.raises(SpecError, match=f"{penalty.name} cannot divide the weights of the D"):
            plan(pictures, small(entry), a_shape(entry), override)
        return
    if penalty.facts.needs_targets and entry.facts.takes != "image":
        with pytest.raises(SpecError, match=f"{penalty.name} compares images with the targets"):
            plan(pictures, small(entry, **given), a_shape(entry), override)
        return
    if penalty.facts.needs_styles and not entry.facts.styles:
        with pytest.raises(SpecError, match=f"{penalty.name} needs a G with styles w"):
            plan(pictures, small(entry, **given), a_shape(entry), override)
        return
    engine = Engine(plan(pictures, small(entry, **given), a_shape(entry), override), "cpu")
    for seen in advance(engine, range(1, 3)):
        assert all(bool(value.isfinite()) for value in seen.values())
        assert ("train/d_penalty" in seen) == penalty.facts.term
        assert ("train/g_penalty" in seen) == penalty.facts.g_term
    assert int(engine.first_bad) == 0


@pytest.mark.parametrize("d_norm", ["batch", "none"])
@pytest.mark.parametrize("entry", ENTRIES)
def test_a_discriminator_mixes_examples_if_it_says_so(entry: ModelEntry, d_norm: str) -> None:
    """In double precision, where only another sum, and not its rounding, is of any size."""
    # Dropout would draw for the whole batch at once, and groups depend on the order.
    given = {"d_norm": d_norm, "dropout": 0.0, "group": 6 if d_norm == "batch" else None}
    part = MODELS.parse(small(entry, **given))
    networks = build_for(part, a_shape(entry))
    discriminator = networks.discriminator.double()
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in discriminator.parameters():  # blocks may begin as nothing
            parameter += 0.1 * torch.randn(parameter.shape, generator=draws)
        x = torch.rand((6, *a_shape(entry)), generator=draws).double() * 2 - 1
        before = copy.deepcopy(discriminator.state_dict())

        inputs = -x if entry.facts.takes == "image" else None

        def judged(examples: Tensor, of: Tensor) -> Tensor:
            discriminator.load_state_dict(before)  # a power iteration goes on
            if inputs is None:
                logits: Tensor = discriminator(examples)
                return logits
            of_pairs: Tensor = discriminator(examples, inputs[of])
            return of_pairs

        of, order = torch.arange(6), torch.tensor([4, 2, 0, 5, 3, 1])
        logits = judged(x, of)
        torch.testing.assert_close(judged(x[order], order), logits[order], rtol=1e-10, atol=1e-10)
        alone = (judged(x[:3], of[:3]) - logits[:3]).abs().max().item()
    assert logits.std().item() > 1e-3
    if declares(entry, "mixes", **given):
        assert alone > 1e-4
    else:
        assert alone < 1e-10 * logits.abs().max().item()


def test_what_families_say_of_their_discriminators() -> None:
    for name in ("resnet", "r3", "biggan"):
        assert not declares(MODELS[name], "mixes")
    assert declares(MODELS["dcgan"], "mixes")
    assert declares(MODELS["r3"], "zeros")
    assert not declares(MODELS["r3"], "zeros", init="normal")
    assert not declares(MODELS["resnet"], "zeros")


@pytest.mark.parametrize("penalties", ["[]", *(f"[{entry.name}]" for entry in PENALTIES
                                               if not (entry.facts.needs_styles
                                                        or entry.facts.needs_targets))])
@pytest.mark.parametrize("loss", LOSSES.names())
def test_a_loss_trains_with_every_penalty(tmp_path: Path, ring: Tensor, loss: str,
                                          penalties: str) -> None:
    text = POINTS.format(loss=loss, penalties=penalties)
    spec = load_experiment(write_experiment(tmp_path, text), tmp_path).runs[0]
    engine = Engine(spec, "cpu")
    before = bits(engine)
    batches = Batches(ring, spec.batch_size, spec.seed)
    g_batches = Batches(ring, spec.batch_size, spec.seed, "data/generator")
    for step in range(1, spec.steps + 1):
        g_real = g_batches[step - 1] if engine.needs_real else None
        seen = engine.step(step, StepBatch([batches[step - 1]], g_real=g_real), True)
        assert all(bool(value.isfinite()) for value in seen.values()), (step, seen)
    assert int(engine.first_bad) == 0
    for network in (engine.generator, engine.discriminator):
        assert all(value.isfinite().all() for value in network.state_dict().values())
    assert engine.sample(torch.randn(5, 8)).isfinite().all()
    assert bits(engine) != before
