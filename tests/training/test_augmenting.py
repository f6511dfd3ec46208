"""Augmentation in the step: what D sees, what it leaves alone, and what a checkpoint holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.float64 import in_float64  # noqa: F401
from helpers.runs import a_run
from torch import Tensor
from torch.nn.functional import softplus

from gan_bench import rng
from gan_bench.components.augmentations.base import Augmentation
from gan_bench.components.models import build_networks
from gan_bench.config.spec import RunSpec
from gan_bench.errors import SpecError
from gan_bench.registry import AUGMENTATIONS, Part, use_plugins
from gan_bench.training.contract.base import advance, bits
from gan_bench.training.step.engine import Engine
from gan_bench.training.step.step_batch import StepBatch

ONE = torch.ones(())


def reals(step: int) -> Tensor:
    draws = torch.Generator().manual_seed(step)
    return torch.rand(32, 1, 16, 16, generator=draws, dtype=torch.float32).to(
        torch.get_default_dtype()) * 2 - 1


def draws_of(spec: RunSpec, part: Part, step: int) -> torch.Generator:
    return rng.generator(spec.seed, f"augmentation/{part.name}", step)


@pytest.mark.usefixtures("in_float64")
@pytest.mark.parametrize("order", ["d_first", "g_first"])
def test_the_step_is_that_of_a_plain_loop_with_augmentation(tmp_path: Path, order: str) -> None:
    """D learns from T(real) and T(G(z)), R1 is the gradient at plain reals through T, and so G."""
    spec = a_run(tmp_path, "variants={}", "base.augmentation=[diffaugment]", f"base.order={order}",
                 "base.penalties=[{name: r1, gamma: 2.0}]", "base.d_loss_reduction=sum")
    engine = Engine(spec, "cpu")
    networks = build_networks(spec.model, spec.data.shape, spec.seed)
    g, d = networks.generator, networks.discriminator
    g_adam, d_adam = (torch.optim.Adam(n.parameters(), 2e-4, (0.5, 0.999)) for n in (g, d))
    augmentation: Augmentation = AUGMENTATIONS.build(spec.augmentation[0])
    for step in range(1, 4):
        engine.step(step, StepBatch([reals(step)]))
        latents, draws = rng.generator(spec.seed, "latents", step), draws_of(
            spec, spec.augmentation[0], step)
        for_g, for_d = (torch.randn(32, 100, generator=latents) for _ in range(2))

        def seen(images: Tensor, draws: torch.Generator = draws) -> Tensor:
            return d(augmentation.apply(images, draws, ONE))

        def update_d(for_d: Tensor = for_d, step: int = step) -> None:
            fake = g(for_d).detach()
            loss = softplus(-seen(reals(step))).mean() + softplus(seen(fake)).mean()
            at = reals(step).requires_grad_()
            (gradient,) = torch.autograd.grad(seen(at).sum(), at, create_graph=True)
            loss = loss + gradient.square().sum((1, 2, 3)).mean()
            d_adam.zero_grad()
            loss.backward()
            d_adam.step()

        def update_g(for_g: Tensor = for_g) -> None:
            loss = softplus(-seen(g(for_g))).mean()
            g_adam.zero_grad()
            loss.backward()
            g_adam.step()

        for update in (update_d, update_g) if order == "d_first" else (update_g, update_d):
            update()
    for mine, plain in ((engine.generator, g), (engine.discriminator, d)):
        for name, value in plain.state_dict().items():
            assert (mine.state_dict()[name] - value).abs().max() < 1e-10, name


def test_flip_changes_the_reals_alone_and_before_all_else(tmp_path: Path) -> None:
    """A run with it is to the bit a run on the data that it makes; G's reals are its too."""
    settings = ["variants={}", "base.loss=relativistic_pairing", "base.penalties=[r1, r2]"]
    flipped = Engine(a_run(tmp_path, *settings, "base.augmentation=[flip]"), "cpu")
    plain = Engine(a_run(tmp_path, *settings), "cpu")
    spec = flipped.spec
    flip: Augmentation = AUGMENTATIONS.build(spec.augmentation[0])
    for step in range(1, 4):
        draws = draws_of(spec, spec.augmentation[0], step)
        real, g_real = reals(step), reals(100 + step)
        assert not torch.equal(flip.apply(real, draws_of(spec, spec.augmentation[0], step), ONE),
                               real)
        flipped.step(step, StepBatch([real], g_real=g_real))
        plain.step(step, StepBatch([flip.apply(real, draws, ONE)],
                                   g_real=flip.apply(g_real, draws, ONE)))
    assert bits(flipped) == bits(plain)


