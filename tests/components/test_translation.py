"""pix2pix's networks: the original's numbers in float64, counts to the unit, what a logit sees."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.golden_cases import FOLDER, assert_golden, formula_tensor, golden_case
from helpers.golden_networks import Names, assert_gradients, assert_scalar, fill
from torch import Tensor, nn

from gan_bench.components.models import Networks, build_networks, make_networks, with_condition
from gan_bench.components.penalties import Penalty
from gan_bench.registry import LOSSES, MODELS, PENALTIES, Part

NAMES: Names = {r"^(down|up)(\d+)": r"\1.\2", r"^layer(\d+)": r"layers.\1"}
CASES = {"pix2pix.unet5.vanilla": "non_saturating",
         "pix2pix.unet5.lsgan": {"name": "lsgan"}}


def model(**arguments: object) -> Part:
    return MODELS.parse({"name": "unet", **arguments})


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def planned(part: Part, shape: tuple[int, ...], input_shape: tuple[int, ...] | None = None,
            ) -> Networks:
    with torch.device("meta"):
        return make_networks(part, shape, "concat", 0, input_shape or shape)


class Pair:
    """The networks of a case, its pairs and its loss, whose least squares have no half."""

    def __init__(self, name: str) -> None:
        self.case = golden_case("pix2pix", name)
        networks = build_networks(model(width=8, d_width=8, dropout=0.0), (3, 32, 32), 0, "concat",
                                  0, (3, 32, 32))
        self.g, self.d = networks.generator, networks.discriminator
        fill(self.g, self.case, "G.", NAMES)
        fill(self.d, self.case, "D.", NAMES)
        self.inputs, self.targets = (formula_tensor(self.case, f"real_{x}") for x in "AB")
        self.loss = LOSSES.build(LOSSES.parse(CASES[name]))
        self.scale = 2.0 if name.endswith("lsgan") else 1.0

    def make(self) -> Tensor:
        latents = torch.empty(len(self.inputs), 0, dtype=torch.float64)
        made: Tensor = self.g(with_condition(latents, self.inputs, 0))
        return made


@pytest.fixture(params=CASES)
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


def test_forward_passes_are_the_originals(pair: Pair) -> None:
    pair.g.eval(), pair.d.eval()
    assert_golden(pair.case, "G.output.eval", pair.make())
    assert_golden(pair.case, "D.logits.real.eval", pair.d(pair.targets, pair.inputs))
    assert_golden(pair.case, "G.output.train", (pair.g.train(), pair.make())[1])


def test_the_update_of_d_is_the_originals(pair: Pair) -> None:
    fake = pair.make().detach()
    fake_logits = pair.d(fake, pair.inputs)
    terms = pair.loss.discriminator(pair.d(pair.targets, pair.inputs), fake_logits)
    total = pair.scale * (terms[0] + terms[1]) / 2  # as with d_loss_reduction: mean
    assert_scalar(pair.case, "D_phase.loss_real", pair.scale * terms[0])
    assert_scalar(pair.case, "D_phase.loss_fake", pair.scale * terms[1])
    assert_scalar(pair.case, "D_phase.loss", total)
    total.backward()
    assert_gradients(pair.case, "D_phase.gradients", pair.d, "D.", NAMES)


def test_the_update_of_g_is_the_originals_with_the_term_l1(pair: Pair) -> None:
    fake = pair.make()
    logits = pair.d(fake, pair.inputs)
    penalty: Penalty = PENALTIES.build(PENALTIES.parse("l1"))
    assert penalty.pair_term is not None
    adversarial = pair.scale * pair.loss.generator(logits, None)
    distance = penalty.pair_term(fake, pair.targets)
    assert_golden(pair.case, "D.logits.fake.train", logits)
    assert_scalar(pair.case, "G_phase.loss_gan", adversarial)
    assert_scalar(pair.case, "G_phase.loss_L1_weighted", distance)
    (adversarial + distance).backward()
    assert_gradients(pair.case, "G_phase.gradients", pair.g, "G.", NAMES)


def counts() -> dict[str, Any]:
    import json

    numbers: dict[str, Any] = json.loads((FOLDER / "pix2pix.json").read_text())["parameter_counts"]
    return numbers


@pytest.mark.parametrize(("case", "shape", "arguments"), [
    ("pix2pix.unet256", (3, 256, 256), {}),
    ("pix2pix.unet128", (3, 128, 128), {}),
    ("pix2pix.unet32.5downs.grey.ngf64", (1, 32, 32), {}),
    ("pix2pix.unet32.5downs.grey.ngf16", (1, 32, 32), {"width": 16}),
    ("pix2pix.unet32.5downs.rgb.ngf8", (3, 32, 32), {"width": 8}),
])
def test_g_has_the_published_number_of_parameters(case: str, shape: tuple[int, ...],
                                                  arguments: dict[str, object]) -> None:
    assert count(planned(model(**arguments), shape).generator) == counts()[case]


@pytest.mark.parametrize(("case", "shapes", "arguments"), [
    ("patchgan70.6channels.batch", (3, 3), {}),
    ("patchgan.6channels.ndf8.batch", (3, 3), {"d_width": 8}),
    ("pixelgan.6channels.batch", (3, 3), {"d_layers": "pixel"}),
    ("pixelgan.3channels.instance", (2, 1), {"d_layers": "pixel", "d_norm": "instance"}),
    *((f"patchgan.3channels.instance.layers{n}", (2, 1), {"d_layers": n, "d_norm": "instance"})
      for n in range(1, 6)),
])
def test_d_has_the_published_number_of_parameters(case: str, shapes: tuple[int, int],
                                                  arguments: dict[str, object]) -> None:
    networks = planned(model(**arguments), (shapes[0], 256, 256), (shapes[1], 256, 256))
    assert count(networks.discriminator) == counts()[case]


@pytest.mark.parametrize(("layers", "pixels"), [("pixel", 1), (1, 16), (2, 34), (3, 70), (4, 142),
                                                (5, 286)])
def test_a_logit_sees_as_many_pixels_as_published(layers: object, pixels: int) -> None:
    """By the support of the gradient of one logit at the map's middle, with positive weights."""
    side = 512 if layers == 5 else 256
    part = model(d_layers=layers, d_norm="none", d_width=1, width=1)
    d = build_networks(part, (1, side, side), 0, "concat", 0, (1, side, side)).discriminator
    with torch.no_grad():
        for parameter in d.parameters():
            parameter.abs_().add_(0.1)
    image = torch.rand(1, 1, side, side, requires_grad=True)
    inputs = torch.rand(1, 1, side, side, requires_grad=True)
    logits = d(image, inputs)
    middle = logits.shape[-1] // 2
    for gradient in torch.autograd.grad(logits[0, 0, middle, middle], (image, inputs)):
        assert int((gradient[0, 0] != 0).any(0).sum()) == pixels
        assert int((gradient[0, 0] != 0).any(1).sum()) == pixels
        assert int((gradient != 0).sum()) == pixels**2


