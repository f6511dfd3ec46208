"""How many seeds it takes, against statsmodels and simulation; and the command that says it."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from helpers.runs import DIGITS, write_experiment
from helpers.studies import here
from scipy import stats
from statsmodels.stats.power import TTestIndPower, TTestPower

from gan_bench.cli.planning.power import needs_table, power_table
from gan_bench.compare.ended import RunResult
from gan_bench.compare.seeds import needs
from gan_bench.compare.stats.power import detectable, power_of, rejection_rate, seeds_needed
from gan_bench.config.declared import Amount, CurveMean, Declared
from gan_bench.config.experiment import load_experiment
from gan_bench.errors import UserError
from gan_bench.journal.status import progress_of


@pytest.mark.parametrize("seeds", [2, 3, 5, 10, 100])
@pytest.mark.parametrize("effect", [0.1, 1.0, 2.0, 3.1])
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_power_is_statsmodels_power(seeds: int, effect: float, alpha: float) -> None:
    paired = TTestPower().power(effect, seeds, alpha)
    if not math.isnan(paired):  # as it is far out, where theirs loses its way
        assert power_of(seeds, effect, alpha, paired=True) == pytest.approx(paired)
    pooled = TTestIndPower().power(effect, seeds, alpha)
    edge = stats.t.ppf(1 - alpha / 2, 2 * seeds - 2)
    if not math.isnan(pooled):
        rate = rejection_rate(edge, 2 * seeds - 2, effect * math.sqrt(seeds / 2))
        assert rate == pytest.approx(pooled)
        assert power_of(seeds, effect, alpha) <= pooled + 1e-9
        if seeds == 100:
            assert power_of(seeds, effect, alpha) == pytest.approx(pooled, abs=1e-3)


@pytest.mark.parametrize("seeds", [2, 3, 10, 50])
@pytest.mark.parametrize("paired", [True, False])
def test_what_is_detectable_is_found_so_often(seeds: int, paired: bool) -> None:
    for alpha in (0.05, 0.01):
        effect = detectable(seeds, alpha, paired=paired)
        assert power_of(seeds, effect, alpha, paired) == pytest.approx(0.8)
        assert detectable(seeds, alpha, 0.9, paired) > effect


@pytest.mark.parametrize(("seeds", "effect"), [(2, 5.0), (3, 3.5), (5, 2.1), (10, 1.33)])
def test_power_is_how_often_welchs_test_finds_it(seeds: int, effect: float) -> None:
    rng = np.random.default_rng(seeds)
    a, b = rng.normal(effect, 1, (40_000, seeds)), rng.normal(0, 1, (40_000, seeds))
    share = (stats.ttest_ind(a, b, axis=1, equal_var=False).pvalue <= 0.05).mean()
    assert power_of(seeds, effect) == pytest.approx(share, abs=0.01)
    assert power_of(seeds, 0) <= 0.055


def test_seeds_needed_are_the_least_that_do() -> None:
    for difference, sd, paired in ((1.0, 1.0, False), (0.2, 1.0, False), (3.0, 1.0, True)):
        n = seeds_needed(difference, sd, paired=paired)
        assert n is not None
        assert power_of(n, difference / sd, paired=paired) >= 0.8
        assert power_of(n - 1, difference / sd, paired=paired) < 0.8
    assert seeds_needed(1.0, 1.0) == 17  # as statsmodels' 16.7, rounded up
    assert seeds_needed(-1.0, 1.0) == 17
    assert (seeds_needed(1.0, 0.0), seeds_needed(1e-9, 1.0)) == (2, None)


def study(tmp_path: Path, scores: dict[str, list[float]], paired: bool = False,
          ) -> tuple[Declared, list[RunResult]]:
    spec = load_experiment(write_experiment(tmp_path), tmp_path, [
        "seeds=[0,1,2,3]", f"paired={str(paired).lower()}"])
    runs = [RunResult(run.variant, run.seed, "FINISHED" if math.isfinite(score) else "DIVERGED",
                  {"fd_classifier": score})
            for run in spec.runs for score in [scores[run.variant][run.seed]]]
    return spec.declared, runs


def test_sd_is_pooled_over_both_and_a_percentage_is_of_the_baselines_mean(tmp_path: Path) -> None:
    scores = {"plain": [9.0, 10.0, 11.0, 10.0], "saturating": [20.0, 26.0, 23.0, 23.0]}
    spec, runs = study(tmp_path, scores)
    [got] = needs(spec, runs, Amount(0.2, relative=True))
    sd = math.sqrt((np.var(scores["plain"], ddof=1) + np.var(scores["saturating"], ddof=1)) / 2)
    assert (got.difference, got.sd) == pytest.approx((2, sd))
    assert got.seeds == seeds_needed(2, sd)
    assert got.low is not None
    assert got.high is not None
    assert got.low < got.seeds < got.high
    assert got.high == seeds_needed(2, sd * math.sqrt(6 / stats.chi2.ppf(0.1, 6)))
    spec, runs = study(tmp_path, scores, paired=True)
    [by_seed] = needs(spec, runs, Amount(2.0), "fd_classifier")
    assert by_seed.sd == pytest.approx(np.std(np.subtract(*scores.values()), ddof=1))
    assert by_seed.seeds == seeds_needed(2, by_seed.sd, paired=True)


@pytest.mark.parametrize(("plain", "note"), [
    ([9.0, 10.0, 11.0, math.nan], "1 diverged runs are left out"),
    ([math.nan] * 4, "unknown: it has no finite score"), ([-1.0, 1.0, 1.0, -1.0], "is 0")])
def test_what_is_left_out_or_not_known_is_said(tmp_path: Path, plain: list[float], note: str,
                                               ) -> None:
    spec, runs = study(tmp_path, {"plain": plain, "saturating": [20.0, 26.0, 23.0, 23.0]})
    [got] = needs(spec, runs, Amount(0.2, relative=True))
    assert note in got.note
    assert (got.seeds is None) == ("left out" not in got.note or "known" in got.note)


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("absent", ["plain", "saturating"])
def test_a_variant_without_a_run_so_far_is_said(tmp_path: Path, absent: str, paired: bool) -> None:
    """As where a study is under way and MLflow has only the runs that have started."""
    declared, runs = study(tmp_path, {"plain": [9.0, 10.0, 11.0, 10.0],
                                      "saturating": [20.0, 26.0, 23.0, 23.0]}, paired)
    started = [run for run in runs if run.variant != absent]
    [got] = needs(declared, started, Amount(0.2, relative=True))
    known = math.isfinite(got.sd)
    assert (got.variant, got.against) == ("saturating", "plain")
    if absent == "plain":
        assert "unknown: it has no finite score" in got.note
        assert got.seeds is None
        assert math.isnan(got.difference)
    else:
        assert got.difference == pytest.approx(2)
        assert (got.seeds is not None) == known
    assert known == (not paired)  # without a pair there is no scatter of pairs
    declared = declared.with_changes(variants=("plain", "saturating", "later"))
    first, later = needs(declared, runs, Amount(0.2, relative=True))
    assert (first.variant, later.variant) == ("saturating", "later")
    assert first.seeds is not None


def test_scores_that_do_not_scatter_tell_nothing(tmp_path: Path) -> None:
    spec, runs = study(tmp_path, {"plain": [8.0] * 4, "saturating": [7.0] * 4})
    [got] = needs(spec, runs, Amount(0.2, relative=True))
    assert got.seeds is None
    assert "all runs so far have the same score" in got.note


@pytest.mark.parametrize(("difference", "score", "message"), [
    ("5%", None, "no finished run shows the scatter"), ("x", None, "--difference: an amount is"),
    ("0", None, "above 0"), ("2", None, "belongs to one score; name it with --metric")])
def test_bad_input_is_one_line(tmp_path: Path, difference: str, score: str | None, message: str,
                               ) -> None:
    spec = load_experiment(write_experiment(tmp_path), tmp_path, [])
    with pytest.raises(UserError, match=message):
        power_table(spec, tmp_path, difference, score)


def test_an_unknown_score_is_named_with_its_neighbours(tmp_path: Path) -> None:
    spec, runs = study(tmp_path, {"plain": [1.0] * 4, "saturating": [2.0] * 4})
    with pytest.raises(UserError, match="no run has the score 'fd_clasifier'; did you mean"):
        needs(spec, runs, Amount(0.2, relative=True), "fd_clasifier")


def test_the_command_on_real_runs(tmp_path: Path) -> None:
    """From no run at all to the seeds that it takes, by the command line alone."""
    text = DIGITS.replace("[d_accuracy, nearest_train_mse]", "[fd_classifier, d_accuracy]")
    file = write_experiment(tmp_path, text.replace("[0, 1]", "[0, 1, 2]"))
    root = tmp_path / "root"
    ask = ("power", file, "--root", root, "--difference")
    early = here(*ask, "5%")
    assert (early.returncode, early.stdout) == (2, "")
    assert early.stderr == ("error: no finished run shows the scatter of scores; "
                            f"train a few seeds first: gan-bench run {file} --root {root}\n")
    assert not (root / "runs" / "tiny").exists()
    done = here("run", file, "--root", root)
    assert done.returncode == 0, done.stderr
    scores: dict[str, list[float]] = {}
    for run in load_experiment(file, tmp_path, []).runs:
        scores.setdefault(run.variant, []).append(progress_of(run, root).scores["fd_classifier"])
    sd = math.sqrt(np.mean([np.var(own, ddof=1) for own in scores.values()]))
    before = sorted(root.rglob("*"))
    for difference, gap in (("20%", 0.2 * np.mean(scores["plain"])), ("3", 3.0)):
        asked = here(*ask, difference, "--metric", "fd_classifier")
        assert (asked.returncode, asked.stderr) == (0, "")
        [line] = [line for line in asked.stdout.splitlines() if line.startswith("fd_classifier")]
        assert line.split()[1:5] == [
            "saturating", f"{gap:.4g}", f"{sd:.4g}", f"{seeds_needed(gap, sd):,}"]
    assert "d_accuracy" not in here(*ask, "5%").stdout
    for wrong, message in ((("much",), "--difference: an amount is a number above 0"),
                           (("3",), "a difference of 3 belongs to one score; name it with"),
                           (("5%", "--metric", "fd_clasifier"), "did you mean 'fd_classifier'?")):
        bad = here(*ask, *wrong)
        assert (bad.returncode, bad.stdout) == (2, "")
        assert message in bad.stderr
        assert len(bad.stderr.splitlines()) == 1
    assert sorted(root.rglob("*")) == before


def test_a_mean_of_a_curve_is_said_to_be_left_out(tmp_path: Path) -> None:
    declared, runs = study(tmp_path, {"plain": [9.0, 10.0, 11.0, 10.0],
                                      "saturating": [20.0, 26.0, 23.0, 23.0]})
    mean = CurveMean(of="train/g_loss", steps=[1, 2])
    five = Amount(0.05, True)
    rows = needs(declared, runs, five)
    told = needs_table(rows, declared.with_changes(curve_means={"early": mean, "late": mean}), five)
    assert str(told.caption).splitlines()[1:] == [
        "the means of curves (early, late) are left out: only a report has them"]
    assert "\n" not in str(needs_table(rows, declared, five).caption)
