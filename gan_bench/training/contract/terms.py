"""The checks of losses and penalties."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from gan_bench.components.losses import Loss
from gan_bench.components.penalties import Penalty
from gan_bench.config.spec import RunSpec
from gan_bench.registry import LOSSES, MODELS, PENALTIES, Entry, Part, PenaltyFacts
from gan_bench.training.contract.base import (
    Checks,
    advance,
    not_finite,
    random_state,
    run_spec,
)
from gan_bench.training.contract.networks import resume_problem
from gan_bench.training.step.engine import Engine

LARGE = 100.0  # a logit of a D that is sure


def check_loss(checks: Checks, entry: Entry[Any, Any], part: Part) -> None:
    """Check the functions of a loss."""
    loss: list[Loss] = []

    def build() -> str | None:
        built = LOSSES.build(part)
        if not isinstance(built, Loss):
            return f"its factory returns {type(built).__name__}: return Loss(…)"
        loss.append(built)
        return None

    if not checks.check("returns a Loss", build):
        return
    facts = entry.facts
    if not checks.check("its terms are scalars", lambda: _scalar_problem(loss[0])):
        return
    checks.check("its facts are true", lambda: _facts_problem(loss[0], facts))
    checks.check("a map of logits counts as its mean", lambda: _map_problem(loss[0]))
    checks.check(f"is finite at logits of ±{LARGE:.0f}", lambda: _extreme_problem(loss[0]))
    checks.check("a gradient reaches the logits", lambda: _gradient_problem(loss[0]))
    checks.check("repeats itself, and draws no random numbers", lambda: _repeat_problem(loss[0]))
    checks.check("trains with finite losses", lambda: _training_problem(run_spec(loss=part)))


def _logits(fill: float | None = None) -> torch.Tensor:
    drawn = torch.randn(8, generator=torch.Generator().manual_seed(2))
    return (drawn if fill is None else torch.full((8,), fill)).requires_grad_()


def _terms(loss: Loss, real: torch.Tensor, fake: torch.Tensor) -> list[Any]:
    terms = loss.discriminator(real, fake)
    listed = [*terms] if isinstance(terms, tuple | list) else [None]
    return [*listed, loss.generator(fake, real if loss.needs_real else None)]


def _scalar_problem(loss: Loss) -> str | None:
    *of_d, of_g = _terms(loss, _logits(), _logits(0.5))
    if of_d == [None] or len(of_d) > 2:
        return ("D's loss must be a tuple: (real term, fake term), or (term,) if it does not "
                "separate")
    for name, term in (*(("D's", term) for term in of_d), ("G's", of_g)):
        if not isinstance(term, torch.Tensor) or term.dim():
            return f"{name} loss is no scalar: take the mean over the batch"
    return None


def _facts_problem(loss: Loss, facts: Any) -> str | None:
    one_term = len(_terms(loss, _logits(), _logits(0.5))) == 2
    for name, said, true in (("one_term", facts.one_term, one_term),
                             ("needs_real", facts.needs_real, loss.needs_real)):
        if said != true:
            return f"LossFacts says {name}={said}, and the Loss has {true}"
    return None


def _map_problem(loss: Loss) -> str | None:
    """Compare the terms of maps (2, 1, 2, 2) with those of their logits in a row."""
    flat = (_logits(), _logits(0.5) + torch.arange(8) / 8)
    maps = [logits.reshape(2, 1, 2, 2) for logits in flat]
    for of_map, of_row in zip(_terms(loss, *maps), _terms(loss, *flat), strict=True):
        if not torch.allclose(of_map, of_row):
            return ("its terms of a map of logits, (N, 1, H, W), are not those of all its logits: "
                    "take the mean over all of them")
    return None


def _extreme_problem(loss: Loss) -> str | None:
    for at_real in (LARGE, -LARGE):
        for at_fake in (LARGE, -LARGE):
            real, fake = _logits(at_real), _logits(at_fake)
            for term in _terms(loss, real, fake):
                gradients = torch.autograd.grad(term, (real, fake), allow_unused=True)
                if not all(bool(value.isfinite().all()) for value in (term, *gradients)
                           if value is not None):
                    return (f"not finite at real {at_real:+.0f}, fake {at_fake:+.0f}: write log σ "
                            f"as -softplus")
    return None


def _gradient_problem(loss: Loss) -> str | None:
    real, fake = _logits(), _logits(0.5)
    *of_d, of_g = _terms(loss, real, fake)
    reached = torch.autograd.grad(sum(of_d[1:], of_d[0]), (real, fake), allow_unused=True)
    for name, gradient in zip(("real", "fake"), reached, strict=True):
        if gradient is None or not bool(gradient.any()):
            return f"D's loss does not depend on the {name} logits"
    (gradient,) = torch.autograd.grad(of_g, fake, allow_unused=True)
    if gradient is None or not bool(gradient.any()):
        return "G's loss does not depend on the fake logits"
    return None


def _repeat_problem(loss: Loss) -> str | None:
    before = random_state()
    first, second = (_terms(loss, _logits(), _logits(0.5)) for _ in range(2))
    if random_state() != before:
        return "it draws from a global random state"
    return None if first == second else "it gives other values for the same logits"


def _training_problem(spec: RunSpec) -> str | None:
    engine = Engine(spec, "cpu")
    return not_finite(engine, advance(engine, range(1, 4)))


def check_penalty(checks: Checks, entry: Entry[Any, Any], part: Part) -> None:
    """Check a penalty on a small D that judges every example alone."""
    penalty: list[Penalty] = []

    def build() -> str | None:
        built = PENALTIES.build(part)
        if not isinstance(built, Penalty):
            return f"its factory returns {type(built).__name__}: return Penalty(…)"
        penalty.append(built)
        return None

    if not checks.check("returns a Penalty", build):
        return
    checks.check("its facts are true", lambda: _penalty_facts_problem(penalty[0], entry.facts))
    spec = run_spec(penalties=[part])
    if entry.facts.needs_styles:  # its layers draw no noise, so that a draw is the penalty's own
        model = MODELS.parse({"name": "stylegan2", "width": 8, "latent_dim": 8,
                              "mapping_layers": 2, "group": None, "noise": "constant"})
        spec = run_spec((1, 16, 16), model=model, penalties=[part])
    if entry.facts.needs_targets:
        model = MODELS.parse({"name": "unet", "width": 4, "d_width": 4, "d_layers": 1})
        spec = run_spec(model=model, penalties=[part])
    if penalty[0].pair_term is not None:
        checks.check("its term of pairs is a finite scalar with a gradient to the images",
                     lambda: _pair_term_problem(penalty[0]))
    terms = (("its term", "D", penalty[0].term), ("its term of D's weights", "D",
             penalty[0].weights_term), ("its term of G's loss", "G", penalty[0].g_term))
    for words, of, function in terms:
        if function is not None:
            checks.check(f"{words} is a finite scalar with a gradient to {of}",
                         partial(_term_problem, penalty[0], function, spec))
    if penalty[0].noise is not None:
        checks.check("its noise keeps the shape and repeats", lambda: _noise_problem(penalty[0]))
        if not entry.facts.whole_run:
            checks.check("its noise is that of a run with more steps", lambda: _fading_problem(
                penalty[0]))
    if checks.check("trains with finite losses", lambda: _training_problem(spec)):
        checks.check("resumes from a checkpoint to the bit", lambda: resume_problem(spec))


def _penalty_facts_problem(penalty: Penalty, facts: PenaltyFacts) -> str | None:
    is_term = penalty.term is not None or penalty.weights_term is not None
    for name, is_so in (("term", is_term), ("g_term", penalty.of_g),
                        ("needs_targets", penalty.pair_term is not None)):
        if getattr(facts, name) != is_so:
            return f"PenaltyFacts says {name}={not is_so}"
    return None


def _examples(seed: int, shape: tuple[int, ...] = (1, 8, 8)) -> torch.Tensor:
    return torch.rand((4, *shape), generator=torch.Generator().manual_seed(seed)) * 2 - 1


def _pair_term_problem(penalty: Penalty) -> str | None:
    assert penalty.pair_term is not None
    before, fakes = random_state(), _examples(1).requires_grad_()
    first, second = (penalty.pair_term(fakes, _examples(2)) for _ in range(2))
    if not isinstance(first, torch.Tensor) or first.dim():
        return "it is no scalar: take the mean over the batch"
    if not bool(first.isfinite()):
        return "it is not finite"
    (gradient,) = torch.autograd.grad(first, fakes, allow_unused=True)
    if gradient is None or not bool(gradient.any()):
        return "no gradient reaches the images"
    if random_state() != before or first.item() != second.item():
        return "it draws random numbers: it has none of its own"
    return None


def _term_problem(penalty: Penalty, function: Callable[..., Any], spec: RunSpec) -> str | None:
    """Return what is wrong with one of a penalty's terms.

    Args:
        function: The term: `term`, `weights_term` or `g_term` of the penalty.
        spec: Of a run whose networks draw no random numbers.
    """
    # Without the penalty, which may change D's layers, and their forward passes with it.
    engine = Engine(spec.model_copy(update={"penalties": []}), "cpu")
    name, network = "D", engine.discriminator
    if function is penalty.g_term:
        name, network = "G", engine.generator

    def computed() -> Any:
        draws = torch.Generator().manual_seed(5)
        if function is penalty.term:
            real, fake = (_examples(seed, spec.data.shape) for seed in (1, 2))
            return function(network, real, fake, draws)
        if function is penalty.weights_term:
            return function(network)
        latents = torch.randn((4, int(spec.model.args["latent_dim"])),
                              generator=torch.Generator().manual_seed(1))
        return function(network, latents, draws, torch.zeros((), dtype=torch.float64))

    before, values = random_state(), []
    for _ in range(2):
        term = computed()
        if not isinstance(term, torch.Tensor) or term.dim():
            return "it is no scalar: take the mean over the batch"
        if not bool(term.isfinite()):
            return "it is not finite"
        values.append(term.item())
    term.backward()
    if not any(p.grad is not None and bool(p.grad.any()) for p in network.parameters()):
        return (f"no gradient reaches {name}'s parameters: keep its graph, as with "
                f"torch.autograd.grad(…, create_graph=True)")
    if random_state() != before:
        return "it draws from a global random state: use `draws`"
    return None if values[0] == values[1] else "it differs for the same `draws`"


def _noise_problem(penalty: Penalty) -> str | None:
    assert penalty.noise is not None
    before = random_state()
    first, second = (penalty.noise(_examples(1), torch.Generator().manual_seed(5), 0.5)
                     for _ in range(2))
    if first.shape != _examples(1).shape or not bool(first.isfinite().all()):
        return "the examples get another shape, or are not finite"
    if random_state() != before:
        return "it draws from a global random state: use `draws`"
    return None if torch.equal(first, second) else "it differs for the same `draws`"


def _fading_problem(penalty: Penalty) -> str | None:
    """Return that the noise depends on the share of the steps that are done, if it does."""
    assert penalty.noise is not None
    first, *others = (penalty.noise(_examples(1), torch.Generator().manual_seed(5), done / 20)
                      for done in range(21))
    if all(torch.equal(first, other) for other in others):
        return None
    return ("it depends on the share of the steps that are done: state "
            "PenaltyFacts(whole_run=True), or a run with more steps continues from this one")
