"""What is in a journal is in MLflow: all of it, once, whatever happens on the way.

Against real stores: an SQLite file, and an `mlflow server` in a process of its own.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from helpers.journals import FACTS, PROTOCOL, new_run, picture, write_journal
from helpers.servers import mlflow_server
from PIL import Image

from gan_bench.config.declared import Declared
from gan_bench.errors import DamagedError
from gan_bench.journal import reading, writing
from gan_bench.journal.about import write_about
from gan_bench.journal.layout import Workspace
from gan_bench.journal.spec_file import read_spec, rename_runs
from gan_bench.journal.writing import Journal
from gan_bench.tracking.mirror import Mirror
from gan_bench.tracking.runs import cursor, tags
from gan_bench.tracking.runs.cursor import mirrored
from gan_bench.tracking.runs.packed_tags import PROTOCOLS, SETTINGS, unpack
from gan_bench.tracking.store.address import sqlite_path
from gan_bench.tracking.store.client import DeletedRun, MirrorError, Store, open_store
from gan_bench.tracking.store.relocation import local_path
from gan_bench.tracking.store.shared_artifacts import TORN
from gan_bench.tracking.sync import sync_runs


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A real database."""
    root = tmp_path_factory.mktemp("store")
    return open_store(Workspace(root, tracking_uri=f"sqlite:///{root / 'mlflow.db'}"))


@pytest.fixture(scope="module")
def server(local: Store) -> Iterator[Store]:
    """A real MLflow server on the same database: the one that `gan-bench ui` starts."""
    database = sqlite_path(local.uri)
    assert database is not None
    with mlflow_server(database.parent, local.uri) as address:
        yield open_store(Workspace(database.parent, tracking_uri=address))


@pytest.fixture(params=["local", "server"])
def store(request: pytest.FixtureRequest) -> Store:
    """Both kinds of store."""
    found: Store = request.getfixturevalue(request.param)
    return found


def synced(mirror: Mirror, folder: Path) -> bool:
    """Sync a run; return whether MLflow has its whole journal, the end included."""
    mirror.sync(folder)
    last = reading.last(folder)
    return mirrored(folder, mirror.store.uri) and last is not None and last["kind"] == "end"


def runs_of(store: Store, folder: Path) -> list[Any]:
    name = json.loads((folder / "spec.json").read_text())["experiment"]
    experiment = store.client.get_experiment_by_name(name)
    return list(store.client.search_runs([experiment.experiment_id])) if experiment else []


def artifacts(store: Store, run_id: str, path: str | None = None) -> list[str]:
    found: list[str] = []
    for item in store.client.list_artifacts(run_id, path):
        found += artifacts(store, run_id, item.path) if item.is_dir else [item.path]
    return sorted(found)


def content(store: Store, folder: Path) -> dict[str, Any]:
    """Return all that MLflow holds of a run, its own ids left out."""
    (run,) = runs_of(store, folder)
    return {
        "params": run.data.params,
        "tags": run.data.tags,
        "metrics": {key: [(m.step, m.timestamp, repr(m.value)) for m in
                          store.client.get_metric_history(run.info.run_id, key)]
                    for key in sorted(run.data.metrics)},
        "artifacts": artifacts(store, run.info.run_id),
        "datasets": [(d.dataset.name, d.dataset.digest, d.dataset.profile,
                      [(t.key, t.value) for t in d.tags]) for d in run.inputs.dataset_inputs],
        "info": (run.info.run_name, run.info.status, run.info.start_time, run.info.end_time),
    }


def test_what_evaluate_adds_is_not_the_runs_own_extractor() -> None:
    own = tags.protocol(PROTOCOL)
    assert (own["extractor"], own["extractor_hash"]) == ("classifier", "0a1b")
    added = tags.protocol({"evaluate-1/fd_random": {"extractor": "random", "weights": "77"}})
    assert not {"extractor", "extractor_hash"} & added.keys()
    assert unpack(added[PROTOCOLS]) == {
        "evaluate-1/fd_random": {"extractor": "random", "weights": "77"}}
    assert re.fullmatch("[0-9a-f]{8}", added["protocol"])
    assert added["protocol"] != own["protocol"]


