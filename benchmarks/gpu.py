"""How fast a GPU trains: {eager, graph, packed 1, 4, 8} × models × precisions, beside naive.py.

    PYTHONPATH=. python benchmarks/gpu.py --out FOLDER      less than six minutes

`make gpu` runs the GPU tests first. It needs torch and some small packages (gpu_all.py says which),
no MLflow and no network. GAN_BENCH_DATA names the folder of MNIST; without it the images are random
bytes. Each model and precision is a process with a time limit, so one that fails says why and the
others go on; their output is in FOLDER, and the table comes last.
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
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from targets import say_missed

NAIVE = Path(__file__).with_name("naive.py")
OF_NAIVE = ("mlp", "dcgan_upsample", "dcgan")  # the models that naive.py has
PRECISIONS = ("float32", "tf32", "bfloat16")
TARGETS = {"mlp": 10.0, "dcgan_upsample": 60.0}  # seconds for 100 epochs
PACKED_TARGET, NAIVE_TARGET = 4.0, 20.0  # of mlp: times one seed's throughput, times naive
NAIVE_STEPS, NAIVE_LIMIT = 300, 40  # seconds
LINE = "{:15}{:10}{:10}{:>10}{:>12}{:>9}{:>9}{:>10}{:>11}{:>7}  {}"
HEAD = LINE.format("model", "precision", "mode", "steps/s", "100 epochs", "× naive", "of peak",
                   "launches", "host µs", "busy", "")

Found = dict[str, Any]


def cell(work: Callable[..., None], arguments: tuple[Any, ...], log: Path, answer: Connection,
         ) -> None:
    """Do something in this process, what it prints in `log`; send what it reports, or why not."""
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    for stream in (1, 2):
        os.dup2(out, stream)

    def report(what: str, found: Found) -> None:
        print(what, found, flush=True)
        answer.send((what, found))

    try:
        work(report, *arguments)
    except Exception as error:
        from gpu_cells import explained

        traceback.print_exc()
        report("", {"why": explained(error)})


class Bench:
    """Runs the cells one after the other, within a budget of time."""

    def __init__(self, out: Path, limit: float, budget: float) -> None:
        self.out, self.limit, self.end = out, limit, time.monotonic() + budget
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["gpu_cells", "torch._dynamo"])

    def run(self, name: str, work: Callable[..., None], *arguments: Any) -> dict[str, Found]:
        """Return all that `work` reports in a process of its own; under "" why it ended early."""
        limit = min(self.limit, self.end - time.monotonic())
        if limit <= 0:
            return {"": {"why": "no time left for it: --budget"}}
        end = time.monotonic() + limit
        receiver, sender = self._context.Pipe(duplex=False)
        log = self.out / f"{name.replace(' ', '-')}.log"
        process = self._context.Process(target=cell, args=(work, arguments, log, sender))
        process.start()
        sender.close()
        every: dict[str, Found] = {}
        try:
            while receiver.poll(max(0.0, end - time.monotonic())):
                what, found = receiver.recv()
                every[what] = found
            every[""] = {"why": f"not done within {limit:.0f} s"}
        except EOFError:
            process.join()
            if process.exitcode:
                every[""] = {"why": f"its process ended with status {process.exitcode}"}
        finally:
            process.kill()
            process.join()
        return every

    def naive(self, model: str, source: str | None, workers: int, device: str, steps: int,
              ) -> Found:
        """Return the steps/s of the script; or {"why": …}."""
        left = min(NAIVE_LIMIT, self.limit, self.end - time.monotonic())
        if left <= 0:
            return {"why": "no time left for it: --budget"}
        command = [sys.executable, str(NAIVE), "--model", model, "--device", device, "--warmup",
                   str(min(20, steps)), "--steps", str(steps), "--workers", str(workers)]
        command += ["--data", source] if source else []
        command += ["--batch-size", "8"] if device == "cpu" else []
        threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        environment = {k: v for k, v in os.environ.items() if k not in threads}
        log = self.out / f"naive-{model}-{workers}.log"
        with log.open("w") as file:
            try:
                subprocess.run(command, stdout=file, stderr=file, env=environment, timeout=left,
                               check=True)
            except subprocess.TimeoutExpired:
                return {"why": f"not done within {left:.0f} s"}
            except subprocess.CalledProcessError:
                return {"why": (log.read_text().strip().splitlines() or ["it failed"])[-1]}
        return {"rate": float(log.read_text().splitlines()[-1].split()[0])}

    def keep(self, every: dict[str, Any]) -> None:
        """Write what has been found so far to `results.json`."""
        (self.out / "results.json").write_text(json.dumps(every, indent=1) + "\n")


def measure_all(bench: Bench, options: argparse.Namespace, source: str | None, cache: str | None,
                ) -> dict[str, Any]:
    """Measure everything, the most wanted first; return it, and say what is done."""
    import gpu_cells

    scale = gpu_cells.REHEARSAL if options.rehearse else gpu_cells.Scale()
    every: dict[str, Any] = {"naive": {}, "peak": {}}
    for precision in options.precisions:
        found = bench.run(f"peak {precision}", gpu_cells.peak, precision, options.seconds / 3,
                          scale)
        every["peak"][precision] = found.get("peak", found.get("", {}))
    for model in options.models:
        begin = time.monotonic()
        every["naive"][model] = best_naive(bench, model, source, options.rehearse)
        for precision in options.precisions:
            found = bench.run(f"{model} {precision}", gpu_cells.measure, model, precision,
                              list(gpu_cells.MODES), options.seconds, cache, scale)
            for mode in gpu_cells.MODES:
                every[f"{model} {precision} {mode}"] = found.get(mode, found.get("", {
                    "why": "it said nothing"}))
            bench.keep(every)
        print(f"{model}: measured in {time.monotonic() - begin:.0f} s", flush=True)
    return every


def best_naive(bench: Bench, model: str, source: str | None, rehearse: bool) -> Found:
    """Return the speed of the plain script with the better of two numbers of workers."""
    if model not in OF_NAIVE:
        return {"why": "naive.py has no such model"}
    if rehearse:
        return (bench.naive(model, source, 0, "cpu", 1) if model == "mlp" else
                {"why": "a rehearsal runs that of mlp alone"})
    counts = {2, max(1, len(os.sched_getaffinity(0)) // 2)}
    tried = {n: bench.naive(model, source, n, "cuda", NAIVE_STEPS) for n in sorted(counts)}
    workers, found = max(tried.items(), key=lambda one: one[1].get("rate", 0.0))
    return found | {"workers": workers}


def lines(every: dict[str, Any], options: argparse.Namespace) -> list[str]:
    """Return the table of what was found."""
    from gpu_cells import MODES

    made = [HEAD]
    for model in options.models:
        naive = every["naive"][model]
        made.append(line(model, "as torch", "naive", naive, 1, naive, {}))
        for precision in options.precisions:
            made += [line(model, precision, mode, every[f"{model} {precision} {mode}"], runs, naive,
                          every["peak"][precision]) for mode, (runs, _) in MODES.items()]
    return made


def line(model: str, precision: str, mode: str, found: Found, runs: int, naive: Found, peak: Found,
         ) -> str:
    """Return a line of the table; the time is until each of the `runs` has done its 100 epochs."""
    from workload import STEPS

    if "rate" not in found:
        return LINE.format(model, precision, mode, *[""] * 7, found["why"])
    rate = found["rate"]
    note = f"{found['workers']} workers" if "workers" in found else ""
    if "memory" in found:
        note = f"{found['memory']:.2f} GB"
    launches, busy, host = (found.get(name) for name in ("launches", "busy", "host"))
    return LINE.format(
        model, precision, mode, f"{rate:,.1f}", f"{runs * STEPS / rate:,.1f} s",
        f"{rate / naive['rate']:.1f}" if "rate" in naive else "",
        f"{rate * found['flops'] / peak['peak']:.1%}" if "peak" in peak else "",
        f"{launches:,.0f}" if launches is not None else "",
        f"{1e6 * host:,.0f}" if host is not None else "",
        f"{busy:.0%}" if busy is not None else "", note)


def misses(every: dict[str, Any]) -> list[str]:
    """Return the targets missed, each by the fastest of its cells, in any precision."""
    from workload import STEPS

    def best(model: str, *modes: str) -> float:
        return max((found.get("rate", 0.0) for name, found in every.items()
                    if name.startswith(f"{model} ") and name.endswith(modes)), default=0.0)

    missed = []
    for model, target in TARGETS.items():
        if model in every["naive"]:
            rate = best(model, "eager", "graph")
            if not rate or STEPS / rate > target:
                took = f"{STEPS / rate:,.1f} s" if rate else "not measured"
                missed.append(f"{model}, 100 epochs: {took}, and at most {target:g} s are wanted")
    if "mlp" in every["naive"]:
        one, naive = best("mlp", "eager", "graph"), every["naive"]["mlp"].get("rate", 0.0)
        for what, many, few, target in (
                ("8 seeds packed, times one seed's throughput", best("mlp", "packed 8"), one,
                 PACKED_TARGET), ("one run, times naive", one, naive, NAIVE_TARGET)):
            if not many or not few or many / few < target:
                took = f"{many / few:.1f}" if many and few else "not measured"
                missed.append(f"mlp, {what}: {took}, and at least {target:g} are wanted")
    return missed


def options_of(arguments: list[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line."""
    models = (*OF_NAIVE, "resnet", "stylegan2")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for the logs")
    parser.add_argument("--models", nargs="+", choices=models, default=list(models))
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--seconds", type=float, default=1.5, help="of each measurement")
    parser.add_argument("--limit", type=float, default=40, help="of each process, in seconds")
    parser.add_argument("--budget", type=float, default=340, help="of all of it, in seconds")
    parser.add_argument("--rehearse", action="store_true",
                        help="tiny sizes on the CPU, without graphs and streams: whether the "
                             "script works, and no measurement")
    options = parser.parse_args(arguments)
    if options.rehearse:
        options.seconds = 0.05
    return options


