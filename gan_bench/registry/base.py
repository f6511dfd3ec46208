"""A registry: a name in the YAML → a factory, its arguments and its facts.

A registered factory's signature is the schema of its arguments: keyword-only parameters with type
annotations (`typing.Annotated` with `annotated_types` bounds where a range matters) and defaults.
Neither this module nor the top of a module with registrations imports torch. So `plan` knows every
name and checks every argument in a fraction of a second.

The first look-up fills a registry: from every module of its home in gan_bench, then from its
entry-point group (`gan_bench.models`, `gan_bench.losses`, …) in all installed packages. Plug-in
files (`plugins.py`) add to it by the same `collecting`: all that a module registers, or nothing.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from importlib.metadata import entry_points
from typing import Any, Generic, Never, ParamSpec, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gan_bench.errors import one_line, printable, shown
from gan_bench.registry.entry import Entry, Part, PartError, nearest
from gan_bench.registry.scheduled import ERROR, Scheduled
from gan_bench.registry.source import CodeOrigin, Package, Plugin, Script

T = TypeVar("T")
F = TypeVar("F")
P = ParamSpec("P")


class Registry(Generic[T, F]):
    """The named factories of one kind of part.

    Args:
        kind: The noun for an entry in messages, in the singular: `"model"`.
        facts: The class of the facts that an entry states: `MetricFacts`.
        home: The package or module that holds the built-in entries:
            `"gan_bench.components.models"`.
        group: The entry-point group through which other packages add theirs: `"gan_bench.models"`.

    Attributes:
        failed_plugins: The entry points that could not be loaded, each with the reason; their
            registrations are removed.
    """

    def __init__(self, kind: str, facts: type[F], home: str, group: str) -> None:
        self.kind = kind
        self.home = home
        self.group = group
        self._facts = facts
        self.failed_plugins: dict[str, str] = {}
        self._entries: dict[str, Entry[T, F]] = {}
        self._loaded = False
        REGISTRIES.append(self)

    def register(
        self, name: str, facts: F | None = None, **keywords: Never
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Register the decorated factory under `name`, with its `facts`.

        The facts may be left out if each has a default.

        Raises:
            ValueError: The name is taken, or cannot be part of a file's name; the facts are
                missing, of another kind, or passed as keywords; or the factory has a parameter that
                looks like an argument of a YAML and cannot be one.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
            raise ValueError(f"{shown(name)} is no name for a {self.kind}: a letter or digit, then "
                             f"letters, digits, `_`, `.` and `-`, 64 in all")
        stated = self._stated(name, facts, [*keywords])

        def add(factory: Callable[P, T]) -> Callable[P, T]:
            _refuse_unusable_parameters(factory)
            if not self._loaded and not factory.__module__.startswith("gan_bench."):
                self._load_builtin()  # so that a plug-in cannot take a built-in name
            parts = _collecting[-1] if _collecting else None
            self._refuse_taken(name, parts)
            if parts is not None:
                parts.entries.append((self, Entry(name, factory, stated, parts.origin,
                                                  self.kind)))
                return factory
            is_builtin = factory.__module__.startswith("gan_bench.")
            origin = None if is_builtin else Script(factory)
            self._entries[name] = Entry(name, factory, stated, origin, self.kind)
            return factory

        return add

    def _refuse_taken(self, name: str, parts: _Parts | None) -> None:
        """Refuse a name that another part has.

        Args:
            parts: What the third-party module that is being imported registers.
        """
        present = self._entries.get(name)
        if parts is not None:
            if present is not None and present.origin is None:
                raise ValueError(f"the {self.kind} {name!r} is built in: choose another name")
            if parts.replaces(present):
                present = None
        own = parts.entries if parts is not None else []
        if present is not None or any(registry is self and entry.name == name
                                      for registry, entry in own):
            raise ValueError(f"the {self.kind} {name!r} is registered twice")

    def _stated(self, name: str, facts: F | None, keywords: list[str]) -> F:
        """Return the facts of an entry: those that it states, or the defaults."""
        needed = [fact.name for fact in fields(self._facts)  # type: ignore[arg-type]
                  if fact.default is MISSING and fact.default_factory is MISSING]
        values = ", ".join(f"{fact}=…" for fact in keywords or needed)
        cure = f"write register({name!r}, {self._facts.__name__}({values}))"
        if keywords:
            raise ValueError(f"the {self.kind} {name!r} states its facts as keywords; {cure}")
        if facts is None and needed:
            raise ValueError(f"the {self.kind} {name!r} states no {' and no '.join(needed)}; "
                             f"{cure}")
        if facts is not None and not isinstance(facts, self._facts):
            raise ValueError(f"the {self.kind} {name!r} states {shown(facts)} as its facts; {cure}")
        return self._facts() if facts is None else facts

    def __iter__(self) -> Iterator[Entry[T, F]]:
        self.load()
        return iter([self._entries[name] for name in sorted(self._entries)])

    def __getitem__(self, name: str) -> Entry[T, F]:
        """Return the entry called `name`.

        Raises:
            PartError: No entry has this name; the message lists similar names.
        """
        self.load()
        if name not in self._entries:
            hint = nearest(name, list(self._entries))
            failed = "".join(f" (plug-in {k} failed: {v})" for k, v in self.failed_plugins.items())
            raise PartError((f"no {self.kind} is called {shown(name)}; {hint}{ADD}{failed}", None))
        return self._entries[name]

    def get(self, name: str) -> Entry[T, F] | None:
        """Return the entry called `name`; None if there is none."""
        self.load()
        return self._entries.get(name)

    def put(self, entry: Entry[T, F]) -> None:
        """Add the entry of a plug-in file, in the place of another file's."""
        self._entries[entry.name] = entry

    def drop_plugins(self) -> None:
        """Remove the entries of plug-in files."""
        self._entries = {name: entry for name, entry in self._entries.items()
                         if not isinstance(entry.origin, Plugin)}

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return [entry.name for entry in self]

    def parse(self, value: object) -> Part:
        """Return the Part that `value` describes: a name, or a mapping with `name`.

        Raises:
            PartError: The name or an argument is unknown, an argument is missing, or its type or
                value is wrong.
        """
        if isinstance(value, Part):
            return value
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, Mapping) or not isinstance(value.get("name"), str):
            raise PartError((
                f"a {self.kind} is a name, or a mapping with `name` and arguments, "
                f"not {shown(value)}; known: {', '.join(self.names())}", None))
        entry = self[value["name"]]
        args = {k: v for k, v in value.items() if k != "name"}
        try:
            checked = entry.schema.model_validate(args)
        except ValidationError as error:
            problems = [self._problem(entry, details) for details in error.errors()]
            raise PartError(*problems) from None
        return Part(name=entry.name, args=checked.model_dump(mode="json"))

    def _problem(self, entry: Entry[T, F], details: ErrorDetails) -> tuple[str, str | None]:
        """Return the message for an error that pydantic reports, and the argument's name."""
        argument = str(details["loc"][0]) if details["loc"] else None
        accepted = list(entry.schema.model_fields)
        if details["type"] == "extra_forbidden":
            hint = nearest(str(argument), accepted) if accepted else "it takes none"
            unknown = f"{self.kind} {entry.name!r} has no argument {shown(argument)}"
            return f"{unknown}; {hint}", argument
        if details["type"] == "missing":
            return f"{self.kind} {entry.name!r} needs the argument {argument!r}", None
        if details["type"] == ERROR:
            return details["msg"], argument
        return f"{details['msg']}, not {shown(details['input'])}", argument

    def build(self, part: Part, *args: object,
              follow: Callable[[Scheduled], object] = lambda number: number.first) -> T:
        """Call the factory of `part` with `args` and the part's arguments.

        Args:
            follow: What the factory is given in the place of a number that changes.
        """
        values = self._values(part)
        given = {name: _followed(value, follow) for name, value in values.items()}
        return self[part.name].factory(*args, **given)

    def scheduled(self, part: Part) -> dict[str, list[Scheduled]]:
        """Return the numbers of a part that change, by argument."""
        found: dict[str, list[Scheduled]] = {}
        for name, value in self._values(part).items():
            _followed(value, found.setdefault(name, []).append)
        return {name: numbers for name, numbers in found.items() if numbers}

    def _values(self, part: Part) -> dict[str, Any]:
        schema = self[part.name].schema
        checked = schema.model_validate(part.args, strict=False)
        return {name: getattr(checked, name) for name in schema.model_fields}

    def load(self) -> None:
        """Fill the registry, unless it is: with built-in parts, and those of entry points."""
        if self._loaded:
            return
        self._loaded = True
        self._load_builtin()
        for point in entry_points(group=self.group):
            try:
                with collecting(Package(point)) as parts:
                    point.load()
            except (Exception, SystemExit) as error:  # report the plug-in, and continue without it
                self.failed_plugins[point.name] = printable(one_line(error))
            else:
                for registry, entry in parts:
                    registry.put(entry)

    def _load_builtin(self) -> None:
        home = importlib.import_module(self.home)
        for module in pkgutil.iter_modules(getattr(home, "__path__", [])):
            importlib.import_module(f"{self.home}.{module.name}")


