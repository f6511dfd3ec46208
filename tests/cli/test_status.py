"""`gan-bench status`: what runs, is done, waits and failed, from journals that tests write."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from helpers.journals import FACTS
from helpers.runs import DIGITS, write_experiment
from helpers.studies import here

from gan_bench.cli.last_run import other_settings_line
from gan_bench.cli.options import run_command
from gan_bench.config.declared import Declared
from gan_bench.config.experiment import load_experiment
from gan_bench.journal.about import write_about
from gan_bench.journal.layout import WEIGHTS
from gan_bench.journal.sharing.lock import locked
from gan_bench.journal.writing import Journal


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Path]:
    """A finished run, a failed one, one that is being trained, and one that waits."""
    file, root = write_experiment(tmp_path, DIGITS), tmp_path / "root"
    spec = load_experiment(file, tmp_path)
    done, failed, running, _ = spec.runs
    folders = [run.write(root) for run in (done, failed, running)]
    write_about(folders[0].parent, spec.declared)
    for folder, status, why in ((folders[0], "FINISHED", ""), (folders[1], "FAILED", "a\nboom")):
        book = Journal(folder)
        book.start(FACTS)
        book.metrics(4 if why else 6, {"train/d_loss": 1.0})
        book.end(status, why)
    (folders[0] / WEIGHTS).write_bytes(b"weights")
    with locked(folders[0].parent), closing(Journal(folders[2])) as book:
        book.start(FACTS)
        book.metrics(2, {"train/d_loss": 1.0})
        yield file


def records(*arguments: object) -> list[dict[str, object]]:
    done = here("status", *arguments, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_file_and_a_name_show_the_same_runs(study: Path) -> None:
    root = study.parent / "root"
    spec = load_experiment(study, study.parent)
    by_file, by_name = records(study, "--root", root), records("tiny", "--root", root)
    assert [(r["variant"], r["seed"], r["state"], r["step"], r["steps"]) for r in by_file] == [
        ("plain", 0, "FINISHED", 6, 6), ("plain", 1, "FAILED", 4, 6),
        ("saturating", 0, "RUNNING", 2, 6), ("saturating", 1, "WAITING", 0, 6)]
    assert [r["id"] for r in by_file] == [run.id for run in spec.runs]
    assert by_name[:3] == by_file[:3]
    assert by_name[3] == {**by_file[3], "id": None, "steps": None}
    assert [r["why"] for r in by_file] == ["", "a\nboom", "", ""]
    now = time.time() * 1000
    assert all(now - 60_000 < float(str(r["since"])) <= now for r in by_file[:3])
    assert by_file[3]["since"] is None


def test_since_is_when_a_run_ended_or_its_present_attempt_began(study: Path) -> None:
    root = study.parent / "root"
    spec = load_experiment(study, study.parent)
    hour = 3_600_000
    times = []
    for run in spec.runs[:3]:
        file = run.folder(root) / "journal.jsonl"
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        for i, line in enumerate(lines):
            line["t"] += i * hour
        times.append([line["t"] for line in lines])
        file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    shown = [r["since"] for r in records("tiny", "--root", root)]
    assert shown == [times[0][-1], times[1][-1], times[2][0], None]


def test_a_dead_run_is_killed_since_its_last_record(study: Path) -> None:
    root = study.parent / "root"
    spec = load_experiment(study, study.parent)
    book = Journal(spec.runs[3].write(root))
    book.start(FACTS)
    book.metrics(3, {"train/d_loss": 1.0})
    book.close()
    (killed,) = [r for r in records("tiny", "--root", root) if r["state"] == "KILLED"]
    assert (killed["id"], killed["step"]) == (spec.runs[3].id, 3)
    assert killed["why"] == "its process died without a word"
    text = here("status", "--root", root).stdout
    assert text.startswith("tiny: 2 of 4 runs ended (1 FAILED), 1 running, 0 waiting, 1 KILLED and "
                           "waiting to go on; process ")


def test_runs_of_other_settings_and_seeds_are_left_to_plan(study: Path) -> None:
    root = study.parent / "root"
    spec = load_experiment(study, study.parent, ["base.steps=9", "seeds=[0, 5]"])
    for run in spec.runs:
        book = Journal(run.write(root))
        book.start(FACTS)
        book.close()
    assert {r["state"] for r in records("tiny", "--root", root)} == {
        "FINISHED", "FAILED", "RUNNING", "WAITING"}
    assert {r["state"] for r in records(study, "--root", root, "--set", "base.steps=9")} == {
        "KILLED", "WAITING"}


def test_settings_belong_to_a_file_and_a_name_says_so(
        study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = study.parent / "root"
    settings = "--set", "base.steps=9"
    done = here("status", "tiny", "--root", root, *settings)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "give the YAML of tiny, or leave --set out" in done.stderr
    assert done.stderr.endswith("runs of the last `gan-bench run`\n")
    declared = load_experiment(study, study.parent).declared
    write_about(root / "runs" / "tiny", declared.with_changes(command="gan-bench run x.yaml"))
    done = here("status", "tiny", "--root", root, *settings)
    assert done.stderr.endswith("runs of the last `gan-bench run` (gan-bench run x.yaml)\n")
    # The name of a shipped experiment stands for its file, also where the root has runs of it.
    monkeypatch.chdir(tmp_path)
    spec = load_experiment("dcgan_vs_mlp", tmp_path, ["seeds=[3]"])
    write_about(spec.runs[0].write(root).parent, spec.declared)
    assert [run["seed"] for run in records("dcgan_vs_mlp", "--root", root)] == [3] * 4
    other = records("dcgan_vs_mlp", "--root", root, "--set", "seeds=[7]")
    assert [(run["seed"], run["state"]) for run in other] == [(7, "WAITING")] * 4


def test_says_which_settings_the_last_run_had(study: Path) -> None:
    root = study.parent / "root"
    home = root / "runs" / "tiny"
    mine = "--set", "base.steps=9", "--set", "seeds=[0, 5]"
    said = "had --set base.steps=9 --set 'seeds=[0, 5]': give the same, or the name in place"
    for command, by_name, by_file in (
            ("gan-bench run x.yaml", "", ""), ("", "", ""), ("gan-bench run 'x", "", ""),
            ("gan-bench run x.yaml --set base.steps=9 --set 'seeds=[0, 5]'",
             "last `gan-bench run`, with --set base.steps=9 --set 'seeds=[0, 5]'", said)):
        declared = load_experiment(study, study.parent).declared
        write_about(home, declared.with_changes(command=command))
        for given, expected in ((("tiny",), by_name), ((study,), by_file)):
            last = here("status", *given, "--root", root, env={"COLUMNS": "200"}
                        ).stdout.splitlines()[-1]
            assert expected in last
            assert ("gan-bench run" in last) == bool(expected)
        changed = here("status", study, "--root", root, *mine).stdout
        assert ("had no --set: give the same" in changed) == (command == "gan-bench run x.yaml")
        assert "these are" not in changed


@pytest.mark.parametrize(("stored", "given", "others"), [
    (["base.steps=9", "seeds=[0, 5]"], ["seeds=[0,5]", "base.steps=9"], False),
    (["base.steps=5", "base.steps=9"], ["base.steps=9"], False),
    (["base.model.width=4", "base.model=mlp"], ["base.model=mlp", "base.model.width=4"], True),
    (["seeds=[0, 5]"], ["seeds=[0, 6]"], True),
    (["evaluate.final_metrics=[\"fd_random\"]", "evaluate.final_samples=32"], [], False),
    (["evaluate={metrics: []}"], ["evaluate.samples=32"], False),
    (["evaluate.samples=32", "seeds=[5]"], [], True), (["base.steps=[9"], [], False)])
def test_the_last_runs_settings_are_compared_however_they_are_written(
        tmp_path: Path, stored: list[str], given: list[str], others: bool) -> None:
    home = tmp_path / "tiny"
    home.mkdir()
    write_about(home, Declared(command=run_command(Path("x.yaml"), stored)))
    line = other_settings_line(home, given)
    assert line.startswith("the last `gan-bench run` of tiny had --set") == others
    assert bool(line) == others
    assert "evaluate" not in line + other_settings_line(home, None)


@pytest.mark.parametrize("width", [62, 80, 150])
def test_seed_and_state_are_visible_at_every_width(study: Path, width: int) -> None:
    done = here("status", "tiny", "--root", study.parent / "root", env={"COLUMNS": str(width)})
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= width
    text = " ".join(done.stdout.split())
    assert text.startswith("tiny: 2 of 4 runs ended (1 FAILED), 1 running, 1 waiting; process ")
    rows = [line.split() for line in lines]
    for variant, seed, state in (("plain", "0", "FINISHED"), ("plain", "1", "FAILED"),
                                 ("saturating", "0", "RUNNING"), ("saturating", "1", "WAITING")):
        assert any(" ".join((variant, seed, state)) in " ".join(row) for row in rows)
    assert ("6/6" in text) == (width >= 80)
    assert time.strftime("%Y-%m-%d") in text
    assert "FAILED plain seed 1" in text
    assert "a\\nboom" in text


def test_without_an_experiment_each_of_the_root_has_a_line(study: Path) -> None:
    root = study.parent / "root"
    done = here("status", "--root", root)
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith("tiny: 2 of 4 runs ended (1 FAILED), 1 running, 1 waiting; ")
    assert records("--root", root) == [
        {"experiment": "tiny", "runs": 4, "FINISHED": 1, "FAILED": 1, "RUNNING": 1, "WAITING": 1}]
    empty = here("status", "--root", root / "none")
    assert (empty.returncode, empty.stderr.count("\n")) == (2, 1)
    assert "holds no runs yet" in empty.stderr


def contents(root: Path) -> dict[Path, bytes]:
    """Return what every file holds, but for heartbeats."""
    files = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    claims = re.compile(r"(attempt|mirror)\.[0-9]+")
    return {path: data.partition(b"\n")[0] if claims.fullmatch(path.name) else data
            for path, data in files.items()}


def test_nothing_is_written_and_nothing_heavy_imported(study: Path) -> None:
    root = study.parent / "root"
    before = contents(root)
    for words in (["status", "tiny"], ["status", str(study)], ["status"]):
        code = ("import sys; from gan_bench.cli import app\n"
                f"sys.argv = ['gan-bench', *{words}, '--root', {str(root)!r}]\n"
                "try: app.main()\nexcept SystemExit as end: assert not end.code, end.code\n"
                "heavy = {'torch', 'mlflow', 'numpy', 'scipy', 'sklearn'} & set(sys.modules)\n"
                "assert not heavy, heavy")
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              check=False)
        assert done.returncode == 0, done.stderr
        assert "waiting" in done.stdout
    assert contents(root) == before
