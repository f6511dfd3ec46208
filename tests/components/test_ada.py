"""ADA: its draws, its p and the forms of it that are known; test_augmentations has its numbers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from helpers.golden_cases import assert_golden, formula_tensor, golden_case
from helpers.runs import a_run
from torch import Tensor

from gan_bench.components.augmentations.ada import GROUPS, transform_names
from gan_bench.components.augmentations.ada.bands import filter_bank, filtered, mirrored_places
from gan_bench.components.augmentations.ada.geometry import SYM6
from gan_bench.components.augmentations.ada.parameters import draw_parameters, octave_gains
from gan_bench.components.augmentations.ada.pipe import transformed
from gan_bench.components.augmentations.base import Augmentation, Probability
from gan_bench.registry import AUGMENTATIONS
from gan_bench.training.contract import check_entry
from gan_bench.training.contract.base import advance
from gan_bench.training.contract.networks import resume_problem
from gan_bench.training.step.augmenting import Augmenting
from gan_bench.training.step.changing import ChangingNumbers
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

ALL = [*GROUPS, "filter", "noise", "cutout"]
N = 20000


def drawn(p: float, n: int = N, seed: int = 0) -> dict[str, Tensor]:
    images = torch.zeros(n, 1, 1, 1, dtype=torch.float64)
    return draw_parameters(transform_names(ALL), images, torch.Generator().manual_seed(seed),
                           torch.tensor(p, dtype=torch.float64))


NEUTRAL = {"xflip": 0, "rotate90": 0, "xint": 0, "scale": 1, "rotate_before": 0, "aniso": 1,
           "rotate_after": 0, "xfrac": 0, "brightness": 0, "contrast": 1, "lumaflip": 0, "hue": 0,
           "saturation": 1, "noise": 0}


def test_every_transform_acts_on_a_share_p_of_the_images() -> None:
    never, sometimes, always, more = (drawn(p) for p in (0.0, 0.3, 1.0, 34.0))
    flat = {key: value.flatten(1)[:, 0] if value.dim() > 1 else value
            for key, value in sometimes.items()}
    full = {key: value.flatten(1)[:, 0] if value.dim() > 1 else value
            for key, value in always.items()}
    for key, neutral in NEUTRAL.items():
        assert bool((never[key] == neutral).all()), key
        acts = flat[key] != neutral
        # Half of the flips and a quarter of the quarter turns leave an image as it is.
        share = {"xflip": 0.15, "lumaflip": 0.15, "rotate90": 0.225,
                 "rotate_before": 1 - 0.7**0.5, "rotate_after": 1 - 0.7**0.5}.get(key, 0.3)
        assert float(acts.double().mean()) == pytest.approx(share, abs=0.012), key
        # The numbers are the same whatever p is, and so is what is drawn after them.
        assert torch.equal(flat[key][acts], full[key][acts]), key
        assert torch.equal(full[key], more[key].flatten(1)[:, 0] if more[key].dim() > 1
                           else more[key]), key
    assert bool((never["cutout"][:, 0] == 0).all())
    has_hole = sometimes["cutout"][:, 0] == 0.5
    assert float(has_hole.double().mean()) == pytest.approx(0.3, abs=0.012)
    both = (sometimes["rotate_before"] != 0) | (sometimes["rotate_after"] != 0)
    assert float(both.double().mean()) == pytest.approx(0.3, abs=0.012)
    shifted = (sometimes["xint"] != 0).all(1)  # both ways, or neither
    assert torch.equal(shifted, (sometimes["xint"] != 0).any(1))
    bands = (sometimes["filter"].diagonal(dim1=1, dim2=2) != sometimes["filter"].flip(2).diagonal(
        dim1=1, dim2=2))
    assert bands.double().mean(0).tolist() == pytest.approx([0.3] * 4, abs=0.012)


def test_the_strengths_are_the_published_ones() -> None:
    """As the originals' defaults, which the golden file holds: bounds and standard deviations."""
    found, said = drawn(1.0), golden_case("augmentation", "ada.pipe")["config"]["defaults"]
    for key, most in (("xint", said["xint_max"]), ("rotate_before", math.pi * said["rotate_max"]),
                      ("rotate_after", math.pi), ("hue", math.pi * said["hue_max"])):
        assert float(found[key].max()) == pytest.approx(most, rel=1e-3)
        assert float(found[key].min()) == pytest.approx(-most, rel=1e-3)
        assert float(found[key].std()) == pytest.approx(most / 3**0.5, rel=0.02)
    for key, value in (("scale", found["scale"].log2()), ("aniso", found["aniso"].log2()),
                       ("xfrac", found["xfrac"]), ("brightness", found["brightness"]),
                       ("contrast", found["contrast"].log2()),
                       ("saturation", found["saturation"].log2())):
        assert float(value.std()) == pytest.approx(said[f"{key}_std"], rel=0.02), key
        assert float(value.mean()) == pytest.approx(0, abs=0.02 * said[f"{key}_std"] * 2), key
    power = float(found["noise"].square().mean())
    assert power**0.5 == pytest.approx(said["noise_std"], rel=0.02)
    assert float(found["noise"].min()) >= 0
    assert float(found["unit_noise"].std()) == pytest.approx(1, rel=0.02)
    turns = found["rotate90"].long().bincount(minlength=4)
    assert turns.tolist() == pytest.approx([N / 4] * 4, rel=0.05)
    assert bool((found["cutout"][:, 0] == said["cutout_size"]).all())
    assert float(found["cutout"][:, 1:].min()) == pytest.approx(0, abs=1e-3)
    assert float(found["cutout"][:, 1:].max()) == pytest.approx(1, abs=1e-3)
    gain = found["filter"].diagonal(dim1=1, dim2=2) / found["filter"].flip(2).diagonal(
        dim1=1, dim2=2)
    assert float(gain.log2().std()) == pytest.approx(said["imgfilter_std"], rel=0.02)
    names = [key for key in found if key not in ("filter", "cutout", "unit_noise")]
    table = torch.stack([found[key].flatten(1)[:, -1] if found[key].dim() > 1 else found[key]
                         for key in names])
    assert float((torch.corrcoef(table) - torch.eye(len(names))).abs().max()) < 0.04


