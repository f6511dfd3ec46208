"""The machine, on systems that lack a call of Linux or count in another unit."""

from __future__ import annotations

import os
import subprocess
import sys

import psutil
import pytest

from gan_bench.hardware import gpu_name, peak_resident, usable_cores


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


@pytest.mark.parametrize(("visible", "names"), [
    (None, ["0", "1", "2"]), ("", ["0", "1", "2"]), ("0,1,2", ["0", "1", "2"]),
    ("3,1", ["3", "1"]), (" 2, 0", ["2", "0"]), ("5", ["5"]), ("0,-1,1", ["0"]),  # -1 ends it
    ("GPU-8d1f9a52-7ab0-4fd5-b3f4-7ef4d4f0a3c1,GPU-1c2b",
     ["GPU-8d1f9a52-7ab0-4fd5-b3f4-7ef4d4f0a3c1", "GPU-1c2b"]),
    ("MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f", ["MIG-c6d4f1ef-42e4-5de3-91c7-45d71c87eb3f"]),
    ("MIG-GPU-8d1f9a52/1/0", ["MIG-GPU-8d1f9a52/1/0"]),
])
def test_a_gpu_has_the_name_that_the_user_gave_it(visible: str | None, names: list[str]) -> None:
    assert [gpu_name(number, visible) for number in range(len(names))] == names
