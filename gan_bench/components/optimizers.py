"""Optimizers and their learning-rate schedules.

A registered factory takes the parameters and the optimizer's arguments. Each optimizer has the
schedule as an argument. `rate` computes the learning rate from the step alone, so a resumed run
needs no scheduler state; under `plateau` it depends on the losses too (`training.plateau`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from gan_bench.registry import OPTIMIZERS, MayChange, Part, Scheduled, read_scheduled

if TYPE_CHECKING:
    import torch
    from torch import nn

Rate = Annotated[float, MayChange(gt=0)]
Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
NonNegative = Annotated[float, Field(ge=0)]
Betas = Annotated[list[Annotated[float, MayChange(ge=0, lt=1)]], Field(min_length=2, max_length=2)]
Schedule = Literal["constant", "linear", "cosine", "step", "plateau"]
Steps = Annotated[int, Field(ge=1)]
Factor = Annotated[float, Field(gt=0, lt=1)]
Periods = Annotated[int, Field(ge=0)]
# The share of the rate that is left, over the run.
FALLS = {shape: Scheduled(points=[[0, 1], [1, 0]], shape=shape, unit="run")
         for shape in ("linear", "cosine")}


@OPTIMIZERS.register("adam")
def adam(
    parameters: Any, *, lr: Rate = 2e-4, betas: Betas = [0.5, 0.999],
    eps: Positive = 1e-8, weight_decay: NonNegative = 0.0, schedule: Schedule = "constant",
    decay_every: Steps | None = None, decay_factor: Factor = 0.1, decay_patience: Periods = 10,
) -> torch.optim.Optimizer:
    """Adam; the defaults are those of Radford et al. 2015: lr 2e-4, β₁ 0.5."""
    import torch

    return torch.optim.Adam(parameters, lr=lr, betas=(betas[0], betas[1]), eps=eps,
                            weight_decay=weight_decay, fused=True)


@OPTIMIZERS.register("sgd")
def sgd(
    parameters: Any, *, lr: Rate = 0.01, momentum: Fraction = 0.0, weight_decay: NonNegative = 0.0,
    schedule: Schedule = "constant", decay_every: Steps | None = None, decay_factor: Factor = 0.1,
    decay_patience: Periods = 10,
) -> torch.optim.Optimizer:
    """Stochastic gradient descent, with momentum on request."""
    import torch

    return torch.optim.SGD(parameters, lr=lr, momentum=momentum, weight_decay=weight_decay,
                           fused=True)


@OPTIMIZERS.register("rmsprop")
def rmsprop(
    parameters: Any, *, lr: Rate = 5e-5, alpha: Fraction = 0.99, eps: Positive = 1e-8,
    schedule: Schedule = "constant", decay_every: Steps | None = None, decay_factor: Factor = 0.1,
    decay_patience: Periods = 10,
) -> torch.optim.Optimizer:
    """RMSprop; the default lr is that of Arjovsky et al. 2017 (WGAN), algorithm 1."""
    import torch

    return torch.optim.RMSprop(parameters, lr=lr, alpha=alpha, eps=eps)


def build_optimizer(part: Part, parameters: Iterable[nn.Parameter], *, captured: bool = False,
                    ) -> torch.optim.Optimizer:
    """Return the optimizer that `part` describes, over `parameters`.

    Args:
        captured: Whether a CUDA graph may capture its steps; the graph reads the learning rate from
            the device.
    """
    optimizer: torch.optim.Optimizer = OPTIMIZERS.build(part, list(parameters))
    if captured:
        for group in optimizer.param_groups:
            group["lr"] = group["params"][0].new_tensor(group["lr"])
            if "capturable" in group:
                group["capturable"] = True
    return optimizer


def load_optimizer(optimizer: torch.optim.Optimizer, saved: dict[str, Any]) -> None:
    """Restore an optimizer's `state_dict`, except for what depends on the device.

    There the rate may be a tensor, which is set at each step.
    """
    by_device = [{key: group[key] for key in ("lr", "capturable") if key in group}
                 for group in optimizer.param_groups]
    optimizer.load_state_dict({**saved, "param_groups": [
        {**group, **options} for group, options in
        zip(saved["param_groups"], by_device, strict=True)]})


def set_rate(group: dict[str, Any], value: float) -> None:
    """Set the learning rate of a group; in place if it lies on the device."""
    import torch

    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(value)
    else:
        group["lr"] = value


def with_numbers(part: Part) -> Part:
    """Return the same, with numbers that change read once, as `rate` and `betas` accept them."""
    def read(value: object) -> object:
        return [*map(read_scheduled, value)] if isinstance(value, list) else read_scheduled(value)

    return part.model_copy(update={"args": {key: read(value) for key, value in part.args.items()}})


def rate(part: Part, step: int, steps: int, cuts: int = 0, images: int = 1) -> float:
    """Return the learning rate of `part` at `step` of `steps`, counted from 1.

    `linear` and `cosine` start at `lr` and reach 0 after the last step. `step` multiplies the rate
    by `decay_factor` after each `decay_every` steps. `plateau` does so where the mean of the
    network's loss over `decay_every` steps has not fallen for more than `decay_patience` such
    periods. A rate that is given at points follows them.

    Args:
        cuts: How often a plateau has lowered the rate.
        images: The number of real examples that D is given in a step.
    """
    schedule, number = part.args["schedule"], part.args["lr"]
    lr = read_scheduled(number)
    if isinstance(lr, Scheduled):
        return lr.at(step, steps, images)
    if schedule == "step":
        cuts = (step - 1) // part.args["decay_every"]
    if schedule in ("step", "plateau"):
        return float(number * part.args["decay_factor"] ** cuts)
    return float(number * FALLS[schedule].at(step, steps, images) if schedule in FALLS else number)


def betas(part: Part, step: int, steps: int, images: int) -> tuple[float, ...]:
    """Return the betas of `part` at a step; empty unless one of them changes.

    Args:
        images: As for `rate`.
    """
    def value(given: object) -> float:
        number = read_scheduled(given)
        if isinstance(number, Scheduled):
            return number.at(step, steps, images)
        return float(str(number))

    given = part.args.get("betas", ())
    if not any(isinstance(each, Mapping | Scheduled) for each in given):
        return ()
    return tuple(value(each) for each in given)