def test_protocols_that_do_not_fit_have_a_tag_each() -> None:
    long = {f"eval/{i}": {"code": os.urandom(4000).hex()} for i in range(3)}
    assert {key: json.loads(value) for key, value in tags.protocol(long).items()
            if key != "protocol"} == {f"protocol.{name}": value for name, value in long.items()}


def test_all_of_a_run_is_in_mlflow(store: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    write_about(folder.parent, Declared(question="Why?", command="gan-bench run x.yaml",
                                        differs={"narrow": "width 16 for 64"}))
    write_journal(folder)
    assert synced(Mirror(store), folder)

    records, _ = reading.read_records(folder)
    held = content(store, folder)
    assert held["metrics"] == {
        "eval/fd_classifier": [(20, records[6]["t"], "41.5")],
        "system/images_per_s": [(10, records[3]["t"], "10000.0")],
        "train/d_loss": [(10, records[2]["t"], "1.25"), (20, records[5]["t"], "1.0")],
        "train/g_loss": [(10, records[2]["t"], "0.1"), (20, records[5]["t"], "0.3")],
    }
    assert held["info"] == ("s3 · narrow", "FINISHED", records[0]["t"], records[-1]["t"])
    assert held["params"]["seed"] == "3"
    assert held["params"]["model"] == "mlp"
    assert not any(name.startswith(("evaluate", "log_every")) for name in held["params"])
    assert held["params"]["g_optimizer"] == "adam"
    assert "null" not in held["params"].values()
    settings = unpack(held["tags"][SETTINGS])
    assert settings == {**held["params"], **dict.fromkeys(settings.keys() - held["params"], "null")}
    assert "ema" in settings
    tags = held["tags"]
    assert {k: tags[k] for k in ("variant", "seed", "run_id", "status", "extractor",
                                 "extractor_hash", "torch_version", "gan_bench_version", "device",
                                 "precision", "threads", "git_commit")} == {
        "variant": "narrow", "seed": "3", "run_id": folder.name, "status": "FINISHED",
        "extractor": "classifier", "extractor_hash": "0a1b", "torch_version": "2.15.0",
        "gan_bench_version": "0.1.0", "device": "cpu", "precision": "float32", "threads": "1",
        "git_commit": "ab" * 20}
    assert unpack(tags[PROTOCOLS]) == PROTOCOL
    for part in ("narrow", "seed 3", "Why?", "gan-bench run x.yaml", folder.name,
                 "width 16 for 64"):
        assert part in tags["mlflow.note.content"]
    assert held["datasets"] == [("digits", "f" * 36, '{"train": 1438, "test": 359}',
                                 [("mlflow.data.context", "training")])]
    assert [a for a in held["artifacts"] if not a.startswith("images/")] == [
        "final.safetensors", "journal.jsonl", "protocols.json", "spec.json"]


def test_only_what_differs_is_a_param(store: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    write_about(folder.parent, Declared(varied=("seed", "loss")))
    write_journal(folder)
    assert synced(Mirror(store), folder)
    assert content(store, folder)["params"] == {"seed": "3", "loss": "non_saturating"}
    # The grid grows: what differs now becomes a param of the run that is there.
    write_about(folder.parent, Declared(varied=("batch_size", "ema", "seed")))
    assert not mirrored(folder, store.uri)
    before = content(store, folder)
    assert synced(Mirror(store), folder)
    after = content(store, folder)
    assert after["params"] == {"seed": "3", "loss": "non_saturating", "batch_size": "64"}
    assert {**after, "params": {}} == {**before, "params": {}}
    write_about(folder.parent, Declared(varied=("seed",)))  # it shrinks
    assert mirrored(folder, store.uri)


def test_a_run_of_an_earlier_version_keeps_its_params_and_gets_the_present_name(
        store: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    assert synced(Mirror(store), folder)
    (run,) = runs_of(store, folder)
    store.client.update_run(run.info.run_id, name="narrow seed 3")
    store.client.log_param(run.info.run_id, "ema", "null")
    entries = json.loads((folder / cursor.FILE).read_text())
    old = {name: {k: v for k, v in entry.items() if k not in ("naming", "varied")}
           for name, entry in entries.items()}
    (folder / cursor.FILE).write_text(json.dumps(old))
    write_about(folder.parent, Declared(varied=("seed",)))
    before = content(store, folder)
    assert not mirrored(folder, store.uri)
    assert synced(Mirror(store), folder)
    after = content(store, folder)
    assert after["info"] == ("s3 · narrow", *before["info"][1:])
    assert after["params"] == before["params"]
    assert mirrored(folder, store.uri)


def test_artifacts_are_the_files_themselves(store: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    Mirror(store).sync(folder)
    (run,) = runs_of(store, folder)
    for name in ("spec.json", "journal.jsonl", "final.safetensors"):
        got = store.client.download_artifacts(run.info.run_id, name, str(tmp_path / ".."))
        assert Path(got).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("lives", [False, True])
def test_what_a_killed_upload_leaves_is_removed(local: Store, tmp_path: Path, lives: bool) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    Mirror(local).sync(folder)
    (run,) = runs_of(local, folder)
    place = local_path(run.info.artifact_uri)
    upload = ("import sys, tempfile, time\n"
              "from gan_bench.tracking.store.shared_artifacts import uploads\n"
              "with uploads(sys.argv[1]):\n"
              "    tempfile.mkstemp(dir=sys.argv[2], prefix='.artifact.uploading.')\n"
              "    print('begun', flush=True)\n"
              "    time.sleep(600)\n")
    with subprocess.Popen([sys.executable, "-c", upload, run.info.artifact_uri, place],
                          stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            if not lives:
                process.kill()
                process.wait()
            assert len(list(place.glob(TORN))) == 1
            cursor.forget_cursor(folder, local.uri)
            Mirror(local).sync(folder)
            assert len(list(place.glob(TORN))) == lives
        finally:
            process.kill()


@pytest.mark.parametrize("is_there", [True, False])
def test_scores_that_are_added_upload_no_weights_again(
        local: Store, tmp_path: Path, is_there: bool) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    lines = (folder / reading.FILE).read_bytes().splitlines(keepends=True)
    if not is_there:  # MLflow has the run, but not its end
        (folder / reading.FILE).write_bytes(b"".join(lines[:-1]))
    Mirror(local).sync(folder)
    (folder / reading.FILE).write_bytes(b"".join(lines))
    (run,) = runs_of(local, folder)
    weights = local_path(run.info.artifact_uri) / "final.safetensors"
    weights.unlink(missing_ok=True)
    writing.amend(folder, writing.Amendment({"eval/new": PROTOCOL["eval/d_accuracy"]},
                                            {"eval/new": 0.5}))
    Mirror(local).sync(folder)
    assert weights.exists() != is_there
    (run,) = runs_of(local, folder)
    assert run.data.metrics["eval/new"] == 0.5
    artifact = local_path(run.info.artifact_uri) / reading.FILE
    assert artifact.read_bytes() == (folder / reading.FILE).read_bytes()


def test_syncing_after_every_record_gives_what_syncing_once_gives(
        store: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    mirror = Mirror(store)
    whole: list[bool] = []
    write_journal(folder, between=lambda: whole.append(synced(mirror, folder)))
    assert whole == [False] * 9 + [True]
    often = content(store, folder)
    store.client.delete_run(cursor_of(store, folder).mlflow_run_id)
    cursor.forget_cursor(folder, store.uri)
    assert synced(Mirror(store), folder)
    assert content(store, folder) == often


def cursor_of(store: Store, folder: Path) -> cursor.Cursor:
    found = cursor.read_cursor(folder, store.uri)
    assert found is not None
    return found


@pytest.mark.parametrize("lost", ["cursor", "last write", "nonsense"])
def test_a_replay_doubles_nothing(store: Store, tmp_path: Path, lost: str) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    Mirror(store).sync(folder)
    before, held = cursor_of(store, folder), content(store, folder)
    assert sum(a.startswith("images/") for a in held["artifacts"]) == 4
    if lost == "cursor":
        (folder / cursor.FILE).unlink()
    elif lost == "nonsense":
        (folder / cursor.FILE).write_text("{")
    else:  # died after telling MLflow and before writing the cursor
        middle = (folder / reading.FILE).read_bytes().index(b'{"t"', before.offset // 2)
        cursor.write_cursor(folder, replace(before, offset=middle))
    assert synced(Mirror(store), folder)
    assert content(store, folder) == held
    assert cursor_of(store, folder) == before


@pytest.mark.parametrize("change", [
    {"offset": 10**18}, {"offset": 2**70}, {"offset": -1}, {"offset": 7}, {"offset": "12"},
    {"offset": True}, {"began": "x"}, {"began": 7}, {"mlflow_run_id": 3},
    {"mlflow_run_id": "../../x"}, {"more": 1}, None,
])
def test_a_cursor_that_somebody_has_changed_is_made_anew(
        local: Store, tmp_path: Path, change: dict[str, object] | None) -> None:
    """It is a cache: what it says is not believed."""
    folder = new_run(tmp_path)
    write_journal(folder)
    assert synced(Mirror(local), folder)
    before, sound = content(local, folder), (folder / cursor.FILE).read_text()
    stores = json.loads(sound)
    (folder / cursor.FILE).write_text(json.dumps(
        {uri: {**one, **change} if change else [one] for uri, one in stores.items()}))
    assert not mirrored(folder, local.uri)
    assert synced(Mirror(local), folder)
    assert content(local, folder) == before
    assert (folder / cursor.FILE).read_text() == sound


@pytest.mark.parametrize("about", ["[]", "3", '{"question": 3, "differs": [], "command": {}}',
                                   '{"differs": {"narrow": 3}}', "[" * 100_000, "\0"])
def test_what_is_said_of_an_experiment_may_be_anything(local: Store, tmp_path: Path, about: str,
                                                       ) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    (folder.parent / "about.json").write_text(about)
    assert synced(Mirror(local), folder)
    (run,) = runs_of(local, folder)
    assert run.data.tags["mlflow.note.content"].startswith("**narrow**, seed 3: ")


def test_a_margin_that_is_none_is_named_with_its_file(local: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    about = folder.parent / "about.json"
    about.write_text('{"margin": "a lot"}')
    with pytest.raises(MirrorError) as refused:
        Mirror(local).sync(folder)
    assert str(refused.value).startswith(f"{about}: margin: an amount is a number above 0, or a ")
    assert str(refused.value).endswith("which rewrites it")
    write_about(folder.parent, Declared(baseline="narrow"))
    assert synced(Mirror(local), folder)


@pytest.mark.parametrize(("change", "words"), [
    ({"seed": 4}, "belongs to the run .* and not to this folder"),
    ({"experiment": "../../up"}, r"of '\.\./\.\./up', and not to this folder"),
    ({"experiment": "/tmp/up"}, "and not to this folder"), ({"model": 3}, "and not to this folder"),
    ({"compute": []}, "cannot be read"), ({"variant": 3}, "cannot be read"),
    ({"data": None}, "cannot be read"), ({"dataset": {}}, "cannot be read"), (None, "cannot be r"),
])
def test_a_spec_that_is_not_the_runs_own_is_refused(
        local: Store, tmp_path: Path, change: dict[str, object] | None, words: str) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    values = json.loads((folder / "spec.json").read_text())
    text = json.dumps({**values, **change}) if change else "[" * 100_000
    (folder / "spec.json").write_text(text)
    before = {e.name for e in local.client.search_experiments()}
    with pytest.raises(DamagedError, match=rf"spec\.json: .*{words}") as why:
        Mirror(local).sync(folder)
    assert "\n" not in str(why.value)
    assert {e.name for e in local.client.search_experiments()} == before


@pytest.mark.parametrize("name", ["samples", "samples/samples-0000010.png", "spec.json",
                                  "final.safetensors"])
def test_what_lies_outside_the_run_is_not_published(local: Store, tmp_path: Path, name: str,
                                                    ) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DamagedError, match="is a link out of the run's folder; remove it"):
        Mirror(local).sync(folder)
    assert not mirrored(folder, local.uri)


def test_a_damaged_run_holds_up_no_other(tmp_path: Path) -> None:
    folders = [new_run(tmp_path, seed) for seed in (1, 2, 3, 4)]
    for folder in folders:
        write_journal(folder)
    folders[0].joinpath(reading.FILE).write_text("[]\n")
    folders[1].joinpath("spec.json").write_text("{}")
    with folders[2].joinpath(reading.FILE).open("a") as file:
        file.write('{"kind": "metrics"}\n')
    done = sync_runs(Workspace(tmp_path), lambda line: None)
    assert (done.runs, done.brought, len(done.missing)) == (4, 1, 3)
    for folder, line in zip(sorted(folders[:3]), sorted(done.missing), strict=True):
        assert line.startswith(str(folder))
    store = open_store(Workspace(tmp_path))
    assert [run.data.tags["seed"] for run in runs_of(store, folders[3])] == ["4"]


def test_a_run_that_the_store_does_not_take_holds_up_no_other(tmp_path: Path) -> None:
    folders = sorted(new_run(tmp_path, seed) for seed in (1, 2, 3, 4))
    for folder in folders:
        write_journal(folder)
    refused, database = [folders[0], folders[2]], sqlite_path(open_store(Workspace(tmp_path)).uri)
    assert database is not None
    for number, folder in enumerate(refused):
        with closing(sqlite3.connect(database)) as connection, connection:
            connection.execute(f"create trigger refuse{number} before insert on tags when "
                               f"new.value = '{folder.name}' begin select raise(abort, 'no'); end")
    done = sync_runs(Workspace(tmp_path), lambda line: None)
    assert (done.runs, done.brought, len(done.missing)) == (4, 2, 2)
    for folder, line in zip(refused, done.missing, strict=True):
        assert line.startswith(f"{folder.parent.name}/{folder.name}: MLflow at sqlite:///")
    assert [mirrored(f, f"sqlite:///{database}") for f in folders] == [False, True, False, True]
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.executescript("drop trigger refuse0; drop trigger refuse1")
    done = sync_runs(Workspace(tmp_path), lambda line: None)
    assert (done.runs, done.brought, done.missing) == (4, 2, [])


def test_a_torn_line_is_waited_for(local: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    whole = (folder / reading.FILE).read_bytes()
    (folder / reading.FILE).write_bytes(whole[:whole.index(b"\n")])
    assert not synced(Mirror(local), folder)
    assert runs_of(local, folder) == []
    (folder / reading.FILE).write_bytes(whole[:-5])
    assert not synced(Mirror(local), folder)
    assert content(local, folder)["info"][1] == "RUNNING"
    (folder / reading.FILE).write_bytes(whole)
    assert synced(Mirror(local), folder)
    assert content(local, folder)["info"][1] == "FINISHED"


def test_a_journal_begun_anew_replaces_the_run(store: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    mirror = Mirror(store)
    write_journal(folder, status="FAILED", why="out of memory")
    mirror.sync(folder)
    (old,) = runs_of(store, folder)
    assert (old.info.status, old.data.tags["why"]) == ("FAILED", "out of memory")
    time.sleep(0.002)
    write_journal(folder)
    assert synced(mirror, folder)
    (new,) = runs_of(store, folder)
    assert new.info.run_id != old.info.run_id
    assert "why" not in new.data.tags
    assert len(store.client.get_metric_history(new.info.run_id, "train/d_loss")) == 2


def test_a_clock_that_was_set_back_loses_and_doubles_nothing(
        store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set back before a later attempt, and before the whole run is made again in its place."""
    clock = itertools.count(2 * 10**18, 10**6)
    monkeypatch.setattr("gan_bench.journal.writing.time.time_ns", lambda: next(clock))
    folder, mirror = new_run(tmp_path), Mirror(store)
    write_journal(folder)
    mirror.sync(folder)
    rows = [(20, 1.0), (10, 1.25)]
    for again in ("resumed", "made anew"):
        clock = itertools.count((18 if again == "resumed" else 16) * 10**17, 10**6)
        if again == "resumed":
            book = Journal(folder)
            book.resume(0, "", {}, void=True)
            book.close()
        else:
            (folder / reading.FILE).unlink()
        write_journal(folder)
        for _ in range(2):
            assert synced(mirror, folder)
            assert mirrored(folder, store.uri)
        (run,) = runs_of(store, folder)
        start = reading.valid(reading.read_records(folder)[0])[0]["t"]
        history = store.client.get_metric_history(run.info.run_id, "train/d_loss")
        assert sorted((m.step, m.value) for m in history) == sorted(rows)
        assert min(m.timestamp for m in history) > start == run.info.start_time


def test_many_metrics_pass_the_limits_of_a_batch(store: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    book = Journal(folder)
    book.start(FACTS)
    for step in range(1, 251):
        book.metrics(step, {f"train/m{i}": float(step * i) for i in range(10)})
    book.end("FINISHED")
    Mirror(store).sync(folder)
    metrics = content(store, folder)["metrics"]
    assert [len(rows) for rows in metrics.values()] == [250] * 10
    assert [float(value) for _, _, value in metrics["train/m7"]] == [
        7.0 * step for step in range(1, 251)]


def test_non_finite_values_are_kept_as_far_as_sql_can(store: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    book = Journal(folder)
    book.start(FACTS)
    book.metrics(1, {"train/a": math.nan, "train/b": math.inf, "train/c": -math.inf})
    book.end("DIVERGED", "train/a is nan")
    for _ in range(2):
        Mirror(store).sync(folder)
        (folder / cursor.FILE).unlink()
    held = content(store, folder)
    values = {key: [value for _, _, value in rows] for key, rows in held["metrics"].items()}
    largest = repr(sys.float_info.max)  # what MLflow's SQL store writes for an infinity
    assert values == {"train/a": ["nan"], "train/b": [largest], "train/c": [f"-{largest}"]}
    assert held["info"][1] == "FINISHED"
    assert held["tags"]["status"] == "DIVERGED"


def test_a_killed_run_is_said_to_be_killed_and_to_run_again(store: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    mirror = Mirror(store)
    book = Journal(folder)
    book.start(FACTS)
    assert not synced(mirror, folder)
    assert content(store, folder)["tags"]["status"] == "RUNNING"
    book.close()
    for _ in range(2):  # the second time it finds the end there
        writing.settle_run(folder, "KILLED", "signal 9")
    kinds = [record["kind"] for record in reading.read_records(folder)[0]]
    assert kinds == ["start", "end"]
    assert synced(mirror, folder)
    held = content(store, folder)
    assert (held["info"][1], held["tags"]["status"], held["tags"]["why"]) == (
        "KILLED", "KILLED", "signal 9")
    book = Journal(folder)
    book.resume(10, "", {}, void=False)
    assert not synced(mirror, folder)
    held = content(store, folder)
    assert (held["info"][1], held["tags"]["status"], held["tags"]["why"]) == (
        "RUNNING", "RUNNING", "")
    assert held["tags"]["resumed_after_step"] == "10"
    book.end("FINISHED")
    assert synced(mirror, folder)
    assert content(store, folder)["info"][1] == "FINISHED"


def test_what_a_resume_declares_void_is_not_in_mlflow(store: Store, tmp_path: Path) -> None:
    """The run is made again there, without the rows that no longer count."""
    folder = new_run(tmp_path)
    mirror = Mirror(store)
    book = Journal(folder)
    book.start(FACTS)
    for step, loss in ((1, 0.1), (2, 0.2), (3, 0.3)):
        book.metrics(step, {"train/d_loss": loss})
    mirror.sync(folder)
    (old,) = runs_of(store, folder)
    time.sleep(0.002)
    book.resume(1, "", {"torch": ["2.14.0", "2.15.0"]}, void=True)
    book.metrics(2, {"train/d_loss": 0.25})
    book.end("FINISHED")
    assert synced(mirror, folder)
    held = content(store, folder)
    (new,) = runs_of(store, folder)
    assert new.info.run_id != old.info.run_id
    assert [(step, value) for step, _, value in held["metrics"]["train/d_loss"]] == [
        (1, "0.1"), (2, "0.25")]
    assert held["tags"]["drift"] == "torch 2.14.0 and now 2.15.0"
    (folder / cursor.FILE).unlink()
    assert synced(Mirror(store), folder)
    assert content(store, folder) == held


def test_a_run_is_in_two_stores_at_once(local: Store, tmp_path: Path) -> None:
    database = tmp_path / "other" / "mlflow.db"
    other = open_store(Workspace(tmp_path / "other", tracking_uri=f"sqlite:///{database}"))
    folder = new_run(tmp_path)
    write_journal(folder)
    for store in (local, other, local):
        assert synced(Mirror(store), folder)
        assert mirrored(folder, store.uri)
    assert mirrored(folder, other.uri)
    assert {**content(local, folder), "artifacts": 0} == {**content(other, folder), "artifacts": 0}


def test_pictures_are_named_as_mlflow_names_them(store: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    Mirror(store).sync(folder)
    (run,) = runs_of(store, folder)
    assert run.data.tags["mlflow.loggedImages"] == "True"
    records = [r for r in reading.read_records(folder)[0] if r["kind"] == "image"]
    ours = artifacts(store, run.info.run_id, "images")
    for record in records:
        store.client.log_image(run.info.run_id, Image.new("L", (32, 32)), key=record["name"],
                               step=record["step"], timestamp=record["t"])
    theirs = sorted(set(artifacts(store, run.info.run_id, "images")) - set(ours))
    assert len(ours) == len(theirs) == 4
    # The same but for the uuid, and for the format of the thumbnail.
    uuid = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
    assert [uuid.sub("", name) for name in ours] == [
        uuid.sub("", name).replace(".webp", ".png") for name in theirs]


def test_the_page_serves_the_pictures(server: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    Mirror(server).sync(folder)
    (run,) = runs_of(server, folder)
    got = set()
    for path in artifacts(server, run.info.run_id, "images"):
        query = urllib.parse.urlencode({"path": path, "run_uuid": run.info.run_id})
        with urllib.request.urlopen(f"{server.uri}/get-artifact?{query}") as answer:
            got.add(answer.read())
    assert got == {picture(10), picture(20)}
    with urllib.request.urlopen(server.uri) as answer:
        assert b"MLflow" in answer.read()


def test_deleted_pictures_do_not_hold_up_the_numbers(local: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    (folder / "samples" / "samples-0000010.png").unlink()
    assert synced(Mirror(local), folder)
    held = content(local, folder)
    assert len(held["metrics"]["train/d_loss"]) == 2
    assert [a for a in held["artifacts"] if "step+10+" in a] == []
    assert len([a for a in held["artifacts"] if "step+20+" in a]) == 2


def test_a_run_deleted_in_mlflow_stays_so_when_it_goes_on(local: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    book = Journal(folder)
    book.start(FACTS)
    Mirror(local).sync(folder)
    held = cursor_of(local, folder)
    local.client.delete_run(held.mlflow_run_id)
    assert runs_of(local, folder) == []
    book.metrics(1, {"train/d_loss": 0.5})
    for _ in range(2):
        with pytest.raises(DeletedRun, match=f"{folder.name} was deleted in MLflow"):
            Mirror(local).sync(folder)
        assert (runs_of(local, folder), cursor_of(local, folder)) == ([], held)
    cursor.forget_cursor(folder, local.uri)
    Mirror(local).sync(folder)
    assert len(runs_of(local, folder)) == 1


def test_a_replay_that_was_killed_after_it_deleted_an_earlier_attempt(local: Store, tmp_path: Path,
                                                                      ) -> None:
    """The run that it deleted is none that the user deleted."""
    folder = new_run(tmp_path)
    book = Journal(folder)
    book.start(FACTS)
    book.metrics(1, {"train/d_loss": 0.5})
    Mirror(local).sync(folder)
    earlier = cursor_of(local, folder).mlflow_run_id
    time.sleep(0.002)
    book.start(FACTS)
    local.client.delete_run(earlier)
    Mirror(local).sync(folder)
    (run,) = runs_of(local, folder)
    assert run.info.run_id == cursor_of(local, folder).mlflow_run_id != earlier


def test_a_deleted_experiment_is_one_clear_line(local: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    local.client.delete_experiment(Mirror(local).open_experiment(folder.parent))
    with pytest.raises(MirrorError, match=r"was deleted in MLflow: restore it with `MLFLOW_TRACK"):
        Mirror(local).sync(folder)


def test_a_server_gone_loses_nothing(local: Store, tmp_path: Path,
                                     monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    from mlflow import MlflowClient

    folder = new_run(tmp_path)
    write_journal(folder)
    gone = Store("http://127.0.0.1:9", None, MlflowClient("http://127.0.0.1:9"))
    with pytest.raises(MirrorError, match=r"^MLflow at http://127.0.0.1:9 failed: Connection ref"):
        Mirror(gone).sync(folder)
    assert not mirrored(folder, gone.uri)
    assert synced(Mirror(local), folder)


def test_a_mirror_works_in_another_thread(local: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    answers: list[bool] = []
    thread = threading.Thread(target=lambda: answers.append(synced(Mirror(local), folder)))
    thread.start()
    thread.join()
    assert answers == [True]
    assert len(runs_of(local, folder)) == 1


def test_mirrored_says_so_only_when_all_is_there(store: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    assert not mirrored(folder, store.uri)
    write_journal(folder)
    assert not mirrored(folder, store.uri)
    Mirror(store).sync(folder)
    assert mirrored(folder, store.uri)
    assert not mirrored(folder, "sqlite:////elsewhere.db")
    assert not mirrored(folder, "http://elsewhere:5000")
    with (folder / reading.FILE).open("ab") as file:
        file.write(b"{}\n")
    assert not mirrored(folder, store.uri)
    time.sleep(0.002)
    write_journal(folder)
    assert not mirrored(folder, store.uri)


def test_a_run_that_the_store_has_lost_is_made_again(store: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    Mirror(store).sync(folder)
    known, held = cursor_of(store, folder), content(store, folder)
    store.client.delete_run(known.mlflow_run_id)
    cursor.write_cursor(folder, replace(known, mlflow_run_id="0" * 32))
    assert mirrored(folder, store.uri) == (sqlite_path(store.uri) is None)
    assert synced(Mirror(store), folder)
    assert content(store, folder) == held
    assert mirrored(folder, store.uri)


def test_a_renamed_run_is_renamed_in_mlflow_and_nothing_else_changes(store: Store, tmp_path: Path,
                                                                     ) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    assert synced(Mirror(store), folder)
    before = content(store, folder)
    assert not {"variant", "experiment"} & before["params"].keys()
    values = json.loads((folder / "spec.json").read_text())
    rename(folder, "slim")
    assert not mirrored(folder, store.uri)
    assert synced(Mirror(store), folder)
    after = content(store, folder)
    note = after["tags"].pop("mlflow.note.content")
    assert note == before["tags"].pop("mlflow.note.content").replace("**narrow**", "**slim**")
    assert note.startswith("**slim**, seed 3: ")
    assert after["info"] == ("s3 · slim", *before["info"][1:])
    assert after["tags"] == {**before["tags"], "variant": "slim", "mlflow.runName": "s3 · slim"}
    assert {**after, "tags": {}, "info": ()} == {**before, "tags": {}, "info": ()}
    (run,) = runs_of(store, folder)
    spec = store.client.download_artifacts(run.info.run_id, "spec.json", str(tmp_path))
    assert json.loads(Path(spec).read_text()) == {**values, "variant": "slim"}


def rename(folder: Path, variant: str) -> None:
    """Rename the variant of a run, as `gan-bench run` does."""
    spec = read_spec(folder)
    renamed = spec.model_copy(update={"variant": variant})
    assert rename_runs([renamed], folder.parents[2]) == {(spec.variant, variant): 1}
    assert rename_runs([renamed], folder.parents[2]) == {}


def test_what_the_user_has_named_in_mlflow_keeps_its_name(local: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    assert synced(Mirror(local), folder)
    (run,) = runs_of(local, folder)
    local.client.update_run(run.info.run_id, name="the good one")
    local.client.set_tag(run.info.run_id, "mlflow.note.content", "My note")
    rename(folder, "slim")
    assert synced(Mirror(local), folder)
    (run,) = runs_of(local, folder)
    assert (run.info.run_name, run.data.tags["mlflow.note.content"], run.data.tags["variant"]) == (
        "the good one", "My note", "slim")


def test_nothing_renamed_asks_the_store_for_nothing(server: Store, tmp_path: Path,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    folders = [new_run(tmp_path, seed) for seed in range(3)]
    for folder in folders:
        write_journal(folder)
        assert synced(Mirror(server), folder)
    requests: list[str] = []
    client = type(server.client)
    for method in ("get_run", "log_batch", "update_run", "search_runs"):
        original = getattr(client, method)
        monkeypatch.setattr(client, method, lambda self, *a, _of=original, _name=method, **k: (
            requests.append(_name), _of(self, *a, **k))[1])
    assert rename_runs([read_spec(folder) for folder in folders], tmp_path) == {}
    assert all(mirrored(folder, server.uri) for folder in folders)
    assert requests == []
    rename(folders[1], "slim")
    assert [mirrored(folder, server.uri) for folder in folders] == [True, False, True]
    assert synced(Mirror(server), folders[1])
    assert set(requests) == {"get_run", "log_batch", "update_run"}
