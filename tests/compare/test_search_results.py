"""A search read back from MLflow: draws, stages, the choice, and what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from helpers.searches import SEARCH, load_search
from helpers.studies import copy_of, edited, here

from gan_bench.compare.findings import findings
from gan_bench.compare.results import Results
from gan_bench.compare.search.confirming import choice_in, with_confirm_runs
from gan_bench.journal.status import progress_of
from gan_bench.report.study import load_results

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def results(searched: Path) -> Results:
    return load_results("tuned", root=searched / "root")


@pytest.fixture
def root(searched: Path, tmp_path: Path) -> Path:
    """A copy of the root, for tests that run a command in it."""
    return copy_of(searched / "root", tmp_path / "root")


def places(runs: pd.DataFrame) -> list[tuple[str, int, str, int]]:
    return [(str(row.variant), int(row.draw), str(row.stage), int(row.seed))
            for row in runs.itertuples()]


def test_every_run_has_its_draw_and_its_stage(searched: Path, results: Results) -> None:
    spec = with_confirm_runs(load_search(searched), searched / "root")
    expected = {(run.variant, run.draw, run.stage, run.seed) for run in spec.runs}
    assert len(expected) == 10
    assert {*places(results.runs)} == expected
    assert results.runs["draw"].dtype == "Int64"
    assert [*results.runs["stage"]] == 2 * [*3 * ["select"], *2 * ["confirm"]]
    drawn = results.runs.query("draw == 1 and variant == 'r1'")
    assert drawn["params.penalties.r1.gamma"].tolist()[0] == str(
        next(run for run in spec.runs if (run.variant, run.draw) == ("r1", 1))
        .penalties[0].args["gamma"])
    assert not [note for note in results.notes if "left out" in note or "not in MLflow" in note]


def test_the_report_chooses_what_the_launcher_chose(searched: Path, results: Results) -> None:
    spec = load_search(searched)
    assert results.choice == choice_in(spec.runs, spec.declared, searched / "root").draws
    assert results.declared.search == spec.search


def test_more_than_one_best_is_the_same_list(searched: Path, root: Path) -> None:
    done = here("run", searched / "tuned.yaml", "--root", root, "--set", "search.confirm.best=2")
    assert done.returncode == 0, done.stdout + done.stderr
    spec = load_search(searched, "search.confirm.best=2")
    now = load_results("tuned", root=root)
    chosen = choice_in(spec.runs, spec.declared, root).draws
    assert now.choice == chosen
    assert all(len(draws) == 2 for draws in chosen.values())
    confirmed = now.runs[now.runs["stage"] == "confirm"]
    assert len(confirmed) == 8
    compared = now.compared().runs
    assert {(place[0], place[1]) for place in places(compared)} == {
        (variant, draws[0]) for variant, draws in chosen.items()}


def test_variants_are_compared_by_their_confirm_runs(searched: Path, results: Results) -> None:
    compared = results.compared()
    assert len(compared.runs) == 4
    assert {*compared.history["run"].astype(str)} == {*compared.runs.index}
    runs = with_confirm_runs(load_search(searched), searched / "root").runs
    scores = [progress_of(run, searched / "root").scores["fd_random"] for run in runs
              if (run.variant, run.stage) == ("r1", "confirm")]
    finding = findings(results, "fd_random")[0]
    row = next(row for row in finding.rows if row.variant == "r1")
    assert row.summary.mean.value == pytest.approx(sum(scores) / 2, rel=1e-12)
    assert row.absent == 0


def test_tags_and_names_say_draw_and_stage(searched: Path, results: Results) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{searched / 'root' / 'mlflow.db'}")
    for row in results.runs.itertuples():
        run = client.get_run(row.mlflow_run)
        assert (run.data.tags["draw"], run.data.tags["stage"]) == (str(row.draw), row.stage)
        assert run.info.run_name == f"s{row.seed} · draw {row.draw} · {row.variant}"
        assert f"draw {row.draw} of the stage {row.stage}, seed" in run.data.tags[
            "mlflow.note.content"]


def test_confirm_runs_of_an_earlier_choice_are_left_out(searched: Path, root: Path) -> None:
    """The best draw is worse now, as if an earlier choice had been among other draws."""
    best = load_results("tuned", root=root).choice["r1"][0]
    of_best = ("(select d.run_uuid from tags d join tags v on d.run_uuid = v.run_uuid join tags s "
               f"on d.run_uuid = s.run_uuid where d.key = 'draw' and d.value = '{best}' and "
               "v.key = 'variant' and v.value = 'r1' and s.key = 'stage' and s.value = 'select')")
    uri = edited(root, root.parent, [
        f"update metrics set value = 1e6 where key like '%fd_random' and run_uuid in {of_best}"])
    now = load_results("tuned", root=root, tracking_uri=uri)
    assert now.choice["r1"] != (best,)
    assert ("left out: 2 runs of the second stage whose draw is not chosen (yet, or any more)"
            in now.notes)
    assert "2 of 10 declared runs are not in MLflow: r1 confirm 2" in now.notes
    assert ("r1", best, "confirm", 10) not in places(now.runs)


def test_a_diverged_select_run_is_the_worst_and_an_unfinished_one_is_waited_for(
        root: Path) -> None:
    best = load_results("tuned", root=root).choice["r1"][0]
    of_best = ("(select d.run_uuid from tags d join tags v on d.run_uuid = v.run_uuid join tags s "
               f"on d.run_uuid = s.run_uuid where d.key = 'draw' and d.value = '{best}' and "
               "v.key = 'variant' and v.value = 'r1' and s.key = 'stage' and s.value = 'select')")
    for status, chosen in (("DIVERGED", True), ("FAILED", False), ("KILLED", False)):
        uri = edited(root, root.parent, [
            f"update tags set value = '{status}' where key = 'status' and run_uuid in {of_best}"])
        now = load_results("tuned", root=root, tracking_uri=uri)
        assert ("r1" in now.choice) == chosen
        assert now.choice.get("r1") != (best,)


def test_the_draws_of_another_search_are_left_out(searched: Path, root: Path) -> None:
    done = here("run", searched / "tuned.yaml", "--root", root, "--set", "search.seed=8")
    assert done.returncode == 0, done.stdout + done.stderr
    now = load_results("tuned", root=root)
    spec = with_confirm_runs(load_search(searched, "search.seed=8"), root)
    assert {*now.runs.index} == {run.id for run in spec.runs}
    assert any(note.endswith("under other settings of a variant, or of no draw of its search")
               for note in now.notes)
    status = here("status", "tuned", "--root", root, "--json")
    shown = [json.loads(line) for line in status.stdout.splitlines()]
    assert {record["id"] for record in shown} == {run.id for run in spec.runs}


def test_a_run_without_a_search_becomes_draw_0(tmp_path: Path) -> None:
    """And is an ordinary run again when the search is gone: the same run, under other names."""
    text = SEARCH.replace("matrix:\n  penalties: [[], [{name: r1, gamma: 1.0}]]\n", "").replace(
        "    penalties.r1.gamma: {log_uniform: [0.01, 100], only: {penalties: r1}}\n", "").replace(
        "draws: 3", "draws: 2").replace("[10, 11]", "[10]")
    (tmp_path / "tuned.yaml").write_text(text)
    root, plain = tmp_path / "root", ["--set", "search=null", "--set", "seeds=[0]"]

    def run(*more: str) -> Results:
        done = here("run", tmp_path / "tuned.yaml", "--root", root, *more)
        assert done.returncode == 0, done.stdout + done.stderr
        return load_results("tuned", root=root)

    (first,) = run(*plain).runs.index
    searched = run().runs
    assert (searched["draw"][first], searched["stage"][first]) == (0, "select")
    assert len(searched) == 3
    again = run(*plain).runs
    assert [*again.index] == [first]
    assert pd.isna(again["draw"][first])
    assert again["stage"][first] == ""


def test_draws_with_the_same_settings_have_a_row_each(tmp_path: Path) -> None:
    text = SEARCH.replace("matrix:\n  penalties: [[], [{name: r1, gamma: 1.0}]]\n", "")
    begin, end = text.index("    g_optimizer.lr"), text.index("  select:")
    text = text[:begin] + "    d_steps: {choice: [1, 2]}\n" + text[end:]
    (tmp_path / "tuned.yaml").write_text(text.replace("draws: 3", "draws: 6"))
    done = here("run", tmp_path / "tuned.yaml", "--root", tmp_path / "root")
    assert done.returncode == 0, done.stdout + done.stderr
    runs = load_results("tuned", root=tmp_path / "root").runs
    select = runs[runs["stage"] == "select"]
    assert [*select["draw"]] == [*range(6)]
    assert len({*select.index}) == 2
    assert select.groupby("params.d_steps")["score.fd_random"].nunique().tolist() == [1, 1]
