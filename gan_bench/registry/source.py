"""The source code behind third-party parts, and the hash of it that is part of a run's id.

The hash is of the syntax tree: comments, docstrings and layout do not count. So is the version of
Python: fields of a node that are empty are left out, because newer versions add some. Only of code
that is typed into Python, which keeps no source, the hash is of the bytecode.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.metadata import EntryPoint
from pathlib import Path
from types import CodeType
from typing import Any

from gan_bench.errors import UserError
from gan_bench.registry.slices import imported_modules, statements_of

IGNORED_FIELDS = ("ctx", "type_comment", "type_ignores", "kind")


@dataclass(frozen=True)
class Plugin:
    """A plug-in file and the modules beside it that it imports, as they were read.

    Attributes:
        path: The file, for messages and tracebacks; absolute.
        files: (path below the file's folder, content); the file itself is the first.
    """

    path: str
    files: tuple[tuple[str, bytes], ...]

    @property
    def name(self) -> str:
        """The name of the file without its ending."""
        return self.files[0][0].removesuffix(".py")

    @cached_property
    def id(self) -> str:
        """What tells this content at this place from any other: 16 hex digits."""
        total = hashlib.sha256(self.path.encode())
        for name, content in self.files:
            total.update(f"\0{name}\0{len(content)}\0".encode() + content)
        return total.hexdigest()[:16]

    @cached_property
    def contents(self) -> dict[str, bytes]:
        """The content of each file, by its path below the folder."""
        return dict(self.files)

    def source(self, kind: str, name: str) -> str:
        """Return the hash of the code behind one of its parts: 12 hex digits.

        The name of the file itself does not count, so that it can be renamed.
        """
        (_, content), *others = self.files
        beside: dict[str, list[ast.AST]] = {}
        for file, code in others:
            beside.setdefault(first_part(file), []).append(parsed(code))
        statements = statements_of(ast.parse(content), kind, name, beside)
        waiting, needed = imported_modules(statements) & beside.keys(), set[str]()
        while waiting:
            needed |= waiting
            trees = [tree for module in waiting for tree in beside[module]]
            waiting = imported_modules(trees) & beside.keys() - needed
        return hash_trees([("", statements), *(
            (file, [parsed(code)]) for file, code in others if first_part(file) in needed)])


@dataclass(frozen=True)
class Package:
    """An installed package that registers parts through an entry point."""

    point: EntryPoint

    def source(self, kind: str, name: str) -> str:
        """Return the hash of the distribution's modules: 12 hex digits."""
        return _package_source(self.point)


@dataclass(frozen=True)
class Script:
    """A script, a notebook or another module that registers a part itself, by a decorator."""

    factory: Callable[..., Any]

    def source(self, kind: str, name: str) -> str:
        """Return the hash of the code behind one of its parts: 12 hex digits.

        That is the script with what it imports from beside it, as of a plug-in; of a module in a
        package, the package; of a notebook, the factory alone.
        """
        module = sys.modules.get(self.factory.__module__)
        package = (getattr(module, "__package__", None) or "").partition(".")[0]
        if files := _files_of_module(package) if package else []:
            return _hash_files(files)
        place = getattr(module, "__file__", None)
        if place and Path(place).is_file():
            file = Path(place).absolute()
            if any(file.parent.glob("*.dist-info")):  # beside it lies whatever is installed
                return _hash_files([("", file)])
            return Plugin(str(file), tuple(files_behind(file))).source(kind, name)
        try:
            text = inspect.getsource(self.factory)
        except (OSError, TypeError):  # typed into Python, which keeps no source
            functions = [self.factory, *getattr(self.factory, "__dict__", {}).values()]  # a class
            codes = [f.__code__ for f in functions if hasattr(f, "__code__")]
            return hash_trees([("", [ast.Constant("".join(map(_code_text, codes)))])])
        return hash_trees([("", [parsed(textwrap.dedent(text).encode())])])


CodeOrigin = Plugin | Package | Script


def files_behind(file: Path) -> Iterator[tuple[str, bytes]]:
    """Yield a file, and the modules beside it that it imports, theirs included.

    Yields:
        The path below the file's folder, and the content.

    Raises:
        UserError: One cannot be read.
    """
    seen: set[str] = set()
    waiting = [file.name]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        try:
            content = (file.parent / name).read_bytes()
        except OSError as error:
            raise UserError(f"{file.parent / name}: cannot be read: {error.strerror}") from None
        yield name, content
        for module in sorted(imported_modules([parsed(content)])):
            waiting += _files_beside(module, file.parent)


def _files_beside(module: str, folder: Path) -> list[str]:
    """Return the files of a module in a folder: one, or all of a package; else none."""
    if module in sys.stdlib_module_names or module == "gan_bench":
        return []
    if (folder / f"{module}.py").is_file():
        return [f"{module}.py"]
    if not (folder / module / "__init__.py").is_file():
        return []
    return [file.relative_to(folder).as_posix() for file in sorted((folder / module).rglob("*.py"))]


def first_part(file: str) -> str:
    """Return the name of the module or package that a file below a folder belongs to."""
    return file.partition("/")[0].removesuffix(".py")


def parsed(content: bytes) -> ast.AST:
    """Return the syntax tree of a file; of one that is not valid Python, its bytes."""
    try:
        return ast.parse(content)
    except (SyntaxError, ValueError, RecursionError):
        return ast.Constant(content)


def hash_trees(files: Iterable[tuple[str, Sequence[ast.AST]]]) -> str:
    """Return the hash of code, a name and its statements each: 12 hex digits."""
    total = hashlib.sha256()
    for name, statements in files:
        text = "".join(_tokens(_without_docstring([*statements])))
        total.update(f"{name}\0{text}\0".encode("utf-8", "surrogatepass"))
    return total.hexdigest()[:12]


def _tokens(node: object) -> Iterator[str]:
    """Yield what a syntax tree consists of, without docstrings and empty fields."""
    if isinstance(node, ast.AST):
        yield f"({type(node).__name__}"
        for name, value in ast.iter_fields(node):
            if name in IGNORED_FIELDS or value is None or value == []:
                continue
            if name == "body" and isinstance(value, list):
                value = _without_docstring(value)
            yield f" {name}="
            yield from _tokens(value)
        yield ")"
    elif isinstance(node, list):
        yield "["
        for item in node:
            yield from _tokens(item)
        yield "]"
    else:
        yield f"{type(node).__name__}:{node!r},"


def _without_docstring(body: list[Any]) -> list[Any]:
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(
            first.value.value, str):
        return body[1:]
    return body


def _code_text(value: object) -> str:
    """Return what bytecode consists of, nested functions included; the same in each process."""
    if isinstance(value, CodeType):
        names = value.co_names, value.co_freevars, value.co_cellvars
        return f"({value.co_code!r} {names} {_code_text(value.co_consts)})"
    if isinstance(value, tuple):
        return f"({','.join(map(_code_text, value))})"
    if isinstance(value, frozenset):
        return f"{{{','.join(sorted(map(_code_text, value)))}}}"
    return repr(value)


@lru_cache
def _package_source(point: EntryPoint) -> str:
    """Return the hash of the modules that the distribution lists, or of the entry point's package.

    An editable install lists none of its modules, but at most what finds them.
    """
    module = point.module.partition(".")[0]
    files: list[tuple[str, Path]] = []
    for listed in (point.dist.files or []) if point.dist is not None else []:
        file = Path(str(listed.locate()))
        if listed.suffix == ".py" and ".." not in listed.parts and file.is_file():
            files.append((listed.as_posix(), file))
    if module not in {first_part(name) for name, _ in files}:
        files = _files_of_module(module) or files
    return _hash_files(files)


def _hash_files(files: Iterable[tuple[str, Path]]) -> str:
    return hash_trees((name, [parsed(file.read_bytes())]) for name, file in sorted(files))


def _files_of_module(module: str) -> list[tuple[str, Path]]:
    """Return the files of a top-level module or package: (as they lie in site-packages, file)."""
    spec = importlib.util.find_spec(module)
    if spec is None:
        return []
    if not spec.submodule_search_locations:
        return [(f"{module}.py", Path(spec.origin))] if spec.origin else []
    return [(f"{module}/{file.relative_to(folder).as_posix()}", file)
            for folder in map(Path, spec.submodule_search_locations)
            for file in sorted(folder.rglob("*.py"))]
