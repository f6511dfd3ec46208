"""`gan-bench show` and `list`: what a name stands for, in lines that fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.studies import here
from ruamel.yaml import YAML

from gan_bench.cli.planning.list import KINDS, list_lines
from gan_bench.cli.planning.show import all_names, show_lines
from gan_bench.config.recipes import RECIPES
from gan_bench.registry import LOSSES, Entry


@pytest.mark.parametrize("width", [62, 80, 150])
@pytest.mark.parametrize("name", all_names())
def test_every_name_is_shown_with_all_its_arguments(name: str, width: int) -> None:
    lines = list(show_lines(name, width))
    assert max(map(len, lines)) <= width
    for kind, names in KINDS.items():
        if (entry := names.get(name)) is None:
            continue
        assert f"{names.kind} {name}" in lines, kind
        words = " ".join(" ".join(lines).split())
        assert " ".join(entry.summary.split()) in words
        for argument in entry.schema.model_fields:
            assert any(line.startswith(f"{argument} ") for line in lines)
    assert (f"recipe {name}" in lines) == (name in RECIPES)


@pytest.mark.parametrize("entry", list(LOSSES), ids=lambda entry: str(entry.name))
def test_what_is_shown_of_a_loss_is_what_a_file_takes(entry: Entry[object, object]) -> None:
    lines = list(show_lines(entry.name, 100))
    text = " ".join(lines[lines.index("in an experiment") + 1:])
    part = YAML(typ="safe").load(text)["base"]["loss"]
    assert LOSSES.parse(part) == LOSSES.parse(entry.name)


def test_a_loss_has_its_equation_and_arguments_their_ranges() -> None:
    hinge = "\n".join(show_lines("hinge", 80))
    assert hinge.startswith("loss hinge\n\nThe hinge loss: D stops learning")
    assert "E max(0, 1 − D(x)) + E max(0, 1 + D(G(z)))" in " ".join(hinge.split())
    assert "equations 16 and 17" in hinge
    adam = [line.split() for line in show_lines("adam", 80)]
    assert ["argument", "default", "type"] in adam
    assert ["lr", "0.0002", "float", ">", "0", "or", "points"] in adam
    assert any(row[:3] == ["schedule", "constant", "constant"] for row in adam if len(row) > 3)
    fid = [line.split() for line in show_lines("fid", 80)]
    assert ["better", "lower"] in fid


def test_parts_of_a_plug_in_are_shown_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text('''\
from typing import Annotated
from pydantic import Field
from gan_bench.components.losses import non_saturating
from gan_bench.registry import LOSSES

@LOSSES.register("mine")
def mine(*, weight: Annotated[float, Field(gt=0, description="of nothing [at all]")] = 2.0):
    """A loss of mine."""
    return non_saturating()
''')
    done = here("show", "mine", "--plugin", file)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"loss mine, from {file}\n\nA loss of mine.\n")
    assert "of nothing [at all]" in done.stdout
    assert "base: {loss: {name: mine, weight: 2.0}}" in done.stdout
    assert here("show", "mine").returncode == 2


@pytest.mark.parametrize("width", [62, 80, 100, 150])
def test_a_list_fits_and_loses_no_word(width: int) -> None:
    whole, fitting = list(list_lines(None)), list(list_lines(None, width))
    assert max(map(len, fitting)) <= width
    assert " ".join(" ".join(fitting).split()) == " ".join(" ".join(whole).split())
    assert list(list_lines(None, 10_000)) == whole
