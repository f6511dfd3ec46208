"""What a run is computed on and in: device, precision, and how many runs share a GPU."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError
from gan_bench.hardware import cpu_has_bfloat16, peak_resident, refuse_lacking


def set_up_torch(spec: RunSpec) -> None:
    """Make torch's arithmetic what the run's specification says, and nothing else."""
    torch.set_num_threads(spec.compute.threads)
    torch.use_deterministic_algorithms(spec.compute.deterministic)
    if spec.compute.deterministic:  # cuBLAS repeats its sums with a fixed workspace only
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    # It would fill new tensors with NaN to expose reads of them; the steps make none, and pay.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    # TF32 keeps 10 bits of the mantissa: float32 means float32.
    tf32 = spec.compute.precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32


@contextmanager
def torch_as_before() -> Iterator[None]:
    """Restore afterwards what `set_up_torch` and the seeds of a run change in this process."""
    threads, name = torch.get_num_threads(), "CUBLAS_WORKSPACE_CONFIG"
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    fills = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(name)
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    drawn = torch.get_rng_state()
    # An unused GPU has drawn no numbers, and reading its state would initialise it.
    awake = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    drawn_on_gpus = torch.cuda.get_rng_state_all() if awake else []
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        torch.utils.deterministic.fill_uninitialized_memory = fills  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = benchmark
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
        torch.set_rng_state(drawn)
        if drawn_on_gpus:
            torch.cuda.set_rng_state_all(drawn_on_gpus)
        if workspace is None:
            os.environ.pop(name, None)


def resolve_device(spec: RunSpec) -> str:
    """Return `cpu` or `cuda`, as the run asks for.

    Raises:
        UserError: The run asks for cuda, but there is no CUDA device.
    """
    if spec.compute.device == "cuda" and not torch.cuda.is_available():
        raise UserError("compute.device is cuda, and torch sees no CUDA device here; "
                        "set compute.device: auto, or cpu")
    if spec.compute.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return spec.compute.device


def resolve_precision(spec: RunSpec, device: str) -> str:
    """Return what a run's products are computed in on a device: float32, tf32 or bfloat16.

    `auto` is bfloat16 where the hardware multiplies it faster, and float32 elsewhere.

    Raises:
        UserError: The device lacks the requested precision.
    """
    asked = spec.compute.precision
    if device == "cuda":
        faster = torch.cuda.get_device_capability() >= (8, 0)  # Ampere
        if asked in ("tf32", "bfloat16") and not faster:
            raise UserError(f"compute.precision is {asked}, but this GPU is older than Ampere; set "
                            f"compute.precision: float32, or auto")
    else:
        refuse_lacking("cpu", asked, spec.compute.pack)
        faster = cpu_has_bfloat16()
    if asked != "auto":
        return asked
    return "bfloat16" if faster else "float32"


def devices(spec: RunSpec) -> int:
    """Return how many GPUs the run's device setting means: 0 for the CPU."""
    return torch.cuda.device_count() if resolve_device(spec) == "cuda" else 0


def peak_memory(device: str) -> int:
    """Return this process's peak memory in bytes: of the GPU, or of the machine for the CPU."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    return peak_resident()
