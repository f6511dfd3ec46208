"""`gan-bench plan` of a search."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.searches import SEARCH, load_search, write_search
from helpers.studies import here

from gan_bench.cli.planning.plan import plan_text


def test_the_plan_says_how_many_runs_and_what_is_drawn(tmp_path: Path) -> None:
    text = plan_text(load_search(tmp_path), tmp_path / "root")
    assert ("runs      10: select 2 variants × 3 draws × 1 seed = 6; confirm 2 × best 1 × 2 seeds "
            "= 4; baseline unpenalised") in text
    assert ("search    3 draws of seed 7; draw 0 is the file's own setting; selected by "
            "fd_random") in text
    assert "  g_optimizer.lr      log_uniform 1e-05 .. 0.001" in text
    assert "  penalties.r1.gamma  log_uniform 0.01 .. 100 (only penalties r1)" in text
    assert "  1     0.0001654       " in text
    lines = [line.split() for line in text.splitlines()]
    assert ["unpenalised", "0", "of", "3", "done", "not", "yet"] in lines
    assert ["r1", "0", "of", "3", "done", "not", "yet"] in lines


def test_runs_that_equal_draws_share_are_counted_once(tmp_path: Path) -> None:
    text = SEARCH.replace("    g_optimizer.lr: {log_uniform: [1e-5, 1e-3]}\n", "").replace(
        "    d_steps: {int_uniform: [1, 3]}\n", "")
    text = plan_text(load_search(tmp_path, text=text), tmp_path / "root")
    assert "runs      8: select 2 variants × 3 draws × 1 seed = 6, 2 of them shared by" in text


def test_many_draws_are_not_all_listed(tmp_path: Path) -> None:
    spec = load_search(tmp_path, "search.draws=50", "search.defaults=false")
    lines = plan_text(spec, tmp_path / "root").splitlines()
    begin = lines.index("draws")
    assert [line.split()[0] for line in lines[begin + 2:begin + 22]] == [*map(str, range(20))]
    assert lines[begin + 22] == "  and 30 more"


@pytest.mark.parametrize("width", [70, 100])
def test_the_plan_fits_a_terminal(tmp_path: Path, width: int) -> None:
    lines = plan_text(load_search(tmp_path), tmp_path / "root", width).splitlines()
    assert max(map(len, lines)) <= width


def test_records_name_draw_and_stage(tmp_path: Path) -> None:
    done = here("plan", write_search(tmp_path), "--root", tmp_path / "root", "--json")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(record["variant"], record["draw"], record["stage"]) for record in records] == [
        (variant, draw, "select") for variant in ("unpenalised", "r1") for draw in range(3)]
