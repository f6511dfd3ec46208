"""The original programs' numbers (tests/golden/) and the inputs that they were computed from."""

from __future__ import annotations

import json
import math
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "golden"


@lru_cache
def golden_case(file: str, case: str) -> dict[str, Any]:
    """Return the `config`, the `tensors` and the `numbers` of a case."""
    cases: dict[str, dict[str, Any]] = json.loads((FOLDER / f"{file}.json").read_text())["cases"]
    return cases[case]


def formula_tensor(case: dict[str, Any], name: str) -> Tensor:
    """Return an input of a case, float64: sines, whose phase depends on the name."""
    entry = case["tensors"][name]
    k = torch.arange(math.prod(entry["shape"]))
    phase = zlib.crc32(name.encode()) % 1000 / 100
    angle = entry["frequency"] * k.double() + entry["chirp"] * (k * k % 997).double() + phase
    values: Tensor = entry["offset"] + entry["scale"] * angle.sin()
    return values.reshape(entry["shape"])


def assert_golden(case: dict[str, Any], name: str, found: Tensor, tolerance: float = 1e-9) -> None:
    """Compare a tensor with the original's: its first values, mean, deviation and checksum.

    The tolerance is relative to the largest value, and for the checksum to the norm.
    """
    said, values = case["numbers"][name], found.detach().double().flatten()
    assert list(found.shape) == said["shape"]
    largest = float(values.abs().max())
    first = torch.tensor(said["first"], dtype=torch.float64)
    assert (values[: len(first)] - first).abs().max() <= tolerance * largest
    assert float(values.mean()) == pytest.approx(said["mean"], abs=tolerance * largest)
    assert float(values.std(correction=0)) == pytest.approx(said["std"], abs=tolerance * largest)
    checksum = float((values * torch.arange(len(values)).double().cos()).sum())
    assert checksum == pytest.approx(said["checksum"], abs=tolerance * float(values.norm()))
