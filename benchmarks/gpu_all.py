"""All that is to be known of a GPU in eight minutes: its tests, then gpu.py, one table last.

    make gpu                              or: python benchmarks/gpu_all.py --out FOLDER
    make gpu GPU_OPTIONS=--rehearse       the same on a CPU, in tiny sizes: whether it works
    make gpu GPU_OPTIONS='--wheels DIR'   with packages that the machine lacks, as wheels in DIR

The machine needs torch, and no MLflow, no torch-fidelity, no network. What else it needs is in
PACKAGES; what of it is missing is said in one line, with the command that fetches it. Each test is
a process with a time limit of its own; those likeliest to fail begin first, some at once. A test
that fails is said, and the measurements go on. All output is in FOLDER.
"""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import gpu

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests" / "training" / "test_gpu.py"
# A module → the package that has it. The plain script needs torchvision too, and nothing else does.
PACKAGES = {"numpy": "numpy", "scipy": "scipy", "PIL": "pillow", "pydantic": "pydantic",
            "ruamel.yaml": "ruamel.yaml", "safetensors": "safetensors", "psutil": "psutil",
            "threadpoolctl": "threadpoolctl", "pytest": "pytest"}
GRAPHS = "test_a_graph_gives_the_bits_of_the_step"
# The likeliest to fail first: name, words that pick some of its cases, seconds.
ORDER = (
    (GRAPHS, "float32", 90), (GRAPHS, "bfloat16", 90),
    ("test_a_step_never_waits_for_the_gpu", "", 90),
    ("test_runs_that_share_a_gpu_are_to_the_bit_as_if_alone", "", 60),
    ("test_what_a_cpu_has_begun_goes_on_with_its_schedule", "", 45),
    ("test_repeated_runs_are_equal_to_the_bit", "", 45),
    ("test_a_step_that_waits_for_the_device_is_refused_in_words", "", 30),
    (GRAPHS, "tf32", 90),
    ("test_first_step_is_that_of_the_cpu", "", 45),
    ("test_batches_are_gathered_without_waiting", "", 30),
    ("test_another_seed_gives_other_bits", "", 30),
)
AT_ONCE = 4  # tests: a GPU has room for them, and each waits for imports and compilers
TESTS_BUDGET, BUDGET = 130.0, 470.0  # seconds: of the tests, and of everything
NO_TESTS = 5  # pytest's status when it has picked none


@dataclass(frozen=True)
class Result:
    """How a test ended.

    Attributes:
        name: Of the test, with the words that picked its cases.
        verdict: `passed`, `skipped`, `FAILED` or `NOT DONE`.
        why: In one line.
        seconds: How long it took.
    """

    name: str
    verdict: str
    why: str
    seconds: float


def missing() -> list[str]:
    """Return the packages that this machine lacks."""
    return [package for module, package in PACKAGES.items() if not _is_there(module)]


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # of a folder that the module would be in
        return False


def lacking(packages: list[str]) -> str:
    """Return what to do about missing packages, in one line."""
    names, version = " ".join(packages), f"{sys.version_info[0]}.{sys.version_info[1]}"
    return (f"this machine lacks {', '.join(packages)}: where there is a network, `python -m pip "
            f"download --only-binary=:all: --python-version {version} -d wheels {names}`; bring "
            f"the folder here, and `make gpu GPU_OPTIONS='--wheels wheels'`")


def install(wheels: Path, folder: Path) -> str:
    """Unpack wheels into a folder of their own; return why that fails, or nothing."""
    if not wheels.is_dir():
        return f"--wheels: {wheels} is no folder"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--find-links",
               str(wheels), "--target", str(folder), *missing()]
    done = subprocess.run(command, capture_output=True, text=True)
    importlib.invalidate_caches()  # the folder was not there when it was looked at
    lines = done.stderr.strip().splitlines() or [f"pip ended with status {done.returncode}"]
    return f"--wheels: {lines[-1]}" if done.returncode else ""


