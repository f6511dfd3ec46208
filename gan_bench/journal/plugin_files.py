"""The copies of plug-in files in a run's folder: `plugins/<name>/`, the modules beside it included.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from gan_bench import registry
from gan_bench.atomic import replacing
from gan_bench.config.sources import lacking_source, plugins_of
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError, unwritable
from gan_bench.registry import Plugin, provide, read_plugin

PLUGINS = "plugins"
KINDS = [names.kind for names in registry.REGISTRIES]


def write_plugins(spec: RunSpec, folder: Path) -> None:
    """Copy the plug-in files behind a run into its folder, unless they are there.

    Raises:
        UserError: They cannot be written.
    """
    home = folder / PLUGINS
    # If a metric is of another version of the file than the networks, theirs is kept.
    plugins = list({plugin.name: plugin for plugin in reversed(plugins_of(spec))}.values())
    wanted = {home / plugin.name / name: content for plugin in plugins
              for name, content in plugin.files}
    if plugins and home.is_symlink():
        raise UserError(f"{home}: is a link; remove it: a run's files stay in the root")
    try:
        for file, content in wanted.items():
            if not file.is_file() or file.read_bytes() != content:
                file.parent.mkdir(parents=True, exist_ok=True)
                with replacing(file) as temporary:
                    temporary.write_bytes(content)
        for plugin in plugins:
            for file in (home / plugin.name).rglob("*.py"):
                if file not in wanted:  # of an earlier version
                    file.unlink()
    except OSError as error:
        raise unwritable(home, error) from error


def read_copies(folder: Path) -> list[Plugin]:
    """Return the plug-in files that lie in a run's folder.

    Raises:
        UserError: One cannot be read, or is a link.
    """
    homes = sorted(home for home in (folder / PLUGINS).glob("*") if home.is_dir())
    for file in [folder / PLUGINS, *homes, *(file for home in homes for file in home.rglob("*"))]:
        if file.is_symlink():
            raise UserError(f"{file}: is a link; remove it: a run's files stay in the root")
    return [read_plugin(home / f"{home.name}.py") for home in homes]


def provide_parts(values: Mapping[str, Any], folder: Path, needed: Collection[str] = KINDS,
                  ) -> None:
    """Let the registries hold the parts that a run was made with, from its folder if need be.

    Args:
        values: The plain values of its specification.
        folder: The run's.
        needed: The kinds of parts that the caller uses.

    Raises:
        UserError: A part is nowhere in the version of the run.
    """
    sources = values.get("sources") or {}
    metrics = values.get("evaluate", {})
    named = [*(metrics.get("metrics") or []), *(metrics.get("final_metrics") or [])]
    wanted = {**sources, **{f"metric.{name}": "" for name in named
                            if registry.METRICS.get(name) is None}}
    if not wanted:
        return
    lacking = provide(wanted, lambda: read_copies(folder))
    if lacking := [key for key in lacking if key in sources and key.partition(".")[0] in needed]:
        raise lacking_source(folder, lacking)
