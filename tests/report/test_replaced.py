"""A report that replaces files of a report with other options says which."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from gan_bench.cli.results.report import Asked, make_report
from gan_bench.journal.layout import Workspace
from gan_bench.report.manifest import install_report


def lines(root: Path, out: Path, formats: str = "csv,tex", **asked: object) -> list[str]:
    """What a report says of replaced files."""
    written = make_report(Asked(["losses"], formats=formats, out=out, **asked),  # type: ignore[arg-type]
                          Workspace(root, root), "command", lambda line: None)
    return [line for line in written.lines if line.startswith("replaced")]


def test_says_which_files_of_other_options_it_replaces(studies: Path, tmp_path: Path) -> None:
    assert lines(studies, tmp_path, "csv,tex", spread="interval", width=3.25) == []
    assert lines(studies, tmp_path, "csv,tex", spread="interval", width=3.25) == []
    assert lines(studies, tmp_path, "csv") == [
        "replaced pairs.csv and 1 other file of the report of `losses --width 3.25 --spread "
        "interval`; another --out keeps both"]
    # What a report left alone is still of the one before it.
    assert lines(studies, tmp_path, "tex,csv", metric="d_accuracy_fake") == [
        "replaced pairs.csv and 1 other file of the report of `losses`; another --out keeps "
        "both",
        "replaced table-narrow.tex and 2 other files of the report of `losses --width 3.25 "
        "--spread interval`; another --out keeps both"]
    assert lines(studies, tmp_path, "tex,csv", metric="d_accuracy_fake") == []


def test_an_earlier_versions_record_says_no_options(studies: Path, tmp_path: Path) -> None:
    lines(studies, tmp_path, width=3.25)
    record = tmp_path / ".report.json"
    record.write_text(json.dumps({"files": json.loads(record.read_text())["files"]}))
    assert lines(studies, tmp_path) == []
    assert lines(studies, tmp_path, width=3.25) != []


def installed(folder: Path, files: dict[str, str], options: str) -> list[str]:
    """What is said where a report of these files is installed in `folder/out`."""
    new, out = folder / "new", folder / "out"
    (new / "figures").mkdir(parents=True)
    out.mkdir(exist_ok=True)
    for name, text in files.items():
        (new / name).write_text(text)
    said = install_report(new, out, options).sentences
    shutil.rmtree(new)
    return said


def test_another_experiments_files_are_not_replaced_without_a_word(tmp_path: Path) -> None:
    assert installed(tmp_path, {"summary.csv": "a"}, "a") == []
    assert installed(tmp_path, {"summary.csv": "b"}, "b") == [
        "replaced summary.csv of the report of `a`; another --out keeps both"]


def test_the_record_names_the_experiments(studies: Path, tmp_path: Path) -> None:
    lines(studies, tmp_path, "csv")
    record = json.loads((tmp_path / ".report.json").read_text())
    assert set(record["options"].values()) == {"losses"}


def test_what_stays_or_is_only_removed_is_not_called_replaced(tmp_path: Path) -> None:
    first = {f"figures/{name}.png": name for name in "abc"}
    installed(tmp_path, first, "x")
    changed = tmp_path / "out" / "figures" / "b.png"
    changed.write_text("by hand")
    assert installed(tmp_path, {"figures/a.png": "new"}, "x --font serif") == [
        "replaced figures/a.png of the report of `x`; another --out keeps both",
        "removed figures/c.png of the report of `x`; another --out keeps both"]
    assert changed.read_text() == "by hand"
    assert not (changed.parent / "c.png").exists()