def main() -> None:
    """Measure, print the table, and what is missed."""
    options = options_of()
    import torch

    from gan_bench.launcher import worker

    if not options.rehearse and not torch.cuda.is_available():
        print("gpu.py: torch sees no CUDA device here", file=sys.stderr)
        sys.exit(2)
    options.out.mkdir(parents=True, exist_ok=True)
    os.environ.update(worker.process_environment(1))
    os.environ.pop("PYTHONSAFEPATH", None)  # scripts import those beside them
    bench = Bench(options.out, options.limit, options.budget)
    source = os.environ.get("GAN_BENCH_DATA", "")
    real = Path(source, "MNIST").exists() and not options.rehearse
    where = "a CPU in CUDA's place" if options.rehearse else torch.cuda.get_device_name()
    with tempfile.TemporaryDirectory() as cache:
        if real:
            import gpu_cells

            found = bench.run("decode", gpu_cells.decode, source, cache)
            if "decoded" not in found:
                print(f"MNIST cannot be read ({found['']['why']}): random bytes in its place")
                real = False
        every = measure_all(bench, options, source if real else None, cache if real else None)
    text = [f"{where}, {len(os.sched_getaffinity(0))} cores, torch {torch.__version__}; 32 pixels, "
            + ("MNIST" if real else "random bytes for images"),
            "matrix products: " + ", ".join(
                f"{p} {found['peak'] / 1e12:,.3f} TFLOP/s" if "peak" in found else
                f"{p} {found['why']}" for p, found in every["peak"].items()),
            *lines(every, options)]
    (options.out / "table.txt").write_text("\n".join(text) + "\n")
    print("", *text, sep="\n")
    if options.rehearse:
        print("a rehearsal: tiny sizes, operations in the place of launches, eager steps in the "
              "place of graphs; no figure means anything")
    else:
        say_missed(misses(every))


if __name__ == "__main__":
    main()
