"""What `gan-bench check` shows: which promises the parts of plug-in files keep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from gan_bench.registry import REGISTRIES, Entry, Plugin, read_plugins, use_plugins
from gan_bench.training.contract import CheckResult, check_entry
from gan_bench.training.device import torch_as_before


def check_lines(files: Sequence[Path], data_root: Path, results: list[CheckResult],
                ) -> Iterator[str]:
    """Yield the lines about each part of the files, as its checks are done.

    Args:
        files: Plug-in files.
        data_root: The folder of the data sets.
        results: Receives what was found.

    Raises:
        UserError: A file is missing, cannot be imported, registers nothing or takes a name.
    """
    plugins = read_plugins(files)
    use_plugins(plugins)
    for kind, entry in parts_of(plugins):
        yield f"{kind} {entry.name}"
        with torch_as_before():
            torch.set_num_threads(1)  # as runs have it
            found = check_entry(kind, entry, data_root)
        results += found
        yield from map(_line, found)
    failed = sum(bool(result.problem) for result in results if not result.is_note)
    total = sum(not result.is_note for result in results)
    yield f"{failed} of {total} checks fail" if failed else f"all {total} checks pass"


def parts_of(plugins: Sequence[Plugin]) -> list[tuple[str, Entry[Any, Any]]]:
    """Return the parts that plug-ins register: (kind, entry)."""
    return [(registry.kind, entry) for registry in REGISTRIES for entry in registry
            if entry.origin in plugins]


def _line(result: CheckResult) -> str:
    if result.is_note:
        return f"  note   {result.what}: {result.problem}"
    if result.problem:
        return f"  FAILS  {result.what}: {result.problem}"
    return f"  ok     {result.what}"
