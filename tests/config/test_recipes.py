"""Recipes: what they set, what overrides them, and that each of them trains."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from helpers.runs import DIGITS, a_run, write_experiment

from gan_bench.cli.planning import plan
from gan_bench.components.models import make_networks
from gan_bench.config.differences import departures, flatten, variant_differences
from gan_bench.config.experiment import load_experiment
from gan_bench.config.grid import LISTS
from gan_bench.config.recipes import RECIPES
from gan_bench.errors import SpecError
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

HEAD, _, _ = DIGITS.partition("base:")
SMALL = {"dcgan": 8, "resnet": 8, "r3": 8, "biggan": 4, "stylegan2": 8, "unet": 8}  # widths
TAIL = "evaluate: {samples: 50, metrics: [d_accuracy]}\ncompute: {device: cpu}\n"
OF_IMAGES = TAIL.replace("d_accuracy", "nearest_train_mse")  # of a conditional D too


def on_its_data(recipe: str, text: str, data: str = "digits") -> str:
    """An experiment on images of 32 pixels, or on pairs of them if the model needs some."""
    text = text.replace("digits, image_size: 16", f"{data}, image_size: 32")
    if recipe != "pix2pix2017":
        return text
    images = f"{{name: {data}, image_size: 32}}"
    pairs = f"{{name: pairs, input: inverted, of: {images}}}"
    return text.replace(images, pairs).replace("base: {", "base: {condition: concat, ").replace(
        "d_accuracy", "l1").replace("nearest_train_mse", "l1")


def test_a_recipe_is_as_if_its_keys_were_written_out(tmp_path: Path) -> None:
    short = HEAD + "base: {recipe: wgan2017, steps: 5}\n" + TAIL
    long = HEAD + """\
base:
  model: dcgan
  loss: wgan
  penalties: [weight_clip]
  optimizer: {name: rmsprop, lr: 5e-5}
  batch_size: 64
  d_loss_reduction: sum
  d_steps: 5
  steps: 5
""" + TAIL
    assert a_run(tmp_path, text=short).id == a_run(tmp_path, text=long).id


def test_what_stands_beside_or_above_a_recipe_overrides_it(tmp_path: Path) -> None:
    text = HEAD + """\
base: {model: mlp, steps: 5, batch_size: 8, loss: kl}
variants:
  a: {recipe: dcgan2015}
  b: {recipe: dcgan2015, batch_size: 16, model: {name: dcgan, width: 8}}
  c: {}
""" + TAIL
    spec = load_experiment(write_experiment(tmp_path, text), tmp_path, [])
    a, b, c = (next(run for run in spec.runs if run.variant == v) for v in "abc")
    assert (a.batch_size, a.loss.name, a.model.args["width"]) == (128, "non_saturating", 128)
    assert (b.batch_size, b.loss.name, b.model.args["width"]) == (16, "non_saturating", 8)
    assert (c.batch_size, c.loss.name) == (8, "kl")
    assert spec.recipes == {"a": "dcgan2015", "b": "dcgan2015"}
    shown = plan.plan_text(spec, tmp_path)
    assert "dcgan2015: Radford et al. 2015" in shown
    assert "b overrides model.width 8 (for 128), batch_size 16 (for 128)" in shown
    assert "a overrides" not in shown
    text = text.replace("recipe: dcgan2015, batch_size: 16, model: {name: dcgan, width: 8}",
                        "recipe: wgan_gp2017, model: {name: mlp, width: 8}, penalties: []")
    spec = load_experiment(write_experiment(tmp_path, text), tmp_path, [])
    told = plan.plan_text(spec, tmp_path)
    assert ("    b overrides model mlp (for dcgan), penalties none (for gradient_penalty)\n"
            in told)  # and nothing of the arguments that went with them


def test_plan_says_where_a_run_departs_from_the_paper(tmp_path: Path) -> None:
    text = HEAD + """\
base: {steps: 5}
variants:
  a: {recipe: sngan2018}
  b: {recipe: sngan2018, model: {bn_eps: 2.0e-5}}
  c: {recipe: dcgan2015}
  d: {recipe: dcgan2015, batch_size: 8}
  e: {recipe: dcgan2015, latents: uniform}
  f: {recipe: pytorch_gan_script}
