"""MLflow receives at most 2,000 points of a run's losses: always the same, and every score."""

from __future__ import annotations

import itertools
import random
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from helpers.journals import FACTS, PROTOCOL, new_run
from hypothesis import given
from hypothesis import strategies as st

from gan_bench.journal import reading, writing
from gan_bench.journal.layout import Workspace
from gan_bench.journal.writing import Journal
from gan_bench.tracking import mirror as mirrors
from gan_bench.tracking.mirror import Mirror
from gan_bench.tracking.runs.cursor import FILE, mirrored
from gan_bench.tracking.runs.tags import LOSSES_EVERY
from gan_bench.tracking.store.client import Store, open_store
from gan_bench.tracking.thinning import POINTS, Thinning, thinning_of

STEPS = 5_000  # logged at every step: MLflow receives every third, and the last
LOSSES = ("train/d_loss", "train/g_loss")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A real database."""
    root = tmp_path_factory.mktemp("store")
    return open_store(Workspace(root, tracking_uri=f"sqlite:///{root / 'mlflow.db'}"))


def logged(steps: int, log_every: int) -> list[int]:
    """Return the steps at which training logs."""
    return [*range(log_every, steps + 1, log_every), *([steps] if steps % log_every else [])]


@pytest.mark.parametrize(("steps", "log_every", "every"), [
    (1_000, 50, 1), (100_000, 50, 1), (100_050, 50, 100), (100_001, 50, 100), (2_000, 1, 1),
    (2_001, 1, 2), (4_000, 1, 2), (4_001, 1, 3), (1_000_000, 100, 500), (10_000_000, 1, 5_000),
    (10, 50, 1)])
def test_the_steps_follow_from_the_specification(steps: int, log_every: int, every: int) -> None:
    thinning = thinning_of({"steps": steps, "log_every": log_every})
    kept = [step for step in logged(steps, log_every) if thinning.keeps(step)]
    assert (thinning.every, len(kept) <= POINTS, kept[-1]) == (every, True, steps)


@given(steps=st.integers(1, 60_000), log_every=st.integers(1, 70))
def test_there_are_enough_points_and_not_too_many(steps: int, log_every: int) -> None:
    thinning = thinning_of({"steps": steps, "log_every": log_every})
    all_steps = logged(steps, log_every)
    kept = [step for step in all_steps if thinning.keeps(step)]
    assert kept[-1] == steps
    if len(all_steps) <= POINTS:
        assert kept == all_steps
    else:
        assert POINTS / 2 <= len(kept) <= POINTS


@pytest.mark.parametrize("spec", [
    {}, {"steps": 9_000}, {"steps": "9", "log_every": 1}, {"steps": 9_000, "log_every": 0},
    {"steps": True, "log_every": 1}])
def test_an_older_specification_thins_nothing(spec: dict[str, Any]) -> None:
    assert all(thinning_of(spec).keeps(step) for step in range(9_001))


def write(folder: Path, first: int = 1, last: int = STEPS) -> None:
    """Write the records of some steps, and no end."""
    with closing(Journal(folder)) as book:
        if first == 1:
            book.start(FACTS)
            book.protocol(PROTOCOL)
        for step in range(first, last + 1):
            book.metrics(step, dict.fromkeys(LOSSES, step / 7))
            book.system(step, {"system/images_per_s": 1e4})
            if step % 7 == 0 or step == STEPS:
                book.metrics(step, {"eval/fd_classifier": step / 3, "eval/d_accuracy": 0.5})


def end(folder: Path, status: str = "FINISHED") -> None:
    book = Journal(folder)
    last = reading.last(folder)
    assert last is not None
    book._step = last["step"]
    book.end(status, "" if status == "FINISHED" else "why")


def rows(store: Store, folder: Path) -> dict[str, list[tuple[int, int, float]]]:
    """Return step, time and value of all that MLflow holds of a run."""
    experiment = store.client.get_experiment_by_name(folder.parent.name)
    assert experiment is not None
    (run,) = store.client.search_runs([experiment.experiment_id])
    return {key: [(m.step, m.timestamp, m.value)
                  for m in store.client.get_metric_history(run.info.run_id, key)]
            for key in run.data.metrics}


def expected(folder: Path, steps: list[int]) -> dict[str, list[tuple[int, int, float]]]:
    """Return what the journal holds, of the losses and measurements at these steps alone."""
    held: dict[str, list[tuple[int, int, float]]] = {}
    for record in reading.valid(reading.read_records(folder)[0]):
        for name, value in record.get("values", {}).items():
            if name.startswith("eval/") or record["step"] in steps:
                held.setdefault(name, []).append((record["step"], record["t"], value))
    return held


def every_tag(store: Store, folder: Path) -> str | None:
    experiment = store.client.get_experiment_by_name(folder.parent.name)
    assert experiment is not None
    (run,) = store.client.search_runs([experiment.experiment_id])
    tag: str | None = run.data.tags.get(LOSSES_EVERY)
    return tag


def test_losses_are_thinned_and_scores_are_not(store: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path, steps=STEPS, log_every=1)
    write(folder)
    end(folder)
    Mirror(store).sync(folder)
    steps = [*range(3, STEPS, 3), STEPS]
    held = rows(store, folder)
    assert held == expected(folder, steps)
    assert [step for step, *_ in held["train/d_loss"]] == steps
    assert len(held["train/d_loss"]) == 1_667
    assert len(held["eval/d_accuracy"]) == STEPS // 7 + 1
    assert every_tag(store, folder) == "3"
    assert len(reading.read_records(folder)[0]) > 2 * STEPS  # the journal keeps all


def test_a_run_with_few_points_is_whole(store: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path, steps=1_999, log_every=1)
    write(folder, last=1_999)
    end(folder)
    Mirror(store).sync(folder)
    assert rows(store, folder) == expected(folder, [*range(1, 2_000)])
    assert every_tag(store, folder) is None


def test_kills_and_replays_give_the_same_rows(store: Store, tmp_path: Path) -> None:
    folder = new_run(tmp_path, steps=STEPS, log_every=1)
    draws = random.Random(3)
    cuts = [0, *sorted(draws.sample(range(1, STEPS), 12)), STEPS]
    for i, (before, cut) in enumerate(itertools.pairwise(cuts)):
        write(folder, before + 1, cut)
        if i % 3 == 1:
            end(folder, "KILLED")
        if i % 3 == 2:
            (folder / FILE).unlink()  # the cursor is lost: all is replayed
        Mirror(store).sync(folder)
        if i % 3 == 1:
            with closing(Journal(folder)) as book:
                book.resume(cut, "", {}, void=False)
    end(folder)
    Mirror(store).sync(folder)
    held = rows(store, folder)
    assert held == expected(folder, [*range(3, STEPS, 3), STEPS])
    other = open_store(Workspace(tmp_path, tracking_uri=f"sqlite:///{tmp_path / 'other.db'}"))
    Mirror(other).sync(folder)
    assert rows(other, folder) == held
    assert every_tag(other, folder) == every_tag(store, folder) == "3"


@pytest.mark.parametrize("at_once", [True, False])
def test_the_last_losses_before_a_divergence_are_there(
        store: Store, tmp_path: Path, at_once: bool) -> None:
    folder = new_run(tmp_path, steps=STEPS, log_every=1)
    write(folder, last=2_500)
    if not at_once:
        Mirror(store).sync(folder)
        assert rows(store, folder) == expected(folder, [*range(3, 2_500, 3)])
    end(folder, "DIVERGED")
    Mirror(store).sync(folder)
    assert rows(store, folder) == expected(folder, [*range(3, 2_500, 3), 2_500])


def test_a_run_of_an_earlier_version_keeps_its_rows(
        store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = new_run(tmp_path, steps=STEPS, log_every=1)
    write(folder)
    end(folder)
    monkeypatch.setattr(mirrors, "thinning_of", lambda spec: Thinning(1, 0))
    Mirror(store).sync(folder)
    monkeypatch.undo()
    whole = expected(folder, [*range(1, STEPS + 1)])
    assert rows(store, folder) == whole
    # What is measured later comes to them, and nothing goes.
    writing.amend(folder, writing.Amendment(
        {"eval/kid": {"extractor": "classifier", "weights": "0a1b"}}, {"eval/kid": 0.25}))
    Mirror(store).sync(folder)
    assert mirrored(folder, store.uri)
    held = rows(store, folder)
    assert [(step, value) for step, _, value in held.pop("eval/kid")] == [(STEPS, 0.25)]
    assert held == whole
    assert every_tag(store, folder) is None
