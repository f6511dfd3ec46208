"""What a run's numbers depend on besides its specification, and whether it changed. No torch.

The same specification gives the same bits on the same machine with the same software. A run that
began with other software, or on another processor, cannot finish as the same run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# Raise it with every change of the program that changes the numbers of a specification.
NUMERICS = 4  # weights of penalties as published; a ramp and statistics of the weight average

MACHINE = ("device", "device_name", "precision", "threads")


def versions() -> dict[str, Any]:
    """Return the versions that a run's numbers depend on, and gan_bench's for the reader."""
    return {"gan_bench": _package_version("gan_bench"), "numerics": NUMERICS,
            "torch": _torch_version()}


def since(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what changed between the facts of two attempts, `{name: [before, after]}`.

    Args:
        before, after: The facts of a journal's start record, or some of them. A fact that either
            lacks is not compared.
    """
    old, new = _select_facts(before), _select_facts(after)
    return {name: [old[name], new[name]] for name in old.keys() & new.keys()
            if old[name] != new[name]}


def describe_drift(drift: Mapping[str, list[Any]]) -> str:
    """Return `torch 2.14.0 and now 2.15.0, device cuda and now cpu`."""
    return ", ".join(f"{name} {before} and now {after}"
                     for name, (before, after) in sorted(drift.items()))


def _select_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts that numbers depend on."""
    machine = {name: facts[name] for name in MACHINE if name in facts}
    versions = facts.get("versions", {})
    software = {name: versions[name] for name in ("numerics", "torch") if name in versions}
    return machine | software


@lru_cache
def _package_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return None


@lru_cache
def _torch_version() -> str | None:
    """Return `torch.__version__` without importing torch; unlike the package's version it names the
    build."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = Path(spec.origin).with_name("version.py").read_text()
    match = re.search(r"^__version__ = '(.+)'", text, re.MULTILINE)
    return match.group(1) if match else _package_version("torch")
