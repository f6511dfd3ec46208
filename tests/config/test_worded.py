"""Errors of a file's values are in plain words, of every kind that pydantic has for its keys."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from gan_bench import registry
from gan_bench.config.cluster import ClusterSpec
from gan_bench.config.experiment_file import ExperimentFile
from gan_bench.config.spec import RunSettings
from gan_bench.errors import _WORDS, worded

# What a YAML file may hold: each value is of the wrong type, size or form for some key.
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 2**80, -1e300, float("nan"), float("inf"), "", "text", "x" * 300,
    "../up", "\udcff", [], [1], ["a", "a"], [[]], [1, 2, 3], {}, {"a": 1}, {1: 2}, {"name": 3},
    {"run": 1}, {"of": 1, "steps": [1, 2, 3]}, {"of": "train/d_loss", "steps": [0]})
PYTHONS = ("Input should", "valid ", "String should", "List should", "Dictionary", "an instance",
           "Value error", "JSON", "python")


def schemas() -> Iterator[type[BaseModel]]:
    """The top level of a file, the settings of a run, and the arguments of every part."""
    yield from (ExperimentFile, RunSettings, ClusterSpec)
    for kind in (registry.MODELS, registry.LOSSES, registry.PENALTIES, registry.AUGMENTATIONS,
                 registry.OPTIMIZERS, registry.DATASETS):
        yield from (kind[name].schema for name in kind.names())


def wrong(model: type[BaseModel]) -> Iterator[dict[str, Any]]:
    """Each key of a model, and of the models below it, with each value."""
    for key, field in model.model_fields.items():
        yield from ({key: value} for value in VALUES)
        for below in below_of(field.annotation):
            yield from ({key: values} for values in wrong(below))
            yield from ({key: {"a": values}} for values in wrong(below))


def below_of(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from below_of(part)


def found_in(model: type[BaseModel]) -> Iterator[dict[str, Any]]:
    for values in wrong(model):
        try:
            model.model_validate(values)
        except ValidationError as error:
            yield from error.errors()  # type: ignore[misc]
        except registry.PartError:
            continue


def test_every_kind_of_error_has_plain_words() -> None:
    seen = set()
    for model in schemas():
        for found in found_in(model):
            said = worded(found)
            assert not any(word in said for word in PYTHONS), (found["type"], said)
            seen.add(found["type"])
    usual = {"int_type", "float_type", "finite_number", "bool_type",
             "string_type", "list_type", "dict_type", "literal_error", "greater_than",
             "greater_than_equal", "less_than", "less_than_equal", "too_short", "too_long",
             "string_pattern_mismatch", "extra_forbidden", "missing", "value_error"}
    assert usual <= seen, usual - seen


@pytest.mark.parametrize(("schema", "value", "words"), [
    (int, "x", "must be a whole number"), (float, "x", "must be a number"),
    (list[int], 3, "must be a list: [a, b]"), (str, 3, "must be text"),
    (bool, "maybe", "must be true or false"), (None, 3, "must be null"),
    (dict[str, int], 3, "must be keys with values: {key: value}")])
def test_words_of_a_kind(schema: Any, value: object, words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(schema).validate_python(value)
    [found] = itertools.islice(caught.value.errors(), 1)
    assert worded(found) == words
    assert found["type"] in _WORDS


@pytest.mark.parametrize(("kind", "context", "words"), [
    ("too_short", {"min_length": 1}, "must have at least 1 value"),
    ("too_long", {"max_length": 8}, "must have at most 8 values"),
    ("string_too_short", {"min_length": 1}, "must have at least 1 character"),
    ("string_too_long", {"max_length": 64}, "must have at most 64 characters")])
def test_a_length_is_counted_in_words(kind: str, context: dict[str, int], words: str) -> None:
    assert worded({"type": kind, "ctx": context}) == words
