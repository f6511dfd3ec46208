"""What gpu.py measures in a process of its own: how fast a run, or several, train in each mode.

`device` is `cuda`; or `cpu` in a rehearsal, which has no graphs and no streams: they are left out.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from workload import BATCH, dataset, flops_of, matmul_peak, spec_of, timed, trainer

from gan_bench.components import data
from gan_bench.config.spec import RunSpec
from gan_bench.training.device import resolve_precision, set_up_torch
from gan_bench.training.step.cuda_graph import CapturedStep
from gan_bench.training.step.engine import Engine

# The name of a mode → how many runs train at once, and whether their steps are graphs.
MODES = {"eager": (1, False), "graph": (1, True), "packed 1": (1, True), "packed 4": (4, True),
         "packed 8": (8, True)}
MODELS: dict[str, dict[str, Any]] = {
    "mlp": {"name": "mlp"}, "dcgan_upsample": {"name": "dcgan_upsample"},
    "dcgan": {"name": "dcgan"}, "resnet": {"name": "resnet"},
    "stylegan2": {"name": "stylegan2", "width": 64, "latent_dim": 128, "mapping_layers": 2}}
LAUNCHES = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync",
            "cudaMemsetAsync")
LOOKED_AT, HOST_STEPS = 5, 3
PEAK_SIZE = 8192
SAMPLE = 0.1  # seconds between two looks at the utilisation


@dataclass(frozen=True)
class Scale:
    """How large everything is: as it is measured, or tiny, for a rehearsal.

    Attributes:
        device: `cuda` or `cpu`.
        batch_size: Of each run.
        images: How many there are if MNIST is not to hand.
        peak_size: Of the square matrices whose product is the peak.
        width: Of all models; None: their own.
        kinds: Steps of each kind, logged or not, before a measurement: three are eager, and at the
            fourth its graph is recorded.
        repeats: Of the measurement of the host's time.
    """

    device: str = "cuda"
    batch_size: int = BATCH
    images: int = 60_000
    peak_size: int = PEAK_SIZE
    width: int | None = None
    kinds: int = 4
    repeats: int = 7


REHEARSAL = Scale("cpu", 8, 64, 128, 8, 1, 1)


def settings_of(model: str, scale: Scale) -> dict[str, Any]:
    """Return the model of a cell, with its arguments."""
    narrow = {} if scale.width is None else {"width": scale.width}
    return MODELS[model] | narrow


def run_of(model: str, precision: str, seed: int, scale: Scale) -> RunSpec:
    """Return a run of a cell. In a rehearsal `tf32`, which no CPU has, is float32."""
    if scale.device == "cpu" and precision == "tf32":
        precision = "float32"
    return spec_of(settings_of(model, scale), precision, scale.device, seed, scale.batch_size)


def make_runs(model: str, precision: str, mode: str, images: Tensor, scale: Scale,
              ) -> Callable[[int], None]:
    """Return a function of the step that trains the runs of a mode, each on a stream of its own."""
    count, captured = MODES[mode]
    turns: list[tuple[AbstractContextManager[Any], Callable[[int], None]]] = []
    for seed in range(count):
        spec = run_of(model, precision, seed, scale)
        set_up_torch(spec)
        stream: AbstractContextManager[Any] = nullcontext()
        if scale.device == "cuda" and mode.startswith("packed"):
            stream = torch.cuda.stream(torch.cuda.Stream())  # type: ignore[no-untyped-call]
        with stream:
            engine = Engine(spec, scale.device, resolve_precision(spec, scale.device))
            steps = CapturedStep(engine) if captured and scale.device == "cuda" else engine
            turns.append((stream, trainer(steps, spec, images)))

    def advance(step: int) -> None:
        for stream, run in turns:
            with stream:
                run(step)

    return advance


def measure(report: Callable[[str, dict[str, Any]], None], model: str, precision: str,
            modes: list[str], seconds: float, cache: str | None, scale: Scale) -> None:
    """Measure each mode in turn, and report it at once; a mode that fails is reported with why."""
    images = images_of(cache, scale)
    flops = flops_of(run_of(model, precision, 0, scale), images)
    for mode in modes:
        try:
            found = measure_mode(model, precision, mode, images, seconds, scale)
            report(mode, found | {"flops": flops})
        except Exception as error:
            report(mode, {"why": explained(error)})


def measure_mode(model: str, precision: str, mode: str, images: Tensor, seconds: float,
                 scale: Scale) -> dict[str, Any]:
    """Return what one mode does: `rate` in steps/s of all its runs together, and how it does it."""
    wait = torch.cuda.synchronize if scale.device == "cuda" else _nothing
    spec = run_of(model, precision, 0, scale)
    if scale.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    advance = make_runs(model, precision, mode, images, scale)
    for i in range(1, scale.kinds + 1):
        advance(i)
        advance(i * spec.log_every)  # one that is logged
    step = scale.kinds * spec.log_every + 1
    runs = MODES[mode][0]
    found: dict[str, Any] = {"host": host_time(advance, step, wait, scale.repeats) / runs}
    launches = launches_of(advance, step, scale.device, wait)
    found["launches"] = launches / runs if launches is not None else None
    with utilisation(scale.device) as shares:
        rate, _ = timed(advance, step, seconds, wait=wait)
    found |= {"rate": runs * rate, "busy": statistics.mean(shares) if shares else None}
    if scale.device == "cuda":
        found["memory"] = torch.cuda.max_memory_allocated() / 1e9
    return found


def host_time(advance: Callable[[int], None], step: int, wait: Callable[[], object],
              repeats: int) -> float:
    """Return for how many seconds the host is busy with a step that is not logged.

    It is how long a few calls take while the device is idle at first, so that none of them waits
    for it; the median of several tries.
    """
    taken = []
    for _ in range(repeats):
        wait()
        begin = time.perf_counter()
        for i in range(HOST_STEPS):
            advance(step + i)
        taken.append((time.perf_counter() - begin) / HOST_STEPS)
    wait()
    return statistics.median(taken)


class Operations(TorchDispatchMode):
    """Counts operations: what a rehearsal has in the place of launches."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None,
                           ) -> Any:
        self.count += 1
        return function(*args, **(kwargs or {}))


