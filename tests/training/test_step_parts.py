"""Steps of penalties' own, batches in parts, one pass for both, labels of fakes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.float64 import in_float64  # noqa: F401
from helpers.runs import DIGITS, a_run
from torch import Tensor

from gan_bench.components import data as datasets
from gan_bench.config.run_id import id_of, older_id
from gan_bench.config.spec import RunSpec
from gan_bench.errors import SpecError
from gan_bench.registry import MODELS
from gan_bench.training.contract.base import bits, run_spec
from gan_bench.training.contract.networks import resume_problem
from gan_bench.training.loop import Training
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

STYLE = MODELS.parse({"name": "stylegan2", "width": 8, "latent_dim": 8, "mapping_layers": 2,
                      "group": 2})
OWN = ["variants={}", "base.penalties=[{name: r1, every: 3, own_step: true}]"]


def reals(step: int, count: int = 32) -> Tensor:
    draws = torch.Generator().manual_seed(step)
    made = torch.rand(count, 1, 16, 16, generator=draws, dtype=torch.float32) * 2 - 1
    return made.to(torch.get_default_dtype())


def stepped(spec: RunSpec, steps: range = range(1, 4)) -> tuple[Engine, dict[str, Tensor]]:
    engine = Engine(spec, "cpu")
    for step in steps:
        seen = engine.step(step, StepBatch([reals(step)]), True)
    return engine, seen


def test_the_published_corrections_of_the_rates(tmp_path: Path) -> None:
    """Those of StyleGAN2 at every 4 and 16; a schedule of the rate and of a beta goes on below."""
    spec = run_spec((1, 16, 16), model=STYLE, g_optimizer={
        "name": "adam", "lr": 0.0025, "betas": [0.0, 0.99]}, d_optimizer={
        "name": "adam", "lr": 0.0025, "betas": [0.0, 0.99]}, penalties=[
        {"name": "path_length", "every": 4, "own_step": True},
        {"name": "r1", "every": 16, "own_step": True}])
    engine = Engine(spec, "cpu")
    engine.begin(1)
    (of_g,), (of_d,) = (engine._optimizing.of[network].param_groups
                        for network in (engine.generator, engine.discriminator))
    assert (of_g["lr"], of_g["betas"][0]) == (pytest.approx(0.002, rel=1e-12), 0)
    assert of_g["betas"][1] == pytest.approx(0.991992, abs=5e-7)
    assert of_d["lr"] == pytest.approx(0.00235294, abs=5e-9)
    assert of_d["betas"][1] == pytest.approx(0.990585, abs=5e-7)
    moving = a_run(tmp_path, *OWN, "base.d_optimizer={lr: {points: [[0, 0.1], [4, 0.5]]}, "
                   "betas: [0.25, {points: [[0, 0.5], [4, 0.9]]}]}")
    engine = Engine(moving, "cpu")
    engine.begin(3)
    [of_d] = engine._optimizing.of[engine.discriminator].param_groups
    assert of_d["lr"] == pytest.approx(0.3 * 0.75)
    assert of_d["betas"] == pytest.approx((0.25 ** 0.75, 0.7 ** 0.75))
    assert engine.graph_key(3) is None


def test_a_step_of_its_own_comes_after_the_updates_and_counts_for_all(tmp_path: Path) -> None:
    """In the third step D's optimizer steps twice, and the loss alone is in the gradient's norm."""
    for extra in ([], ["base.d_steps=1", "base.order=g_first"]):
        engine, seen = stepped(a_run(tmp_path, *OWN, *extra))
        optimizer = engine._optimizing.of[engine.discriminator]
        assert {float(state["step"]) for state in optimizer.state.values()} == {4}
        assert len(optimizer.state) == len([*engine.discriminator.parameters()])
        steps = engine._optimizing.of[engine.generator].state.values()
        assert {float(state["step"]) for state in steps} == {3}
        plain, said = stepped(a_run(tmp_path, "variants={}", "base.penalties=[{name: r1, every: 3"
                                                             "}]", *extra))
        assert float(seen["train/d_penalty"]) > 0 < float(said["train/d_penalty"])
        assert len(bits(plain)) == len(bits(engine))


def test_the_term_of_g_has_latents_of_its_own() -> None:
    """Further ones: G's and D's are those of a run without it."""
    with_own = run_spec((1, 16, 16), model=STYLE, penalties=[
        {"name": "path_length", "every": 1, "own_step": True}])
    given: dict[bool, list[Tensor]] = {}
    for has, spec in ((True, with_own), (False, run_spec((1, 16, 16), model=STYLE))):
        engine = Engine(spec, "cpu")
        seen = given.setdefault(has, [])
        engine.generator.mapping.register_forward_pre_hook(  # type: ignore[union-attr, operator]
            lambda network, args, seen=seen: seen.append(args[0].clone()))
        engine.step(1, StepBatch([reals(1, 4)]))
    of_d, of_g = given[False]
    assert [len(latents) for latents in given[True]] == [4, 4, 2]
    assert torch.equal(given[True][0], of_d)
    assert torch.equal(given[True][1], of_g)
    assert not torch.equal(given[True][2], of_g[:2])


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("settings", [
    ["base.penalties=[r1, orthogonal_d, orthogonal_g]"], ["base.order=g_first"],
    ["base.loss=relativistic_pairing", "base.penalties=[{name: r1, every: 2, own_step: true}]"],
    ["base.joint_weight=0.5", "base.g_steps=2", "base.one_pass=true"]], ids=str)
def test_a_batch_in_parts_gives_the_gradients_of_the_whole(tmp_path: Path, settings: list[str],
                                                           ) -> None:
    """Where no layer compares examples; so do the logged values, but for G's fakes in BN."""
    if any("relativistic" in setting for setting in settings):
        def batch(step: int) -> StepBatch:
            return StepBatch([reals(step)], g_real=reals(100 + step))
    else:
        def batch(step: int) -> StepBatch:
            return StepBatch([reals(step)])
    states = []
    for count in (1, 2, 8):
        spec = a_run(tmp_path, "variants={}", "base.model={name: r3, width: 8, blocks: 1}",
                     f"base.accumulate={count}", *settings)
        engine = Engine(spec, "cpu")
        for step in range(1, 4):
            seen = engine.step(step, batch(step), True)
        values = {**engine.generator.state_dict(), **engine.discriminator.state_dict(), **seen}
        states.append((spec.id, values))
    for other in states[1:]:
        assert other[0] != states[0][0]
        for name, value in states[0][1].items():
            torch.testing.assert_close(other[1][name], value, rtol=1e-7, atol=1e-9, msg=name)


