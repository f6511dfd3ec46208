"""A device that is not there: what stands in for it, and how a step runs on it.

On `meta`, tensors have no data, and all of a step runs, backward passes and optimizers included. A
fake `cuda` (PyTorch's FakeTensorMode) is closer to a GPU, but its backward passes ask for CUDA's
runtime, so only forward passes run there.

Stood in for:

- generators of random numbers, also CUDA's global one: they lie on the CPU, and nothing is drawn;
- the fused kernels of the optimizers on `meta`, which has none: it is checked where their tensors
  lie, and the states are made as on a GPU;
- autocast on `meta`, where it does nothing;
- that there is a GPU, and that it multiplies bfloat16;
- on a fake `cuda`: all backward passes. Gradients are fake tensors of the right shape.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from gan_bench.config.spec import RunSpec
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.optimizing import Optimizing
from gan_bench.training.step.step_batch import StepBatch

WARM_UP, STEPS = 1, 2


class FakeGenerator(torch.Generator):
    """A generator that says that it lies on a device that is not there."""

    def __new__(cls, device: torch.device | str = "cpu") -> FakeGenerator:
        return super().__new__(cls, "cpu")

    def __init__(self, device: torch.device | str = "cpu") -> None:
        self._device = torch.device(device)

    @property
    def device(self) -> torch.device:
        return self._device

    def graphsafe_set_state(self, state: torch.Generator) -> FakeGenerator:
        """Of CUDA's global generator, from which nothing is drawn here."""
        return self


class FakeAutocast(torch.autocast):
    """Autocast that accepts `meta`, where it does nothing."""

    def __init__(self, device_type: str, *arguments: Any, **options: Any) -> None:
        super().__init__("cpu" if device_type == "meta" else device_type, *arguments, **options)


