"""Collects the errors of an experiment file, each with its place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from gan_bench.config.grid import KEYS, Variant, argument_hint, expand
from gan_bench.config.recipes import RECIPES
from gan_bench.config.search.search import ADAPTIVE, WHY_RANDOM
from gan_bench.config.spec import RunSettings
from gan_bench.config.yaml_source import Where, YamlSource
from gan_bench.errors import SpecError, shown, worded
from gan_bench.registry import PartError, nearest
from gan_bench.registry.scheduled import ERROR

MAX_ERRORS = 100  # more would not be read


def note_variant_problems(data: dict[str, Any], errors: Problems) -> None:
    """Note the errors in the variants too, when the file has other errors."""
    for variant in variants_until_enough(data.get("base", {}), data.get("variants", {}),
                                 data.get("matrix"), errors):
        validate_settings(variant, errors)


def variants_until_enough(base: dict[str, Any], variants: dict[str, Any],
                  matrix: dict[str, Any] | None, errors: Problems) -> Iterator[Variant]:
    """Yield the variants until they have too many errors to report."""
    for variant in expand(base, variants, matrix, errors.add):
        yield variant
        if errors.count > 10 * MAX_ERRORS:  # repeated errors count each time
            return


class Problems:
    """The errors of a file, each once, with its place."""

    def __init__(self, source: YamlSource) -> None:
        self._source = source
        self.lines: list[str] = []
        self.count = 0

    @property
    def folder(self) -> Path:
        """The folder of the file."""
        return Path(self._source.file).parent

    def add(self, where: Where, message: str) -> None:
        self.count += 1
        path = ".".join(str(key)[:60] for key in where)
        line = f"{self._source.place(where)}: {path}: {message}" if path else (
            f"{self._source.place(where)}: {message}")
        if line in self.lines or len(self.lines) > MAX_ERRORS:
            return
        if len(self.lines) == MAX_ERRORS:
            line = f"{self._source.file}: there are more errors than these"
        self.lines.append(line)

    def add_all(self, error: ValidationError, model: type[BaseModel], origin: Any) -> None:
        """Add what pydantic found; `origin` maps its path to the path in the file."""
        for found in error.errors():
            where: Where = found["loc"]
            cause = found.get("ctx", {}).get("error")
            message = f"{worded(found)}, not {shown(found['input'])}"
            if where == ("seeds",) and type(found["input"]) is int:
                message = _number_of_seeds(found["input"])
            elif found["type"] == "extra_forbidden":
                message = _unknown_key(model, where, found["input"])
            elif found["type"] == ERROR:
                message = found["msg"]
            elif found["type"] == "missing":
                message = f"the key {str(where[-1])!r} is missing"
                where = where[:-1]
            elif cause is not None:
                message = str(cause)
            if isinstance(cause, PartError):
                for problem, argument in cause.problems:
                    self.add(origin((*where, argument) if argument else where), problem)
            else:
                self.add(origin(where), message)

    def raised(self) -> SpecError:
        return SpecError(self.lines)


def _unknown_key(model: type[BaseModel], where: Where, given: object) -> str:
    """Return what is wrong with a key that the model does not have there."""
    if where[:1] == ("search",) and where[-1] in ADAPTIVE:
        return WHY_RANDOM
    if model is RunSettings and where == ("recipe",):
        return f"no recipe is called {shown(given)}; {nearest(str(given), list(RECIPES))}"
    if model is not RunSettings and len(where) == 1 and where[0] in KEYS:
        return "is a key of runs: put it into `base`, into a variant, or on an axis of `matrix`"
    if model is RunSettings and len(where) == 1 and (hint := argument_hint(str(where[0]))):
        return f"unknown key; {hint}"
    known = list(_at(model, where[:-1]).model_fields)
    known += ["optimizer", "recipe"] if model is RunSettings else []
    return f"unknown key; {nearest(str(where[-1]), known)}"


def _number_of_seeds(given: int) -> str:
    """Return what to write for a number in the place of the list of seeds."""
    first = list(range(given)) if 0 < given <= 12 else "[0, 1, 2, …]"
    return f"is a list: write {first} for {given} seeds, or [{given}] for the seed {given} alone"


def _at(model: type[BaseModel], where: Where) -> type[BaseModel]:
    """Return the model that validates what stands at `where` below `model`."""
    for key in where:
        field = model.model_fields.get(str(key))
        # A mapping from names is as its values are; what may be null is as it is otherwise.
        kinds = get_args(field.annotation) or (field.annotation,) if field else ()
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                model = kind
    return model


def validate_settings(variant: Variant, errors: Problems) -> RunSettings | None:
    """Return the variant's settings, or None after noting what is wrong with them."""
    try:
        return RunSettings.model_validate(variant.settings)
    except ValidationError as error:
        errors.add_all(error, RunSettings, variant.where)
        return None
