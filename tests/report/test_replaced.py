"""A report that replaces files of a report with other options says which."""

from __future__ import annotations

import json
from pathlib import Path

from gan_bench.cli.results.report import Asked, make_report
from gan_bench.journal.layout import Workspace


def lines(root: Path, out: Path, formats: str = "csv,tex", **asked: object) -> list[str]:
    """What a report says of replaced files."""
    written = make_report(Asked(["losses"], formats=formats, out=out, **asked),  # type: ignore[arg-type]
                          Workspace(root, root), "command", lambda line: None)
    return [line for line in written.lines if line.startswith("replaced")]


def test_says_which_files_of_other_options_it_replaces(studies: Path, tmp_path: Path) -> None:
    assert lines(studies, tmp_path, "csv,tex", spread="interval", width=3.25) == []
    assert lines(studies, tmp_path, "csv,tex", spread="interval", width=3.25) == []
    assert lines(studies, tmp_path, "csv") == [
        "replaced pairs.csv and 1 other file of the report with --width 3.25 --spread interval; "
        "another --out keeps both"]
    # What a report left alone is still of the one before it.
    assert lines(studies, tmp_path, "tex,csv", metric="d_accuracy_fake") == [
        "replaced pairs.csv and 1 other file of the report with no options; another --out keeps "
        "both",
        "replaced table-narrow.tex and 2 other files of the report with --width 3.25 --spread "
        "interval; another --out keeps both"]
    assert lines(studies, tmp_path, "tex,csv", metric="d_accuracy_fake") == []


def test_an_earlier_versions_record_says_no_options(studies: Path, tmp_path: Path) -> None:
    lines(studies, tmp_path, width=3.25)
    record = tmp_path / ".report.json"
    record.write_text(json.dumps({"files": json.loads(record.read_text())["files"]}))
    assert lines(studies, tmp_path) == []
    assert lines(studies, tmp_path, width=3.25) != []
