"""The grid that several processes share: no run is claimed twice, none is tried for ever."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers.journals import FACTS
from helpers.runs import write_experiment
from rich.console import Console

from gan_bench.config.experiment import load_experiment
from gan_bench.errors import UserError
from gan_bench.journal.layout import CHECKPOINTS
from gan_bench.journal.sharing import claims
from gan_bench.journal.sharing.claims import Release
from gan_bench.journal.status import Progress
from gan_bench.journal.writing import Journal, claim_run
from gan_bench.launcher.crew import Crew, Slots, waiting_line
from gan_bench.launcher.grid import Grid, kind_of
from gan_bench.launcher.reporters import PlainLines

HERE: dict[str, Any] = {**FACTS, "versions": {}}
OTHER = {**HERE, "device_name": "NVIDIA A100"}


@pytest.fixture
def runs(tmp_path: Path) -> list[Progress]:
    """The four runs of the tiny experiment, whose folders there are."""
    spec = load_experiment(write_experiment(tmp_path), tmp_path)
    return [Progress(run, run.write(tmp_path / "root")) for run in spec.runs]


def grid(runs: list[Progress], here: dict[str, Any] | None = None, changed: Any = str,
         begun: dict[str, int] | None = None) -> Grid:
    copies = [Progress(run.spec, run.folder) for run in runs]
    return Grid(copies, begun or {}, 2, here, changed)


def ids(taken: list[tuple[Progress, claims.Claim]]) -> list[str]:
    return [run.spec.id for run, _ in taken]


def test_two_processes_claim_different_runs_in_order(runs: list[Progress]) -> None:
    one, two = grid(runs), grid(runs)
    names = [run.spec.id for run in runs]
    first, second = one.claim(1), two.claim(2)
    assert (ids(first), ids(second)) == (names[:1], names[1:3])
    assert set(two.elsewhere) == {names[0]}
    rest = one.claim(9)
    assert ids(rest) == names[3:]
    assert (set(one.open), set(two.open)) == ({*names[1:3]}, {names[0], names[3]})
    assert two.claim(9) == []
    for _, claim in [*first, *second, *rest]:
        claim.release()


def test_a_run_that_another_process_has_finished_is_over(runs: list[Progress]) -> None:
    changed: list[str] = []
    one, two = grid(runs), grid(runs, changed=lambda run: changed.append(run.state.value))
    (run, claim), = one.claim(1)
    two.follow()
    book = Journal(run.folder, claim)
    book.start(FACTS)
    book.metrics(6, {"train/d_loss": 1.0})
    two.follow()
    assert two.open[run.spec.id].state == "RUNNING"
    assert two.open[run.spec.id].values == {"train/d_loss": 1.0}
    (run.folder / "final.safetensors").write_bytes(b"weights")
    book.end("FINISHED")
    two.follow()  # its end is recorded, and its claim is held
    assert two.open[run.spec.id].state == "RUNNING"
    claim.release()
    two.follow()
    assert run.spec.id not in two.open
    assert changed[-1] == "FINISHED"
    three = grid(runs)
    assert ids(three.claim(1)) == [runs[1].spec.id]
    assert run.spec.id not in three.open


def test_a_run_that_ends_while_it_is_queued_is_over(runs: list[Progress]) -> None:
    """Its launcher was killed and started again: it found the run unfinished, and then claimed."""
    claim = claim_run(runs[0].folder)
    book = Journal(runs[0].folder, claim)
    book.start(FACTS)
    changed: list[str] = []
    follower = grid(runs, changed=lambda run: changed.append(run.state.value),
                    begun={runs[0].spec.id: claim.attempt})
    (runs[0].folder / "final.safetensors").write_bytes(b"weights")
    book.end("FINISHED")
    claim.release()
    follower.follow()
    assert runs[0].spec.id not in follower.open
    assert len(follower.open) == len(runs) - 1
    assert changed == ["FINISHED"]


def end(run: Progress, how: Release) -> None:
    claim = claim_run(run.folder)
    with closing(Journal(run.folder, claim)) as book:
        book.start(FACTS)
    claim.release(how)


def test_a_run_that_failed_in_this_study_is_left_by_all(runs: list[Progress]) -> None:
    end(runs[0], Release.FAILED)
    assert runs[0].spec.id in ids(grid(runs, begun={runs[0].spec.id: 1}).claim(1))
    free = grid(runs)
    end(runs[1], Release.FAILED)
    assert ids(free.claim(1)) == [runs[2].spec.id]
    assert runs[1].spec.id not in free.open


def test_a_run_that_was_killed_too_often_is_left_by_all(runs: list[Progress]) -> None:
    for number in range(4):
        (run, claim), *_ = taken = grid(runs, begun={}).claim(1)
        claim.release(Release.DONE)
        assert (run.spec.id == runs[0].spec.id) == (number < 3), number
        if number < 3:
            end(runs[0], Release.KILLED)
        assert len(taken) == 1


def test_a_run_stays_on_the_kind_of_machine_that_it_began_on(runs: list[Progress]) -> None:
    end(runs[0], Release.DONE)  # without a checkpoint it may begin again anywhere
    here, other = grid(runs, HERE), grid(runs, OTHER)
    assert other._other_kind(other.open[runs[0].spec.id]) == ""
    (runs[0].folder / CHECKPOINTS[0]).touch()
    assert other._other_kind(other.open[runs[0].spec.id]) == kind_of(FACTS)
    assert here._other_kind(here.open[runs[0].spec.id]) == ""
    taken = other.claim(1)
    assert ids(taken) == [runs[1].spec.id]
    assert other.unfit == {runs[0].spec.id: "some CPU (float32, 1 threads)"}
    assert ids(grid(runs, None).claim(1)) == [runs[0].spec.id]


def test_the_runs_of_a_seed_stay_on_one_kind_of_machine(runs: list[Progress]) -> None:
    """Of (plain 0, plain 1, saturating 0, saturating 1)."""
    here, other = grid(runs, HERE), grid(runs, OTHER)
    first, second = here.claim(1), other.claim(1)
    assert (ids(first), ids(second)) == ([runs[0].spec.id], [runs[1].spec.id])
    state = claims.newest_claim(runs[0].folder)
    assert state is not None
    assert json.loads((runs[0].folder / "attempt.1").read_text().splitlines()[0])[
        "hardware"] == kind_of(HERE)
    assert ids(here.claim(9)) == [runs[2].spec.id]
    assert here.unfit == {runs[3].spec.id: "NVIDIA A100 (float32, 1 threads)"}
    assert ids(other.claim(9)) == [runs[3].spec.id]
    for _, claim in [*first, *second]:
        claim.release()


def test_a_seed_that_has_steps_on_a_kind_of_machine_stays_there(runs: list[Progress]) -> None:
    """Also when the command is repeated, which begins a new study."""
    claim = claim_run(runs[0].folder, hardware=kind_of(HERE))
    with closing(Journal(runs[0].folder, claim)) as book:
        book.start(FACTS)
    claim.release()
    (runs[0].folder / CHECKPOINTS[0]).touch()
    other = grid(runs, OTHER, begun={runs[0].spec.id: claim.attempt})
    taken = other.claim(9)
    assert ids(taken) == [runs[1].spec.id, runs[3].spec.id]
    assert set(other.unfit) == {runs[0].spec.id, runs[2].spec.id}
    for _, claim in taken:
        claim.release()


def test_a_claim_that_has_trained_nothing_holds_no_seed(runs: list[Progress]) -> None:
    _, other = runs[0], grid(runs[2:3], OTHER)
    (_, claim), = other.claim(1)
    here = grid(runs, HERE)
    first = here.claim(1)
    assert ids(first) == [runs[1].spec.id]  # seed 0 may soon have steps elsewhere
    claim.release()
    rest = here.claim(9)
    assert ids(rest) == [runs[0].spec.id, runs[2].spec.id, runs[3].spec.id]
    for _, claim in (*first, *rest):
        claim.release()


def test_a_run_that_takes_its_worker_down_each_time_is_left(
        runs: list[Progress], monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel ends all processes of a job: nobody is left to say that a run was killed."""
    monkeypatch.setattr(claims.Watch, "is_lost", lambda *_: True)  # watched for long enough
    ended: list[str] = []
    for number in range(12):
        mine = grid(runs[:1], changed=lambda run: ended.append(f"{run.state}: {run.why}"))
        taken = mine.claim(1)
        assert len(taken) == (number < 11), number
        for run, claim in taken:
            with closing(Journal(run.folder, claim)) as book:
                book.start(FACTS)
            claims._beater.remove(claim)  # its process is gone, without a release
    assert set(ended[:-1]) == {"WAITING: "}
    assert ended[-1] == "KILLED: its process was lost too often, with its worker"
    (runs[0].folder / "checkpoint.11.pt").touch()  # it has got on: its machines were to blame
    (_, claim), = grid(runs[:1]).claim(1)
    claim.release()


