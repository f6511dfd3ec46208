"""The step, against the plain loop that a textbook would write."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.runs import a_run
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from gan_bench import rng
from gan_bench.components.models import build_networks
from gan_bench.components.optimizers import rate
from gan_bench.registry import LOSSES, OPTIMIZERS, PENALTIES
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

STEPS = 5


def batches(step: int, count: int) -> list[Tensor]:
    draws = torch.Generator().manual_seed(step)
    return [torch.rand(32, 1, 16, 16, generator=draws) * 2 - 1 for _ in range(count)]


def plain_loop(seed: int, saturating: bool, d_first: bool, share: bool, reduce: float,
               d_steps: int) -> tuple[list[float], list[float], Tensor]:
    """Train with sigmoid cross-entropy, two Adams and nothing else; return losses and weights."""
    from gan_bench.registry import MODELS

    networks = build_networks(MODELS.parse({"name": "mlp", "width": 16}), (1, 16, 16), seed)
    g, d = networks.generator, networks.discriminator
    g_adam, d_adam = (torch.optim.Adam(n.parameters(), 2e-4, (0.5, 0.999)) for n in (g, d))
    ones, zeros = torch.ones(32), torch.zeros(32)
    d_losses, g_losses = [], []
    for step in range(1, STEPS + 1):
        draws = rng.generator(seed, "latents", step)
        latents = torch.randn(32, 100, generator=draws)
        shared = g(latents) if share else None

        def update_g(latents: Tensor, shared: Tensor | None) -> Tensor:
            fake = g(latents) if shared is None else shared
            logits = d(fake)
            loss = -bce(logits, zeros) if saturating else bce(logits, ones)
            g_adam.zero_grad()
            loss.backward()
            g_adam.step()
            g_losses.append(loss.item())
            return fake

        if not d_first:
            shared = update_g(latents, shared)
        for real in batches(step, d_steps):
            fake = shared if share else g(torch.randn(32, 100, generator=draws))
            loss = (bce(d(real), ones) + bce(d(fake.detach()), zeros)) * reduce
            d_adam.zero_grad()
            loss.backward()
            d_adam.step()
        d_losses.append(loss.item())
        if d_first:
            update_g(latents, shared)
    return d_losses, g_losses, torch.cat([p.detach().flatten() for p in g.parameters()])


@pytest.mark.parametrize(("overrides", "saturating", "d_first", "share", "reduce", "d_steps"), [
    ([], False, True, False, 0.5, 1),
    (["base.loss=saturating"], True, True, False, 0.5, 1),
    (["base.order=g_first", "base.share_fakes=true"], False, False, True, 0.5, 1),
    (["base.order=g_first"], False, False, False, 0.5, 1),
    (["base.share_fakes=true"], False, True, True, 0.5, 1),
    (["base.d_loss_reduction=sum"], False, True, False, 1.0, 1),
    (["base.d_steps=3"], False, True, False, 0.5, 3),
])
def test_step_is_the_plain_loop(tmp_path: Path, overrides: list[str], saturating: bool,
                                d_first: bool, share: bool, reduce: float, d_steps: int) -> None:
    spec = a_run(tmp_path, "variants={}", *overrides)
    engine = Engine(spec, "cpu")
    seen = [engine.step(step, StepBatch(batches(step, d_steps)), observe=True)
            for step in range(1, STEPS + 1)]
    d_losses, g_losses, weights = plain_loop(spec.seed, saturating, d_first, share, reduce, d_steps)
    assert [float(s["train/d_loss"]) for s in seen] == pytest.approx(d_losses, rel=1e-5)
    assert [float(s["train/g_loss"]) for s in seen] == pytest.approx(g_losses, rel=1e-5)
    ours = torch.cat([p.detach().flatten() for p in engine.generator.parameters()])
    # Adam divides by the root of a gradient's square: where that is near 0, the last bit decides.
    assert (ours - weights).abs().max() < STEPS * 2e-4 * 2
    assert (ours - weights).abs().mean() < 1e-7


def test_observing_changes_nothing(tmp_path: Path) -> None:
    spec = a_run(tmp_path)
    silent, watched = Engine(spec, "cpu"), Engine(spec, "cpu")
    for step in range(1, STEPS + 1):
        assert silent.step(step, StepBatch(batches(step, 1))) == {}
        watched.step(step, StepBatch(batches(step, 1)), observe=True)
    assert weights_of(silent) == weights_of(watched)


def test_observed_values_are_what_they_are_called(tmp_path: Path) -> None:
    engine = Engine(a_run(tmp_path, "base.d_optimizer={lr: 1e-30}", "base.g_optimizer={lr: 1e-30}"),
                    "cpu")
    real = batches(1, 1)[0]
    seen = {k: float(v) for k, v in engine.step(1, StepBatch([real]), observe=True).items()}
    logits = engine.discriminator(real).detach()  # its weights have not moved
    assert seen["train/d_real"] == pytest.approx(float(logits.sigmoid().mean()), rel=1e-5)
    assert seen["train/d_loss_real"] == pytest.approx(float(bce(logits, torch.ones(32))), rel=1e-5)
    assert seen["train/d_accuracy_real"] == pytest.approx(float((logits > 0).float().mean()))
    assert seen["train/d_loss"] == pytest.approx(
        (seen["train/d_loss_real"] + seen["train/d_loss_fake"]) / 2, rel=1e-6)
    for name, network in (("g", engine.generator), ("d", engine.discriminator)):
        squares = sum(float((p.grad**2).sum()) for p in network.parameters() if p.grad is not None)
        assert seen[f"train/{name}_grad_norm"] == pytest.approx(squares**0.5, rel=1e-5)


def d_gradient(folder: Path, *overrides: str) -> tuple[Tensor, dict[str, float]]:
    """Return D's gradient at the first step, in float64, and what is logged of the step."""
    torch.set_default_dtype(torch.float64)
    try:
        engine = Engine(a_run(folder, "variants={}", *overrides), "cpu")
        seen = engine.step(1, StepBatch(batches(1, 1), g_real=batches(2, 1)[0]), observe=True)
    finally:
        torch.set_default_dtype(torch.float32)
    grads = [p.grad.flatten() for p in engine.discriminator.parameters() if p.grad is not None]
    return torch.cat(grads), {name: float(value) for name, value in seen.items()}


