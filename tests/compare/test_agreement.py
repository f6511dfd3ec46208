"""Where scores disagree, a sentence says so."""

from __future__ import annotations

from helpers.scored import results_of

from gan_bench.compare.agreement import disagreements
from gan_bench.compare.findings import findings

LOW, MIDDLE, HIGH = [1.0, 1.1, 1.2, 1.3, 1.4], [5.0, 5.1, 5.2, 5.3, 5.4], [9.0, 9.1, 9.2, 9.3, 9.4]


def test_a_variant_that_two_scores_judge_differently_is_named() -> None:
    results = results_of({
        "plain": {"fd_classifier": MIDDLE, "classifier_score": MIDDLE, "kid": MIDDLE},
        "split": {"fd_classifier": LOW, "classifier_score": LOW, "kid": LOW},
        "good": {"fd_classifier": LOW, "classifier_score": HIGH, "kid": LOW},
        "unsure": {"fd_classifier": MIDDLE, "classifier_score": LOW, "kid": MIDDLE}},
        labels={"split": "Split (ours)", "kid": "KID"})
    from gan_bench.compare.labels import labelled

    assert disagreements(findings(labelled(results))) == [
        "The scores disagree about Split (ours): against plain it is better by fd_classifier and "
        "KID, and worse by classifier_score."]


def test_of_several_experiments_the_sentence_names_its_own() -> None:
    split = {"plain": {"fd_classifier": MIDDLE, "classifier_score": MIDDLE},
             "other": {"fd_classifier": LOW, "classifier_score": LOW}}
    both = {"plain": split["plain"], "other": {"fd_classifier": LOW, "classifier_score": HIGH}}
    found = [*findings(results_of(split, "first")), *findings(results_of(both, "second"))]
    assert disagreements(found) == [
        "The scores of first disagree about other: against plain it is better by fd_classifier, "
        "and worse by classifier_score."]


def test_scores_that_agree_give_no_sentence() -> None:
    results = results_of({"plain": {"fd_classifier": MIDDLE, "classifier_score": MIDDLE},
                          "good": {"fd_classifier": LOW, "classifier_score": HIGH}})
    assert [row.verdict for finding in findings(results) for row in finding.rows] == [
        "better", None, "better", None]
    assert disagreements(findings(results)) == []
