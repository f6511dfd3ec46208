"""Runs on pairs: refused where they do not fit, trained, resumed to the bit, measured, sampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.runs import a_run, write_experiment
from numpy.typing import NDArray
from safetensors.torch import load_file

from gan_bench.cli.results.export import export_generator
from gan_bench.cli.results.sample import write_samples
from gan_bench.components import data as datasets
from gan_bench.components.data import Dataset
from gan_bench.components.penalties import Penalty
from gan_bench.config.experiment import load_experiment
from gan_bench.config.spec import RunSpec
from gan_bench.errors import SpecError, UserError
from gan_bench.evaluation.evaluator import held_out_pairs, measured_latents, prepare_metrics
from gan_bench.evaluation.measurement import Wanted
from gan_bench.evaluation.metrics.pairs import ssim_of
from gan_bench.journal import reading
from gan_bench.journal.layout import WEIGHTS, Execution, Workspace
from gan_bench.journal.spec_file import read_spec
from gan_bench.journal.status import progress_of
from gan_bench.training.run import run_one
from gan_bench.training.single_run import Run
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch
from gan_bench.training.trained_scores import measure_run

PAIRS = """\
name: tiny
dataset: {name: pairs, of: {name: digits, image_size: 16}, input: inverted}
seeds: [0]
base:
  model: {name: unet, width: 8, d_width: 8, d_layers: 2}
  condition: concat
  penalties: [l1]
  batch_size: 16
  steps: 6
  log_every: 2
  sample_every: 3
  share_fakes: true
