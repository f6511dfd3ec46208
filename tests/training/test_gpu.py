"""What only a GPU can show: that it repeats itself to the bit, computes what a CPU computes, and
that training never waits for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import save_pngs
from helpers.journals import repeatable
from helpers.runs import DIGITS, a_run
from torch import Tensor

from gan_bench.components.data import load, prepare_data
from gan_bench.config.spec import RunSpec
from gan_bench.errors import UserError
from gan_bench.journal import reading
from gan_bench.journal.layout import WEIGHTS, Execution, Workspace
from gan_bench.launcher.worker import process_environment
from gan_bench.registry import OPTIMIZERS
from gan_bench.training.device import set_up_torch
from gan_bench.training.run import run_one, run_together
from gan_bench.training.step.cuda_graph import WARM_UP, CapturedStep
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

# As the launcher does. Torch looks once, at the first product of two matrices in the process.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG",
                      process_environment(threads=1)["CUBLAS_WORKSPACE_CONFIG"])

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device"),
]

PICTURES = DIGITS.replace("{name: digits, image_size: 16}",
                          "{name: image_folder, path: pictures, image_size: 16, channels: 1}")
MLP = "base.model={name: mlp, width: 16}"
DCGAN = "base.model={name: dcgan, width: 8}"
UPSAMPLE = "base.model={name: dcgan_upsample, width: 16}"
# Its dropout would draw other numbers on another device.
UPSAMPLE_WITHOUT_DROPOUT = "base.model={name: dcgan_upsample, width: 16, dropout: 0.0}"
CONV = "base.model={name: mlp_conv, width: 16}"
STYLE = "base.model={name: stylegan2, width: 16, latent_dim: 16}"
LINE = "{points: [[0, 0.5], [9, 2.5]]}"
RATES = "{points: [[0, 1e-3], [9, 1e-4]], shape: cosine}"
PAIRS = ("{name: pairs, of: {name: image_folder, path: pictures, image_size: 16, channels: 1}, "
         "input: inverted}")
BIG = "base.model={name: biggan, width: 8, latent_dim: 20}"
# Or a D that is given labels, and 20 held-out pairs, would be refused.
UNMEASURED = ("evaluate.metrics=[]", "evaluate.samples=20")


@pytest.fixture(autouse=True)
def torch_as_it_was() -> Iterator[None]:
    """Undo what a run sets in torch for its whole process."""
    matmul, convolution = torch.backends.cuda.matmul, torch.backends.cudnn
    before = (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(),
              matmul.allow_tf32, convolution.allow_tf32)
    yield
    torch.cuda.set_sync_debug_mode("default")
    torch.set_num_threads(before[0])
    torch.use_deterministic_algorithms(before[1])
    matmul.allow_tf32, convolution.allow_tf32 = before[2:]


def a_gpu_run(folder: Path, *overrides: str) -> RunSpec:
    """Return a run on images of ten classes, which need no package that a bare machine lacks."""
    pictures = folder / "pictures"
    if not pictures.exists():
        drawn = np.random.default_rng(0).integers(256, size=(10, 20, 1, 16, 16), dtype=np.uint8)
        for i, images in enumerate(drawn):
            save_pngs(pictures / str(i), images)
    return a_run(folder, "compute.device=cuda", *overrides, text=PICTURES)


def batch(seed: int, side: int = 16) -> Tensor:
    return torch.rand(32, 1, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.mark.parametrize("model", [MLP, UPSAMPLE])
def test_repeated_runs_are_equal_to_the_bit(tmp_path: Path, model: str) -> None:
    spec = a_gpu_run(tmp_path, model, "base.steps=30", "base.ema=0.9")
    left = []
    for root in (tmp_path / "a", tmp_path / "b"):
        prepare_data(spec.dataset, tmp_path, Workspace(root).cache)
        assert run_one(spec, root, tmp_path).status == "FINISHED"
        folder = spec.folder(root)
        records = reading.read_records(folder)[0]
        assert records[0]["facts"]["device"] == "cuda"
        left.append((repeatable(records), (folder / WEIGHTS).read_bytes(),
                     [p.read_bytes() for p in sorted((folder / "samples").iterdir())]))
    assert left[0] == left[1]


def test_another_seed_gives_other_bits(tmp_path: Path) -> None:
    spec = a_gpu_run(tmp_path)
    prepare_data(spec.dataset, tmp_path, Workspace(tmp_path).cache)
    for run in (spec, spec.with_seed(1)):
        run_one(run, tmp_path, tmp_path)
    first, second = (repeatable(reading.read_records(run.folder(tmp_path))[0])
                     for run in (spec, spec.with_seed(1)))
    assert first != second


@pytest.mark.parametrize("order", ["d_first", "g_first"])
@pytest.mark.parametrize("model", [MLP, DCGAN, UPSAMPLE_WITHOUT_DROPOUT, CONV])
def test_first_step_is_that_of_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       model: str, order: str) -> None:
    spec = a_gpu_run(tmp_path, model, f"base.order={order}")
    set_up_torch(spec)
    on_cpu, on_gpu = Engine(spec, "cpu"), Engine(spec, "cuda")
    drawn = torch.Generator().manual_seed(0)
    latents = [torch.randn(32, 100, generator=drawn) for _ in range(2)]
    seen = []
    for engine in (on_cpu, on_gpu):
        # A generator on the GPU draws other numbers than one on the CPU from the same seed.
        given = iter([x.to(engine.device) for x in latents])
        monkeypatch.setattr(engine, "_latents", lambda n, labels, given=given: next(given))
        made = engine.step(1, StepBatch([batch(1).to(engine.device)]), observe=True)
        assert all(value.device.type == engine.device for value in made.values())
        seen.append({name: float(value) for name, value in made.items()})
    losses = [name for name in seen[0] if "loss" in name]
    assert len(losses) == 4
    for name in losses:
        assert seen[1][name] == pytest.approx(seen[0][name], abs=1e-4), name


def trained(spec: RunSpec, take: Callable[[Engine], Callable[..., object]], precision: str,
            ) -> list[Tensor]:
    """Return all that twelve steps leave, and what every third of them has shown."""
    engine, side = Engine(spec, "cuda", precision), spec.data.shape[-1]
    step, left = take(engine), []
    for i in range(1, 13):
        g_real = batch(100 + i, side).cuda() if engine.needs_real else None
        given = StepBatch([batch(i, side).cuda()], g_real=g_real)
        if spec.condition_kind == "image":
            given = replace(given, labels=[-given.real[0]], g_labels=-given.real[0])
        elif spec.condition_kind == "class":
            labels = torch.arange(32, device="cuda") % 10
            given = replace(given, labels=[labels], g_labels=labels)
        if spec.fake_labels == "independent":
            others = (torch.arange(32, device="cuda") + i) % 10
            given = replace(given, g_labels=others, fake_labels=[others.flip(0)],
                            own_labels=others.roll(1))
        seen = step(i, given, i % 3 == 0)
        left += [value.clone() for value in seen.values()]  # type: ignore[attr-defined]
    state = engine.state()
    left += [state["generator"][name] for name in state["generator"]]
    left += [state["discriminator"][name] for name in state["discriminator"]]
    left += [value for name in ("generator", "discriminator")
             for own in state[f"{name}_optimizer"]["state"].values() for value in own.values()]
    return [*left, engine.first_bad]


@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
@pytest.mark.parametrize("overrides", [
    [MLP], [DCGAN], [UPSAMPLE], [CONV], [MLP, "base.ema=0.9", "base.optimizer=rmsprop"],
    [MLP, "base.optimizer={name: sgd, momentum: 0.5, schedule: linear}"],
    [MLP, "base.latents=uniform", "base.optimizer={lr: 1e-6, schedule: plateau, decay_every: 2, "
          "decay_patience: 0}"],
    ["base.model={name: mlp_dropout, width: 16}", "base.loss=relativistic_pairing",
     "base.penalties=[{name: r1, every: 2}, gradient_penalty]"],
    ["base.model={name: dcgan, width: 8, d_norm: none}", "base.penalties=[spectral_norm]",
     "base.condition=projection"],
    [MLP, "base.penalties=[instance_noise]"],
    [MLP, "base.augmentation=[flip, diffaugment]"],
    [CONV, "base.augmentation=[{name: ada, kimg: 0.1, transforms: [blit, geometry, color, filter, "
           "noise, cutout]}]", "base.penalties=[{name: r1, every: 2}]"],
    [STYLE, "base.penalties=[{name: r1, every: 4}]", "base.ema=0.9"],
    [STYLE, "base.penalties=[{name: path_length, every: 3}, orthogonal_g, orthogonal_d]"],
    [STYLE, "base.condition=projection", "base.model.d_architecture=skip"],
    [BIG, "base.condition=projection", "base.ema=0.9", "dataset.image_size=32"],
    [BIG, "base.model.hierarchical=false", "base.model.shared_dim=null", "base.condition=concat",
     "dataset.image_size=32"],
    [MLP, "base.penalties=[{name: r1, every: 2, own_step: true}]"],
    [STYLE, "base.penalties=[{name: r1, every: 2, own_step: true}, {name: path_length, every: 2, "
            "own_step: true}]", "base.condition=projection", "base.fake_labels=independent"],
    [CONV, "base.accumulate=4", "base.penalties=[{name: r1, every: 2}]"],
    [DCGAN, "base.one_pass=true", "base.condition=concat"],
    [DCGAN, "base.one_pass=true", "base.accumulate=2", "base.condition=projection",
     "base.fake_labels=independent"],
    [MLP, f"base.penalties=[{{name: r1, gamma: {LINE}}}]", f"base.optimizer.lr={RATES}",
     "base.augmentation=[{name: ada, p: {points: [[0, 0], [9, 0.5]]}}]"],
    [MLP, "base.optimizer.betas=[0, {points: [[2, 0.9], [4, 0.99]]}]"],
    [MLP, "base.ema={half_life: 100}"],
    [MLP, "base.ema={half_life: {points: [[0, 10], [9, 100]]}}", "base.ema_start=4"],
    ["base.model={name: unet, width: 8, d_width: 8, d_layers: 2}", "base.condition=concat",
     "base.penalties=[l1]", f"dataset={PAIRS}"],
], ids=" ".join)
def test_a_graph_gives_the_bits_of_the_step(tmp_path: Path, overrides: list[str], precision: str,
                                            ) -> None:
    spec = a_gpu_run(tmp_path, *overrides, f"compute.precision={precision}", *UNMEASURED)
    set_up_torch(spec)
    graphs = []

    def captured(engine: Engine) -> Callable[..., object]:
        graphs.append(CapturedStep(engine))
        return graphs[0].step

    eager = trained(spec, lambda engine: engine.step, precision)
    replayed = trained(spec, captured, precision)
    assert bool(graphs[0]._recorded) is ("base.penalties=[instance_noise]" not in overrides)
    assert len(eager) == len(replayed) > 10
    for ours, theirs in zip(replayed, eager, strict=True):
        assert torch.equal(ours, theirs)


def test_a_step_that_waits_for_the_device_is_refused_in_words(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = a_gpu_run(tmp_path)
    set_up_torch(spec)
    engine = Engine(spec, "cuda")
    forward = engine._passes.forward_g
    monkeypatch.setattr(engine._passes, "forward_g",
                        lambda latents: forward(latents) * latents.sum().item())
    step = CapturedStep(engine).step
    for i in range(1, WARM_UP):
        step(i, StepBatch([batch(i).cuda()]))
    with pytest.raises(UserError, match=r"cannot be a CUDA graph, .*: set compute.graphs: false"):
        step(WARM_UP, StepBatch([batch(9).cuda()]))
    assert torch.cuda.get_sync_debug_mode() == 0


def test_runs_that_share_a_gpu_are_to_the_bit_as_if_alone(tmp_path: Path) -> None:
    specs = [a_gpu_run(tmp_path, model, f"seeds=[{seed}]", "base.steps=20")
             for model in (MLP, UPSAMPLE) for seed in (0, 1)]
    left = []
    for name in ("alone", "together"):
        root = tmp_path / name
        prepare_data(specs[0].dataset, tmp_path, Workspace(root).cache)
        if name == "alone":
            for spec in specs:
                assert run_one(spec, root, tmp_path).status == "FINISHED"
        else:
            run_together(specs, Execution(Workspace(root, tmp_path)),
                         failed=lambda spec, error: pytest.fail(str(error)))
        left.append([(repeatable(reading.read_records(spec.folder(root))[0]),
                      (spec.folder(root) / WEIGHTS).read_bytes()) for spec in specs])
    assert left[0] == left[1]


@pytest.mark.parametrize("optimizer", [entry.name for entry in OPTIMIZERS])
@pytest.mark.parametrize("model", [MLP, DCGAN, UPSAMPLE, CONV, STYLE])
def test_a_step_never_waits_for_the_gpu(tmp_path: Path, model: str, optimizer: str) -> None:
    spec = a_gpu_run(tmp_path, model, f"base.optimizer={optimizer}", "base.ema=0.9",
                     "base.augmentation=[flip, diffaugment, ada]")
    set_up_torch(spec)
    engine, real = Engine(spec, "cuda"), batch(1).cuda()
    for step in (1, 2):  # the first ones allocate, load kernels and create the optimizers' state
        engine.step(step, StepBatch([real]), observe=True)
    torch.cuda.set_sync_debug_mode("error")
    with pytest.raises(RuntimeError, match="synchroniz"):  # that the mode sees what it should
        real.sum().item()
    for step in range(3, 8):
        engine.step(step, StepBatch([real]), observe=step % 2 == 0)
    torch.cuda.set_sync_debug_mode("default")
    assert int(engine.first_bad) == 0


def test_batches_are_gathered_without_waiting(tmp_path: Path) -> None:
    from gan_bench.training.loop import Batches

    spec = a_gpu_run(tmp_path)
    prepare_data(spec.dataset, tmp_path, tmp_path)
    data = load(spec.dataset, tmp_path, tmp_path, "cuda")
    batches = Batches(data.train.images, 32, seed=0)
    first = batches[0]  # draws the epoch's order, which has to be copied to the GPU
    torch.cuda.set_sync_debug_mode("error")
    second = batches[1]
    torch.cuda.set_sync_debug_mode("default")
    on_cpu = Batches(data.train.images.cpu(), 32, seed=0)
    # Close and not equal: a GPU divides by a number by multiplying with its reciprocal.
    torch.testing.assert_close(first.cpu(), on_cpu[0])
    torch.testing.assert_close(second.cpu(), on_cpu[1])


@pytest.mark.parametrize("optimizer", [entry.name for entry in OPTIMIZERS])
def test_what_a_cpu_has_begun_goes_on_with_its_schedule(tmp_path: Path, optimizer: str) -> None:
    spec = a_gpu_run(tmp_path, f"base.optimizer={{name: {optimizer}, schedule: linear}}")
    set_up_torch(spec)
    begun = Engine(spec, "cpu")
    begun.step(1, StepBatch([batch(1)]))
    state, left = begun.state(), []
    for graphs in (False, True):
        engine = Engine(spec, "cuda")
        engine.load(state)
        step = CapturedStep(engine).step if graphs else engine.step
        for i in range(2, 2 + 2 * WARM_UP):
            step(i, StepBatch([batch(i).cuda()]))
        left.append([value.clone() for value in engine.generator.state_dict().values()])
        (group,) = engine.state()["generator_optimizer"]["param_groups"]
        assert group["lr"].device.type == "cuda"
        assert float(group["lr"]) < begun.state()["generator_optimizer"]["param_groups"][0]["lr"]
    for eager, replayed in zip(*left, strict=True):
        assert torch.equal(eager, replayed)
