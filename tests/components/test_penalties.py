"""Penalties where their value is known, and their gradients against finite differences."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.runs import DIGITS, a_run, write_experiment
from torch import Tensor, nn

from gan_bench.components import penalties
from gan_bench.components.penalties import Penalty
from gan_bench.config.experiment import load_experiment
from gan_bench.errors import SpecError
from gan_bench.registry import PENALTIES
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

W = torch.tensor([3.0, -4.0, 12.0], dtype=torch.float64)  # of norm 13
ON_EXAMPLES = [entry.name for entry in PENALTIES if entry.facts.on_examples]


def build(name: str, **arguments: object) -> Penalty:
    penalty: Penalty = PENALTIES.build(PENALTIES.parse({"name": name, **arguments}))
    return penalty


def term_of(name: str, discriminator: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor,
            **arguments: object) -> Tensor:
    term = build(name, **arguments).term
    assert term is not None
    return term(discriminator, real, fake, torch.Generator().manual_seed(0))


def examples(n: int = 5) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(1)
    return (torch.randn(n, 3, generator=draws, dtype=torch.float64),
            torch.randn(n, 3, generator=draws, dtype=torch.float64) + 2)


@pytest.mark.parametrize(("name", "arguments", "value"), [
    ("r1", {}, 5 * 169), ("r1", {"gamma": 0.5}, 0.25 * 169),
    ("r2", {}, 5 * 169), ("r2", {"gamma": 2.0}, 169),
    ("gradient_penalty", {}, 10 * 12**2), ("gradient_penalty", {"target": 13.0}, 0),
    ("gradient_penalty", {"weight": 2.0, "target": 15.0}, 2 * 2**2),
    ("gradient_penalty", {"target": 15.0, "one_sided": True}, 0),
    ("gradient_penalty", {"one_sided": True}, 10 * 12**2),
    ("dragan", {}, 10 * 12**2), ("dragan", {"noise": "gaussian", "weight": 1.0}, 12**2),
    ("dragan", {"target": 15.0, "weight": 1.0}, 4),
])
def test_exact_on_a_linear_d(name: str, arguments: dict[str, Any], value: float) -> None:
    """D(x) = w·x + 5 has the gradient w everywhere."""
    found = term_of(name, lambda x: x @ W + 5, *examples(), **arguments)
    assert found.item() == pytest.approx(value, rel=1e-12, abs=1e-12)


def quadratic(x: Tensor) -> Tensor:
    """D(x) = |x|²/2, whose gradient is x itself: norms of single examples show."""
    return x.square().sum(1) / 2


def test_norms_are_of_single_examples() -> None:
    """One steep example among flat ones, all norms known."""
    x = torch.zeros(4, 3, dtype=torch.float64)
    x[:, 0] = torch.tensor([1.0, 1.0, 1.0, 101.0])
    assert term_of("r1", quadratic, x, -x).item() == pytest.approx(5 * (3 + 101**2) / 4)
    assert term_of("r2", quadratic, 0 * x, x).item() == pytest.approx(5 * (3 + 101**2) / 4)
    # between x and x lies x, whatever the share
    assert term_of("gradient_penalty", quadratic, x, x).item() == pytest.approx(10 * 100**2 / 4)


def norm_over_the_batch(d: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    at = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(d(at).sum(), at, create_graph=True)
    return gradient.square().sum(0)


def norm_of_the_whole(d: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return norm_over_the_batch(d, x).sum().reshape(1)


def gradient_of_the_mean(d: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    at = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(d(at).mean(), at, create_graph=True)
    return gradient.square().sum(1)


def without_a_graph(d: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    at = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(d(at).sum(), at)
    return gradient.square().sum(1)


@pytest.mark.parametrize("wrong", [norm_over_the_batch, norm_of_the_whole, gradient_of_the_mean])
def test_the_test_of_norms_tells_wrong_forms(wrong: object, monkeypatch: pytest.MonkeyPatch,
                                             ) -> None:
    monkeypatch.setattr(penalties, "_squares", wrong)
    with pytest.raises(AssertionError):
        test_norms_are_of_single_examples()


def of_weights(name: str, **arguments: object) -> None:
    """The penalty as a function of D's weights, its gradient against finite differences."""
    real, fake = examples()
    draws = torch.Generator().manual_seed(2)
    weights = [torch.randn(shape, generator=draws, dtype=torch.float64, requires_grad=True)
               for shape in ((3, 4), (4,), (4, 1))]

    def penalty(first: Tensor, bias: Tensor, second: Tensor) -> Tensor:
        return term_of(name, lambda x: (torch.tanh(x @ first + bias) @ second).flatten(), real,
                       fake, **arguments)

    assert torch.autograd.gradcheck(penalty, weights)


