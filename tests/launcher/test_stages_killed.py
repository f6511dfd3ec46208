"""A search whose commands are killed in either stage: the same choice, the same bits."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.commands import Forked, forked
from helpers.journals import repeatable
from helpers.searches import SEARCH, load_search, write_search

from gan_bench.compare.search.confirming import with_confirm_runs
from gan_bench.errors import DamagedError
from gan_bench.journal import reading
from gan_bench.journal.schema import Record
from gan_bench.journal.sharing.queue_file import read_queue

pytestmark = pytest.mark.process

# Four runs, each of a second: two draws, and the best of them under two seeds.
SHORT = SEARCH.replace("matrix:\n  penalties: [[], [{name: r1, gamma: 1.0}]]\n", "").replace(
    "    penalties.r1.gamma: {log_uniform: [0.01, 100], only: {penalties: r1}}\n", "").replace(
    "draws: 3", "draws: 2").replace("steps: 6", "steps: 400").replace(
    "log_every: 2", "log_every: 20").replace("sample_every: 3", "sample_every: 200")


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search that nobody has disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    done = forked("run", write_search(folder, SHORT), "--root", folder / "root")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def left(root: Path) -> dict[str, tuple[list[Record], bytes]]:
    """Return what each run has recorded, and its weights, by id."""
    return {folder.name: (repeatable(reading.read_records(folder)[0]),
                          (folder / "final.safetensors").read_bytes())
            for folder in (root / "runs" / "tuned").iterdir() if folder.is_dir()}


def wait_for(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_begun(root: Path, ids: set[str], step: int) -> bool:
    """Whether one of the runs has recorded a step, and not its end."""
    for run_id in ids:
        try:
            last = reading.last(root / "runs" / "tuned" / run_id)
        except DamagedError:  # it is being written
            continue
        if last is not None and last["kind"] != "end" and last["step"] >= step:
            return True
    return False


def stages(folder: Path) -> tuple[set[str], set[str]]:
    """Return the ids of the select and of the confirm runs of an undisturbed search."""
    spec = load_search(folder, text=SHORT)
    select = {run.id for run in spec.runs}
    return select, {run.id for run in with_confirm_runs(spec, folder / "root").runs} - select


def test_killed_in_both_stages_it_ends_as_if_nothing_had_been(
        unkilled: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    command = ["run", write_search(tmp_path, SHORT), "--root", root, "--slots", 1,
               "--checkpoint-every", 0]
    select, confirm = stages(unkilled)
    assert (len(select), len(confirm)) == (2, 2)
    for ids in (select, confirm):
        process = Forked(*command)
        wait_for(lambda ids=ids: has_begun(root, ids, 40))  # type: ignore[misc]
        process.kill()
        assert process.wait(60) == -signal.SIGKILL
        assert not all((root / "runs" / "tuned" / run / "final.safetensors").exists()
                       for run in ids)
    done = forked(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert left(root) == left(unkilled / "root")


@pytest.mark.long
def test_two_workers_of_which_one_is_killed_in_each_stage(
        unkilled: Path, tmp_path: Path) -> None:
    root, file = tmp_path / "root", write_search(tmp_path, SHORT)
    select, confirm = stages(unkilled)
    words = ["work", file, "--root", root, "--slots", 1, "--checkpoint-every", 0]
    workers = [Forked(*words) for _ in range(2)]
    try:
        for ids in (select, confirm):
            wait_for(lambda ids=ids: has_begun(root, ids, 40))  # type: ignore[misc]
            os.kill(workers[-1].pid, signal.SIGKILL)
            workers.append(Forked(*words))
        ends = [worker.wait() for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    texts = ["".join(worker.read()) for worker in workers]
    assert ends == [0, -signal.SIGKILL, -signal.SIGKILL, 0], texts
    assert "Traceback" not in "".join(texts)
    assert left(root) == left(unkilled / "root")
    assert {*read_queue(root / "runs" / "tuned").begun} == select | confirm


@pytest.mark.long
@pytest.mark.parametrize("number", range(6))
def test_killed_at_any_moment(unkilled: Path, tmp_path: Path, number: int) -> None:
    """Two launchers of one root, one of which is killed again and again."""
    root, moments = tmp_path / "root", random.Random(number)
    command = ["run", write_search(tmp_path, SHORT), "--root", root, "--slots", 1,
               "--checkpoint-every", 0]
    other = Forked(*command)
    for _ in range(3):
        process = Forked(*command)
        time.sleep(moments.uniform(1, 8))
        process.kill()
        process.wait(60)
    assert other.wait() in (0, 3), other.read()
    done = forked(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert left(root) == left(unkilled / "root")
