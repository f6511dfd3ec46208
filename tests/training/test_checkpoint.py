"""Checkpoints, and runs that go on from them: the same bits, or a clear refusal."""

from __future__ import annotations

import json
import math
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.checkpoints import left, stop_after
from helpers.runs import a_run
from torch import nn

from gan_bench.atomic import replacing
from gan_bench.cli.planning import plan
from gan_bench.cli.running.evaluate import evaluate
from gan_bench.components.models import Networks
from gan_bench.config.declared import Declared
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.errors import UserError
from gan_bench.evaluation.measurement import Wanted
from gan_bench.journal import drift, reading, writing
from gan_bench.journal.layout import (
    SNAPSHOTS,
    WEIGHTS,
    Workspace,
    checkpoint_names,
    remove_checkpoints,
    snapshot_steps,
)
from gan_bench.journal.sharing.claims import SupersededError
from gan_bench.journal.status import Outcome, Progress, state_of
from gan_bench.registry import MODELS, ModelFacts
from gan_bench.training import checkpoint, single_run
from gan_bench.training.checkpoint import BEFORE, FILE, Cadence, Checkpoint
from gan_bench.training.run import prepare, run_one

SMALL = Checkpoint(7, 123, {"device": "cpu"}, {"w": torch.arange(3.0), "nested": {"n": [1, None]}})
STEPS = ("base.steps=12", "evaluate.every=4", "base.sample_every=3")


def train(spec: RunSpec, root: Path, steps: int | None = None, **more: object) -> Outcome:
    """Train a run; if `steps` is given, stop it after so many."""
    stop = stop_after(steps) if steps else lambda: False
    return run_one(spec, root, root, stop=stop, **more)  # type: ignore[arg-type]


def ready(folder: Path, *overrides: str) -> RunSpec:
    """Return a run, all that it needs prepared in the folder."""
    spec = a_run(folder, *STEPS, *overrides)
    prepare(ExperimentSpec(name="tiny", declared=Declared(baseline="plain"), runs=(spec,)), folder,
            folder, lambda line: None)
    return spec


def test_what_lost_attempts_have_begun_to_write_goes_when_the_run_has_ended(tmp_path: Path) -> None:
    """On another machine, whose processes cannot be seen from here."""
    spec = ready(tmp_path)
    left = [spec.write(tmp_path) / name for name in (
        ".final.safetensors.0a1b2c3d-71.tmp", "samples/.step-0000003.png.0a1b2c3d-71.tmp")]
    left[1].parent.mkdir()
    for file in left:
        file.touch()
    train(spec, tmp_path, 3)
    assert all(file.exists() for file in left)
    assert train(spec, tmp_path).status == "FINISHED"
    assert not any(file.exists() for file in left)


def test_what_others_write_while_a_run_ends_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  ) -> None:
    """The mirror and commands that prepare hold no claim, and the next holder may begin at once."""
    spec, release = ready(tmp_path), writing.Journal.end
    mirrored, specified, measured = (spec.write(tmp_path) / name for name in (
        ".mirror.json.0a1b2c3d-71.tmp", ".spec.json.0a1b2c3d-71.tmp",
        "samples/.step-0000012.png.0a1b2c3d-71.tmp"))
    for file in (mirrored, specified):
        file.touch()

    def end(self: writing.Journal, *args: Any) -> None:
        release(self, *args)
        measured.touch()  # by a process that measures

    monkeypatch.setattr(writing.Journal, "end", end)
    assert train(spec, tmp_path).status == "FINISHED"
    assert all(file.exists() for file in (mirrored, specified, measured))


