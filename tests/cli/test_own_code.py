"""A user's code in one file, from the YAML to the report: `plugins`, `--plugin`, check and init."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import sqlite3
from pathlib import Path

import pytest
from helpers.commands import forked
from helpers.launching import console_script, new_root
from helpers.studies import here

import gan_bench as package
from gan_bench.errors import UserError
from gan_bench.registry import use_plugins
from gan_bench.training.trained import load_generator

CODE = '''\
"""Mine."""

from beside import scale
from gan_bench.components.losses import Loss
from gan_bench.evaluation.metrics.base import refuses_vectors
from gan_bench.registry import LOSSES, METRICS, MODELS, MetricFacts


@LOSSES.register("my_loss")
def my_loss() -> Loss:
    """My loss."""
    from torch.nn.functional import softplus

    return Loss(lambda real, fake: (softplus(-real).mean(), softplus(fake).mean()),
                lambda fake, real: scale(softplus(-fake).mean()))


@MODELS.register("my_net")
def my_net(shape, *, latent_dim: int = 8):
    """My networks."""
    from torch import nn

    size = shape[0] * shape[1] * shape[2]
    return (nn.Sequential(nn.Linear(latent_dim, size), nn.Tanh(), nn.Unflatten(1, shape)),
            nn.Sequential(nn.Flatten(), nn.Linear(size, 1), nn.Flatten(0)))


@METRICS.register("bright", MetricFacts(better="lower", extractor="pixels", reference=None,
                                        refuses=refuses_vectors))
def bright(real, fake):
    """Mean value."""
    return float(fake.values.mean())
'''
BESIDE = "def scale(x):\n    return 2.0 * x\n"
STUDY = """\
name: own
plugins: [mine.py]
dataset: {name: digits, image_size: 8}
seeds: [0, 1]
base: {model: {name: mlp, width: 16}, batch_size: 32, steps: 4, log_every: 2}
variants:
  plain:
  mine: {loss: my_loss}
  whole: {loss: my_loss, model: my_net}
