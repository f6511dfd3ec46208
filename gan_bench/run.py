"""run_one: the only place where the parts of a run are put together."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import subprocess
import time
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from gan_bench import checkpoint, evaluate, journal
from gan_bench import data as datasets
from gan_bench.atomic import replacing
from gan_bench.checkpoint import Checkpoint
from gan_bench.drift import in_words, since, versions
from gan_bench.engine import Engine
from gan_bench.errors import DamagedError, UserError, one_line
from gan_bench.hardware import cpu_has_bfloat16, cpu_name
from gan_bench.models import make_networks
from gan_bench.outcome import DONE, WEIGHTS, Outcome, Status
from gan_bench.recording import Journal
from gan_bench.root import remove_checkpoints
from gan_bench.spec import ExperimentSpec, RunSpec
from gan_bench.train import peak_memory, train


def cache_of(root: Path) -> Path:
    """Return where decoded data, extractors and reference features are kept."""
    return root / "cache"


def prepare(experiment: ExperimentSpec, root: Path, data_root: Path, say: Callable[[str], None],
            allow_drift: bool = False) -> None:
    """Do once, before any training, what all the runs need, and refuse what cannot work.

    Downloads and decodes the data, trains or fetches the feature extractors, computes the
    reference features, and builds every variant's networks without weights.

    Raises:
        UserError: The data or an extractor is not to be had, the device is not there, or a run has
            a checkpoint from another version or device, and going on from it is not allowed.
    """
    first = experiment.runs[0]
    device = resolve_device(first)
    set_up_torch(first)
    here = circumstances(first, device)
    if not allow_drift:
        _refuse_drift(experiment, root, here)
    with torch.device("meta"):
        for run in {run.variant: run for run in experiment.runs}.values():
            make_networks(run.model, run.data.shape, run.condition, run.data.classes)
    cache = cache_of(root)
    datasets.prepare(first.dataset, data_root, cache, say)
    data = datasets.load(first.dataset, data_root, cache, device, facts=first.data)
    evaluate.prepare(first.evaluate.all_metrics, data, cache, say)


def run_one(spec: RunSpec, root: Path, data_root: Path, *, checkpoint_every: float | None = None,
            allow_drift: bool = False, stop: Callable[[], bool] = lambda: False) -> Outcome:
    """Train, measure and record one run in this process, from its last checkpoint if it has one.

    Leaves `spec.json`, `journal.jsonl`, `samples/` and `final.safetensors` in the run's folder, to
    the bit what a run leaves that was never interrupted. An interrupted one leaves checkpoints.

    Args:
        checkpoint_every: Seconds between two checkpoints; None: 30, or as many more as keep their
            cost below 1 % of the time.
        allow_drift: Whether to go on from a checkpoint that another version of torch, or another
            device, has made; the journal then says so.
        stop: Is asked after every step; once it returns True, the run writes a checkpoint and ends
            KILLED.

    Raises:
        UserError: The data or an extractor is not prepared, memory does not suffice, a checkpoint
            is of another version, or the run does not repeat what its journal holds.
    """
    folder = spec.write(root)
    record = Journal(folder)
    try:
        status, why, weights = _run(spec, root, data_root, record, checkpoint_every, allow_drift,
                                    stop)
        record.end(status, why, weights)
    except Interrupted:
        status, why = "KILLED", "stopped by the user"
        record.end(status, why)
    except KeyboardInterrupt:
        record.end("KILLED", "stopped by the user")
        raise
    except BaseException as error:
        explained = _explained(error, spec)
        try:
            record.end("FAILED", one_line(explained))
        except OSError:  # a full disk, of which the caller hears through the exception
            record.close()
        if explained is error:
            raise
        raise explained from error
    if status in DONE:
        remove_checkpoints(folder)
    return Outcome(spec.id, status, why)


class Interrupted(Exception):
    """The run was asked to stop, and has written its checkpoint."""


def _run(spec: RunSpec, root: Path, data_root: Path, record: Journal,
         checkpoint_every: float | None, allow_drift: bool, stop: Callable[[], bool],
         ) -> tuple[Status, str, str]:
    device, cache, folder = resolve_device(spec), cache_of(root), record.folder
    set_up_torch(spec)
    data = datasets.load(spec.dataset, data_root, cache, device, facts=spec.data)
    here = facts(spec, data, device)
    evaluator = evaluate.Evaluator(spec, data, cache, device)
    final = None
    if spec.evaluate.final:
        final = evaluate.Evaluator(spec, data, cache, device, spec.evaluate.final)
    engine = Engine(spec, device, here["precision"])
    start = _resume(spec, folder, record, engine, here, allow_drift)
    if start == 0:
        record.start(here)
        record.protocol(evaluator.protocol | (final.protocol if final else {}))
    cadence = checkpoint.Cadence(checkpoint_every)

    def after_step(step: int) -> None:
        stopping = stop()
        if stopping or cadence.due():
            begin = time.perf_counter()
            checkpoint.write(folder, Checkpoint(step, record.flush(), here, engine.state()))
            cadence.taken(time.perf_counter() - begin)
        if stopping:
            raise Interrupted

    again = (final or evaluator).again if spec.evaluate.latent_sets > 1 else None
    status, why = train(engine, data, evaluator, record, final, again, start=start,
                        after_step=after_step)
    return status, why, save_weights(engine, folder)


def _resume(spec: RunSpec, folder: Path, record: Journal, engine: Engine, here: dict[str, Any],
            allow_drift: bool) -> int:
    """Put engine and journal where an earlier attempt can be gone on from; return that step.

    Raises:
        UserError: The checkpoint was made elsewhere, and that is not allowed.
    """
    began = journal.first(folder)
    if began is None:
        return 0
    found, problems = checkpoint.newest(folder, spec.steps)
    drift = since(found.facts if found else began.get("facts", {}), here)
    if found and drift and not allow_drift:
        raise UserError(drifted(folder, drift))
    step, position = (found.step, found.position) if found else (0, 0)
    # With other software no step repeats to the bit, and without deterministic algorithms none
    # can be relied on to.
    alike = not drift and not allow_drift and spec.compute.deterministic
    again = alike and record.repeat(position)
    if found is None:
        remove_checkpoints(folder)
    else:
        try:
            engine.load(found.engine)
        except (RuntimeError, ValueError, KeyError) as error:
            raise UserError(f"{folder}: its checkpoint does not fit its networks any more "
                            f"({one_line(error)}); their code must have changed: delete the folder "
                            f"to begin the run again") from None
    record.resume(step, "; ".join(problems), drift, void=not again)
    return step


def drifted(folder: Path, drift: dict[str, list[Any]]) -> str:
    """Say that a checkpoint was made under other circumstances, and what to do."""
    return (f"{folder.name} was begun with {in_words(drift)}, so it cannot be finished to the bit: "
            f"go on from its checkpoint with --allow-drift, which is recorded, or delete {folder} "
            f"to begin it again")


def _explained(error: BaseException, spec: RunSpec) -> BaseException:
    """Return what went wrong in terms of what the user can change, where it is known."""
    text = str(error)
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)) or (
            isinstance(error, RuntimeError) and "t allocate memory" in text):
        return UserError(f"out of memory with batch_size {spec.batch_size} (peak "
                         f"{peak_memory(resolve_device(spec)) / 1e6:,.0f} MB): choose a smaller "
                         f"batch_size or model, or fewer runs at once (--slots)")
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"the disk is full ({error.strerror}): make room, and the same command "
                         f"goes on from the last checkpoint")
    return error


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


def resolve_precision(spec: RunSpec, device: str) -> str:
    """Return what a run's products are computed in on a device: float32, tf32 or bfloat16.

    `auto` is bfloat16 where the hardware multiplies it faster, and float32 elsewhere.

    Raises:
        UserError: The device has not got what is asked for.
    """
    asked = spec.compute.precision
    if device == "cuda":  # from Ampere on
        can, lacks = torch.cuda.get_device_capability() >= (8, 0), "this GPU is older than Ampere"
    else:
        can, lacks = cpu_has_bfloat16(), "this processor has neither AMX nor AVX512-BF16"
        if asked == "tf32":
            raise UserError("compute.precision is tf32, which is a format of GPUs, and the run is "
                            "on the CPU; set compute.precision: float32, or auto")
    if asked in ("tf32", "bfloat16") and not can:
        raise UserError(f"compute.precision is {asked}, and {lacks}: set compute.precision: "
                        f"float32, or auto")
    if asked == "auto":
        return "bfloat16" if can else "float32"
    return asked


def devices(spec: RunSpec) -> int:
    """Return how many GPUs the run's device setting means: 0 for the CPU."""
    return torch.cuda.device_count() if resolve_device(spec) == "cuda" else 0


