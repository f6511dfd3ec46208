"""Networks with the weights of the original programs, and comparisons with their gradients."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from helpers.golden_cases import formula_tensor
from torch import Tensor, nn

Names = dict[str, str]  # a pattern in a name of the original's → what it is called here


def renamed(name: str, names: Names) -> str:
    """Return the name here of a tensor of the original."""
    for pattern, ours in names.items():
        name = re.sub(pattern, ours, name)
    return name


def fill(network: nn.Module, case: dict[str, Any], prefix: str, names: Names) -> None:
    """Give a network the parameters and buffers of a case whose names begin with `prefix`.

    Each tensor of the network gets one, and each of the case is used.
    """
    state = network.double().state_dict()
    given = {renamed(name.removeprefix(prefix), names): name for name, entry in
             case["tensors"].items() if name.startswith(prefix) and entry["kind"] != "input"}
    missing = [name for name in state if name not in given and "num_batches" not in name]
    assert (missing, [name for name in given if name not in state]) == ([], [])
    for ours, theirs in given.items():
        state[ours].copy_(formula_tensor(case, theirs).reshape(state[ours].shape))


def assert_scalar(case: dict[str, Any], name: str, found: Tensor, tolerance: float = 1e-9) -> None:
    """Compare a scalar with the original's."""
    assert float(found.detach()) == pytest.approx(case["numbers"][name]["value"], rel=tolerance)


def assert_gradients(case: dict[str, Any], name: str, network: nn.Module, prefix: str,
                     names: Names, scale: float = 1.0, tolerance: float = 1e-9) -> None:
    """Compare the gradients of a network, times `scale`, with those of the original.

    Whether a gradient of 0 is zeros or None depends on how a loss is written.
    """
    gradients = {key: parameter.grad for key, parameter in network.named_parameters()}
    said = case["numbers"][name]
    expected: Mapping[str, Any] = {
        renamed(key.removeprefix(prefix), names): value
        for key, value in said["per_parameter"].items() if key.startswith(prefix)}
    assert set(expected) == set(gradients)
    for key, value in expected.items():
        gradient = gradients[key]
        if value is not None and value.get("negligible"):
            assert gradient is not None, key
            assert float(gradient.norm()) < 1e-9 * said["total_norm"], key
            continue
        if value is None or value["norm"] == 0:
            assert gradient is None or not gradient.any(), key
            continue
        assert gradient is not None, key
        flat = scale * gradient.flatten()
        norm = float(flat.norm())
        assert norm == pytest.approx(value["norm"], rel=tolerance, abs=1e-14), key
        checksum = float((flat * torch.arange(len(flat)).double().cos()).sum())
        assert checksum == pytest.approx(value["checksum"], abs=tolerance * norm + 1e-14), key


def assert_parameters(case: dict[str, Any], name: str, network: nn.Module, prefix: str,
                      names: Names, tolerance: float = 1e-7) -> None:
    """Compare tensors of a network's state with the original's: sum, norm and checksum."""
    state = network.state_dict()
    said = case["numbers"][name]["per_parameter"]
    assert said
    for theirs, value in said.items():
        key = renamed(theirs.removeprefix(prefix), names)
        flat = state[key].double().flatten()
        norm = float(flat.norm())
        assert norm == pytest.approx(value["norm"], rel=tolerance, abs=1e-14), key
        most = tolerance * norm * len(flat) ** 0.5 + 1e-14
        assert float(flat.sum()) == pytest.approx(value["sum"], abs=most), key
        checksum = float((flat * torch.arange(len(flat)).double().cos()).sum())
        assert checksum == pytest.approx(value["checksum"], abs=tolerance * norm + 1e-14), key
