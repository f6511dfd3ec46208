"""Registries: a name in the YAML → a factory, its arguments and its facts.

A registered factory's signature is the schema of its arguments: keyword-only parameters with type
annotations (`typing.Annotated` with `annotated_types` bounds where a range matters) and defaults.
Nothing here, and nothing at the top of a module that registers something, imports torch: so `plan`
knows every name and checks every argument in a fraction of a second.

A registry fills itself on its first look-up: from every module of the package of the same name in
gan_bench, then from the entry-point group of that name (`gan_bench.models`, `gan_bench.losses`, …)
of whatever else is installed.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from importlib.metadata import entry_points
from typing import Any, Generic, ParamSpec, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from pydantic_core import ErrorDetails

from gan_bench.errors import UserError, one_line, printable, shown

T = TypeVar("T")
P = ParamSpec("P")


class PartError(UserError, ValueError):
    """Names or arguments that a registry does not know, or values that it does not take.

    A ValueError too, so that pydantic reports it among a file's other errors.

    Attributes:
        problems: (message, argument) for each; the argument is None where it is about the name.
    """

    def __init__(self, *problems: tuple[str, str | None]) -> None:
        super().__init__("; ".join(message for message, _ in problems))
        self.problems = problems


class Part(BaseModel):
    """A registered name with all its arguments, defaults filled in.

    In YAML: `hinge`, or `{name: lsgan, target: 0.9}`.
    """

    model_config = ConfigDict(frozen=True)
    name: str
    args: dict[str, Any]

    def __str__(self) -> str:
        return self.name


def nearest(word: str, known: list[str]) -> str:
    """Return the hint that ends an error about an unknown word: the near ones, or all."""
    near = get_close_matches(word[:60], known, n=3, cutoff=0.5)
    if near:
        return f"did you mean {' or '.join(repr(n) for n in near)}?"
    return f"known: {', '.join(sorted(known))}"


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One registered factory."""

    name: str
    factory: Callable[..., T]
    facts: Mapping[str, Any]

    @cached_property
    def schema(self) -> type[BaseModel]:
        """The keyword-only parameters of the factory as a closed, strict pydantic model."""
        parameters = [p for p in inspect.signature(self.factory).parameters.values()
                      if p.kind is p.KEYWORD_ONLY]
        # Only theirs: what stands before them, and what is returned, may be a type of torch.
        holder = type("Arguments", (), {"__annotations__": {p.name: p.annotation
                                                            for p in parameters}})
        names = inspect.unwrap(self.factory).__globals__
        hints = get_type_hints(holder, globalns=names, include_extras=True)
        fields: dict[str, Any] = {
            p.name: (hints[p.name], ... if p.default is p.empty else p.default) for p in parameters}
        config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
        return create_model(f"{self.name}_arguments", __config__=config, **fields)

    @property
    def summary(self) -> str:
        """The first line of the factory's docstring."""
        return (inspect.getdoc(self.factory) or "").split("\n")[0]