evaluate: {samples: 50, metrics: [bright]}
compute: {device: cpu}
"""


def write(folder: Path, code: str = CODE, study: str = STUDY) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "beside.py").write_text(BESIDE)
    (folder / "mine.py").write_text(code)
    (folder / "own.yaml").write_text(study)
    return folder / "own.yaml"


def plan(file: Path, root: Path, *more: object) -> dict[tuple[str, int], dict[str, object]]:
    """The records of the plan, by variant and seed."""
    done = here("plan", file, "--root", root, "--json", *more)
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    return {(record["variant"], record["seed"]): record for record in records}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the study, trained by a process of its own in its `root`."""
    folder = tmp_path_factory.mktemp("own")
    file = write(folder / "code")
    done = forked("run", file, "--root", new_root(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 of 6 runs are done" in done.stdout
    return folder


def copy(trained: Path, folder: Path) -> tuple[Path, Path]:
    """Return the file and the root of a copy of the trained study."""
    shutil.copytree(trained / "code", folder / "code")
    shutil.copytree(trained / "root", folder / "root")
    database = folder / "root" / "mlflow.db"
    with sqlite3.connect(database) as db:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            db.execute(f"update {table} set {column} = replace({column}, ?, ?)",
                       (str(trained), str(folder)))
    return folder / "code" / "own.yaml", folder / "root"


def test_code_is_in_the_folder_of_the_runs_that_use_it_and_in_mlflow(trained: Path) -> None:
    for folder in (trained / "root" / "runs" / "own").glob("*/"):
        spec = json.loads((folder / "spec.json").read_text())
        sources = {"plain": set(), "mine": {"loss.my_loss"},
                   "whole": {"loss.my_loss", "model.my_net"}}[spec["variant"]]
        assert spec["sources"].keys() == sources
        kept = folder / "plugins" / "mine"
        assert (kept / "mine.py").read_text() == CODE  # every run has the metric
        assert (kept / "beside.py").read_text() == BESIDE
        (stored,) = [place for place in (trained / "root" / "artifacts" / "own").glob("*/artifacts")
                     if (place / "spec.json").exists()  # all but the study run
                     and json.loads((place / "spec.json").read_text()) == spec]
        for name in "mine.py", "beside.py":
            assert (stored / "plugins" / "mine" / name).read_text() == (kept / name).read_text()
        records = [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]
        (protocol,) = [record["protocol"] for record in records if record["kind"] == "protocol"]
        assert len(protocol["eval/bright"]["code"]) == 12


def test_another_formula_makes_other_runs_which_are_never_mixed(trained: Path, tmp_path: Path,
                                                                 ) -> None:
    file, root = copy(trained, tmp_path)
    before = plan(file, root)
    assert {record["state"] for record in before.values()} == {"FINISHED"}

    (file.parent / "mine.py").write_text(
        CODE.replace("My loss.", "Another text.").replace("    return Loss(", "\n    # A note\n"
                     "    return Loss(") + "\n\ndef unused():\n    pass\n")
    assert plan(file, root) == before
    done = here("run", file, "--root", root)
    assert done.returncode == 0
    assert "started" not in done.stdout
    assert "has changed" not in done.stdout

    (file.parent / "beside.py").write_text(BESIDE.replace("2.0", "3.0"))
    after = plan(file, root)
    same = {key for key in before if after[key]["id"] == before[key]["id"]}
    assert same == {("plain", 0), ("plain", 1)}
    old = sorted(str(record["id"]) for key, record in before.items() if key not in same)
    shown = here("plan", file, "--root", root).stdout
    (line,) = [line for line in shown.splitlines() if "changed since" in line]
    assert line == (f"my_loss has changed since runs {', '.join(old)}, which no comparison counts")

    done = here("run", file, "--root", root)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(": started") == 4
    assert line in done.stdout
    # The number of runs of each variant: the old ones are not among them.
    rows = re.findall(r" (plain|mine|whole) +[\d.]+ \[.*?\]\*? +(\d+) ", done.stdout)
    assert sorted(rows) == [("mine", "2"), ("plain", "2"), ("whole", "2")]
    report = here("report", file, "--root", root, "--format", "csv", "--out", tmp_path / "out")
    assert report.returncode == 0, report.stderr
    assert report.stdout.splitlines().count(line) == 1
    assert report.stderr == ""
    with (tmp_path / "out" / "summary.csv").open() as summary:
        assert [row["n"] for row in csv.DictReader(summary)] == ["2", "2", "2"]


def test_another_metric_in_the_file_measures_and_trains_nothing(trained: Path, tmp_path: Path,
                                                                ) -> None:
    file, root = copy(trained, tmp_path)
    before = plan(file, root)
    dark = CODE[CODE.index('@METRICS'):].replace("bright", "dark").replace("())", "() * -1)")
    file.write_text(STUDY.replace("[bright]", "[bright, dark]"))
    (file.parent / "mine.py").write_text(CODE + "\n\n" + dark)
    weights = {place: place.read_bytes() for place in root.glob("runs/own/*/final.safetensors")}

    def measured(formula: str) -> list[tuple[float, float]]:
        done = here("run", file, "--root", root)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "6 of 6 runs are done" in done.stdout
        assert {key: record["id"] for key, record in plan(file, root).items()} == {
            key: record["id"] for key, record in before.items()}
        assert weights == {place: place.read_bytes() for place in weights}
        kept = [place.read_text() for place in root.glob("runs/own/*/plugins/mine/mine.py")]
        assert len(kept) == 6
        assert all(formula in text for text in kept)
        out = tmp_path / f"out{formula}"
        report = here("report", file, "--root", root, "--format", "csv", "--out", out)
        assert report.returncode == 0, report.stderr
        with (out / "summary.csv").open() as summary:
            means = {(row["variant"], row["score"]): float(row["mean"])
                     for row in csv.DictReader(summary)}
        return [(means[variant, "bright"], means[variant, "dark"]) for variant, _ in before]

    first = measured("* -1)")
    assert all(bright == -dark != 0 for bright, dark in first)
    (file.parent / "mine.py").write_text(CODE + "\n\n" + dark.replace("* -1", "* -2"))
    shown = here("plan", file, "--root", root).stdout
    assert "6 finished runs to be measured, not trained" in shown
    assert measured("* -2)") == [(bright, 2 * dark) for bright, dark in first]


def test_a_run_is_read_with_the_code_that_it_was_made_with(trained: Path, tmp_path: Path) -> None:
    file, root = copy(trained, tmp_path)
    run = str(plan(file, root)["whole", 0]["id"])
    folder = root / "runs" / "own" / run
    for words in (("sample", run, "-o", tmp_path / "copy.png"), ("evaluate", run)):
        done = here(*words, "--root", root)
        assert done.returncode == 0, done.stderr
    scores = json.loads(here("evaluate", run, "--root", root, "--json").stdout)
    assert scores["scores"]["bright"] == scores["journalled"]["bright"]

    # The original has changed since: the copy is what the weights belong to.
    (file.parent / "mine.py").write_text(CODE.replace("nn.Tanh()", "nn.Sigmoid()"))
    done = here("sample", run, "-o", tmp_path / "again.png", "--root", root, "--plugin",
                file.parent / "mine.py")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "copy.png").read_bytes()

    # Each of two runs of one process has its own version.
    there = here("run", file, "--root", root, "--set", "seeds=[0]")
    assert there.returncode == 0, there.stderr
    new = root / "runs" / "own" / str(plan(file, root)["whole", 0]["id"])
    assert new != folder
    layers = [type(load_generator(place)[1][1]).__name__ for place in (folder, new, folder)]
    assert layers == ["Tanh", "Sigmoid", "Tanh"]


def test_a_missing_copy_is_one_line(trained: Path, tmp_path: Path) -> None:
    file, root = copy(trained, tmp_path)
    run = str(plan(file, root)["whole", 0]["id"])
    folder = root / "runs" / "own" / run
    shutil.rmtree(folder / "plugins")
    done = forked("sample", run, "-o", tmp_path / "a.png", "--root", root)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"error: {folder}: the code of model my_net that the run was made with is neither "
        f"registered here nor in its folder `plugins`: give the file with --plugin, or install the "
        f"package, in the version of then\n")
    done = here("sample", run, "-o", tmp_path / "a.png", "--root", root, "--plugin",
                file.parent / "mine.py")
    assert done.returncode == 0, done.stderr
    (folder / "plugins").symlink_to(file.parent)
    done = forked("sample", run, "-o", tmp_path / "a.png", "--root", root)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {folder / 'plugins'}: is a link; remove it")


