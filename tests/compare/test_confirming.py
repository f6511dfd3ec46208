"""The choice of a search from the journals of a root, whatever process holds or measures a run."""

from __future__ import annotations

from pathlib import Path

from helpers.searches import finish, finish_select, load_search

from gan_bench.compare.confirming import choice_in
from gan_bench.journal.claims import take


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
