"""Runs all benchmarks, then lists the missed targets with the reasons.

    python benchmarks/all.py        about 40 minutes on two cores, nothing else running

GAN_BENCH_DATA names the folder of MNIST; without it, benchmarks that need it are skipped, and the
output says so. The exit status is 1 if a script failed; a missed target is not a failure.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from targets import MISSED, say_missed

# What takes longest and changes least is for its own day: evaluation.py --memory, report.py --full.
SCRIPTS = (("overhead.py", "--full"), ("resume.py",), ("workers.py",),
           ("evaluation.py",),
           ("evaluation.py", "--during"), ("report.py",), ("step.py",), ("step.py", "--long"),
           ("calibration.py",))


def missed_in(lines: Iterable[str]) -> list[str]:
    """Pass the lines of a script's output on; return what it says that it has missed."""
    found: list[str] = []
    telling = False
    for line in lines:
        print(line, end="", flush=True)
        telling = line.rstrip() == MISSED or (telling and line.startswith("- "))
        if telling and line.startswith("- "):
            found.append(line[2:].rstrip())
    return found


def main() -> None:
    """Run them all, and say what is missed."""
    missed: list[str] = []
    failed = False
    for script, *options in SCRIPTS:
        name = " ".join([script, *options])
        print(f"\n=== {name}", flush=True)
        command = [sys.executable, "-u", Path(__file__).with_name(script), *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            missed += [f"{name}: {line}" for line in missed_in(process.stdout)]
        if process.returncode:
            failed = True
            missed.append(f"{name}: ended with status {process.returncode}, see above")
    print("\n=== all of them")
    say_missed(missed)
    sys.exit(failed)


if __name__ == "__main__":
    main()
