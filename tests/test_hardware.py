"""The machine, on systems that lack a call of Linux or count in another unit."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from gan_bench.hardware import peak_resident, usable_cores


def test_cores_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    assert usable_cores() == len(os.sched_getaffinity(0))
    one = min(os.sched_getaffinity(0))
    code = "from gan_bench.hardware import usable_cores; print(usable_cores())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          preexec_fn=lambda: os.sched_setaffinity(0, {one}))
    assert done.stdout == "1\n"
    monkeypatch.delattr(os, "sched_getaffinity")  # as on macOS
    assert usable_cores() == os.cpu_count()


def test_peak_memory_is_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = psutil.Process().memory_info().rss
    assert 0.9 * now < peak_resident() < 50 * now
    linux = peak_resident()
    monkeypatch.setattr(sys, "platform", "darwin")  # whose kernel counts in bytes
    assert peak_resident() == pytest.approx(linux / 1024, rel=0.1)