def test_the_filters_keep_what_they_should() -> None:
    taps = torch.tensor(SYM6, dtype=torch.float64)
    assert float(taps.sum()) == pytest.approx(1, abs=1e-12)
    for shift in range(6):  # a scaling filter is orthogonal to itself two pixels on
        product = float((taps[2 * shift :] * taps[: 12 - 2 * shift]).sum())
        assert product == pytest.approx(0.5 * (shift == 0), abs=1e-12)
    bank = filter_bank()
    whole = bank.sum(0)
    assert float(whole[21]) == pytest.approx(1, abs=1e-12)
    assert float(whole.abs().sum()) == pytest.approx(1, abs=1e-12)
    assert bank.sum(1).tolist() == pytest.approx([1, 0, 0, 0], abs=1e-12)
    images = torch.rand(3, 2, 5, 8, dtype=torch.float64)  # smaller than the filters
    for gain in (1.0, 0.5):
        seen = filtered(images, torch.full((3, 4), gain, dtype=torch.float64))
        torch.testing.assert_close(seen, gain**2 * images, rtol=1e-12, atol=1e-12)
    found = mirrored_places(torch.arange(-4, 9), 4)
    assert found.tolist() == [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]


def test_gains_keep_the_power_of_a_natural_image() -> None:
    gains = octave_gains(2 ** torch.randn(50, 4, dtype=torch.float64))
    power = torch.tensor([10.0, 1.0, 1.0, 1.0], dtype=torch.float64) / 13
    torch.testing.assert_close((power * gains.square()).sum(2), torch.ones(50, 4).double())


def test_grey_images_change_as_a_color_image_of_equal_channels() -> None:
    """In the mean of its channels; hue and saturation do not act on them."""
    grey = torch.rand(6, 1, 4, 4, dtype=torch.float64)
    drawn_colors = {key: value for key, value in drawn(1.0, 6).items() if key in GROUPS["color"]}
    seen = transformed(grey, drawn_colors)
    of_color = transformed(grey.expand(6, 3, 4, 4), {
        key: value for key, value in drawn_colors.items() if key not in ("hue", "saturation")})
    torch.testing.assert_close(seen, of_color.mean(1, keepdim=True), rtol=1e-12, atol=1e-12)
    other = transformed(grey, {**drawn_colors, "hue": drawn_colors["hue"] + 1})
    torch.testing.assert_close(seen, other, rtol=1e-12, atol=1e-12)
    flipped = transformed(grey, {"lumaflip": torch.ones(6, dtype=torch.float64)})
    torch.testing.assert_close(flipped, -grey)


