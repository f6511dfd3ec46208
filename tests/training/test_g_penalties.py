"""Terms of G's loss in the step: what G minimises, when, and what a checkpoint holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.float64 import in_float64  # noqa: F401
from helpers.runs import a_run
from torch import Tensor

from gan_bench.components.regularisers import overlap
from gan_bench.config.spec import RunSpec
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

STYLE = ("base.model={name: stylegan2, width: 8, latent_dim: 8, mapping_layers: 2, group: null, "
         "noise: constant}")


def reals(step: int) -> Tensor:
    draws = torch.Generator().manual_seed(step)
    return torch.rand(32, 1, 16, 16, generator=draws, dtype=torch.float32).to(
        torch.get_default_dtype()) * 2 - 1


def g_gradient(spec: RunSpec) -> tuple[Tensor, dict[str, Tensor]]:
    """G's gradient in the first step, and what is logged."""
    engine = Engine(spec, "cpu")
    seen = engine.step(1, StepBatch([reals(1)]), True)
    grads = [torch.zeros_like(p) if p.grad is None else p.grad
             for p in engine.generator.parameters()]
    return torch.cat([grad.flatten() for grad in grads]), seen


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("more", [[], ["base.joint_weight=0.5"], ["base.order=g_first"]])
def test_g_minimises_the_logged_loss_and_penalty(tmp_path: Path, more: list[str]) -> None:
    """Whatever divides D's terms."""
    given = ["variants={}", "base.d_loss_reduction=mean", *more]
    plain, _ = g_gradient(a_run(tmp_path, *given))
    spec = a_run(tmp_path, *given, "base.penalties=[{name: orthogonal_g, weight: 0.1}]")
    both, seen = g_gradient(spec)
    generator = Engine(spec, "cpu").generator
    (0.05 * overlap(generator)).backward()
    term = torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten()
                      for p in generator.parameters()])
    assert float(term.norm()) > 0.01 * float(plain.norm())
    torch.testing.assert_close(both, plain + term, rtol=1e-10, atol=1e-12)
    assert seen["train/g_penalty"].item() == pytest.approx(0.05 * overlap(generator).item())
    assert "train/d_penalty" not in seen


def test_a_lazy_term_comes_seldom_and_is_as_much_larger(tmp_path: Path) -> None:
    def logged(every: int) -> dict[int, float]:
        spec = a_run(tmp_path, "variants={}", "base.penalties=[{name: orthogonal_g, weight: 1e-9, "
                                              f"every: {every}}}]")
        engine = Engine(spec, "cpu")
        seen = {step: engine.step(step, StepBatch([reals(step)]), True) for step in range(1, 7)}
        return {step: one["train/g_penalty"].item() for step, one in seen.items()
                if "train/g_penalty" in one}

    always, lazy = logged(1), logged(3)  # so weak that training is the same
    assert ([*always], [*lazy]) == ([*range(1, 7)], [3, 6])
    assert lazy[3] == pytest.approx(3 * always[3], rel=1e-5)


def test_the_terms_of_both_networks_add_up_to_their_own(tmp_path: Path) -> None:
    spec = a_run(tmp_path, "variants={}", "base.d_loss_reduction=sum",
                 "base.penalties=[r1, orthogonal_d, orthogonal_g]")
    engine = Engine(spec, "cpu")
    expected = 5e-5 * overlap(engine.discriminator).item()
    r1 = Engine(a_run(tmp_path, "variants={}", "base.d_loss_reduction=sum", "base.penalties=[r1]"),
                "cpu").step(1, StepBatch([reals(1)]), True)["train/d_penalty"].item()
    seen = engine.step(1, StepBatch([reals(1)]), True)
    assert seen["train/d_penalty"].item() == pytest.approx(r1 + expected, rel=1e-5)
    assert expected > 1e-4 * r1


def test_the_mean_of_lengths_is_in_the_checkpoint(tmp_path: Path) -> None:
    """It moves at the steps of the penalty alone, whatever comes before it in the list."""
    means = []
    for others in ("", "dragan, {name: orthogonal_g, weight: 1e-9}, "):
        spec = a_run(tmp_path, STYLE, f"base.penalties=[{others}{{name: path_length, every: 2}}]",
                     "base.g_optimizer.lr=1e-12")
        engine, seen = Engine(spec, "cpu"), []
        for step in range(1, 5):
            engine.step(step, StepBatch([reals(step)]), True)
            seen.append(engine.state()["g_penalties"]["path_length"])
        assert 0 == seen[0] < seen[1] == seen[2] < seen[3]
        means.append(seen)
        resumed = Engine(spec, "cpu")
        resumed.load(engine.state())
        assert resumed.state()["g_penalties"]["path_length"] == seen[3]
    assert means[0] == pytest.approx(means[1], rel=1e-5)


def test_the_noise_depends_on_seed_and_step(tmp_path: Path) -> None:
    def state(seed: int, step: int) -> bytes:
        spec = a_run(tmp_path, STYLE, "base.penalties=[path_length]", f"seeds=[{seed}]")
        engine = Engine(spec, "cpu")
        engine.begin(step)
        noise = engine.generators[-1].get_state()
        assert not torch.equal(noise, engine.generators[0].get_state())  # of the latents
        return noise.numpy().tobytes()

    assert state(0, 1) == state(0, 1)
    assert len({state(0, 1), state(0, 2), state(1, 1)}) == 3


def test_of_another_run_is_refused(tmp_path: Path) -> None:
    plain = Engine(a_run(tmp_path, STYLE), "cpu")
    with pytest.raises(ValueError, match="not the state of an engine: "):
        Engine(a_run(tmp_path, STYLE, "base.penalties=[path_length]"), "cpu").load(plain.state())


def test_path_length_is_float32_under_bfloat16(tmp_path: Path) -> None:
    spec = a_run(tmp_path, STYLE, "base.penalties=[path_length]")
    first = [Engine(spec, "cpu", precision).step(1, StepBatch([reals(1)]), True)["train/g_penalty"]
             for precision in ("float32", "bfloat16")]
    assert first[0].item() == pytest.approx(first[1].item(), rel=1e-6)
    losses = [Engine(spec, "cpu", precision).step(1, StepBatch([reals(1)]), True)["train/g_loss"]
              for precision in ("float32", "bfloat16")]
    assert losses[0] != losses[1]


def test_without_such_a_term_a_checkpoint_holds_nothing_of_it(tmp_path: Path) -> None:
    engine = Engine(a_run(tmp_path, "variants={}", "base.penalties=[r1]"), "cpu")
    assert "g_penalties" not in engine.state()
    assert "train/g_penalty" not in engine.step(1, StepBatch([reals(1)]), True)
