"""A small experiment with a search, for the tests of all that knows of searches."""

from __future__ import annotations

from pathlib import Path

from helpers.journals import FACTS, repeatable
from helpers.studies import here

from gan_bench.compare.search.choice import Choice
from gan_bench.compare.search.confirming import choice_in
from gan_bench.config.experiment import load_experiment
from gan_bench.config.search.search import SELECT
from gan_bench.config.spec import ExperimentSpec, RunSpec
from gan_bench.journal import reading
from gan_bench.journal.about import read_about
from gan_bench.journal.schema import Record, Status
from gan_bench.journal.spec_file import read_spec
from gan_bench.journal.writing import Journal
from gan_bench.registry import METRICS, scores_of

SEARCH = """\
name: tuned
dataset: {name: digits, image_size: 16}
base:
  model: {name: mlp, width: 16}
  batch_size: 32
  steps: 6
  log_every: 2
  sample_every: 3
matrix:
  penalties: [[], [{name: r1, gamma: 1.0}]]
search:
  draws: 3
  seed: 7
  space:
    g_optimizer.lr: {log_uniform: [1e-5, 1e-3]}
    d_steps: {int_uniform: [1, 3]}
    penalties.r1.gamma: {log_uniform: [0.01, 100], only: {penalties: r1}}
  select: {by: fd_random, seeds: [0]}
  confirm: {seeds: [10, 11]}
evaluate: {samples: 50, metrics: [fd_random, d_accuracy]}
compute: {device: cpu}
"""


def write_search(folder: Path, text: str = SEARCH) -> Path:
    """Write the experiment's file into a folder."""
    file = folder / "tuned.yaml"
    file.write_text(text)
    return file


def load_search(folder: Path, *overrides: str, text: str = SEARCH) -> ExperimentSpec:
    """Return the experiment."""
    return load_experiment(write_search(folder, text), folder, list(overrides))


def train_search(folder: Path) -> None:
    """Train the experiment in a folder, and keep what the command prints."""
    done = here("run", write_search(folder), "--root", folder / "root", "--slots", 1)
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "output.txt").write_text(done.stdout)


def outcome_of(root: Path) -> tuple[Choice, dict[str, tuple[list[Record], bytes]]]:
    """Return what the journals of a root choose, and by id what each run has recorded and its
    weights; in which folder of git the command ran is no part of that."""
    home = root / "runs" / "tuned"
    folders = [file.parent for file in home.glob("*/spec.json")]
    runs = {}
    for folder in folders:
        records = repeatable(reading.read_records(folder)[0])
        records[0]["facts"].pop("git_commit")
        runs[folder.name] = records, (folder / "final.safetensors").read_bytes()
    select = [run for run in map(read_spec, folders) if run.stage == SELECT]
    return choice_in(select, read_about(home), root), runs


def finish(run: RunSpec, root: Path, score: float | None, status: str = "FINISHED",
           why: str = "", on_60: float | None = None) -> Path:
    """Leave what a process leaves that has trained a run; return the run's folder.

    Args:
        score: Its `fd_random`; None: it was not measured.
        status, why: How it ended.
        on_60: Its `fd_random` on 60 samples, as `evaluate` adds it.
    """
    folder = run.write(root)
    book, protocols = Journal(folder), {}
    for entry in (METRICS[name] for name in run.evaluate.metrics):
        facts = entry.facts
        for name in scores_of(entry):
            protocols[f"eval/{name}"] = {
                "generated": run.evaluate.samples, "extractor": facts.extractor,
                "split": facts.reference, **facts.protocol, **facts.score_protocols.get(name, {})}
    book.start(FACTS)
    book.protocol(protocols)
    if on_60 is not None:
        book.protocol({"final/fd_random": {**protocols["eval/fd_random"], "generated": 60}})
        book.metrics(run.steps, {"final/fd_random": on_60})
    book.metrics(run.steps, {"train/d_loss": 1.0})
    if score is not None:
        book.metrics(run.steps, {"eval/fd_random": score, "eval/d_accuracy_real": 0.5,
                                 "eval/d_accuracy_fake": 0.5})
    if Status(status).is_result:
        (folder / "final.safetensors").write_bytes(b"weights")
    book.end(status, why, recording=None if score is None else run.recording)
    return folder


def finish_select(spec: ExperimentSpec, root: Path, best: int = 1) -> None:
    """Finish the select runs of a search: one draw of each variant is the best."""
    for run in spec.runs:
        finish(run, root, 1.0 if run.draw == best else 2.0 + (run.draw or 0))
