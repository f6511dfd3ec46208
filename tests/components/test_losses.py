"""Losses against their published formulas, in float64: values, and gradients in closed form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax, softmax, wrightomega
from torch import Tensor, nn

from gan_bench.components.losses import Loss
from gan_bench.registry import LOSSES

REAL = np.linspace(-8, 8, 33)
FAKE = REAL[::-1] * 0.7 + 1  # another one beside each
N = len(REAL)
NAMES = LOSSES.names()


def build(given: object) -> Loss:
    loss: Loss = LOSSES.build(LOSSES.parse(given))
    return loss


# What the papers write, D = σ(logit): the value that D minimises, its gradients with respect to the
# real and to the fake logits, the value that G minimises and its gradient to the fake logits.
def cross_entropy(s: float = 0.0) -> tuple[Any, Any, Any]:
    return (lambda r, f: -np.mean((1 - s) * np.log(expit(r)) + s * np.log(1 - expit(r)))
            - np.mean(np.log(1 - expit(f))),
            lambda r, f: (expit(r) - (1 - s)) / N, lambda r, f: expit(f) / N)


def jeffreys_u(f: Any) -> Any:
    """f*′(t), which is the u that attains the conjugate: 1 / W(exp(1 − t))."""
    return 1 / wrightomega(1 - f)


def conjugate(f: Any) -> Any:
    """sup over u of ut − f(u), put in by its definition."""
    u = jeffreys_u(f)
    return u * f - (u - 1) * np.log(u)


def p_and_q(r: Any, f: Any) -> tuple[Any, ...]:
    return softmax(r), softmax(f), log_softmax(r), log_softmax(f)


def batch_divergence(r: Any, f: Any) -> Any:
    p, q, log_p, log_q = p_and_q(r, f)
    return np.sum((p - q) * (log_p - log_q))


def batch_gradient(r: Any, f: Any) -> Any:
    """dJ/dr = p (log p/q − KL(p‖q)) + (p − q); dJ/df is the same with the two exchanged."""
    p, q, log_p, log_q = p_and_q(r, f)
    return p * (log_p - log_q - np.sum(p * (log_p - log_q))) + p - q


FORMULAS: dict[str, tuple[object, tuple[Any, ...]]] = {
    "saturating": ("saturating", (*cross_entropy(), lambda r, f: np.mean(np.log(1 - expit(f))),
                                  lambda r, f: -expit(f) / N)),
    "saturating, smoothed": ({"name": "saturating", "label_smoothing": 0.1}, (
        *cross_entropy(0.1), lambda r, f: np.mean(np.log(1 - expit(f))),
        lambda r, f: -expit(f) / N)),
    "non_saturating": ("non_saturating", (
        *cross_entropy(), lambda r, f: -np.mean(np.log(expit(f))), lambda r, f: -expit(-f) / N)),
    "non_saturating, smoothed": ({"name": "non_saturating", "label_smoothing": 0.2}, (
        *cross_entropy(0.2), lambda r, f: -np.mean(np.log(expit(f))),
        lambda r, f: -expit(-f) / N)),
    "kl": ("kl", (*cross_entropy(), lambda r, f: -np.mean(f), lambda r, f: -np.ones(N) / N)),
    "lsgan": ("lsgan", (
        lambda r, f: np.mean((r - 1)**2) / 2 + np.mean(f**2) / 2, lambda r, f: (r - 1) / N,
        lambda r, f: f / N, lambda r, f: np.mean((f - 1)**2) / 2, lambda r, f: (f - 1) / N)),
    "lsgan, Pearson": ({"name": "lsgan", "a": -1.0, "b": 1.0, "c": 0.0}, (
        lambda r, f: np.mean((r - 1)**2) / 2 + np.mean((f + 1)**2) / 2, lambda r, f: (r - 1) / N,
        lambda r, f: (f + 1) / N, lambda r, f: np.mean(f**2) / 2, lambda r, f: f / N)),
    "wgan": ("wgan", (
        lambda r, f: -np.mean(r) + np.mean(f), lambda r, f: -np.ones(N) / N,
        lambda r, f: np.ones(N) / N, lambda r, f: -np.mean(f), lambda r, f: -np.ones(N) / N)),
    "hinge": ("hinge", (
        lambda r, f: np.mean(np.maximum(0, 1 - r)) + np.mean(np.maximum(0, 1 + f)),
        lambda r, f: -1.0 * (r < 1) / N, lambda r, f: 1.0 * (f > -1) / N,
        lambda r, f: -np.mean(f), lambda r, f: -np.ones(N) / N)),
    "relativistic_pairing": ("relativistic_pairing", (
        lambda r, f: -np.mean(np.log(expit(r - f))), lambda r, f: -expit(f - r) / N,
        lambda r, f: expit(f - r) / N,
        lambda r, f: -np.mean(np.log(expit(f - r))), lambda r, f: -expit(r - f) / N)),
    "jeffreys": ("jeffreys", (
        lambda r, f: -np.mean(r) + np.mean(conjugate(f)), lambda r, f: -np.ones(N) / N,
        lambda r, f: jeffreys_u(f) / N,
        lambda r, f: -np.mean(conjugate(f)), lambda r, f: -jeffreys_u(f) / N)),
    "batch_jeffreys": ("batch_jeffreys", (
        lambda r, f: -batch_divergence(r, f), lambda r, f: -batch_gradient(r, f),
        lambda r, f: -batch_gradient(f, r), batch_divergence, lambda r, f: batch_gradient(f, r))),
}


def test_a_plan_knows_which_losses_ask_for_real_examples() -> None:
    for entry in LOSSES:
        assert entry.facts.needs_real == build(entry.name).needs_real


def tensors() -> tuple[Tensor, Tensor]:
    return torch.tensor(REAL, requires_grad=True), torch.tensor(FAKE.copy(), requires_grad=True)


def close(ours: Tensor, theirs: Any) -> None:
    torch.testing.assert_close(ours.detach(), torch.as_tensor(np.array(theirs, np.float64)),
                               rtol=1e-12, atol=1e-12)


def test_every_loss_has_its_formula() -> None:
    assert {given if isinstance(given, str) else given["name"]  # type: ignore[index]
            for given, _ in FORMULAS.values()} == set(NAMES)


@pytest.mark.parametrize("case", FORMULAS)
def test_d_loss_is_its_formula(case: str) -> None:
    given, (value, to_real, to_fake, _, _) = FORMULAS[case]
    real, fake = tensors()
    terms = build(given).discriminator(real, fake)
    total = sum(terms[1:], terms[0])
    close(total, value(REAL, FAKE))
    ours = torch.autograd.grad(total, (real, fake))
    close(ours[0], to_real(REAL, FAKE))
    close(ours[1], to_fake(REAL, FAKE))


@pytest.mark.parametrize("case", FORMULAS)
def test_g_loss_is_its_formula(case: str) -> None:
    given, (_, _, _, value, gradient) = FORMULAS[case]
    loss, (real, fake) = build(given), tensors()
    total = loss.generator(fake, real.detach() if loss.needs_real else None)
    close(total, value(REAL, FAKE))
    close(torch.autograd.grad(total, fake)[0], gradient(REAL, FAKE))


@pytest.mark.parametrize("case", FORMULAS)
def test_gradients_are_finite_differences(case: str) -> None:
    loss, (real, fake) = build(FORMULAS[case][0]), tensors()
    # hinge has corners at ±1, which REAL and FAKE must not meet
    shift = 0.01234
    inputs = (real.detach().add(shift).requires_grad_(), fake.detach().add(shift).requires_grad_())
    assert torch.autograd.gradcheck(loss.discriminator, inputs, atol=1e-7)
    assert torch.autograd.gradcheck(lambda f: loss.generator(f, inputs[0].detach()), inputs[1:],
                                    atol=1e-7)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("logit", [-100.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_at_extreme_logits(name: str, logit: float, dtype: torch.dtype) -> None:
    """Finite with finite gradients, but for Jeffreys in float32, which says that it is not."""
    loss = build(name)
    real, fake = (torch.full((4,), x, dtype=dtype, requires_grad=True) for x in (logit, -logit))
    overflows = name == "jeffreys" and dtype == torch.float32
    for terms in (loss.discriminator(real, fake), (loss.generator(real, fake),),
                  (loss.generator(fake, real),)):
        total = sum(terms[1:], terms[0])
        gradients = torch.autograd.grad(total, (real, fake), allow_unused=True)
        if overflows and not total.isfinite():
            assert abs(total.item()) == float("inf")  # and no NaN, which would say less
            continue
        assert total.isfinite()
        assert all(g is None or g.isfinite().all() for g in gradients)


def test_jeffreys_is_exact_where_its_terms_span_eighty_orders() -> None:
    t = torch.tensor([-100.0, -40.0, 0.0, 1.0, 40.0, 100.0], dtype=torch.float64,
                     requires_grad=True)
    build("jeffreys").generator(t, None).backward()
    assert t.grad is not None
    torch.testing.assert_close(t.grad, -torch.tensor(jeffreys_u(t.detach().numpy())) / 6,
                               rtol=1e-12, atol=0)


def test_jeffreys_at_the_optimal_d_is_the_divergence() -> None:
    """With T = f′(p/q), D's loss is minus KL(P‖Q) + KL(Q‖P), here of two discrete P and Q."""
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    u = p / q
    t = np.log(u) + 1 - 1 / u
    assert float(p @ t - q @ conjugate(t)) == pytest.approx(
        float(((p - q) * np.log(p / q)).sum()), rel=1e-12)
    ours = -build("jeffreys").generator(torch.tensor(t), None) * 3
    assert ours.item() == pytest.approx(conjugate(t).sum(), rel=1e-12)


