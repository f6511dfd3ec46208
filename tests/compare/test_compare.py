"""The table at the end of a run."""

from __future__ import annotations

import io
import math
import warnings
from dataclasses import replace

import pytest
from rich.console import Console

from gan_bench.compare.ended import RunResult
from gan_bench.compare.rows import Row, final_scores, ranked, summarise
from gan_bench.compare.stats.summary import Estimate, summarise_scores
from gan_bench.config.declared import Amount, Declared
from gan_bench.journal.schema import Status
from gan_bench.report.exports import RUNS, _comparison, format_interval, latex
from gan_bench.report.terminal import summary_table, table_notes

BASE = Declared(baseline="base")


def ended(variant: str, state: str, score: float | None, seed: int = 0,
          metric: str = "fd_classifier") -> RunResult:
    scores = {} if score is None else {metric: score}
    protocols = {name: {"extractor": "classifier"} for name in scores}
    return RunResult(variant, seed, state, scores, protocols)  # type: ignore[arg-type]


def printed(runs: list[RunResult], width: int = 140) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(summary_table(summarise(runs, BASE), "base"))
    return [line.rstrip() for line in out.getvalue().splitlines()]


def a_study() -> list[RunResult]:
    runs = [ended("base", "FINISHED", 10 + i / 9, i) for i in range(6)]
    runs += [ended("good", "FINISHED", 1 + i / 9, i) for i in range(6)]
    runs += [ended("part", "FINISHED", 1 + i / 9, i) for i in range(3)]
    runs += [ended("part", "DIVERGED", 0.5, i) for i in range(3, 6)]
    runs += [ended("lone[x]", "FINISHED", 5.0, 0)]
    return [*runs, ended("lone[x]", "FAILED", None, 1)]


def test_a_diverged_run_is_a_result_and_a_failed_one_is_none() -> None:
    runs = a_study()
    scores = final_scores(runs, "fd_classifier")
    assert [*scores["part"]] == [0, 1, 2, 3, 4, 5]
    assert all(math.isnan(scores["part"][i]) for i in (3, 4, 5))  # its last score is not final
    assert scores["lone[x]"] == {0: 5.0}
    rows = {row.variant: row for row in summarise(runs, BASE)}
    assert (rows["part"].summary.n, rows["part"].summary.diverged, rows["part"].absent) == (6, 3, 0)
    assert (rows["lone[x]"].summary.n, rows["lone[x]"].absent) == (1, 1)
    assert (rows["base"].comparison, rows["base"].verdict) == (None, None)
    verdicts = {name: row.verdict for name, row in rows.items()}
    assert verdicts == {"base": None, "good": "better", "part": "inconclusive",
                        "lone[x]": "inconclusive"}


def test_the_table_ranks_counts_what_is_lost_and_says_no_more_than_it_knows() -> None:
    lines = printed(a_study())
    order = [line.split()[0] if "fd_c" not in line else line.split()[2] for line in lines[1:5]]
    assert order == ["part", "good", "lone[x]", "base"]
    assert "3 of 6" in lines[1]
    assert "5 (one seed: no interval)" in lines[3]
    assert "1 of 2" in lines[3]
    below = " ".join(lines[5:])
    assert "by Holm over 2 comparisons" in below
    assert "reaches no p below 0.0022" in below  # 2 of 924
    assert "part: 3 of 6 runs diverged" in below
    assert "lone[x]: 1 run has no result" in below


def test_rows_are_ranked_by_their_mean() -> None:
    scores = {"base": 20.0, "good": 9.0, "none": math.nan, "bad": 40.0}
    rows = [Row(name, "fd", summarise_scores({0: value, 1: value + 1}, "lower"), None, 0)
            for name, value in scores.items()]
    assert [row.variant for row in ranked(rows, "lower")][:3] == ["good", "base", "bad"]
    assert [row.variant for row in ranked(rows, "higher")][:3] == ["bad", "base", "good"]
    assert [row.variant for row in ranked(rows, None)][:2] == ["base", "good"]
    for better in ("lower", "higher", None):
        assert ranked(rows, better)[-1].variant == "none"


