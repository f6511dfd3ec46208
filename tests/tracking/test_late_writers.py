"""What a writer that was lost from sight adds late is no part of the journal, nor of MLflow."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest
from helpers.journals import FACTS, PROTOCOL, new_run

from gan_bench.journal import reading, segments
from gan_bench.journal.layout import Workspace
from gan_bench.journal.writing import Journal
from gan_bench.tracking.mirror import Mirror
from gan_bench.tracking.runs.cursor import mirrored
from gan_bench.tracking.store.client import Store, open_store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A real database."""
    root = tmp_path_factory.mktemp("store")
    return open_store(Workspace(root, tracking_uri=f"sqlite:///{root / 'mlflow.db'}"))


def rows(store: Store, folder: Path) -> list[tuple[int, int, float]]:
    experiment = store.client.get_experiment_by_name(folder.parent.name)
    assert experiment is not None
    (run,) = store.client.search_runs([experiment.experiment_id])
    return [(m.step, m.timestamp, m.value)
            for m in store.client.get_metric_history(run.info.run_id, "train/d_loss")]


def journal_rows(folder: Path) -> list[tuple[int, int, float]]:
    return [(record["step"], record["t"], record["values"]["train/d_loss"])
            for record in reading.valid(reading.read_records(folder)[0])
            if "train/d_loss" in record.get("values", {})]


@pytest.mark.parametrize("cut", [10, 20])
def test_rows_that_a_late_writer_added_are_not_doubled(store: Store, tmp_path: Path, cut: int,
                                                       ) -> None:
    """As on NFS, where the mirror may see the new segment a minute after the old one has grown."""
    folder, mirror, ends = new_run(tmp_path), Mirror(store), {}
    with closing(Journal(folder)) as book:
        book.start(FACTS)
        book.protocol(PROTOCOL)
        for step in (10, 20):
            book.metrics(step, {"train/d_loss": step / 7})
            ends[step] = book.position
    mirror.sync(folder)
    before = rows(store, folder)
    assert [step for step, *_ in before] == [10, 20]
    # Another attempt has taken over after step `cut`, and repeats what comes then.
    segments.create_segment(folder, 2, 1, ends[cut])
    later = [{"t": before[1][1] + 1000 * step, "kind": "metrics", "step": step,
              "values": {"train/d_loss": step / 7}} for step in (20, 30) if step > cut]
    with segments.segment_file(folder, 2).open("a") as file:
        file.writelines(json.dumps(record) + "\n" for record in later)
    assert [step for step, *_ in journal_rows(folder)] == [10, 20, 30]
    mirror.sync(folder)
    assert rows(store, folder) == journal_rows(folder)
    assert mirrored(folder, store.uri)
    Mirror(store).sync(folder)
    assert rows(store, folder) == journal_rows(folder)
    kept = [row for row in before if row in journal_rows(folder)]
    assert len(kept) == (2 if cut == 20 else 1)
