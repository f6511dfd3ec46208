"""Both stages of a search: the draws are selected, and the chosen ones confirmed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from helpers.journals import repeatable, write_journal
from helpers.searches import SEARCH, finish, load_search, write_search
from helpers.studies import copy_of, here

from gan_bench.compare.search.confirming import choice_in, with_confirm_runs
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.journal import reading
from gan_bench.journal.about import read_about
from gan_bench.journal.layout import is_trained
from gan_bench.journal.schema import Record
from gan_bench.journal.sharing.queue_file import extend_queue, read_queue
from gan_bench.journal.status import progress_of
from gan_bench.report.study import load_results

pytestmark = pytest.mark.process


@pytest.fixture
def root(searched: Path, tmp_path: Path) -> Path:
    """A copy of the root of the search."""
    return copy_of(searched / "root", tmp_path / "root")


def results(root: Path) -> dict[str, tuple[list[Record], bytes]]:
    """Return what each run has recorded, and its weights, by id."""
    return {folder.name: (repeatable(reading.read_records(folder)[0]),
                          (folder / "final.safetensors").read_bytes())
            for folder in (root / "runs" / "tuned").iterdir() if folder.is_dir()}


def by_hand(runs: tuple[RunSpec, ...], root: Path) -> dict[str, int]:
    """Return the draw of each variant with the lowest score in its journal."""
    best: dict[str, tuple[float, int]] = {}
    for run in runs:
        score = progress_of(run, root).scores["fd_random"]
        best[run.variant] = min(best.get(run.variant, (score, run.draw)), (score, run.draw))
    return {variant: draw for variant, (_, draw) in best.items()}


def by_hand_of(spec: ExperimentSpec, root: Path) -> dict[str, tuple[int, ...]]:
    return {variant: (draw,) for variant, draw in by_hand(spec.runs, root).items()}


def attempts(root: Path) -> list[str]:
    return sorted(file.name for file in (root / "runs" / "tuned").glob("*/attempt.*"))


def test_the_draws_with_the_best_scores_are_confirmed(searched: Path) -> None:
    spec, root = load_search(searched), searched / "root"
    best = by_hand(spec.runs, root)
    expected = {run.with_seed(seed).id for run in spec.runs for seed in (10, 11)
                if run.draw == best[run.variant]}
    assert len(expected) == 4
    assert {run.id for run in spec.runs} | expected == {
        folder.name for folder in (root / "runs" / "tuned").iterdir() if folder.is_dir()}
    text = (searched / "output.txt").read_text()
    assert (f"4 runs confirm draw {best['unpenalised']} of unpenalised, draw {best['r1']} of r1"
            in text)
    assert "10 of 10 runs are done" in text
    confirmed = next(run for run in with_confirm_runs(spec, root).runs if run.stage == "confirm")
    written = json.loads((confirmed.folder(root) / "spec.json").read_text())
    assert (written["draw"], written["stage"]) == (best["unpenalised"], "confirm")


def test_the_table_compares_the_confirm_runs(searched: Path) -> None:
    spec, root = load_search(searched), searched / "root"
    runs = with_confirm_runs(spec, root).runs
    scores = [progress_of(run, root).scores["fd_random"] for run in runs
              if run.stage == "confirm" and run.variant == "r1"]
    text = (searched / "output.txt").read_text()
    shown = re.search(r" r1 +(\S+) \[", text)  # of fd_random, the first score
    assert shown is not None
    assert shown[1] == f"{sum(scores) / 2:.2f}"
    assert "have no result" not in text


def test_a_repeated_command_trains_nothing(searched: Path, root: Path) -> None:
    before = attempts(root)
    done = here("run", searched / "tuned.yaml", "--root", root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "started" not in done.stdout
    assert attempts(root) == before == ["attempt.1"] * 10


def test_the_plan_shows_both_stages(searched: Path) -> None:
    spec, root = load_search(searched), searched / "root"
    done = here("plan", searched / "tuned.yaml", "--root", root)
    best = by_hand(spec.runs, root)
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for variant in ("unpenalised", "r1"):
        assert f"{variant} 3 of 3 done draw {best[variant]} 2 of 2 done" in lines
    assert "whose settings are not in this file" not in done.stdout


def test_more_draws_train_the_new_ones_alone(searched: Path, root: Path) -> None:
    before = results(root)
    done = here("run", searched / "tuned.yaml", "--root", root, "--set", "search.draws=5",
                "--set", "search.confirm.seeds=[10]")
    assert done.returncode == 0, done.stdout + done.stderr
    spec = load_search(searched, "search.draws=5", "search.confirm.seeds=[10]")
    started = {line.split()[0] for line in done.stdout.splitlines() if line.endswith("started")}
    select = {run.id for run in spec.runs}
    assert started & select == {run.id for run in spec.runs if (run.draw or 0) > 2}
    whole = with_confirm_runs(spec, root)
    confirm = {run.id for run in whole.runs} - select
    assert started - select == confirm - before.keys()
    assert all(is_trained(run.folder(root)) for run in whole.runs)
    assert {key: value for key, value in results(root).items() if key in before} == before


def test_a_changed_choice_leaves_the_earlier_confirm_runs(searched: Path, root: Path) -> None:
    """As if the confirm run of a draw that is not chosen were of an earlier choice."""
    spec = load_search(searched)
    best = by_hand(spec.runs, root)
    other = next(run for run in spec.runs if run.draw != best[run.variant]).confirmed(10)
    write_journal(other.write(root))
    text = here("plan", searched / "tuned.yaml", "--root", root).stdout
    assert "1 run of the second stage whose draw is not chosen (yet, or any more)" in text
    assert other.id not in text


def test_evaluate_measures_the_runs_of_both_stages(searched: Path, root: Path) -> None:
    """Also on other samples, of which the first stage, which decides, has no score yet."""
    done = here("evaluate", searched / "tuned.yaml", "--root", root, "--samples", 60, "--slots", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 of 10 runs are done" in done.stdout
    runs = with_confirm_runs(load_search(searched, "evaluate.final_samples=60"), root).runs
    assert len(runs) == 10
    for run in runs:
        assert {"fd_random"} <= progress_of(run, root).scores.keys(), run.label
    assert attempts(root).count("attempt.2") == 10
    declared = read_about(root / "runs" / "tuned")
    assert declared.final is not None
    assert declared.selecting is not None
    assert (declared.final.samples, declared.selecting.samples) == (60, 50)
    now = load_results("tuned", root=root)
    assert now.choice == by_hand_of(load_search(searched), searched / "root")
    assert not [note for note in now.notes if "left out" in note]


def test_a_worker_that_begins_after_the_first_stage_does_the_second(
        searched: Path, root: Path) -> None:
    """Its queue holds only the select runs, which are all over."""
    spec, home, before = load_search(searched), root / "runs" / "tuned", results(root)
    confirm = {run.id for run in with_confirm_runs(spec, root).runs} - {
        run.id for run in spec.runs}
    values = json.loads((home / "queue.json").read_text())
    values["begun"] = {key: value for key, value in values["begun"].items() if key not in confirm}
    (home / "queue.json").write_text(json.dumps(values))
    for run_id in confirm:
        shutil.rmtree(home / run_id)
    done = here("work", "tuned", "--root", root, "--slots", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 of 4 runs that waited are over" in done.stdout
    assert results(root) == before
    again = here("work", "tuned", "--root", root)
    assert again.returncode == 0, again.stdout + again.stderr
    assert attempts(root) == ["attempt.1"] * 10


def test_two_that_extend_the_queue_leave_the_same(searched: Path, root: Path) -> None:
    home = root / "runs" / "tuned"
    spec = load_search(searched)
    runs = [progress_of(run, root) for run in with_confirm_runs(spec, root).runs]
    before = (home / "queue.json").read_bytes()
    extend_queue(home, runs, {})
    assert (home / "queue.json").read_bytes() == before
    other = [run.with_seed(99) for run in spec.runs[:2]]
    others = [progress_of(run, root) for run in other]
    first = extend_queue(home, others, {})
    assert extend_queue(home, others[::-1], {}) == first == read_queue(home)
    assert [run.id for run in other] == [*first.begun][-2:]
    assert all((home / run.id / "spec.json").exists() for run in other)
    assert {*first.select} == {run.id for run in spec.runs}


def test_a_failed_select_run_is_repeated_and_its_variant_waits(
        searched: Path, root: Path) -> None:
    """Its journal ends as that of a run which had no room on the disk."""
    spec = load_search(searched)
    lost = next(run for run in spec.runs if run.variant == "r1" and run.draw == 2)
    before = results(root)
    shutil.rmtree(lost.folder(root))
    finish(lost, root, None, "FAILED", "OSError: No space left on device")
    choice = choice_in(spec.runs, spec.declared, root)
    assert choice.waiting == {"r1": 1}
    assert [*choice.draws] == ["unpenalised"]
    done = here("run", searched / "tuned.yaml", "--root", root)
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(root) == before


def test_a_run_that_fails_keeps_only_its_variant_from_being_confirmed(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text('''\
from gan_bench.registry import LOSSES
from gan_bench.components.losses import non_saturating

@LOSSES.register("failing")
def failing(*, below: float = 0.0):
    """Raises where it is told to."""
    if below < 0.5:
        raise OSError(28, "No space left on device")
    return non_saturating()
''')
    text = SEARCH.replace("matrix:\n  penalties: [[], [{name: r1, gamma: 1.0}]]\n",
                          "plugins: [mine.py]\nvariants: {good: {}, bad: {loss: failing}}\n")
    begin, end = text.index("    g_optimizer.lr"), text.index("  select:")
    space = ("    g_optimizer.lr: {choice: [1e-4, 2e-4]}\n"
             "    loss.below: {uniform: [0, 1], only: {variants: bad}}\n")
    file = write_search(tmp_path, text[:begin] + space + text[end:])
    done = here("run", file, "--root", tmp_path / "root")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no draw is chosen yet of bad (for " in done.stdout
    spec = with_confirm_runs(load_search(tmp_path, text=file.read_text()), tmp_path / "root")
    confirm = [run for run in spec.runs if run.stage == "confirm"]
    assert {run.variant for run in confirm} == {"good"}
    assert all(is_trained(run.folder(tmp_path / "root")) for run in confirm)