def test_a_quarter_turn_turns_and_a_shift_shifts() -> None:
    """Within the error of the filters, far from the edges; directions are the golden ones."""
    side = torch.linspace(-1, 1, 32, dtype=torch.float64)
    images = (torch.exp(-8 * (side[:, None] - 0.2) ** 2 - 4 * (side + 0.3) ** 2))[None, None]
    one = torch.ones(1, dtype=torch.float64)
    turned = transformed(images, {"rotate90": one})
    assert (turned - images.rot90(1, (2, 3))).abs().max() < 0.03
    assert (turned - images.rot90(-1, (2, 3))).abs().max() > 0.3
    mirrored_image = transformed(images, {"xflip": one})
    assert (mirrored_image - images.flip(3)).abs().max() < 0.03
    shift = torch.tensor([[4 / 32, 0.0]], dtype=torch.float64)  # to the right
    shifted = transformed(images, {"xint": shift})
    assert (shifted[..., 4:] - images[..., :-4]).abs().max() < 0.03
    assert (transformed(images, {"xint": 0 * shift}) - images).abs().max() < 0.005


def test_p_is_the_originals_after_each_update() -> None:
    case = golden_case("augmentation", "ada.p_updates")
    config = case["config"]
    rule = Probability(0.0, target=config["target"], images=1000 * config["kimg"],
                       every=config["interval"])
    p, found = torch.tensor(config["p0"], dtype=torch.float64), []
    for sign in formula_tensor(case, "ada.mean_signs"):
        p = rule.moved(p, sign, config["batch"])
        found.append(p)
    assert_golden(case, "p_after_each_update", torch.stack(found))
    said = case["numbers"]["all_p"]["value"]["p"]
    assert [float(value) for value in found] == pytest.approx(said, rel=1e-11, abs=1e-16)


def constant_sign(engine: Engine, logit: float) -> Engine:
    """Let D give one logit for every example, for good."""
    with torch.no_grad():
        for parameter in engine.discriminator.parameters():
            parameter.zero_()
        [*engine.discriminator.parameters()][-1].fill_(logit)
    return engine


@pytest.mark.parametrize(("settings", "logit", "p"), [
    ("", 1.0, [0, 0, 0, 0, 8, 8, 8, 8, 16, 16]), ("", -1.0, [0] * 10),
    (", target: -0.5", 0.0, [0, 0, 0, 0, 8, 8, 8, 8, 16, 16]),  # no sign is above a target below 0
    (", every: 3", 1.0, [0, 0, 0, 6, 6, 6, 12, 12, 12, 18]),
])
def test_p_climbs_while_d_is_sure_of_the_reals(tmp_path: Path, settings: str, logit: float,
                                               p: list[int]) -> None:
    """The logged p of step k + 1 is ⌊k / every⌋ · every · batch / (1000 kimg)."""
    spec = a_run(tmp_path, "variants={}", f"base.augmentation=[{{name: ada, kimg: 4{settings}}}]",
                 "base.batch_size=4", "base.d_optimizer={lr: 1e-30}")
    seen = advance(constant_sign(Engine(spec, "cpu"), logit), range(1, 11))
    assert [1000 * float(step["train/augment_p"]) for step in seen] == pytest.approx(
        [value / 2 for value in p])


def test_each_move_looks_at_the_signs_since_the_last(tmp_path: Path) -> None:
    """Four steps above the target, then four below it: all eight together would be above."""
    spec = a_run(tmp_path, "variants={}", "base.augmentation=[{name: ada, kimg: 4, target: -0.5}]",
                 "base.batch_size=4", "base.d_optimizer={lr: 1e-30}")
    engine = constant_sign(Engine(spec, "cpu"), 1.0)
    seen = advance(engine, range(1, 5))
    constant_sign(engine, -1.0)
    seen += advance(engine, range(5, 11))
    assert [1000 * float(step["train/augment_p"]) for step in seen] == pytest.approx(
        [0] * 4 + [4] * 4 + [0, 0])
    assert engine.state()["augmentation"]["ada"]["signs"] == -8


def test_the_mean_sign_is_of_all_examples_since_the_last_move(tmp_path: Path) -> None:
    """Three of four above 0, one below: a mean of 1/2, which is above 0.45 and not above 0.55."""
    for target, p in ((0.45, 0.004), (0.55, 0.0)):
        spec = a_run(tmp_path, "variants={}", "base.batch_size=4",
                     f"base.augmentation=[{{name: ada, kimg: 4, target: {target}}}]")
        augmenting = Augmenting(spec, "cpu", ChangingNumbers(spec, "cpu"))
        for step in range(1, 5):
            augmenting.begin(step)
            augmenting.note(torch.tensor([3.0, 0.1, -2.0, 0.2]), boundary=0.0)
            augmenting.end_step(torch.tensor(step))
        assert float(augmenting.metrics()["train/augment_p"]) == pytest.approx(p)


