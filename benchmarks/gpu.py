"""How fast a GPU trains: {eager, graph, packed 8} × models × precisions, beside naive.py.

    PYTHONPATH=. python benchmarks/gpu.py --out FOLDER      less than eight minutes

Needs torch, torchvision and pydantic, no MLflow and no network. GAN_BENCH_DATA names the folder of
MNIST; without it the images are random bytes. Every cell is a separate process with a time
limit, so a cell that fails says why and the table continues; its output is in FOLDER.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from targets import say_missed

if TYPE_CHECKING:
    from torch import Tensor

    from gan_bench.config.spec import RunSpec

NEEDED = ("torch", "torchvision", "PIL", "numpy", "pydantic", "pydantic_core", "annotated_types",
          "typing_inspection", "typing_extensions", "safetensors", "threadpoolctl", "gan_bench")
NAIVE = Path(__file__).with_name("naive.py")
MODELS = ("mlp", "dcgan_upsample", "dcgan")
PRECISIONS = ("float32", "tf32", "bfloat16")
PACKED = 8
TARGETS = {"mlp": 10.0, "dcgan_upsample": 60.0}  # seconds for 100 epochs
PACKED_TARGET = 4.0  # times the throughput of one seed, mlp
PEAK_SIZE = 8192
WARM_UP = 210  # steps: four of them are logged, so their graph is recorded too
NAIVE_STEPS, NAIVE_LIMIT = 470, 60  # two epochs; seconds
LINE = "{:16}{:10}{:10}{:>11}{:>14}{:>9}{:>9}  {}"


def eager(spec: RunSpec, images: Tensor) -> Callable[[int], None]:
    """The engine's own step."""
    from workload import engine_of, trainer

    return trainer(engine_of(spec), spec, images)


def graph(spec: RunSpec, images: Tensor) -> Callable[[int], None]:
    """The step captured as a CUDA graph, and replayed."""
    from workload import engine_of, trainer

    from gan_bench.training.step.cuda_graph import CapturedStep

    return trainer(CapturedStep(engine_of(spec)), spec, images)


def packed(spec: RunSpec, images: Tensor) -> Callable[[int], None]:
    """Several seeds in one process, each its own graph on its own stream."""
    import torch

    runs = []
    for seed in range(PACKED):
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        with torch.cuda.stream(stream):
            runs.append((stream, graph(spec.with_seed(seed), images)))

    def advance(step: int) -> None:
        for stream, run in runs:
            with torch.cuda.stream(stream):
                run(step)

    return advance


MODES = {"eager": (eager, 1), "graph": (graph, 1), f"packed {PACKED}": (packed, PACKED)}


def train(mode: str, model: str, precision: str, seconds: float, cache: str | None,
          ) -> dict[str, float]:
    """Train in this process: steps/s of all its runs together, and the operations of a step."""
    import torch
    from workload import flops_of, spec_of, timed

    spec = spec_of(model, precision, "cuda")
    images = images_of(cache)
    flops = flops_of(spec, images)
    make, runs = MODES[mode]
    advance = make(spec, images)
    _, step = timed(advance, 0, 0, least=WARM_UP, wait=torch.cuda.synchronize)
    rate, _ = timed(advance, step, seconds, wait=torch.cuda.synchronize)
    return {"rate": runs * rate, "flops": flops, "memory": torch.cuda.max_memory_allocated() / 1e9}


def images_of(cache: str | None) -> Tensor:
    """MNIST at 32 pixels on the GPU, or as many random bytes."""
    import torch
    from workload import dataset

    from gan_bench.components import data

    if cache is None:
        return torch.randint(0, 256, (60_000, 1, 32, 32), dtype=torch.uint8, device="cuda")
    return data.load(dataset(), Path(cache), Path(cache), "cuda").train.images


def decode(source: str, cache: str) -> dict[str, float]:
    """Decode MNIST into the cache."""
    from workload import dataset

    from gan_bench.components import data

    data.prepare_data(dataset(), Path(source), Path(cache))
    return {}


def peak(precision: str, seconds: float) -> dict[str, float]:
    """Multiply large matrices: FLOP/s."""
    import torch
    from workload import matmul_peak

    return {"peak": matmul_peak(precision, "cuda", seconds, PEAK_SIZE, torch.cuda.synchronize)}


