"""What `gan-bench run` prints of a search that was stopped."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from helpers.searches import finish, load_search
from rich.console import Console

from gan_bench.cli.running.run import _final_rows, _print_results
from gan_bench.journal.status import progress_of


@pytest.mark.parametrize("done", [0, 1])
def test_before_a_draw_has_a_score_there_is_no_table(tmp_path: Path, done: int) -> None:
    spec, root = load_search(tmp_path), tmp_path / "root"
    for run in spec.runs[:done]:
        finish(run, root, 1.0)
    runs = [progress_of(run, root) for run in spec.runs]
    console = Console(file=io.StringIO(), width=120)
    _print_results(console, spec, runs, *_final_rows(spec, runs))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert ("No draw has a score yet, so there is no table of budgets." in text) == (not done)
    assert ("With their tuning" in text) == bool(done)