""" + TAIL
    spec = load_experiment(write_experiment(tmp_path, text), tmp_path, ["dataset.image_size=32"])
    lines = [line for line in plan.plan_text(spec, tmp_path).splitlines() if "departs" in line]
    said = "one batch size for D and G (there 128 for G); a bias in D's last layer (there none)"
    assert lines == [
        f"    a departs from the paper: model.bn_eps 1e-05 (there 2e-05); {said}",
        f"    b departs from the paper: {said}",
        "    c departs from the paper: latents normal (there uniform)",
        "    d departs from the paper: latents normal (there uniform)"]
    variants = "variants={c: {recipe: dcgan2015}, g: {recipe: dcgan2015, ema: 0.9}}"
    spec = load_experiment(write_experiment(tmp_path, text), tmp_path, ["dataset.image_size=32",
                                                                        variants])
    assert "\n    departs from the paper: latents normal (there uniform)\n" in plan.plan_text(
        spec, tmp_path)


@pytest.mark.parametrize("name", RECIPES)
def test_what_a_recipe_says_of_its_paper_is_of_keys_that_are_there(tmp_path: Path, name: str,
                                                                   ) -> None:
    text = on_its_data(name, HEAD + f"base: {{recipe: {name}, steps: 100000}}\n" + OF_IMAGES,
                       "cifar10")
    run = a_run(tmp_path, text=text)
    recipe = RECIPES[name]
    assert departures(run, name) == [
        *(f"{key} {flatten(run)[key]} (there {' or '.join(values)})"
          for key, values in recipe.paper.items()), *recipe.lacks]
    for key, values in recipe.paper.items():
        for value in values:
            listed = f"[{value.replace('+', ', ')}]" if key in LISTS else value
            same = a_run(tmp_path, f"base.{key}={listed}", text=text)
            assert flatten(same)[key] == value
            assert not any(line.startswith(f"{key} ") for line in departures(same, name))


def same_keys(name: str) -> set[str]:
    """The keys that a recipe sets, `optimizer` as both networks'."""
    keys = {*RECIPES[name].settings}
    return keys - {"optimizer"} | {"g_optimizer", "d_optimizer"} if "optimizer" in keys else keys


@pytest.mark.parametrize("name", RECIPES)
def test_all_recipes_set_the_same_keys(name: str) -> None:
    assert same_keys(name) == same_keys("dcgan2015")


def test_recipes_of_the_modern_models_have_the_published_numbers(tmp_path: Path) -> None:
    """Counts of parameters, half-lives in images and StyleGAN2's lazily scaled rate of G."""
    text = HEAD.replace("digits, image_size: 16", "cifar10, image_size: 32")
    runs = {name: a_run(tmp_path, text=f"{text}base: {{recipe: {name}, steps: 100000, "
                                       f"condition: {condition}}}\n{OF_IMAGES}")
            for name, condition in (("biggan_cifar", "projection"), ("stylegan2", "none"),
                                    ("stylegan2_ada_cifar", "none"))}
    sizes = {}
    for name, run in runs.items():
        with torch.device("meta"):
            networks = make_networks(run.model, (3, 32, 32), run.condition, 10)
        sizes[name] = [sum(parameter.numel() for parameter in network.parameters())
                       for network in (networks.generator, networks.discriminator)]
    assert sizes["biggan_cifar"] == [4_304_387, 4_207_361]
    assert sizes["stylegan2_ada_cifar"] == [19_947_539, 20_720_641]
    for name, images in (("stylegan2", 10_000), ("stylegan2_ada_cifar", 500_000)):
        assert runs[name].averaging.half_life(1_000_000) == images
    of_g = runs["stylegan2_ada_cifar"].g_optimizer.args
    assert (of_g["lr"], of_g["betas"]) == (pytest.approx(0.0025 * 4 / 5),
                                           [0, pytest.approx(0.99 ** (4 / 5), abs=1e-6)])


def test_plan_shows_what_each_recipe_sets(tmp_path: Path) -> None:
    """Numbers that change too."""
    pairs = on_its_data("pix2pix2017", HEAD + "base: {steps: 100, recipe: pix2pix2017}\n" + TAIL)
    others = [name for name in RECIPES if name != "pix2pix2017"]
    text = HEAD.replace("digits, image_size: 16", "cifar10, image_size: 32") + (
        f"base: {{steps: 100000}}\nmatrix: {{recipe: [{', '.join(others)}]}}\n") + TAIL
    shown = "\n".join(plan.plan_text(load_experiment(
        write_experiment(tmp_path, each), tmp_path, []), tmp_path) for each in (text, pairs))
    for name in RECIPES:
        assert f"\n  {name}: {RECIPES[name].source}\n    sets model " in shown
    at = "(at 0, 20000000 images, cosine)"
    assert (f"penalties r1 (gamma 0.05 to 0.005 {at})+r2 (gamma 0.05 to 0.005 {at}), augmentation "
            f"ada (transforms [blit, geometry, color, cutout], p 0 to 0.55 {at}), optimizer adam "
            f"(lr 0.0002 to 5e-05 {at}, betas [0.0, 0.9 to 0.99 {at}]), " in shown)
    assert f"ema half_life 0 to 5000000 {at}" in shown
    assert "ema half_life 500000" in shown