evaluate: {every: 3, samples: 50, metrics: [l1, psnr, ssim]}
compute: {device: cpu}
"""


def paired(folder: Path, *overrides: str) -> RunSpec:
    return a_run(folder, *overrides, text=PAIRS)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("root")
    spec = paired(folder)
    datasets.prepare_data(spec.dataset, folder, folder / "cache")
    return folder


@pytest.fixture(scope="module")
def digits(prepared: Path) -> Dataset:
    return datasets.load(paired(prepared).dataset, prepared, prepared / "cache", "cpu")


@pytest.fixture(scope="module")
def trained(prepared: Path) -> RunSpec:
    spec = paired(prepared)
    assert run_one(spec, prepared, prepared).status == "FINISHED"
    return spec


@pytest.mark.parametrize(("overrides", "line", "message"), [
    (["dataset={name: digits, image_size: 16}"], 5, "unet makes an image from an image, but this "
                                                    "data set has no inputs"),
    (["base.condition=none"], 0, "set condition: concat"),
    (["base.condition=projection"], 0, "set condition: concat"),
    (["base.model=mlp", "base.penalties=[]"], 6, "the condition of this data set is an image, and "
                                                 "mlp takes a class: choose the model unet"),
    (["base.augmentation=[flip]"], 0, "flip would change an image and not its input"),
    (["evaluate.samples=360"], 0, "360 is more than the 359 held-out inputs"),
    (["evaluate.final_samples=360"], 0, "360 is more than the 359 held-out inputs"),
    (["evaluate.latent_sets=2"], 0, "has no latents"),
    (["evaluate.metrics=[label_accuracy]"], 0, "class, but an input requests none: leave it out"),
    (["evaluate.metrics=[d_accuracy]"], 0, "gives D images without inputs"),
    (["base.model=mlp", "base.condition=none"], 7, "l1 compares images with the targets"),
    (["base.model=mlp", "base.condition=none", "base.penalties=[]"], 13,
     "makes images of no input"),
    (["base.share_fakes=true", "base.d_steps=2"], 0, "shared fakes have the inputs of one batch"),
    (["base.model.d_layers=3"], 0, "set d_layers to 2"),
    (["base.model.latent_dim=8"], 0, "latent_dim"),
])
def test_what_does_not_fit_is_refused_where_it_stands(tmp_path: Path, overrides: list[str],
                                                      line: int, message: str) -> None:
    with pytest.raises(SpecError) as error:
        load_experiment(write_experiment(tmp_path, PAIRS), tmp_path, overrides)
    assert message in str(error.value)
    if line:
        assert f"tiny.yaml:{line}:" in str(error.value)


def test_metrics_of_pairs_need_pairs(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"evaluate\.metrics: l1 needs inputs with their targets, "):
        a_run(tmp_path, "evaluate.metrics=[l1]")


def test_g_is_given_the_input_and_compared_with_its_target(prepared: Path, digits: Dataset) -> None:
    """With more updates of G than of D, the batches of D come in turn."""
    spec = paired(prepared, "base.g_steps=3", "base.d_steps=2", "base.share_fakes=false",
                  "base.model.dropout=0.0")
    inputs, targets = held_out_pairs(digits, 32)
    assert (inputs.int() + targets.int() == 255).all()  # inverted
    x, y = (some.float() / 127.5 - 1 for some in (inputs, targets))
    batch = StepBatch([*y.chunk(2)], [*x.chunk(2)],
                      g_labels=torch.cat([x[:16], x[16:], x[:16]]))
    assert all(torch.allclose(target, -of_g, atol=1e-6) for target, (_, of_g) in
               zip(batch.targets(3), batch.of_g(3), strict=True) if of_g is not None)
    own = StepBatch([y[:16]], [x[:16]], g_real=y, g_labels=x)
    assert torch.equal(torch.cat(own.targets(2)), y)
    engine = Engine(spec, "cpu")
    before = Engine(spec, "cpu")
    seen = engine.step(1, batch, observe=True)
    with torch.no_grad():
        made = before.generator(x[:16].flatten(1))  # two updates later it is a little nearer
        distance = 100 * (made - y[:16]).abs().mean().item()
    assert 0.5 * distance < seen["train/g_penalty"].item() < distance
    logits = engine.discriminator(y[:16], x[:16])
    assert logits.shape == (16, 1, 2, 2)
    assert not torch.allclose(logits, engine.discriminator(y[:16], y[:16]))


def test_a_run_is_measured_on_held_out_pairs(trained: RunSpec, prepared: Path, digits: Dataset,
                                             tmp_path: Path) -> None:
    write_samples(Workspace(prepared, prepared), trained.id, tmp_path / "a.npz", 50, 0)
    arrays = np.load(tmp_path / "a.npz")
    made, targets, inputs = (arrays[name].astype(float) for name in ("images", "targets",
                                                                      "inputs"))
    assert made.shape == (50, 16, 16, 1)
    assert (inputs == 255 - targets).all()
    assert digits.test.inputs is not None
    rows = [i * 359 // 50 for i in range(50)]
    assert (inputs[..., 0] == digits.test.inputs[rows, 0].numpy()).all()
    scores = progress_of(trained, prepared).scores
    assert scores["l1"] == pytest.approx(np.abs(made - targets).mean() / 127.5, rel=1e-9)
    errors = np.square(made - targets).mean((1, 2, 3))
    assert scores["psnr"] == pytest.approx((10 * np.log10(255**2 / errors)).mean(), rel=1e-9)
    first = [some.transpose(0, 3, 1, 2) for some in (targets, made)]
    assert scores["ssim"] == pytest.approx(ssim_of(*first).mean(), rel=1e-9)
    protocol = progress_of(trained, prepared).protocols["l1"]
    assert protocol["copying"] == pytest.approx(np.abs(inputs - targets).mean() / 127.5, rel=1e-5)
    assert protocol["inputs"] == "held out, evenly spread"
    assert protocol["real"] == protocol["generated"] == 50


def journal_of(folder: Path) -> list[dict[str, Any]]:
    records, _ = reading.read_records(folder)
    return [{key: record[key] for key in ("kind", "step", "values", "sha256") if key in record}
            for record in records if record["kind"] in ("metrics", "image")
            and not any(name.startswith("system/") for name in record.get("values", {}))]


@pytest.mark.parametrize("overrides", [[], ["base.ema=0.9", "base.share_fakes=false",
                                            "base.loss=relativistic_pairing"]])
def test_a_killed_run_resumes_to_the_bit(prepared: Path, tmp_path: Path,
                                         overrides: list[str]) -> None:
    spec = paired(tmp_path, *overrides)
    folders = []
    for name, kill in (("whole", 0), ("killed", 4)):
        workspace = Workspace(tmp_path / name, prepared)
        datasets.prepare_data(spec.dataset, prepared, workspace.cache)
        if kill:
            run = Run(spec, Execution(workspace), lambda cache=workspace.cache: datasets.load(
                spec.dataset, prepared, cache, "cpu"))
            for _ in range(kill):
                run.step()
            run.checkpoint()
            run.step()
            run.close()
        assert run_one(spec, workspace.root, prepared).status == "FINISHED"
        folders.append(spec.folder(workspace.root))
    whole, killed = folders
    assert (whole / WEIGHTS).read_bytes() == (killed / WEIGHTS).read_bytes()
    assert journal_of(whole) == journal_of(killed)
    pictures = [sorted((folder / "samples").iterdir()) for folder in folders]
    assert [path.name for path in pictures[0]] == [path.name for path in pictures[1]]
    assert len(pictures[0]) == 3
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(*pictures, strict=True))


def test_the_average_is_given_inputs_for_its_statistics(prepared: Path, digits: Dataset) -> None:
    spec = paired(prepared, "base.ema=0.9", "base.share_fakes=false")
    engine = Engine(spec, "cpu", conditions=digits.train.inputs)
    inputs, targets = held_out_pairs(digits, 16)
    x, y = (some.float() / 127.5 - 1 for some in (inputs, targets))
    engine.step(1, StepBatch([y], [x], g_labels=x))
    mean = engine.measured.get_submodule("down.1.norm").running_mean
    assert isinstance(mean, torch.Tensor)
    assert mean.abs().max() > 0
    assert engine.sample(measured_latents(spec, digits, 5)).shape == (5, 1, 16, 16)


def test_a_trained_run_is_measured_again_and_by_others(trained: RunSpec, prepared: Path) -> None:
    assert read_spec(trained.folder(prepared)) == trained
    workspace, folder = Workspace(prepared, prepared), trained.folder(prepared)

    def again(**wanted: Any) -> dict[str, float]:
        return measure_run(folder, WEIGHTS, Wanted(**wanted), workspace, print).scores

    scores = progress_of(trained, prepared).scores
    assert again() == {name: scores[name] for name in ("l1", "psnr", "ssim")}
    assert set(again(metrics=["fd_classifier"], samples=300)) == {"fd_classifier"}
    with pytest.raises(UserError, match="360 samples are asked for, and there are 359"):
        again(samples=360)
    with pytest.raises(UserError, match="asks for no class"):
        again(metrics=["label_accuracy"])
    with pytest.raises(UserError, match="conditional with the inputs of pairs"):
        again(data_set=trained.dataset.model_copy(update={"args": {
            **trained.dataset.args, "input": {"name": "mask", "share": 0.5}}}))


def test_samples_are_made_of_held_out_inputs_only(trained: RunSpec, prepared: Path,
                                                  tmp_path: Path) -> None:
    workspace = Workspace(prepared, prepared)
    write_samples(workspace, trained.id, tmp_path / "a.png", 8, 0)
    write_samples(workspace, trained.id, tmp_path / "folder", 4, 0)
    assert len([*(tmp_path / "folder").iterdir()]) == 4
    with pytest.raises(UserError, match="--n 360 is more than the 359 held-out inputs"):
        write_samples(workspace, trained.id, tmp_path / "b.png", 360, 0)
    with pytest.raises(UserError, match="leave it out"):
        write_samples(workspace, trained.id, tmp_path / "b.png", 4, 0, interpolate=True)
    with pytest.raises(UserError, match="no latents to limit; leave out the limit"):
        write_samples(workspace, trained.id, tmp_path / "b.png", 4, 0, limit=1.0)
    assert not (tmp_path / "b.png").exists()


def test_a_picture_has_input_output_and_target_in_a_row(trained: RunSpec, prepared: Path,
                                                        digits: Dataset) -> None:
    from PIL import Image

    from gan_bench.evaluation.grid_layout import KEYWORD, read_layout

    picture = Image.open(trained.folder(prepared) / "samples" / "samples-0000006.png")
    layout = read_layout(picture.info[KEYWORD])
    assert layout is not None
    assert (layout.samples, layout.height, layout.width) == (32, 16, 3 * 16 + 2 * 2)
    pixels: NDArray[np.uint8] = np.asarray(picture)[:: layout.scale, :: layout.scale]
    inputs, targets = held_out_pairs(digits, 32)
    for (y, x), given, target in zip(layout.corners, inputs[:, 0], targets[:, 0], strict=True):
        cell = pixels[y : y + 16, x : x + layout.width, 0]
        assert (cell[:, :16] == given.numpy()).all()
        assert (cell[:, 36:] == target.numpy()).all()
        assert (cell[:, [16, 17, 34, 35]] == 128).all()


def test_an_exported_generator_takes_the_input_flattened(trained: RunSpec, prepared: Path,
                                                         tmp_path: Path) -> None:
    said = export_generator(prepared, trained.id, tmp_path / "g.pt2")
    assert said == "(N, 256) float32"
    exported = torch.export.load(tmp_path / "g.pt2").module()
    assert exported(torch.zeros(3, 256)).shape == (3, 1, 16, 16)
    assert any(name.startswith("generator.down.0")
               for name in load_file(trained.folder(prepared) / WEIGHTS))


def test_inversion_is_learnt(prepared: Path, tmp_path: Path) -> None:
    """Where copying has an l1 of more than 1, and each target is known exactly."""
    spec = paired(prepared, "base.steps=400", "evaluate.every=null", "base.sample_every=null",
                  "base.model.dropout=0.0", "evaluate.samples=359",
                  "base.penalties=[{name: l1, weight: 1000}]",
                  "base.g_optimizer={name: adam, lr: 2e-3}")
    assert run_one(spec, prepared, prepared).status == "FINISHED"
    run = progress_of(spec, prepared)
    assert run.protocols["l1"]["copying"] > 1
    assert 0 < run.scores["l1"] < 0.05


def test_metrics_of_pairs_are_prepared_for_pairs_only(digits: Dataset, prepared: Path) -> None:
    assert prepare_metrics(["l1", "ssim"], digits, prepared / "cache", print) == {}


def test_further_sets_of_latents_are_others_of_the_same_inputs(digits: Dataset, prepared: Path,
                                                               ) -> None:
    """Of a model that has latents besides the input."""
    spec = paired(prepared)
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={
        "args": {**spec.model.args, "latent_dim": 4}})})
    first, again, other = (measured_latents(spec, digits, 9, number) for number in (0, 0, 1))
    assert torch.equal(first, again)
    assert torch.equal(first[:, 4:], other[:, 4:])
    assert not torch.isclose(first[:, :4], other[:, :4]).any()


def test_a_term_of_pairs_has_no_step_of_its_own(tmp_path: Path) -> None:
    """Neither by an argument of its factory nor by what the factory returns."""
    plugin = tmp_path / "mine.py"
    plugin.write_text("from gan_bench.registry import PENALTIES, PenaltyFacts\n"
                      "from gan_bench.components.penalties import Penalty\n"
                      "@PENALTIES.register('mine', PenaltyFacts(on_examples=False, term=False,\n"
                      "                                         g_term=True, needs_targets=True))\n"
                      "def mine(*, own_step: bool = False):\n"
                      "    return Penalty(pair_term=lambda fakes, targets: fakes.mean(),\n"
                      "                   own_step=own_step)\n")
    given = [f"plugins=[{plugin}]", "base.penalties=[{name: mine, own_step: OWN}]"]
    a_run(tmp_path, *(each.replace("OWN", "false") for each in given), text=PAIRS)
    with pytest.raises(SpecError, match="mine compares the fakes of G's update with their targets"):
        a_run(tmp_path, *(each.replace("OWN", "true") for each in given), text=PAIRS)
    with pytest.raises(UserError, match="has no step of its own: leave out own_step"):
        Penalty(pair_term=lambda fakes, targets: fakes.mean(), own_step=True)
    assert Penalty(pair_term=lambda fakes, targets: fakes.mean()).of_g