def run_test(test: tuple[str, str, float], file: Path, out: Path, end: float) -> Result:
    """Run a test in a process of its own, within its limit and before the end."""
    name, words, limit = test
    label = f"{name}[{words}]" if words else name
    left = min(limit, end - time.monotonic())
    if left <= 0:
        return Result(label, "NOT DONE", "no time was left for it", 0.0)
    # Without conftest.py, which needs packages of the other tests; `-rs` says why one is skipped.
    command = [sys.executable, "-m", "pytest", "--noconftest", "-q", "-rs", "-p",
               "no:cacheprovider", "--tb=short", "--basetemp", str(out / "tmp" / label),
               f"{file}::{name}", *(["-k", words] if words else [])]
    log, begin = out / f"{label}.log", time.monotonic()
    (out / "tmp").mkdir(parents=True, exist_ok=True)
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, cwd=ROOT,
                                   env=_environment(), start_new_session=True)
        try:
            status = process.wait(left)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that the test started
            process.wait()
            return Result(label, "NOT DONE", f"not done within {left:.0f} s", left)
    seconds = time.monotonic() - begin
    lines = log.read_text().strip().splitlines() or ["it said nothing"]
    if status == 0 and "passed" in lines[-1]:
        return Result(label, "passed", lines[-1], seconds)
    if status in (0, NO_TESTS):
        return Result(label, "skipped", lines[-1], seconds)
    errors = [line for line in lines if line.startswith(("E  ", "FAILED", "ERROR"))]
    return Result(label, "FAILED", (errors or lines[-1:])[0].lstrip("E ").strip(), seconds)


def _environment() -> dict[str, str]:
    """Return the environment of the tests: modules of `tests` are found without conftest.py."""
    before = os.environ.get("PYTHONPATH", "")
    paths = [str(ROOT / "tests"), str(ROOT), *([before] if before else [])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def run_tests(tests: tuple[tuple[str, str, float], ...], file: Path, out: Path, budget: float,
              ) -> Iterator[Result]:
    """Run tests in their order, some at once; yield how each ended, as soon as it does."""
    end = time.monotonic() + budget
    at_once = max(1, min(AT_ONCE, len(os.sched_getaffinity(0)) // 2))
    with ThreadPoolExecutor(at_once) as pool:
        for done in as_completed([pool.submit(run_test, test, file, out, end) for test in tests]):
            yield done.result()


def measure(options: argparse.Namespace, budget: float) -> int:
    """Run gpu.py, whose last words are the table; return its status."""
    command = [sys.executable, "-u", str(Path(__file__).with_name("gpu.py")),
               *gpu_arguments(options), "--budget", f"{budget:.0f}"]
    return subprocess.run(command, cwd=ROOT, env=_environment()).returncode


def gpu_arguments(options: argparse.Namespace) -> list[str]:
    """Return the options of gpu.py, but for its budget."""
    arguments = ["--out", str(options.out), *(["--rehearse"] if options.rehearse else [])]
    return [*arguments, *(["--models", *options.models] if options.models else [])]


def has_gpu() -> bool:
    """Whether torch sees a GPU; a process of its own asks, so that this one holds none."""
    ask = "import torch, sys; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", ask], env=_environment()).returncode == 0


def main() -> None:
    """Run the tests, then the measurements; the status is 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder for all output")
    parser.add_argument("--wheels", type=Path, help="a folder of wheels that this machine lacks")
    parser.add_argument("--models", nargs="+", help="of gpu.py; default: all")
    parser.add_argument("--budget", type=float, default=BUDGET, help="of everything, in seconds")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, in tiny sizes")
    options = parser.parse_args()
    gpu.options_of(gpu_arguments(options))  # which refuses what is wrong, before any test
    begin, options.out = time.monotonic(), options.out.resolve()
    options.out.mkdir(parents=True, exist_ok=True)
    packages = options.out / "packages"
    sys.path.insert(0, str(packages))
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(packages), *filter(None, [os.environ.get("PYTHONPATH")])])
    if missing() and options.wheels is not None and (
            problem := install(options.wheels, packages)):
        refuse(problem)
    if absent := missing():
        refuse(lacking(absent))
    if find_spec("torch") is None:
        refuse("this machine lacks torch, which is too large to bring along")
    if not options.rehearse and not has_gpu():
        refuse("torch sees no CUDA device here; --rehearse tries it on the CPU")
    results = []
    order = ORDER[:2] if options.rehearse else ORDER  # a CPU skips all of them
    for result in run_tests(order, TESTS, options.out, TESTS_BUDGET * options.budget / BUDGET):
        results.append(result)
        print(f"{result.verdict:9}{result.seconds:6.1f} s  {result.name}: {result.why}",
              flush=True)
    bad = [result for result in results if result.verdict in ("FAILED", "NOT DONE")]
    status = measure(options, options.budget - (time.monotonic() - begin))
    counts = Counter(result.verdict for result in results)
    print("\ntests: " + ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
          + "".join(f"\n- {result.verdict}: {result.name}: {result.why}" for result in bad))
    if status:
        print(f"gpu.py ended with status {status}")
    print(f"{time.monotonic() - begin:.0f} s; logs, results.json and table.txt: {options.out}")
    sys.exit(bool(bad or status))


def refuse(why: str) -> None:
    """End with one line, and status 2."""
    print(f"make gpu: {why}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
