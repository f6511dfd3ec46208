"""The second stage of a search, added within the process to journals that say what is given."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from helpers.searches import finish, finish_select, load_search

from gan_bench.cli.work import is_prepared
from gan_bench.compare.search.confirming import with_confirm_runs
from gan_bench.config.run_id import older_id
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import UserError
from gan_bench.journal.about import write_about
from gan_bench.journal.layout import Execution, Workspace
from gan_bench.journal.sharing.claims import newest_attempt, take
from gan_bench.journal.sharing.lock import changing_queue, preparing
from gan_bench.journal.sharing.queue_file import read_queue, write_queue, write_specs
from gan_bench.journal.status import Progress
from gan_bench.launcher import stages
from gan_bench.launcher.launch import study_of_queue
from gan_bench.launcher.preparation import (
    LaunchSettings,
    PreparedStudy,
    prepare_study,
    read_progress,
)
from gan_bench.launcher.reporters import JsonLines
from gan_bench.launcher.stages import Left, add_second_stage


def prepared(spec: ExperimentSpec, root: Path) -> PreparedStudy:
    """Return the study of a search whose select runs have been worked on, with its queue."""
    home, execution = root / "runs" / spec.name, Execution(Workspace(root, root))
    runs = [read_progress(run, root) for run in spec.runs]
    write_about(home, spec.declared)
    begun = write_specs(runs, root)
    write_queue(home, runs, begun, execution, 2, 1, [run.id for run in spec.runs])
    return PreparedStudy(runs, runs, execution, begun, has_second_stage=True)


@pytest.fixture
def spec(tmp_path: Path) -> ExperimentSpec:
    loaded: ExperimentSpec = load_search(tmp_path)
    return loaded


@pytest.fixture
def root(spec: ExperimentSpec, tmp_path: Path) -> Path:
    """A root whose select runs are finished: draw 1 of each variant is the best."""
    finish_select(spec, tmp_path / "root")
    return tmp_path / "root"


def home_of(root: Path) -> Path:
    return root / "runs" / "tuned"


def confirm_of(spec: ExperimentSpec, root: Path) -> list[RunSpec]:
    return [run for run in with_confirm_runs(spec, root).runs if run.stage == "confirm"]


def ids(runs: list[Progress]) -> list[str]:
    return [run.spec.id for run in runs]


def test_the_confirm_runs_join_the_study_and_the_queue(spec: ExperimentSpec, root: Path) -> None:
    study = prepared(spec, root)
    said: list[str] = []
    second, left = add_second_stage(study, home_of(root), said.append)
    confirm = [run.id for run in confirm_of(spec, root)]
    assert ids(second.waiting) == confirm
    assert len(confirm) == 4
    assert left == Left()
    assert said == ["4 runs confirm draw 1 of unpenalised, draw 1 of r1"]
    assert {*confirm} < {*read_queue(home_of(root)).begun} == {*study.begun}
    assert not add_second_stage(second, home_of(root), said.append)[0].waiting
    assert len(said) == 1


def test_runs_that_are_measured_alone_get_no_second_stage(spec: ExperimentSpec, root: Path) -> None:
    """`evaluate` gives the select runs new scores, and trains nothing."""
    study = replace(prepared(spec, root), has_second_stage=False)
    before = (home_of(root) / "queue.json").read_bytes()
    assert not add_second_stage(study, home_of(root), print)[0].waiting
    assert (home_of(root) / "queue.json").read_bytes() == before
    (home_of(root) / "queue.json").write_bytes(b"damaged")  # which it does not read
    assert not add_second_stage(study, home_of(root), print)[0].waiting


def test_without_a_queue_there_is_no_second_stage(spec: ExperimentSpec, root: Path) -> None:
    study = prepared(spec, root)
    (home_of(root) / "queue.json").unlink()
    assert not add_second_stage(study, home_of(root), print)[0].waiting


def test_a_confirm_run_that_lacks_its_scores_is_measured(spec: ExperimentSpec, root: Path) -> None:
    first, *others = confirm_of(spec, root)
    finish(first, root, None)
    second = add_second_stage(prepared(spec, root), home_of(root), print)[0]
    assert ids(second.waiting) == [first.id, *(run.id for run in others)]
    assert [run.is_measuring for run in second.waiting] == [True, False, False, False]
    assert read_queue(home_of(root)).measured == [first.id]


def test_a_confirm_run_that_is_done_does_not_wait(spec: ExperimentSpec, root: Path) -> None:
    first, *others = confirm_of(spec, root)
    finish(first, root, 1.0)
    second = add_second_stage(prepared(spec, root), home_of(root), print)[0]
    assert ids(second.waiting) == [run.id for run in others]


def under_an_older_id(run: RunSpec, root: Path) -> None:
    values = json.loads((run.folder(root) / "spec.json").read_text())
    run.folder(root).rename(run.folder(root).with_name(older_id(values)))


def test_a_confirm_run_under_an_older_id_is_taken_over(spec: ExperimentSpec, root: Path) -> None:
    first, *others = confirm_of(spec, root)
    finish(first, root, 1.0)
    under_an_older_id(first, root)
    said: list[str] = []
    second = add_second_stage(prepared(spec, root), home_of(root), said.append)[0]
    assert ids(second.waiting) == [run.id for run in others]
    assert first.folder(root).exists()
    assert said[0].startswith("1 run under ids of an earlier version taken over")


def test_a_late_preparation_takes_over_confirm_runs_too(spec: ExperimentSpec, root: Path) -> None:
    for run in confirm_of(spec, root):
        finish(run, root, 1.0)
    under_an_older_id(confirm_of(spec, root)[0], root)
    settings = LaunchSettings(Execution(Workspace(root, root)), 1, "gan-bench run", mirrors=False)
    with preparing(root, print) as lease:
        study = prepare_study(spec, settings, JsonLines(), lease)
    assert len(study.runs) == 10
    assert not study.waiting
    assert confirm_of(spec, root)[0].folder(root).exists()


def test_a_late_worker_counts_no_failure_of_an_earlier_study(spec: ExperimentSpec, root: Path,
                                                            ) -> None:
    failed = confirm_of(spec, root)[0]
    finish(failed, root, None, "FAILED", "no room")
    prepared(spec, root)
    study, _ = study_of_queue(home_of(root), read_queue(home_of(root)))
    assert failed.id in ids(study.waiting)
    assert study.begun[failed.id] == newest_attempt(failed.folder(root)) == 1


def test_a_confirm_run_continues_from_a_shorter_one(
        spec: ExperimentSpec, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As select runs do after `steps` was raised."""
    first = confirm_of(spec, root)[0]
    short = load_search(tmp_path, "base.steps=4")
    shorter = next(run for run in short.runs if (run.variant, run.draw) == (
        first.variant, first.draw)).confirmed(first.seed)
    folder = finish(shorter, root, 1.0)
    (folder / "snapshots").mkdir()
    (folder / "snapshots" / "step-0000006.safetensors").write_bytes(b"")
    monkeypatch.setattr("gan_bench.journal.shorter_runs.since", lambda before, now: {})
    second = add_second_stage(prepared(spec, root), home_of(root), print)[0]
    assert second.execution.shorter_runs == {first.id: (folder,)}
    assert read_queue(home_of(root)).shorter_runs == {first.id: [f"tuned/{folder.name}"]}


