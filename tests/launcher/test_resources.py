"""A disk that fills up, a memory that does not suffice: the others go on, and nothing is lost."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.faults import differences
from helpers.launching import GAN_BENCH, PLUGIN
from helpers.runs import write_experiment
from helpers.searches import load_search, outcome_of
from helpers.studies import copy_of

TEN = """\
{a: {}, b: {loss: saturating}, c: {batch_size: 16}, d: {d_steps: 2}, e: {ema: 0.9},
 f: {order: g_first}, g: {d_optimizer: rmsprop},
 diverges: {d_optimizer: {name: sgd, lr: 1.0e+30}}, huge: {model: {name: mlp, width: 4096}},
 raises: {loss: explosive}}
"""
ADDRESS_SPACE = 8 * 2**30  # enough for torch, and not for G, D, gradients and two moments of `huge`


@pytest.mark.long
def test_seven_of_ten_finish(tmp_path: Path, plugin: dict[str, str]) -> None:
    """One raises, one diverges, one exceeds the memory that `ulimit -v` leaves."""
    assert "boom at last" in PLUGIN
    done = subprocess.run(
        [*GAN_BENCH, "run", write_experiment(tmp_path), "--root", tmp_path / "root", "--set",
         f"variants={TEN}", "--set", "seeds=[0]", "--set", "base.steps=20"],
        capture_output=True, text=True, check=False, timeout=240, env={**os.environ, **plugin},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE)))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "8 of 10 runs are done" in done.stdout
    ends = {line.split()[1]: line for line in done.stdout.splitlines()
            if line.startswith(("FAILED", "DIVERGED", "KILLED"))}
    assert set(ends) == {"diverges", "huge", "raises"}
    assert ends["diverges"].startswith("DIVERGED")
    assert "not finite at step" in ends["diverges"]
    assert "out of memory with batch_size 32 (peak" in ends["huge"]
    assert "boom at last" in ends["raises"]
    for variant in "abcdefg":
        assert f" {variant} seed 0: FINISHED at step 20" in done.stdout


@pytest.mark.long
def test_a_full_disk_costs_nothing_but_time(undisturbed: Path, tmp_path: Path) -> None:
    """The root is a small tmpfs, in a mount namespace of its own; then there is room again."""
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system in a namespace (unshare -rm)")
    shutil.copy(undisturbed / "storm.yaml", tmp_path)
    (tmp_path / "small").mkdir()
    command = (f"{sys.executable} -m gan_bench run storm.yaml --root small "
               f"--checkpoint-every 0.1 --slots 1")
    (tmp_path / "full.sh").write_text(f"""\
mount -t tmpfs -o size=11m tmpfs small
{command} > first.txt 2>&1; echo $? >> first.txt
mount -o remount,size=200m small
{command} > second.txt 2>&1; echo $? >> second.txt
cp -r small copy
""")
    subprocess.run(["unshare", "-rm", "sh", "full.sh"], cwd=tmp_path, check=True, timeout=240)
    first, second = ((tmp_path / name).read_text() for name in ("first.txt", "second.txt"))
    assert first.endswith("\n1\n"), first
    assert "the disk is full (No space left on device): make room" in first
    assert "Traceback" not in first
    assert second.endswith("\n0\n"), second
    assert "resumes after step" in second
    assert "FAILED" not in second  # what the first one said of its own end
    assert differences(undisturbed / "undisturbed", tmp_path / "copy") == []


@pytest.mark.long
def test_a_disk_that_is_full_before_the_first_step_is_a_line_and_leaves_no_folder(tmp_path: Path,
                                                                                  ) -> None:
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system in a namespace (unshare -rm)")
    write_experiment(tmp_path)
    (tmp_path / "small").mkdir()
    command = (f"{sys.executable} -m gan_bench run tiny.yaml --root small --slots 1 --tracking-uri "
               f"sqlite:///{tmp_path}/elsewhere.db --set base.steps=3 --set variants={{}} --set")
    (tmp_path / "full.sh").write_text(f"""\
fill() {{ dd if=/dev/zero of=small/filler bs=1024 count=$(($(df -k --output=avail small \
          | tail -1) - $1)) 2> /dev/null; }}
