"""Journals for tests of the mirror."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image

from gan_bench.config.spec import ComputeSpec, EvaluateSpec, RunSpec
from gan_bench.data_facts import DataFacts
from gan_bench.journal import reading
from gan_bench.journal.schema import Kind, Record
from gan_bench.journal.writing import Journal
from gan_bench.registry import DATASETS, MODELS

FACTS = {
    "versions": {"torch": "2.15.0", "gan_bench": "0.1.0", "python": "3.11.2"},
    "device": "cpu", "device_name": "some CPU", "precision": "float32", "git_commit": "ab" * 20,
    "threads": 1,
    "dataset": {"name": "digits", "fingerprint": "f" * 64, "train": 1438, "test": 359},
}


PROTOCOL = {
    "eval/fd_classifier": {"extractor": "classifier", "weights": "0a1b", "generated": 2000},
    "eval/d_accuracy": {"generated": 2000},
}


def new_run(root: Path, seed: int = 3, steps: int = 20, log_every: int = 50) -> Path:
    """Return the folder of a new run, its specification written."""
    spec = RunSpec(
        experiment=f"study-{root.name}", variant="narrow", seed=seed, model=MODELS.parse("mlp"),
        dataset=DATASETS.parse("digits"), data=DataFacts((1, 8, 8), 10, 1438, 359, "digest"),
        steps=steps, log_every=log_every, evaluate=EvaluateSpec(metrics=["d_accuracy"]),
        compute=ComputeSpec())
    return spec.write(root)


def repeatable(records: Iterable[Record]) -> list[Record]:
    """Return what a repetition of the run must repeat: all but times and measurements."""
    return [{k: v for k, v in record.items() if k not in ("t", "moved")}
            for record in reading.valid(records)
            if record["kind"] != Kind.SYSTEM and not reading.of_attempt(record)]


def write_journal(folder: Path, between: Callable[[], object] = lambda: None,
                  status: str = "FINISHED", why: str = "") -> None:
    """Write a run's journal, calling `between` after every record."""
    book = Journal(folder)
    for write in (
        lambda: book.start(FACTS),
        lambda: book.protocol(PROTOCOL),
        lambda: book.metrics(10, {"train/d_loss": 1.25, "train/g_loss": 0.1}),
        lambda: book.system(10, {"system/images_per_s": 1e4}),
        lambda: book.image(10, "samples", picture(10)),
        lambda: book.metrics(20, {"train/d_loss": 1.0, "train/g_loss": 0.3}),
        lambda: book.metrics(20, {"eval/fd_classifier": 41.5}),
        lambda: book.image(20, "samples", picture(20)),
        lambda: (folder / "final.safetensors").write_bytes(b"weights"),
        lambda: book.end(status, why),
    ):
        write()
        between()


def picture(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (32, 32), shade).save(buffer, "PNG")
    return buffer.getvalue()
