"""`gan-bench power` for an experiment with a search."""

from __future__ import annotations

import math
from pathlib import Path

from helpers.searches import SEARCH, write_search
from helpers.studies import here

from gan_bench.cli.planning.power_draws import needed_draws_table
from gan_bench.compare.search.draws_needed import (
    DrawNeed,
    DrawSpread,
    draws_needed,
    scores_of_draws,
)
from gan_bench.config.declared import Amount, Declared
from gan_bench.config.experiment import load_experiment
from gan_bench.journal.status import progress_of

NAN = math.nan


def test_the_table_says_what_each_budget_needs_and_where_scatter_comes_from() -> None:
    declared = Declared(baseline="plain", variants=("plain", "r1", "gp"))
    rows = [DrawNeed("r1", "plain", 1, 2.5, 4.25, 47),
            DrawNeed("r1", "plain", 5, 1.5, 9.0, 27, "for an interval"),
            DrawNeed("r1", "plain", 20, 1.5, 900.0, None),
            DrawNeed("r1", "plain", None, NAN, NAN, None, "no setting has two runs"),
            DrawNeed("gp", "plain", None, 2.5, 1.0, 1)]
    spreads = [DrawSpread("plain", 12.5, 2.0, 1), DrawSpread("r1", NAN, NAN, None),
               DrawSpread("gp", 0.0, 2.0, 1)]
    table = needed_draws_table(rows, spreads, declared, "fid", Amount(0.05, True))
    cells = [[*column.cells] for column in table.columns]
    assert cells[1] == ["best of 1", "best of 5", "best of 20", "confirmed", "confirmed"]
    assert cells[4] == ["47 draws", "27 draws", "over 100,000 draws", "", "1 seed"]
    assert cells[5] == ["", "for an interval", "", "no setting has two runs", ""]
    assert str(table.title) == (
        "Draws and seeds of each variant that find a difference of 5% in fid from plain with 80% "
        "power, two-sided at 5% over 2 comparisons and all budgets")
    assert str(table.caption).splitlines() == [
        "sd: of what one draw adds to the best of n; of a confirm seed",
        "plain: settings scatter by 12.5, training seeds of one by 2: most is gained with "
        "1 select seed a draw",
        "r1: settings and seeds cannot be told apart before two draws, and two runs of one, have a "
        "score",
        "gp: settings scatter by 0, training seeds of one by 2: seeds explain all of it"]
    narrow = needed_draws_table(rows, spreads, declared, "fid", Amount(0.05, True), 60)
    assert "sd" not in [column.header for column in narrow.columns]


def test_the_command_on_real_runs(tmp_path: Path) -> None:
    text = SEARCH.replace("draws: 3", "draws: 5").replace("seeds: [0]", "seeds: [0, 1]")
    file = write_search(tmp_path, text)
    root = tmp_path / "root"
    ask = ("power", file, "--root", root, "--difference")
    early = here(*ask, "5%")
    assert (early.returncode, early.stdout) == (2, "")
    assert early.stderr == ("error: no finished run shows the scatter of scores; "
                            f"train a few draws first: gan-bench run {file} --root {root}\n")
    done = here("run", file, "--root", root)
    assert done.returncode == 0, done.stderr
    before = sorted(root.rglob("*"))
    asked = here(*ask, "5%")
    assert (asked.returncode, asked.stderr) == (0, "")
    spec = load_experiment(file, tmp_path, [])
    runs = [progress_of(run, root) for run in spec.runs]
    scores = scores_of_draws(runs, spec.declared, "fd_random")
    assert [len(scores[name].select) for name in ("unpenalised", "r1")] == [4, 4]
    [one, *_] = draws_needed(scores, spec.declared, Amount(0.05, True), "lower")
    [line] = [line for line in asked.stdout.splitlines() if "best of 1" in line]
    assert line.split()[:7] == ["r1", "best", "of", "1", f"{one.difference:.4g}", f"{one.sd:.4g}",
                                f"{one.needed}"]
    assert "settings scatter by" in asked.stdout
    for wrong, message in ((("much",), "--difference: an amount is a number above 0"),
                           (("5%", "--metric", "fd_rando"), "did you mean 'fd_random'?"),
                           (("5%", "--metric", "d_accuracy_real"), "neither direction")):
        bad = here(*ask, *wrong)
        assert (bad.returncode, bad.stdout) == (2, "")
        assert message in bad.stderr
        assert len(bad.stderr.splitlines()) == 1
    assert here(*ask, "3").returncode == 0  # the one score that selects
    assert sorted(root.rglob("*")) == before