def test_numbers_are_whole_where_a_terminal_is_narrow() -> None:
    text = "\n".join(printed(a_study(), width=80))
    assert "…" not in text
    for whole in ("not decisive", "better", "3 of 6", "1.111 [0.835, 1.387]", "−9.00  ",
                  "(one seed:"):
        assert whole in text


def test_an_interval_beyond_the_bounds_is_marked() -> None:
    runs = [ended("base", "FINISHED", x, i, "precision_classifier")
            for i, x in enumerate((0.99, 1.0, 0.95))]
    assert "*" in printed(runs)[1]
    assert "beyond the bounds of the score" in " ".join(table_notes(summarise(runs, BASE), "base"))


def test_the_experiments_margin_and_pairing_count() -> None:
    runs = [ended("base", "FINISHED", x, i) for i, x in enumerate((10.0, 11.0, 12.0) * 20)]
    runs += [ended("near", "FINISHED", x, i) for i, x in enumerate((10.1, 11.0, 12.1) * 20)]
    declared = Declared(baseline="base", paired=True, margin=Amount(0.1, relative=True))
    assert [row.verdict for row in summarise(runs, BASE)] == [None, "inconclusive"]
    paired = summarise(runs, declared)[1]
    assert paired.verdict == "equivalent"
    assert paired.comparison is not None
    assert paired.comparison.paired


def test_an_interval_of_a_variant_that_collapsed_in_part_is_marked() -> None:
    def runs(*collapsed: bool) -> list[RunResult]:
        scores = (20.0, 21.0, 19.0)
        return [RunResult("base", seed, "FINISHED", {"fd_random": score, "modes_covered": modes},
                          {"modes_covered": {"real": 8}})
                for seed, (score, modes) in enumerate(zip(
                    scores, (1.0 if lost else 8.0 for lost in collapsed), strict=True))]

    def shown(rows: list[Row]) -> str:
        return next(format_interval(row.summary.mean) for row in rows if row.metric == "fd_random")

    some, none = summarise(runs(False, True, False), BASE), summarise(runs(*[False] * 3), BASE)
    assert shown(some).endswith("]†")
    assert shown(none).endswith("]")
    assert sum("† The scores are skewed, or some runs collapsed" in line
               for line in table_notes(some, "base")) == 1
    assert not any("†" in line for line in table_notes(none, "base"))
    assert latex(shown(some)).endswith(r"]\dag{}")


def test_the_asterisk_does_not_hang_on_the_wording_of_a_note(
        monkeypatch: pytest.MonkeyPatch) -> None:
    wide = Estimate(0.99, 0.9, 1.1, exceeded=(0, 1))
    fits = Estimate(0.5, 0.4, 0.6)
    monkeypatch.setattr(Estimate, "note", "reworded")
    assert format_interval(wide).endswith("]*")
    assert format_interval(fits).endswith("]")
    monkeypatch.setattr(Estimate, "note", "beyond; reworded")
    assert format_interval(fits) == "0.500 [0.400, 0.600]"


RAW, OLD = {"generator": "raw"}, {"generator": "ema"}
COPIED, ESTIMATED = ({"generator": "ema", "ema_statistics": how} for how in ("copied", "estimated"))


@pytest.mark.parametrize(("of_base", "of_other", "refused"), [
    ((RAW, RAW), (ESTIMATED, ESTIMATED), ("", "")),
    ((RAW, RAW), (RAW, ESTIMATED), ("", "not measured alike: generator ema against raw, "
                                        "ema_statistics estimated against nothing")),
    ((RAW, RAW), (OLD, COPIED), ("", "")),
    ((COPIED, ESTIMATED), (RAW, RAW),
     ("not measured alike: ema_statistics estimated against copied",) * 2),
    ((RAW, RAW), (OLD, ESTIMATED),
     ("", "not measured alike: ema_statistics estimated against copied")),
])
def test_a_mean_is_of_one_kind_of_generator(
        of_base: tuple[dict[str, str], ...], of_other: tuple[dict[str, str], ...],
        refused: tuple[str, str]) -> None:
    """Variants may differ in it, as they declare; the runs of a variant may not."""
    runs = [RunResult(variant, seed, Status.FINISHED, {"fd_random": 9.0 + seed},
                      {"fd_random": protocol})
            for variant, protocols in (("base", of_base), ("other", of_other))
            for seed, protocol in enumerate(protocols)]
    rows = summarise(runs, BASE)
    assert tuple(row.refused for row in rows) == refused
    assert [row.summary.n for row in rows] == [0 if reason else 2 for reason in refused]