@pytest.mark.parametrize("name", ON_EXAMPLES)
def test_gradients_through_the_gradient_are_finite_differences(name: str) -> None:
    of_weights(name)


def test_the_test_of_gradients_tells_a_missing_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(penalties, "_squares", without_a_graph)
    with pytest.raises((RuntimeError, AssertionError)):
        of_weights("r1")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_where_d_is_flat_the_penalty_has_a_finite_gradient(dtype: torch.dtype) -> None:
    weight = torch.zeros(3, dtype=dtype, requires_grad=True)
    found = term_of("gradient_penalty", lambda x: x @ weight, *(x.to(dtype) for x in examples()))
    found.backward()
    assert found.item() == pytest.approx(10, rel=1e-5)
    assert weight.grad is not None
    assert weight.grad.isfinite().all()


def seen_by_d(name: str, real: Tensor, fake: Tensor, **arguments: object) -> Tensor:
    seen = []

    def discriminator(x: Tensor) -> Tensor:
        seen.append(x.detach().clone())
        return x.flatten(1).sum(1)

    term_of(name, discriminator, real, fake, **arguments)
    (x,) = seen
    return x


def test_wgan_gp_looks_between_with_one_share_for_each_example() -> None:
    real, fake = torch.ones(2000, 1, 2, 2), torch.full((2000, 1, 2, 2), -1.0)
    shares = ((seen_by_d("gradient_penalty", real, fake) + 1) / 2).flatten(1)
    torch.testing.assert_close(shares, shares[:, :1].expand(-1, 4), rtol=0, atol=1e-6)
    one = shares[:, 0]
    assert one.unique().numel() > 1900
    assert one.min() >= 0
    assert one.max() <= 1
    assert one.mean().item() == pytest.approx(0.5, abs=0.03)
    assert one.std().item() == pytest.approx(1 / math.sqrt(12), abs=0.02)


def test_dragan_looks_around_real_examples_alone() -> None:
    real = torch.randn(2000, 4, generator=torch.Generator().manual_seed(3)) * 2 + 1
    fake = torch.full_like(real, 1e6)
    uniform = (seen_by_d("dragan", real, fake, scale=0.3) - real) / (0.3 * real.std())
    assert uniform.min().item() == pytest.approx(0, abs=0.01)
    assert uniform.max().item() == pytest.approx(1, abs=0.01)
    # The product of a share for each example and a value for each place, both uniform in 0..1.
    assert uniform.mean().item() == pytest.approx(1 / 4, abs=0.01)
    assert uniform.var().item() == pytest.approx(1 / 9 - 1 / 16, abs=0.01)
    assert uniform.mean(1).var().item() == pytest.approx(1 / 48 + 1 / 36 / 4, abs=0.003)
    gaussian = seen_by_d("dragan", real, fake, scale=0.3, noise="gaussian") - real
    assert gaussian.mean().item() == pytest.approx(0, abs=0.02)
    assert gaussian.std().item() == pytest.approx(0.3, abs=0.01)


