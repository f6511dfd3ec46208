"""Augmentations: the originals' numbers, closed forms, and what acts on which images."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.golden_cases import assert_golden, formula_tensor, golden_case
from torch import Tensor

from gan_bench.components.augmentations.ada import geometry, transform_names
from gan_bench.components.augmentations.ada.bands import filter_bank, mirrored_places
from gan_bench.components.augmentations.ada.geometry import SYM6
from gan_bench.components.augmentations.ada.parameters import draw_parameters, octave_gains
from gan_bench.components.augmentations.ada.pipe import transformed
from gan_bench.components.augmentations.base import Augmentation
from gan_bench.components.augmentations.diffaugment import colored, cut_out, translated
from gan_bench.components.image_sampling import pixels_at
from gan_bench.registry import AUGMENTATIONS

ONE = torch.ones((), dtype=torch.float64)


def build(name: str, **arguments: object) -> Augmentation:
    part: Augmentation = AUGMENTATIONS.build(AUGMENTATIONS.parse({"name": name, **arguments}))
    return part


def pictures(n: int, channels: int = 3, height: int = 8, width: int = 8) -> Tensor:
    draws = torch.Generator().manual_seed(3)
    return torch.rand((n, channels, height, width), generator=draws, dtype=torch.float64) * 2 - 1


def with_draws(transforms: str, draws: list[list[Any]], images: Tensor) -> Tensor:
    """What DiffAugment makes of images with the given draws, in the order they are used."""
    given = iter(draw[1] for draw in draws)
    for name in transforms.split(","):
        if name == "color":
            amounts = torch.tensor([next(given) for _ in range(3)], dtype=torch.float64)
            images = colored(images, *amounts[..., None, None, None])
        else:
            function = translated if name == "translation" else cut_out
            images = function(images, *torch.tensor([next(given), next(given)]))
    assert next(given, None) is None
    return images


@pytest.mark.parametrize("policy", ["color", "translation", "cutout", "color+translation+cutout"])
def test_diffaugment_gives_the_originals_numbers(policy: str) -> None:
    case = golden_case("augmentation", "diffaugment")
    drawn = case["config"]["draws"][policy]
    images = formula_tensor(case, f"{policy}.image").requires_grad_()
    seen = with_draws(drawn["policy"], drawn["draws"], images)
    assert_golden(case, policy, seen)
    (gradient,) = torch.autograd.grad((seen * formula_tensor(case, f"{policy}.cot")).sum(), images)
    assert_golden(case, f"{policy}.grad_of_sum_y_cot", gradient)


def test_the_first_golden_draws_lie_in_the_ranges_that_diffaugment_draws_from() -> None:
    """The bounds of the integers, as the original has asked for them."""
    images, draws = pictures(4000, 1, 32, 32), torch.Generator().manual_seed(0)
    case = golden_case("augmentation", "diffaugment")["config"]["draws"]
    first, last = (case["translation"]["draws"][0][2][key] for key in ("low", "high_exclusive"))
    coordinates = torch.arange(32.0).double()
    for axis in (2, 3):
        ramp = (coordinates + 100).view([-1 if i == axis else 1 for i in range(4)])
        moved = build("diffaugment", transforms=["translation"]).apply(
            ramp.expand(images.shape), draws, ONE)
        middle = (moved[:, 0, 16, 16] - 116).round()
        assert {*range(first, last)} == {*middle.int().tolist()}
    low, high = (case["cutout"]["draws"][0][2][key] for key in ("low", "high_exclusive"))
    holes = build("diffaugment", transforms=["cutout"]).apply(torch.ones_like(images), draws, ONE)
    counts = (holes[:, 0] == 0).any(2).sum(1)
    expected = {min(32, c + 8) - max(0, c - 8) for c in range(low, high)}
    assert {*counts.tolist()} == expected
    rows = (holes[:, 0] == 0).any(2)
    # Of the 33 centres, the hole of the first ends with row 7, and that of the last begins with 24.
    assert float((rows[:, 0] & ~rows[:, 8]).double().mean()) == pytest.approx(1 / 33, abs=0.01)
    assert float((rows[:, 31] & ~rows[:, 23]).double().mean()) == pytest.approx(1 / 33, abs=0.01)


def test_the_colors_of_diffaugment_spread_as_published() -> None:
    images, draws = pictures(20000, 3, 1, 2), torch.Generator().manual_seed(0)
    seen = build("diffaugment", transforms=["color"]).apply(images, draws, ONE)
    shift = seen.mean((1, 2, 3)) - images.mean((1, 2, 3))  # neither other transform moves the mean
    assert -0.5 <= float(shift.min()) < -0.499
    assert 0.499 < float(shift.max()) < 0.5
    colour, of_image = seen.mean(1, keepdim=True), images.mean(1, keepdim=True)
    grey = of_image[:, 0, 0, 0] - of_image.mean((1, 2, 3))
    clear = (grey.abs() > 1e-3) & ((images - of_image)[:, 0, 0, 0].abs() > 1e-3)
    contrast = ((colour[:, 0, 0, 0] - colour.mean((1, 2, 3))) / grey)[clear]
    assert float(contrast.min()) == pytest.approx(0.5, abs=1e-3)
    assert float(contrast.max()) == pytest.approx(1.5, abs=1e-3)
    saturation = ((seen - colour) / (images - of_image))[:, 0, 0, 0][clear] / contrast
    assert 0 <= float(saturation.min()) < 1e-3
    assert float(saturation.max()) == pytest.approx(2, abs=1e-3)
    correlation = torch.corrcoef(torch.stack([shift[clear], contrast, saturation]))
    assert float((correlation - torch.eye(3)).abs().max()) < 0.03


def test_a_hole_outside_the_image_takes_its_edge() -> None:
    images = torch.ones(2, 1, 5, 5)  # of side 3 (2.5 rounded up)
    seen = cut_out(images, torch.tensor([-4, 2]), torch.tensor([2, 9]))
    assert (seen[0, 0] == 0).nonzero().tolist() == [[0, 1], [0, 2], [0, 3]]
    assert (seen[1, 0] == 0).nonzero().tolist() == [[1, 4], [2, 4], [3, 4]]


def test_pixels_outside_are_zero_and_pass_no_gradient() -> None:
    images = pictures(2, 3, 4, 5).requires_grad_()
    rows = torch.tensor([[[-1, 0], [3, 4]], [[0, 0], [2, 9]]])
    columns = torch.tensor([[[0, 4], [4, 0]], [[0, 0], [-1, 1]]])
    seen = pixels_at(images, rows, columns)
    assert seen.shape == (2, 3, 2, 2)
    assert seen[0, :, 0, 0].tolist() == seen[0, :, 1, 1].tolist() == [0, 0, 0]
    assert torch.equal(seen[0, :, 0, 1], images[0, :, 0, 4])
    assert torch.equal(seen[1, :, 0, 1], images[1, :, 0, 0])
    (gradient,) = torch.autograd.grad(seen.sum(), images)
    assert gradient[0].sum() == 6
    assert gradient[1, :, 0, 0].tolist() == [2, 2, 2]
    assert gradient[1].sum() == 6


def at_percentile(names: list[str], q: float, case: dict[str, Any]) -> dict[str, Tensor]:
    """What each transform does to each of four images where its number is that at a percentile."""
    e = float(torch.erfinv(torch.tensor(2 * q - 1, dtype=torch.float64)))  # as the original has it
    full = torch.full((4,), 1.0, dtype=torch.float64)
    numbers = {
        "xflip": math.floor(2 * q), "rotate90": math.floor(4 * q), "scale": 2 ** (0.2 * e),
        "rotate_before": (2 * q - 1) * math.pi, "aniso": 2 ** (0.2 * e), "rotate_after": 0,
        "brightness": 0.2 * e, "contrast": 2 ** (0.5 * e), "lumaflip": math.floor(2 * q),
        "hue": (2 * q - 1) * math.pi, "saturation": 2**e,
        "noise": 0.1 * float(torch.erfinv(torch.tensor(q, dtype=torch.float64)))}
    given = {key: number * full for key, number in numbers.items()}
    given["xint"] = (2 * q - 1) * 0.125 * full[:, None].expand(4, 2)
    given["xfrac"] = 0.125 * e * full[:, None].expand(4, 2)
    given["filter"] = octave_gains(2**e * full[:, None].expand(4, 4))
    given["unit_noise"] = formula_tensor(case, "unit_noise")
    given["cutout"] = torch.tensor([[0.5, q, q]] * 4, dtype=torch.float64)
    of = {"rotate_before": "rotate", "rotate_after": "rotate", "unit_noise": "noise"}
    return {key: value for key, value in given.items() if of.get(key, key) in names}


def mirrored_as_needed(images: Tensor, given: dict[str, Tensor]) -> Tensor:
    """What geometric transforms make of images that are mirrored only as far as the corners reach.

    As the original does; the pixels beyond are 0.
    """
    side, inverse = images.shape[3], geometry.inverse_map(given, images)
    end, most = (side - 1) / 2, side - 1
    corners = torch.tensor([[-end, end, -end, end], [-end, -end, end, end], [1.0] * 4]).double()
    at = (inverse @ corners)[:, :2]
    reach = [float((sign * at[:, axis]).max()) for axis in (0, 1) for sign in (-1, 1)]
    left, right, top, bottom = (min(max(math.ceil(far + 6 - end), 0), most) for far in reach)

    def enlarging(before: int, after: int) -> Tensor:
        inner = torch.arange(3 * side - 2)
        is_kept = (inner >= most - before) & (inner < most + side + after)
        pixels = torch.eye(side, dtype=torch.float64)[mirrored_places(inner - most, side)]
        spread = torch.zeros(2 * len(inner) + 11, side, dtype=torch.float64)
        for tap, value in enumerate(SYM6):
            spread[tap : tap + 2 * len(inner) : 2] += 2 * value * pixels * is_kept[:, None]
        return spread[5:-6] * is_kept.repeat_interleave(2)[:, None]

    large = enlarging(top, bottom) @ images @ enlarging(left, right).T
    seen = geometry._read(large, inverse, (side, side))
    return geometry._reducing(side, images) @ seen @ geometry._reducing(side, images).T


@pytest.mark.parametrize("q", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("group", [*golden_case("augmentation", "ada.pipe")["config"]["classes"]])
def test_ada_gives_the_originals_numbers(group: str, q: float) -> None:
    case = golden_case("augmentation", "ada.pipe")
    names = [name.replace("imgfilter", "filter") for name in case["config"]["classes"][group]]
    images, given = formula_tensor(case, "image").requires_grad_(), at_percentile(names, q, case)
    seen = transformed(images, given)
    if group == "geom":  # elsewhere all that is read is within the mirrored part
        narrow = mirrored_as_needed(images, given)
        differs = (seen - narrow).abs()
        assert differs.max() < 1e-6
        assert (differs > 0).double().mean() < 0.003
        seen = narrow
    assert_golden(case, f"{group}.p{q}", seen)
    (gradient,) = torch.autograd.grad((seen * formula_tensor(case, "cot")).sum(), images)
    assert_golden(case, f"{group}.p{q}.grad_of_sum_y_cot", gradient)


def test_the_filters_of_ada_are_the_originals() -> None:
    case = golden_case("augmentation", "ada.pipe")
    assert_golden(case, "filter.sym6_normalised", torch.tensor(SYM6, dtype=torch.float64))
    assert_golden(case, "filter_bank", filter_bank())
    images = formula_tensor(case, "image")
    names = transform_names(["blit", "geometry", "color"])
    nothing = draw_parameters(names, images, torch.Generator().manual_seed(0), 0 * ONE)
    assert_golden(case, "bgc.strength0", transformed(images, nothing))


def test_flip_mirrors_half_of_the_reals() -> None:
    images = pictures(4000, 1, 2, 3)
    seen = build("flip").apply(images, torch.Generator().manual_seed(0), ONE)
    mirrored = (seen == images.flip(3)).flatten(1).all(1)
    assert bool((mirrored | (seen == images).flatten(1).all(1)).all())
    assert float(mirrored.double().mean()) == pytest.approx(0.5, abs=0.03)
    assert build("flip").of_data
    assert not build("diffaugment").of_data
