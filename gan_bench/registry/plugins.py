"""Plug-in files: a Python file that registers parts, without a package and an entry point.

A file is read once, with the modules beside it that it imports, and all processes import that copy:
an edit during a long experiment changes no run of it. Its modules have names of their own in
`sys.modules`, so two files may import different modules of one name, and neither hides an
installed package from the rest of the program.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import redirect_stdout
from importlib.abc import MetaPathFinder, SourceLoader
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from gan_bench.errors import UserError, one_line
from gan_bench.paths import AnyPath, normal_path
from gan_bench.registry.base import REGISTRIES, Registry, collecting
from gan_bench.registry.entry import Entry
from gan_bench.registry.source import Plugin, files_behind, first_part

PREFIX = "_gan_bench_plugin_"  # of the names of plug-ins' modules
MAX_FILES, MAX_BYTES = 200, 5_000_000  # of a file and the modules beside it
Registered = tuple[Registry[Any, Any], Entry[Any, Any]]

_registered: dict[Plugin, list[Registered]] = {}  # by every plug-in that was imported
_plugins: dict[str, Plugin] = {}  # by the names of their modules


def read_plugins(paths: Iterable[AnyPath]) -> tuple[Plugin, ...]:
    """Read plug-in files, each once.

    Raises:
        UserError: As `read_plugin`; or two files have the same name.
    """
    files = dict.fromkeys(normal_path(path) for path in paths)
    plugins = tuple(map(read_plugin, files))
    by_name: dict[str, Plugin] = {}
    for plugin in plugins:
        if plugin.name in by_name:
            raise UserError(f"{plugin.path}: {by_name[plugin.name].path} has the same name: rename "
                            f"one of them")
        by_name[plugin.name] = plugin
    return plugins


def read_plugin(path: AnyPath) -> Plugin:
    """Read a plug-in file, and the modules beside it that it imports, theirs included.

    Raises:
        UserError: The file is missing, no Python file, or cannot be read; or there are too many.
    """
    file = normal_path(path)
    if file.suffix != ".py" or not file.stem.isidentifier():
        raise UserError(f"{file}: a plug-in is a Python file whose name has letters, digits and "
                        f"`_` alone, such as mine.py")
    if not file.is_file():
        raise UserError(f"{file}: there is no such file")
    contents: dict[str, bytes] = {}
    size = 0
    for name, content in files_behind(file):
        contents[name] = content
        size += len(content)
        if len(contents) > MAX_FILES or size > MAX_BYTES:
            raise UserError(f"{file}: with the modules beside it that it imports it has more than "
                            f"{MAX_FILES} files or {MAX_BYTES:,} bytes; make it a package with an "
                            f"entry point")
    others = sorted(contents.items() - {(file.name, contents[file.name])})
    return Plugin(str(file), ((file.name, contents[file.name]), *others))


def has_plugins() -> bool:
    """Whether this process has imported a plug-in file."""
    return bool(_registered)


def use_plugins(plugins: Sequence[Plugin], *, replacing: bool = False) -> None:
    """Let the registries hold the parts of these plug-ins, and of no other files.

    Args:
        replacing: Whether a later plug-in may replace a part of an earlier one, as where several
            experiments are read.

    Raises:
        UserError: One cannot be imported or registers nothing, or a name is taken; the registries
            are as before.
    """
    if not plugins and not _registered:
        return
    for registry in REGISTRIES:
        registry.load()
    chosen: dict[tuple[str, str], tuple[Plugin, Registered]] = {}
    for plugin in plugins:
        for registry, entry in _parts_of(plugin):
            key = registry.kind, entry.name
            if key in chosen and not replacing:
                raise UserError(f"{plugin.path}: the {registry.kind} {entry.name!r} is registered "
                                f"by {chosen[key][0].path} too: rename one of them")
            chosen[key] = plugin, (registry, entry)
    for registry in REGISTRIES:
        registry.drop_plugins()
    for _, (registry, entry) in chosen.values():
        registry.put(entry)


def provide(sources: Mapping[str, str], copies: Callable[[], Sequence[Plugin]]) -> list[str]:
    """Let the registries hold parts in the versions that a run was made with.

    Args:
        sources: Their hashes, by `kind.name`; an empty one accepts any version.
        copies: Returns plug-ins to take what is missing from.

    Returns:
        The keys whose version is nowhere.

    Raises:
        UserError: A copy cannot be imported.
    """
    lacking = [key for key, source in sources.items() if not _provide(key, source)]
    if not lacking:
        return []
    for registry in REGISTRIES:
        registry.load()
    for plugin in copies():
        _parts_of(plugin)
    return [key for key in lacking if not _provide(key, sources[key])]


def _provide(key: str, source: str) -> bool:
    kind, _, name = key.partition(".")
    registry = next((registry for registry in REGISTRIES if registry.kind == kind), None)
    if registry is None:
        return False
    present = registry.get(name)
    if present is not None and source in ("", present.source):
        return True
    for parts in reversed(_registered.values()):
        for of_registry, entry in parts:
            if of_registry is registry and entry.name == name and source in ("", entry.source):
                registry.put(entry)
                return True
    return False


def _parts_of(plugin: Plugin) -> list[Registered]:
    """Return what a plug-in registers; import it, unless it has been.

    Raises:
        UserError: It cannot be imported, registers nothing, or takes a name of another part.
    """
    if plugin in _registered:
        return _registered[plugin]
    package = PREFIX + plugin.id
    _plugins[package] = plugin
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    try:
        with collecting(plugin) as parts, redirect_stdout(sys.stderr):  # stdout is the result's
            importlib.import_module(f"{package}.{plugin.name}")
    except (Exception, SystemExit) as error:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]
        raise UserError(f"{_place(error, plugin)}: {_reason(error)}") from None
    if not parts:
        raise UserError(f"{plugin.path}: registers nothing; decorate a factory, for example with "
                        f"@LOSSES.register(\"my_loss\")")
    _registered[plugin] = parts
    return parts


def _place(error: BaseException, plugin: Plugin) -> str:
    """Return `file:line` of the user's code that an error is about."""
    folder = Path(plugin.path).parent
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if Path(frame.filename).is_relative_to(folder)
              and Path(frame.filename).relative_to(folder).as_posix() in plugin.contents]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else plugin.path