@pytest.mark.parametrize("penalty", [entry.name for entry in PENALTIES
                                     if not (entry.facts.needs_styles
                                             or entry.facts.needs_targets)])
@pytest.mark.parametrize("loss", LOSSES.names())
def test_the_mean_is_the_published_sum_divided_by_its_terms(tmp_path: Path, loss: str,
                                                            penalty: str) -> None:
    """So the gradients under mean and sum have one direction: a weight means the same in both."""
    chosen = [f"base.loss={loss}", f"base.penalties=[{penalty}]"]
    mean, of_mean = d_gradient(tmp_path, *chosen, "base.d_loss_reduction=mean")
    total, of_sum = d_gradient(tmp_path, *chosen, "base.d_loss_reduction=sum")
    terms = 1 if LOSSES[loss].facts.one_term else 2
    assert total.norm() > 0
    assert (mean * terms - total).norm() <= 1e-12 * total.norm()
    logged = {"train/d_loss"} | ({"train/d_penalty"} if PENALTIES[penalty].facts.term else set())
    for name in logged:
        assert of_mean[name] * terms == pytest.approx(of_sum[name], rel=1e-12)


@pytest.mark.parametrize(("reduction", "divisor"), [("mean", 2), ("sum", 1)])
def test_d_minimises_the_logged_loss_and_penalty(tmp_path: Path, reduction: str,
                                                 divisor: int) -> None:
    """Against WGAN with R1, as published and written out."""
    chosen = ["base.loss=wgan", "base.penalties=[{name: r1, gamma: 3.0}]",
              f"base.d_loss_reduction={reduction}"]
    gradient, seen = d_gradient(tmp_path, *chosen)
    torch.set_default_dtype(torch.float64)
    try:
        spec = a_run(tmp_path, "variants={}", *chosen)
        networks = build_networks(spec.model, spec.data.shape, spec.seed)
        draws = rng.generator(spec.seed, "latents", 1)
        _, for_d = (torch.randn(32, 100, generator=draws) for _ in range(2))
        real = batches(1, 1)[0].requires_grad_(True)
        with torch.no_grad():
            fake = networks.generator(for_d)
        logits = networks.discriminator(real)
        loss = networks.discriminator(fake).mean() - logits.mean()
        (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
        penalty = 3.0 / 2 * slope.flatten(1).square().sum(1).mean()
        ((loss + penalty) / divisor).backward()
        parameters = [p for p in networks.discriminator.parameters() if p.grad is not None]
        written_out = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
    finally:
        torch.set_default_dtype(torch.float32)
    assert seen["train/d_loss"] == pytest.approx(loss.item() / divisor, rel=1e-9)
    assert seen["train/d_penalty"] == pytest.approx(penalty.item() / divisor, rel=1e-9)
    assert (gradient - written_out).norm() <= 1e-9 * written_out.norm()


@pytest.mark.parametrize("statistics", ["copied", "averaged"])
def test_average_follows_parameters_and_statistics(tmp_path: Path, statistics: str) -> None:
    engine = Engine(a_run(tmp_path, "base.ema=0.9", f"base.ema_statistics={statistics}"), "cpu")

    def tensors(network: torch.nn.Module) -> dict[str, Tensor]:
        return {name: tensor.clone() for name, tensor in network.state_dict().items()}

    expected = tensors(engine.generator)
    for step in range(1, 4):
        engine.step(step, StepBatch(batches(step, 1)))
        decay = min(0.9, 2 ** (-20 / step))
        for name, value in tensors(engine.generator).items():
            is_copied = "num_batches" in name or (statistics == "copied" and "running" in name)
            expected[name] = value if is_copied else decay * expected[name] + (1 - decay) * value
    assert engine.ema is not None
    assert any("running" in name for name in expected)
    for name, average in engine.ema.state_dict().items():
        torch.testing.assert_close(average, expected[name])
    assert engine.measured is engine.ema


def test_an_average_without_a_length_is_measured(tmp_path: Path) -> None:
    """A module may have a length, and one of length 0 is false."""
    engine = Engine(a_run(tmp_path, "base.ema=0.9"), "cpu")
    assert engine._average is not None
    engine._average._average = torch.nn.Sequential()
    assert not engine.ema
    assert engine.measured is engine.ema
    plain = Engine(a_run(tmp_path), "cpu")
    assert plain.measured is plain.generator


@pytest.mark.parametrize(("ema", "ramp"), [(0.999, "0.05"), (0.5, "0.05"), (0.45, "0.3"),
                                           (0.3, "null")])
def test_the_average_forgets_the_initial_weights(tmp_path: Path, ema: float, ramp: str) -> None:
    """G stays 0 after its first weights, so what is left of these in the average is their share."""
    torch.set_default_dtype(torch.float64)
    try:
        engine = Engine(a_run(tmp_path, f"base.ema={ema}", f"base.ema_ramp={ramp}",
                              "base.g_optimizer={lr: 1e-300}"), "cpu")
        initial = torch.cat([p.detach().flatten() for p in engine.generator.parameters()])
        for parameter in engine.generator.parameters():
            parameter.detach().zero_()
        share = 1.0
        for step in range(1, 7):
            engine.step(step, StepBatch(batches(step, 1)))
            share *= ema if ramp == "null" else min(ema, 0.5 ** (1 / (float(ramp) * step)))
            average = torch.cat([p.flatten() for p in engine.measured.parameters()])
            torch.testing.assert_close(average, share * initial, rtol=1e-9, atol=1e-16)
    finally:
        torch.set_default_dtype(torch.float32)
    assert 0 < share < 0.01


def test_first_non_finite_loss_is_remembered(tmp_path: Path) -> None:
    engine = Engine(a_run(tmp_path), "cpu")
    for step in range(1, 6):
        real = batches(step, 1)
        if step == 3:
            real[0][0, 0, 0, 0] = float("nan")
        engine.step(step, StepBatch(real))
    assert int(engine.first_bad) == 3


def test_a_copy_of_a_batch_has_the_same_tensors_in_the_same_places() -> None:
    """A recorded step reads its batch where the first one was copied to."""
    real = [torch.full((4, 1, 2, 2), float(i)) for i in range(2)]
    labels = [torch.full((4,), i) for i in range(2, 4)]
    for batch, count in ((StepBatch(real), 2), (StepBatch(real, labels, None, labels[0]), 5),
                         (StepBatch(real, g_real=real[0]), 3),
                         (StepBatch(real, labels, real[1] + 7, labels[1] + 7), 6)):
        copy = batch.empty_like()
        assert len(batch.tensors()) == count
        torch._foreach_copy_(copy.tensors(), batch.tensors())
        pairs = [*zip(copy.real, batch.real, strict=True),
                 *zip(copy.labels or (), batch.labels or (), strict=True),
                 (copy.g_real, batch.g_real), (copy.g_labels, batch.g_labels)]
        for ours, theirs in pairs:
            assert (ours is None) is (theirs is None)
            if ours is not None and theirs is not None:
                assert ours is not theirs
                assert ours.dtype == theirs.dtype
                assert torch.equal(ours, theirs)


def test_sampling_leaves_the_generator_as_it_was(tmp_path: Path) -> None:
    engine = Engine(a_run(tmp_path), "cpu")
    engine.step(1, StepBatch(batches(1, 1)))
    before = weights_of(engine)
    latents = torch.randn(10, 100)
    first, again = engine.sample(latents), engine.sample(latents.flip(0)).flip(0)
    torch.testing.assert_close(first, again)  # eval mode: no sample depends on its neighbours
    assert weights_of(engine) == before
    assert engine.generator.training


def test_dropout_depends_on_the_step_and_not_on_the_past(tmp_path: Path) -> None:
    spec = a_run(tmp_path, "base.model=mlp_dropout")
    first, second = Engine(spec, "cpu"), Engine(spec, "cpu")
    first.step(1, StepBatch(batches(1, 1)))
    torch.randn(5)
    second.step(1, StepBatch(batches(1, 1)))
    assert weights_of(first) == weights_of(second)


@pytest.mark.parametrize("name", [entry.name for entry in OPTIMIZERS])
@pytest.mark.parametrize(("schedule", "halfway"), [("constant", 1.0), ("linear", 0.5),
                                                   ("cosine", 0.5)])
def test_schedules(tmp_path: Path, name: str, schedule: str, halfway: float) -> None:
    spec = a_run(tmp_path, f"base.g_optimizer={{name: {name}, lr: 0.1, schedule: {schedule}}}",
                 "base.steps=100")
    assert rate(spec.g_optimizer, 1, 100) == pytest.approx(0.1)
    assert rate(spec.g_optimizer, 51, 100) == pytest.approx(0.1 * halfway)
    engine = Engine(spec, "cpu")
    engine.step(51, StepBatch(batches(51, 1)))
    used = engine._optimizing.of[engine.generator].param_groups[0]["lr"]
    assert used == pytest.approx(0.1 * halfway)
    assert engine._optimizing.of[engine.discriminator].param_groups[0]["lr"] == pytest.approx(2e-4)


def weights_of(engine: Engine) -> list[bytes]:
    networks = (engine.generator, engine.discriminator)
    return [v.numpy().tobytes() for n in networks for v in n.state_dict().values()]
