"""What a run's numbers depend on besides its specification, and whether it has changed. No torch.

The same specification gives the same bits on the same machine with the same software. A run that
was begun with other software, or on another processor, cannot be finished as the same run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

# To be raised with every change of the program after which a specification gives other numbers.
NUMERICS = 3  # layers to few channels, and of one pixel, as products of matrices

MACHINE = ("device", "device_name", "precision", "threads")


def versions() -> dict[str, Any]:
    """Return the versions that a run's numbers depend on, gan_bench's own for the reader."""
    return {"gan_bench": _version("gan_bench"), "numerics": NUMERICS, "torch": _torch()}


def since(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what has changed between the facts of two attempts, `{name: [before, now]}`.

    Args:
        before, now: The facts of a journal's start record, or as many of them as are known: what
            either does not tell is not compared.
    """
    one, two = _of_interest(before), _of_interest(now)
    return {name: [one[name], two[name]] for name in one.keys() & two.keys()
            if one[name] != two[name]}


def describe_drift(drift: Mapping[str, list[Any]]) -> str:
    """Return `torch 2.14.0 and now 2.15.0, device cuda and now cpu`."""
    return ", ".join(f"{name} {before} and now {now}"
                     for name, (before, now) in sorted(drift.items()))


def _of_interest(facts: Mapping[str, Any]) -> dict[str, Any]:
    found = {name: facts[name] for name in MACHINE if name in facts}
    made_by = facts.get("versions", {})
    return found | {name: made_by[name] for name in ("numerics", "torch") if name in made_by}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a checkout that is not installed
        return None


@lru_cache
def _torch() -> str | None:
    """`torch.__version__`, which names the build as the package's version does not, unimported."""
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return None
    text = Path(spec.origin).with_name("version.py").read_text()
    found = re.search(r"^__version__ = '(.+)'", text, re.MULTILINE)
    return found.group(1) if found else _version("torch")