def while_waiting_for_the_lease(change: Callable[[], object], monkeypatch: pytest.MonkeyPatch,
                                ) -> None:
    def late(home: Path, say: Callable[[str], None]) -> object:
        monkeypatch.setattr(f"{stages.__name__}.changing_queue", changing_queue)
        change()
        return changing_queue(home, say)

    monkeypatch.setattr(f"{stages.__name__}.changing_queue", late)


def test_the_choice_is_that_under_the_lease(spec: ExperimentSpec, root: Path, tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    study = prepared(spec, root)
    more = load_search(tmp_path, "search.confirm.seeds=[20]")
    while_waiting_for_the_lease(lambda: write_about(home_of(root), more.declared), monkeypatch)
    second = add_second_stage(study, home_of(root), print)[0]
    assert ids(second.waiting) == [run.id for run in confirm_of(more, root)]


def test_a_worker_does_not_wait_for_the_preparations_of_another_experiment(
        spec: ExperimentSpec, root: Path) -> None:
    """They decode data and train extractors."""
    study = prepared(spec, root)
    with ThreadPoolExecutor(1) as other, preparing(root, print):
        second, _ = other.submit(add_second_stage, study, home_of(root), print).result(30)
    assert len(second.waiting) == 4


def test_a_worker_waits_for_who_changes_the_queue(spec: ExperimentSpec, root: Path) -> None:
    study = prepared(spec, root)
    with ThreadPoolExecutor(1) as other:
        with changing_queue(home_of(root), print):
            adding = other.submit(add_second_stage, study, home_of(root), print)
            with pytest.raises(TimeoutError):
                adding.result(0.5)
        assert len(adding.result(30)[0].waiting) == 4


def test_a_queue_that_is_replaced_meanwhile_stays(spec: ExperimentSpec, root: Path, tmp_path: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    study = prepared(spec, root)
    other = load_search(tmp_path, "search.seed=8")
    while_waiting_for_the_lease(lambda: prepared(other, root), monkeypatch)
    assert not add_second_stage(study, home_of(root), print)[0].waiting
    assert {*read_queue(home_of(root)).select} == {run.id for run in other.runs}
    assert not {run.id for run in confirm_of(spec, root)} & {*read_queue(home_of(root)).begun}


def test_a_second_process_adds_the_same_runs_once(spec: ExperimentSpec, root: Path,
                                                  monkeypatch: pytest.MonkeyPatch) -> None:
    study, other = prepared(spec, root), prepared(spec, root)
    while_waiting_for_the_lease(lambda: add_second_stage(other, home_of(root), print), monkeypatch)
    second = add_second_stage(study, home_of(root), print)[0]
    assert len(second.waiting) == 4
    assert second.begun == other.begun == dict(read_queue(home_of(root)).begun)


def test_a_variant_whose_draws_all_diverged_has_none_to_confirm(
        spec: ExperimentSpec, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for run in spec.runs:
        finish(run, root, 1.0, "DIVERGED" if run.variant == "r1" else "FINISHED")
    said: list[str] = []
    second, left = add_second_stage(prepared(spec, root), home_of(root), said.append)
    assert [(run.spec.variant, run.spec.draw) for run in second.waiting] == 2 * [
        ("unpenalised", 0)]
    assert left == Left()
    assert said == ["every draw of r1 diverged: there is none to confirm",
                    "2 runs confirm draw 0 of unpenalised"]


def test_variants_that_cannot_be_chosen_are_left(spec: ExperimentSpec, root: Path) -> None:
    lost = next(run for run in spec.runs if run.variant == "r1" and run.draw == 2)
    shutil.rmtree(lost.folder(root))
    finish(lost, root, None, "FAILED", "No space left on device")
    for run in confirm_of(spec, root):
        finish(run, root, 1.0)
    second, left = add_second_stage(prepared(spec, root), home_of(root), print)
    assert not second.waiting
    assert left.unchosen == ("r1",)
    assert left.why == "no draw is chosen yet of r1 (for 1 run): repeat `gan-bench run` for it"
    claim = take(lost.folder(root))
    second, left = add_second_stage(prepared(spec, root), home_of(root), print)
    claim.release()
    assert left.why.endswith(": another command works on 1 run of the first stage")


@pytest.mark.parametrize("change", [
    "search.select.by=kd_random", "search.confirm.seeds=[20]", "search.confirm.best=2"])
def test_an_edited_search_is_prepared_anew(spec: ExperimentSpec, root: Path, tmp_path: Path,
                                           change: str) -> None:
    """`work FILE` confirms what the file says now; the select runs are the same."""
    prepared(spec, root)
    assert is_prepared(spec, home_of(root))
    edited = load_search(tmp_path, change, "evaluate.metrics=[fd_random, kd_random]")
    assert {run.id for run in edited.runs} == {run.id for run in spec.runs}
    assert not is_prepared(edited, home_of(root))


def test_a_search_whose_declaration_is_damaged_is_prepared_anew(
        spec: ExperimentSpec, root: Path) -> None:
    study = prepared(spec, root)
    (home_of(root) / "about.json").write_text('{"search": {"draws": "three"}}')
    assert not is_prepared(spec, home_of(root))
    with pytest.raises(UserError, match="what the experiment declares is damaged"):
        add_second_stage(study, home_of(root), print)
