"""What another package adds through entry points: losses, penalties and models, as a user would.

The packages lie in a temporary folder, with what pip leaves beside a module; every command is a
process of its own, and one has imported nothing before it finds them.
"""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path

import pytest
from helpers.commands import forked
from helpers.launching import gan_bench, new_root
from helpers.runs import install, write_experiment
from helpers.studies import here

ADDED = '''\
"""What somebody else wrote."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from gan_bench.components.losses import Loss
from gan_bench.components.models import Networks
from gan_bench.components.penalties import Penalty
from gan_bench.registry import LOSSES, MODELS, PENALTIES, ModelFacts, PenaltyFacts


@LOSSES.register("squares")
def squares(*, target: Annotated[float, Field(gt=0)], scale: float = 0.5) -> Loss:
    """Least squares, with one target for D and for G.

    The second paragraph is not shown.
    """
    return Loss(lambda real, fake: (scale * (real - target).square().mean(),
                                    scale * fake.square().mean()),
                lambda fake, real: scale * (fake - target).square().mean())


@PENALTIES.register("decay", PenaltyFacts(on_examples=False, term=True))
def decay(*, weight: Annotated[float, Field(gt=0)] = 0.1) -> Penalty:
    """The squared weights of D's judgement: its mean logit on fakes."""
    return Penalty(lambda d, real, fake, draws: weight * d(fake).square().mean())


def refuses(shape, **arguments):
    return None if len(shape) == 3 else "it makes images alone"


@MODELS.register("linear", ModelFacts(refuses=refuses))
def linear(shape, *, latent_dim: Annotated[int, Field(ge=1)] = 8) -> Networks:
    """One matrix each."""
    from math import prod

    from torch import nn

    generator = nn.Sequential(nn.Linear(latent_dim, prod(shape)), nn.Tanh(),
                              nn.Unflatten(1, shape))
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(prod(shape), 1), nn.Flatten(0))
    return Networks(generator, discriminator, "xavier")
'''
STUDY = """\
name: tiny
question: Is the loss of another package as good?
baseline: plain
dataset: {name: digits, image_size: 16}
seeds: [0, 1]
base:
  model: {name: mlp, width: 16}
  batch_size: 32
  steps: 6
  log_every: 2
variants:
  plain: {}
  known: {loss: {name: lsgan, b: 2.0, c: 2.0}}
  added: {loss: {name: squares, target: 2.0}}
  whole: {loss: {name: squares, target: 2.0}, model: linear, penalties: [decay]}
evaluate: {samples: 50, metrics: [fd_random]}
compute: {device: cpu}
"""
GROUPS = ("losses", "models", "penalties")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, str]]:
    """A study with the parts of another package: its folder, what was printed, and the environment.
    """
    folder = tmp_path_factory.mktemp("study")
    env = install(folder / "site", "added", ADDED, *GROUPS)
    done = forked("run", write_experiment(folder, STUDY), "--root", new_root(folder), env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout, env


def line_of(text: str, *words: str) -> str:
    """The one line that holds all of these words."""
    (found,) = [line for line in text.splitlines() if all(word in line for word in words)]
    return found


def test_what_is_added_is_listed_with_its_arguments(tmp_path: Path) -> None:
    env = install(tmp_path, "added", ADDED, *GROUPS)
    done = gan_bench("list", env=env)
    assert done.returncode == 0, done.stderr
    squares = line_of(done.stdout, "  squares ")
    assert "Least squares, with one target for D and for G." in squares
    assert squares.endswith("[target, scale=0.5]")
    assert "second paragraph" not in done.stdout
    assert line_of(done.stdout, "  linear ", "One matrix each.").endswith("[latent_dim=8]")
    assert line_of(done.stdout, "  decay ").endswith("[weight=0.1]")
    assert "failed" not in done.stdout
    assert "  squares " not in forked("list").stdout


@pytest.mark.parametrize(("variant", "place", "message"), [
    ("{loss: squares}", "14:11", "loss 'squares' needs the argument 'target'"),
    ("{loss: {name: squares, target: 1.0, scal: 2.0}}", "14:46",
     "loss 'squares' has no argument 'scal'; did you mean 'scale'?"),
    ("{loss: {name: squares, target: high}}", "14:33", "must be a number, not 'high'"),
    ("{loss: {name: squares, target: 0.0}}", "14:33", "greater than 0, not 0.0"),
    ("{loss: sqares}", "14:11", "no loss is called 'sqares'; did you mean 'squares'"),
    ("{penalties: [{name: decay, weight: -1.0}]}", "14:37", "greater than 0, not -1.0"),
])
def test_its_arguments_are_checked_before_anything_is_spent(
        tmp_path: Path, variant: str, place: str, message: str) -> None:
    env = install(tmp_path / "site", "added", ADDED, *GROUPS)
    head, _, tail = STUDY.partition("  added: ")
    file = write_experiment(tmp_path, f"{head}  added: {variant}\n{tail.partition(chr(10))[2]}")
    for command in "plan", "run":
        done = forked(command, file, "--root", tmp_path / "root", env=env)
        assert (done.returncode, done.stdout) == (2, "")
        line = line_of(done.stderr, message)
        assert line.startswith(f"error: {file}:{place}: variants.added.")
    assert not (tmp_path / "root").exists()


OPTIMIZER = """\
from typing import Any
from gan_bench.registry import OPTIMIZERS


@OPTIMIZERS.register("lion")
def lion(parameters, *, ARGUMENTS):
    \"\"\"Someone's.\"\"\"
"""


@pytest.mark.parametrize(("arguments", "message"), [
    ("lr: float = 0.1, schedule: str = 'cosine'", ""),
    ("lr: float = 0.1", "lion has no argument schedule"),
    ("schedule: str = 'constant'", "lion has no argument lr"),
    ("lr: Any = None, schedule: str = 'linear'", "lion: lr is None, which is not a number"),
    ("lr: float = 0.1, schedule: str = 'steps'", "lion: there is no schedule 'steps'")])
def test_an_optimizer_without_a_rate_for_each_step_is_refused(tmp_path: Path, arguments: str,
                                                              message: str) -> None:
    env = install(tmp_path / "site", "added", OPTIMIZER.replace("ARGUMENTS", arguments),
                  "optimizers")
    file = write_experiment(tmp_path, STUDY.partition("  known:")[0].replace(
        "plain: {}", "plain: {d_optimizer: lion}") + "compute: {device: cpu}\n")
    done = forked("plan", file, env=env)
    assert done.returncode == (2 if message else 0), done.stderr
    assert message in done.stderr
    assert bool(done.stderr) == bool(message)


def test_data_that_an_added_model_refuses_are_refused_in_its_words(tmp_path: Path) -> None:
    env = install(tmp_path / "site", "added", ADDED, *GROUPS)
    file = write_experiment(tmp_path, STUDY.replace("{name: digits, image_size: 16}", "gaussians")
                            .replace("fd_random", "modes_covered").replace("model: {name: mlp, "
                            "width: 16}", "model: {name: mlp_dropout, width: 16}"))
    done = forked("plan", file, env=env)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (f"error: {file}:15:47: variants.whole.model: linear cannot make "
                           f"2-vectors: it makes images alone\n")


def test_what_is_added_trains_and_is_compared(
        study: tuple[Path, str, dict[str, str]]) -> None:
    folder, shown, _ = study
    assert "8 of 8 runs are done" in shown
    table = shown[shown.index("95% interval"):]
    for variant in "known", "added", "whole":
        assert any(word in line_of(table, f" {variant} ") for word in
                   ("better", "worse", "not decisive", "equivalent"))
    with sqlite3.connect(folder / "root" / "mlflow.db") as db:
        rows = db.execute(
            "select v.value, s.value, l.value, m.key, m.value from runs r "
            "join tags v on v.run_uuid = r.run_uuid and v.key = 'variant' "
            "join tags s on s.run_uuid = r.run_uuid and s.key = 'seed' "
            "join params l on l.run_uuid = r.run_uuid and l.key = 'loss' "
            "join metrics m on m.run_uuid = r.run_uuid and m.key in "
            "('eval/fd_random', 'train/d_loss', 'train/g_loss', 'train/d_penalty') "
            "and m.step = 6 where r.status = 'FINISHED'").fetchall()
    values = {(variant, seed, key): value for variant, seed, _, key, value in rows}
    assert {variant: loss for variant, _, loss, *_ in rows} == {
        "plain": "non_saturating", "known": "lsgan", "added": "squares", "whole": "squares"}
    for seed in "01":
        for key in "eval/fd_random", "train/d_loss", "train/g_loss":
            added, known, plain, whole = (values[variant, seed, key] for variant in
                                          ("added", "known", "plain", "whole"))
            assert added == pytest.approx(known, rel=1e-5)  # the same formula, by another package
            assert added != pytest.approx(plain, rel=1e-4)
            assert added != pytest.approx(whole, rel=1e-4)
        assert values["whole", seed, "train/d_penalty"] > 0
        assert ("added", seed, "train/d_penalty") not in values


def test_what_is_added_stands_in_the_report(study: tuple[Path, str, dict[str, str]]) -> None:
    folder, _, env = study
    for given in env, {}:  # the report reads MLflow, and the package may have gone since
        out = folder / f"report-{bool(given)}"
        words = ("report", "tiny", "--root", folder / "root", "--out", out, "--format",
                 "html,csv,md")
        done = forked(*words, env=given) if given else here(*words)
        assert done.returncode == 0, done.stdout + done.stderr
        with (out / "summary.csv").open() as file:
            variants = [row["variant"] for row in csv.DictReader(file)]
        assert variants == ["plain", "known", "added", "whole"]
        with (out / "pairs.csv").open() as file:
            pairs = [row for row in csv.DictReader(file) if row["against"] == "plain"]
        assert [row["variant"] for row in pairs] == ["known", "added", "whole"]
        assert pairs[0]["verdict"] == pairs[1]["verdict"] != ""  # one formula, one verdict
        assert "added" in (out / "table.md").read_text()
    (spec,) = [json.loads(file.read_text()) for file in folder.glob("root/runs/tiny/*/spec.json")
               if json.loads(file.read_text())["variant"] == "added"][:1]
    assert spec["loss"] == {"name": "squares", "args": {"target": 2.0, "scale": 0.5}}


FAILING = {
    "absent": ("import no_such_module_anywhere\n",
               "ModuleNotFoundError: No module named 'no_such_module_anywhere'"),
    "garbled": ("def broken(:\n", "SyntaxError: invalid syntax (garbled.py, line 1)"),
    "leaving": ("raise SystemExit('no licence\\nat all')\n", "SystemExit: no licence"),
    "taken": ("from gan_bench.registry import LOSSES\n"
              "@LOSSES.register('mine')\ndef mine():\n    '''Mine.'''\n"
              "@LOSSES.register('hinge')\ndef hinge():\n    '''Not the hinge loss.'''\n",
              "ValueError: the loss 'hinge' is built in: choose another name"),
    "vague": ("from gan_bench.registry import LOSSES\n"
              "@LOSSES.register('vague')\ndef vague(*, a: 'Nowhere'):\n    '''Vague.'''\n",
              "NameError: name 'Nowhere' is not defined"),
}


@pytest.mark.parametrize("name", FAILING)
def test_what_fails_is_named_and_the_others_work(tmp_path: Path, name: str) -> None:
    source, reason = FAILING[name]
    site = tmp_path / "site"
    install(site, name, source, "losses")
    env = install(site, "added", ADDED, *GROUPS)
    done = forked("list", "losses", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert line_of(done.stdout, "plug-in") == f"  plug-in {name} failed: {reason}"
    line_of(done.stdout, "  squares ", "Least squares")
    line_of(done.stdout, "  hinge ", "The hinge loss")
    assert "Mine." not in done.stdout  # nothing of what failed is kept
    file = write_experiment(tmp_path, STUDY)
    assert forked("plan", file, env=env).returncode == 0
    file.write_text(STUDY.replace("{name: squares, target: 2.0}}\n  whole", "mine}\n  whole"))
    wrong = forked("plan", file, env=env)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith(
        f"error: {file}:14:11: variants.added.loss: no loss is called 'mine'; ")
    assert wrong.stderr.endswith(f"(plug-in {name} failed: {reason})\n")


def test_a_name_is_taken_also_where_its_owner_is_not_loaded_yet(tmp_path: Path) -> None:
    """A plug-in of models, which are loaded first, that brings a loss along."""
    env = install(tmp_path, "early", "from gan_bench.registry import LOSSES\n"
                  "@LOSSES.register('hinge')\ndef hinge():\n    '''Not the hinge loss.'''\n",
                  "models")
    done = forked("list", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("plug-in early failed: ValueError: the loss 'hinge' is built in: choose another name"
            in done.stdout)
    line_of(done.stdout, "  hinge ", "The hinge loss")


def test_spectral_norm_on_a_model_that_has_its_own_is_refused_before_training(
        tmp_path: Path) -> None:
    source = ADDED.replace("nn.Linear(prod(shape), 1)", "nn.utils.parametrizations.spectral_norm("
                           "nn.Linear(prod(shape), 1))")
    assert source != ADDED
    env = install(tmp_path / "site", "added", source, *GROUPS)
    file = write_experiment(tmp_path, STUDY.replace("penalties: [decay]",
                                                    "penalties: [spectral_norm]"))
    done = forked("run", file, "--root", tmp_path / "root", env=env)
    assert (done.returncode, done.stderr) == (2, (
        "error: variant whole: spectral_norm: this model already constrains the weights of D; "
        "leave spectral_norm out\n"))
    assert not list(tmp_path.glob("root/runs/tiny/*/journal.jsonl"))


def test_what_states_no_facts_is_named(tmp_path: Path) -> None:
    """Without them `plan` could not check it."""
    source = ADDED.replace('"linear", ModelFacts(refuses=refuses)', '"linear"').replace(
        '(on_examples=False, term=True)', '(term=True)')
    models, penalties = source.partition('@PENALTIES')[0] + source[source.index("def refuses"):], \
        source.partition("def refuses")[0]
    install(tmp_path, "models_of_his", models.replace('"squares"', '"squares1"'), "models")
    env = install(tmp_path, "penalties_of_hers", penalties.replace('"squares"', '"squares2"'),
                  "penalties")
    done = forked("list", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    line_of(done.stdout, "  linear ", "One matrix each.")  # a model has none that it must state
    assert ("plug-in penalties_of_hers failed: TypeError: PenaltyFacts.__init__() missing 1 "
            "required keyword-only argument: 'on_examples'\n" in done.stdout)


def brightness(extractor: str, reference: str | None, name: str = "brightness") -> str:
    """A plug-in's metric: the mean of what it sees of the samples."""
    return (
        "from gan_bench.evaluation.metrics.base import refuses_vectors\n"
        "from gan_bench.registry import METRICS, MetricFacts\n"
        f"@METRICS.register({name!r}, MetricFacts(better=None, extractor={extractor!r},\n"
        f"                  reference={reference!r}, refuses=refuses_vectors))\n"
        "def brightness(real, fake):\n    '''Mean value.'''\n"
        "    assert real is None\n    return float(fake.values.mean())\n")


def test_a_metric_of_the_samples_alone_is_measured(tmp_path: Path) -> None:
    views = ("pixels", "discriminator", "random")
    for view in views:
        env = install(tmp_path / "site", f"bright_{view}", brightness(view, None, f"of_{view}"),
                      "metrics")
    text = (STUDY.partition("  known:")[0]
            + f"evaluate: {{samples: 50, metrics: [{', '.join(f'of_{v}' for v in views)}]}}\n")
    file = write_experiment(tmp_path, text + "compute: {device: cpu}\n")
    done = forked("run", file, "--root", new_root(tmp_path), env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    journals = list(tmp_path.glob("root/runs/tiny/*/journal.jsonl"))
    assert len(journals) == 2
    for journal in journals:
        records = [json.loads(line) for line in journal.read_text().splitlines()]
        (protocol,) = [record["protocol"] for record in records if record["kind"] == "protocol"]
        for view in views:
            (value,) = [record["values"][f"eval/of_{view}"] for record in records
                        if f"eval/of_{view}" in record.get("values", {})]
            if view == "pixels":
                assert 0 < value < 255
            measured = protocol[f"eval/of_{view}"]
            assert (measured["data"], measured["split"], measured["real"]) == (None, None, 0)


def test_old_misspelt_and_contradicting_facts_are_named(tmp_path: Path) -> None:
    good = brightness("pixels", "train")
    old = good.replace("MetricFacts(better", "better").replace("vectors))", "vectors)")
    sources = {
        "old": (old, "ValueError: the metric 'brightness' states its facts as keywords; write "
                "register('brightness', MetricFacts(better=…, extractor=…, reference=…, "
                "refuses=…))"),
        "misspelt": (good.replace("better=None", "better=None, matchd=True"),
                     "TypeError: MetricFacts.__init__() got an unexpected keyword argument "
                     "'matchd'"),
        "clash": (brightness("pixels", "modes"), "ValueError: MetricFacts: reference 'modes' needs "
                  "extractor 'coordinates', not 'pixels'"),
        "other": (good.replace("MetricFacts(better", "dict(better"), "ValueError: the metric "
                  "'brightness' states {'better': None, 'extractor': 'pixels', 'reference': "),
    }
    for name, (source, _) in sources.items():
        env = install(tmp_path, name, source, "metrics")
    done = forked("list", "metrics", env=env)
    assert (done.returncode, done.stderr) == (0, "")
    for name, (_, reason) in sources.items():
        line = line_of(done.stdout, f"  plug-in {name} failed: ")
        assert line.startswith(f"  plug-in {name} failed: {reason}")
    assert "  brightness " not in done.stdout
    line_of(done.stdout, "  fid ", "lower is better")


def test_the_code_of_a_package_is_in_the_ids_of_the_runs_that_use_it(tmp_path: Path) -> None:
    file = write_experiment(tmp_path, STUDY)

    def ids(source: str, folder: str) -> dict[tuple[str, int], str]:
        env = install(tmp_path / folder, "added", source, *GROUPS)
        done = forked("plan", file, "--root", tmp_path / "root", "--json", env=env)
        assert done.returncode == 0, done.stderr
        records = [json.loads(line) for line in done.stdout.splitlines()]
        return {(record["variant"], record["seed"]): record["id"] for record in records}

    before = ids(ADDED, "site")
    assert len({*before.values()}) == 8
    assert ids(ADDED.replace("One matrix each.", "Two.") + "# a comment\n", "comment") == before
    after = ids(ADDED.replace("fake.square().mean()", "2 * fake.square().mean()"), "formula")
    assert {variant for variant, seed in before if after[variant, seed] != before[variant, seed]
            } == {"added", "whole"}
