"""Results in a notebook."""

from __future__ import annotations

import warnings
from dataclasses import fields
from pathlib import Path

import pytest
from helpers.scored import results_of

import gan_bench
from gan_bench.errors import UserError
from gan_bench.report.study import Study

MADE = results_of(
    {"plain": {"fd_classifier": [20.0, 21.0, 22.0], "classifier_score": [5.0, 5.1, 5.2]},
     "sat": {"fd_classifier": [10.0, 11.0, 12.0], "classifier_score": [4.0, 4.1, 4.2]}},
    question="Which <loss>?", labels={"sat": "Saturating (ours)", "fd_classifier": "FD"})
STUDY = Study(**{field.name: getattr(MADE, field.name) for field in fields(MADE)})


def test_the_table_is_the_answer() -> None:
    table = STUDY.table()
    assert list(table.index) == ["Saturating (ours)", "plain"]  # the best by the first score
    assert list(table.columns) == ["FD", "classifier_score"]
    assert table.loc["Saturating (ours)"].tolist() == [
        "▲ 11.00 [8.52, 13.48]", "▼ 4.100 [3.852, 4.348]"]
    numbers = STUDY.summary().set_index(["score", "variant"])["mean"]
    assert numbers["fd_classifier", "sat"] == 11.0


def test_a_notebook_shows_the_answer_and_the_figures() -> None:
    html = STUDY._repr_html_()
    assert "Which &lt;loss&gt;?" in html
    assert "The scores disagree about Saturating (ours)" in html
    assert 'aria-label="better">▲' in html
    assert "<script" not in html
    for kind in ("seeds", "curves", "pairs"):
        figure = STUDY.plot("fd_classifier", kind)  # type: ignore[arg-type]
        assert figure._repr_png_()[:4] == b"\x89PNG"  # type: ignore[attr-defined]
    assert STUDY.plot().axes[0].get_xlabel() == "FD (lower is better)"


def test_wrong_names_are_one_line() -> None:
    with pytest.raises(UserError, match="no finished run of study has a score 'fd'"):
        STUDY.plot("fd")
    with pytest.raises(UserError, match="no figure of kind 'curve'; did you mean 'curves'"):
        STUDY.plot(kind="curve")  # type: ignore[arg-type]
    empty = results_of({"plain": {"fd_classifier": [1.0]}})
    running = Study("study", empty.declared, empty.runs.assign(status="RUNNING"), empty.history)
    assert "has no finished run yet" in running._repr_html_()


def test_load_results_gives_it(studies: Path) -> None:
    results = gan_bench.load_results("losses", root=studies)
    assert isinstance(results, gan_bench.Results)
    assert set(results.table().index) == {"plain", "sat"}
    assert results.only(["sat"]).table().index.tolist() == ["sat"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mosaic = results.samples()
    assert len([axes for axes in mosaic.axes if axes.images]) == 6
    assert callable(gan_bench.figures.save)
