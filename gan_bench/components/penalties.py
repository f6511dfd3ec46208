"""Regularisation: gradient penalties, terms of either network, constraints on D.

A registered factory takes its arguments and returns a `Penalty`. A run names any number of
penalties, and each acts on D's updates, or on G's if it is a term of G's loss. A gradient norm is
that of a single example, over all of its values, and of the sum of its logits if D makes a map. A
D with batch norm mixes the examples of a batch, so it is refused.

Its `PenaltyFacts`: `on_examples`, whether it needs a D that computes every example separately;
`term`, whether it is a term of D's loss, and `g_term`, of G's (its argument `every`, if it has one,
is then that of the `Penalty`); `judges`, which examples a term of D gives to D: `real`, `fake`,
both or a mixture (`both`), or None; `needs_styles`, whether it needs a G with styles w;
`needs_targets`, whether it needs pairs; `divides`, whether it divides weights by their norm;
`whole_run`, whether its noise depends on the share of the steps that are done, and so on the number
of all steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field

from gan_bench import rng
from gan_bench.components.models.base import SPECTRAL_BOUND
from gan_bench.errors import UserError
from gan_bench.registry import PENALTIES, MayChange, PenaltyFacts

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Weight = Annotated[float, MayChange(gt=0)]  # of a term; where it changes, a scalar tensor
Size = Annotated[float, Field(gt=0)]
Every = Annotated[int, Field(ge=1)]


@dataclass(frozen=True)
class Penalty:
    """The functions of a penalty or constraint; each may be None.

    Attributes:
        term: (D, real, fake, draws) → scalar that is added to D's loss. `real` and `fake` are
            (N, …) in the range of the data, without gradient; `draws` is the generator of random
            numbers for this step.
        every: Add the terms only at each `every`-th step, `every` times as large (lazy
            regularisation, Karras et al. 2020, "Analyzing and improving the image quality of
            StyleGAN", appendix B). The optimizer's rate and betas stay as they are, unless
            `own_step`.
        build: Changes D's layers, once, after its weights are drawn.
        after: Changes D's weights after each of its updates.
        noise: (examples, draws, share of the steps that are done, 0..1) → the examples that D
            sees instead, real or generated.
        weights_term: (D) → scalar that is added to D's loss, computed from its weights.
        g_term: (G, latents, draws, memory) → scalar that is added to G's loss. `latents` are those
            of this update, (N, latent_dim), followed by one-hot labels if there are any; `memory`
            is a float64 scalar, 0 before the first step, which it may change in place: the
            checkpoint holds it.
        pair_term: (fakes, targets) → scalar that is added to G's loss. Both are (N, C, H, W) in
            [-1, 1]; a fake is made from the input of the target in its row.
        own_step: Take a step of the network's optimizer for the terms alone, after its updates of
            the step, as StyleGAN2 does; its rate and betas are corrected by every / (every + 1).
            That of G's terms has latents of its own, and that of D's the examples of its last
            update. A `pair_term` has none.

    Raises:
        UserError: A `pair_term` is given a step of its own.
    """

    term: Callable[[Callable[[Tensor], Tensor], Tensor, Tensor, torch.Generator],
                   Tensor] | None = None
    every: int = 1
    build: Callable[[nn.Module], None] | None = None
    after: Callable[[nn.Module], None] | None = None
    noise: Callable[[Tensor, torch.Generator, float], Tensor] | None = None
    weights_term: Callable[[nn.Module], Tensor] | None = None
    g_term: Callable[[nn.Module, Tensor, torch.Generator, Tensor], Tensor] | None = None
    pair_term: Callable[[Tensor, Tensor], Tensor] | None = None
    own_step: bool = False

    def __post_init__(self) -> None:
        """Refuse a step that has no images to compare."""
        if self.own_step and self.pair_term is not None:
            raise UserError("a penalty with a pair_term compares the fakes of G's update, so it "
                            "has no step of its own: leave out own_step")

    @property
    def of_g(self) -> bool:
        """Whether it is a term of G's loss, and so acts on G's updates, not on D's."""
        return self.g_term is not None or self.pair_term is not None


def constrain(discriminator: nn.Module, penalties: list[Penalty], seed: int) -> None:
    """Let the constraints on D's layers change them; what they draw depends on the seed alone.

    Raises:
        UserError: They cannot constrain this D.
    """
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(rng.derive(seed, "init/constraints"))
        for penalty in penalties:
            if penalty.build is not None:
                penalty.build(discriminator)


@PENALTIES.register("r1", PenaltyFacts(on_examples=True, term=True, judges="real"))
def r1(*, gamma: Weight = 10.0, every: Every = 1, own_step: bool = False) -> Penalty:
    """γ/2 times the mean squared norm of D's gradient at real examples.

    Mescheder et al. 2018, "Which training methods for GANs do actually converge?", equation 9,
    where γ is 10. With `own_step` it takes a step of D's optimizer of its own, as in StyleGAN2.
    """
    return Penalty(lambda d, real, fake, draws: gamma / 2 * _squares(d, real).mean(), every,
                   own_step=own_step)


@PENALTIES.register("r2", PenaltyFacts(on_examples=True, term=True, judges="fake"))
def r2(*, gamma: Weight = 10.0, every: Every = 1, own_step: bool = False) -> Penalty:
    """γ/2 times the mean squared norm of D's gradient at generated examples.

    Mescheder et al. 2018, equation 10. `own_step` is as that of `r1`.
    """
    return Penalty(lambda d, real, fake, draws: gamma / 2 * _squares(d, fake).mean(), every,
                   own_step=own_step)


@PENALTIES.register("gradient_penalty", PenaltyFacts(on_examples=True, term=True))
def gradient_penalty(*, weight: Weight = 10.0, target: Size = 1.0, one_sided: bool = False,
                     every: Every = 1) -> Penalty:
    """WGAN-GP: draw D's gradient norm between real and generated examples to `target`.

    `weight` · E (‖∇D(x̂)‖ − `target`)².

    Gulrajani et al. 2017, "Improved training of Wasserstein GANs", equation 3 and algorithm 1: at
    ε x + (1 − ε) G(z), with a new ε, uniform in 0..1, for each example. `one_sided` penalises only
    norms above the target (section 4 there; Petzka et al. 2018, WGAN-LP).
    """
    import torch

    def term(d: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor,
             draws: torch.Generator) -> Tensor:
        shape = (len(real), *[1] * (real.dim() - 1))
        share = torch.rand(shape, generator=draws, device=real.device, dtype=real.dtype)
        return weight * _distance(d, fake + share * (real - fake), target, one_sided)

    return Penalty(term, every)


@PENALTIES.register("dragan", PenaltyFacts(on_examples=True, term=True, judges="real"))
def dragan(*, weight: Weight = 10.0, target: Size = 1.0, scale: Size = 0.5,
           noise: Literal["uniform", "gaussian"] = "uniform", every: Every = 1) -> Penalty:
    """DRAGAN: draw D's gradient norm around real examples to `target`.

    Kodali et al. 2017, "On convergence and stability of GANs". The sources differ in the noise.
    `uniform` is the published code, x + α · scale · sd · u: u is uniform in 0..1 for each value,
    α is uniform in 0..1 for each example, and sd is the standard deviation of all values of the
    batch. `gaussian` is the paper, x + δ, with δ normal and of standard deviation `scale`.
    (Code that moves towards generated examples computes neither.) The published code works on
    images in 0..1, and the images here are in -1..1, where gradients are half as large: its target
    of 1 is 0.5 here.
    """
    import torch

    def term(d: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor,
             draws: torch.Generator) -> Tensor:
        draw = torch.rand if noise == "uniform" else torch.randn
        moves = scale * draw(real.shape, generator=draws, device=real.device, dtype=real.dtype)
        if noise == "uniform":
            shape = (len(real), *[1] * (real.dim() - 1))
            share = torch.rand(shape, generator=draws, device=real.device, dtype=real.dtype)
            moves = share * real.std() * moves
        return weight * _distance(d, real + moves, target, one_sided=False)

    return Penalty(term, every)


@PENALTIES.register("orthogonal_d", PenaltyFacts(on_examples=False, term=True, judges=None))
def orthogonal_d(*, weight: Weight = 1e-4, every: Every = 1) -> Penalty:
    """BigGAN's orthogonal regularisation of D: draw the rows of each weight apart.

    `weight` / 2 · Σ_{i≠j} ⟨wᵢ, wⱼ⟩², summed over D's weights as matrices of one row for each
    output; the lengths of rows are free. Brock et al. 2019, "Large scale GAN training for high
    fidelity natural image synthesis", equation 3, where the weight is 1e-4; the half is that of the
    published code. It takes each parameter of two or more axes, as it is stored: before spectral
    norm divides it.
    """
    from gan_bench.components.regularisers import overlap

    return Penalty(weights_term=lambda d: weight / 2 * overlap(d), every=every)


@PENALTIES.register("orthogonal_g", PenaltyFacts(on_examples=False, term=False, g_term=True))
def orthogonal_g(*, weight: Weight = 1e-4, every: Every = 1) -> Penalty:
    """BigGAN's orthogonal regularisation of G: draw the rows of each weight apart.

    Brock et al. 2019, as `orthogonal_d`. An embedding of labels that all of G's layers share is
    left out, as in the published code.
    """
    from gan_bench.components.regularisers import overlap

    return Penalty(g_term=lambda g, latents, draws, memory: weight / 2 * overlap(g), every=every)


@PENALTIES.register("path_length", PenaltyFacts(on_examples=False, term=False, g_term=True,
                                                needs_styles=True))
def path_length(*, weight: Weight = 2.0, decay: Annotated[float, Field(gt=0, le=1)] = 0.01,
                batch_shrink: Every = 2, every: Every = 1, own_step: bool = False) -> Penalty:
    """StyleGAN2's regularisation of G: a step in w moves the image equally far everywhere.

    `weight` · E (‖Jᵀy‖ − a)². Karras et al. 2020, "Analyzing and improving the image quality of
    StyleGAN", equation 4 and appendix B; the published code has weight 2 and `every: 4`. J is the
    derivative of an image by its w, squares being averaged over the layers; y is white noise,
    N(0, 1) / √(H·W). a is the running mean of the lengths, 0 at first: `decay` of it is replaced by
    the mean of this batch, before it is used, and gradients pass through that share. It looks at
    the first 1 / `batch_shrink` of the latents of G's update; with `own_step`, as in the published
    code, of latents of its own, for which it takes a step of G's optimizer.
    """
    from gan_bench.components.regularisers import distance_from_mean_length

    def g_term(g: nn.Module, latents: Tensor, draws: torch.Generator, memory: Tensor) -> Tensor:
        some = latents[:-(-len(latents) // batch_shrink)]
        return weight * distance_from_mean_length(g, some, draws, memory, decay)

    return Penalty(g_term=g_term, every=every, own_step=own_step)


@PENALTIES.register("l1", PenaltyFacts(on_examples=False, term=False, g_term=True,
                                       needs_targets=True))
def distance_from_targets(*, weight: Weight = 100.0, every: Every = 1) -> Penalty:
    """pix2pix's term of G: the mean absolute distance of an image from its target.

    `weight` · E |x − G(input)|, over all values of the scale [-1, 1]. Isola et al. 2017,
    "Image-to-image translation with conditional adversarial networks", equations 3 and 4, where the
    weight is 100.
    """
    return Penalty(pair_term=lambda fakes, targets: weight * (fakes - targets).abs().mean(),
                   every=every)


@PENALTIES.register("weight_clip", PenaltyFacts(on_examples=False, term=False))
def weight_clip(*, limit: Size = 0.01) -> Penalty:
    """Clip every parameter of D to ±`limit` after each of its updates.

    Arjovsky et al. 2017, "Wasserstein GAN", algorithm 1, where the limit is 0.01.
    """
    import torch

    def after(discriminator: nn.Module) -> None:
        with torch.no_grad():
            torch._foreach_clamp_min_(list(discriminator.parameters()), -limit)
            torch._foreach_clamp_max_(list(discriminator.parameters()), limit)

    return Penalty(after=after)


@PENALTIES.register("spectral_norm", PenaltyFacts(on_examples=False, term=False, divides=True))
def spectral_norm(*, iterations: Every = 1) -> Penalty:
    """Divide the weights of D's linear and convolutional layers by their largest singular value.

    The label planes of `condition: concat` are bounded by the side of the image instead.

    Miyato et al. 2018, "Spectral normalization for generative adversarial networks", algorithm 1,
    by power iteration: `iterations` of them in each forward pass in training mode.

    Raises:
        UserError: In `build`: the model's D already has a constraint on its weights.
    """

    def build(discriminator: nn.Module) -> None:
        import torch
        from torch import nn
        from torch.nn.utils.parametrize import is_parametrized

        for layer in list(discriminator.modules()):
            if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.Embedding)):
                if is_parametrized(layer, "weight"):
                    raise UserError("spectral_norm: this model already constrains the weights of "
                                    "D; leave spectral_norm out")
                nn.utils.parametrizations.spectral_norm(layer, n_power_iterations=iterations)
                norm: Any = cast(Any, layer.parametrizations).weight[-1]
                # CUDA's autocast would compute the singular value in bfloat16; the CPU's would not.
                norm.forward = torch.autocast("cuda", enabled=False)(norm.forward)
                bound = getattr(layer, SPECTRAL_BOUND, None)
                if bound is not None:  # unsafe: a check would take a step of the power iteration
                    nn.utils.parametrize.register_parametrization(layer, "weight", _times(bound),
                                                                  unsafe=True)

    return Penalty(build=build)


@PENALTIES.register("instance_noise", PenaltyFacts(on_examples=False, term=False, whole_run=True))
def instance_noise(*, std: Size = 0.1, until: Annotated[float, Field(gt=0, le=1)] = 1.0,
                   ) -> Penalty:
    """Add Gaussian noise to all examples that D sees; the noise fades linearly.

    Sønderby et al. 2017, "Amortised MAP inference for image super-resolution", section 3.4;
    Arjovsky and Bottou 2017. Its standard deviation falls from `std` at the start to 0 after the
    share `until` of the steps.
    """
    import torch

    def noise(examples: Tensor, draws: torch.Generator, done: float) -> Tensor:
        size = std * max(0.0, 1 - done / until)
        return examples + size * torch.randn(examples.shape, generator=draws,
                                             device=examples.device, dtype=examples.dtype)

    return Penalty(noise=noise)


def _times(factor: float) -> nn.Module:
    """Return the module that multiplies by a factor."""
    from torch import nn

    class Times(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * factor

    return Times()


def _squares(discriminator: Callable[[Tensor], Tensor], examples: Tensor) -> Tensor:
    """The squared norm of D's gradient at each example, (N,), with a graph for its gradient."""
    import torch

    at = examples.detach().requires_grad_()
    # The gradient of the sum is that of each example, because D does not mix examples.
    (gradient,) = torch.autograd.grad(discriminator(at).sum(), at, create_graph=True)
    return gradient.flatten(1).square().sum(1)


def _distance(discriminator: Callable[[Tensor], Tensor], examples: Tensor, target: float,
              one_sided: bool) -> Tensor:
    """The mean squared distance of the gradients' norms from the target."""
    squares = _squares(discriminator, examples)
    # The derivative of the norm is infinite at 0, for example where all of D's ReLUs are off.
    tiny = 1e-24 if squares.dtype.itemsize > 4 else 1e-12
    excess = (squares + tiny).sqrt() - target
    if one_sided:
        excess = excess.clamp(min=0)
    return excess.square().mean()
