"""A run with more steps continues from a shorter one, to the bits of a run from zero."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import left, stop_after
from helpers.runs import DIGITS, a_run, write_experiment

from gan_bench.cli.plan import plan_text
from gan_bench.components.optimizers import rate
from gan_bench.config.declared import Declared
from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.journal import reading
from gan_bench.journal.checkpoint_head import CheckpointHead, read_head
from gan_bench.journal.layout import (
    CHECKPOINTS,
    Execution,
    Workspace,
    snapshot_file,
    snapshot_steps,
)
from gan_bench.journal.schema import Record
from gan_bench.journal.shorter_runs import Beginning, beginnings
from gan_bench.journal.status import state_of
from gan_bench.journal.writing import Journal, settle_run
from gan_bench.registry import PENALTIES, SCHEDULES, Part
from gan_bench.report.study import load_results
from gan_bench.tracking.client import open_store
from gan_bench.tracking.mirror import Mirror
from gan_bench.training import checkpoint
from gan_bench.training.continuing import first_records
from gan_bench.training.loop import Training
from gan_bench.training.run import prepare, run_one, run_together
from gan_bench.training.step.engine import Engine

SHORT, LONG = 8, 14  # neither is a multiple of all the intervals below
EVERY = ("evaluate.every=4", "base.sample_every=3", "base.log_every=2")


def ready(folder: Path, steps: int, *overrides: str) -> RunSpec:
    """Return a run, all that it needs prepared in the folder."""
    spec = a_run(folder, *EVERY, f"base.steps={steps}", *overrides)
    prepare(ExperimentSpec(name="tiny", declared=Declared(baseline="plain"), runs=(spec,)), folder,
            folder, lambda line: None)
    return spec


def train(spec: RunSpec, root: Path, steps: int | None = None, **options: object) -> None:
    """Train a run to its end; if `steps` is given, stop it after so many."""
    stop = stop_after(steps) if steps else lambda: False
    outcome = run_one(spec, root, root, stop=stop, **options)  # type: ignore[arg-type]
    assert outcome.status == ("KILLED" if steps else "FINISHED")


def continued(spec: RunSpec, root: Path) -> list[tuple[str, int]]:
    """Return from which runs a run has continued, and from which steps."""
    records = reading.valid(reading.read_records(spec.folder(root))[0])
    return [(record["continues"], record["step"]) for record in records
            if record.get("continues")]


def place(folder: Path, name: str) -> Path:
    (folder / name).mkdir()
    return folder / name


def expect_equal(tmp_path: Path, *overrides: str, short: int = SHORT, long: int = LONG,
                 stop: int | None = None) -> None:
    """Train a run from zero, and one that continues; compare all that they leave."""
    whole, parts = place(tmp_path, "whole"), place(tmp_path, "parts")
    spec = ready(whole, long, *overrides)
    train(spec, whole)
    shorter = ready(parts, short, *overrides)
    train(shorter, parts, stop)
    spec = ready(parts, long, *overrides)
    train(spec, parts)
    assert continued(spec, parts) == [(shorter.id, stop or short)]
    assert left(spec.folder(parts)) == left(spec.folder(whole))


@pytest.mark.parametrize("overrides", [
    (),
    ("base.ema=0.9", "base.d_steps=2", "base.order=g_first", "base.share_fakes=true"),
    ("base.model={name: dcgan, width: 8}", "base.ema=0.9", "evaluate.snapshots=true"),
    ("base.model={name: dcgan_upsample, width: 8}", "base.d_optimizer=rmsprop"),
    ("base.g_optimizer={name: sgd, momentum: 0.9, schedule: step, decay_every: 3}",
     "base.d_optimizer={name: adam, schedule: plateau, decay_every: 2, decay_patience: 0}"),
], ids=["plain", "ema, two D steps, G first, shared", "batch norm, ema, snapshots",
        "dropout, rmsprop", "step and plateau"])
def test_continued_is_equal_to_the_bit(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    expect_equal(tmp_path, *overrides)


@pytest.mark.parametrize("final", [("evaluate.final_samples=60", "evaluate.latent_sets=2"), ()],
                         ids=["another measurement", "the same"])
@pytest.mark.parametrize("short", [7, 8, 9, 12])
def test_what_the_shorter_run_did_at_its_end_alone_is_left_out(
        tmp_path: Path, short: int, final: tuple[str, ...]) -> None:
    """Log, grid and measurement are due at step 12, none of them at 7, some at 8 and 9."""
    expect_equal(tmp_path, *final, short=short)


def test_a_killed_run_is_as_good_and_so_is_one_with_more_steps(tmp_path: Path) -> None:
    expect_equal(place(tmp_path, "a"), short=SHORT, stop=5)
    expect_equal(place(tmp_path, "b"), short=LONG + 6, stop=5)


def test_a_run_that_has_continued_is_continued(tmp_path: Path) -> None:
    whole, parts = place(tmp_path, "whole"), place(tmp_path, "parts")
    spec = ready(whole, 20)
    train(spec, whole)
    runs = [ready(parts, steps) for steps in (5, 11, 20)]
    for run in runs:
        train(run, parts)
    assert [continued(run, parts) for run in runs] == [[], [(runs[0].id, 5)], [(runs[1].id, 11)]]
    assert left(runs[2].folder(parts)) == left(spec.folder(whole))


def test_no_networks_of_an_attempt_stay_that_another_run_replaces(tmp_path: Path) -> None:
    spec = ready(tmp_path, LONG, "evaluate.snapshots=true", "evaluate.every=2")
    train(spec, tmp_path, 5)
    assert snapshot_steps(spec.folder(tmp_path)) == {2, 4}
    shorter, spec = (ready(tmp_path, steps, "evaluate.snapshots=true") for steps in (SHORT, LONG))
    train(shorter, tmp_path)
    train(spec, tmp_path)
    assert continued(spec, tmp_path) == [(shorter.id, SHORT)]
    assert snapshot_steps(spec.folder(tmp_path)) == {4, 8, 12}


def test_its_own_checkpoint_counts_if_it_is_further(tmp_path: Path) -> None:
    spec = ready(tmp_path, LONG)
    train(spec, tmp_path, 9)
    shorter = ready(tmp_path, SHORT)
    train(shorter, tmp_path)
    found = beginnings(spec.folder(tmp_path).parent, [spec])[spec.id]
    assert (found.predecessors, found.own, str(found)) == ((), 9, "")
    # As the launcher does if the process of a run that has continued is killed.
    execution = Execution(Workspace(tmp_path, tmp_path),
                          shorter_runs={spec.id: (shorter.folder(tmp_path),)})
    run_together([spec], execution, failed=lambda spec, error: pytest.fail(str(error)))
    assert state_of(spec, tmp_path) == ("FINISHED", LONG)
    assert continued(spec, tmp_path) == []
    other = ready(tmp_path, SHORT + 3)
    train(other, tmp_path, 1)  # from SHORT on, for `spec` is too far
    assert continued(other, tmp_path) == [(ready(tmp_path, SHORT).id, SHORT)]


@pytest.mark.parametrize("key", ["g_optimizer", "d_optimizer"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_a_schedule_over_the_whole_run_begins_at_zero_and_plan_names_its_line(
        tmp_path: Path, key: str, schedule: str) -> None:
    setting = f"base.{key}={{name: adam, schedule: {schedule}}}"
    shorter, spec = ready(tmp_path, SHORT, setting), ready(tmp_path, LONG, setting)
    train(shorter, tmp_path)
    lines = f"  {key}:\n    schedule: {schedule}\n  batch_size: 32"
    text = DIGITS.replace("  batch_size: 32", lines)
    file = write_experiment(tmp_path, text)
    study = load_experiment(file, tmp_path, [*EVERY, f"base.steps={LONG}", "seeds=[0]"])
    assert study.runs[0].id == spec.id
    shown = plan_text(study, tmp_path)
    assert (f"  {spec.id}: trains from zero: {file}:7:5: {key}.schedule: every step's learning "
            f"rate depends on the number of all steps, so {shorter.id} is of no use\n") in shown
    train(spec, tmp_path)
    assert continued(spec, tmp_path) == []


def test_noise_that_fades_over_the_run_begins_at_zero_and_plan_names_its_line(
        tmp_path: Path) -> None:
    setting = "base.penalties=[weight_clip, instance_noise]"
    shorter, spec = ready(tmp_path, SHORT, setting), ready(tmp_path, LONG, setting)
    train(shorter, tmp_path)
    lines = "  penalties: [weight_clip, instance_noise]\n  batch_size: 32"
    file = write_experiment(tmp_path, DIGITS.replace("  batch_size: 32", lines))
    study = load_experiment(file, tmp_path, [*EVERY, f"base.steps={LONG}", "seeds=[0]"])
    assert study.runs[0].id == spec.id
    shown = plan_text(study, tmp_path)
    assert (f"  {spec.id}: trains from zero: {file}:6:3: penalties: every step's noise or weight "
            f"of a penalty depends on the number of all steps, so {shorter.id} is of no "
            f"use\n") in shown
    train(spec, tmp_path)
    assert continued(spec, tmp_path) == []
    clipped = [ready(tmp_path, steps, "base.penalties=[weight_clip]") for steps in (SHORT, LONG)]
    for run in clipped:
        train(run, tmp_path)
    assert continued(clipped[1], tmp_path) == [(clipped[0].id, SHORT)]


def test_the_penalties_that_say_so_are_those_whose_noise_depends_on_the_progress() -> None:
    for name in PENALTIES.names():
        noise, x = PENALTIES.build(PENALTIES.parse(name)).noise, torch.ones(2, 3)
        begin, end = (noise and noise(x, torch.Generator().manual_seed(0), done)
                      for done in (0.0, 0.5))
        assert (begin is not None and not torch.equal(begin, end)) is (
            PENALTIES[name].facts.whole_run), name


def test_the_schedules_that_say_so_are_those_that_depend_on_the_number_of_steps() -> None:
    arguments = {"lr": 0.1, "decay_every": 3, "decay_factor": 0.5}
    for name, facts in SCHEDULES.items():
        part = Part(name="adam", args={**arguments, "schedule": name})
        short, long = ([rate(part, step, steps) for step in range(1, 9)] for steps in (8, 16))
        assert (short != long) is facts.whole_run, name


def test_another_torch_and_damage_are_reasons_to_begin_at_zero(tmp_path: Path) -> None:
    whole, parts = place(tmp_path, "whole"), place(tmp_path, "parts")
    spec = ready(whole, LONG)
    train(spec, whole)
    shorter, short = ready(parts, SHORT), ready(parts, 4)
    for run in (short, shorter):
        train(run, parts, keep_checkpoints="last")
    folder = shorter.folder(parts)
    saved = checkpoint.read(folder / checkpoint.FILE)
    versions = {**saved.facts["versions"], "torch": "0.0.1"}
    checkpoint.write(folder, replace(saved, facts={**saved.facts, "versions": versions}))
    found = beginnings(folder.parent, [spec])[spec.id]
    assert [predecessor.step for predecessor in found.predecessors] == [4]
    assert [line.partition(" and now")[0] for line in found.obstacles] == [
        f"{shorter.id} was trained with torch 0.0.1"]
    content = bytearray((short.folder(parts) / checkpoint.FILE).read_bytes())
    content[-1] ^= 1  # of the checksum, which `plan` does not compute
    (short.folder(parts) / checkpoint.FILE).write_bytes(content)
    train(ready(parts, LONG), parts)
    assert continued(spec, parts) == []
    notes = [record["note"] for record in reading.read_records(spec.folder(parts))[0]
             if record["kind"] == "resume"]
    assert len(notes) == 1
    assert notes[0].startswith(f"{short.id} cannot be continued from: ")
    assert notes[0].endswith("its checksum does not match its content")
    assert left(spec.folder(parts)) == left(spec.folder(whole))


def test_a_run_of_two_versions_is_not_continued(tmp_path: Path) -> None:
    """It went on with --allow-drift: its checkpoint is of this version, and its steps are not."""
    shorter, spec = ready(tmp_path, SHORT), ready(tmp_path, LONG)
    train(shorter, tmp_path, 3)
    folder = shorter.folder(tmp_path)
    saved = checkpoint.read(folder / checkpoint.FILE)
    versions = {**saved.facts["versions"], "torch": "0.0.1"}
    checkpoint.write(folder, replace(saved, facts={**saved.facts, "versions": versions}))
    train(shorter, tmp_path, allow_drift=True)
    train(spec, tmp_path)
    assert continued(spec, tmp_path) == []
    notes = [record["note"] for record in reading.read_records(spec.folder(tmp_path))[0]
             if record["kind"] == "resume"]
    assert notes == [f"{shorter.id} cannot be continued from: it was resumed with --allow-drift"]


def test_networks_of_changed_code_are_trained_from_zero(tmp_path: Path) -> None:
    """The part of the state that did fit leaves no trace."""
    whole, parts = place(tmp_path, "whole"), place(tmp_path, "parts")
    spec, shorter = ready(whole, LONG), ready(parts, SHORT)
    train(spec, whole)
    train(shorter, parts)
    folder = shorter.folder(parts)
    saved = checkpoint.read(folder / checkpoint.FILE)
    checkpoint.write(folder, replace(saved, engine={**saved.engine, "discriminator": {}}))
    train(ready(parts, LONG), parts)
    assert continued(spec, parts) == []
    assert left(spec.folder(parts)) == left(spec.folder(whole))


def test_a_finished_run_keeps_its_last_state_or_none(tmp_path: Path) -> None:
    spec = ready(tmp_path, SHORT)
    folder = spec.folder(tmp_path)
    train(spec, tmp_path, 5, checkpoint_every=0)
    assert all((folder / name).exists() for name in CHECKPOINTS)
    train(spec, tmp_path)
    assert [name for name in CHECKPOINTS if (folder / name).exists()] == [checkpoint.FILE]
    saved = checkpoint.read(folder / checkpoint.FILE)
    assert (saved.step, read_head(folder / checkpoint.FILE)) == (
        SHORT, CheckpointHead(SHORT, saved.facts))
    other = ready(tmp_path, SHORT + 1)
    train(other, tmp_path, keep_checkpoints="none")
    assert not any((other.folder(tmp_path) / name).exists() for name in CHECKPOINTS)
    longer = ready(tmp_path, LONG)
    found = beginnings(folder.parent, [longer])[longer.id]
    assert found.obstacles == (f"{other.id} keeps no checkpoint",)
    assert [predecessor.folder for predecessor in found.predecessors] == [folder]


def test_a_run_that_is_being_trained_is_not_touched(tmp_path: Path) -> None:
    shorter, spec = ready(tmp_path, SHORT), ready(tmp_path, LONG)
    train(shorter, tmp_path)
    with closing(Journal(shorter.folder(tmp_path))):
        found = beginnings(spec.folder(tmp_path).parent, [spec])[spec.id]
        assert found == Beginning((), (f"{shorter.id} is being trained",))
        assert str(found) == f"trains from zero: {shorter.id} is being trained"
    assert len(beginnings(spec.folder(tmp_path).parent, [spec])[spec.id].predecessors) == 1


def test_fewer_steps_than_trained_begin_at_the_furthest_state_before(tmp_path: Path) -> None:
    whole, parts = place(tmp_path, "whole"), place(tmp_path, "parts")
    spec = ready(whole, 10)
    train(spec, whole)
    short, longer = ready(parts, 4), ready(parts, LONG)
    train(short, parts)
    train(longer, parts)
    spec = ready(parts, 10)
    found = beginnings(spec.folder(parts).parent, [spec])[spec.id]
    assert found.obstacles == (f"{longer.id} has no state of step 10, only of 14",)
    train(spec, parts)
    assert continued(spec, parts) == [(short.id, 4)]
    assert left(spec.folder(parts)) == left(spec.folder(whole))


def killed_at(moment: str, spec: RunSpec, root: Path) -> None:
    """Train a run in a process that kills itself at a moment, as SIGKILL does."""
    def die(*arguments: object, **options: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    process = os.fork()
    if process == 0:
        try:
            if moment == "before its records":
                Journal.adopt = die  # type: ignore[method-assign,assignment]
            elif moment == "within its records":
                write = os.write
                os.write = lambda file, data: (  # type: ignore
                    write(file, data) if b'"kind"' not in data
                    else (write(file, data[:len(data) // 2]), die()))
            elif moment == "before its checkpoint":
                checkpoint.write = die  # type: ignore[assignment]
            else:
                Training.step = partialmethod(_die_at, Training.step, SHORT + 3)  # type: ignore
            train(spec, root)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


def _die_at(training: Training, step: Callable[[Training], bool], last: int) -> bool:
    if training.done == last:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(training)


@pytest.mark.parametrize("moment", ["before its records", "within its records",
                                    "before its checkpoint", "after three steps"])
def test_killed_while_it_continues_it_is_the_same_in_the_end(tmp_path: Path, moment: str) -> None:
    whole, parts = place(tmp_path, "whole"), place(tmp_path, "parts")
    spec = ready(whole, LONG)
    train(spec, whole)
    shorter = ready(parts, SHORT)
    train(shorter, parts)
    spec = ready(parts, LONG)
    killed_at(moment, spec, parts)
    assert not reading.is_open(spec.folder(parts))
    if moment in ("within its records", "before its checkpoint"):
        settle_run(spec.folder(parts), "KILLED", "by the next launcher")
    train(spec, parts)
    assert {*continued(spec, parts)} == {(shorter.id, SHORT)}
    assert left(spec.folder(parts)) == left(spec.folder(whole))
    starts = [record for record in reading.read_records(spec.folder(parts))[0]
              if record["kind"] == "start"]
    assert len(starts) == 1
    expect_moved(spec, shorter, parts)


def expect_moved(spec: RunSpec, shorter: RunSpec, root: Path) -> None:
    """The records of the first steps have the times of the shorter run, all moved alike."""
    records = reading.valid(reading.read_records(spec.folder(root))[0])
    first = records[:next(i for i, record in enumerate(records) if record.get("continues"))]
    assert [record["t"] for record in records] == sorted(record["t"] for record in records)
    assert len(first) > SHORT
    before = {record["t"] for record in reading.read_records(shorter.folder(root))[0]}
    assert {record["t"] - records[0]["moved"] for record in first} <= before


def move_back(folder: Path, days: int) -> list[Record]:
    """Let a run have been trained so many days before; return its records."""
    records = [{**record, "t": record["t"] - days * 86_400_000} for record, _ in reading.tail(
        folder, 0)]
    (folder / reading.FILE).write_text("".join(json.dumps(record) + "\n" for record in records))
    return records


def test_a_shorter_run_that_has_gone_on_since_then_is_adopted_anew(tmp_path: Path) -> None:
    """At the times of the killed attempt its later steps would be of tomorrow."""
    shorter, spec = ready(tmp_path, SHORT), ready(tmp_path, LONG)
    train(shorter, tmp_path, 5)
    move_back(shorter.folder(tmp_path), 3)
    killed_at("before its checkpoint", spec, tmp_path)
    train(shorter, tmp_path)
    train(spec, tmp_path)
    assert continued(spec, tmp_path) == [(shorter.id, SHORT)]
    expect_moved(spec, shorter, tmp_path)
    assert state_of(spec, tmp_path) == ("FINISHED", LONG)


def test_the_days_between_both_runs_are_no_time_of_training(tmp_path: Path) -> None:
    shorter, spec = ready(tmp_path, SHORT), ready(tmp_path, LONG)
    train(shorter, tmp_path)
    records = move_back(shorter.folder(tmp_path), 3)
    train(spec, tmp_path)
    assert continued(spec, tmp_path) == [(shorter.id, SHORT)]
    expect_moved(spec, shorter, tmp_path)
    results = load_results("tiny", root=tmp_path)
    whole, of_shorter = float(results.runs.loc[spec.id, "seconds"]), [
        record["t"] for record in records if record["kind"] != "end"]
    assert (of_shorter[-1] - of_shorter[0]) / 1000 <= whole < 3600
    seconds = results.history.query("run == @spec.id").groupby("step")["seconds"].min()
    assert seconds.is_monotonic_increasing
    assert 0 <= seconds.min() <= seconds.max() <= whole


@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_second_predecessor_doubles_no_point_in_mlflow(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_frozen: bool) -> None:
    """Nor does it if no time passes, so that the attempts begin in the same millisecond."""
    if is_frozen:
        monkeypatch.setattr("gan_bench.journal.writing.time.time_ns", lambda: 2 * 10**18)
    runs = [ready(tmp_path, steps) for steps in (4, 11, LONG)]
    spec, mirror = runs[2], Mirror(open_store(Workspace(tmp_path)))
    if not is_frozen:
        train(runs[0], tmp_path)
    killed_at("after three steps", spec, tmp_path)  # its checkpoint is the first one's
    mirror.sync(spec.folder(tmp_path))
    logged = [step for name, step in measurements(spec, tmp_path) if name == "train/g_loss"]
    assert logged == [2, 4, 6, 8, 10]
    train(runs[1], tmp_path)
    train(spec, tmp_path)
    mirror.sync(spec.folder(tmp_path))
    assert continued(spec, tmp_path) == [(runs[1].id, 11)]
    attempts = reading.attempts(reading.read_records(spec.folder(tmp_path))[0])
    assert len({*attempts}) == len(attempts) == 2
    client, named = mirror.store.client, f"tags.run_id = '{spec.id}'"
    experiment = client.get_experiment_by_name("tiny").experiment_id
    (run,) = client.search_runs([experiment], filter_string=named)
    for name, steps in (("train/g_loss", [2, 4, 6, 8, 10, 12, 14]),
                        ("eval/d_accuracy_real", [4, 8, 12, 14])):
        assert sorted(row.step for row in client.get_metric_history(
            run.info.run_id, name)) == steps


def test_scores_that_were_measured_otherwise_are_left_out(tmp_path: Path) -> None:
    spec = ready(tmp_path, SHORT)
    train(spec, tmp_path)
    records = [record for record, _ in reading.tail(spec.folder(tmp_path), 0)]
    (protocol,) = [record["protocol"] for record in records if record["kind"] == "protocol"]
    changed = {**protocol, "eval/d_accuracy_real": {"generated": 60}}
    kept = [first_records(records, SHORT, spec, each) for each in (protocol, changed)]
    names = [{name for record in some for name in record.get("values", ())
              if name.startswith("eval/")} for some in kept]
    assert names[0] - names[1] == {"eval/d_accuracy_real"}
    assert names[1] == {"eval/d_accuracy_fake", "eval/nearest_train_mse"}
    assert kept[1][1]["protocol"] == changed


def measurements(spec: RunSpec, root: Path) -> dict[tuple[str, int], float]:
    """Return the losses and scores of a run by name and step."""
    records = reading.valid(reading.read_records(spec.folder(root))[0])
    return {(name, record["step"]): value for record in records if record["kind"] == "metrics"
            for name, value in record["values"].items()}


@pytest.mark.parametrize("snapshots", [True, False])
def test_what_the_shorter_run_was_not_measured_by_is_measured_later(
        tmp_path: Path, snapshots: bool) -> None:
    """Another metric and a denser log: the losses of the first steps stay as they were logged."""
    whole, parts = place(tmp_path, "whole"), place(tmp_path, "parts")
    kept = f"evaluate.snapshots={str(snapshots).lower()}"
    others = (kept, "base.log_every=1", "evaluate.metrics=[d_accuracy, classes_covered]")
    shorter = ready(parts, SHORT, kept)
    train(shorter, parts)
    for folder in (whole, parts):
        spec = ready(folder, LONG, *others)
        train(spec, folder)
    assert continued(spec, parts) == [(shorter.id, SHORT)]
    assert read_end(spec, parts)["recording"] is None
    expected, before = measurements(spec, whole), measurements(spec, parts)
    assert {key: expected[key] for key in before} == before
    logged = [step for name, step in before if name == "train/d_loss"]
    assert logged == [2, 4, 6, 8, *range(9, 15)]
    execution = Execution(Workspace(parts, parts))
    run_together([spec], execution, failed=lambda spec, error: pytest.fail(str(error)))
    after = measurements(spec, parts)
    lacking = {(name, step) for name, step in expected.keys() - after.keys()}
    curve = set() if snapshots else {("eval/classes_covered", 4), ("eval/classes_covered", 8)}
    assert lacking == {key for key in expected if key[0].startswith("train/")
                       and key[1] in (1, 3, 5, 7)} | curve
    assert {key: expected[key] for key in after} == after
    assert read_end(spec, parts)["recording"] == spec.recording


def read_end(spec: RunSpec, root: Path) -> dict[str, object]:
    end = reading.last(spec.folder(root))
    assert end is not None
    assert end["kind"] == "end"
    return end


@pytest.mark.parametrize("overrides", [
    (), ("base.model={name: dcgan, width: 8}", "evaluate.final_samples=60",
         "evaluate.latent_sets=2")], ids=["plain", "batch norm, another measurement"])
def test_fewer_steps_take_the_networks_of_a_snapshot(
        tmp_path: Path, overrides: tuple[str, ...]) -> None:
    whole, parts = place(tmp_path, "whole"), place(tmp_path, "parts")
    overrides = ("evaluate.snapshots=true", *overrides)
    spec = ready(whole, SHORT, *overrides)
    train(spec, whole, keep_checkpoints="none")
    longer = ready(parts, LONG, *overrides)
    train(longer, parts)
    spec = ready(parts, SHORT, *overrides)
    found = beginnings(spec.folder(parts).parent, [spec])[spec.id]
    assert str(found) == f"takes the networks of step {SHORT} from {longer.id}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "step", None)  # no step is taken
        train(spec, parts)
    assert continued(spec, parts) == [(longer.id, SHORT)]
    assert left(spec.folder(parts)) == left(spec.folder(whole))
    assert read_head(longer.folder(parts) / checkpoint.FILE).step == LONG


@pytest.mark.parametrize("is_resumed", [True, False])
def test_a_snapshot_is_taken_of_a_run_that_was_measured_later(
        tmp_path: Path, is_resumed: bool) -> None:
    """The score of an early step is the last in its journal, and is taken over with the others."""
    whole, parts = place(tmp_path, "whole"), place(tmp_path, "parts")
    kept = "evaluate.snapshots=true"
    more = (kept, "evaluate.metrics=[d_accuracy, nearest_train_mse, classes_covered]")
    spec = ready(whole, SHORT, *more)
    train(spec, whole)
    train(ready(parts, LONG, kept), parts, 5 if is_resumed else None)
    longer = ready(parts, LONG, *more)
    if is_resumed:
        train(longer, parts)
    train(longer, parts)  # which measures what it lacks
    late = [record["step"] for record, _ in reading.tail(longer.folder(parts), 0)
            if "eval/classes_covered" in record.get("values", ())]
    assert late == ([8, 12, 14, 4] if is_resumed else [4, 8, 12, 14])
    spec = ready(parts, SHORT, *more)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Engine, "step", None)  # no step is taken
        train(spec, parts)
    assert continued(spec, parts) == [(longer.id, SHORT)]
    assert measurements(spec, parts) == measurements(spec, whole)


def test_plan_says_where_curves_have_fewer_points(tmp_path: Path) -> None:
    shorter = ready(tmp_path, SHORT)
    train(shorter, tmp_path)
    for settings, words in (
            (("base.log_every=1", "evaluate.every=6"),
             ", with fewer points so far: log_every 2 (now 1), evaluate.every 4 (now 6)"),
            (("base.log_every=4", "evaluate.every=8"), ""), (("evaluate.every=null",), "")):
        spec = ready(tmp_path, LONG, *settings)
        found = beginnings(spec.folder(tmp_path).parent, [spec])[spec.id]
        assert str(found) == f"continues {shorter.id} from step {SHORT}{words}"
    without = ready(tmp_path, 4, "evaluate.every=null", "base.batch_size=16")
    train(without, tmp_path)
    spec = ready(tmp_path, LONG, "base.batch_size=16")
    found = beginnings(spec.folder(tmp_path).parent, [spec])[spec.id]
    assert str(found).endswith(", with fewer points so far: evaluate.every none (now 4)")


def test_plan_reads_each_specification_once(tmp_path: Path,
                                            monkeypatch: pytest.MonkeyPatch) -> None:
    shorter = ready(tmp_path, SHORT)
    train(shorter, tmp_path)
    study = load_experiment(write_experiment(tmp_path), tmp_path,
                            [*EVERY, f"base.steps={LONG}", "seeds=[0]"])
    read, reads = Path.read_text, Counter[Path]()

    def counted(path: Path, *arguments: str, **options: str) -> str:
        reads[path] += path.name == "spec.json"
        return read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", counted)
    shown = plan_text(study, tmp_path)
    assert f"continues {shorter.id} from step {SHORT}\n" in shown
    assert "1 other run of tiny" in shown
    assert +reads == {shorter.folder(tmp_path) / "spec.json": 1}


def test_a_run_that_was_recorded_otherwise_in_between_does_not_say_that_it_is_whole(
        tmp_path: Path) -> None:
    spec = ready(tmp_path, LONG)
    train(spec, tmp_path, 4)
    train(ready(tmp_path, LONG, "base.log_every=1"), tmp_path, 3)
    train(ready(tmp_path, LONG), tmp_path)
    assert read_end(spec, tmp_path)["recording"] is None
    train(ready(tmp_path, LONG), tmp_path)  # nothing is lacking that could be measured
    assert read_end(spec, tmp_path)["recording"] == spec.recording


@pytest.mark.parametrize(("case", "words"), [
    ("average", " has no state of step 8, only of 14"), ("unlogged", " has no state of step 7, on"),
    ("damaged", " cannot be continued from: "), ("deleted", " has no state of step 8, only of 14"),
    ("annealed", " has no state of step 8, only of 14"),
    ("fading", " has no state of step 8, only of 14")])
def test_a_snapshot_that_is_not_the_whole_state_is_left(
        tmp_path: Path, case: str, words: str) -> None:
    overrides = ["evaluate.snapshots=true", {
        "average": "base.ema=0.9", "unlogged": "evaluate.every=7",
        "fading": "base.penalties=[instance_noise]",
        "annealed": "base.g_optimizer={name: adam, schedule: linear}"}.get(case, "seeds=[0]")]
    longer = ready(tmp_path, LONG, *overrides)
    train(longer, tmp_path)
    spec = ready(tmp_path, 7 if case == "unlogged" else SHORT, *overrides)
    file = snapshot_file(longer.folder(tmp_path), SHORT)
    if case == "damaged":
        file.write_bytes(file.read_bytes()[:-9])
    elif case == "deleted":
        file.unlink()
    found = beginnings(spec.folder(tmp_path).parent, [spec])[spec.id]
    train(spec, tmp_path)
    assert continued(spec, tmp_path) == []
    notes = [record["note"] for record in reading.read_records(spec.folder(tmp_path))[0]
             if record["kind"] == "resume"]
    said = notes if case == "damaged" else found.obstacles
    assert len(said) == 1
    assert said[0].startswith(longer.id + words), said
    assert read_head(spec.folder(tmp_path) / checkpoint.FILE).step == spec.steps
