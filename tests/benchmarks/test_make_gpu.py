"""What `make gpu` does around its measurements, which is all that can be tried without a GPU."""

from __future__ import annotations

import ast
import os
import time
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZipFile

import psutil
import pytest
from helpers.forked import forking

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"
SOME_TESTS = """\
import time
import pytest

def test_good():
    assert True

@pytest.mark.parametrize("case", ["red", "green"])
def test_bad(case):
    assert case == "green", "its reason"

def test_slow():
    time.sleep(60)

@pytest.mark.skip(reason="no device")
def test_skipped():
    pass
"""


@pytest.fixture
def gpu_all(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))  # `main` changes it
    import gpu_all

    return gpu_all


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    return gpu


def test_every_gpu_test_has_its_place_and_its_limit(gpu_all: ModuleType) -> None:
    tree = ast.parse(gpu_all.TESTS.read_text())
    names = {node.name for node in tree.body
             if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
    assert {name for name, _, _ in gpu_all.ORDER} == names
    assert len({(name, words) for name, words, _ in gpu_all.ORDER}) == len(gpu_all.ORDER)
    assert {words for name, words, _ in gpu_all.ORDER if name == gpu_all.GRAPHS} == {
        "float32", "tf32", "bfloat16"}  # of its cases, none is left out
    assert all(limit <= gpu_all.TESTS_BUDGET for _, _, limit in gpu_all.ORDER)
    assert gpu_all.TESTS_BUDGET < gpu_all.BUDGET < 8 * 60


@pytest.mark.process
def test_each_test_ends_within_its_limit_and_says_how(gpu_all: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "test_some.py"
    file.write_text(SOME_TESTS)
    order = (("test_bad", "red", 120.0), ("test_slow", "", 8.0), ("test_bad", "green", 120.0),
             ("test_good", "", 120.0), ("test_skipped", "", 120.0), ("test_none", "", 120.0))
    out = tmp_path / "out"
    out.mkdir()
    begin = time.monotonic()
    found = {result.name: result for result in gpu_all.run_tests(order, file, out, 400.0)}
    assert time.monotonic() - begin < 400
    assert {name: result.verdict for name, result in found.items()} == {
        "test_bad[red]": "FAILED", "test_slow": "NOT DONE", "test_bad[green]": "passed",
        "test_good": "passed", "test_skipped": "skipped", "test_none": "FAILED"}
    assert "its reason" in found["test_bad[red]"].why
    assert found["test_slow"].why == "not done within 8 s"
    assert "its reason" in (out / "test_bad[red].log").read_text()
    late = [*gpu_all.run_tests(order[:2], file, out, 0.0)]
    assert [(result.verdict, result.why) for result in late] == [
        ("NOT DONE", "no time was left for it")] * 2


def test_what_a_machine_lacks_is_said_in_one_line(
        gpu_all: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu_all.missing() == []
    monkeypatch.setattr(gpu_all, "PACKAGES", {
        "numpy": "numpy", "no_such_module": "no-such", "no_such.inner": "no-such-inner"})
    monkeypatch.setattr("sys.argv", ["gpu_all.py", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        gpu_all.main()
    said = capsys.readouterr().err
    assert ended.value.code == 2
    assert said.startswith("make gpu: this machine lacks no-such, no-such-inner: ")
    assert said.count("\n") == 1
    assert "-d wheels no-such no-such-inner`" in said
    for name, problem in (("absent", "is no folder"), (".", "No matching distribution")):
        monkeypatch.setattr("sys.argv", ["gpu_all.py", "--out", str(tmp_path / "out"), "--wheels",
                                         str(tmp_path / name)])
        with pytest.raises(SystemExit):
            gpu_all.main()
        said = capsys.readouterr().err
        assert said.startswith("make gpu: --wheels: ")
        assert problem in said
        assert said.count("\n") == 1


@pytest.mark.process
def test_wheels_that_were_brought_along_are_unpacked_beside_the_logs(
        gpu_all: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheels, info = tmp_path / "wheels", "carried_along-1.0.dist-info"
    wheels.mkdir()
    with ZipFile(wheels / "carried_along-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("carried_along.py", "HERE = True")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: carried-along\n"
                                           "Version: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n"
                                        "Tag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    packages = tmp_path / "out" / "packages"
    monkeypatch.setattr(gpu_all, "PACKAGES", {"carried_along": "carried-along"})
    monkeypatch.syspath_prepend(str(packages))
    assert gpu_all.missing() == ["carried-along"]
    assert gpu_all.install(wheels, packages) == ""
    assert gpu_all.missing() == []


@pytest.mark.parametrize(("broken", "status"), [((), 0), (("test",), 1), (("measure",), 1)])
def test_a_failure_is_survived_and_said(
        gpu_all: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str], broken: tuple[str, ...], status: int) -> None:
    def run_tests(*arguments: object) -> Iterator[Any]:
        yield gpu_all.Result("first", "FAILED" if "test" in broken else "passed", "so it is", 1.0)

    def measure(options: Namespace, budget: float) -> int:
        assert 0 < budget <= gpu_all.BUDGET
        print("the table")
        return 3 if "measure" in broken else 0

    monkeypatch.setattr(gpu_all, "run_tests", run_tests)
    monkeypatch.setattr(gpu_all, "measure", measure)
    monkeypatch.setattr(gpu_all, "has_gpu", lambda: True)
    monkeypatch.setattr("sys.argv", ["gpu_all.py", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as ended:
        gpu_all.main()
    said = capsys.readouterr().out
    assert ended.value.code == status
    assert "the table" in said
    assert ("- FAILED: first: so it is" in said) is ("test" in broken)
    assert ("gpu.py ended with status 3" in said) is ("measure" in broken)


@pytest.mark.parametrize(("given", "why"), [
    ([], "make gpu: torch sees no CUDA device here"), (["--models", "mpl"], "invalid choice")])
def test_what_cannot_be_measured_is_refused_before_any_test(
        gpu_all: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str], given: list[str], why: str) -> None:
    monkeypatch.setattr(gpu_all, "run_tests", lambda *arguments: pytest.fail("tests were begun"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("sys.argv", ["gpu_all.py", "--out", str(tmp_path / "out"), *given])
    with pytest.raises(SystemExit) as ended:
        gpu_all.main()
    assert ended.value.code == 2
    assert why in capsys.readouterr().err.splitlines()[-1]


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.process
def test_a_test_out_of_time_ends_with_the_processes_it_started(gpu_all: ModuleType,
                                                               tmp_path: Path) -> None:
    file, pid = tmp_path / "test_child.py", tmp_path / "pid"
    file.write_text(f"""\
import subprocess, time
def test_child():
    child = subprocess.Popen(["sleep", "600"])
    open({str(pid)!r}, "w").write(str(child.pid))
    time.sleep(600)
""")
    result = gpu_all.run_test(("test_child", "", 15.0), file, tmp_path, time.monotonic() + 60)
    assert result.verdict == "NOT DONE"
    end = time.monotonic() + 10
    while is_alive(int(pid.read_text())):
        assert time.monotonic() < end
        time.sleep(0.1)


def two_modes(report: Any, end: str) -> None:
    report("eager", {"rate": 1.0})
    if end == "raise":
        raise ValueError("its reason\nand more")
    if end == "die":
        os._exit(9)
    if end == "hang":
        time.sleep(60)
    report("graph", {"rate": 2.0})


@pytest.mark.process
@pytest.mark.parametrize(("end", "why"), [
    ("well", None), ("raise", "ValueError: its reason"),
    ("die", "its process ended with status 9"), ("hang", "not done within 10 s")])
def test_what_a_cell_has_found_is_kept_however_it_ends(gpu: ModuleType, tmp_path: Path, end: str,
                                                       why: str | None) -> None:
    bench = gpu.Bench(tmp_path, 10 if end == "hang" else 120, 300)
    bench._context = forking()
    found = bench.run("a cell", two_modes, end)
    assert found["eager"] == {"rate": 1.0}
    assert ("graph" in found) is (why is None)
    assert found.get("") == (None if why is None else {"why": why})
    assert (tmp_path / "a-cell.log").exists()
    bench.end = 0.0
    assert bench.run("late", two_modes, end) == {"": {"why": "no time left for it: --budget"}}


def a_table(fast: float) -> dict[str, Any]:
    """What all cells of a GPU have found that is so many times as fast as the targets ask for."""
    every: dict[str, Any] = {"naive": {}, "peak": {"float32": {"peak": 1e12}}}
    for model, seconds in (("mlp", 10), ("dcgan_upsample", 60)):
        rate = fast * 23_500 / seconds
        every["naive"][model] = {"rate": rate / fast**2 / 20, "workers": 2}
        for mode, times in (("eager", 0.1), ("graph", 1.0), ("packed 1", 1.0), ("packed 4", 3.0),
                            ("packed 8", 4.0 * fast)):
            every[f"{model} float32 {mode}"] = {
                "rate": times * rate, "flops": 1e6, "launches": 3.0, "host": 5e-5, "busy": 0.5,
                "memory": 1.5}
    return every


def test_the_table_has_a_line_for_each_cell(gpu: ModuleType) -> None:
    options = gpu.options_of(["--out", "x", "--models", "mlp", "--precisions", "float32"])
    every = a_table(1.0)
    every["mlp float32 eager"] = {"why": "OutOfMemoryError: too large"}
    head, naive, eager, graph, *packed = gpu.lines(every, options)
    assert head.split()[:4] == ["model", "precision", "mode", "steps/s"]
    assert naive.split()[-2:] == ["2", "workers"]
    assert eager.endswith("OutOfMemoryError: too large")
    assert graph.split() == ["mlp", "float32", "graph", "2,350.0", "10.0", "s", "20.0", "0.2%", "3",
                             "50", "50%", "1.50", "GB"]
    assert [line.split()[2:4] for line in packed] == [["packed", "1"], ["packed", "4"],
                                                      ["packed", "8"]]


def test_what_misses_a_target_is_said_on_both_sides(gpu: ModuleType) -> None:
    assert gpu.misses(a_table(1.01)) == []
    missed = gpu.misses(a_table(0.99))
    assert [line.partition(":")[0] for line in missed] == [
        "mlp, 100 epochs", "dcgan_upsample, 100 epochs",
        "mlp, 8 seeds packed, times one seed's throughput", "mlp, one run, times naive"]
    assert gpu.misses({"naive": {"mlp": {"why": "x"}}})[0] == (
        "mlp, 100 epochs: not measured, and at most 10 s are wanted")


def test_a_cell_measures_every_mode_and_goes_on_after_a_failure(
        gpu: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu_cells

    measured, found = gpu_cells.measure_mode, {}

    def measure_mode(model: str, precision: str, mode: str, *rest: Any) -> dict[str, Any]:
        if mode == "graph":
            raise RuntimeError("it cannot be captured\nat all")
        answer: dict[str, Any] = measured(model, precision, mode, *rest)
        return answer

    monkeypatch.setattr(gpu_cells, "measure_mode", measure_mode)
    gpu_cells.measure(found.__setitem__, "mlp", "tf32", ["eager", "graph", "packed 4"], 0.01, None,
                      gpu_cells.REHEARSAL)
    assert set(found) == {"eager", "graph", "packed 4"}
    assert found["graph"] == {"why": "RuntimeError: it cannot be captured"}
    for mode in ("eager", "packed 4"):
        assert found[mode]["rate"] > 0
        assert 0 < found[mode]["host"] < 10
        assert 100 < found[mode]["launches"] < 1000  # of a run, not of all of them
        assert found[mode]["flops"] > 1e6
    assert found["eager"]["launches"] == pytest.approx(found["packed 4"]["launches"])