SOUND = [name for name in NAMES if name != "batch_jeffreys"]


@pytest.mark.parametrize("name", SOUND)
def test_a_step_of_g_raises_what_a_fixed_d_gives_and_one_of_d_lowers_its_loss(name: str) -> None:
    torch.manual_seed(0)
    loss = build(name)
    g, d = nn.Linear(3, 4).double(), nn.Sequential(nn.Linear(4, 1), nn.Flatten(0)).double()
    latents, real = torch.randn(64, 3).double(), torch.randn(64, 4).double() + 1
    before = d(g(latents)).mean()
    loss.generator(d(g(latents)), d(real)).backward()
    with torch.no_grad():
        for parameter in g.parameters():
            assert parameter.grad is not None
            parameter -= 1e-3 * parameter.grad
    assert d(g(latents)).mean() > before

    def d_loss() -> Tensor:
        terms = loss.discriminator(d(real), d(g(latents).detach()))
        return sum(terms[1:], terms[0])

    d.zero_grad()
    value = d_loss()
    value.backward()
    with torch.no_grad():
        for parameter in d.parameters():
            assert parameter.grad is not None
            parameter -= 1e-3 * parameter.grad
    assert d_loss() < value


def test_batch_jeffreys_cannot_tell_the_real_from_the_generated() -> None:
    """Why it fails: it is the same with the two exchanged, and with any constant added."""
    loss, (real, fake) = build("batch_jeffreys"), tensors()
    value = loss.generator(fake, real)
    torch.testing.assert_close(loss.generator(real, fake), value, rtol=1e-12, atol=0)
    torch.testing.assert_close(loss.generator(fake + 5, real), value, rtol=1e-12, atol=1e-12)


