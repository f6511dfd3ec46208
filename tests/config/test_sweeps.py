"""Which comparisons of a grid are one question."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_bench.compare.seeds import strictest
from gan_bench.compare.stats.comparison import compare, holm
from gan_bench.config.declared import TAG_LIMIT, Declared, comparison_tag, read_declared
from gan_bench.config.experiment import load_experiment
from gan_bench.config.sweeps import sweeps_of

STUDY = """\
name: tiny
dataset: {name: digits, image_size: 16}
seeds: [0, 1]
base: {model: {name: mlp, width: 16}, batch_size: 32, steps: 5}
"""


def declared(folder: Path, grid: str) -> Declared:
    file = folder / "tiny.yaml"
    file.write_text(STUDY + grid)
    return load_experiment(file, folder).declared


def test_an_axis_of_three_values_is_a_sweep_around_the_baseline(tmp_path: Path) -> None:
    found = declared(tmp_path, "matrix: {loss: [saturating, hinge, lsgan], batch_size: [16, 32]}\n")
    first = found.variants[0]
    assert first == found.baseline == "saturating-batch_size=16"
    assert found.sweeps == {"loss": ("hinge-batch_size=16", "lsgan-batch_size=16")}
    assert found.sweep_of("lsgan-batch_size=16") == "loss"
    assert found.sweep_of("saturating-batch_size=32") == ""  # an axis of two values
    assert found.sweep_of("lsgan-batch_size=32") == ""  # on both axes


def test_one_axis_and_small_grids_have_one_question(tmp_path: Path) -> None:
    for grid in ("matrix: {loss: [saturating, hinge, lsgan]}\n",
                 "matrix: {loss: [saturating, hinge], batch_size: [16, 32]}\n",
                 "variants: {a: {}, b: {loss: hinge}, c: {loss: lsgan}}\n"):
        assert declared(tmp_path, grid).sweeps == {}


def test_variants_of_include_are_in_no_sweep() -> None:
    cells = {"a1": {"x": "a", "y": "1"}, "b1": {"x": "b", "y": "1"}, "c1": {"x": "c", "y": "1"},
             "a2": {"x": "a", "y": "2"}, "beside": {}}
    assert sweeps_of(cells, "a1") == {"x": ("b1", "c1")}
    assert sweeps_of(cells, "beside") == {}


def test_what_exclude_leaves_alone_is_no_sweep() -> None:
    cells = {f"{a}{b}": {"a": a, "b": b} for a in "123" for b in "xyz" if f"{a}{b}" != "2x"}
    assert sweeps_of(cells, "1x") == {"b": ("1y", "1z")}
    assert sweeps_of({**cells, "2x": {"a": "2", "b": "x"}}, "1x") == {
        "a": ("3x", "2x"), "b": ("1y", "1z")}


def test_holm_is_over_the_sweep() -> None:
    scores = {name: {seed: start + seed / 10 for seed in range(4)} for name, start in (
        ("base", 1.0), ("b", 1.2), ("c", 1.3), ("other", 1.25), ("both", 1.6))}
    sweep = {"b": "loss", "c": "loss"}
    pairs = {pair.variant: pair for pair in compare(scores, "lower", "base",
                                                    sweep_of=lambda name: sweep.get(name, ""))}
    assert list(pairs) == ["b", "c", "other", "both"]
    assert [pair.family for pair in pairs.values()] == [2, 2, 2, 2]
    for family in (("b", "c"), ("other", "both")):
        assert [pairs[name].p_adjusted for name in family] == holm(
            [pairs[name].p for name in family])
    together = {pair.variant: pair for pair in compare(scores, "lower", "base")}
    assert {pair.family for pair in together.values()} == {4}
    assert together["both"].p_adjusted > pairs["both"].p_adjusted


def test_the_strictest_level_is_that_of_the_largest_family() -> None:
    flat = Declared(baseline="a", variants=tuple("abcdefg"))
    assert strictest(flat) == pytest.approx(0.05 / 6)
    assert strictest(flat.with_changes(sweeps={"lr": ("b", "c", "d", "e")})) == pytest.approx(
        0.05 / 4)
    assert strictest(flat.with_changes(sweeps={"lr": ("b", "c")})) == pytest.approx(0.05 / 4)
    assert strictest(Declared(baseline="a", variants=("a",))) == 0.05


def test_the_tag_keeps_the_sweeps_where_they_fit() -> None:
    few = Declared(baseline="a", sweeps={"lr": ("b", "c")}, labels={"b": "B"})
    assert read_declared(comparison_tag(few)) == few
    many = few.with_changes(sweeps={"lr": tuple(f"variant-{i:04}" for i in range(500))})
    kept = read_declared(comparison_tag(many))
    assert (kept.sweeps, kept.baseline) == ({}, "a")
    assert len(comparison_tag(many)) <= TAG_LIMIT