def cell(work: Callable[..., dict[str, float]], arguments: tuple[Any, ...], log: Path,
         answer: Connection) -> None:
    """Do something in this process, what it prints in `log`; send what it returns, or why not."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(out, stream)
    try:
        found: dict[str, Any] = work(*arguments)
    except Exception as error:
        traceback.print_exc()
        lines = str(error).strip().splitlines() or [""]
        found = {"why": f"{type(error).__name__}: {lines[0]}"}
    print(found, flush=True)
    answer.send(found)


class Bench:
    """Runs the cells one after the other, within a budget of time."""

    def __init__(self, out: Path, limit: float, budget: float) -> None:
        self.out, self.limit, self.end = out, limit, time.monotonic() + budget
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["gan_bench.training.run", "torch._dynamo"])

    def run(self, name: str, work: Callable[..., dict[str, float]], *arguments: Any,
            ) -> dict[str, Any]:
        """Return what `work` returns in a process of its own; or {"why": …} if it does not."""
        left = min(self.limit, self.end - time.monotonic())
        if left <= 0:
            return {"why": "no time left for it: --budget"}
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(
            target=cell, args=(work, arguments, self.out / f"{name.replace(' ', '-')}.log", sender))
        process.start()
        sender.close()
        try:
            if not receiver.poll(left):
                return {"why": f"not done within {left:.0f} s"}
            found: dict[str, Any] = receiver.recv()
            return found
        except EOFError:
            process.join()
            return {"why": f"its process ended with status {process.exitcode}"}
        finally:
            process.kill()
            process.join()

    def naive(self, model: str, source: str | None, workers: int) -> dict[str, Any]:
        """Return the steps/s of the script; or {"why": …}."""
        left = min(NAIVE_LIMIT, self.end - time.monotonic())
        if left <= 0:
            return {"why": "no time left for it: --budget"}
        command = [sys.executable, str(NAIVE), "--model", model, "--device", "cuda",
                   "--warmup", "20", "--steps", str(NAIVE_STEPS), "--workers", str(workers)]
        command += ["--data", source] if source else []
        threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        environment = {k: v for k, v in os.environ.items() if k not in threads}
        log = self.out / f"naive-{model}-{workers}.log"
        with log.open("w") as file:
            try:
                subprocess.run(command, stdout=file, stderr=file, env=environment, timeout=left,
                               check=True)
            except subprocess.TimeoutExpired:
                return {"why": f"not done within {left:.0f} s"}
            except subprocess.CalledProcessError as error:
                return {"why": f"ended with status {error.returncode}; see {log.name}"}
        return {"rate": float(log.read_text().splitlines()[-1].split()[0])}

    def keep(self, every: dict[str, Any]) -> None:
        """Write what has been found so far to `results.json`."""
        (self.out / "results.json").write_text(json.dumps(every, indent=1) + "\n")


def table(bench: Bench, options: argparse.Namespace, source: str | None, cache: str | None,
          ) -> dict[str, Any]:
    """Measure and print, line by line; return all that was found."""
    from workload import EPOCHS, STEPS

    peaks = {p: bench.run(f"peak {p}", peak, p, 1.0) for p in options.precisions}
    print("matrix products: " + ", ".join(
        f"{p} {found['peak'] / 1e12:,.1f} TFLOP/s" if "peak" in found else f"{p} {found['why']}"
        for p, found in peaks.items()))
    print(LINE.format("model", "precision", "mode", "steps/s", f"{EPOCHS} epochs", "× naive",
                      "of peak", ""), flush=True)
    cores = len(os.sched_getaffinity(0))
    every: dict[str, Any] = {"steps": STEPS, "peak": peaks}
    for model in options.models:
        tried = {n: bench.naive(model, source, n) for n in sorted({2, max(1, cores // 2)})}
        workers, naive = max(tried.items(), key=lambda one: one[1].get("rate", 0.0))
        every[f"{model} naive"] = tried
        bench.keep(every)
        show(model, "as torch", "naive", naive, 1, naive, {}, f"{workers} workers")
        for precision in options.precisions:
            for mode, (_, runs) in MODES.items():
                found = bench.run(f"{model} {precision} {mode}", train, mode, model, precision,
                                  options.seconds, cache)
                every[f"{model} {precision} {mode}"] = found
                bench.keep(every)
                show(model, precision, mode, found, runs, naive, peaks[precision],
                     f"{found['memory']:.2f} GB" if "memory" in found else "")
    return every


def show(model: str, precision: str, mode: str, found: dict[str, Any], runs: int,
         naive: dict[str, Any], peak: dict[str, Any], note: str) -> None:
    """Print a line of the table; the time is until each of the `runs` has done its 100 epochs."""
    from workload import STEPS

    if "rate" not in found:
        print(LINE.format(model, precision, mode, "", "", "", "", found["why"]), flush=True)
        return
    rate = found["rate"]
    times = f"{rate / naive['rate']:.1f}" if "rate" in naive else ""
    share = f"{rate * found['flops'] / peak['peak']:.1%}" if "peak" in peak else ""
    print(LINE.format(model, precision, mode, f"{rate:,.1f}", f"{runs * STEPS / rate:,.1f} s",
                      times, share, note), flush=True)


def misses(every: dict[str, Any]) -> list[str]:
    """Return the targets missed, each by the fastest of its cells, in any precision."""
    from workload import STEPS

    def best(model: str, *modes: str) -> float:
        rates = [found.get("rate", 0.0) for name, found in every.items()
                 if name.startswith(f"{model} ") and name.endswith(modes)]
        return max(rates, default=0.0)

    missed = []
    for model, target in TARGETS.items():
        if f"{model} naive" not in every:  # not asked for
            continue
        rate = best(model, "eager", "graph")
        if not rate or STEPS / rate > target:
            took = f"{STEPS / rate:.1f} s" if rate else "not measured"
            missed.append(f"{model}, 100 epochs: {took}, and at most {target:g} s are wanted")
    one, many = best("mlp", "eager", "graph"), best("mlp", f"packed {PACKED}")
    if "mlp naive" in every and (not one or many / one < PACKED_TARGET):
        took = f"{many / one:.1f} times" if one and many else "not measured"
        missed.append(f"mlp, {PACKED} seeds packed: {took} one seed's throughput, and at least "
                      f"{PACKED_TARGET:g} are wanted")
    return missed


def refuse(why: str) -> None:
    """End with one line, and status 2."""
    print(f"gpu.py: {why}", file=sys.stderr)
    sys.exit(2)


def main() -> None:
    """Measure, print the table, and what is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for the logs")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--seconds", type=float, default=4, help="of each measurement")
    parser.add_argument("--limit", type=float, default=30, help="of each cell, in seconds")
    parser.add_argument("--budget", type=float, default=450, help="of all cells, in seconds")
    options = parser.parse_args()
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        refuse(f"missing here: {', '.join(missing)}" + (
            "; PYTHONPATH=. in the root of the repository gives gan_bench"
            if "gan_bench" in missing else ""))
    import torch

    from gan_bench.launcher import worker

    if not torch.cuda.is_available():
        refuse("torch sees no CUDA device here")
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.update(worker.process_environment(1))
    os.environ.pop("PYTHONSAFEPATH", None)  # scripts import those beside them
    bench = Bench(options.out, options.limit, options.budget)
    source = os.environ.get("GAN_BENCH_DATA", "")
    real = Path(source, "MNIST").exists()
    print(f"{torch.cuda.get_device_name()}, {len(os.sched_getaffinity(0))} cores, torch "
          f"{torch.__version__}; MNIST at 32 pixels, batches of 256: "
          + ("the real images" if real else "random bytes in its place, for GAN_BENCH_DATA names "
                                            "no folder with it"))
    with tempfile.TemporaryDirectory() as cache:
        if real and "why" in (found := bench.run("decode", decode, source, cache)):
            refuse(f"MNIST: {found['why']}")
        every = table(bench, options, source if real else None, cache if real else None)
    missed = misses(every)
    say_missed(missed)
    print(f"logs and results.json: {options.out}")


if __name__ == "__main__":
    main()