def test_flips_are_the_same_beside_another_augmentation(tmp_path: Path) -> None:
    """Variants under one seed share the data; the order of the list says what acts first."""
    both = a_run(tmp_path, "variants={}", "base.augmentation=[diffaugment, flip]")
    alone = a_run(tmp_path, "variants={}", "base.augmentation=[flip]")
    batches = []
    for spec in (both, alone):
        augmenting = Engine(spec, "cpu")._augmenting
        augmenting.begin(7)
        batches.append(augmenting.of_data(StepBatch([reals(1), reals(2)])))
    assert all(map(torch.equal, batches[0].real, batches[1].real))
    assert both.id != alone.id


def test_without_augmentation_nothing_is_drawn_or_kept(tmp_path: Path) -> None:
    engine = Engine(a_run(tmp_path, "variants={}"), "cpu")
    assert "augmentation" not in engine.state()
    assert len(engine.generators) == 2
    [seen] = advance(Engine(a_run(tmp_path, "variants={}", "base.batch_size=4"), "cpu"),
                     range(1, 2))
    assert "train/augment_p" not in seen


MINE = """\
from gan_bench.components.augmentations.base import Augmentation, Probability
from gan_bench.registry import AUGMENTATIONS, AugmentationFacts


@AUGMENTATIONS.register("mine", AugmentationFacts(has_p=True))
def mine(*, most: float = 0.5) -> Augmentation:
    return Augmentation(lambda examples, draws, p: examples * (1 - most * p.float()),
                        probability=Probability(FACTOR))
"""


def test_a_part_of_a_user_is_trained_with_and_is_in_the_id(tmp_path: Path) -> None:
    """And two that have a p are refused, for one curve cannot show both."""
    ids = []
    for factor in ("0.5", "0.25"):
        (tmp_path / "mine.py").write_text(MINE.replace("FACTOR", factor))
        try:
            spec = a_run(tmp_path, "variants={}", "plugins=[mine.py]", "base.batch_size=4",
                         "base.augmentation=[mine]")
            assert [*spec.sources] == ["augmentation.mine"]
            [seen] = advance(Engine(spec, "cpu"), range(1, 2))
            assert float(seen["train/augment_p"]) == float(factor)
            with pytest.raises(SpecError, match=r"base.augmentation: ada and mine have a p each"):
                a_run(tmp_path, "plugins=[mine.py]", "base.augmentation=[ada, mine]")
        finally:
            use_plugins(())
        ids.append(spec.id)
    assert ids[0] != ids[1]


def test_images_are_augmented_in_float32_under_bfloat16(tmp_path: Path) -> None:
    """What the layers round is rounded after it; the run's p is as in float32."""
    spec = a_run(tmp_path, "variants={}", "base.augmentation=[{name: ada, kimg: 0.02}]",
                 "base.batch_size=4", "base.penalties=[r1]")
    engine = Engine(spec, "cpu", "bfloat16")
    seen, apply = [], engine._augmenting.seen_by_d
    engine._augmenting.seen_by_d = lambda examples: seen.append(  # type: ignore[method-assign]
        (examples.dtype, (found := apply(examples)).dtype)) or found
    observed = advance(engine, range(1, 6))
    assert {*seen} == {(torch.float32, torch.float32)}
    assert len(seen) == 5 * 4  # reals and fakes of D, reals of R1, fakes of G
    assert all(bool(value.isfinite()) for step in observed for value in step.values())
    assert not torch.is_autocast_enabled("cpu")


def test_the_discriminator_is_measured_on_plain_images(tmp_path: Path) -> None:
    """What is measured and saved is the network alone."""
    engine = Engine(a_run(tmp_path, "variants={}", "base.augmentation=[diffaugment]"), "cpu")
    plain = Engine(a_run(tmp_path, "variants={}"), "cpu")
    assert torch.equal(engine.discriminator(reals(1)), plain.discriminator(reals(1)))
    assert engine.state()["discriminator"].keys() == plain.state()["discriminator"].keys()
    seen = engine._passes.forward_d(reals(1), None)
    assert (seen - engine.discriminator(reals(1))).abs().max() > 1e-4
