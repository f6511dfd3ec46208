"""The statistics of a weight average: where they come from, and that they disturb nothing."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from helpers.runs import a_run
from torch import Tensor, nn

from gan_bench import rng
from gan_bench.components import data as datasets
from gan_bench.components.models import with_condition
from gan_bench.config.spec import RunSpec
from gan_bench.evaluation.evaluator import Evaluator
from gan_bench.evaluation.measurement import Wanted
from gan_bench.journal import reading
from gan_bench.journal.drift import NUMERICS
from gan_bench.journal.layout import WEIGHTS, Workspace
from gan_bench.training.run import run_one
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch
from gan_bench.training.trained import load_generator
from gan_bench.training.trained_scores import measure_run

AVERAGED = "variants={}", "base.ema=0.9", "evaluate.metrics=[nearest_train_mse]"


def advance(engine: Engine, steps: range) -> list[dict[str, float]]:
    seen = []
    for step in steps:
        draws = torch.Generator().manual_seed(step)
        real = torch.rand(32, 1, 16, 16, generator=draws) * 2 - 1
        values = engine.step(step, StepBatch([real]), observe=True)
        seen.append({name: float(value) for name, value in values.items()})
    return seen


def norms_of(network: nn.Module) -> list[nn.BatchNorm1d]:
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm1d)]


def check_statistics(generator: nn.Module, drawn: Tensor) -> None:
    """Assert that the running statistics are the means of those of 16 batches of latents."""
    twin = copy.deepcopy(generator).train()
    inputs: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms_of(twin)}
    for norm in inputs:
        norm.register_forward_pre_hook(
            lambda norm, received: inputs[norm].append(received[0].double()))
    with torch.no_grad():
        for batch in torch.split(drawn, 32):
            twin(batch)
    assert len(inputs) == 3
    for norm, (_, activations) in zip(norms_of(generator), inputs.items(), strict=True):
        assert len(activations) == 16
        mean = torch.stack([batch.mean(0) for batch in activations]).mean(0)
        variance = torch.stack([batch.var(0) for batch in activations]).mean(0)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(norm.running_var.double(), variance, rtol=1e-4, atol=1e-5)
        assert norm.momentum == 0.1


def fixed_latents(spec: RunSpec, labels: Tensor | None = None) -> Tensor:
    drawn = torch.randn(16 * 32, 100, generator=rng.generator(spec.seed, "ema/statistics"))
    if labels is None:
        return drawn
    chosen = torch.randint(len(labels), (16 * 32,),
                           generator=rng.generator(spec.seed, "ema/statistics, labels"))
    return with_condition(drawn, labels[chosen], 10)


def test_estimated_statistics_are_those_of_the_average_itself(tmp_path: Path) -> None:
    spec = a_run(tmp_path, "base.ema=0.9")
    engine = Engine(spec, "cpu")
    advance(engine, range(1, 6))
    check_statistics(engine.measured, fixed_latents(spec))
    advance(engine, range(6, 7))
    check_statistics(engine.measured, fixed_latents(spec))
    copied = Engine(a_run(tmp_path, "base.ema=0.9", "base.ema_statistics=copied"), "cpu")
    advance(copied, range(1, 7))
    with pytest.raises(AssertionError, match="not close"):
        check_statistics(copied.measured, fixed_latents(spec))


def test_estimating_disturbs_nothing(tmp_path: Path) -> None:
    """Measured after each step or only at last: the same losses, networks and random numbers."""
    spec = a_run(tmp_path, "base.ema=0.9")
    often, once = Engine(spec, "cpu"), Engine(spec, "cpu")
    for step in range(1, 7):
        torch.manual_seed(step)
        before = torch.get_rng_state()
        assert often.measured.training
        assert torch.equal(before, torch.get_rng_state())
        assert advance(often, range(step, step + 1)) == advance(once, range(step, step + 1))
    for ours, theirs in ((often.generator, once.generator), (often.measured, once.measured),
                         (often.discriminator, once.discriminator)):
        for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
            assert torch.equal(a, b)


def test_a_checkpoint_holds_the_statistics_and_goes_on_to_the_bit(tmp_path: Path) -> None:
    spec = a_run(tmp_path, "base.ema=0.9")
    whole, begun, resumed = (Engine(spec, "cpu") for _ in range(3))
    advance(whole, range(1, 6))
    advance(begun, range(1, 4))
    state = copy.deepcopy(begun.state())
    resumed.load(state)
    for name, tensor in begun.measured.state_dict().items():
        assert torch.equal(tensor, state["ema"][name])
        assert torch.equal(tensor, resumed.measured.state_dict()[name])
    advance(resumed, range(4, 6))
    for name, tensor in whole.measured.state_dict().items():
        assert torch.equal(tensor, resumed.measured.state_dict()[name])


@pytest.mark.parametrize("condition", ["none", "projection"])
def test_the_final_weights_have_the_statistics_that_were_measured(tmp_path: Path, condition: str,
                                                                  ) -> None:
    spec = a_run(tmp_path, *AVERAGED, f"base.condition={condition}")
    cache = Workspace(tmp_path).cache
    datasets.prepare_data(spec.dataset, tmp_path, cache)
    assert run_one(spec, tmp_path, tmp_path).status == "FINISHED"
    folder = spec.folder(tmp_path)
    assert (folder / WEIGHTS).exists()
    _, generator = load_generator(folder)
    data = datasets.load(spec.dataset, tmp_path, cache, "cpu")
    labels = data.train.labels if condition != "none" else None
    check_statistics(generator, fixed_latents(spec, labels))
    records, _ = reading.read_records(folder)
    scores = [record["values"]["eval/nearest_train_mse"] for record in records
              if "eval/nearest_train_mse" in record.get("values", {})]
    again = Evaluator(spec, data, cache, "cpu")(generator, nn.Flatten())
    assert scores[-1] == again["eval/nearest_train_mse"]


def test_a_run_from_before_the_choice_is_measured_as_its_journal_says(tmp_path: Path) -> None:
    """Its final weights have copied statistics, and its protocol does not say so."""
    spec = a_run(tmp_path, *AVERAGED)
    datasets.prepare_data(spec.dataset, tmp_path, Workspace(tmp_path).cache)
    run_one(spec, tmp_path, tmp_path)
    folder = spec.folder(tmp_path)

    def protocol() -> dict[str, object]:
        report = measure_run(folder, WEIGHTS, Wanted(), Workspace(tmp_path), lambda line: None)
        return dict(report.protocols["nearest_train_mse"])

    assert protocol()["ema_statistics"] == "estimated"
    journal = folder / reading.FILE
    journal.write_text(journal.read_text().replace(f'"numerics": {NUMERICS}', '"numerics": 3', 1))
    assert "ema_statistics" not in protocol()
    assert protocol()["generator"] == "ema"


def test_an_average_begins_as_a_copy_that_follows_to_the_bit(tmp_path: Path) -> None:
    """Until `ema_start`; then it is a mean, and with a half-life from the second step on."""
    for settings, first in ((["base.ema=0.9", "base.ema_ramp=null", "base.ema_start=4"], 4),
                            (["base.ema={half_life: 100}"], 2)):
        engine = Engine(a_run(tmp_path, "variants={}", "base.model.name=dcgan",
                              "base.model.width=4", "base.ema_statistics=averaged", *settings),
                        "cpu")
        for step in range(1, 6):
            assert engine.graph_key(step) == (step < first,)
            advance(engine, range(step, step + 1))
            ema = engine.ema
            assert ema is not None
            state = engine.generator.state_dict()
            assert all(torch.equal(value, state[name])
                       for name, value in ema.state_dict().items()) is (step < first)


def test_the_vectors_of_spectral_norm_are_averaged_with_the_statistics(tmp_path: Path) -> None:
    spec = a_run(tmp_path, "variants={}", "base.model={name: biggan, width: 4, latent_dim: 8, "
                 "attention: null}", "dataset.image_size=32", "base.ema=0.5", "base.ema_ramp=null",
                 "base.ema_statistics=averaged", "base.steps=20",
                 "evaluate.metrics=[nearest_train_mse]")
    engine = Engine(spec, "cpu")
    before = {name: value.clone() for name, value in engine.generator.state_dict().items()}
    engine.step(1, StepBatch([torch.rand(32, 1, 32, 32) * 2 - 1]))
    assert engine.ema is not None
    moved = [name for name in before if name.endswith(".u")]
    assert len(moved) > 5
    for name in moved:
        mean = (before[name] + engine.generator.state_dict()[name]) / 2
        torch.testing.assert_close(engine.ema.state_dict()[name], mean)
