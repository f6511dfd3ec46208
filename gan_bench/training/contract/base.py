"""What the checks of all kinds of parts share."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from gan_bench.components.models import Networks, build_networks, with_condition
from gan_bench.config.spec import ComputeSpec, EvaluateSpec, RunSpec
from gan_bench.data_facts import DataFacts
from gan_bench.errors import explained
from gan_bench.registry import MODELS, Part
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

BATCH = 4  # examples of a step


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        part: The kind and the name of the part.
        what: What is checked, in plain words.
        problem: What is wrong; empty if nothing is.
        is_note: Whether it only says something, and is no check.
    """

    part: str
    what: str
    problem: str = ""
    is_note: bool = False


class Checks:
    """Collects the results about a part."""

    def __init__(self, part: str) -> None:
        self.part = part
        self.results: list[CheckResult] = []

    def check(self, what: str, test: Callable[[], str | None]) -> bool:
        """Add a result: the test returns what is wrong, or raises; return whether it passes."""
        try:
            problem = test() or ""
        except Exception as error:  # of the user's code
            problem = explained(error)
        self.results.append(CheckResult(self.part, what, problem))
        return not problem

    def note(self, what: str, text: str) -> None:
        """Add a remark that is no problem."""
        self.results.append(CheckResult(self.part, what, text, is_note=True))


@contextmanager
def fixed_seed(seed: int) -> Iterator[None]:
    """Seed torch's global random state as a run does; the others differ each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def random_state() -> object:
    """Return the state of the global random generators, which only a seeded layer may use."""
    return (str(random.getstate()), str(np.random.get_state(legacy=False)),
            torch.get_rng_state().tolist())


def run_spec(shape: tuple[int, ...] = (1, 8, 8), classes: int = 0, **settings: object) -> RunSpec:
    """Return a short run on imaginary data of a shape; of pairs if its model takes an image."""
    model = settings.get("model")
    data = DataFacts(shape=shape, classes=classes, train=1000, test=100, digest="check")
    if isinstance(model, Part) and takes_image(model):
        data, settings = replace(data, input=shape), {"condition": "concat", **settings}
    small = MODELS.parse({"name": "mlp", "width": 16})
    return RunSpec.model_validate({
        "experiment": "check", "variant": "check", "seed": 0, "steps": 4, "batch_size": BATCH,
        "dataset": Part(name="gaussians", args={}), "data": data, "model": small,
        "evaluate": EvaluateSpec.model_validate({"metrics": []}),
        "compute": ComputeSpec.model_validate({"device": "cpu"}), **settings})


def takes_image(model: Part) -> bool:
    """Whether a model makes an image from an image."""
    return MODELS[model.name].facts.takes == "image"


def build_for(model: Part, shape: tuple[int, ...]) -> Networks:
    """Return the networks of a model for data of a shape; inputs, if it takes any, have it too."""
    return build_networks(model, shape, 0, input_shape=shape if takes_image(model) else ())


def g_inputs(model: Part, shape: tuple[int, ...]) -> torch.Tensor:
    """Return what G of a model receives: latents, followed by the inputs if it takes images."""
    draws = torch.Generator().manual_seed(1)
    latents = torch.randn((BATCH, int(model.args["latent_dim"])), generator=draws)
    return with_condition(latents, _inputs(model, shape, BATCH), 0)


def logits_of(networks: Networks, model: Part, examples: torch.Tensor) -> torch.Tensor:
    """Return D's logits at examples, which it judges together with inputs if it takes images."""
    inputs = _inputs(model, tuple(examples.shape[1:]), len(examples))
    logits: torch.Tensor = (networks.discriminator(examples) if inputs is None else
                            networks.discriminator(examples, inputs.to(examples)))
    return logits


def _inputs(model: Part, shape: tuple[int, ...], count: int) -> torch.Tensor | None:
    if not takes_image(model):
        return None
    return torch.rand((count, *shape), generator=torch.Generator().manual_seed(2)) * 2 - 1


def engine_of(spec: RunSpec) -> Engine:
    """Return the engine of a run on the CPU, with a few imaginary conditions for its average."""
    draws = torch.Generator().manual_seed(3)
    conditions = {"nothing": None, "class": torch.arange(BATCH) % max(spec.data.classes, 1),
                  "image": torch.randint(256, (BATCH, *spec.data.input), generator=draws,
                                         dtype=torch.uint8)}
    return Engine(spec, "cpu", conditions=conditions[spec.condition_kind])


def advance(engine: Engine, steps: range) -> list[dict[str, torch.Tensor]]:
    """Train on examples that depend on the step alone; return what each step observes."""
    spec = engine.spec
    labels = torch.arange(BATCH) % spec.data.classes if spec.condition_kind == "class" else None

    def examples(step: int) -> torch.Tensor:
        draws = torch.Generator().manual_seed(step)
        return torch.rand((BATCH, *spec.data.shape), generator=draws) * 2 - 1

    def batch(step: int) -> StepBatch:
        g_real = examples(2**32 + step) if engine.needs_real else None
        given = -examples(step) if spec.condition_kind == "image" else labels
        return StepBatch([examples(step)], None if given is None else [given], g_real, given)

    return [engine.step(step, batch(step), True) for step in steps]


def bits(engine: Engine) -> list[tuple[str, bytes]]:
    """Return all that a step leaves behind, to the bit."""
    found: list[tuple[str, bytes]] = []

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict):
            for key in value:
                walk(f"{name}.{key}", value[key])
        elif isinstance(value, list | tuple):
            walk(name, dict(enumerate(value)))
        elif isinstance(value, torch.Tensor):
            found.append((name, value.detach().contiguous().view(-1).numpy().tobytes()))
        else:
            found.append((name, repr(value).encode()))

    walk("", engine.state())
    return found


def not_finite(engine: Engine, observed: list[dict[str, torch.Tensor]]) -> str:
    """Return which observed value of a training is not finite first; empty if all are."""
    for step, values in enumerate(observed, start=1):
        for name, value in values.items():
            if not bool(value.isfinite()):
                return f"{name.removeprefix('train/')} is {value.item()} at step {step}"
    return f"a loss is not finite at step {int(engine.first_bad)}" if engine.first_bad else ""


@lru_cache
def image_shapes() -> tuple[tuple[int, ...], ...]:
    """Return the shapes that a model is tried on, the first that it takes being checked."""
    sides = (16, 8, 28, 32, 64)
    return (*((1, side, side) for side in sides), *((3, side, side) for side in sides), (2,))