# Forms found in copied codes, each of which a test above must tell from the right one.
WRONG: list[tuple[str, Callable[[Loss], Loss]]] = [
    # called saturating, and is not
    ("saturating", lambda loss: build("non_saturating")),
    # the relativistic G loss overwritten by the plain one
    ("relativistic_pairing", lambda loss: Loss(loss.discriminator,
                                               build("non_saturating").generator, True)),
    # ... or with its sign forgotten
    ("relativistic_pairing", lambda loss: Loss(
        loss.discriminator, lambda f, r: loss.generator(r, f), True)),
    # hinge without its margin
    ("hinge", lambda loss: Loss(
        lambda r, f: (torch.relu(-r).mean(), torch.relu(f).mean()), loss.generator)),
    # no factor of a half
    ("lsgan", lambda loss: Loss(loss.discriminator, lambda f, r: (f - 1).square().mean())),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_the_tests_tell_wrong_forms(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    name, spoil = WRONG[number]
    spoiled = spoil(build(name))
    monkeypatch.setitem(globals(), "build", lambda given: spoiled)
    failures = 0
    for test in (test_d_loss_is_its_formula, test_g_loss_is_its_formula):
        try:
            test(name)
        except AssertionError:
            failures += 1
    assert failures == 1


def test_accuracies_are_about_the_logit_at_which_d_is_undecided(tmp_path: Path) -> None:
    """Under `lsgan` D is to say 0 and 1, and a logit of 0.4 is a fake."""
    from helpers.runs import a_run

    from gan_bench.training.step.engine import Engine
    from gan_bench.training.step.step_batch import StepBatch

    assert LOSSES.build(LOSSES.parse({"name": "lsgan", "a": -1.0, "b": 1.0})).boundary == 0
    for loss, fake in (("lsgan", 1.0), ("hinge", 0.0)):
        engine = Engine(a_run(tmp_path, "variants={}", f"base.loss={loss}"), "cpu")
        last = [m for m in engine.discriminator.modules() if isinstance(m, torch.nn.Linear)][-1]
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.constant_(last.bias, 0.4)
        seen = engine.step(1, StepBatch([torch.zeros(32, 1, 16, 16)]), observe=True)
        assert seen["train/d_accuracy_fake"] == fake
        assert seen["train/d_accuracy_real"] == 1 - fake
        assert (seen["train/d_fake"] < 0.5) == bool(fake)