def test_a_claim_is_given_back_if_the_run_cannot_be_followed(
        runs: list[Progress], monkeypatch: pytest.MonkeyPatch) -> None:
    mine = grid(runs)

    def fail(*_: object) -> str:
        calls.append(1)
        if len(calls) == 2:
            raise UserError("line 3 is damaged")
        return ""

    calls: list[int] = []
    monkeypatch.setattr(mine, "_other_kind", fail)
    with pytest.raises(UserError, match="line 3"):
        mine.claim(1)
    assert claims.holder_of(runs[0].folder) is None
    (run, claim), = mine.claim(1)
    assert run.spec.id == runs[0].spec.id
    claim.release()


def unreadable(patched: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the newest claim of a folder be one that cannot be read."""
    state, newest = claims.ClaimState(1, None, "", 0, "Input/output error"), claims.newest_claim

    def state_of(of: Path, name: str = claims.ATTEMPT) -> claims.ClaimState | None:
        return state if of == folder else newest(of, name)

    for module in ("gan_bench.launcher.grid", "gan_bench.journal.sharing.claims"):
        patched.setattr(f"{module}.newest_claim", state_of)


def crew(mine: Grid, slots: int, said: list[str]) -> Crew:
    """A crew that can claim nothing, and so starts no process."""
    nothing: Any = None
    reporter = PlainLines(Console())
    reporter.say = said.append  # type: ignore[method-assign]
    return Crew(mine, nothing, Slots(slots, 0, 1), nothing, reporter, lambda folder: None)


def test_a_claim_that_cannot_be_read_is_a_line_and_nobody_waits_for_it(
        runs: list[Progress], monkeypatch: pytest.MonkeyPatch) -> None:
    mine, first = grid(runs), runs[0]
    with monkeypatch.context() as patched:
        unreadable(patched, first.folder)
        (other, claim), = mine.claim(1)
        assert other.spec.id == runs[1].spec.id
        line = f"{first.folder}/attempt.1: cannot be read (Input/output error), so nobody can tell "
        assert mine.blocked[first.spec.id].startswith(line)
        assert waiting_line(mine) == mine.blocked[first.spec.id]
        mine.follow()
        assert mine.elsewhere == {}
        assert mine.open[first.spec.id].state == "WAITING"
    claim.release()
    (run, claim), = mine.claim(1)  # it can be read again
    assert (run.spec.id, mine.blocked) == (first.spec.id, {})
    claim.release()


def test_a_run_that_was_blocked_and_fits_no_more_is_counted_once(
        runs: list[Progress], monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice, it would hide that another run is free, or that nothing is left to do here."""
    mine = grid(runs[:1], OTHER)
    with monkeypatch.context() as patched:
        unreadable(patched, runs[0].folder)
        assert mine.claim(1) == []
        assert (set(mine.blocked), mine.unfit) == ({runs[0].spec.id}, {})
    end(runs[0], Release.DONE)
    (runs[0].folder / CHECKPOINTS[0]).touch()
    assert mine.claim(1) == []
    assert (mine.blocked, set(mine.unfit)) == ({}, {runs[0].spec.id})
    assert crew(mine, 1, []).work() == ""


def test_a_free_run_beside_one_that_waits_twice_is_not_forgotten(runs: list[Progress]) -> None:
    mine, name = grid(runs[:2]), runs[0].spec.id
    hands = crew(mine, 1, [])
    for why in (mine.unfit, mine.blocked):
        why[name] = "of another kind, or unreadable"
    assert hands._is_whole()
    assert not hands._is_over()
    del mine.open[runs[1].spec.id]
    assert not hands._is_whole()
    assert hands._is_over()


def test_nobody_waits_for_a_holder_whose_claim_cannot_be_read_any_more(
        runs: list[Progress], monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a launcher without slots, which never claims, names it."""
    (_, claim), = grid(runs[:1]).claim(1)
    name = runs[0].spec.id
    claimer, follower = grid(runs[:1]), grid(runs[:1])
    for mine in (claimer, follower):
        mine.follow()
        assert set(mine.elsewhere) == {name}
    said: list[str] = []
    with monkeypatch.context() as patched:
        unreadable(patched, runs[0].folder)
        assert claimer.claim(1) == []
        assert (claimer.elsewhere, set(claimer.blocked)) == ({}, {name})
        assert crew(follower, 0, said).work() == ""
        assert (follower.elsewhere, set(follower.blocked)) == ({}, {name})
    assert said == [f"{follower.blocked[name]}; other runs go on"]
    assert "cannot be read (Input/output error)" in said[0]
    follower.follow()
    assert (set(follower.elsewhere), follower.blocked) == ({name}, {})
    claim.release()