ADD = " (to add yours: plugins: [mine.py] in the YAML, or --plugin mine.py)"


def _followed(value: object, follow: Callable[[Scheduled], object]) -> object:
    """Return an argument with something else in the place of each number that changes."""
    if isinstance(value, Scheduled):
        return follow(value)
    return [_followed(each, follow) for each in value] if isinstance(value, list) else value


def _refuse_unusable_parameters(factory: Callable[..., object]) -> None:
    """Refuse parameters that no YAML could set, though they look as if one could.

    Raises:
        ValueError: One has a default but may be passed by position, or it has no annotation.
    """
    for name, parameter in inspect.signature(factory).parameters.items():
        is_optional = parameter.default is not parameter.empty
        # The program itself passes `classes` to a model.
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and is_optional and name != "classes":
            raise ValueError(f"no YAML can set {name!r}: a `*` has to stand before it, as in "
                             f"`(*, {name}: {_type_hint(parameter.default)} = "
                             f"{parameter.default!r})`")
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.annotation is parameter.empty:
            example = f" = {parameter.default!r}" if is_optional else ""
            raise ValueError(f"the argument {name!r} has no type, by which a YAML is checked: "
                             f"write `{name}: {_type_hint(parameter.default)}{example}`")


def _type_hint(default: object) -> str:
    return type(default).__name__ if isinstance(default, bool | int | float | str) else "TYPE"


REGISTRIES: list[Registry[Any, Any]] = []


@dataclass(frozen=True)
class _Parts:
    """What a module registers while it is imported."""

    origin: CodeOrigin
    entries: list[tuple[Registry[Any, Any], Entry[Any, Any]]]

    def replaces(self, entry: Entry[Any, Any] | None) -> bool:
        """Whether a part may take the name of this entry: both are of plug-in files."""
        return (entry is not None and isinstance(entry.origin, Plugin)
                and isinstance(self.origin, Plugin))


_collecting: list[_Parts] = []


@contextmanager
def collecting(origin: CodeOrigin) -> Iterator[list[tuple[Registry[Any, Any], Entry[Any, Any]]]]:
    """Collect what a third-party module registers within the block; no registry changes.

    All built-in parts are loaded first: what is registered then is the module's.
    """
    for registry in REGISTRIES:
        registry._load_builtin()
    parts = _Parts(origin, [])
    _collecting.append(parts)
    try:
        yield parts.entries
    finally:
        _collecting.pop()
    for _, entry in parts.entries:
        _ = entry.schema  # third-party annotations may fail too
