"""Variants under their labels."""

from __future__ import annotations

from helpers.scored import results_of

from gan_bench.compare.combine import combine
from gan_bench.compare.labels import labelled, labelled_runs
from gan_bench.compare.results import Results
from gan_bench.compare.rows import summarise

SCORES = {"plain": {"fd_random": [1.0, 2.0]}, "sat": {"fd_random": [3.0, 4.0]}}


def study(name: str = "study", **labels: str) -> Results:
    return results_of(SCORES, name, labels=labels, sweeps={"loss": ("sat",)})


def test_variants_have_their_labels_and_scores_their_names() -> None:
    results = study(sat="Saturating (ours)", plain="Base", fd_random="FD")
    shown = labelled(results)
    assert shown.variants == ["Base", "Saturating (ours)"]
    assert shown.baseline == "Base"
    assert shown.declared.sweep_of("Saturating (ours)") == "loss"
    assert [run.variant for run in shown.ended()] == ["Base"] * 2 + ["Saturating (ours)"] * 2
    assert shown.scores == ["fd_random"]
    assert shown.declared.label("fd_random") == "FD"
    assert shown.declared.name_of("Saturating (ours)") == "sat"
    assert results.variants == ["plain", "sat"]


def test_labels_that_leave_two_variants_alike_are_not_used() -> None:
    shown = labelled(study(sat="Ours", plain="Ours", fd_random="FD"))
    assert shown.variants == ["plain", "sat"]
    assert shown.declared.labels == {"fd_random": "FD"}
    assert shown.declared.name_of("sat") == "sat"


def test_runs_and_what_is_declared_of_them_change_together() -> None:
    results = study(sat="Ours")
    runs, declared = labelled_runs(results.ended(), results.declared)
    rows = summarise(runs, declared)
    assert [row.variant for row in rows] == ["plain", "Ours"]
    assert rows[1].comparison is not None
    assert rows[1].comparison.against == "plain"


def test_experiments_in_one_report_keep_their_labels() -> None:
    (both,) = combine([study("one", sat="First"), study("two", sat="Second")])
    assert both.variants == ["one/plain", "one/sat", "two/plain", "two/sat"]
    assert labelled(both).variants == ["one/plain", "First", "two/plain", "Second"]
    assert both.declared.sweeps == {}