class OnDevice(TorchDispatchMode):
    """Refuses every operation on a tensor that lies elsewhere, such as one of the CPU.

    CUDA takes a scalar of the CPU, but copying it there waits, and a CUDA graph would keep it.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self._device = device

    def __torch_dispatch__(self, function: Any, types: Any, args: Sequence[Any] = (),
                           kwargs: dict[str, Any] | None = None) -> Any:
        made = function(*args, **(kwargs or {}))
        self.check(function, args, kwargs, made)
        return made

    def check(self, name: object, *values: object) -> None:
        """Raise an AssertionError if a tensor in the values lies elsewhere."""
        for value in tree_leaves(values):
            if isinstance(value, Tensor) and value.device.type != self._device:
                raise AssertionError(f"{name}: a tensor of shape {tuple(value.shape)} lies on "
                                     f"{value.device}")


def forget_constants() -> None:
    """Empty the caches of the components: a constant of a device that is not there has no values.
    """
    for name, module in [*sys.modules.items()]:
        if name.startswith("gan_bench.components"):
            for value in vars(module).values():
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


@contextmanager
def absent_device(device: str) -> Iterator[pytest.MonkeyPatch]:
    """Let torch take `meta` or a fake `cuda` for a GPU in this block."""
    forget_constants()
    try:
        with pytest.MonkeyPatch.context() as patch:
            stand_in(patch, device)
            yield patch
    finally:
        forget_constants()


def stand_in(monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    """Replace what of torch asks for a GPU."""
    from torch.optim import optimizer

    monkeypatch.setattr(torch, "Generator", FakeGenerator)
    monkeypatch.setattr(torch, "autocast", FakeAutocast)
    monkeypatch.setattr(torch.cuda, "default_generators", (FakeGenerator("cuda"),))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    supported = ["cuda", device]
    for kind in ("fused", "foreach"):
        monkeypatch.setattr(optimizer, f"_get_{kind}_kernels_supported_devices",
                            supported.copy)
    for name in ("adam", "rmsprop"):
        monkeypatch.setattr(sys.modules[f"torch.optim.{name}"],
                            "_get_capturable_supported_devices", lambda *wants: supported)
    for name in ("_fused_adam_", "_fused_sgd_"):
        monkeypatch.setattr(torch, name, lambda *values, _name=name, **options: OnDevice(
            device).check(_name, values, options))


def batch_of(spec: RunSpec, engine: Engine, device: str) -> StepBatch:
    """Return the examples of a step, without data."""
    n, kind, own = spec.batch_size, spec.condition_kind, spec.fake_labels == "independent"

    def examples(count: int) -> Tensor:
        return torch.empty((count, *spec.data.shape), device=device)

    def conditions(count: int) -> Tensor:
        if kind == "image":
            return torch.empty((count, *spec.data.input), device=device)
        return torch.zeros(count, dtype=torch.int64, device=device) % spec.data.classes

    return StepBatch(
        [examples(n) for _ in range(spec.d_steps)],
        [conditions(n) for _ in range(spec.d_steps)] if kind != "nothing" else None,
        examples(n * spec.g_steps) if engine.needs_real else None,
        conditions(n * spec.g_steps) if kind != "nothing" else None,
        [conditions(n) for _ in range(spec.d_steps)] if own else None,
        conditions(n) if own else None)


def take_steps(engine: Engine, device: str) -> None:
    """Take steps with the engine, of which every second one is observed.

    Raises:
        Exception: A step looks at a value, or has a tensor on another device.
    """
    batch = batch_of(engine.spec, engine, device)
    for step in range(1, STEPS + 1):
        # The first steps make states and constants, as they do before a CUDA graph is recorded.
        watched = OnDevice(device) if step > WARM_UP else nullcontext()
        with watched:
            seen = engine.step(step, batch, step % 2 == 0)
        assert bool(seen) is (step % 2 == 0)
        assert {value.device.type for value in seen.values()} <= {device}


def train_on_meta(spec: RunSpec, plant: Callable[[Engine], object] = id) -> None:
    """Take all of a run's steps, each whole, on `meta`.

    Args:
        plant: Changes the engine before its first step.

    Raises:
        Exception: As `take_steps`.
    """
    with absent_device("meta"):
        engine = Engine(spec, "meta")
        plant(engine)
        take_steps(engine, "meta")


def forward_on_cuda(spec: RunSpec, precision: str, plant: Callable[[Engine], object] = id) -> None:
    """Take all of a run's steps on a fake `cuda`, without backward passes and optimizers.

    Raises:
        Exception: As `take_steps`.
    """
    with absent_device("cuda") as patch, FakeTensorMode():
        without_backward(patch)
        engine = Engine(spec, "cuda", precision)
        plant(engine)
        take_steps(engine, "cuda")


def replace_tensors(module: nn.Module, change: Callable[[Tensor], Tensor],
                    recurse: bool = True) -> nn.Module:
    """Do what `nn.Module._apply` does, which fails at moving fake tensors from device to device."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                with torch.no_grad():
                    part._parameters[name] = nn.Parameter(change(parameter),
                                                          parameter.requires_grad)
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = change(buffer)
    return module


def without_backward(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every gradient be a tensor like what it is the gradient of."""
    def gradients(outputs: Any, inputs: Any, *arguments: Any, **options: Any) -> Any:
        wanted = [inputs] if isinstance(inputs, Tensor) else inputs
        total = sum(output.sum() for output in tree_leaves(outputs))
        return tuple(torch.empty_like(x) + 0 * total for x in wanted)

    def update(optimizing: Optimizing, network: nn.Module, losses: Iterable[Tensor],
               is_own: bool = False) -> Tensor:
        computed = [loss.detach() for loss in losses]  # each when it is asked for
        OnDevice("cuda").check("loss", computed)
        for parameter in network.parameters():
            if parameter.requires_grad:
                parameter.grad = torch.empty_like(parameter)
        return torch.stack(computed).mean()

    monkeypatch.setattr(torch.autograd, "grad", gradients)
    monkeypatch.setattr(Optimizing, "update", update)
    monkeypatch.setattr(nn.Module, "_apply", replace_tensors)
