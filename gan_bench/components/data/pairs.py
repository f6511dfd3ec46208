"""Pairs made from any image data set: its images are targets, whose inputs a function makes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from gan_bench.components.data.arrays import Arrays, ArraySplit
from gan_bench.components.data.pair_inputs import (
    INPUTS,
    input_shape,
    make_inputs,
    parse_input,
    why_no_input,
)
from gan_bench.data_facts import DataFacts
from gan_bench.errors import Say, UserError
from gan_bench.registry import DATASETS, DatasetFacts, Part, PartError
from gan_bench.rng import derive

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = 1  # of the functions that make inputs: raise it when their values change


def _parse_targets(value: object) -> dict[str, Any]:
    """Return the name and the arguments of the data set that a value stands for."""
    try:
        part = DATASETS.parse(value)
    except PartError as error:
        raise PydanticCustomError("targets", "{why}", {"why": str(error)}) from None
    if part.name == "pairs":
        raise PydanticCustomError("targets", "pairs are made of a data set of images")
    return {"name": part.name, **part.args}


def _parse_input(value: object) -> dict[str, Any]:
    try:
        return parse_input(value)
    except ValueError as error:
        raise PydanticCustomError("input", "{why}", {"why": str(error)}) from None


NAMED = {"anyOf": [{"type": "string"}, {"type": "object", "required": ["name"]}]}
Targets = Annotated[dict[str, Any], BeforeValidator(_parse_targets), WithJsonSchema(NAMED), Field(
    description="the data set whose images are the targets")]
Input = Annotated[dict[str, Any], BeforeValidator(_parse_input), WithJsonSchema(
    {"anyOf": [{"enum": list(INPUTS)}, NAMED["anyOf"][1]]}), Field(
    description=f"what makes an input of a target: {', '.join(INPUTS)}")]


def describe_pairs(data_root: Path, *, of: Mapping[str, Any], input: Mapping[str, Any],
                   ) -> DataFacts:
    """Return the facts of the targets, with the shape of their inputs.

    Raises:
        UserError: The data set has no images, or such inputs cannot be made of them.
    """
    part = DATASETS.parse(of)
    facts: DataFacts = DATASETS[part.name].facts.describe(data_root, **part.args)
    if not facts.is_image:
        raise UserError(f"pairs are made of images, and {part} holds vectors")
    if reason := why_no_input(input, facts.shape):
        raise UserError(reason)
    settings = ", ".join(f"{key} {value}" for key, value in input.items() if key != "name")
    notes = [f"each a target, whose input is made by {input['name']}"
             f"{f' ({settings})' if settings else ''}"]
    return replace(facts, input=input_shape(input, facts.shape),
                   digest=f"pairs-{VERSION}-{facts.digest}", notes=(*facts.notes, *notes))


def _targets(*, of: Mapping[str, Any], input: Mapping[str, Any]) -> Part:
    return DATASETS.parse(of)


@DATASETS.register("pairs", DatasetFacts(describe=describe_pairs, targets=_targets))
def make_pairs(data_root: Path, say: Say, *, of: Targets, input: Input) -> Arrays:
    """Pairs of images, for image-to-image models: targets of any data set, and inputs made of them.

    The input is a pure function of the target, so no download is needed: `edges`, `low_resolution`,
    `blur`, `mask`, `grey`, `noise` or `inverted`. The splits and the labels are those of `of`.
    """
    arrays: Arrays = DATASETS.build(DATASETS.parse(of), data_root, say)

    def with_inputs(split: ArraySplit, name: str) -> ArraySplit:
        images: NDArray[np.uint8] = split.images
        seed = derive(0, f"pairs/{input['name']}/{name}")
        return replace(split, inputs=make_inputs(images, input, seed))

    return Arrays(with_inputs(arrays.train, "train"), with_inputs(arrays.test, "test"))
