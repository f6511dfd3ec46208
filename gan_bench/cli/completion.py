"""What a shell offers for arguments: experiments, runs, names of parts. Nothing here may fail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import typer

MANY = 200  # names; more are of no help


def complete_experiment(context: typer.Context, incomplete: str) -> list[str]:
    """Return the experiments that begin so: files, folders, shipped ones, and those of the root."""
    with suppress(Exception):
        return list(dict.fromkeys(_experiments(context, incomplete)))[:MANY]
    return []


def _experiments(context: typer.Context, incomplete: str) -> Iterator[str]:
    from gan_bench.config.shipped import shipped_experiments

    folder, slash, begin = incomplete.rpartition("/")
    for path in sorted(Path(folder + slash or ".").iterdir()):
        if path.name.startswith(begin) and not path.name.startswith("."):
            if path.is_dir():
                yield f"{folder}{slash}{path.name}/"
            elif path.suffix in (".yaml", ".yml"):
                yield f"{folder}{slash}{path.name}"
    yield from (name for name in shipped_experiments() if name.startswith(incomplete))
    for home in sorted((_root(context) / "runs").glob("*")):
        if home.name.startswith(incomplete):
            yield home.name


def complete_run(context: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the root's runs that begin so."""
    with suppress(Exception):
        from gan_bench.journal.segments import JOURNAL_FILES

        folders = (_root(context) / "runs").glob(f"*/{incomplete}*/{JOURNAL_FILES}")
        return sorted({file.parent.name for file in folders})[:MANY]
    return []


def complete_kind(incomplete: str) -> list[str]:
    """Return the kinds of names that begin so."""
    with suppress(Exception):
        from gan_bench.cli.planning.list import all_kinds

        return [kind for kind in all_kinds() if kind.startswith(incomplete)]
    return []


def complete_part(incomplete: str) -> list[str]:
    """Return the names of built-in and installed parts, and of recipes, that begin so."""
    with suppress(Exception):
        from gan_bench.cli.planning.show import all_names

        return [name for name in all_names() if name.startswith(incomplete)]
    return []


def _root(context: typer.Context) -> Path:
    return Path(context.params.get("root") or "mlruns")
