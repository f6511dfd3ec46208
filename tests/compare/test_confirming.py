"""The choice of a search from the journals of a root, whatever process holds or measures a run."""

from __future__ import annotations

import json
from pathlib import Path

from helpers.searches import finish, finish_select, load_search

from gan_bench.compare.search.confirming import choice_in
from gan_bench.compare.search.counted_draws import stored_choice
from gan_bench.config.declared import read_declared
from gan_bench.config.spec import RunSpec
from gan_bench.journal.sharing.claims import take
from gan_bench.journal.status import Progress, progress_of
from gan_bench.tracking.reader import StoredRun


def test_a_run_with_a_result_counts_while_a_process_holds_it(tmp_path: Path) -> None:
    """That process may have been lost after it had recorded the end, or measure the run."""
    spec, root = load_search(tmp_path), tmp_path / "root"
    finish_select(spec, root)
    claim = take(spec.runs[0].folder(root))
    choice = choice_in(spec.runs, spec.declared, root)
    claim.release()
    assert choice.draws == {"unpenalised": (1,), "r1": (1,)}
    assert choice.waiting == {}


def test_a_run_without_a_result_is_waited_for(tmp_path: Path) -> None:
    spec, root = load_search(tmp_path), tmp_path / "root"
    finish_select(spec, root)
    (spec.runs[0].folder(root) / "final.safetensors").unlink()
    choice = choice_in(spec.runs, spec.declared, root)
    assert choice.waiting == {"unpenalised": 1}
    assert choice.draws == {"r1": (1,)}


def test_a_failed_run_is_waited_for_whatever_it_had_scored(tmp_path: Path) -> None:
    spec, root = load_search(tmp_path), tmp_path / "root"
    for run in spec.runs:
        is_lost = (run.variant, run.draw) == ("r1", 2)
        finish(run, root, 1.0, *("FAILED", "no room") * is_lost)
    choice = choice_in(spec.runs, spec.declared, root)
    assert choice.waiting == {"r1": 1}
    assert choice.draws == {"unpenalised": (0,)}


def test_scores_that_evaluate_adds_choose_no_other_draw(tmp_path: Path) -> None:
    """Else trained confirm runs would count no more, and others would be trained."""
    own, root = load_search(tmp_path), tmp_path / "root"
    spec = load_search(tmp_path, "evaluate.final_samples=60")
    declared = spec.declared.selecting_as(own.declared)
    for run in own.runs:
        finish(run, root, 1.0 if run.draw == 1 else 2.0, on_60=0.5 if run.draw == 2 else 3.0)
    assert choice_in(own.runs, own.declared, root).draws == {"unpenalised": (1,), "r1": (1,)}
    for runs in (own.runs, spec.runs):  # the second are what `evaluate` writes into `spec.json`
        assert choice_in(runs, declared, root).draws == {"unpenalised": (1,), "r1": (1,)}
    assert choice_in(spec.runs, spec.declared, root).draws == {"unpenalised": (2,), "r1": (2,)}


def test_a_store_chooses_by_the_same_scores(tmp_path: Path) -> None:
    own = load_search(tmp_path).declared
    now = load_search(tmp_path, "evaluate.final_samples=60").declared
    runs = [as_stored(progress_of(each, tmp_path / "root")) for each in finished(tmp_path)]
    assert stored_choice(runs, now.selecting_as(own)).draws == stored_choice(runs, own).draws == {
        "unpenalised": (1,), "r1": (1,)}
    assert stored_choice(runs, now).draws == {"unpenalised": (2,), "r1": (2,)}


def finished(folder: Path) -> tuple[RunSpec, ...]:
    runs: tuple[RunSpec, ...] = load_search(folder).runs
    for run in runs:
        finish(run, folder / "root", 1.0 if run.draw == 1 else 2.0,
               on_60=0.5 if run.draw == 2 else 3.0)
    return runs


def as_stored(run: Progress) -> StoredRun:
    """Return a run as the mirror leaves it in MLflow, as far as a choice needs it."""
    spec = run.spec
    stored = StoredRun(spec.id, 0, 1, {
        "variant": spec.variant, "draw": str(spec.draw), "seed": str(spec.seed),
        "stage": spec.stage, "status": run.state,
        **{f"protocol.{name}": json.dumps(each) for name, each in run.announced.items()}})
    stored.measured([(name, step, 0, run.values[name]) for name, steps in run.measured.items()
                     for step in steps])
    return stored


def test_what_selects_is_declared_beside_what_is_compared(tmp_path: Path) -> None:
    own = load_search(tmp_path).declared
    assert own.selecting_as(own) == own
    assert own.selecting == own.final
    now = load_search(tmp_path, "evaluate.final_samples=60").declared.selecting_as(own)
    assert now.final is not None
    assert now.final.samples == 60
    assert now.selecting is not None
    assert (now.selecting.samples, now.selecting.scores) == (50, ("fd_random",))
    assert own.final is not None
    assert now.selecting.definitions == {"fd_random": own.final.definitions["fd_random"]}
    assert read_declared(now.model_dump_json()) == now
    weighted = now.under({"fd_random": "0a1b", "d_accuracy_real": "2c"})
    assert weighted.selecting is not None
    assert weighted.selecting.weights == {"fd_random": "0a1b"}