def test_one_pass_is_one_step_of_the_power_iteration(tmp_path: Path) -> None:
    """Fakes first; without layers that remember or compare, it is the same."""
    counts = []
    for one in ("true", "false"):
        spec = a_run(tmp_path, "variants={}", f"base.one_pass={one}",
                     "base.penalties=[spectral_norm]")
        engine, given = Engine(spec, "cpu"), []
        engine.discriminator.register_forward_pre_hook(
            lambda network, args, given=given: given.append(args[0].clone()))
        engine.step(1, StepBatch([reals(1)]))
        counts.append([len(each) for each in given])
        if one == "true":
            assert torch.equal(given[0][32:], reals(1))
    assert counts == [[64, 32], [32, 32, 32]]
    plain, joined = (stepped(a_run(tmp_path, "variants={}", f"base.one_pass={one}"))[0]
                     for one in ("false", "true"))
    for name, value in plain.discriminator.state_dict().items():
        torch.testing.assert_close(joined.discriminator.state_dict()[name], value, rtol=1e-3,
                                   atol=1e-5, msg=name)


@pytest.mark.parametrize("fake_labels", ["beside", "independent"])
def test_the_labels_of_fakes(tmp_path: Path, fake_labels: str) -> None:
    """Those of the reals, or others, of all classes, that depend on seed and step."""
    spec = a_run(tmp_path, "variants={}", "base.condition=projection", "base.d_steps=2",
                 "evaluate.metrics=[nearest_train_mse]", f"base.fake_labels={fake_labels}")
    datasets.prepare_data(spec.dataset, tmp_path, tmp_path, lambda line: None)
    data = datasets.load(spec.dataset, tmp_path, tmp_path, "cpu")
    training = Training(Engine(spec, "cpu"), data, lambda g, d: {}, [], None,  # type: ignore[arg-type]
                        start=1)
    batch = training._batch(3)
    assert batch.labels is not None
    assert batch.g_labels is not None
    if fake_labels == "beside":
        assert batch.fake_labels is None
        assert torch.equal(batch.g_labels, batch.labels[0])
        return
    assert batch.fake_labels is not None
    drawn = [*batch.fake_labels, batch.g_labels, batch.own_labels]
    assert [len(labels) for labels in drawn if labels is not None] == [32] * 4
    for labels in drawn:
        assert labels is not None
        assert not any(torch.equal(labels, others) for others in batch.labels)
        assert len(labels.unique()) > 7
    again, later = training._batch(3).g_labels, training._batch(4).g_labels
    assert again is not None
    assert later is not None
    assert torch.equal(batch.g_labels, again)
    assert not torch.equal(batch.g_labels, later)
    judged: list[Tensor] = []
    training._engine.discriminator.register_forward_pre_hook(
        lambda network, args: judged.append(args[1].clone()))
    training._engine.step(3, batch)
    expected = [batch.labels[0], batch.fake_labels[0], batch.labels[1], batch.fake_labels[1],
                batch.g_labels]
    assert all(map(torch.equal, judged, expected))
    assert len(judged) == 5


