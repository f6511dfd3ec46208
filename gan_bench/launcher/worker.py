"""What goes on in the processes that the launcher starts: one for the preparations, one a run.

They are forked from a server process that has imported torch once and done nothing else, so a run
costs no import, shares no state with another, and can die alone.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Event, Thread

from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import UserError, one_line
from gan_bench.journal.layout import Execution
from gan_bench.journal.names import LOG

PRELOAD = ["gan_bench.launcher.preload"]  # by the server, before it forks
# The fork server and its children block these, until a child unblocks them.
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def process_environment(threads: int) -> dict[str, str]:
    """Return the variables that must be set before a process starts, for it then is too late.

    BLAS sums in another order with another number of threads; cuBLAS is deterministic with a fixed
    workspace only. And the memory of a step's tensors is kept for the next: glibc would hand all
    that is large back to the kernel and have it zeroed anew, a third of a DCGAN's time on a CPU.
    """
    count = str(threads)
    return {"OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count,
            "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
            "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34),
            "MALLOC_TOP_PAD_": str(2**26)}


def prepare_in_process(experiment: ExperimentSpec, execution: Execution, answer: Connection,
                       ) -> None:
    """Run `training.run.prepare`; send its progress lines, then its result or its error.

    That is ("say", line)…, then ("ready", (GPUs, runs in one process)) or ("error", line).
    """
    _belong_to_launcher()
    from gan_bench.training import device, run

    try:
        together = run.prepare(experiment, execution.root, execution.data_root,
                               lambda line: answer.send(("say", line)), execution.allow_drift)
        answer.send(("ready", (device.devices(experiment.runs[0]), together)))
    except (UserError, OSError) as error:
        answer.send(("error", str(error)))
    except Exception:
        answer.send(("bug", traceback.format_exc()))


def train_in_process(specs: list[RunSpec], execution: Execution, gpu: int | None,
                     last_words: Connection) -> None:
    """Run one run, or several that take their steps in turn; exit status 1 if one raised.

    Output goes into `log.txt` of the first one's folder, the traceback of a run into its own.
    SIGTERM makes every run write a checkpoint and end. What a run died of is sent to `last_words`
    too, as (its id, a line), since a full disk takes neither a log nor a record.
    """
    _belong_to_launcher()
    stop = Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    if gpu is not None:  # the user may have left only some of them to us
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = visible.split(",")[gpu] if visible else str(gpu)
    lost: list[str] = []

    def failed(spec: RunSpec, error: Exception) -> None:
        last_words.send((spec.id, one_line(error)))
        lost.append(spec.id)
        with suppress(OSError), os.fdopen(_log(spec, execution.root, os.O_APPEND), "a") as log:
            traceback.print_exception(error, file=log)

    try:
        for spec in specs:
            log = _log(spec, execution.root, os.O_TRUNC)
            if spec is specs[0]:
                for stream in (1, 2):
                    os.dup2(log, stream)
            os.close(log)
        from gan_bench.training import run

        run.run_together(specs, execution, stop=stop.is_set, failed=failed)
    except Exception as error:
        for spec in specs:
            last_words.send((spec.id, one_line(error)))
        traceback.print_exc()
        sys.exit(1)
    if lost:
        sys.exit(1)


def _log(spec: RunSpec, root: Path, how: int) -> int:
    return os.open(spec.write(root) / LOG,
                   os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | how, 0o644)


def _belong_to_launcher() -> None:
    """Die with the launcher.

    The kernel's own way (PR_SET_PDEATHSIG) would wait for the fork server, which in its turn lives
    as long as any of its children.
    """
    launcher = parent_process()
    assert launcher is not None, "called in a process that the launcher started"
    Thread(target=_die_with, args=(launcher.sentinel,), daemon=True).start()


def _die_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)
