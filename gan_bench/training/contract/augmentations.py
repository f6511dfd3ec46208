"""The checks of augmentations."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gan_bench.components.augmentations.base import Augmentation
from gan_bench.config.spec import RunSpec
from gan_bench.registry import AUGMENTATIONS, Entry, Part
from gan_bench.training.contract.base import (
    Checks,
    advance,
    not_finite,
    random_state,
    run_spec,
)
from gan_bench.training.contract.networks import resume_problem
from gan_bench.training.step.engine import Engine

SHAPES = ((3, 16, 16), (1, 16, 16), (2,))  # the first that the augmentation takes is checked


def check_augmentation(checks: Checks, entry: Entry[Any, Any], part: Part) -> None:
    """Check an augmentation on small images, or on vectors if it takes no images."""
    built: list[Augmentation] = []
    refused = {shape: entry.facts.refuses(shape, **part.args) for shape in SHAPES}
    shape = next((shape for shape in SHAPES if refused[shape] is None), None)
    if shape is None:
        checks.note("not checked", f"it takes neither images nor vectors: {refused[SHAPES[0]]}")
        return

    def build() -> str | None:
        augmentation = AUGMENTATIONS.build(part)
        if not isinstance(augmentation, Augmentation):
            return f"its factory returns {type(augmentation).__name__}: return Augmentation(…)"
        built.append(augmentation)
        return None

    if not checks.check("returns an Augmentation", build):
        return
    checks.check("its facts are true", lambda: None if entry.facts.has_p == (
        built[0].probability is not None) else f"AugmentationFacts says has_p={entry.facts.has_p}")
    is_kept = checks.check("keeps the shape, and repeats", lambda: _shape_problem(built[0], shape))
    if is_kept and not built[0].of_data:  # G's gradients pass through it
        checks.check("changes every example by itself, with a gradient",
                     lambda: _gradient_problem(built[0], shape))
    spec = run_spec(shape, augmentation=[part])
    if checks.check("trains with finite losses", lambda: _training_problem(spec)):
        checks.check("resumes from a checkpoint to the bit", lambda: resume_problem(spec))


def _applied(augmentation: Augmentation, examples: Tensor, p: float) -> Tensor:
    return augmentation.apply(examples, torch.Generator().manual_seed(5),
                              torch.tensor(p, dtype=torch.float64))


def _examples(shape: tuple[int, ...]) -> Tensor:
    return torch.rand((6, *shape), generator=torch.Generator().manual_seed(1)) * 2 - 1


def _training_problem(spec: RunSpec) -> str | None:
    engine = Engine(spec, "cpu")
    return not_finite(engine, advance(engine, range(1, 4)))


def _shape_problem(augmentation: Augmentation, shape: tuple[int, ...]) -> str | None:
    before, given = random_state(), _examples(shape)
    first, second = (_applied(augmentation, given, 0.5) for _ in range(2))
    if not isinstance(first, Tensor) or first.shape != given.shape or first.dtype != given.dtype:
        return "the examples get another shape or type"
    if not bool(first.isfinite().all()):
        return "the examples are not finite"
    if not torch.equal(given, _examples(shape)):
        return "it changes the examples that it is given: make new ones"
    if random_state() != before:
        return "it draws from a global random state: use `draws`"
    return None if torch.equal(first, second) else "it differs for the same `draws`"


def _gradient_problem(augmentation: Augmentation, shape: tuple[int, ...]) -> str | None:
    given = _examples(shape).requires_grad_()
    seen = _applied(augmentation, given, 1.0)
    gradient = None
    if seen.requires_grad:
        # Squares, so that the gradient depends on the examples and has a gradient of its own.
        (gradient,) = torch.autograd.grad(seen[0].square().sum(), given, create_graph=True,
                                          allow_unused=True)
    if gradient is None or not bool(gradient[0].any()):
        return "no gradient reaches the examples, so G would learn nothing"
    if bool(gradient[1:].any()):
        return "an example changes by the others of its batch, where gradient penalties are wrong"
    if gradient.grad_fn is None:
        return "its gradient has no gradient, which gradient penalties need"
    gradient.square().sum().backward()  # type: ignore[no-untyped-call]
    return None
