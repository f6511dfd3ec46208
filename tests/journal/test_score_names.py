"""Names of scores, and the statuses whose text stands in journals and MLflow."""

from __future__ import annotations

import json

import pytest

from gan_bench.journal.schema import Kind, Status
from gan_bench.journal.score_names import (
    DURING,
    FINAL,
    last_scores,
    latent_set_name,
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
    assert split_latent_set(latent_set_name(12, name)) == (12, name)
    assert latent_set_name(1, "fd") == "again/1/fd"


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
