"""That the documents of the repository's root say what is in it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from configparser import ConfigParser
from pathlib import Path

import pytest

from gan_bench.journal.drift import NUMERICS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "gan_bench"
ENTRY_POINTS = {"__init__.py", "__main__.py"}
MAX_FUNCTION_LINES, MAX_APP_LINES = 60, 300


def table_rows() -> dict[str, str]:
    """Return CONTRIBUTING's table of folders: the first cell → the second."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    return dict(re.findall(r"(?m)^\| (`\w+/`|modules) \| (.*) \|$", text))


def folder_rows() -> dict[str, str]:
    return {name.strip("`/"): text for name, text in table_rows().items() if name != "modules"}


def test_every_folder_and_root_module_is_in_the_table() -> None:
    folders = {path.name for path in PACKAGE.iterdir()
               if path.is_dir() and path.name != "__pycache__"}
    assert set(folder_rows()) == folders
    modules = {path.name for path in PACKAGE.glob("*.py")} - ENTRY_POINTS
    assert set(re.findall(r"`(\w+\.py)`", table_rows()["modules"])) == modules


@pytest.mark.parametrize("folder", sorted(folder_rows()))
def test_what_the_table_names_of_a_folder_exists(folder: str) -> None:
    assert absent(PACKAGE / folder, folder_rows()[folder]) == []


def absent(folder: Path, row: str) -> list[str]:
    """Return what a row names that is not there.

    What follows "in `room/`:" lies in that room; after a semicolon, in the room or in the folder.
    """
    missing, rooms = [], [folder]
    for enters, name, ends in re.findall(r"in `(\w+)/`:|`([\w./]+(?:\.py|/))`|(;)", row):
        if enters:
            rooms = [folder / enters]
        elif ends:
            rooms = [*rooms, folder]
        elif not any((room / name).exists() for room in rooms):
            missing.append(name)
    return missing


def test_a_file_in_another_room_is_not_where_the_table_says(tmp_path: Path) -> None:
    for name in "top.py", "a/one.py", "b/two.py":
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert absent(tmp_path, "`top.py`, in `a/`: `one.py` (x); `top.py`; in `b/`: `two.py`") == []
    assert absent(tmp_path, "`one.py`, in `a/`: `two.py`, `top.py`; `two.py`") == [
        "one.py", "two.py", "top.py", "two.py"]


def command_line_files() -> list[Path]:
    """The files of cli/ and its rooms, without `starter`, which holds what `init` writes."""
    return [path for path in (PACKAGE / "cli").rglob("*.py") if path.parent.name != "starter"]


def test_every_file_of_the_command_line_is_in_the_table() -> None:
    named = set(re.findall(r"`(\w+\.py)`", folder_rows()["cli"]))
    assert named == {path.name for path in command_line_files()} - ENTRY_POINTS


def test_the_command_line_keeps_its_size() -> None:
    assert len((PACKAGE / "cli" / "app.py").read_text().splitlines()) < MAX_APP_LINES
    long = [f"{path.name}: {node.name}" for path in command_line_files()
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.FunctionDef)
            and (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES]
    assert long == []


def test_a_public_name_is_defined_once() -> None:
    homes: dict[str, list[str]] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                homes.setdefault(node.name, []).append(str(path.relative_to(PACKAGE)))
    assert len(homes) > 100
    assert {name: files for name, files in homes.items() if len(files) > 1} == {}


def test_no_ternary_stands_within_a_ternary_or_a_comprehension() -> None:
    outer = (ast.IfExp, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    ternaries, nested = 0, []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            ternaries += isinstance(node, ast.IfExp)
            if isinstance(node, outer):
                nested += [f"{path.relative_to(PACKAGE)}:{inner.lineno}"
                           for inner in ast.walk(node)
                           if isinstance(inner, ast.IfExp) and inner is not node]
    assert ternaries > 0
    assert nested == []


def test_the_changelog_begins_with_the_present_numerics() -> None:
    headings = re.findall(r"(?m)^## (.*)$", (ROOT / "CHANGELOG.md").read_text())
    assert headings[0] == "Unreleased"
    numbers = [int(title.removeprefix("NUMERICS ")) for title in headings
               if title.startswith("NUMERICS ")]
    assert numbers == [*range(NUMERICS, 0, -1)]


def test_the_licence_is_the_one_that_the_package_declares() -> None:
    described = ConfigParser()
    described.read(ROOT / "setup.cfg")
    metadata = described["metadata"]
    lines = (ROOT / metadata["license_files"]).read_text().splitlines()
    assert lines[0] == f"{metadata['license']} License"
    assert metadata["author"] in lines[2]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nlicense: {metadata['license']}\n" in citation
    assert f"\nversion: {metadata['version']}\n" in citation


def test_no_two_files_of_tests_have_one_name() -> None:
    """Pytest imports them by their names alone, and leaves out the second without a test."""
    names = Counter(file.name for file in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name, number in names.items() if number > 1] == []
    assert len(names) > 100