def test_r1_looks_at_real_examples_and_r2_at_generated_ones() -> None:
    real, fake = examples()
    assert torch.equal(seen_by_d("r1", real, fake), real)
    assert torch.equal(seen_by_d("r2", real, fake), fake)


def test_instance_noise_fades_linearly() -> None:
    noisy = build("instance_noise", std=0.2, until=0.5).noise
    assert noisy is not None
    x = torch.ones(100, 100)
    for done, std in ((0.0, 0.2), (0.25, 0.1), (0.5, 0.0), (0.9, 0.0)):
        noise = noisy(x, torch.Generator().manual_seed(0), done) - x
        assert noise.std().item() == pytest.approx(std, rel=0.03, abs=1e-9)
        assert noise.mean().item() == pytest.approx(0, abs=0.01)


def training(folder: Path, *overrides: str) -> tuple[Engine, list[dict[str, Tensor]]]:
    """Train a small run for six steps."""
    spec = a_run(folder, "variants={}", *overrides)
    engine = Engine(spec, "cpu")
    draws = torch.Generator().manual_seed(4)
    real = [torch.rand(32, 1, 16, 16, generator=draws) * 2 - 1 for _ in range(6)]
    batches = [StepBatch([real[i]], g_real=real[i - 1] if engine.needs_real else None)
               for i in range(6)]
    return engine, [engine.step(i + 1, batches[i], True) for i in range(6)]


def test_weight_clip_holds_after_every_update(tmp_path: Path) -> None:
    engine, _ = training(tmp_path, "base.penalties=[{name: weight_clip, limit: 0.01}]")
    for parameter in engine.discriminator.parameters():
        assert parameter.abs().max().item() <= 0.01
    assert max(p.abs().max().item() for p in engine.discriminator.parameters()) == \
        pytest.approx(0.01, rel=1e-6)
    assert any(p.abs().max() > 0.01 for p in engine.generator.parameters())


def test_spectral_norm_is_the_largest_singular_value(tmp_path: Path) -> None:
    engine, _ = training(tmp_path, "base.penalties=[{name: spectral_norm, iterations: 20}]")
    layers = [layer for layer in engine.discriminator.modules() if isinstance(layer, nn.Linear)]
    assert len(layers) == 3
    for layer in layers:
        largest = torch.linalg.svdvals(layer.weight.detach())[0].item()
        assert largest == pytest.approx(1, abs=0.01)


