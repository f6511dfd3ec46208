"""Under which weights of extractors scores count: by what journals say and what is prepared."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.journals import new_run, write_journal
from helpers.runs import a_run

from gan_bench.config.declared import Declared, FinalMeasurement
from gan_bench.journal import reading
from gan_bench.journal.about import asked_weights, write_about
from gan_bench.journal.schema import Status
from gan_bench.journal.scores.extractor_weights import differ, finished_runs, to_ask_for
from gan_bench.journal.spec_file import read_spec
from gan_bench.journal.status import Progress


def run_with(folder: Path, weights: dict[str, str], state: Status = Status.FINISHED) -> Progress:
    """A run with scores of these weights, by full name; all of them count."""
    protocols = {name: {"weights": digest} for name, digest in weights.items()}
    return Progress(a_run(folder), folder, state, announced=protocols,
                    measured={name: {6} for name in weights},
                    protocols={name.rpartition("/")[2]: each for name, each in protocols.items()})


def test_weights_differ_between_finished_runs_alone(tmp_path: Path) -> None:
    one, same, other, unfinished = (
        run_with(tmp_path, {"eval/fd": "a"}), run_with(tmp_path, {"final/fd": "a", "eval/kd": "b"}),
        run_with(tmp_path, {"eval/fd": "b"}),
        run_with(tmp_path, {"eval/fd": "b"}, Status.DIVERGED))
    assert not differ([one, same, unfinished])
    assert differ([one, same, unfinished, other])
    assert not differ([])


def test_only_weights_with_others_beside_them_are_asked_for(tmp_path: Path) -> None:
    prepared = {"fd": "b", "kd": "b", "is": "c"}
    equal = run_with(tmp_path, {"eval/fd": "b", "eval/kd": "b"})
    assert to_ask_for([equal], prepared) == {}
    older = run_with(tmp_path, {"eval/fd": "a", "eval-01234567/fd": "b", "eval/kd": "b"})
    assert to_ask_for([equal, older], prepared) == {"fd": "b"}
    unknown = run_with(tmp_path, {"eval/other": "a", "evaluate-01234567/is": "a"})
    assert to_ask_for([equal, unknown], prepared) == {}
    running = run_with(tmp_path, {"eval/fd": "a"}, Status.RUNNING)
    assert to_ask_for([running], prepared) == {}


def test_a_damaged_run_is_nobodys_concern_here(tmp_path: Path) -> None:
    folders = [new_run(tmp_path, seed) for seed in (1, 2, 3)]
    for folder in folders[:2]:
        write_journal(folder)
    specs = [read_spec(folder) for folder in folders]
    assert [run.folder for run in finished_runs(specs, tmp_path)] == folders[:2]
    journal = folders[0] / reading.FILE
    journal.write_text(journal.read_text().replace("metrics", "metricz"))
    assert [run.folder for run in finished_runs(specs, str(tmp_path))] == folders[1:2]


@pytest.mark.parametrize("text", [None, "{", '{"margin": "a lot"}', '{"final": {"scores": 3}}'])
def test_an_experiment_that_says_nothing_asks_for_none(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "about.json").write_text(text)
    assert asked_weights(tmp_path) == {}


def test_what_an_experiment_asks_for_is_read_anew_when_it_changes(tmp_path: Path) -> None:
    final = FinalMeasurement(scores=("fd", "kd"), samples=10)
    for weights in ({"fd": "a"}, {"fd": "b"}, {"fd": "b", "kd": "c"}, {}):
        write_about(tmp_path, Declared(final=final).under({**weights, "gone": "d"}))
        assert asked_weights(tmp_path) == weights