@pytest.mark.parametrize(("side", "height"), [(256, 30), (128, 14), (64, 6), (32, 2)])
def test_the_map_has_the_published_size(side: int, height: int) -> None:
    networks = planned(model(width=1, d_width=1), (3, side, side))
    with torch.device("meta"):
        logits = networks.discriminator(torch.empty(2, 3, side, side),
                                        torch.empty(2, 3, side, side))
    assert logits.shape == (2, 1, height, height)


def test_the_joined_sizes_carry_the_input_past_the_inner_layers() -> None:
    g = build_networks(model(width=4), (1, 32, 32), 0, "concat", 0, (1, 32, 32)).generator.eval()
    inputs = torch.rand(2, 32 * 32) * 2 - 1
    with torch.no_grad():
        before = g(inputs)
        for parameter in g.get_submodule("down.1").parameters():
            parameter.zero_()
        cut = g(inputs)
        assert not torch.allclose(cut, before)
        assert (cut[0] - cut[1]).abs().max() > 1e-3  # by what is joined outside of it
        for parameter in g.get_submodule("down.0").parameters():
            parameter.zero_()
        assert torch.equal(*g(inputs))


@pytest.mark.parametrize(("downs", "with_dropout"), [(8, [4, 5, 6]), (7, [4, 5]), (5, [])])
def test_dropout_acts_where_the_published_code_has_it(downs: int, with_dropout: list[int]) -> None:
    g = planned(model(downs=downs, width=1), (3, 256, 256)).generator
    up = g.get_submodule("up")
    assert [i for i, block in enumerate(up.children())
            if any(isinstance(layer, nn.Dropout) for layer in block.modules())] == with_dropout


@pytest.mark.parametrize(("shape", "arguments", "reason"), [
    ((2,), {}, "it makes images"),
    ((1, 30, 30), {"d_layers": "pixel"}, "multiple of 4"),
    ((1, 28, 28), {"downs": 3}, "28 pixels can be halved 2 times: set downs to 2"),
    ((1, 16, 16), {}, "needs 24 pixels: set d_layers to 2"),
    ((1, 28, 28), {}, None),
    ((1, 8, 8), {"d_layers": 1}, None),
    ((1, 8, 8), {"d_layers": 2}, "needs 12 pixels: set d_layers to 1"),
    ((3, 32, 32), {"downs": 5}, None),
])
def test_a_size_that_it_cannot_serve_is_refused(shape: tuple[int, ...],
                                                arguments: dict[str, object],
                                                reason: str | None) -> None:
    part = model(width=2, d_width=2, **arguments)
    said = MODELS["unet"].facts.refuses(shape, **part.args)
    assert (said is None) == (reason is None)
    assert (reason or "") in (said or "")
    if reason is None:
        networks = build_networks(part, shape, 0, "concat", 0, shape)
        inputs = torch.rand(2, *shape)
        made = networks.generator(inputs.flatten(1))
        assert made.shape == (2, *shape)
        assert networks.discriminator(made, inputs).dim() == 4