def test_images_count_that_d_is_given_in_all_its_updates(tmp_path: Path) -> None:
    spec = a_run(tmp_path, "variants={}", "base.augmentation=[{name: ada, kimg: 4}]",
                 "base.batch_size=4", "base.d_steps=2", "base.d_optimizer={lr: 1e-30}")
    engine, real = constant_sign(Engine(spec, "cpu"), 1.0), torch.zeros(4, 1, 16, 16)
    seen = [engine.step(step, StepBatch([real, real]), True) for step in range(1, 6)]
    assert float(seen[-1]["train/augment_p"]) == pytest.approx(4 * 4 * 2 / 4000)
    assert engine.state()["augmentation"]["ada"]["signs"] == 8


def test_the_sign_is_relative_to_the_boundary_of_the_loss(tmp_path: Path) -> None:
    """`lsgan` calls an example real above 1/2."""
    for logit, expected in ((0.4, 0.0), (0.6, 0.004)):
        spec = a_run(tmp_path, "variants={}", "base.augmentation=[{name: ada, kimg: 4}]",
                     "base.loss=lsgan", "base.batch_size=4", "base.d_optimizer={lr: 1e-30}")
        engine = constant_sign(Engine(spec, "cpu"), logit)
        assert float(advance(engine, range(1, 6))[-1]["train/augment_p"]) == pytest.approx(expected)


def test_p_of_a_schedule_depends_on_the_step_alone(tmp_path: Path) -> None:
    spec = a_run(tmp_path, "variants={}", "base.batch_size=4",
                 "base.augmentation=[{name: ada, p: 0.4, ramp: 4}]")
    seen = advance(Engine(spec, "cpu"), range(1, 7))
    assert [float(step["train/augment_p"]) for step in seen] == pytest.approx(
        [0, 0.1, 0.2, 0.3, 0.4, 0.4])
    fixed = Probability(0.4)
    assert [fixed.at(step) for step in (1, 9)] == [0.4, 0.4]
    assert "augmentation" not in Engine(spec, "cpu").state()


@pytest.mark.parametrize("given", [
    "kimg: 0.01", "kimg: 0.05, every: 1, target: -0.9", "p: 0.7, ramp: 3",
    "p: 1.0, transforms: [blit, geometry, color, filter, noise, cutout]"])
@pytest.mark.parametrize("penalties", ["[]", "[r1]"])
def test_a_killed_run_resumes_to_the_bit(tmp_path: Path, given: str, penalties: str) -> None:
    """After two steps of four: between two moves of p, or with a p that has moved."""
    spec = a_run(tmp_path, "variants={}", f"base.augmentation=[flip, {{name: ada, {given}}}]",
                 f"base.penalties={penalties}", "base.batch_size=4")
    assert resume_problem(spec) is None
    engine = Engine(spec, "cpu")
    advance(engine, range(1, 3))
    state = engine.state()
    assert ("augmentation" in state) == ("kimg" in given)
    if "kimg" in given:
        kept = state["augmentation"]["ada"]
        assert (kept["signs"] != 0) == ("every: 1" not in given)
        assert (kept["p"] > 0) == ("every: 1" in given)
        del state["augmentation"]
        with pytest.raises(ValueError, match="not the state of an engine"):
            Engine(spec, "cpu").load(state)


@pytest.mark.parametrize("given", [{"transforms": ALL, "p": 0.8}, {"transforms": ["cutout"]},
                                   {"transforms": ["scale"], "p": 1.0}, {"p": 0.0}])
def test_every_choice_keeps_the_contract(tmp_path: Path, given: dict[str, object]) -> None:
    found = check_entry("augmentation", AUGMENTATIONS["ada"], tmp_path, **given)
    assert len(found) == 6
    assert [result.problem for result in found if result.problem] == []


def test_images_of_any_size_pass(tmp_path: Path) -> None:
    part: Augmentation = AUGMENTATIONS.build(AUGMENTATIONS.parse(
        {"name": "ada", "transforms": ALL, "p": 1.0}))
    draws, one = torch.Generator().manual_seed(0), torch.ones(())
    for shape in ((2, 3, 1, 1), (2, 1, 2, 5), (2, 3, 9, 4), (2, 3, 64, 64)):
        images = torch.rand(shape).requires_grad_()
        seen = part.apply(images, draws, one)
        assert seen.shape == shape
        assert seen.dtype == torch.float32
        assert bool(seen.isfinite().all())
