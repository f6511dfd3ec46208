"""The usual mistakes, each answered in a line that says what to write instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.runs import DIGITS
from helpers.studies import here

from gan_bench.cli.mistakes import seed_list
from gan_bench.config.experiment import load_experiment
from gan_bench.journal.about import write_about

KEY = "it is a key of the experiment's file; write"

# What is typed in a folder with study.yaml, other.yml and folder/a.yaml, and the answer.
TYPED = [
    ("run study.yaml --seeds 3", f"no such option --seeds: {KEY} --set 'seeds=[0, 1, 2]'"),
    ("run study.yaml --seeds", f"no such option --seeds: {KEY} --set 'seeds=[0, 1, 2]'"),
    ("run study.yaml --seed=7", f"no such option --seed: {KEY} --set 'seeds=[7]'"),
    ("plan study.yaml --epochs 3", f"no such option --epochs: {KEY} --set base.epochs=3"),
    ("plan study.yaml --batch_size 64",
     f"no such option --batch-size: {KEY} --set base.batch_size=64"),
    ("plan study.yaml --loss hinge", f"no such option --loss: {KEY} --set base.loss=hinge"),
    ("plan study.yaml --samples 10", f"no such option --samples: {KEY} --set evaluate.samples=10"),
    ("plan study.yaml --threads 2", f"no such option --threads: {KEY} --set compute.threads=2"),
    ("plan study.yaml --metric fid",
     f"no such option --metric: {KEY} --set 'evaluate.metrics=[fid]'"),
    ("plan study.yaml --name x", f"no such option --name: {KEY} --set name=x"),
    ("evaluate a.png --metrics", "--metric needs a value; `gan-bench evaluate -h` shows what it "
     "takes"),
    ("plan study.yaml --metrics fid,kid",
     f"no such option --metric: {KEY} --set 'evaluate.metrics=[fid,kid]'"),
    ("run study.yaml --seeds 0", f"no such option --seeds: {KEY} --set 'seeds=[0]'"),
    ("show --file x", "no such option --file; `gan-bench show -h` shows what it takes"),
    ("run study.yaml --gpu", "no such option --gpu; write --set compute.device=cuda"),
    ("run study.yaml --lr 1e-4", "no such option --lr; write --set base.optimizer.lr=1e-4"),
    ("run study.yaml --workers 4", "no such option --workers; write --slots 4"),
    ("run study.yaml --output-dir x", "no such option --output-dir; write --root x"),
    ("run study.yaml --resume",
     "no such option --resume: the same command resumes what is unfinished: leave it out"),
    ("run study.yaml --dry-run",
     "--dry-run: is for workers on a cluster; give --on slurm; `gan-bench plan` shows what would "
     "be run"),
    ("run --config study.yaml",
     "no such option --config: the file needs no option: gan-bench run FILE.yaml"),
    ("run study.yaml --SLOTS 2", "no such option --SLOTS; did you mean --slots?"),
    ("clean --dryrun", "no such option --dryrun; did you mean --dry-run?"),
    ("clean --open", "no such option --open of clean: it belongs to report"),
    ("--slots 2 run study.yaml", "no such option --slots before the command; write it after: "
     "gan-bench run FILE --slots …"),
    ("run", "give the experiment: gan-bench run FILE.yaml (`gan-bench init` writes a first one, "
     "`gan-bench list experiments` shows those that can be used by name)"),
    ("sample ab12",
     "sample needs --out: a .png (a grid), a .npz (arrays), or a new folder (a .png each)"),
    ("logs", "logs needs RUN: a run's id, or its first characters, or its folder"),
    ("plan study.yaml --set", "--set needs a value; `gan-bench plan -h` shows what it takes"),
    ("plan study.yaml --set seeds", "--set seeds: write it as a.b=value"),
    ("plan study.yaml seeds=[0]", "a setting needs its option: --set seeds=[0]"),
    ("plan study.yaml folder/a.yaml", "plan takes one experiment; 'folder/a.yaml' is too many: "
     "use a command for each"),
    ("run study.yaml --slots two", "--slots two: must be a whole number; "
     "`gan-bench run -h` shows what it takes"),
    ("run study.yaml --slots 0", "--slots 0: must be at least 1; "
     "`gan-bench run -h` shows what it takes"),
    ("run study.yaml --keep-checkpoints all", "--keep-checkpoints all: 'all' is not one of "
     "'last', 'none'; `gan-bench run -h` shows what it takes"),
    ("train study.yaml", "there is no command 'train'; write gan-bench run"),
    ("Run study.yaml", "there is no command 'Run'; did you mean run?"),
    ("stauts", "there is no command 'stauts'; did you mean status?"),
    ("study.yaml", "'study.yaml' is an experiment and no command; write gan-bench run study.yaml"),
    ("loss_zoo", "'loss_zoo' is an experiment and no command; write gan-bench run loss_zoo"),
    ("help", "the option -h shows help: gan-bench -h, or gan-bench COMMAND -h"),
    ("version", "it is an option: gan-bench --version"),
    ("extractor learn digits", "there is no command 'learn'; known: train"),
    ("plan study.yml", "study.yml: there is no such file; did you mean study.yaml?"),
    ("plan study", "study: there is no such file; did you mean study.yaml?"),
    ("plan other.yaml", "other.yaml: there is no such file; did you mean other.yml?"),
    ("plan stdy.yaml", "stdy.yaml: there is no such file; did you mean study.yaml?"),
    ("plan los_zoo", "los_zoo: there is no such file; did you mean loss_zoo?"),
    ("report stdy.yaml", "stdy.yaml: there is no such file; did you mean study.yaml?"),
    ("plan folder", "folder: is a folder; give one of its files: a.yaml"),
    ("report folder", "folder: is a folder; give one of its files: a.yaml"),
    ("plan empty", "empty: is a folder; it holds no YAML"),
    ("plan ran", "ran: there is no such file; ran names runs of {root}; give the YAML file that "
     "they are from (the last command was `gan-bench run elsewhere/ran.yaml`)"),
    ("sample ran -o a.png", "no run's id begins with 'ran' under {root}; it is an experiment: "
     "`gan-bench status ran` shows the ids of its runs"),
    ("logs study.yaml", "no run's id begins with 'study.yaml' under {root}; it is an experiment: "
     "`gan-bench status study.yaml` shows the ids of its runs"),
    ("status rna", "{root} holds no runs of 'rna'; did you mean 'ran'?"),
    ("plan study.yaml --data mnist", "--data-root mnist: there is no such folder, and mnist is a "
     "data set: --data-root is the folder that holds data sets; choose one with evaluate "
     "--dataset mnist, or with dataset in an experiment"),
    ("list loss", "no kind is called 'loss'; did you mean 'losses'?"),
    ("show higne", "nothing is called 'higne'; did you mean 'hinge' or 'biggan'?"),
    ("show FID", "nothing is called 'FID'; did you mean 'fid'?"),
    ("plan study.yaml --set seeds=3", "--set seeds=3: seeds: is a list: write [0, 1, 2] for 3 "
     "seeds, or [3] for the seed 3 alone"),
    ("plan study.yaml --set base.lr=1e-4", "--set base.lr=1e-4: base.lr: unknown key; lr is an "
     "argument of the optimizer: write optimizer: {{lr: …}}"),
    ("plan study.yaml --set base.loss=Hinge", "--set base.loss=Hinge: base.loss: no loss is called "
     "'Hinge'; did you mean 'hinge'? (to add yours: plugins: [mine.py] in the YAML, or --plugin "
     "mine.py)"),
    ("plan study.yaml --set evaluate.metrics=[FID]", "--set evaluate.metrics=[FID]: "
     "evaluate.metrics: no metric is called 'FID'; did you mean 'fid'? (to add yours: plugins: "
     "[mine.py] in the YAML, or --plugin mine.py)"),
    ("plan study.yaml --set base.epoch=3",
     "--set base.epoch=3: base.epoch: unknown key; did you mean 'epochs'?"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with three experiments, and a root with a fourth one's runs."""
    folder = tmp_path_factory.mktemp("mistakes")
    for name in ("study.yaml", "other.yml", "folder/a.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(DIGITS)
    (folder / "empty").mkdir()
    home = folder / "mlruns" / "runs" / "ran"
    home.mkdir(parents=True)
    write_about(home, load_experiment(folder / "study.yaml", folder).declared.with_changes(
        command="gan-bench run elsewhere/ran.yaml"))
    return folder


@pytest.mark.parametrize(("typed", "answer"), TYPED, ids=[typed for typed, _ in TYPED])
def test_a_mistake_is_answered_in_a_line(folder: Path, monkeypatch: pytest.MonkeyPatch,
                                         typed: str, answer: str) -> None:
    monkeypatch.chdir(folder)
    done = here(*typed.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"error: {answer.format(root=folder / 'mlruns')}\n"
    assert sorted(path.name for path in folder.iterdir()) == [
        "empty", "folder", "mlruns", "other.yml", "study.yaml"]


@pytest.mark.parametrize(("text", "where", "answer"), [
    (DIGITS.replace("seeds: [0, 1]", "seeds: 20"), "3:1: seeds",
     "is a list: write [0, 1, 2, …] for 20 seeds, or [20] for the seed 20 alone"),
    (DIGITS.replace("steps: 6", "lr: 1e-4\n  steps: 6"), "7:3: base.lr",
     "unknown key; lr is an argument of the optimizer: write optimizer: {lr: …}"),
    (DIGITS.replace("steps: 6", "learning_rate: 1e-4\n  steps: 6"), "7:3: base.learning_rate",
     "unknown key; lr is an argument of the optimizer: write optimizer: {lr: …}"),
    (DIGITS.replace("steps: 6", "width: 8\n  steps: 6"), "7:3: base.width",
     "unknown key; width is an argument of the model: write model: {width: …}"),
    (DIGITS + "matrix: {lr: [1e-4, 2e-4]}\n", "15:10: matrix.lr",
     "no such axis; lr is an argument: write optimizer.lr (or g_optimizer.lr, d_optimizer.lr)"),
    (DIGITS + "matrix: {width: [8, 16]}\n", "15:10: matrix.width",
     "no such axis; width is an argument: write model.width"),
    (DIGITS + "matrix: {los: [hinge]}\n", "15:10: matrix.los",
     "no such axis; did you mean 'loss'?"),
])
def test_a_mistake_in_a_file_is_answered_at_its_place(tmp_path: Path, text: str, where: str,
                                                      answer: str) -> None:
    file = tmp_path / "study.yaml"
    file.write_text(text)
    done = here("plan", file, "--root", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{file}:{where}: {answer}\n" in done.stderr.removeprefix("error: ")


def test_what_is_advised_is_accepted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings of the answers, in the place of the mistakes."""
    monkeypatch.chdir(folder)
    settings = ["seeds=[0, 1, 2]", "base.epochs=3", "base.batch_size=64", "base.loss=hinge",
                "evaluate.samples=10", "compute.threads=2", "evaluate.metrics=[fd_random]",
                "name=x", "compute.device=cpu", "base.optimizer.lr=1e-4", "base.optimizer={lr: 1}",
                "matrix.optimizer.lr=[1e-4, 2e-4]", f"seeds={seed_list(10)}"]
    for setting in settings:
        steps = ["--set", "base.steps=null"] if "epochs" in setting else []
        done = here("plan", "study.yaml", "--set", setting, *steps)
        assert done.returncode == 0, done.stderr
    assert seed_list(3) == "[0, 1, 2]"
    assert seed_list(40).split(", ")[-1] == "39]"
    assert seed_list(1000) == "[0, 1, 2, …, 999]"
    empty = here("plan", "study.yaml", "")  # as an unset variable of the shell
    assert (empty.returncode, empty.stderr) == (
        2, "error: plan: an argument is empty; is a variable of the shell unset? `gan-bench plan "
           "-h` shows what it takes\n")


def test_a_command_without_anything_shows_its_help() -> None:
    done = here()
    assert done.returncode == 2
    assert "Usage: gan-bench" in done.stdout
    assert done.stderr == ""
