"""The scripts of `analysis/` on real runs: what they print is what pandas and SciPy say."""

from __future__ import annotations

import io
import math
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from contextlib import chdir, redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from helpers.studies import here
from scipy import stats

from gan_bench.compare.results import Results
from gan_bench.report.study import load_results

SCRIPTS = Path(__file__).parents[2] / "analysis"
STUDY = """\
name: study
question: Which loss?
baseline: plain
dataset: {name: digits, image_size: 16}
seeds: [0, 1, 2]
base:
  model: {name: mlp, width: 32}
  batch_size: 32
  steps: 40
  log_every: 1
  sample_every: 40
variants:
  plain: {loss: non_saturating}
  flat: {loss: saturating}
  wild: {optimizer: {name: adam, lr: 1.0e+30}}
evaluate: {every: 10, samples: 600, metrics: [fd_classifier, d_accuracy], latent_sets: 3}
compute: {device: cpu}
"""
Refused = Callable[..., str]
NUMBER = r"(-?\d[\d.e+-]*|–|inf)"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `mlruns`: a study of three variants, one of which diverges; one of one seed."""
    home = tmp_path_factory.mktemp("analysis")
    lone = STUDY.replace("study", "lone").replace("[0, 1, 2]", "[7]").replace("latent_sets: 3",
                                                                              "latent_sets: 1")
    for name, text in (("study", STUDY), ("lone", lone.replace("  wild: ", "  # wild: "))):
        (home / f"{name}.yaml").write_text(text)
        done = here("run", home / f"{name}.yaml", "--root", home / "mlruns")
        assert done.returncode == 0, done.stdout + done.stderr
    return home


@pytest.fixture(scope="module")
def study(home: Path) -> Results:
    """The study's frames, from which the tests compute what the scripts should say."""
    found = load_results("study", f"sqlite:///{home / 'mlruns' / 'mlflow.db'}", home / "mlruns")
    counts = pd.crosstab(found.runs["variant"], found.runs["status"])
    assert counts.to_dict() == {"DIVERGED": {"plain": 0, "flat": 0, "wild": 3},
                                "FINISHED": {"plain": 3, "flat": 3, "wild": 0}}
    return found


