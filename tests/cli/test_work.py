"""`gan-bench stop`: who is asked to leave, by name or by a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from helpers.journals import FACTS, new_run
from helpers.runs import write_experiment
from helpers.studies import here

from gan_bench.cli.work import stop_workers
from gan_bench.errors import SpecError, UserError
from gan_bench.journal.sharing.lock import is_worked_on
from gan_bench.journal.sharing.queue_file import FILE, STOP
from gan_bench.journal.writing import Journal, claim_run


def prepared(tmp_path: Path) -> Path:
    """Return the folder of a run of a prepared experiment."""
    folder = new_run(tmp_path)
    (folder.parent / FILE).write_text("{}")
    return folder


def test_a_run_that_is_claimed_and_has_no_record_yet_is_worked_on(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    home = folder.parent
    nobody = f"nobody works on {home.name}; workers that start leave at once, until `gan-bench run`"
    assert not is_worked_on(home)
    assert stop_workers(tmp_path, home.name) == [nobody]
    assert (home / STOP).exists()
    claim = claim_run(folder)
    assert is_worked_on(home)
    asked = f"process {os.getpid()} is asked to write 1 checkpoint and to leave"
    assert stop_workers(tmp_path, home.name) == [asked]
    book = Journal(folder, claim=claim)
    book.start(FACTS)
    assert stop_workers(tmp_path, home.name) == [asked]
    book.close()
    claim.release()
    assert not is_worked_on(home)
    assert stop_workers(tmp_path, home.name) == [nobody]


def test_a_folder_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    folder = prepared(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    claim_run(tmp_path / "elsewhere").release()
    (folder.parent / "linked").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"linked: is a link; move it away"):
        stop_workers(tmp_path, folder.parent.name)


@pytest.mark.parametrize(("text", "line"), [
    ("seeds: [0]\n", "x.yaml:1:1: the key 'name' is missing"),
    ("seeds: [0]\nname: 3\n", "x.yaml:2:1: name: is text, not 3"),
    ("- a\n", "x.yaml:1:1: an experiment is a mapping")])
def test_a_file_without_a_name_is_a_line(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(SpecError) as error:
        stop_workers(tmp_path, str(tmp_path / "x.yaml"))
    assert [each.startswith(f"{tmp_path}/{line}") for each in error.value.lines] == [True]
    for command in ("stop", "clean"):
        done = here(command, tmp_path / "x.yaml", "--root", tmp_path)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert line in done.stderr


def test_a_file_stands_for_its_experiment(tmp_path: Path) -> None:
    file = write_experiment(tmp_path)
    with pytest.raises(UserError, match="holds no prepared experiment 'tiny'; give its YAML"):
        stop_workers(tmp_path, str(file))
    home = tmp_path / "runs" / "tiny"
    home.mkdir(parents=True)
    (home / FILE).write_text("{}")
    assert stop_workers(tmp_path, str(file))[0].startswith("nobody works on tiny; ")
