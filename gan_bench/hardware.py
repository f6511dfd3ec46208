"""The processor of this machine, its abilities, and the processes on it; without torch."""

from __future__ import annotations

import os
import platform
import resource
import sys
from functools import lru_cache
from pathlib import Path
from threading import Thread

from gan_bench.errors import UserError

# Linux's names of the instructions that make bfloat16 products faster than float32 products.
BFLOAT16 = {"amx_bf16", "avx512_bf16"}
DEVICES = ("nvidia[0-9]*", "nvhost*", "dxg", "kfd")  # in /dev: NVIDIA, its boards, WSL, AMD


def cpu_name() -> str:
    """Return the processor's name."""
    return _cpu().get("model name") or platform.processor() or platform.machine()


def cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 faster than float32."""
    return bool(BFLOAT16 & set(_cpu().get("flags", "").split()))


def usable_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS has no such call
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_resident() -> int:
    """Return the most memory that this process has had, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024  # getrusage(2) differs
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def end_with_parent() -> None:
    """End this process of `multiprocessing` when the process that started it ends, even by SIGKILL.

    A thread watches the parent. The kernel's PR_SET_PDEATHSIG would watch the fork server, which
    lives as long as any of its children.
    """
    from multiprocessing import parent_process  # sockets and pipes: `plan` does without them

    parent = parent_process()
    assert parent is not None, "another process started this one"
    Thread(target=_exit_after, args=(parent.sentinel,), daemon=True).start()


def _exit_after(sentinel: int) -> None:
    from multiprocessing.connection import wait

    wait([sentinel])
    os._exit(1)


def has_gpu() -> bool:
    """Whether there is a device that torch may call `cuda`."""
    return any(True for name in DEVICES for _ in Path("/dev").glob(name))


def gpu_name(number: int, visible: str | None) -> str:
    """Return what CUDA_VISIBLE_DEVICES calls one of the GPUs that this process sees.

    Args:
        number: From 0, in the order in which this process sees them.
        visible: The variable in this process: numbers, or opaque names (`GPU-…`, `MIG-…`), which
            the driver alone understands; None or empty if it is not set.
    """
    return visible.split(",")[number].strip() if visible else str(number)


def refuse_lacking(device: str, precision: str, pack: int | str) -> None:
    """Refuse settings of `compute` that need hardware which this machine visibly lacks.

    Args:
        device: auto, cpu or cuda.
        precision: auto, float32, tf32 or bfloat16.
        pack: auto, or the number of runs that share a GPU.

    Raises:
        UserError: A setting needs other hardware; the message names the key and the reason.
    """
    if device == "cuda" and not has_gpu():
        raise UserError("compute.device is cuda, but this machine has no GPU; set compute.device: "
                        "auto, or cpu")
    if device == "cuda" or (device == "auto" and has_gpu()):
        return
    if precision == "tf32":
        raise UserError("compute.precision is tf32, a format of GPUs, but runs would use the "
                        "CPU; set compute.precision: float32, or auto")
    if precision == "bfloat16" and not cpu_has_bfloat16():
        raise UserError("compute.precision is bfloat16, but this processor has neither AMX nor "
                        "AVX512-BF16; set compute.precision: float32, or auto")
    if pack not in ("auto", 1):
        raise UserError(f"compute.pack is {pack}, which is for GPUs, but runs would use the CPU, "
                        f"each in a separate process; set compute.pack: auto, and give --slots")


def refuse_more_than_memory(size: int, name: str) -> None:
    """Refuse arrays that do not fit into memory; the system would silently kill the process.

    Args:
        size: In bytes.
        name: Of the arrays, in the plural, for the message.

    Raises:
        UserError: The machine has less free memory.
    """
    import psutil

    free = psutil.virtual_memory().available
    if size > free:
        raise UserError(f"{name} would take {size / 1e9:,.1f} GB, but only {free / 1e9:,.1f} GB "
                        f"is free; ask for fewer")


@lru_cache
def _cpu() -> dict[str, str]:
    """Linux's description of the first processor; empty on other systems."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    fields = [line.partition(":") for line in first.splitlines()]
    return {key.strip(): value.strip() for key, _, value in fields}
