"""A root has an identity of its own, which a copy does not share, wherever the copy came from."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gan_bench.errors import UserError
from gan_bench.tracking.runs import origin
from gan_bench.tracking.runs.origin import FILE, attempt_of, instance_of, run_root


def test_the_root_of_a_run_however_its_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "runs" / "study" / "abc"
    run.mkdir(parents=True)
    monkeypatch.chdir(run.parent)
    for folder in (run, Path("abc"), Path("abc/../abc"), Path("../study/abc")):
        assert run_root(folder) == tmp_path


def test_a_root_keeps_its_identity_where_it_is_moved(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    first = instance_of(root)
    assert (len(first), instance_of(root)) == (32, first)
    assert [file.name for file in root.iterdir()] == [FILE]
    root.rename(tmp_path / "moved")
    assert instance_of(tmp_path / "moved") == first
    (tmp_path / "link").symlink_to(tmp_path / "moved")
    assert instance_of(tmp_path / "link") == first


@pytest.mark.parametrize("way", ["copied", "hard links", "inode of the root", "no content"])
def test_a_copy_of_a_root_takes_another_identity(tmp_path: Path, way: str) -> None:
    root, copy = tmp_path / "root", tmp_path / "copy"
    root.mkdir()
    first = instance_of(root)
    if way == "hard links":
        shutil.copytree(root, copy, copy_function=os.link)
    else:
        shutil.copytree(root, copy)
    if way == "inode of the root":  # as on another file system, where the folder may have the same
        content = json.loads((copy / FILE).read_text())
        file = content["place"].split()[1]
        (copy / FILE).write_text(json.dumps(
            {**content, "place": f"{copy.stat().st_ino} {file}"}))
    elif way == "no content":
        (copy / FILE).write_text("")
    second = instance_of(copy)
    assert second != first
    assert (instance_of(copy), instance_of(root)) == (second, first)


def disguised(root: Path, original: Path) -> Path:
    """Make the file of a root what it is in a clone that keeps the inodes of the original."""
    instance_of(root)
    content = json.loads((root / FILE).read_text())
    theirs = json.loads((original / FILE).read_text())
    (root / FILE).write_text(json.dumps({**theirs, "place": content["place"]}))
    return root


def test_a_clone_that_keeps_the_inodes_takes_another_identity(tmp_path: Path) -> None:
    """As a snapshot on the same machine has it."""
    root, clone = tmp_path / "root", tmp_path / "clone"
    for folder in (root, clone):
        folder.mkdir()
    first = instance_of(root)
    second = instance_of(disguised(clone, root))
    assert second != first
    assert (instance_of(clone), instance_of(root)) == (second, first)
    # Without the original it is the root, which was moved.
    disguised(clone, root)
    shutil.rmtree(root)
    assert instance_of(clone) == first
    assert json.loads((clone / FILE).read_text())["path"] == str(clone)


def test_a_clone_on_another_machine_takes_another_identity(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "_machine", lambda root: "ours")
    first = instance_of(tmp_path)
    text = (tmp_path / FILE).read_text()
    monkeypatch.setattr(origin, "_machine", lambda root: "")  # a container, or a shared folder
    assert instance_of(tmp_path) == first
    assert (tmp_path / FILE).read_text() == text
    monkeypatch.setattr(origin, "_machine", lambda root: "theirs")
    second = instance_of(tmp_path)
    assert second != first
    assert instance_of(tmp_path) == second


def test_a_file_of_an_earlier_version_keeps_its_identity(tmp_path: Path) -> None:
    first = instance_of(tmp_path)
    content = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({"id": first, "place": content["place"]}))
    assert instance_of(tmp_path) == first
    assert json.loads((tmp_path / FILE).read_text())["path"] == str(tmp_path)


@pytest.mark.parametrize("content", ["{", "[]", "[" * 5_000, '{"id": 3, "place": ""}', "{}",
                                     '{"id": "\' or 1", "place": ""}', "\xff"])
def test_a_damaged_file_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content, "latin-1")
    first = instance_of(tmp_path)
    assert (len(first), instance_of(tmp_path)) == (32, first)
    assert json.loads((tmp_path / FILE).read_text())["id"] == first


@pytest.mark.parametrize("links", [True, False])
@pytest.mark.parametrize("copied", [False, True])
def test_launchers_that_start_at_once_agree(tmp_path: Path, copied: bool, links: bool) -> None:
    """Where a file system has no hard links, too: exFAT, or a share of Windows."""
    root = tmp_path / "root"
    root.mkdir()
    if copied:
        (tmp_path / "original").mkdir()
        instance_of(tmp_path / "original")
        shutil.copy(tmp_path / "original" / FILE, root)
    refuse = "def refuse(*paths): raise PermissionError(1, 'Operation not permitted')\n"
    script = ("import os, sys, pathlib; from gan_bench.tracking.runs.origin import instance_of\n"
              f"{'' if links else refuse + 'os.link = refuse'}\n"
              "sys.stdin.read(); print(instance_of(pathlib.Path(sys.argv[1])))")
    processes = [subprocess.Popen([sys.executable, "-c", script, root], text=True,
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(4)]
    answers = {process.communicate()[0].strip() for process in processes}
    assert answers == {instance_of(root)}
    assert [file.name for file in root.iterdir()] == [FILE]


def test_a_root_whose_file_cannot_be_used_is_one_line(tmp_path: Path) -> None:
    (tmp_path / FILE).mkdir()
    with pytest.raises(UserError, match=r"instance\.json: cannot be used: Is a directory; move it"):
        instance_of(tmp_path)


def test_an_attempt_without_a_tag_is_its_start() -> None:
    assert attempt_of({"gan_bench.attempt": "17"}, 5) == 17
    assert attempt_of({"gan_bench.attempt": "x"}, 5) == attempt_of({}, 5) == 5
