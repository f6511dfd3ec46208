"""Decides how a run ended whose process is dead and recorded no end: KILLED or FAILED, and why.

After the death of a launcher, the claims tell that nobody trains its runs.
"""

from __future__ import annotations

import signal
from contextlib import suppress

from gan_bench.errors import UserError
from gan_bench.journal import writing
from gan_bench.journal.layout import LOG
from gan_bench.journal.schema import Status
from gan_bench.journal.sharing.claims import Claim
from gan_bench.journal.status import Progress

SERVER_DIED = 255  # multiprocessing's exit code of a process whose fork server has died


def settle_dead_run(run: Progress, exit_code: int, error: str, is_abandoned: bool,
                    claim: Claim | None = None) -> None:
    """Set the state of a run, and record it in the journal.

    Args:
        run: The run, which its journal has as RUNNING.
        exit_code: Of its process; negative for a signal.
        error: The error that the process sent last; empty if none.
        is_abandoned: Whether the launcher killed the process.
        claim: Of the run, if the launcher holds it.
    """
    if exit_code >= 0 and (error or exit_code != SERVER_DIED):
        run.state = Status.FAILED
        run.why = error or f"its process ended with status {exit_code}; see {LOG} in its folder"
    else:
        run.state = Status.KILLED
        if is_abandoned:
            run.why = "stopped by the user, before it could write a checkpoint"
        elif exit_code == SERVER_DIED:
            run.why = "the server that forked its process was killed"
        else:
            name = signal.Signals(-exit_code).name
            run.why = f"its process ended by signal {-exit_code} ({name})"
    # If the disk is full, or the process outlives its fork server, the next launcher records it.
    with suppress(OSError, UserError):
        writing.settle_run(run.folder, run.state, run.why, claim)
