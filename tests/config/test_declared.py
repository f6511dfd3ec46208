"""What an experiment declares: in a file and in MLflow's tag, as written today and before."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest
from helpers.runs import DIGITS, write_experiment

from gan_bench.config.declared import (
    TAG_LIMIT,
    Amount,
    CurveMean,
    Declared,
    comparison_tag,
    read_declared,
)
from gan_bench.config.experiment import load_experiment
from gan_bench.journal.about import ABOUT, read_about, write_about

# As versions before this model wrote them: curve means are JSON within the JSON.
OLD_FILE = r"""{
 "question": "Was \u00e4ndert \u201cG\u201d \u2014 \u53d8?",
 "baseline": "plain",
 "paired": true,
 "margin": {
  "fd_classifier": "20%",
  "early": "0.25",
  "classes_covered": "2.5%"
 },
 "variants": [
  "plain",
  "wide",
  "saturating"
 ],
 "curve_means": {
  "early": "{\"of\":\"train/g_grad_norm\",\"steps\":[1,20],\"better\":null}",
  "late": "{\"of\":\"train/d_loss\",\"steps\":[10,20],\"better\":\"lower\"}"
 },
 "settings": {
  "plain": "3daa66809cd1",
  "wide": "8371ab474246",
  "saturating": "a7af66cf86f5"
 },
 "command": "gan-bench run x.yaml",
 "differs": {
  "plain": "",
  "wide": "model.width 32 for 128",
  "saturating": "loss saturating for non_saturating"
 }
}
"""
OLD_TAG = (
    r'{"question": "Was ändert “G” — 变?", "command": "gan-bench run x.yaml", "baseline": "plain", '
    r'"paired": true, "margin": {"fd_classifier": "20%", "early": "0.25", "classes_covered": '
    r'"2.5%"}, "settings": {"plain": "3daa66809cd1", "wide": "8371ab474246", "saturating": '
    r'"a7af66cf86f5"}, "curve_means": {"early": "{\"of\":\"train/g_grad_norm\",\"steps\":[1,20],'
    r'\"better\":null}", "late": "{\"of\":\"train/d_loss\",\"steps\":[10,20],\"better\":'
    r'\"lower\"}"}, "variants": ["plain", "wide", "saturating"]}')
OLD = Declared(
    question="Was ändert “G” — 变?", baseline="plain", paired=True,
    margin={"fd_classifier": Amount(0.2, relative=True), "early": Amount(0.25),
            "classes_covered": Amount(0.025, relative=True)},
    variants=("plain", "wide", "saturating"), command="gan-bench run x.yaml",
    settings={"plain": "3daa66809cd1", "wide": "8371ab474246", "saturating": "a7af66cf86f5"},
    differs={"plain": "", "wide": "model.width 32 for 128",
             "saturating": "loss saturating for non_saturating"},
    curve_means={"early": CurveMean(of="train/g_grad_norm", steps=[1, 20]),
                 "late": CurveMean(of="train/d_loss", steps=[10, 20], better="lower")})
LONG = Declared(question="Why?", baseline="plain", paired=True, margin=Amount(0.05, relative=True),
                command="gan-bench run x.yaml")
NAMES = tuple(f"{n:018d}" for n in range(81))


def test_what_older_versions_wrote_is_read(tmp_path: Path) -> None:
    (tmp_path / ABOUT).write_text(OLD_FILE)
    assert read_about(tmp_path) == OLD
    assert read_declared(OLD_TAG) == OLD.with_changes(differs={})


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    write_about(tmp_path, OLD)
    assert read_about(tmp_path) == OLD
    held = json.loads((tmp_path / ABOUT).read_text("utf-8"))
    assert list(held) == list(Declared.model_fields)
    assert held["margin"] == {"fd_classifier": "20%", "early": "0.25", "classes_covered": "2.5%"}
    assert held["curve_means"]["late"] == {
        "of": "train/d_loss", "steps": [10, 20], "better": "lower"}
    assert read_declared(comparison_tag(OLD)) == OLD.with_changes(differs={})
    assert "differs" not in comparison_tag(OLD)
    assert read_declared(comparison_tag(LONG)) == LONG
    assert comparison_tag(Declared()) == "{}"


@pytest.mark.parametrize("margin", [
    Amount(0.07, relative=True), Amount(0.123456789), Amount(0.123456789 / 100, relative=True),
    Amount(5e-7, relative=True), Amount(1e5, relative=True), Amount(1e-7), Amount(1e300)])
def test_a_margin_is_read_as_it_was_given(margin: Amount) -> None:
    for given in (margin, {"fid": margin}):
        declared = Declared(margin=given)
        read = read_declared(declared.model_dump_json())
        assert read.margin_of("fid") == margin
        assert read_declared(comparison_tag(declared)) == read == declared
    assert declared.margin_of("other") is None


@pytest.mark.parametrize("text", [
    "", "{", "[]", "3", "null", "[" * 100_000, "\0", OLD_TAG[:300], '{"of the future": 1}'])
def test_what_is_no_declaration_declares_nothing(text: str, tmp_path: Path) -> None:
    assert read_declared(text) == Declared()
    (tmp_path / ABOUT).write_text(text)
    assert read_about(tmp_path) == Declared()


def test_a_file_that_is_absent_or_no_text_declares_nothing(tmp_path: Path) -> None:
    assert read_about(tmp_path) == Declared()
    (tmp_path / ABOUT).write_bytes(b"\xff\xfe")
    assert read_about(tmp_path) == Declared()


@pytest.mark.parametrize(("name", "value", "kept"), [
    ("question", 3, ""), ("baseline", None, ""), ("command", {}, ""), ("paired", "true", False),
    ("paired", 1, False), ("margin", 3, None), ("margin", ["5%"], None), ("margin", "", None),
    ("margin", {"fid": 3, "d_gap": "5%"}, {"d_gap": Amount(0.05, relative=True)}),
    ("variants", "plain", ()), ("variants", ["plain", 3, None], ("plain",)),
    ("settings", [], {}), ("settings", {"a": "1", "b": 2}, {"a": "1"}),
    ("differs", 3, {}), ("differs", {"a": {}, "b": "steps"}, {"b": "steps"}),
    ("seeds", [0, "1", True, 2.0, 3], (0, 3)), ("seeds", "0", ()),
    ("curve_means", "x", {}), ("curve_means", {"early": 3}, {}), ("of the future", 1, None),
    ("baseline", "\ud800", "?"), ("settings", {"\udcff": "\udcff"}, {"?": "?"}),
])
def test_only_what_is_of_another_form_is_dropped(name: str, value: object, kept: object) -> None:
    facts = {**json.loads(OLD_TAG), name: value}
    if name in Declared.model_fields:
        assert read_declared(json.dumps(facts)) == OLD.with_changes(**{"differs": {}, name: kept})
    else:
        assert read_declared(json.dumps(facts)) == OLD.with_changes(differs={})


@pytest.mark.parametrize(("name", "value", "message"), [
    ("margin", "a lot", "margin: an amount is a number above 0, or a percentage such as '5%', "),
    ("margin", {"fid": "0%"}, "margin: an amount is a number above 0, or a percentage such as "),
    ("curve_means", {"early": "{"}, "curve_means: EOF while parsing an object"),
    ("curve_means", {"early": "[" * 100_000}, "curve_means: recursion limit exceeded"),
    ("curve_means", {"early": '{"of": "x", "steps": [1, 2]}'}, "curve_means.early.of: must be "),
    ("curve_means", {"early": {"of": "train/d_loss", "steps": [2, 1]}}, "curve_means.early: steps"),
])
def test_what_would_change_the_verdicts_is_never_dropped(name: str, value: object, message: str,
                                                         ) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}") as refused:
        read_declared(json.dumps({**json.loads(OLD_TAG), name: value}))
    assert "\n" not in str(refused.value)


def test_no_field_is_changed_under_a_wrong_name_or_to_another_form() -> None:
    assert OLD.with_changes(baseline="wide").baseline == "wide"
    assert OLD.baseline == "plain"
    for changes in ({"basline": "wide"}, {"baseline": 3}, {"variants": ["wide"]}):
        with pytest.raises(ValueError, match="1 validation error"):
            OLD.with_changes(**changes)


def test_a_file_name_that_is_no_utf8_can_be_kept(tmp_path: Path) -> None:
    command = "gan-bench run " + os.fsdecode(b"x\xff.yaml")
    write_about(tmp_path, LONG.with_changes(command=command))
    assert read_about(tmp_path).command == "gan-bench run x?.yaml"
    assert comparison_tag(LONG.with_changes(command=command)).encode()


def test_a_file_declares_what_differs_from_its_baseline(tmp_path: Path) -> None:
    declared = load_experiment(write_experiment(tmp_path, DIGITS), tmp_path,
                               ["baseline=saturating"]).declared
    assert declared.variants == ("plain", "saturating")
    assert declared.seeds == (0, 1)
    assert declared.differs == {"plain": "loss non_saturating for saturating", "saturating": ""}


@pytest.mark.parametrize("facts", [
    {"question": "变" * 820, "variants": ("plain", "b")},
    {"variants": NAMES, "settings": dict.fromkeys(NAMES, "a" * 12)},
    {"question": '"\n' * 6000, "variants": ("v" * 60,) * 90},
    {"question": "变" * 9000}, {"question": "\ud800" * 6000}, {"command": "c" * 6000},
])
def test_a_tag_that_is_too_long_keeps_what_the_verdicts_need(facts: dict[str, object]) -> None:
    declared = LONG.with_changes(**facts)
    text = comparison_tag(declared)
    assert len(text) <= TAG_LIMIT
    assert text.encode()
    held = read_declared(text)
    for key in ("baseline", "paired", "margin", "curve_means"):
        assert getattr(held, key) == getattr(declared, key)
    if len(declared.question) > TAG_LIMIT:
        assert held.question.endswith("…")
        assert len(text) > TAG_LIMIT - 10
        assert not held.variants
    else:
        assert held.question == declared.question


def test_variants_go_after_the_settings_and_not_before() -> None:
    many = LONG.with_changes(variants=tuple(f"{name}{'v' * 25}" for name in NAMES),
                             settings=dict.fromkeys(NAMES, "a" * 12))
    held = read_declared(comparison_tag(many))
    assert held == many.with_changes(settings={})
    few = LONG.with_changes(variants=("a",), settings={"a": "b"}, seeds=(0, 2**63 - 1))
    long = few.with_changes(seeds=tuple(range(2000)))
    assert read_declared(comparison_tag(long)) == few.with_changes(seeds=())
    assert read_declared(comparison_tag(few)) == few


