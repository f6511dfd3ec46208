"""What latents are drawn from, wherever a generator is asked for samples."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.runs import a_run
from torch import Tensor, nn

from gan_bench import rng
from gan_bench.components import data as datasets
from gan_bench.components.latents import Latents, draw_latents
from gan_bench.evaluation.evaluator import latents as measured_latents
from gan_bench.training import loop
from gan_bench.training.loop import Training
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch
from gan_bench.training.trained import draw


def test_both_distributions_have_their_moments() -> None:
    moments: dict[Latents, tuple[float, float]] = {"normal": (1, 3), "uniform": (1 / 3, 1 / 5)}
    for distribution, (variance, fourth) in moments.items():
        drawn = draw_latents(distribution, 2000, 100, rng.generator(0, "x"))
        assert drawn.shape == (2000, 100)
        assert abs(drawn.mean()) < 0.01
        assert drawn.square().mean() == pytest.approx(variance, rel=0.02)
        assert drawn.pow(4).mean() == pytest.approx(fourth, rel=0.03)
    assert -1 <= drawn.min() < -0.999
    assert 0.999 < drawn.max() <= 1


@pytest.mark.parametrize("distribution", ["normal", "uniform"])
def test_a_run_draws_all_its_latents_from_its_distribution(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distribution: Latents) -> None:
    spec = a_run(tmp_path, f"base.latents={distribution}")

    def expected(count: int, draws: torch.Generator) -> Tensor:
        if distribution == "normal":
            return torch.randn(count, 100, generator=draws)
        return 2 * torch.rand(count, 100, generator=draws) - 1

    given: list[Tensor] = []

    class Noting(nn.Module):
        def forward(self, latents: Tensor) -> Tensor:
            given.append(latents)
            return latents

    draw(spec, Noting(), 7, 3)
    assert torch.equal(given.pop(), expected(7, rng.generator(3, "sample")))
    assert torch.equal(measured_latents(spec, 9, None),
                       expected(9, rng.generator(spec.seed, "evaluation")))
    engine = Engine(spec, "cpu")
    engine.generator.register_forward_pre_hook(lambda network, args: given.append(args[0]))
    engine.step(4, StepBatch([torch.zeros(32, 1, 16, 16)]))
    draws = rng.generator(spec.seed, "latents", 4)
    of_d, of_g = given  # D is first; its latents are drawn after those of G
    assert torch.equal(of_g, expected(32, draws))
    assert torch.equal(of_d, expected(32, draws))
    datasets.prepare_data(spec.dataset, tmp_path, tmp_path, lambda line: None)
    data = datasets.load(spec.dataset, tmp_path, tmp_path, "cpu")
    given.clear()
    monkeypatch.setattr(loop.Training, "_sample", lambda self, step: given.append(self._latents))
    Training(engine, data, lambda g, d: {}, [], None)  # type: ignore[arg-type]
    assert torch.equal(given.pop(), expected(64, rng.generator(spec.seed, "grid")))