class Registry(Generic[T]):
    """The named factories of one kind of part.

    Args:
        kind: What an entry is, in the singular, for messages: `"model"`.
        group: The package or module of gan_bench that holds the built-in entries, and the
            entry-point group through which other packages add theirs: `"gan_bench.models"`.
        facts: The facts that no entry goes without.

    Attributes:
        failed_plugins: The entry points that could not be loaded, each with the reason; nothing
            that they registered here is kept.
    """

    def __init__(self, kind: str, group: str, *facts: str) -> None:
        self.kind = kind
        self.group = group
        self._needed = facts
        self.failed_plugins: dict[str, str] = {}
        self._entries: dict[str, Entry[T]] = {}
        self._loaded = False

    def register(
        self, name: str, **facts: Any
    ) -> Callable[[Callable[P, T]], Callable[P, T]]:
        """Register the decorated factory under `name`; `facts` are kept beside it.

        Raises:
            ValueError: The name is taken, or cannot be part of a file's name; a fact is missing.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", name):
            raise ValueError(f"{shown(name)} is no name for a {self.kind}: a letter or digit, then "
                             f"letters, digits, `_`, `.` and `-`, 64 in all")
        if missing := [fact for fact in self._needed if fact not in facts]:
            raise ValueError(f"the {self.kind} {name!r} states no {' and no '.join(missing)}")

        def add(factory: Callable[P, T]) -> Callable[P, T]:
            if not self._loaded and not factory.__module__.startswith("gan_bench."):
                self._load_own()  # so that it is the newcomer whose name is taken
            if name in self._entries:
                raise ValueError(f"the {self.kind} {name!r} is registered twice")
            self._entries[name] = Entry(name, factory, facts)
            return factory

        return add

    def __iter__(self) -> Iterator[Entry[T]]:
        self._load()
        return iter([self._entries[name] for name in sorted(self._entries)])

    def __getitem__(self, name: str) -> Entry[T]:
        """Return the entry called `name`.

        Raises:
            PartError: There is none; the message gives the nearest names.
        """
        self._load()
        if name not in self._entries:
            hint = nearest(name, list(self._entries))
            failed = "".join(f" (plug-in {k} failed: {v})" for k, v in self.failed_plugins.items())
            raise PartError((f"no {self.kind} is called {shown(name)}; {hint}{failed}", None))
        return self._entries[name]

    def names(self) -> list[str]:
        """Return all names, sorted."""
        return [entry.name for entry in self]

    def parse(self, value: object) -> Part:
        """Return the Part that `value` (a name, or a mapping with `name`) stands for.

        Raises:
            PartError: Unknown name, unknown argument, wrong type or value, missing argument.
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
            raise PartError(*(self._problem(entry, found) for found in error.errors())) from None
        return Part(name=entry.name, args=checked.model_dump(mode="json"))

    def _problem(self, entry: Entry[T], found: ErrorDetails) -> tuple[str, str | None]:
        """Return what pydantic found wrong with an argument in words, and which it was."""
        argument = str(found["loc"][0]) if found["loc"] else None
        known = list(entry.schema.model_fields)
        if found["type"] == "extra_forbidden":
            takes = nearest(str(argument), known) if known else "it takes none"
            unknown = f"{self.kind} {entry.name!r} has no argument {shown(argument)}"
            return f"{unknown}; {takes}", argument
        if found["type"] == "missing":
            return f"{self.kind} {entry.name!r} needs the argument {argument!r}", None
        return f"{found['msg']}, not {shown(found['input'])}", argument

    def build(self, part: Part, *args: object) -> T:
        """Call the factory of `part` with `args` and the part's own arguments."""
        entry = self[part.name]
        checked = entry.schema.model_validate(part.args, strict=False)
        return entry.factory(*args, **{k: getattr(checked, k) for k in entry.schema.model_fields})

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        self._load_own()
        for point in entry_points(group=self.group):
            before = set(self._entries)
            try:
                point.load()
                for name in self._entries.keys() - before:
                    _ = self._entries[name].schema  # its annotations are somebody else's too
            except (Exception, SystemExit) as error:  # name it, and go on without it
                self.failed_plugins[point.name] = printable(one_line(error))
                for name in self._entries.keys() - before:
                    del self._entries[name]

    def _load_own(self) -> None:
        home = importlib.import_module(self.group)
        for module in pkgutil.iter_modules(getattr(home, "__path__", [])):
            importlib.import_module(f"{self.group}.{module.name}")


DATASETS: Registry[Any] = Registry("dataset", "gan_bench.data", "describe")
MODELS: Registry[Any] = Registry("model", "gan_bench.models", "refuses")
LOSSES: Registry[Any] = Registry("loss", "gan_bench.losses")
PENALTIES: Registry[Any] = Registry("penalty", "gan_bench.penalties", "on_examples", "term")
OPTIMIZERS: Registry[Any] = Registry("optimizer", "gan_bench.optimizers")
EXTRACTORS: Registry[Any] = Registry("extractor", "gan_bench.features")
METRICS: Registry[Any] = Registry("metric", "gan_bench.metrics", "better", "extractor", "reference",
                                  "refuses")


def scores() -> list[str]:
    """Return the names of all scores that metrics give: a metric's own, or its facts' `returns`."""
    return [name for entry in METRICS for name in entry.facts.get("returns", (entry.name,))]
