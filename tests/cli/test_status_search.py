"""`gan-bench status` of a search: draws, stages, and the runs that are still to come."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.searches import load_search
from helpers.studies import here

from gan_bench.compare.search.confirming import with_confirm_runs

pytestmark = pytest.mark.process


def records(*arguments: object) -> list[dict[str, object]]:
    done = here("status", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_by_name_and_by_file_it_shows_the_runs_of_both_stages(searched: Path) -> None:
    root = searched / "root"
    expected = [(run.id, run.variant, run.draw, run.stage, run.seed)
                for run in with_confirm_runs(load_search(searched), root).runs]
    for given in ("tuned", searched / "tuned.yaml"):
        shown = records(given, "--root", root)
        assert [tuple(record[key] for key in ("id", "variant", "draw", "stage", "seed"))
                for record in shown] == expected
        assert {record["state"] for record in shown} == {"FINISHED"}
    text = here("status", "tuned", "--root", root).stdout
    assert text.startswith("tuned: 10 of 10 runs ended")
    assert "r1 draw 0 select" in text
    assert "10 of 10 runs ended" in here("status", "--root", root).stdout


def test_runs_that_have_not_begun_wait(searched: Path, tmp_path: Path) -> None:
    root = shutil.copytree(searched / "root", tmp_path / "root")
    spec = with_confirm_runs(load_search(searched), root)
    confirm = next(run for run in spec.runs if run.stage == "confirm")
    shutil.rmtree(confirm.folder(root))
    waits = [record for record in records("tuned", "--root", root) if record["id"] is None]
    assert [(record["draw"], record["stage"], record["seed"], record["state"])
            for record in waits] == [(confirm.draw, "confirm", 10, "WAITING")]
    shutil.rmtree(spec.runs[1].folder(root))  # then nothing of its variant is chosen
    shown = records("tuned", "--root", root)
    stages = [(record["variant"], record["stage"]) for record in shown]
    assert stages.count(("unpenalised", "select")) == 3
    assert ("unpenalised", "confirm") not in stages
    assert stages.count(("r1", "confirm")) == 2