def test_numbers_that_change_are_written_as_such(tmp_path: Path) -> None:
    """And two that differ in their shape or their points alone still differ."""
    lr = "optimizer: {lr: {points: [[0, 2e-4], [4, 1e-4]]SHAPE}}"
    text = HEAD + "base: {recipe: dcgan2015, steps: 9}\nvariants:\n" + "".join(
        f"  {name}: {{{lr.replace('SHAPE', shape)}, ema: {{half_life: {{points: [[0, 1], [8, {k}]]"
        f"}}}}, ema_ramp: null}}\n" for k, (name, shape) in
        enumerate({"a": "", "b": ", shape: cosine"}.items())) + TAIL
    spec = load_experiment(write_experiment(tmp_path, text), tmp_path, [])
    shown = plan.plan_text(spec, tmp_path)
    assert "g_optimizer.lr 0.0002 to 0.0001 (at 0, 4 steps, cosine) (for 0.0002)" in shown
    assert "half_life 1 to 0 (at 0, 8 steps)" in shown
    assert "points" not in shown
    assert "Scheduled" not in shown
    table = variant_differences(spec.runs)
    assert {*table} == {"g_optimizer.lr", "d_optimizer.lr", "ema"}


def test_recipes_may_be_an_axis(tmp_path: Path) -> None:
    text = HEAD + "base: {steps: 5}\nmatrix: {recipe: [dcgan2015, wgan2017]}\n" + TAIL
    spec = load_experiment(write_experiment(tmp_path, text), tmp_path, [])
    assert spec.variants == ["dcgan2015", "wgan2017"]
    assert [run.loss.name for run in spec.runs[::2]] == ["non_saturating", "wgan"]


@pytest.mark.parametrize("place", ["base", "variants.plain", "matrix"])
def test_an_unknown_recipe_is_refused_in_its_place(tmp_path: Path, place: str) -> None:
    value = "{recipe: [wgan_gp]}" if place == "matrix" else "{recipe: wgan_gp, steps: 3}"
    text = HEAD + "base: {model: mlp, steps: 5}\nvariants: {plain: {}}\n" + TAIL
    with pytest.raises(SpecError, match=r"no recipe is called 'wgan_gp'; did you mean"):
        load_experiment(write_experiment(tmp_path, text), tmp_path, [f"{place}={value}"])


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains(tmp_path: Path, name: str) -> None:
    text = on_its_data(name, HEAD + (
        f"base: {{recipe: {name}, steps: 100000, batch_size: 8, accumulate: 1}}\n") + TAIL)
    given = RECIPES[name].settings["model"]
    model = {**given} if isinstance(given, dict) else {"name": given}
    if model["name"] in SMALL:
        model["width"] = SMALL[model["name"]]
    overrides = [f"base.model={json.dumps(model)}"]
    spec = a_run(tmp_path, *overrides, text=text)
    engine = Engine(spec, "cpu")
    draws = torch.Generator().manual_seed(0)

    def real() -> torch.Tensor:
        return torch.rand(8, 1, 32, 32, generator=draws) * 2 - 1

    before = [p.detach().clone() for p in engine.generator.parameters()]
    for step in range(1, 4):
        of_d = [real() for _ in range(spec.d_steps)]
        batch = StepBatch(of_d, g_real=real() if engine.needs_real else None)
        if name == "pix2pix2017":
            batch = StepBatch(of_d, [-of_d[0]], g_labels=-of_d[0])
        seen = engine.step(step, batch, True)
        assert all(value.isfinite() for value in seen.values())
    assert any(not torch.equal(a, b) for a, b in zip(before, engine.generator.parameters(),
                                                     strict=True))


@pytest.mark.parametrize("recipe", ["[wgan2017]", "{name: wgan2017}", "3", "null"])
def test_a_recipe_that_is_no_name_is_one_line(recipe: str, tmp_path: Path) -> None:
    text = HEAD + f"base: {{recipe: {recipe}, model: mlp, steps: 5}}\n" + TAIL
    with pytest.raises(SpecError) as caught:
        a_run(tmp_path, text=text)
    (line,) = str(caught.value).splitlines()
    assert ":4:8: base.recipe: no recipe is called " in line


@pytest.mark.parametrize("above", RECIPES)
def test_a_recipe_over_another_is_the_run_that_it_is_alone(tmp_path: Path, above: str) -> None:
    def one(base: str, variant: str) -> str:
        text = on_its_data(above, HEAD + (
            f"base: {{steps: 100000{base}}}\nvariants: {{a: {{{variant}}}}}\n") + TAIL, "cifar10")
        return a_run(tmp_path, text=text).id

    alone = one("", f"recipe: {above}")
    for below in RECIPES:
        assert one(f", recipe: {below}", f"recipe: {above}") == alone, below
