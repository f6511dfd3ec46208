"""run_one: the only place where the parts of a run are put together."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gan_bench import data as datasets
from gan_bench import evaluate
from gan_bench.engine import Engine
from gan_bench.errors import UserError, one_line
from gan_bench.journal import Journal
from gan_bench.outcome import WEIGHTS, Outcome, Status
from gan_bench.registry import MODELS
from gan_bench.spec import ExperimentSpec, RunSpec
from gan_bench.train import train


def cache_of(root: Path) -> Path:
    """Return where decoded data, extractors and reference features are kept."""
    return root / "cache"


def prepare(experiment: ExperimentSpec, root: Path, data_root: Path, say: Callable[[str], None],
            ) -> None:
    """Do once, before any training, what all the runs need, and refuse what cannot work.

    Downloads and decodes the data, trains or fetches the feature extractors, computes the
    reference features, and builds every variant's networks without weights.

    Raises:
        UserError: The data or an extractor is not to be had, or the device is not there.
    """
    first = experiment.runs[0]
    device = resolve_device(first)
    set_up_torch(first)
    with torch.device("meta"):
        for run in {run.variant: run for run in experiment.runs}.values():
            MODELS.build(run.model, run.data.shape)
    cache = cache_of(root)
    datasets.prepare(first.dataset, data_root, cache, say)
    data = datasets.load(first.dataset, data_root, cache, device, facts=first.data)
    evaluate.prepare(first.evaluate.all_metrics, data, cache, say)


def run_one(spec: RunSpec, root: Path, data_root: Path) -> Outcome:
    """Train, measure and record one run from its beginning, in this process.

    Leaves `spec.json`, `journal.jsonl`, `samples/` and `final.safetensors` in the run's folder.

    Raises:
        UserError: The data or an extractor is not prepared.
    """
    folder = spec.write(root)
    record = Journal(folder)
    try:
        status, why = _run(spec, folder, data_root, cache_of(root), record)
    except BaseException as error:
        record.end("FAILED", one_line(error))
        raise
    record.end(status, why)
    return Outcome(spec.id, status, why)


def _run(spec: RunSpec, folder: Path, data_root: Path, cache: Path, record: Journal,
         ) -> tuple[Status, str]:
    device = resolve_device(spec)
    set_up_torch(spec)
    data = datasets.load(spec.dataset, data_root, cache, device, facts=spec.data)
    record.start(facts(spec, data, device))
    evaluator = evaluate.Evaluator(spec, data, cache, device)
    final = None
    if spec.evaluate.final:
        final = evaluate.Evaluator(spec, data, cache, device, spec.evaluate.final)
    record.protocol(evaluator.protocol | (final.protocol if final else {}))
    engine = Engine(spec, device)
    status, why = train(engine, data, evaluator, record, final)
    save_weights(engine, folder)
    return status, why


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
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


def resolve_device(spec: RunSpec) -> str:
    """Return `cpu` or `cuda`, as the run asks for.

    Raises:
        UserError: cuda is asked for, and there is none.
    """
    if spec.compute.device == "cuda" and not torch.cuda.is_available():
        raise UserError("compute.device is cuda, and torch sees no CUDA device here; "
                        "set compute.device: auto, or cpu")
    if spec.compute.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return spec.compute.device


def devices(spec: RunSpec) -> int:
    """Return how many GPUs the run's device setting means: 0 for the CPU."""
    return torch.cuda.device_count() if resolve_device(spec) == "cuda" else 0


def facts(spec: RunSpec, data: datasets.Dataset, device: str) -> dict[str, Any]:
    """Return what a run ran on: the first record of its journal."""
    return {
        "versions": {"gan_bench": importlib.metadata.version("gan_bench"),
                     "torch": torch.__version__, "python": platform.python_version()},
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else _cpu_name(),
        "precision": "float32",
        "threads": spec.compute.threads,
        "git_commit": _git_commit(),
        "dataset": {"name": data.name, "fingerprint": data.fingerprint,
                    "train": data.facts.train, "test": data.facts.test},
    }


def save_weights(engine: Engine, folder: Path) -> None:
    """Write the final weights of all networks to `final.safetensors`."""
    tensors = {f"generator.{k}": v for k, v in engine.generator.state_dict().items()}
    tensors |= {f"discriminator.{k}": v for k, v in engine.discriminator.state_dict().items()}
    if engine.ema is not None:
        tensors |= {f"ema.{k}": v for k, v in engine.ema.state_dict().items()}
    temporary = folder / (WEIGHTS + ".tmp")
    save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, temporary)
    with temporary.open("rb") as file:
        os.fsync(file.fileno())  # before the journal says that the run is finished
    temporary.replace(folder / WEIGHTS)


@lru_cache
def _git_commit() -> str | None:
    """The commit of the working folder's repository: whose code and YAML this was."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True,
                              timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
