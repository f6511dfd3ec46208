"""What a step is computed in: bfloat16 beside float32."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.runs import DIGITS, a_run, write_experiment
from torch import Tensor, nn

from gan_bench import hardware
from gan_bench.errors import UserError
from gan_bench.training.device import resolve_precision
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

BFLOAT16 = pytest.mark.skipif(not hardware.cpu_has_bfloat16(),
                              reason="a processor with AMX or AVX512-BF16 is needed")
CONV = DIGITS.replace("{name: mlp, width: 16}", "{name: dcgan_upsample, width: 16}")


def steps(engine: Engine, count: int = 4) -> Tensor:
    draws = torch.Generator().manual_seed(0)
    losses = []
    for step in range(1, count + 1):
        real = torch.rand(32, *engine.spec.data.shape, generator=draws) * 2 - 1
        seen = engine.step(step, StepBatch([real]), True)
        losses += [seen["train/d_loss"], seen["train/g_loss"]]
    return torch.stack(losses)


STYLE = DIGITS.replace("{name: mlp, width: 16}", "{name: stylegan2, width: 8, latent_dim: 16}")
BIG = DIGITS.replace("{name: mlp, width: 16}", "{name: biggan, width: 4, latent_dim: 20}").replace(
    "image_size: 16", "image_size: 32")


@pytest.mark.parametrize("text", [DIGITS, CONV, STYLE, BIG],
                         ids=["mlp", "dcgan_upsample", "stylegan2", "biggan"])
def test_bfloat16_is_near_float32_and_repeats_to_the_bit(text: str, tmp_path: Path) -> None:
    spec = a_run(tmp_path, text=text)
    exact, lower, again = (Engine(spec, "cpu", precision)
                           for precision in ("float32", "bfloat16", "bfloat16"))
    of_exact, of_lower = steps(exact), steps(lower)
    assert of_lower.dtype == torch.float32
    # Eight bits of mantissa: they differ, and by no more than rounding explains.
    assert 1e-6 < (of_lower - of_exact).abs().max() < 3e-2
    assert torch.equal(of_lower, steps(again))
    for ours, theirs in zip(lower.generator.parameters(), again.generator.parameters(),
                            strict=True):
        assert ours.dtype == torch.float32
        assert torch.equal(ours, theirs)


def test_penalties_and_samples_stay_float32_under_bfloat16(tmp_path: Path) -> None:
    """A gradient penalty's gradient would lose most of its bits, and scores be of another kind."""
    spec = a_run(tmp_path, "base.penalties=[r1]", "base.model.name=mlp_dropout",
                 "base.model.dropout=0.0")
    lower, exact = Engine(spec, "cpu", "bfloat16"), Engine(spec, "cpu")
    real = [torch.rand(32, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1]
    penalties = [engine.step(1, StepBatch(real), True)["train/d_penalty"]
                 for engine in (lower, exact)]
    assert torch.equal(*penalties)
    latents = torch.randn(5, 100, generator=torch.Generator().manual_seed(0))
    fresh = [Engine(spec, "cpu", precision) for precision in ("bfloat16", "float32")]
    assert torch.equal(*(engine.sample(latents) for engine in fresh))


@pytest.mark.parametrize(("has", "asked", "got"), [
    (True, "auto", "bfloat16"), (False, "auto", "float32"), (False, "float32", "float32"),
    (True, "float32", "float32"), (True, "bfloat16", "bfloat16"),
])
def test_auto_takes_what_the_processor_has(has: bool, asked: str, got: str, tmp_path: Path,
                                           monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "BFLOAT16", {"fpu"} if has else {"no such flag"})
    spec = a_run(tmp_path, f"compute.precision={asked}")
    assert resolve_precision(spec, "cpu") == got


@pytest.mark.parametrize(("override", "message"), [
    ("compute.precision=bfloat16", "compute.precision is bfloat16, but this processor has neither "
     "AMX nor AVX512-BF16; set compute.precision: float32, or auto"),
    ("compute.precision=tf32", "compute.precision is tf32, a format of GPUs, but runs would use "
     "the CPU; set compute.precision: float32, or auto"),
    ("compute.pack=3", "compute.pack is 3, which is for GPUs, but runs would use the CPU, each "
     "in a separate process; set compute.pack: auto, and give --slots"),
    ("compute.device=cuda", "compute.device is cuda, but this machine has no GPU; set "
     "compute.device: auto, or cpu"),
])
def test_what_the_machine_has_not_got_is_refused_by_plan_and_run(
        override: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from typer.testing import CliRunner

    from gan_bench.cli.app import app

    monkeypatch.setattr(hardware, "BFLOAT16", {"no such flag"})
    monkeypatch.setattr(hardware, "DEVICES", ("no such device",))
    file = write_experiment(tmp_path)
    for command in ("plan", "run"):
        done = CliRunner().invoke(app, [command, str(file), "--root", str(tmp_path / "root"),
                                        "--set", override])
        assert isinstance(done.exception, UserError)
        assert str(done.exception) == message
        assert not (tmp_path / "root").exists()


def test_a_device_file_tells_that_there_is_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hardware.has_gpu() or not torch.cuda.is_available()
    for names, there in ((("no such device", "nul[k-m]"), True), (("no such device",), False)):
        monkeypatch.setattr(hardware, "DEVICES", names)
        assert hardware.has_gpu() is there


def test_precision_is_part_of_the_id_unless_it_is_float32(tmp_path: Path) -> None:
    ids = {asked: a_run(tmp_path, f"compute.precision={asked}").id
           for asked in ("float32", "bfloat16", "auto")}
    assert ids["float32"] == a_run(tmp_path).id
    assert len(set(ids.values())) == 3


@BFLOAT16
def test_what_was_computed_in_is_recorded(tmp_path: Path) -> None:
    from gan_bench.config.experiment import load_experiment
    from gan_bench.training.run import prepare, run_one

    spec = a_run(tmp_path, "compute.precision=auto", "evaluate.metrics=[d_accuracy]")
    experiment = load_experiment(tmp_path / "tiny.yaml", tmp_path,
                                 ["compute.precision=auto", "evaluate.metrics=[d_accuracy]"])
    prepare(experiment, tmp_path, tmp_path, lambda line: None)
    assert run_one(spec, tmp_path, tmp_path).status == "FINISHED"
    first = json.loads((spec.folder(tmp_path) / "journal.jsonl").read_text().splitlines()[0])
    assert first["facts"]["precision"] == "bfloat16"


def test_a_plan_says_what_auto_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gan_bench.cli import plan
    from gan_bench.config.experiment import load_experiment

    file = write_experiment(tmp_path)
    for flag, told in (("fpu", "or on this processor"), ("none", "and float32 on this processor")):
        monkeypatch.setattr(hardware, "BFLOAT16", {flag})
        spec = load_experiment(file, tmp_path, ["compute.precision=auto"])
        assert f"precision auto: bfloat16 on a GPU from Ampere on, {told}\n" in plan.plan_text(
            spec, tmp_path)
    assert "precision auto" not in plan.plan_text(load_experiment(file, tmp_path), tmp_path)


def test_a_loss_that_forgets_its_mean_is_told_so(tmp_path: Path) -> None:
    from gan_bench.components.losses import Loss

    engine = Engine(a_run(tmp_path), "cpu")
    engine._d_updates._loss = Loss(lambda real, fake: (real - fake,),
                                  lambda fake, real: -fake.mean())
    with pytest.raises(UserError, match=r"gives a tensor of shape \(32,\), not a scalar"):
        engine.step(1, StepBatch([torch.zeros(32, 1, 16, 16)]))


def test_projection_needs_a_d_whose_end_is_known() -> None:
    from gan_bench.components.models.conditional import _projection

    with pytest.raises(UserError, match="condition: projection needs a D that is a Sequential"):
        _projection(nn.Sequential(nn.Flatten(), nn.Linear(4, 1)), 3)
    known = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Linear(5, 1), nn.Flatten(0))
    logits = _projection(known, 3)(torch.zeros(2, 4), torch.tensor([0, 2]))
    assert logits.shape == (2,)
