"""Names of scores, and the statuses whose text stands in journals and MLflow."""

from __future__ import annotations

import json

import pytest

from gan_bench.journal.names import last_scores, split_score
from gan_bench.journal.schema import Kind, Status


@pytest.mark.parametrize(("name", "split"), [
    ("eval/fd", ("eval/", "fd")), ("final/fd", ("final/", "fd")), ("eval/a/b", ("eval/", "a/b")),
    ("again/1/fd", None), ("class/fd/0", None), ("class/final/fd/0", None), ("train/d_loss", None),
    ("evaluate-1/fd", None), ("fd", None)])
def test_a_score_is_split_off_its_phase(name: str, split: tuple[str, str] | None) -> None:
    assert split_score(name) == split


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
