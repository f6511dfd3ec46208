"""What the launcher's server has before it forks."""

from __future__ import annotations

import subprocess
import sys

SHOWN = """
import gc, sys
import gan_bench.launcher.preload
print(gc.get_freeze_count() > 100_000, "scipy.linalg" in sys.modules,
      "PIL.PngImagePlugin" in sys.modules)
"""


def test_what_runs_share_is_imported_frozen_and_ends_without_a_word() -> None:
    done = subprocess.run([sys.executable, "-c", SHOWN], capture_output=True, text=True,
                          check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True True True\n", "")