def launches_of(advance: Callable[[int], None], step: int, device: str,
                wait: Callable[[], object]) -> float | None:
    """Return how many kernels, copies and graphs a step launches; None if no profile tells."""
    if device == "cpu":
        with Operations() as operations:
            advance(step)
        return operations.count
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as recorded:
        for i in range(LOOKED_AT):
            advance(step + i)
        wait()
    count = sum(event.count for event in recorded.key_averages()
                if event.key.startswith(LAUNCHES))
    return count / LOOKED_AT if count else None


class _Rates(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


@contextmanager
def utilisation(device: str) -> Iterator[list[float]]:
    """Yield a list that is filled with the shares of time in which a kernel ran, as NVML says.

    It stays empty where NVML says nothing, as of a slice of a GPU (MIG).
    """
    shares: list[float] = []
    look = _nvml_look() if device == "cuda" else None
    if look is None:
        yield shares
        return
    over = Event()

    def watch() -> None:
        while not over.wait(SAMPLE):
            if (share := look()) is not None:
                shares.append(share)

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield shares
    finally:
        over.set()
        watcher.join()


def _nvml_look() -> Callable[[], float | None] | None:
    """Return a function that asks NVML how busy this process's GPU is; None without NVML."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    name = str(torch.cuda.get_device_properties(0).uuid)
    name = name if name.startswith(("GPU-", "MIG-")) else f"GPU-{name}"
    handle = ctypes.c_void_p()
    if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByUUID(name.encode(),
                                                                   ctypes.byref(handle)):
        return None

    def look() -> float | None:
        rates = _Rates()
        failed = library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(rates))
        return None if failed else rates.gpu / 100

    return look


def images_of(cache: str | None, scale: Scale) -> Tensor:
    """MNIST at 32 pixels on the device, or as many random bytes."""
    if cache is None:
        return torch.randint(0, 256, (scale.images, 1, 32, 32), dtype=torch.uint8,
                             device=scale.device)
    return data.load(dataset(), Path(cache), Path(cache), scale.device).train.images


def decode(report: Callable[[str, dict[str, Any]], None], source: str, cache: str) -> None:
    """Decode MNIST into the cache."""
    data.prepare_data(dataset(), Path(source), Path(cache))
    report("decoded", {})


def peak(report: Callable[[str, dict[str, Any]], None], precision: str, seconds: float,
         scale: Scale) -> None:
    """Multiply large matrices, and report the FLOP/s."""
    wait = torch.cuda.synchronize if scale.device == "cuda" else _nothing
    report("peak", {"peak": matmul_peak(precision, scale.device, seconds, scale.peak_size, wait)})


def explained(error: Exception) -> str:
    """Return an error in one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"


def _nothing() -> None:
    """What a rehearsal does where a GPU is waited for."""