mount -t tmpfs -o size=40m tmpfs small
{command} seeds=[0] > first.txt 2>&1; echo $? >> first.txt
fill 0
{command} seeds=[1,2] > full.txt 2>&1; echo $? >> full.txt
ls -d small/runs/tiny/*/ > full.folders
rm small/filler; fill 8
{command} seeds=[1,2] > nearly.txt 2>&1; echo $? >> nearly.txt
find small/runs/tiny -mindepth 1 -maxdepth 1 -type d -empty > nearly.folders
rm small/filler
{command} seeds=[1,2] > room.txt 2>&1; echo $? >> room.txt
""")
    subprocess.run(["unshare", "-rm", "bash", "full.sh"], cwd=tmp_path, check=True, timeout=240)
    first, full, nearly, room = ((tmp_path / f"{name}.txt").read_text()
                                 for name in ("first", "full", "nearly", "room"))
    cause = "cannot be written: No space left on device; make room, then repeat the command"
    assert first.endswith("\n0\n"), first
    assert full == f"error: {tmp_path}/small/preparation.2: {cause}\n2\n"
    assert len((tmp_path / "full.folders").read_text().split()) == 1
    lines = nearly.splitlines()
    assert lines[-2].startswith(f"error: {tmp_path}/small/runs/tiny/"), nearly
    assert lines[-2].endswith(f"/spec.json: {cause}"), nearly
    assert (lines[-1], nearly.count(cause)) == ("2", 1), nearly
    assert "Traceback" not in nearly
    assert (tmp_path / "nearly.folders").read_text() == ""
    assert room.endswith("\n0\n"), room


@pytest.mark.long
def test_a_disk_that_fills_up_in_the_second_stage_of_a_search_costs_nothing_but_time(
        searched: Path, tmp_path: Path) -> None:
    """When the confirm runs are added, and while they train; then there is room again."""
    if subprocess.run(["unshare", "-rm", "true"], check=False, capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a file system in a namespace (unshare -rm)")
    select = {run.id for run in load_search(tmp_path).runs}
    before = copy_of(searched / "root", tmp_path / "before") / "runs" / "tuned"
    for folder in (file.parent for file in before.glob("*/spec.json")):
        if folder.name not in select:
            shutil.rmtree(folder)
    queue = json.loads((before / "queue.json").read_text())
    queue["begun"] = dict.fromkeys(select, 1)
    (before / "queue.json").write_text(json.dumps(queue))
    for file in before.glob("over.*"):
        file.unlink()
    (tmp_path / "small").mkdir()
    command = f"{sys.executable} -m gan_bench"
    work = f"{command} work tuned --root small --slots 1"
    (tmp_path / "full.sh").write_text(f"""\
fill() {{ rm -f small/filler; dd if=/dev/zero of=small/filler bs=1024 count=$(($(df -k \\
          --output=avail small | tail -1) - $1)) 2> /dev/null; }}
mount -t tmpfs -o size=60m tmpfs small
cp -r before/. small
fill 0
{work} > full.txt 2>&1; echo $? >> full.txt
fill 12
{work} > nearly.txt 2>&1; echo $? >> nearly.txt
fill 1600
{work} > training.txt 2>&1; echo $? >> training.txt
rm small/filler
{command} run tuned.yaml --root small --slots 1 --tracking-uri sqlite:///{tmp_path}/elsewhere.db \\
    > room.txt 2>&1; echo $? >> room.txt
cp -r small copy
""")
    subprocess.run(["unshare", "-rm", "bash", "full.sh"], cwd=tmp_path, check=True, timeout=240)
    full, nearly, training, room = ((tmp_path / f"{name}.txt").read_text()
                                    for name in ("full", "nearly", "training", "room"))
    cause = "cannot be written: No space left on device; make room, then repeat the command"
    for text in (full, nearly):
        *_, line, status = text.splitlines()
        assert line.startswith(f"error: {tmp_path}/small/runs/tuned/"), text
        assert line.endswith(cause), text
        assert (status, text.count(cause)) == ("2", 1), text
    assert "/queue-change." in full
    assert "/spec.json: " in nearly
    assert training.endswith("\n1\n"), training
    assert "the disk is full (No space left on device): make room" in training
    assert "Traceback" not in full + nearly + training + room
    assert room.endswith("\n0\n"), room
    assert "10 of 10 runs are done" in room
    assert outcome_of(tmp_path / "copy") == outcome_of(searched / "root")
