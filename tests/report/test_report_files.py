"""Which files a report replaces, and which it leaves alone; what a killed one leaves."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers.commands import Forked
from helpers.reports import contents, refused, report

from gan_bench.cli.results.report import Asked, make_report
from gan_bench.hardware import usable_cores
from gan_bench.journal.layout import Workspace
from gan_bench.report.write import UNFINISHED

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def test_a_report_replaces_its_files_and_no_others(studies: Path, tmp_path: Path) -> None:
    """The last report's files are replaced and removed; the user's stay, whatever their names."""
    report(studies, tmp_path, formats="csv,figures")
    written = contents(tmp_path)
    assert {"summary.csv", "figures/samples-sat.png", ".report.json"} <= written.keys()
    users = {"notes.txt": b"mine", "figures/fid-seeds.png": b"mine", "figures/plot.pdf": b"mine",
             ".report-old/a.txt": b"mine", "figures/samples-plain.pdf": b"changed by hand"}
    (tmp_path / ".report-old").mkdir()
    for name, content in users.items():
        (tmp_path / name).write_bytes(content)
    os.utime(tmp_path / ".report-old", (0, 0))
    report(studies, tmp_path, formats="figures", variants="sat")
    after = contents(tmp_path)
    assert users.items() <= after.items()
    assert "figures/samples-sat.png" in after
    assert "figures/samples-plain.png" not in after  # a figure of the first report alone
    assert after["summary.csv"] == written["summary.csv"]  # no csv was asked for
    report(studies, tmp_path, formats="csv", variants="sat")
    assert contents(tmp_path)["summary.csv"] != written["summary.csv"]
    assert users.items() <= contents(tmp_path).items()


@pytest.mark.parametrize(("name", "formats"), [
    ("summary.csv", "csv,figures"), ("pairs.csv/mine.txt", "csv"), ("figures", "csv,figures")])
def test_a_file_in_the_way_is_refused_before_anything_is_written(
        studies: Path, tmp_path: Path, name: str, formats: str) -> None:
    file = tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    place = tmp_path / Path(name).parts[0]
    with refused(f"{place}: is in the way: {tmp_path} has no record (.report.json) of an earlier "
                 f"report; move it away, or choose another --out"):
        report(studies, tmp_path, formats=formats)
    assert contents(tmp_path) == {name: b"mine"}
    file.unlink()
    shutil.rmtree(place, ignore_errors=True)
    report(studies, tmp_path)
    (tmp_path / "table.tex").symlink_to(tmp_path / "summary.csv")
    before = contents(tmp_path)
    with refused(f"{tmp_path / 'table.tex'}: is in the way"):
        report(studies, tmp_path, formats="csv,tex")
    assert contents(tmp_path) == before
    assert (tmp_path / "table.tex").is_symlink()
    (tmp_path / "table.tex").unlink()
    (tmp_path / "summary.csv").write_text("changed by hand")
    with refused(f"{tmp_path / 'summary.csv'}: is in the way: the last report did not write it, "
                 f"or changes came since"):
        report(studies, tmp_path)
    assert (tmp_path / "summary.csv").read_text() == "changed by hand"


def test_the_roots_folder_holds_reports_of_a_version_without_a_list(studies: Path) -> None:
    """They are replaced there by their names; links, folders and changed files are not."""
    out = studies / "reports" / "losses"
    make_report(Asked(["losses"], formats="csv,tex"), Workspace(studies, studies), "", print)
    written = contents(out)
    (out / ".report.json").unlink()
    (out / "summary.csv").write_text("of an earlier version")
    (out / "notes.txt").write_text("mine")
    (out / "table.tex").unlink()
    (out / "table.tex").symlink_to("notes.txt")
    with refused(f"{out / 'table.tex'}: is in the way: {out} has no record (.report.json)"):
        report(studies, out, formats="csv,tex")
    assert (out / "summary.csv").read_text() == "of an earlier version"
    (out / "table.tex").unlink()
    report(studies, out, formats="csv,tex")
    assert contents(out) == {**written, "notes.txt": b"mine"}
    (out / "summary.csv").write_text("changed by hand")
    with refused(f"{out / 'summary.csv'}: is in the way: the last report did not write it"):
        report(studies, out)
    shutil.rmtree(out)


@pytest.mark.parametrize("text", ["", "[]", '{"files: 3}', '{"files": {"a": 1}}', "mine"])
def test_a_list_of_another_origin_is_refused(studies: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / ".report.json").write_text(text)
    with refused(f"{tmp_path / '.report.json'}: is not the list"):
        report(studies, tmp_path)
    assert contents(tmp_path) == {".report.json": text.encode()}


def test_the_advice_on_a_damaged_list_keeps_what_the_user_has_changed(studies: Path, tmp_path: Path,
                                                                      ) -> None:
    out = studies / "reports" / "losses"
    make_report(Asked(["losses"], formats="csv,tex"), Workspace(studies, studies), "", print)
    (out / "table.tex").write_text("changed by hand")
    (out / ".report.json").write_text("{")
    with refused(f"{out / '.report.json'}: is not the list of what the last report wrote; move the "
                 f"folder away, or choose another --out"):
        make_report(Asked(["losses"], formats="csv,tex"), Workspace(studies, studies), "", print)
    out.rename(tmp_path / "away")
    make_report(Asked(["losses"], formats="csv,tex"), Workspace(studies, studies), "", print)
    assert (tmp_path / "away" / "table.tex").read_text() == "changed by hand"
    assert "changed by hand" not in (out / "table.tex").read_text()
    shutil.rmtree(out)


def test_a_list_names_no_file_of_another_folder(studies: Path, tmp_path: Path) -> None:
    """Whoever sent the folder knows the content of a file outside it."""
    out = tmp_path / "out"
    report(studies, out, formats="figures")
    (tmp_path / "mine.svg").write_text("mine")
    listed = json.loads((out / ".report.json").read_text())
    digest = hashlib.sha256(b"mine").hexdigest()
    for name in ("figures/../../mine.svg", "../mine.svg", str(tmp_path / "mine.svg")):
        listed["files"][name] = [digest]
    (out / ".report.json").write_text(json.dumps(listed))
    report(studies, out, formats="figures", variants="sat")
    assert (tmp_path / "mine.svg").read_text() == "mine"
    assert not (out / "figures" / "samples-plain.png").exists()


def test_a_report_that_is_killed_between_two_files_is_no_obstacle(studies: Path, tmp_path: Path,
                                                                 ) -> None:
    """The process dies once its first new file is in its place; the next report replaces both."""
    report(studies, tmp_path)
    before = contents(tmp_path)
    code = f"""