@pytest.mark.parametrize(("penalty", "kind"), [("r1", 0), ("r2", 1), ("dragan", 0)])
def test_a_penalty_judges_examples_under_their_own_labels(tmp_path: Path, penalty: str, kind: int,
                                                          ) -> None:
    """In each part of a batch, in D's update and in a step of its own."""
    for own in ("", ", every: 1, own_step: true") if penalty != "dragan" else ("",):
        spec = a_run(tmp_path, "variants={}", "base.condition=projection", "base.accumulate=2",
                     f"base.penalties=[{{name: {penalty}{own}}}]",
                     "base.model={name: r3, width: 8, blocks: 1}",
                     "evaluate.metrics=[nearest_train_mse]", "base.fake_labels=independent")
        engine, judged = Engine(spec, "cpu"), []
        engine.discriminator.register_forward_pre_hook(
            lambda network, args, judged=judged: judged.append(args[1].clone()))
        labels, others = torch.arange(32) % 10, (torch.arange(32) + 3) % 10
        engine.step(1, StepBatch([reals(1)], [labels], g_labels=labels, fake_labels=[others]))
        given = [judged[3 * i + 2] for i in range(2)] if not own else judged[4:6]
        assert torch.equal(torch.cat(given), (labels, others)[kind])


def test_the_terms_of_d_are_divided_by_their_number(tmp_path: Path) -> None:
    """And penalties with them, of a loss too that does not say that it has one term."""
    plugin = tmp_path / "mine.py"
    plugin.write_text("from gan_bench import LOSSES\n"
                      "from gan_bench.components.losses import Loss\n"
                      "@LOSSES.register('mine')\n"
                      "def mine():\n"
                      "    return Loss(lambda real, fake: ((fake - real).mean(),),\n"
                      "                lambda fake, real: -fake.mean())\n")
    halves = []
    for loss in ("mine", "wgan"):
        spec = a_run(tmp_path, "variants={}", f"base.loss={loss}", f"plugins=[{plugin}]",
                     "base.model={name: r3, width: 8, blocks: 1}",
                     "base.penalties=[{name: r1, gamma: 10}]")
        seen = Engine(spec, "cpu").step(1, StepBatch([reals(1)]), True)
        halves.append([float(seen[f"train/{name}"]) for name in ("d_loss", "d_penalty")])
    assert halves[0] == pytest.approx([2 * value for value in halves[1]], rel=1e-5)