def _reason(error: BaseException) -> str:
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}"
    return one_line(error)


class _Finder(MetaPathFinder):
    """Finds the modules of plug-ins, in memory."""

    def find_spec(self, fullname: str, path: object = None, target: object = None,
                  ) -> ModuleSpec | None:
        package, _, module = fullname.partition(".")
        plugin = _plugins.get(package)
        if plugin is None:
            return None
        if not module:
            return ModuleSpec(fullname, None, is_package=True)
        place = module.replace(".", "/")
        for name in (f"{place}.py", f"{place}/__init__.py"):
            if name in plugin.contents:
                file = str(Path(plugin.path).parent / name)
                spec = ModuleSpec(fullname, _Loader(plugin, name), origin=file,
                                  is_package=name.endswith("__init__.py"))
                spec.has_location = True
                return spec
        return None


class _Loader(SourceLoader):
    """Runs a module of a plug-in; modules beside the plug-in are found before installed ones.

    It keeps no compiled file: within a second of its change, such a file counts as unchanged.
    """

    def __init__(self, plugin: Plugin, name: str) -> None:
        self._plugin, self._name = plugin, name

    def get_filename(self, fullname: str) -> str:
        return str(Path(self._plugin.path).parent / self._name)

    def get_data(self, path: str) -> bytes:
        return self._plugin.contents[self._name]

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__builtins__"] = {**vars(builtins),
                                           "__import__": _import_beside(self._plugin)}
        super().exec_module(module)


def _import_beside(plugin: Plugin) -> Callable[..., ModuleType]:
    """Return the `__import__` of a plug-in's modules."""
    package = PREFIX + plugin.id
    beside = set(map(first_part, plugin.contents))

    def import_module(name: str, globals: Mapping[str, object] | None = None,
                      locals: Mapping[str, object] | None = None,
                      fromlist: Sequence[str] | None = (), level: int = 0) -> ModuleType:
        first = name.partition(".")[0]
        if level or first not in beside:
            return builtins.__import__(name, globals, locals, fromlist or (), level)
        module = builtins.__import__(f"{package}.{name}", globals, locals, fromlist or ("",), 0)
        return module if fromlist else sys.modules[f"{package}.{first}"]

    return import_module
