"""What the launcher's processes do: one prepares the experiment, the others train runs.

A server process imports torch, does nothing else, and forks them. So a run imports nothing, shares
no state with another run, and its death ends no other run.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event

import gan_bench
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import UserError, one_line, unwritable
from gan_bench.hardware import end_with_parent, gpu_name
from gan_bench.journal.layout import LOG, Execution, is_trained
from gan_bench.journal.plugin_files import provide_parts
from gan_bench.registry import use_plugins

PRELOAD = ["gan_bench.launcher.preload"]  # the fork server imports it before it forks
# They stop the launcher. The fork server and its children block them, until a child unblocks them.
# SLURM sends SIGUSR1 to all processes of a job before its time limit, if it is asked to.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


def process_environment(threads: int) -> dict[str, str]:
    """Return the variables that must be set before a process starts; later they have no effect.

    BLAS sums in another order with another number of threads; cuBLAS is deterministic with a fixed
    workspace only. The malloc variables keep the memory of a step's tensors for the next step: by
    default glibc returns large blocks to the kernel, which zeroes them again. That takes a third of
    a DCGAN's time on a CPU.

    Without PYTHONSAFEPATH, `python -c` and `python -m` import `random.py` of the working folder in
    place of Python's.
    """
    count = str(threads)
    return {"PYTHONSAFEPATH": "1", **_where_package_lies(),
            "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count,
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
            "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34),
            "MALLOC_TOP_PAD_": str(2**26)}


def _where_package_lies() -> dict[str, str]:
    """Return PYTHONPATH if this package is found by the folder of the script or of `python -m`."""
    home = Path(gan_bench.__file__).parents[1]
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if sys.flags.safe_path or Path(sys.path[0]).absolute() != home or str(home) in paths:
        return {}
    return {"PYTHONPATH": os.pathsep.join([*filter(None, paths), str(home)])}


def prepare_in_process(experiment: ExperimentSpec, execution: Execution, trains: bool,
                       answer: Connection) -> None:
    """Prepare the experiment; send progress lines to the launcher, then the result or the error.

    If this machine does not train, others measure how many runs share a process: it is 0 here.
    The messages are ("say", line)…, then ("ready", (GPUs, runs in one process, weights of
    extractors by score, circumstances)), ("error", line) or ("bug", traceback).
    """
    end_with_parent()
    from gan_bench.training import circumstances, device, run

    try:
        together, weights = run.prepare_runs(experiment, execution,
                                             lambda line: answer.send(("say", line)), trains)
        if not trains:
            answer.send(("ready", (0, 0, weights, {})))
            return
        first = experiment.runs[0]
        here = circumstances.circumstances(first, device.resolve_device(first))
        answer.send(("ready", (device.devices(first), together, weights, here)))
    except (UserError, OSError) as error:
        _answer(answer, "error", str(error))
    except Exception:
        _answer(answer, "bug", traceback.format_exc())


def _answer(answer: Connection, kind: str, text: str) -> None:
    with suppress(OSError):  # the launcher is dead, which may be the error
        answer.send((kind, text))


def look_in_process(experiment: ExperimentSpec, execution: Execution, together: int,
                    answer: Connection) -> None:
    """Send what `prepare_in_process` sends, of this machine alone.

    Args:
        together: How many runs share a GPU; 0: this machine's memory says it.
    """
    end_with_parent()
    from gan_bench.training import circumstances, device, packing

    first = experiment.runs[0]
    try:
        for run in experiment.runs:
            provide_parts({"sources": run.sources}, execution.workspace.run_folder(run))
        kind = device.resolve_device(first)
        here = circumstances.circumstances(first, kind)
        if kind == "cpu" or not together:
            together = packing.runs_together(experiment, kind, here["precision"],
                                             lambda line: answer.send(("say", line)))
        answer.send(("ready", (device.devices(first), here, together)))
    except (UserError, OSError) as error:
        _answer(answer, "error", str(error))
    except Exception:
        _answer(answer, "bug", traceback.format_exc())


def train_in_process(specs: list[RunSpec], execution: Execution, gpu: int | None,
                     last_words: Connection) -> None:
    """Train one run, or several that take their steps in turn; exit with status 1 if one raised.

    Output goes to `log.txt` in the first run's folder, the traceback of a run to its own folder.
    After SIGTERM every run writes a checkpoint and ends. `last_words` receives the error of a run
    too, as (id, line): on a full disk the run can write neither its log nor its journal.
    """
    end_with_parent()
    stop = Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    if gpu is not None:
        name = "CUDA_VISIBLE_DEVICES"  # the user may allow only some GPUs
        os.environ[name] = gpu_name(gpu, os.environ.get(name))
    failures: list[str] = []
    root = execution.workspace.root

    def failed(spec: RunSpec, error: Exception) -> None:
        last_words.send((spec.id, one_line(error)))
        failures.append(spec.id)
        with suppress(OSError, UserError):
            log = _open_log(spec, root, os.O_APPEND)
            with os.fdopen(log, "a") as file:
                traceback.print_exception(error, file=file)

    try:
        logs = [_begin_log(spec, root) for spec in specs]
    except UserError as error:  # without a log the traceback would go to the terminal
        for spec in specs:
            last_words.send((spec.id, one_line(error)))
        sys.exit(1)
    try:
        for stream in (1, 2):
            os.dup2(logs[0], stream)
        for log in logs:
            os.close(log)
        from gan_bench.training import run

        use_plugins(execution.plugins)
        run.run_together(specs, execution, stop=stop.is_set, failed=failed)
    except Exception as error:
        for spec in specs:
            last_words.send((spec.id, one_line(error)))
        traceback.print_exc()
        sys.exit(1)
    if failures:
        sys.exit(1)


def _begin_log(spec: RunSpec, root: Path) -> int:
    """Open an empty log for a run; measuring a trained run keeps that of its training."""
    return _open_log(spec, root, 0 if is_trained(spec.folder(root)) else os.O_TRUNC)


def _open_log(spec: RunSpec, root: Path, mode: int) -> int:
    """Open a run's log for appending; `mode` is a further flag of `os.open`.

    Raises:
        UserError: The run's folder cannot be written.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | mode
    file = spec.write(root) / LOG
    try:
        return os.open(file, flags, 0o644)
    except OSError as error:
        raise unwritable(file, error) from error
