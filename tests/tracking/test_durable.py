"""What MLflow has received is on the disk: a machine that dies then loses nothing of it.

On a real file system, of a disk that stands still in the middle.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from helpers.journals import FACTS, PROTOCOL, new_run, picture
from helpers.mounts import Disk

from gan_bench.errors import UserError
from gan_bench.journal import reading
from gan_bench.journal.layout import Workspace
from gan_bench.journal.writing import Journal
from gan_bench.tracking import durable
from gan_bench.tracking.mirror import Mirror
from gan_bench.tracking.runs.cursor import FILE
from gan_bench.tracking.store.client import open_store


def test_a_machine_that_dies_loses_nothing_that_mlflow_has(tmp_path: Path) -> None:
    store = open_store(Workspace(tmp_path, tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}"))
    with Disk(tmp_path) as disk:
        folder = new_run(disk.place / "root")
        with closing(Journal(folder)) as book:
            book.start(FACTS)
            book.protocol(PROTOCOL)
            book.metrics(10, {"train/d_loss": 1.25})
            book.image(10, "samples", picture(10))
            Mirror(store).sync(folder)
            seen = reading.read_records(folder)[0]
            with disk.after_power_cut() as saved:
                assert reading.read_records(saved / folder.relative_to(disk.place))[0] == seen
            book.metrics(20, {"train/d_loss": 1.5})
            Mirror(store).sync(folder)
            seen = reading.read_records(folder)[0]
            book.metrics(30, {"train/d_loss": 1.75})  # MLflow has it not, and it may be lost
            with disk.after_power_cut() as saved:
                there = reading.read_records(saved / folder.relative_to(disk.place))[0]
                assert there == seen
    experiment = store.client.get_experiment_by_name(folder.parent.name)
    assert experiment is not None
    (run,) = store.client.search_runs([experiment.experiment_id])
    assert [m.step for m in store.client.get_metric_history(run.info.run_id, "train/d_loss")] == [
        10, 20]


def test_records_that_cannot_reach_the_disk_reach_no_store(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_store(Workspace(tmp_path, tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}"))
    folder = new_run(tmp_path)
    with closing(Journal(folder)) as book:
        book.start(FACTS)

    def refuse(path: Path) -> None:
        raise OSError(5, "Input/output error", str(path))

    monkeypatch.setattr(durable, "fsync_path", refuse)
    with pytest.raises(UserError) as refused:
        Mirror(store).sync(folder)
    assert str(refused.value) == (
        f"{folder}/journal.jsonl: cannot be written to the disk: Input/output error; MLflow "
        f"receives its records once they are there")
    assert not (folder / FILE).exists()
    monkeypatch.undo()
    Mirror(store).sync(folder)
    assert (folder / FILE).exists()
