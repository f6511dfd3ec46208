"""The loop: batches, what is recorded when, and that measuring changes nothing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers.journals import repeatable
from helpers.runs import a_run
from torch import nn

from gan_bench.components import data
from gan_bench.components.value_range import to_float, to_uint8
from gan_bench.config.spec import RunSpec
from gan_bench.journal import reading
from gan_bench.journal.schema import Record
from gan_bench.journal.writing import Journal
from gan_bench.training.loop import Batches, Training, due
from gan_bench.training.step.engine import Engine


def test_every_epoch_is_a_permutation_without_its_partial_batch() -> None:
    images = torch.arange(10, dtype=torch.float32)[:, None]
    batches = Batches(images, 3, seed=0)
    epochs = [torch.cat([batches[3 * e + i] for i in range(3)]).flatten().tolist()
              for e in range(4)]
    for epoch in epochs:
        assert len(set(epoch)) == 9
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert {x for epoch in epochs for x in epoch} == set(range(10))
    again = Batches(images, 3, seed=0)
    assert torch.equal(again[7], batches[7])
    assert not torch.equal(Batches(images, 3, seed=1)[7], batches[7])


def test_bytes_become_the_range_from_minus_one_to_one() -> None:
    levels = torch.arange(256, dtype=torch.uint8)
    floats = to_float(levels)
    assert (floats.min(), floats.max()) == (-1, 1)
    assert torch.equal(to_uint8(floats), levels)
    vectors = torch.randn(3, 2)
    assert to_float(vectors) is vectors


@pytest.mark.parametrize(("step", "every", "expected"), [(10, 5, True), (11, 5, False),
                                                         (10, None, False)])
def test_due(step: int, every: int | None, expected: bool) -> None:
    assert due(step, every) is expected


def run(spec: RunSpec, folder: Path, evaluate: object = lambda g, d: {"eval/x": 1.0},
        ) -> tuple[Engine, tuple[str, str], list[Record]]:
    folder.mkdir(exist_ok=True)
    data.prepare_data(spec.dataset, folder, folder / "cache")
    digits = data.load(spec.dataset, folder, folder / "cache", "cpu")
    engine, record = Engine(spec, "cpu"), Journal(folder)
    training = Training(engine, digits, evaluate, [evaluate], record)  # type: ignore[arg-type]
    while training.step():
        assert training.ended is None
    assert training.ended is not None
    record.end(*training.ended)
    return engine, training.ended, reading.read_records(folder)[0]


def test_what_is_recorded_when(tmp_path: Path) -> None:
    spec = a_run(tmp_path, "base.steps=7")
    _, ended, records = run(spec, tmp_path / "run")
    assert ended == ("FINISHED", "")
    steps = {kind: [r["step"] for r in records
                    if r["kind"] == kind and "eval/x" not in r.get("values", {})]
             for kind in ("metrics", "system", "image")}
    assert steps == {"metrics": [2, 4, 6, 7], "system": [2, 4, 6, 7], "image": [0, 3, 6, 7]}
    assert [r["step"] for r in records if "eval/x" in r.get("values", {})] == [3, 6, 7]
    assert set(records[1]["values"]) == {
        "train/d_loss", "train/d_loss_real", "train/d_loss_fake", "train/g_loss", "train/d_real",
        "train/d_fake", "train/d_accuracy_real", "train/d_accuracy_fake", "train/d_grad_norm",
        "train/g_grad_norm"}
    for record in records:
        if record["kind"] == "image":
            assert (tmp_path / "run" / record["file"]).read_bytes().startswith(b"\x89PNG")


def test_repeated_runs_are_equal_to_the_bit(tmp_path: Path) -> None:
    spec = a_run(tmp_path)
    first, _, first_records = run(spec, tmp_path / "a")
    second, _, second_records = run(spec, tmp_path / "b")
    assert repeatable(first_records) == repeatable(second_records)
    for a, b in zip(first.generator.state_dict().values(), second.generator.state_dict().values(),
                    strict=True):
        assert torch.equal(a, b)
    assert (tmp_path / "a" / "samples" / "samples-0000006.png").read_bytes() == (
        tmp_path / "b" / "samples" / "samples-0000006.png").read_bytes()


def test_logging_sampling_and_measuring_change_no_weight(tmp_path: Path) -> None:
    def measure(generator: nn.Module, discriminator: nn.Module) -> dict[str, float]:
        torch.randn(3)
        return {}

    model = "base.model=mlp_dropout"  # has dropout: would feel a change of the global state
    busy, _, _ = run(a_run(tmp_path, model), tmp_path / "a", measure)
    idle, _, _ = run(a_run(tmp_path, model, "base.log_every=100", "base.sample_every=null",
                           "evaluate.every=null"), tmp_path / "b", measure)
    for a, b in zip(busy.generator.parameters(), idle.generator.parameters(), strict=True):
        assert torch.equal(a, b)


def test_divergence_is_a_result_with_its_step(tmp_path: Path) -> None:
    spec = a_run(tmp_path, "base.g_optimizer={lr: 1e38}", "base.steps=50", "base.log_every=5",
                 "base.sample_every=null", "evaluate.every=null")
    engine, (status, why), records = run(spec, tmp_path / "run")
    assert status == "DIVERGED"
    # G leaves the finite numbers in its first update, and D sees it in the second step.
    assert why == "a loss was not finite at step 2"
    assert int(engine.first_bad) == 2
    last = records[-1]
    assert (last["kind"], last["status"], last["step"]) == ("end", "DIVERGED", 5)
    values = next(r["values"] for r in records if r["kind"] == "metrics")
    assert not all(math.isfinite(v) for v in values.values())


def test_samples_that_are_not_finite_are_a_divergence(tmp_path: Path) -> None:
    def measure(generator: nn.Module, discriminator: nn.Module) -> dict[str, float]:
        raise FloatingPointError("the generator makes samples that are not finite")

    _, ended, _ = run(a_run(tmp_path), tmp_path / "run", measure)
    assert ended == ("DIVERGED", "the generator makes samples that are not finite, at step 3")