def facts(spec: RunSpec, data: datasets.Dataset, device: str) -> dict[str, Any]:
    """Return what a run ran on: the first record of its journal."""
    return {
        **circumstances(spec, device),
        "git_commit": _git_commit(),
        "dataset": {"name": data.name, "fingerprint": data.fingerprint,
                    "train": data.facts.train, "test": data.facts.test},
    }


def circumstances(spec: RunSpec, device: str) -> dict[str, Any]:
    """Return what a run's numbers depend on besides its specification and its data."""
    return {
        "versions": {**versions(), "python": platform.python_version()},
        "device": device,
        "device_name": torch.cuda.get_device_name() if device == "cuda" else cpu_name(),
        "precision": resolve_precision(spec, device),
        "threads": spec.compute.threads,
    }


def _refuse_drift(experiment: ExperimentSpec, root: Path, here: dict[str, Any]) -> None:
    """Refuse to go on from checkpoints that were made under other circumstances."""
    drifts = []
    for run in experiment.runs:
        folder = run.folder(root)
        try:
            began = journal.first(folder)
        except DamagedError:  # the launcher has said so, and leaves the run alone
            continue
        if began is None or not since(began.get("facts", {}), here):
            continue
        found, _ = checkpoint.newest(folder, run.steps)
        if found and (drift := since(found.facts, here)):
            drifts.append(drifted(folder, drift))
    if drifts:
        more = f" (and {len(drifts) - 1} more runs)" if len(drifts) > 1 else ""
        raise UserError(drifts[0] + more)


def save_weights(engine: Engine, folder: Path) -> str:
    """Write the final weights of all networks to `final.safetensors`; return the file's sha256."""
    tensors = {f"generator.{k}": v for k, v in engine.generator.state_dict().items()}
    tensors |= {f"discriminator.{k}": v for k, v in engine.discriminator.state_dict().items()}
    if engine.ema is not None:
        tensors |= {f"ema.{k}": v for k, v in engine.ema.state_dict().items()}
    # On the disk itself before the journal says that the run is finished.
    with replacing(folder / WEIGHTS, durable=True) as temporary:
        save_file({k: v.cpu().contiguous() for k, v in tensors.items()}, temporary)
    return hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()


@lru_cache
def _git_commit() -> str | None:
    """The commit of the working folder's repository: whose code and YAML this was."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True,
                              timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None

