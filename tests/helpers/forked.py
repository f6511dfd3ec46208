"""Scripts in processes that the launcher's fork server forks: each has imported torch before."""

from __future__ import annotations

import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path
from unittest.mock import patch

from helpers.launching import STRICT

from gan_bench.launcher import worker
from gan_bench.launcher.processes import fork_context


def forking() -> ForkServerContext:
    """Return the context whose processes have imported torch before they are forked."""
    with patch.dict(os.environ, STRICT):  # the fork server's variables are not for other tests
        return fork_context(1)


def run_script(script: Path, *options: str, env: Mapping[str, str], timeout: float = 240,
               ) -> subprocess.CompletedProcess[str]:
    """Run a script as `python script options` does, in a process of its own.

    That saves the seconds in which such a process imports torch. What the script patches, and the
    modules beside it, end with the process.

    Args:
        env: What the script finds in its environment, and nothing else.
    """
    context = forking()
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        process = context.Process(target=_main, args=(script, options, dict(env), out, err))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
        return subprocess.CompletedProcess([str(script), *options], process.exitcode or 0,
                                           out.read_text(), err.read_text())


def _main(script: Path, options: tuple[str, ...], env: dict[str, str], out: Path, err: Path,
          ) -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.STOP_SIGNALS)
    for stream, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), stream)
    os.environ.clear()
    os.environ.update(env)
    sys.argv = [str(script), *options]
    sys.path.insert(0, str(script.parent))
    runpy.run_path(str(script), run_name="__main__")