STEADY, APART = (1.0, 1.2, 1.1, 1.3, 1.15), (2.0, 2.2, 2.3, 2.1, 2.25)
LOST = (2.0, 2.2, 2.3, 2.1, math.nan)


@pytest.mark.parametrize(("of_other", "paired", "test"), [
    (APART, False, "by a Welch t-test;"),
    (APART, True, "by a paired t-test;"),
    (LOST, False, "by a permutation test of ranks where a run diverged;"),
    (LOST, True, "by a permutation test of signed ranks where a run diverged;"),
    (APART[:4], False, "by the larger p of a Welch t-test and a permutation test where the "
                       "numbers of runs differ;"),
    (APART[:4], True, "by a paired t-test;"),
    (tuple(score + 1 for score in STEADY), True,
     "by a permutation test of means where scores have no spread;"),
])
def test_the_note_on_p_names_the_test_that_decides(of_other: tuple[float, ...], paired: bool,
                                                   test: str) -> None:
    notes = table_notes(summarise(two(STEADY, of_other), BASE.with_changes(paired=paired)), "base")
    (on_p,) = [line for line in notes if line.startswith("p: ")]
    assert test in on_p
    assert ("t-test" in on_p) == ("t-test" in test)


def test_the_note_on_p_names_each_test_once() -> None:
    runs = two(STEADY, APART) + [replace(run, variant="lost") for run in two((), LOST)]
    (on_p,) = [line for line in table_notes(summarise(runs, BASE), "base")
               if line.startswith("p: ")]
    assert "by a Welch t-test, or a permutation test of ranks where a run diverged, by Holm" in on_p


def test_runs_without_a_partner_are_said_wherever_their_comparison_stands() -> None:
    paired = BASE.with_changes(paired=True)
    rows = summarise(two(STEADY, APART[:4]), paired)
    words = "other against base: over 4 pairs of runs with the same seed; 1 run lacks a partner"
    assert [line for line in table_notes(rows, "base") if "pair" in line.partition(":")[2]][1:] == [
        f"{words}, and the difference and its p leave it out"]
    comparison = rows[1].comparison
    assert comparison is not None
    record = _comparison(comparison)
    assert (record["pairs"], record["without_partner"]) == (4, 1)
    assert [RUNS.text(None, row) for row in rows] == ["5", "4 (4 pairs)"]  # type: ignore[arg-type]
    for whole, declared in ((APART, paired), (APART[:4], BASE)):
        rows = summarise(two(STEADY, whole), declared)
        assert not any("partner" in line for line in table_notes(rows, "base"))
        assert "(" not in RUNS.text(None, rows[1])  # type: ignore[arg-type]


def two(of_base: tuple[float, ...], of_other: tuple[float, ...]) -> list[RunResult]:
    return [ended(variant, "DIVERGED" if math.isnan(score) else "FINISHED", score, seed)
            for variant, scores in (("base", of_base), ("other", of_other))
            for seed, score in enumerate(scores)]


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("scores", [
    (1.0e308, -1.0e308, 1.5e308), (1.5e308, 1.6e308, 1.7e308), (1e120, 2e120, 4e120),
    (1e61, 2e61, 4e61)])
def test_scores_whose_squares_overflow_count_as_diverged(scores: tuple[float, ...], paired: bool,
                                                         ) -> None:
    declared = BASE.with_changes(paired=paired, margin=Amount(0.05, relative=True))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = summarise(two((1.0, 2.0, 3.0), scores), declared)
        largest = summarise(two((1.0, 2.0, 3.0), (1e60, -9e59, 5e59)), declared)
    assert [(row.summary.n, row.summary.diverged) for row in rows] == [(3, 0), (3, 3)]
    assert rows[1].verdict == "inconclusive"
    assert [row.summary.diverged for row in largest] == [0, 0]
    assert largest[1].summary.mean.value == pytest.approx(2e59)
    assert math.isfinite(largest[1].summary.mean.high)
