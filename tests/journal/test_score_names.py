"""Names of scores, and the statuses whose text stands in journals and MLflow."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gan_bench.config.declared import FinalMeasurement
from gan_bench.config.score_definition import definition_digest
from gan_bench.journal.schema import Kind, Status
from gan_bench.journal.scores.score_names import (
    DURING,
    FINAL,
    bare_name,
    compared_scores,
    is_of_sets,
    last_scores,
    latent_set_name,
    names_at,
    protocol_digest,
    remeasured_digest,
    remeasured_name,
    score_name,
    split_latent_set,
    split_score,
)


@pytest.mark.parametrize(("name", "split"), [
    ("eval/fd", ("eval/", "fd")), ("final/fd", ("final/", "fd")), ("eval/a/b", ("eval/", "a/b")),
    ("again/1/fd", None), ("class/fd/0", None), ("class/final/fd/0", None), ("train/d_loss", None),
    ("evaluate-1/fd", None), ("fd", None)])
def test_a_score_is_split_off_its_phase(name: str, split: tuple[str, str] | None) -> None:
    assert split_score(name) == split


@pytest.mark.parametrize("phase", [DURING, FINAL])
@pytest.mark.parametrize("name", ["fd", "a/b", "eval/x", "again/1/fd"])
def test_the_name_of_a_score_splits_into_its_parts(phase: str, name: str) -> None:
    assert split_score(score_name(phase, name)) == (phase, name)
    assert score_name(phase, name).endswith(name)


def test_the_score_of_a_class_is_not_split() -> None:
    assert score_name(DURING, "class/fd/3") == "class/fd/3"
    assert score_name(FINAL, "class/fd/3") == "class/final/fd/3"
    assert split_score("class/fd/3") is split_score("class/final/fd/3") is None


@pytest.mark.parametrize("name", ["fd", "a/b", "again/1/fd"])
def test_the_name_of_a_score_on_a_latent_set_splits_into_its_parts(name: str) -> None:
    assert split_latent_set(latent_set_name(12, name)) == ("", 12, name)
    assert latent_set_name(1, "fd") == latent_set_name(1, "fd", "final/fd") == "again/1/fd"
    anew = latent_set_name(12, name, f"eval-0123abcd/{name}")
    assert anew == f"again-0123abcd/12/{name}"
    assert split_latent_set(anew) == ("0123abcd", 12, name)


@pytest.mark.parametrize("name", ["eval/fd", "again/fd", "again/x/fd", "again1/fd", "fd", ""])
def test_other_names_are_of_no_latent_set(name: str) -> None:
    assert split_latent_set(name) is None


def test_the_last_scores_are_those_of_the_final_measurement_alone() -> None:
    during = {"train/d_loss": 1.0, "eval/fd": 2.0, "eval/kd": 3.0, "again/1/fd": 4.0}
    assert last_scores(during) == {"fd": ("eval/fd", 2.0), "kd": ("eval/kd", 3.0)}
    assert last_scores({**during, "final/fd": 5.0}) == {"fd": ("final/fd", 5.0)}
    assert last_scores({"train/d_loss": 1.0}) == {}


@pytest.mark.parametrize("text", [*Status, *Kind])
def test_an_enum_is_written_as_its_text(text: Status | Kind) -> None:
    assert json.dumps({text: text}) == f'{{"{text.value}": "{text.value}"}}'
    assert f"{text} {text!s}" == f"{text.value} {text.value}"


def test_only_what_finished_or_diverged_is_a_result() -> None:
    assert [s.value for s in Status if s.is_result] == ["FINISHED", "DIVERGED"]


def test_a_score_that_was_measured_anew_keeps_its_bare_name() -> None:
    digest = protocol_digest({"generated": 5})
    name = remeasured_name("final/fd", digest)
    assert name == f"final-{digest}/fd"
    assert len(digest) == 8
    assert remeasured_digest(name) == digest
    assert remeasured_digest("final/fd") == remeasured_digest("evaluate-01234567/fd") == ""
    assert bare_name(name) == bare_name("eval/fd") == bare_name("final/fd") == "fd"
    assert split_score(name) is None
    for other in ("again/1/fd", f"final-{digest}/class/fd/3", "class/fd/3", "train/d_loss",
                  "evaluate-01234567/fd", "final-0123456/fd"):
        assert bare_name(other) is None


LATEST = {"eval/fd": (8, 1.0), "eval/kd": (6, 2.0), "final/fd": (8, 3.0),
          "eval-01234567/fd": (8, 4.0), "evaluate-01234567/kd": (8, 5.0)}
GENERATED = {"eval/fd": 10, "eval/kd": 10, "final/fd": 20, "eval-01234567/fd": 30}


def protocol_of(full: str) -> dict[str, object]:
    return {"generated": GENERATED[full]} if full in GENERATED else {}


@pytest.mark.parametrize(("samples", "full"), [
    (10, "eval/fd"), (20, "final/fd"), (30, "eval-01234567/fd"), (40, None)])
def test_the_scores_that_are_compared_are_those_that_were_asked_for(
        samples: int, full: str | None) -> None:
    """Of the last step, and on as many samples."""
    final = FinalMeasurement(scores=("kd", "fd"), samples=samples)
    expected = {"fd": (full, LATEST[full][1])} if full else {}
    assert compared_scores(LATEST, 8, protocol_of, final) == expected


@pytest.mark.parametrize(("given", "full"), [
    ({}, "eval/fd"), ({"fd": "statistics aa"}, "final/fd"), ({"fd": "statistics bb"}, None),
    ({"kd": "statistics aa"}, "eval/fd")])
def test_scores_against_other_references_are_not_compared(given: dict[str, str], full: str | None,
                                                          ) -> None:
    protocols = {"eval/fd": {"generated": 10, "data": "digits 01"},
                 "final/fd": {"generated": 10, "data": "statistics aa"}}
    final = FinalMeasurement(scores=("fd",), samples=10, references=given)
    chosen = compared_scores(LATEST, 8, lambda name: protocols.get(name, {}), final)
    assert chosen == ({"fd": (full, LATEST[full][1])} if full else {})


@pytest.mark.parametrize(("asked", "full"), [
    ({}, "eval/fd"), ({"weights": {"kd": "w3"}}, "eval/fd"),
    ({"weights": {"fd": "w1"}}, "eval/fd"), ({"weights": {"fd": "w2"}}, "final/fd"),
    ({"weights": {"fd": "w3"}}, None),
    ({"definitions": {"fd": definition_digest({"cubes": 1})}}, "eval/fd"),
    ({"definitions": {"fd": definition_digest({"cubes": 2})}}, "final/fd"),
    ({"definitions": {"fd": definition_digest({"cubes": 3})}}, None)])
def test_scores_of_other_definitions_and_weights_are_not_compared(
        asked: dict[str, Any], full: str | None) -> None:
    """Where it is known which are asked for."""
    protocols = {"eval/fd": {"generated": 10, "weights": "w1", "cubes": 1},
                 "final/fd": {"generated": 10, "weights": "w2", "cubes": 2}}
    latest = {"eval/fd": (8, 1.0), "final/fd": (8, 3.0)}
    if full == "eval/fd":
        latest["eval-01234567/fd"] = 8, 4.0  # of which nothing is known
        protocols["final/fd"]["generated"] = 11
    final = FinalMeasurement(scores=("fd",), samples=10, **asked)
    chosen = compared_scores(latest, 8, lambda name: protocols.get(name, {}), final)
    assert chosen == ({"fd": (full, latest[full][1])} if full else {})


def test_each_score_of_a_step_has_its_name() -> None:
    measured = {"eval/fd": {2, 4}, "final/fd": {4}, "eval/kd": {2}, "eval-01234567/kd": {2}}
    asked = FinalMeasurement(scores=("kd", "fd", "never"), samples=10)
    for step, expected in ((2, {"kd": "eval-01234567/kd", "fd": "eval/fd"}),
                           (4, {"fd": "final/fd"}), (6, {})):
        assert names_at(step, measured, lambda full: {"generated": 10}, asked) == expected
    assert names_at(2, measured, lambda full: {"generated": 11}, asked) == {}


def test_what_was_measured_last_counts_where_nothing_is_known_to_be_asked_for() -> None:
    assert compared_scores(LATEST, 8, protocol_of, None) == {"fd": ("final/fd", 3.0)}


def test_further_sets_belong_to_what_training_measured_last() -> None:
    assert is_of_sets("final/fd", LATEST)
    assert not is_of_sets("eval/fd", LATEST)
    assert is_of_sets("eval/kd", LATEST)
    assert is_of_sets("eval-01234567/fd", LATEST)