def test_a_report_by_name_knows_which_way_a_metric_of_the_runs_is_better(trained: Path,
                                                                         tmp_path: Path) -> None:
    _, root = copy(trained, tmp_path)
    use_plugins(())
    done = here("report", "own", "--root", root, "--format", "csv", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "neither direction" not in done.stdout + done.stderr
    for folder in (root / "runs" / "own").glob("*/"):
        shutil.rmtree(folder / "plugins")
    done = here("report", "own", "--root", root, "--format", "csv", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert ("no metric here gives the score bright, so which way is better is unknown: give its "
            "file with --plugin, or install its package") in done.stderr


def test_a_report_by_name_survives_a_run_without_its_specification(trained: Path, tmp_path: Path,
                                                                   ) -> None:
    _, root = copy(trained, tmp_path)
    broken, *_ = sorted((root / "runs" / "own").glob("*/"))
    (broken / "spec.json").unlink()
    for folder in (root / "runs" / "own").glob("*/"):
        if folder != broken:
            shutil.rmtree(folder / "plugins")
    use_plugins(())
    done = here("report", "own", "--root", root, "--format", "csv", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "no metric here gives" not in done.stderr  # the copy in the damaged folder does


def test_a_report_imports_each_version_of_a_copy_once(trained: Path, tmp_path: Path) -> None:
    """Of a score that is known nowhere, not the copies of all runs."""
    _, root = copy(trained, tmp_path)
    notes = tmp_path / "notes"
    text = CODE.replace('"bright"', '"other"') + f"\nopen({str(notes)!r}, 'a').write('read ')\n"
    newest, *others = sorted((root / "runs" / "own").glob("*/"))
    for number, folder in enumerate([*others, newest]):
        (folder / "plugins" / "mine" / "mine.py").write_text(text)
        os.utime(folder / "spec.json", (1e9 + number, 1e9 + number))
    (newest / "plugins" / "mine" / "mine.py").write_text(text.replace("read", "newest"))
    use_plugins(())
    done = here("report", "own", "--root", root, "--format", "csv", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "no metric here gives the score bright" in done.stderr
    assert notes.read_text() == "newest read "


@pytest.mark.parametrize(("code", "message"), [
    ("x = undefined\n", "2:1: plugins: {0}/mine.py:1: NameError: name 'undefined' is not defined"),
    ("x = 1\n", "2:1: plugins: {0}/mine.py: registers nothing; decorate a factory, for example "
     'with @LOSSES.register("my_loss")'),
    ('from gan_bench.registry import LOSSES\n@LOSSES.register("hinge")\ndef a(): pass\n',
     "2:1: plugins: {0}/mine.py:2: ValueError: the loss 'hinge' is built in: choose another name"),
    (None, "2:11: plugins.0: {0}/mine.py: there is no such file"),
])
def test_what_is_wrong_with_a_plugin_is_one_line_and_nothing_is_written(
        tmp_path: Path, code: str | None, message: str) -> None:
    file = write(tmp_path / "code", code or "")
    if code is None:
        (file.parent / "mine.py").unlink()
    for command in "plan", "run":
        done = here(command, file, "--root", tmp_path / "root")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.removeprefix("error: ") == (
            f"{file}:{message.format(file.parent)}\n")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize(("factory", "message"), [
    ("return nn.Linear(latent_dim, 64), nn.Linear(64, 1)",
     "variant plain: model net: G makes (4, 64) of 4 latents: make (4, 1, 8, 8), the data's shape"),
    ("return undefined", "model net cannot be built for data of shape (1, 8, 8): {0}:7: NameError: "
     "name 'undefined' is not defined"),
    ("return 3", "model net: its factory returns 3: return (generator, discriminator), two torch "
     "modules"),
])
def test_networks_that_do_not_fit_are_refused_before_any_training(tmp_path: Path, factory: str,
                                                                 message: str) -> None:
    file = write(tmp_path, "from torch import nn\nfrom gan_bench.registry import MODELS\n\n\n"
                 "@MODELS.register('net')\ndef net(shape, *, latent_dim: int = 8):\n"
                 f"    {factory}\n",
                 STUDY.partition("variants:")[0].replace("{name: mlp, width: 16}", "net")
                 + "variants: {plain: {}}\nevaluate: {samples: 50, metrics: []}\n")
    done = here("run", file, "--root", new_root(tmp_path))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {message.format(tmp_path / 'mine.py')}\n"
    assert not list((tmp_path / "root" / "runs").glob("*/*/"))


def test_an_unknown_name_says_how_one_adds_it(tmp_path: Path) -> None:
    file = write(tmp_path, study=STUDY.replace("plugins: [mine.py]", "seeds: [0]", 1).replace(
        "seeds: [0, 1]\n", ""))
    done = here("plan", file)
    assert done.returncode == 2
    line = next(line for line in done.stderr.splitlines() if "'my_net'" in line)
    assert line.endswith("(to add yours: plugins: [mine.py] in the YAML, or --plugin mine.py)")
    (tmp_path / "here").mkdir()
    done = here("plan", file, "--plugin", os.path.relpath(tmp_path / "mine.py"))
    assert done.returncode == 0, done.stderr
    done = here("list", "losses", "--plugin", tmp_path / "mine.py")
    assert "  my_loss " in done.stdout
    assert "  my_loss " not in here("list", "losses").stdout


EDITED = '''\
from pathlib import Path

from gan_bench.components.losses import Loss, non_saturating
from gan_bench.registry import LOSSES


@LOSSES.register("edited")
def edited() -> Loss:
    """Is edited while it runs."""
    file = Path(__file__)
    if file.parent.name == "code":
        file.write_text("raise SystemExit('half an edit')")
    return non_saturating()
'''


def test_an_edit_while_runs_are_trained_changes_none_of_them(tmp_path: Path) -> None:
    file = write(tmp_path / "code", EDITED, STUDY.partition("variants:")[0].replace("[0, 1]", "[0]")
                 + "variants: {plain: {loss: edited}, longer: {loss: edited, steps: 5}}\n"
                 "evaluate: {samples: 50, metrics: []}\ncompute: {device: cpu}\n")
    done = here("run", file, "--root", new_root(tmp_path), "--slots", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "half an edit" in (file.parent / "mine.py").read_text()
    kept = list((tmp_path / "root").glob("runs/own/*/plugins/mine/mine.py"))
    assert [place.read_text() for place in kept] == [EDITED, EDITED]


KILLED = '''\
import os
import signal
from pathlib import Path

import torch
from torch import nn

from gan_bench.components.losses import Loss, non_saturating
from gan_bench.registry import LOSSES, MODELS


@LOSSES.register("deadly")
def deadly() -> Loss:
    """Kills its process once in each run, at its ninth update of G."""
    usual, calls = non_saturating(), [0]

    def generator(fake, real):
        calls[0] += 1
        log = Path(os.readlink("/proc/self/fd/1"))  # in the run's folder
        marker = Path(FOLDER, "killed-" + log.parent.name)
        if calls[0] == 9 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return usual.generator(fake, real)

    return Loss(usual.discriminator, generator)


class Shift(nn.Module):
    def __init__(self):
        super().__init__()
        self.size = nn.Parameter(torch.rand(24))
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.steps += 1
        return x + self.size * torch.rand_like(x) / self.steps.clamp(min=1)


@MODELS.register("noisy")
def noisy(shape, *, latent_dim: int = 8):
    """Noise, batch norm, a buffer and a parameter of its own."""
    size = shape[0] * shape[1] * shape[2]
    generator = nn.Sequential(nn.Linear(latent_dim, 24), nn.BatchNorm1d(24), Shift(), nn.ReLU(),
                              nn.Linear(24, size), nn.Tanh(), nn.Unflatten(1, shape))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(size, 24), nn.LayerNorm(24),
                                  nn.Dropout(0.3), nn.Linear(24, 1), nn.Flatten(0))
    return generator, discriminator
'''
KILLED_STUDY = """\
name: own
plugins: [mine.py]
dataset: {name: digits, image_size: 8}
seeds: [0]
base: {model: noisy, loss: deadly, ema: 0.9, batch_size: 32, steps: 14, log_every: 2}
variants: {plain: {}, labels: {condition: concat}}
evaluate: {every: 7, samples: 50, metrics: [nearest_train_mse]}
compute: {device: cpu}
"""


def test_a_network_in_one_file_is_killed_and_resumed_to_the_bit(tmp_path: Path) -> None:
    """With noise, batch norm and what a layer remembers; conditional and not."""
    file = write(tmp_path / "code", KILLED.replace("FOLDER", repr(str(tmp_path))), KILLED_STUDY)
    weights = []
    for kills in (2, 0):  # the markers of the first are there the second time
        place = tmp_path / f"with-{kills}"
        place.mkdir()
        root = new_root(place)
        done = here("run", file, "--root", root, "--checkpoint-every", "0")
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.count("resumed (1 of 2)") == kills
        weights.append({place.parent.name: place.read_bytes()
                        for place in root.glob("runs/own/*/final.safetensors")})
    assert len(list(tmp_path.glob("killed-*"))) == len(weights[0]) == 2
    assert weights[0] == weights[1]


def test_the_check_of_a_file_says_in_words_what_fails(tmp_path: Path) -> None:
    file = write(tmp_path)
    done = here("check", file.parent / "mine.py")
    assert done.returncode == 0, done.stdout
    assert "model my_net\n  ok     has the argument latent_dim" in done.stdout
    assert "loss my_loss\n" in done.stdout
    assert "metric bright\n" in done.stdout
    assert "FAILS" not in done.stdout
    assert done.stdout.splitlines()[-1] == "all 22 checks pass"
    (tmp_path / "mine.py").write_text(CODE.replace("softplus(fake).mean()", "fake.exp().mean()"))
    done = here("check", file.parent / "mine.py")
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if "FAILS" in line]
    assert line.startswith("  FAILS  is finite at logits of ±100: not finite at real ")
    assert done.stdout.splitlines()[-1] == "1 of 22 checks fail"
    assert here("check", tmp_path / "absent.py").returncode == 2


def test_init_writes_files_that_run_and_pass_their_checks(tmp_path: Path,
                                                          monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = here("init", "first")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("cd first && gan-bench run first.yaml\n")
    folder = tmp_path / "first"
    assert sorted(file.name for file in folder.iterdir()) == ["first.yaml", "mine.py"]
    checked = here("check", folder / "mine.py")
    assert checked.returncode == 0
    assert {line for line in checked.stdout.splitlines() if not line.startswith(" ")} >= {
        "loss my_loss", "model my_net", "metric my_metric"}
    done = here("run", "first/first.yaml", "--root", new_root(tmp_path), "--set", "base.steps=20",
                "--set", "evaluate.every=10", "--set", "seeds=[0]")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 of 3 runs are done" in done.stdout
    assert "my_metric ↓" in done.stdout
    text = (folder / "first.yaml").read_text()
    assert "STUDY" not in text
    for name in "first", ".", None:
        done = here("init", *([name] if name else []))
        assert (done.returncode, done.stdout) == (2, "")
    assert "is not empty: give the name of a new folder" in done.stderr
    assert (folder / "first.yaml").read_text() == text
    (tmp_path / "empty" / ".git").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty")
    assert here("init").returncode == 0
    assert (tmp_path / "empty" / "study.yaml").exists()
    for name in "../x", "a/b", "Default", "x.yaml", "-":
        assert here("init", "--", name).returncode == 2
    assert sorted(file.name for file in (tmp_path / "empty").iterdir()) == [
        ".git", "mine.py", "study.yaml"]


def test_shipped_experiments_are_listed_and_run_by_name(tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    home = Path(package.__file__).parent / "experiments"
    files = {str(file.relative_to(home).with_suffix("")) for file in home.rglob("*.yaml")}
    assert {"dcgan_vs_mlp", "modern_baseline", "seeds/gan_script"} <= files
    listed = here("list", "experiments").stdout.splitlines()
    assert {line.split()[0] for line in listed[1:] if line} == files
    by_name = here("plan", "dcgan_vs_mlp", "--root", tmp_path)
    assert by_name.returncode == 0, by_name.stderr
    assert by_name.stdout == here("plan", home / "dcgan_vs_mlp.yaml", "--root", tmp_path).stdout
    done = here("evaluate", "dcgan_vs_mlp", "--root", tmp_path)
    assert done.returncode == 2
    assert done.stderr.endswith("no run of dcgan_vs_mlp is trained yet: gan-bench run dcgan_vs_mlp "
                                f"--root {tmp_path}\n")
    done = here("plan", "dcgan")
    assert done.returncode == 2
    assert "gan-bench list experiments shows those that can be run by name" in done.stderr
    (tmp_path / "modern_baseline").write_text("name: mine")  # a file of that name comes first
    assert "modern_baseline:1:1" in here("plan", "modern_baseline").stderr


def test_the_package_holds_the_experiments_and_the_starter() -> None:
    """What setup.cfg names as package data are all of them."""
    from configparser import ConfigParser

    home = Path(package.__file__).parent
    config = ConfigParser()
    config.read(home.parent / "setup.cfg")
    globs = config["options.package_data"]["gan_bench"].split()
    shipped = {file for pattern in globs for file in home.glob(pattern)}
    starter = {*(home / "cli" / "planning" / "starter").glob("*.*")}
    assert starter
    wanted = {*(home / "experiments").glob("**/*.yaml"), *starter}
    assert len(wanted) > 15
    assert wanted <= shipped


def test_an_installed_command_finds_what_is_beside_the_file(tmp_path: Path) -> None:
    """Though Python's own search of the working folder is off."""
    import subprocess

    file = write(tmp_path / "code")
    done = subprocess.run([*console_script(tmp_path), "plan", str(file)], capture_output=True,
                          text=True, check=False, cwd=tmp_path,
                          env={**os.environ, "PYTHONSAFEPATH": "1",
                               "PYTHONPATH": str(Path(package.__file__).parents[1])})
    assert done.returncode == 0, done.stderr


def test_python_takes_plugins_too(tmp_path: Path) -> None:
    file = write(tmp_path, study=STUDY.replace("plugins: [mine.py]\n", ""))
    with pytest.raises(UserError, match="no loss is called 'my_loss'"):
        package.load_experiment(file, tmp_path)
    spec = package.load_experiment(file, tmp_path, plugins=[tmp_path / "mine.py"])
    other = package.load_experiment(write(tmp_path / "other", CODE.replace("-fake", "-2 * fake")),
                                    tmp_path)
    run = next(run for run in spec.runs if run.variant == "mine")
    assert run.id not in {run.id for run in other.runs}
    package.prepare(spec, tmp_path / "root", tmp_path, print)
    package.load_experiment(tmp_path / "other" / "own.yaml", tmp_path)
    outcome = package.run_one(run, tmp_path / "root", tmp_path)  # in the version of its id
    assert (outcome.run, outcome.status) == (run.id, "FINISHED")
    kept = tmp_path / "root" / "runs" / "own" / run.id / "plugins" / "mine" / "mine.py"
    assert kept.read_text() == CODE


def test_a_process_without_the_code_refuses_the_run_before_it_writes(tmp_path: Path) -> None:
    """As on a worker's machine that has another version, or none."""
    runs = package.load_experiment(write(tmp_path), tmp_path).runs
    run = next(run for run in runs if run.variant == "mine")
    other = run.model_copy(update={"sources": {"loss.my_loss": "0" * 12}})
    root = tmp_path / "root"
    with pytest.raises(UserError, match="the code of loss my_loss that the run was made with is "
                                        "neither registered here nor in its folder"):
        package.run_one(other, root, tmp_path)
    assert not root.exists()
