"""What a registry holds: named factories, and the parts of a YAML that name them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, Generic, TypeVar, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from gan_bench.errors import UserError
from gan_bench.registry.source import CodeOrigin

T = TypeVar("T")
F = TypeVar("F")


class PartError(UserError, ValueError):
    """A registry does not know a name or an argument, or does not accept a value.

    It is a ValueError too, so that pydantic reports it with the other errors of a file.

    Attributes:
        problems: (message, argument) for each problem; the argument is None for a problem with the
            name.
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


def nearest(word: str, names: list[str], most: int = 3) -> str:
    """Return the hint that ends an error about an unknown word: similar names, or all names.

    Capitals, and `-` in the place of `_`, make no difference.

    Args:
        most: How many similar names it gives.
    """
    plain: dict[str, list[str]] = {}
    for name in names:
        plain.setdefault(_plain(name), []).append(name)
    if same := plain.get(_plain(word[:60])):
        return f"did you mean {' or '.join(map(repr, same))}?"
    close = get_close_matches(_plain(word[:60]), list(plain), n=most, cutoff=0.5)
    similar = [name for each in close for name in plain[each]][:most]
    if similar:
        return f"did you mean {' or '.join(map(repr, similar))}?"
    return f"known: {', '.join(sorted(names))}"


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


@dataclass(frozen=True)
class Entry(Generic[T, F]):
    """One registered factory.

    Attributes:
        origin: The plug-in or package that registers it; None for a built-in part.
        kind: That of its registry, of a third-party part.
    """

    name: str
    factory: Callable[..., T]
    facts: F
    origin: CodeOrigin | None = None
    kind: str = ""

    @cached_property
    def source(self) -> str:
        """The hash of the code behind a third-party part; empty for a built-in one."""
        return self.origin.source(self.kind, self.name) if self.origin is not None else ""

    @cached_property
    def schema(self) -> type[BaseModel]:
        """The keyword-only parameters of the factory as a closed, strict pydantic model."""
        parameters = [p for p in inspect.signature(self.factory).parameters.values()
                      if p.kind is p.KEYWORD_ONLY]
        # Only their annotations: those of other parameters and of the result may be torch's types.
        annotations = {p.name: p.annotation for p in parameters}
        holder = type("Arguments", (), {"__annotations__": annotations})
        names = inspect.unwrap(self.factory).__globals__
        hints = get_type_hints(holder, globalns=names, include_extras=True)
        fields: dict[str, Any] = {}
        for p in parameters:
            default = ... if p.default is p.empty else p.default
            fields[p.name] = hints[p.name], default
        config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
        return create_model(f"{self.name}_arguments", __config__=config, **fields)

    @property
    def summary(self) -> str:
        """The first line of the factory's docstring."""
        return (inspect.getdoc(self.factory) or "").split("\n")[0]
