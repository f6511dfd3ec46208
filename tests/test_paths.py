"""That a path has one spelling, which is that of the operating system's file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gan_bench.errors import UserError
from gan_bench.journal.layout import Workspace
from gan_bench.paths import as_path, normal_path


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder, and a link to a folder that lies elsewhere."""
    (tmp_path / "work").mkdir()
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    (tmp_path / "work" / "link").symlink_to(tmp_path / "elsewhere" / "deep")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


@pytest.mark.parametrize(("given", "normal"), [
    (".", "work"), ("root", "work/root"), ("./root/", "work/root"), ("../root", "root"),
    ("a/../b", "work/b"), ("../work/../work/x/..", "work"), ("..", ""), ("link", "work/link"),
    ("link/x", "work/link/x"), ("link/..", "elsewhere"), ("link/../b", "elsewhere/b"),
    ("link/x/../y", "work/link/y"), ("../work/link", "work/link"), ("missing/../x/./y", "work/x/y"),
])
def test_a_path_is_absolute_and_without_dots(tree: Path, given: str, normal: str) -> None:
    for path in (given, Path(given)):
        assert normal_path(path) == tree / normal
    assert os.path.realpath(tree / normal) == os.path.realpath(given)
    workspace = Workspace(Path(given), Path(given))
    assert (workspace.root, workspace.data_root) == (tree / normal, tree / normal)
    assert workspace.database == tree / normal / "mlflow.db"


def test_paths_from_the_file_systems_root() -> None:
    assert normal_path("/../..") == Path("/")
    assert str(normal_path("//tmp/x")) == "/tmp/x"


def test_what_is_no_path_is_refused(tree: Path) -> None:
    assert as_path("a/../b") == Path("a/../b")
    for wrong in (None, 3, b"root", ["root"], "a\0b"):
        with pytest.raises(UserError, match=r"is not a path: give a str or a pathlib.Path$"):
            as_path(wrong)  # type: ignore[arg-type]
    (tree / "work" / "circle").symlink_to("circle")
    assert normal_path("circle") == tree / "work" / "circle"
    with pytest.raises(UserError, match=r"^circle/\.\./x: cannot be followed: .*circle"):
        normal_path("circle/../x")