def said(home: Path, name: str, *arguments: object) -> str:
    """Return what a script prints; in this process, which has imported what it needs."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_TRACK")}
    out, err = io.StringIO(), io.StringIO()
    with (chdir(home), patch.dict(os.environ, clean, clear=True), redirect_stdout(out),
          redirect_stderr(err), patch.object(sys, "argv", [f"{name}.py", *map(str, arguments)])):
        runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
    assert err.getvalue() == ""
    return out.getvalue()


def test_a_user_is_told_the_same(home: Path) -> None:
    """In a process of its own."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_")}
    done = subprocess.run([sys.executable, SCRIPTS / "compare_runs.py", "study"], cwd=home,
                          capture_output=True, text=True, timeout=240, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == said(home, "compare_runs", "study")


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Refused:
    """Returns the one line of a script that cannot do what it is asked; in this process."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def run(home: Path, name: str, *arguments: object, numbers: bool = False) -> str:
        monkeypatch.chdir(home)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(SCRIPTS / f"{name}.py"), run_name="__main__")
        out, err = capsys.readouterr()
        assert end.value.code == 2
        assert bool(out) is numbers
        assert len(err.splitlines()) == 1 or err.startswith("usage: ")
        return err

    return run


def line(text: str, *begin: str) -> list[float]:
    """Return the numbers of the first line that begins so; NaN for a dash."""
    found = re.search(r"^\s*" + r"\s+".join(map(re.escape, begin)) + r"\s+(.*)$", text, re.M)
    assert found, f"no line {begin} in\n{text}"
    return [math.nan if one == "–" else float(one) for one in
            re.findall(rf"(?<![\w.]){NUMBER}(?=[\s%),;\]]|$)", found[1])]


def finals(study: Results, variant: str) -> pd.Series:
    rows = study.history[(study.history["metric"] == "eval/fd_classifier")
                         & (study.history["variant"] == variant) & (study.history["step"] == 40)]
    return rows.set_index("seed")["value"]


def test_compare_runs(home: Path, study: Results) -> None:
    text = said(home, "compare_runs", "study")
    assert text.startswith("Which loss?\n")
    for variant, begin in (("plain", ("fd_classifier", "plain")), ("flat", ("flat",))):
        x = finals(study, variant)
        low, high = stats.t.interval(0.95, 2, x.mean(), stats.sem(x))
        block = text[text.index("fd_classifier"):]
        assert line(block, *begin) == pytest.approx(
            [3, 0, 0, x.mean(), low, high, x.std(), x.median(), x.min(), x.max()], rel=1e-3)
    assert line(text[text.index("fd_classifier"):], "wild")[:4] == pytest.approx(
        [3, 3, 0, math.nan], nan_ok=True)
    assert "all 3 runs diverged" in text
    test = stats.ttest_ind(finals(study, "flat"), finals(study, "plain"), equal_var=False)
    interval = test.confidence_interval(0.95)
    sentence = next(one for one in text.splitlines() if one.startswith("fd_classifier: flat "))
    gap = finals(study, "flat").mean() - finals(study, "plain").mean()
    shown = re.search(r"difference (\S+) \[(\S+), (\S+)\], p = ", sentence)
    assert shown is not None
    error = (interval.high - interval.low) / 4
    for text_of, value in zip(shown.groups(), (gap, *interval), strict=True):
        assert float(text_of) == pytest.approx(value, abs=error / 10)
    assert sentence.endswith("among 2 comparisons") or "alone)" in sentence
    assert re.search(r"fd_classifier: wild against plain is not decisive: probability of "
                     r"improvement 0\S* .*3 of 3 and 0 of 3 runs diverged and rank last.* below "
                     r"0\.1", text)


def test_saturation(home: Path, study: Results, refused: Refused) -> None:
    text = said(home, "saturation", "study", "--steps", 30, "--out", "s.svg")
    assert (home / "s.svg").read_text().startswith("<?xml")
    for variant, loss in (("plain", "non_saturating"), ("flat", "saturating")):
        block = text[text.index(f"\n{loss} "):]
        for step in (1, 30):
            own = study.history[(study.history["variant"] == variant)
                                & (study.history["step"] == step)]
            expected = []
            for metric in ("train/g_grad_norm", "train/d_fake"):
                values = own[own["metric"] == metric]["value"]
                expected += [np.median(values), min(values), max(values), 3]
            begin = [loss, variant, str(step)] if step == 1 and variant == "flat" else [str(step)]
            block = block[block.index(variant):] if len(begin) == 1 else block
            cells = next(one for one in block.splitlines()
                         if re.search(rf"(^|\s){step}\s+[\d.e-]+ \[", one))
            cells = cells.split(f" {step} ", 1)[1]
            assert [float(x) for x in re.findall(r"[\d.]+(?:e-\d+)?", cells)] == pytest.approx(
                expected, rel=6e-3)
    assert not re.search(r"\s31\s", text)
    for out, message in (("no/s.svg", "No such file"), ("s.gif", "unknown figure format 'g")):
        assert message in refused(home, "saturation", "study", "--out", out, numbers=True)
    assert refused(home, "saturation", "study", "--steps", 0).startswith(
        "study has no train/g_grad_norm or train/d_fake up to step 0; ")


def test_convergence(home: Path, study: Results, refused: Refused) -> None:
    text = said(home, "convergence", "study")
    threshold = finals(study, "plain").median()
    assert text.startswith(f"fd_classifier ≤ {threshold:.6g}\n")
    rows = study.history[study.history["metric"] == "eval/fd_classifier"]
    steps, seconds = text.split("\nsteps\n")[1].split("\nseconds since the run's start\n")
    for variant in ("plain", "flat"):
        own = rows[rows["variant"] == variant]
        for unit, block in (("step", steps), ("seconds", seconds)):
            ends = []
            for _, run in own.groupby("run", observed=True):
                there = run[run["value"] <= threshold]
                ends.append((there[unit].min(), True) if len(there) else (own[unit].max(), False))
            got = line(block, variant)
            assert got[:2] == [3, sum(there for _, there in ends)]
            curve = stats.ecdf(stats.CensoredData(
                [t for t, there in ends if there], right=[t for t, there in ends if not there])).sf
            down = curve.quantiles[curve.probabilities <= 0.5]
            assert got[2] == pytest.approx(down[0] if len(down) else math.nan, rel=1e-3,
                                           nan_ok=True)
    assert line(steps, "wild")[:3] == pytest.approx([3, 0, math.nan], nan_ok=True)
    assert "0 of 3 runs reached it" in steps
    easy = said(home, "convergence", "study", "--threshold", 1e9)
    assert line(easy, "plain")[:3] == [3, 3, 10]
    wrong = refused(home, "convergence", "study", "--score", "fd_clasifier")
    assert "no run has a score 'fd_clasifier'" in wrong
    assert "did you mean 'fd_classifier'?" in wrong


def test_seed_power(home: Path, study: Results, refused: Refused) -> None:
    text = said(home, "seed_power", "study", "--seeds", "3,200")
    x, y = finals(study, "flat"), finals(study, "plain")
    sd = math.sqrt((x.var() + y.var()) / 2)
    got = line(text, "fd_classifier", "flat")
    assert got[0] == pytest.approx(sd, rel=6e-3)
    # With many seeds the t-test is one of the normal distribution; 5% over two comparisons.
    reach = (stats.norm.ppf(1 - 0.025 / 2) + stats.norm.ppf(0.8)) * sd * math.sqrt(2 / 200)
    assert got[-2] == pytest.approx(reach, rel=0.02)
    assert got[-1] == pytest.approx(100 * reach / y.mean(), abs=0.6 + 2 * reach / y.mean())
    groups = [[y[seed], *study.history[(study.history["run"] == run) & study.history["metric"].isin(
        ["again/1/fd_classifier", "again/2/fd_classifier"])]["value"]]
        for run, seed in study.runs[study.runs["variant"] == "plain"]["seed"].items()]
    within = np.mean([np.var(group, ddof=1) for group in groups])
    between = max(0.0, np.var([np.mean(group) for group in groups], ddof=1) - within / 3)
    sources = text[text.index("Seed against sampling noise"):]
    assert line(sources, "fd_classifier", "plain")[:4] == pytest.approx(
        [3, 3, math.sqrt(between), math.sqrt(within)], rel=6e-3)
    assert refused(home, "seed_power", "study", "--seeds", "3,1") == (
        "--seeds: numbers from 2 on with commas between, not '3,1'\n")


def test_seed_power_of_a_study_under_way(home: Path, study: Results) -> None:
    """No run of the baseline, or of another variant, has started."""
    module = runpy.run_path(str(SCRIPTS / "seed_power.py"))
    whole = module["differences"](study, [3])
    for absent in ("plain", "flat"):
        names = [name for name in study.variants if name != absent]
        under_way = replace(study.only(names), declared=study.declared)
        table = module["differences"](under_way, [3])
        assert list(table.index) == list(whole.index)
        row = table.loc[("fd_classifier", "flat")]
        if absent == "plain":
            assert "n = 3" not in table  # of nothing is a share known
            assert "it has no finite score" in row[""]
        else:
            assert re.fullmatch(r"[\d.]+ \(\d+%\)", row["n = 3"])


def test_fid_bias(home: Path, study: Results, refused: Refused) -> None:
    text = said(home, "fid_bias", "study", "--counts", "600,900,1800", "--out", "bias.png")
    run = study.runs.index[0]
    assert text.startswith("fd_classifier of plain, seed 0\n")
    assert (home / "bias.png").read_bytes().startswith(b"\x89PNG")
    means = [line(text, str(n))[0] for n in (600, 900, 1800)]
    # As many samples as the run itself was measured on: the same up to the samples.
    assert means[0] == pytest.approx(study.runs.loc[run, "score.fd_classifier"], rel=0.1)
    slope, limit = np.polyfit(1 / np.array([600, 900, 1800]), means, 1,
                              w=np.sqrt([600, 900, 1800]))
    found = re.search(rf"N → ∞: {NUMBER} \[{NUMBER}, {NUMBER}\]; at N: \+?{NUMBER} / N", text)
    assert found
    value, low, high, along = map(float, found.groups())
    assert (value, along) == pytest.approx((limit, slope), rel=1e-3)  # as often at each N
    assert low < value < high
    by_id = said(home, "fid_bias", "study", "--counts", "600,900,1800", "--run", run[:6])
    assert by_id.replace("fid_bias-study.svg", "bias.png") == text  # the same draws again
    for arguments, message in (
            (["--run", "zzz"], "no finished run of study is zzz: name another with --run\n"),
            (["--score", "d_accuracy"], "d_accuracy asks D: give a --score of samples alone\n"),
            (["--score", "label_accuracy"], "label_accuracy asks for labels: give a --score of"),
            (["--score", "fd_clasifier"], "did you mean 'fd_classifier'"),
            (["--counts", "600"], "a line takes two --counts, as in 1000,5000, not '600'\n")):
        assert message in refused(home, "fid_bias", "study", *arguments)


@pytest.mark.parametrize("name", ["compare_runs", "saturation", "convergence", "seed_power",
                                  "fid_bias"])
def test_what_cannot_be_done_is_one_line(home: Path, tmp_path: Path, name: str,
                                         refused: Refused) -> None:
    assert refused(home, name, "stady") == (
        "there is no experiment 'stady' in MLflow; did you mean 'study'?\n")
    assert refused(tmp_path, name, "study").startswith(
        f"there is no {tmp_path / 'mlruns' / 'mlflow.db'} yet: ")
    assert list(tmp_path.iterdir()) == []
    assert "usage: " in refused(home, name)


def test_one_seed(home: Path) -> None:
    text = said(home, "compare_runs", "lone")
    assert "one seed: no interval" in text
    assert "fd_classifier: flat against plain is not decisive: fewer than two runs" in text
    text = said(home, "convergence", "lone")
    assert line(text, "plain")[:2] == [1, 1]
    text = said(home, "seed_power", "lone")
    assert "fewer than two runs: sd is unknown" in text
    assert "No run was measured on several sets of latents" in text
    assert "(1)" in said(home, "saturation", "lone", "--steps", 5)
    assert (home / "saturation-lone.svg").exists()


def test_what_has_no_result(home: Path, study: Results, refused: Refused) -> None:
    """Of an experiment whose runs all diverged."""
    (home / "wild.yaml").write_text(STUDY.replace("name: study", "name: wild").replace(
        "baseline: plain", "baseline: wild").replace("  plain: ", "  # ").replace(
            "  flat:", "  # "))
    done = here("run", home / "wild.yaml", "--root", home / "mlruns")
    assert done.returncode == 0, done.stdout + done.stderr
    for name, message in (
            ("compare_runs", "no run of wild has a final score yet: there is nothing to compare"),
            ("convergence", "during training no run has a score '' with a better direction"),
            ("seed_power", "no finished run shows the scatter of scores; "),
            ("fid_bias", "no finished run of wild is wild: name another with --run")):
        numbers = name == "compare_runs"  # it has said how the runs ended
        assert refused(home, name, "wild", numbers=numbers).startswith(message)
    # Before the first update there was something to measure, and then nothing.
    assert re.search(r"wild +1 +NaN +0\.\d+ \[.*\] \(3\)\n", said(home, "saturation", "wild"))


@pytest.mark.parametrize("path", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_each_is_short_and_says_how_to_run_it(path: Path) -> None:
    text = path.read_text()
    assert f"    python analysis/{path.name} EXPERIMENT [TRACKING_URI]" in text
    assert len(text.splitlines()) < 120