import os, signal
from pathlib import Path
from gan_bench.cli.results.report import Asked, make_report
from gan_bench.journal.layout import Workspace
replace = Path.replace
def once(file, target):
    replace(file, target)
    if Path(target).suffix == ".csv":
        os.kill(os.getpid(), signal.SIGKILL)
Path.replace = once
root = Path({str(studies)!r})
make_report(Asked(["losses"], out=Path({str(tmp_path)!r}), formats="csv", variants="sat"),
            Workspace(root, root), "", print)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -9, done.stderr
    killed = contents(tmp_path)
    changed = {name for name in before if killed[name] != before[name]} - {".report.json"}
    assert len(changed) == 1
    report(studies, tmp_path)
    after = contents(tmp_path)
    assert all(after[name] == before[name] for name in before)


@pytest.mark.skipif(usable_cores() < 2, reason="one core draws in the report's process")
def test_the_processes_that_draw_die_with_the_report(studies: Path, tmp_path: Path) -> None:
    """They hold its locks, and would wait for ever for someone to take their figures."""
    process = Forked("report", "losses", "--root", studies, "--out", tmp_path / "out")
    try:
        drawing: list[psutil.Process] = []
        while len(drawing) < 2:
            assert process.poll() is None, "the report ended before it drew"
            time.sleep(0.05)
            drawing = psutil.Process(process.pid).children()
    finally:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(drawing, timeout=30)
    assert [p for p in alive if p.status() != psutil.STATUS_ZOMBIE] == []
    (left,) = (tmp_path / "out").glob(f"{UNFINISHED}*")
    report(studies, tmp_path / "out")
    assert not left.exists()