def test_an_attempt_whose_files_its_successor_removes_ends_as_superseded(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, ended = ready(tmp_path), []

    def save(engine: object, folder: Path) -> str:
        (folder / "attempt.2").touch()
        with replacing(folder / WEIGHTS) as temporary:
            temporary.unlink()
        return ""

    def note(*values: Any) -> Outcome:
        ended.append(Outcome(*values))
        return ended[-1]

    monkeypatch.setattr(single_run, "save_weights", save)
    monkeypatch.setattr(single_run, "Outcome", note)
    with pytest.raises(SupersededError, match="another process has taken over"):
        train(spec, tmp_path)
    assert ended[-1].status == "KILLED"
    assert "taken over" in ended[-1].why


def test_a_lease_that_is_no_number_is_refused_before_anything_is_written(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the thread that shows signs of life would end, and others would take the run over."""
    spec = a_run(tmp_path, *STEPS)
    monkeypatch.setenv("GAN_BENCH_LEASE", "soon")
    with pytest.raises(UserError, match="GAN_BENCH_LEASE=soon: is no number of seconds from 1 to"):
        run_one(spec, tmp_path / "root", tmp_path)
    assert not (tmp_path / "root").exists()


def killed(spec: RunSpec, root: Path, step: int, more: int) -> None:
    """Leave a run as SIGKILL does so many steps after it has written the checkpoint of `step`."""
    file = spec.folder(root) / FILE
    train(spec, root, step)
    saved = file.read_bytes()
    train(spec, root, more)
    file.write_bytes(saved)


@pytest.fixture
def undisturbed(tmp_path: Path) -> dict[str, object]:
    """What the run leaves that nobody stops."""
    folder = tmp_path / "undisturbed"
    folder.mkdir()
    spec = ready(folder)
    assert train(spec, folder).status == "FINISHED"
    return left(spec.folder(folder))


def test_what_is_written_is_read(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, SMALL)
    found = checkpoint.read(tmp_path / FILE)
    assert (found.step, found.position, found.facts) == (7, 123, {"device": "cpu"})
    assert torch.equal(found.engine["w"], torch.arange(3.0))
    assert found.engine["nested"] == {"n": [1, None]}
    assert torch.load(tmp_path / FILE, weights_only=True)["step"] == 7  # as anyone would read it
    assert sorted(os.listdir(tmp_path)) == [FILE]


def test_the_one_before_is_kept_and_no_more(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.write(tmp_path, replace(SMALL, step=step))
    assert [checkpoint.read(tmp_path / name).step for name in (FILE, BEFORE)] == [3, 2]
    assert sorted(os.listdir(tmp_path)) == [BEFORE, FILE]
    remove_checkpoints(tmp_path, 1)
    assert os.listdir(tmp_path) == []


def test_what_a_killed_attempt_has_begun_to_write_goes_with_the_checkpoints(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, SMALL, 2)  # of an attempt that took over
    left = [f".{name}{writer}.tmp" for segment in (1, 2, 3) for name in checkpoint_names(segment)
            for writer in ("", ".0a1b2c3d-71")]
    others = [".checkpoint.x.pt.tmp", ".spec.json.tmp", ".spec.json.0a1b2c3d-71.tmp"]
    for name in [*left, *others]:
        (tmp_path / name).touch()
    remove_checkpoints(tmp_path, 3, "last")
    assert sorted(os.listdir(tmp_path)) == sorted([*others, checkpoint_names(2)[0]])


def damage(file: Path, how: str) -> None:
    """Do to a file what disks and people do."""
    content = bytearray(file.read_bytes())
    if how == "empty":
        content.clear()
    elif how == "truncated":
        del content[len(content) // 2 :]
    elif how == "bit":
        content[len(content) // 2] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("how", ["empty", "truncated", "bit"])
def test_a_damaged_file_is_not_used(tmp_path: Path, how: str) -> None:
    checkpoint.write(tmp_path, replace(SMALL, step=1))
    checkpoint.write(tmp_path, replace(SMALL, step=2))
    lines(tmp_path)
    damage(tmp_path / FILE, how)
    with pytest.raises(UserError, match=r"checkpoint\.pt is damaged"):
        checkpoint.read(tmp_path / FILE)
    found, problems = checkpoint.newest(tmp_path, 20)
    assert found is not None
    assert found.step == 1
    assert len(problems) == 1
    assert "checkpoint.pt is damaged" in problems[0]
    damage(tmp_path / BEFORE, how)
    found, problems = checkpoint.newest(tmp_path, 20)
    assert (found, len(problems)) == (None, 2)


def lines(folder: Path) -> None:
    """Leave two lines of 100 and 23 bytes in the place of a journal."""
    (folder / reading.FILE).write_bytes(b"a" * 99 + b"\n" + b"b" * 22 + b"\n")


@pytest.mark.parametrize(("change", "words"), [
    ({"position": 124}, "does not belong to the journal in its folder"),
    ({"position": 101}, "does not belong to the journal in its folder"),
    ({"step": 21}, "is of step 21, but the run has only 20 steps"),
])
def test_one_that_does_not_fit_its_run_is_not_used(
        tmp_path: Path, change: dict[str, int], words: str) -> None:
    """It knows of more than the journal holds, or of half a line, or of more than the run is."""
    lines(tmp_path)
    checkpoint.write(tmp_path, replace(SMALL, position=100, step=19))
    assert checkpoint.newest(tmp_path, 20)[1] == []
    checkpoint.write(tmp_path, replace(SMALL, **change))  # type: ignore[arg-type]
    found, problems = checkpoint.newest(tmp_path, 20)
    assert found is not None
    assert (found.position, problems) == (100, [f"{tmp_path / FILE} {words}"])


def test_one_of_the_last_step_leaves_nothing_to_resume(tmp_path: Path) -> None:
    """Written by a run that was killed before it recorded its end: the previous one is used."""
    lines(tmp_path)
    checkpoint.write(tmp_path, replace(SMALL, position=100, step=19))
    checkpoint.write(tmp_path, replace(SMALL, position=123, step=20))
    found, problems = checkpoint.newest(tmp_path, 20)
    assert found is not None
    assert (found.step, problems) == (19, [])
    longer, _ = checkpoint.newest(tmp_path, 21)
    assert longer is not None
    assert longer.step == 20


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    """A file with the right checksum whose pickle would run a command."""
    import hashlib

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {tmp_path}/run",)

    content = pickle.dumps(Evil())
    (tmp_path / FILE).write_bytes(content + hashlib.sha256(content).digest())
    with pytest.raises(UserError, match="not a checkpoint of this version"):
        checkpoint.read(tmp_path / FILE)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("change", [
    {"step": "7"}, {"step": -1}, {"step": True}, {"position": None}, {"position": 1.5},
    {"facts": []}, {"facts": {"versions": 3}}, {"engine": [1]}, {"more": 1}, None,
])
def test_one_that_somebody_else_has_made_is_not_used(
        tmp_path: Path, change: dict[str, object] | None) -> None:
    """Its checksum is right, for anyone can make that."""
    import hashlib
    import io

    buffer = io.BytesIO()
    values = {"step": 7, "position": 0, "facts": {}, "engine": {}}
    torch.save([1, 2] if change is None else {**values, **change}, buffer)
    content = buffer.getvalue()
    (tmp_path / FILE).write_bytes(content + hashlib.sha256(content).digest())
    found, problems = checkpoint.newest(tmp_path, 20)
    assert found is None
    assert len(problems) == 1
    assert "checkpoint.pt is not a checkpoint of this version: " in problems[0]


@pytest.mark.parametrize("change", [
    lambda engine, other: other, lambda engine, other: {},
    lambda engine, other: {**engine, "generator": [1]},
    lambda engine, other: {**engine, "discriminator": None},
    lambda engine, other: {**engine, "generator_optimizer": {"state": 3, "param_groups": []}},
    lambda engine, other: {**engine, "first_bad": "x"},
], ids=["wider", "empty", "a list", "none", "optimizer", "first_bad"])
def test_one_of_other_networks_is_one_line(
        tmp_path: Path, change: Callable[[object, object], object]) -> None:
    from gan_bench.training.step.engine import Engine

    spec = ready(tmp_path)
    train(spec, tmp_path, 4)
    folder = spec.folder(tmp_path)
    found = checkpoint.read(folder / FILE)
    other = Engine(a_run(tmp_path, "base.model.width=24"), "cpu").state()
    checkpoint.write(folder, replace(found, engine=change(found.engine, other)))  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"its checkpoint does not fit its networks.*delete") as why:
        train(spec, tmp_path)
    assert "\n" not in str(why.value)


def test_checkpoints_cost_at_most_one_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    cadence = Cadence()
    for now, due in ((29.9, False), (30.0, True)):
        clock[0] = now
        assert cadence.due() is due
    cadence.taken(0.2)  # 30 s are enough for that
    for now, due in ((59.9, False), (60.0, True)):
        clock[0] = now
        assert cadence.due() is due
    cadence.taken(2.0)
    for now, due in ((259.9, False), (260.0, True)):
        clock[0] = now
        assert cadence.due() is due
    often = Cadence(0.5)
    often.taken(100.0)
    clock[0] += 0.5
    assert often.due()


@pytest.mark.parametrize("overrides", [
    (),
    ("base.augmentation=[flip, {name: ada, kimg: 0.2}]", "base.penalties=[r1]"),
    ("base.ema=0.9", "base.d_steps=2", "base.order=g_first", "base.share_fakes=true"),
    ("base.model={name: dcgan, width: 8}",),
    ("base.model={name: dcgan_upsample, width: 8}", "base.d_optimizer=rmsprop"),
    ("base.g_optimizer={name: sgd, momentum: 0.9}",
     "base.d_optimizer={name: adam, weight_decay: 0.1, schedule: cosine}"),
], ids=["plain", "augmentation", "ema, two D steps, G first, shared", "batch norm",
        "dropout, rmsprop", "sgd"])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    """Stopped twice, at steps on and off the cadence of the records."""
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    for folder in (whole, parts):
        folder.mkdir()
        spec = ready(folder, *overrides)
    assert train(spec, whole).status == "FINISHED"
    for steps in (4, 3):
        outcome = train(spec, parts, steps)
        assert (outcome.status, outcome.why) == ("KILLED", "stopped by the user")
    assert state_of(spec, parts) == ("KILLED", 6)
    assert checkpoint.read(spec.folder(parts) / FILE).step == 7
    assert train(spec, parts).status == "FINISHED"
    assert left(spec.folder(parts)) == left(spec.folder(whole))
    records, _ = reading.read_records(spec.folder(parts))
    resumes = [record["step"] for record in records if record["kind"] == "resume"]
    assert resumes == [4, 7]


def test_what_was_recorded_after_the_checkpoint_is_not_recorded_again(
        tmp_path: Path, undisturbed: dict[str, object]) -> None:
    """Killed at step 9 with a checkpoint of step 4: the lines in between keep their times."""
    spec = ready(tmp_path)
    folder = spec.folder(tmp_path)
    killed(spec, tmp_path, 4, 5)
    before = (folder / reading.FILE).read_bytes()
    (folder / reading.FILE).write_bytes(before + b'{"t": 1, "kind": "metr')  # torn
    train(spec, tmp_path)
    assert (folder / reading.FILE).read_bytes().startswith(before)
    assert left(folder) == undisturbed


def test_killed_again_before_it_is_where_it_was(
        tmp_path: Path, undisturbed: dict[str, object]) -> None:
    """Records up to step 9, gone on from step 4, stopped at 6: its checkpoint is of step 6."""
    spec = ready(tmp_path)
    folder = spec.folder(tmp_path)
    killed(spec, tmp_path, 4, 5)
    train(spec, tmp_path, 2)
    found = checkpoint.read(folder / FILE)
    before = (folder / reading.FILE).read_bytes()[: found.position]
    assert (found.step, json.loads(before.splitlines()[-1])["step"]) == (6, 6)
    train(spec, tmp_path)
    assert left(folder) == undisturbed


@pytest.mark.parametrize("how", ["empty", "truncated", "bit"])
def test_a_damaged_checkpoint_costs_time_and_no_bit(
        tmp_path: Path, undisturbed: dict[str, object], how: str) -> None:
    spec = ready(tmp_path)
    folder = spec.folder(tmp_path)
    train(spec, tmp_path, 4, checkpoint_every=0)
    damage(folder / FILE, how)
    train(spec, tmp_path, 2, checkpoint_every=0)  # from step 3 to 5
    progress = Progress(spec, folder)
    progress.follow()
    assert "resumes after step 3" in progress.notes[0]
    assert "checkpoint.pt is damaged" in progress.notes[0]
    for name in (FILE, BEFORE):
        damage(folder / name, how)
    assert train(spec, tmp_path).status == "FINISHED"
    progress.follow()
    assert progress.notes[1].startswith("begins again (")
    assert progress.notes[1].count("is damaged") == 2
    assert left(folder) == undisturbed


def test_a_run_without_a_checkpoint_says_why_it_begins_again(tmp_path: Path) -> None:
    spec = ready(tmp_path)
    train(spec, tmp_path, 2, checkpoint_every=0)
    for name in (FILE, BEFORE):
        (spec.folder(tmp_path) / name).unlink(missing_ok=True)
    train(spec, tmp_path)
    progress = Progress(spec, spec.folder(tmp_path))
    progress.follow()
    assert progress.notes == ["begins again: it had no checkpoint yet"]


def test_another_torch_is_refused_or_recorded(tmp_path: Path) -> None:
    spec = ready(tmp_path)
    folder = spec.folder(tmp_path)
    train(spec, tmp_path, 4)
    found = checkpoint.read(folder / FILE)
    versions = {**found.facts["versions"], "torch": "0.0.1"}
    checkpoint.write(folder, replace(found, facts={**found.facts, "versions": versions}))
    here = drift.versions()["torch"]
    with pytest.raises(UserError, match=r"torch 0\.0\.1 and now \d.*--allow-drift.*or delete"):
        train(spec, tmp_path)
    outcome = train(spec, tmp_path, 20, allow_drift=True)
    assert outcome.status == "FINISHED"
    records = reading.read_records(folder)[0]
    (resume,) = [r for r in records if r["kind"] == "resume"]
    assert (resume["drift"], resume["void"]) == ({"torch": ["0.0.1", here]}, True)
    steps = [r["step"] for r in reading.valid(records) if r["kind"] == "metrics"]
    assert steps == sorted(steps)
    assert [r["step"] for r in reading.valid(records) if "train/d_loss" in r.get("values", ())] == [
        2, 4, 6, 8, 10, 12]


@pytest.mark.parametrize(("again", "kept"), [("resumed", {4, 6, 12}), ("begun anew", {6, 12}),
                                             ("repeated", {4, 8, 12})])
def test_no_networks_of_a_void_attempt_stay(tmp_path: Path, again: str, kept: set[int]) -> None:
    """Later they would be measured as the run's curve."""
    spec = ready(tmp_path, "evaluate.snapshots=true")
    folder = spec.folder(tmp_path)
    killed(spec, tmp_path, 5, 4)
    assert snapshot_steps(folder) == {4, 8}
    if again == "begun anew":
        for name in (FILE, BEFORE):
            (folder / name).unlink(missing_ok=True)
    if again != "repeated":
        spec = ready(tmp_path, "evaluate.snapshots=true", "evaluate.every=6")
    assert train(spec, tmp_path, allow_drift=again != "repeated").status == "FINISHED"
    assert snapshot_steps(folder) == kept


def test_no_networks_of_another_folder_are_deleted(tmp_path: Path) -> None:
    spec = ready(tmp_path, "evaluate.snapshots=true")
    folder = spec.folder(tmp_path)
    killed(spec, tmp_path, 5, 4)
    elsewhere = (folder / SNAPSHOTS).rename(tmp_path / "elsewhere")
    (folder / SNAPSHOTS).symlink_to(elsewhere)
    with pytest.raises(UserError, match="snapshots: is a link; remove it"):
        train(spec, tmp_path, allow_drift=True)
    assert len(list(elsewhere.iterdir())) == 2


def test_the_launcher_hears_of_drift_before_anything_is_trained(tmp_path: Path) -> None:
    spec = ready(tmp_path)
    folder = spec.folder(tmp_path)
    train(spec, tmp_path, 4)
    found = checkpoint.read(folder / FILE)
    checkpoint.write(folder, replace(found, facts={**found.facts, "device_name": "another"}))
    text = (folder / reading.FILE).read_text()
    name = json.dumps(found.facts["device_name"])
    (folder / reading.FILE).write_text(text.replace(name, '"another"'.ljust(len(name)), 1))
    with pytest.raises(UserError, match="device_name another and now"):
        ready(tmp_path)
    experiment = ExperimentSpec(name="tiny", declared=Declared(baseline="plain"), runs=(spec,))
    prepare(experiment, tmp_path, tmp_path, lambda line: None, allow_drift=True)


def test_a_run_that_does_not_repeat_itself_is_refused(tmp_path: Path) -> None:
    """As if the code had been changed between two attempts."""
    spec = ready(tmp_path)
    folder = spec.folder(tmp_path)
    killed(spec, tmp_path, 4, 4)
    lines = (folder / reading.FILE).read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if '"step": 6' in line and "train/d_loss" in line)
    record = json.loads(lines[at])
    record["values"]["train/g_loss"] += 1e-9
    lines[at] = json.dumps(record)
    (folder / reading.FILE).write_text("\n".join(lines) + "\n")
    with pytest.raises(UserError, match=r"does not repeat itself: at step 6 train/g_loss is"):
        train(spec, tmp_path)
    assert state_of(spec, tmp_path)[0] == "FAILED"
    assert train(spec, tmp_path, allow_drift=True).status == "FINISHED"


def test_finished_twice_is_finished_once(tmp_path: Path, undisturbed: dict[str, object]) -> None:
    """Killed between the journal's end and the deletion of checkpoints, or without its weights."""
    spec = ready(tmp_path)
    folder = spec.folder(tmp_path)
    killed(spec, tmp_path, 4, spec.steps)
    end = reading.last(folder)
    (folder / WEIGHTS).unlink()
    assert state_of(spec, tmp_path) == ("WAITING", 0)
    for _ in range(2):
        assert train(spec, tmp_path).status == "FINISHED"
        assert left(folder) == undisturbed
        assert reading.last(folder) == end  # when it ended first
        assert state_of(spec, tmp_path) == ("FINISHED", spec.steps)


def test_two_processes_do_not_write_one_run(tmp_path: Path) -> None:
    spec = ready(tmp_path)
    book = writing.Journal(spec.write(tmp_path))
    assert reading.is_open(spec.folder(tmp_path))
    assert state_of(spec, tmp_path) == ("RUNNING", 0)
    with pytest.raises(UserError, match=f"is being written by process {os.getpid()}; wait"):
        train(spec, tmp_path)
    book.close()
    assert not reading.is_open(spec.folder(tmp_path))
    assert train(spec, tmp_path).status == "FINISHED"


def test_a_checkpoint_scores_as_the_journal_says_of_its_step(tmp_path: Path) -> None:
    spec = ready(tmp_path, "base.ema=0.9")
    folder = spec.folder(tmp_path)
    train(spec, tmp_path, 8)
    wanted = Wanted(metrics=["nearest_train_mse"])
    report, _ = evaluate(str(folder / FILE), wanted, Workspace(tmp_path, tmp_path),
                         lambda line: None)
    (known,) = [r["values"]["eval/nearest_train_mse"] for r in reading.read_records(folder)[0]
                if r["step"] == 8 and "eval/nearest_train_mse" in r.get("values", {})]
    assert report.scores["nearest_train_mse"] == known
    assert report.protocols["nearest_train_mse"]["checkpoint"] == "step 8"
    with pytest.raises(UserError, match=r"has no final\.safe.* or name its checkpoint\.pt"):
        evaluate(spec.id, wanted, Workspace(tmp_path, tmp_path), lambda line: None)
    damage(folder / FILE, "bit")
    with pytest.raises(UserError, match="is damaged"):
        evaluate(str(folder / FILE), wanted, Workspace(tmp_path, tmp_path), lambda line: None)


def test_weights_that_the_run_did_not_end_with_are_not_measured(tmp_path: Path) -> None:
    spec = ready(tmp_path)
    train(spec, tmp_path)
    damage(spec.folder(tmp_path) / WEIGHTS, "bit")
    with pytest.raises(UserError, match="is not the file that the run ended with"):
        evaluate(spec.id, Wanted(), Workspace(tmp_path, tmp_path), lambda line: None)


def test_a_run_begun_anew_is_of_the_version_that_did_so(tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ready(tmp_path)
    study = ExperimentSpec(name="tiny", declared=Declared(baseline="plain"), runs=(spec,))
    with monkeypatch.context() as earlier:
        earlier.setattr(drift, "NUMERICS", drift.NUMERICS - 1)
        train(spec, tmp_path, 5)
    words = f"numerics {drift.NUMERICS - 1} and now {drift.NUMERICS}"
    assert plan.plan_records(study, tmp_path)[0]["made_by"] == words
    remove_checkpoints(spec.folder(tmp_path), 1)  # so that nothing of it is gone on with
    for steps in (5, None):  # the second time, from a checkpoint of its own
        train(spec, tmp_path, steps)
        assert plan.plan_records(study, tmp_path)[0]["made_by"] is None
    starts = [r for r in reading.read_records(spec.folder(tmp_path))[0] if r["kind"] == "start"]
    assert len(starts) == 2
    assert reading.began(spec.folder(tmp_path)) == starts[1]
    assert reading.first(spec.folder(tmp_path)) == starts[0]


def test_the_start_that_counts_is_the_last_whole_one(tmp_path: Path) -> None:
    assert reading.began(tmp_path) is None
    lines = ['{"t": 1, "kind": "start", "step": 0, "facts": {"n": 1}}\n',
             '{"t": 2, "kind": "resume", "step": 0, "note": "\\"kind\\": \\"start\\"", '
             '"drift": {}, "void": true}\n',
             '{"t": 3, "kind": "start", "step": 0, "facts": {"n": 2}}\n']
    for count, expected in ((1, 1), (2, 1), (3, 2)):
        (tmp_path / reading.FILE).write_text("".join(lines[:count]))
        found = reading.began(tmp_path)
        assert found is not None
        assert found["facts"] == {"n": expected}
        assert found["t"] == expected * 2 - 1
    (tmp_path / reading.FILE).write_text("".join(lines)[:-1])
    found = reading.began(tmp_path)
    assert found is not None
    assert found["facts"] == {"n": 1}
    (tmp_path / reading.FILE).write_text(lines[0][:-1])
    assert reading.began(tmp_path) is None


@pytest.mark.parametrize("noise", [nn.AlphaDropout(0.5), nn.Dropout1d(0.5), nn.RReLU()],
                         ids=lambda layer: type(layer).__name__)
def test_noise_of_any_layer_repeats_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                   noise: nn.Module) -> None:
    """A plug-in model may hold any layer that draws from torch's global state."""
    def noisy(shape: tuple[int, ...], *, latent_dim: int = 8) -> Networks:
        pixels = math.prod(shape)
        generator = nn.Sequential(nn.Linear(latent_dim, pixels), nn.Tanh(),
                                  nn.Unflatten(1, shape))
        discriminator = nn.Sequential(nn.Flatten(), nn.Linear(pixels, 16), noise,
                                      nn.Linear(16, 1), nn.Flatten(0))
        return Networks(generator, discriminator, "xavier")

    monkeypatch.setattr(MODELS, "_entries", dict(MODELS._entries))
    facts = ModelFacts(refuses=lambda shape, **arguments: None)
    MODELS.register("noisy", facts)(noisy)
    results = []
    for name, steps in (("whole", None), ("stopped", 3)):
        folder = tmp_path / name
        folder.mkdir()
        spec = ready(folder, "base.model={name: noisy}")
        if steps:
            assert train(spec, folder, steps).status == "KILLED"
            torch.rand(5)  # the process that resumes stands somewhere else
        assert train(spec, folder).status == "FINISHED"
        results.append(left(spec.folder(folder)))
    assert results[0] == results[1]