def test_constraints_draw_nothing_from_elsewhere(tmp_path: Path) -> None:
    torch.manual_seed(1)
    one, _ = training(tmp_path, "base.penalties=[spectral_norm]")
    after = torch.get_rng_state()
    torch.manual_seed(2)
    two, _ = training(tmp_path, "base.penalties=[spectral_norm]")
    for a, b in zip(one.discriminator.state_dict().values(),
                    two.discriminator.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(after, torch.get_rng_state())  # each step seeds it itself


def test_a_lazy_penalty_comes_seldom_and_is_as_much_larger(tmp_path: Path) -> None:
    _, always = training(tmp_path, "base.penalties=[r1]")
    _, lazy = training(tmp_path, "base.penalties=[{name: r1, every: 3}]")
    assert [i + 1 for i, seen in enumerate(always) if "train/d_penalty" in seen] == [*range(1, 7)]
    assert [i + 1 for i, seen in enumerate(lazy) if "train/d_penalty" in seen] == [3, 6]
    _, first = training(tmp_path, "base.penalties=[{name: r1, gamma: 1e-9}]")
    _, thrice = training(tmp_path, "base.penalties=[{name: r1, gamma: 1e-9, every: 3}]")
    # so weak that training is the same
    assert thrice[2]["train/d_penalty"].item() == pytest.approx(
        3 * first[2]["train/d_penalty"].item(), rel=1e-3)


def test_penalties_add_up_and_the_loss_is_shown_without_them(tmp_path: Path) -> None:
    _, plain = training(tmp_path)
    _, both = training(tmp_path, "base.penalties=[{name: r1, gamma: 1.0}, {name: r2, gamma: 3.0}]")
    _, r1 = training(tmp_path, "base.penalties=[{name: r1, gamma: 1.0}]")
    _, r2 = training(tmp_path, "base.penalties=[{name: r2, gamma: 3.0}]")
    assert both[0]["train/d_penalty"].item() == pytest.approx(
        r1[0]["train/d_penalty"].item() + r2[0]["train/d_penalty"].item(), rel=1e-6)
    assert both[0]["train/d_loss"] == plain[0]["train/d_loss"]
    assert both[5]["train/d_loss"] != plain[5]["train/d_loss"]


@pytest.mark.parametrize(("overrides", "message"), [
    (["base.penalties=[r1]", "base.model={name: dcgan, width: 8}"],
     "r1 needs a D that judges every example alone"),
    (["base.penalties=[path_length]"], "penalties: path_length needs a G with styles w, but the G "
     "of mlp has none: choose the model stylegan2, or leave it out"),
    (["base.penalties=[gradient_penalty]", "base.model={name: dcgan_upsample, width: 8}"],
     "give the model `d_norm: none`"),
    (["base.penalties=[spectral_norm, spectral_norm]"], "spectral_norm is named twice"),
    (["base.penalties=[spectral]"], "did you mean 'spectral_norm'"),
    (["base.penalties=[{name: r1, gama: 1}]"], "has no argument 'gama'; did you mean 'gamma'?"),
    (["base.penalties=[{name: r1, gamma: -1.0}]"], "greater than 0"),
    (["base.penalties=r1"], "list"),
    (["base.loss={name: lsgan, a: x}"], "must be a number, not 'x'"),
])
def test_what_cannot_be_is_refused_with_its_place(tmp_path: Path, overrides: list[str],
                                                  message: str) -> None:
    file = write_experiment(tmp_path)
    with pytest.raises(SpecError) as error:
        load_experiment(file, tmp_path, overrides)
    assert message in str(error.value)


def test_the_place_is_a_line_of_the_file(tmp_path: Path) -> None:
    text = DIGITS.replace("  steps: 6\n", "  steps: 6\n  penalties: [r1, r3]\n")
    with pytest.raises(SpecError, match=r"tiny\.yaml:8:\d+: base\.penalties"):
        load_experiment(write_experiment(tmp_path, text), tmp_path, [])


def test_path_length_without_styles_is_refused_at_its_line(tmp_path: Path) -> None:
    text = DIGITS.replace("  steps: 6\n", "  steps: 6\n  penalties: [r1, path_length]\n")
    with pytest.raises(SpecError, match=r"tiny\.yaml:8:\d+: base\.penalties: path_length needs"):
        load_experiment(write_experiment(tmp_path, text), tmp_path, [])


def test_without_batch_norm_d_carries_every_penalty(tmp_path: Path) -> None:
    for model in ("dcgan", "dcgan_upsample"):
        engine, seen = training(tmp_path, f"base.model={{name: {model}, width: 8, d_norm: none}}",
                                "base.penalties=[gradient_penalty, r1, r2, dragan]",
                                "base.loss=wgan")
        assert all(one["train/d_penalty"].isfinite() for one in seen)
        assert not any(isinstance(layer, nn.BatchNorm2d)
                       for layer in engine.discriminator.modules())


def test_variants_are_named_by_their_penalties(tmp_path: Path) -> None:
    text = DIGITS.replace("variants:\n  plain:\n  saturating: {loss: saturating}\n",
                          "matrix: {penalties: [[], [r1], [r1, r2], "
                          "[{name: r1, gamma: 1.0}]]}\n")
    spec = load_experiment(write_experiment(tmp_path, text), tmp_path, [])
    assert spec.variants == ["unpenalised", "r1", "r1+r2", "r1-gamma=1.0"]
    assert len({run.id for run in spec.runs}) == 8