@pytest.mark.parametrize(("key", "more", "message"), [
    ("accumulate: 5", [], "base.accumulate: a batch of 32 has no 5 equal parts of at least 2 "
                          "examples: choose a divisor of batch_size, such as 4"),
    ("accumulate: 32", [], "has no 32 equal parts of at least 2 examples: choose a divisor of "
                           "batch_size, such as 16"),
    ("accumulate: 3", ["base.batch_size=1000000000000"], "such as 2"),
    ("one_pass: true", ["base.model={name: stylegan2, width: 8, latent_dim: 8, group: 48}"],
     "with one_pass D sees 32 fakes and 32 reals at once: choose a group of at most 32"),
    ("accumulate: 2", ["base.share_fakes=true"], "base.accumulate: has no use with share_fakes"),
    ("accumulate: 2", ["base.model={name: stylegan2, width: 8, latent_dim: 8, group: 16}",
                       "base.batch_size=48"],
     "stylegan2 judges 16 examples together, but a part of a batch has 24: choose a group that "
     "divides batch_size / accumulate, such as 12"),
    ("fake_labels: independent", [], "base.fake_labels: has no effect without labels"),
    ("fake_labels: independent", ["base.condition=concat", "base.loss=relativistic_pairing",
                                  "evaluate.metrics=[nearest_train_mse]"],
     "relativistic_pairing compares each fake with a real example of its label"),
    ("fake_labels: independent", ["base.condition=concat", "base.share_fakes=true",
                                  "evaluate.metrics=[nearest_train_mse]"],
     "base.fake_labels: with share_fakes D judges G's fakes beside its own real examples"),
    ("fake_labels: independent", ["base.condition=projection", "base.penalties=[gradient_penalty]",
                                  "base.model={name: dcgan, d_norm: none}",
                                  "evaluate.metrics=[nearest_train_mse]"],
     "base.fake_labels: gradient_penalty gives D mixtures of fakes and reals, or both, under"),
    ("penalties: [{name: r1, own_step: true}]", ["base.d_optimizer=sgd"],
     "base.penalties: the own_step of r1 corrects the betas of D's optimizer, but sgd has none"),
    ("penalties: [{name: r1, own_step: true, every: 2}, {name: r2, own_step: true}]", [],
     "r1 and r2 share a step of D's optimizer, but act every 2 and every 1 steps: give both"),
])
def test_what_does_not_fit_is_refused_with_its_line(tmp_path: Path, key: str, more: list[str],
                                                    message: str) -> None:
    text = DIGITS.replace("  steps: 6\n", f"  steps: 6\n  {key}\n")
    with pytest.raises(SpecError) as caught:
        a_run(tmp_path, *more, text=text)
    [line] = [line for line in str(caught.value).splitlines() if message in line]
    assert "tiny.yaml:8:" in line or line.startswith("--set base.model")


def test_defaults_are_in_no_id_and_other_values_are(tmp_path: Path) -> None:
    plain = a_run(tmp_path, "variants={}", "base.penalties=[r1]")
    assert a_run(tmp_path, "variants={}", "base.penalties=[{name: r1, own_step: false}]",
                 "base.accumulate=1", "base.one_pass=false", "base.fake_labels=beside"
                 ).id == plain.id
    values = plain.model_dump(mode="json")
    del values["penalties"][0]["args"]["own_step"]  # as a version before wrote it
    assert (id_of(values), older_id(values)) == (
        plain.id, older_id(plain.model_dump(mode="json")))
    others = [a_run(tmp_path, "variants={}", "base.penalties=[r1]", setting).id for setting in (
        "base.penalties=[{name: r1, own_step: true}]", "base.accumulate=2", "base.one_pass=true")]
    assert len({plain.id, *others}) == 4


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_all_of_it_resumes_to_the_bit(precision: str) -> None:
    spec = run_spec((1, 16, 16), 3, model=STYLE, condition="projection", one_pass=True,
                    accumulate=2, order="g_first", ema={"half_life": 10.0}, ema_start=2,
                    augmentation=[{"name": "ada", "kimg": 0.02}], penalties=[
                        {"name": "path_length", "every": 2, "own_step": True},
                        {"name": "r1", "every": 3, "own_step": True}])
    spec = spec.model_copy(update={"compute": spec.compute.model_copy(
        update={"precision": precision})})
    assert resume_problem(spec) is None
