"""Adversarial losses, as functions of logits.

A registered factory takes the loss's arguments and returns a `Loss`. Logarithms of probabilities in
the published formulas are written with softplus, so that they are exact and finite at logits of
±100 and beyond: log σ(x) = −softplus(−x), log(1 − σ(x)) = −softplus(x).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from gan_bench.registry import LOSSES, LossFacts

if TYPE_CHECKING:
    from torch import Tensor

Smoothing = Annotated[float, Field(ge=0, lt=0.5)]


@dataclass(frozen=True)
class Loss:
    """The functions that D and G minimise.

    Attributes:
        discriminator: (real_logits, fake_logits) → its terms, scalars: (real term, fake term), or
            a single term if the loss does not separate. A setting of the run reduces them, and
            the penalties with them, to one loss (mean or sum).
        generator: (fake_logits, real_logits) → scalar. `real_logits` is None unless `needs_real`.
        needs_real: Whether G's loss compares fake with real examples.
        boundary: The logit at which D calls an example neither real nor fake.

    Logits are (N,), or a map for each example, (N, 1, H, W). Terms are means over all of them, so a
    map counts as its mean, whatever its size.
    """

    discriminator: Callable[[Tensor, Tensor], tuple[Tensor, ...]]
    generator: Callable[[Tensor, Tensor | None], Tensor]
    needs_real: bool = False
    boundary: float = 0.0


@LOSSES.register("saturating")
def saturating(*, label_smoothing: Smoothing = 0.0) -> Loss:
    """The minimax loss: G minimises log(1 − D(G(z))).

    D minimises −E log D(x) − E log(1 − D(G(z))), where D(·) is the sigmoid of its logit.

    Goodfellow et al. 2014, "Generative Adversarial Nets", equation 1. Its gradient for G vanishes
    where D is sure that a sample is fake. `label_smoothing` is one-sided (Salimans et al. 2016,
    section 3.4): D's target for real examples is 1 minus `label_smoothing`.
    """
    from torch.nn.functional import softplus

    return Loss(_cross_entropy(label_smoothing), lambda fake, real: -softplus(fake).mean())


@LOSSES.register("non_saturating")
def non_saturating(*, label_smoothing: Smoothing = 0.0) -> Loss:
    """The non-saturating loss: G minimises −log D(G(z)).

    D minimises −E log D(x) − E log(1 − D(G(z))), where D(·) is the sigmoid of its logit.

    Goodfellow et al. 2014, section 3, after equation 1; the same D loss and the same fixed point.
    `label_smoothing` is that of `saturating`.
    """
    from torch.nn.functional import softplus

    return Loss(_cross_entropy(label_smoothing), lambda fake, real: softplus(-fake).mean())


@LOSSES.register("kl")
def kl(*, label_smoothing: Smoothing = 0.0) -> Loss:
    """G minimises minus its logits: at the optimal D that is KL(generated ‖ real).

    The optimal logit is log p(x)/q(x), so its negative mean over q is the reverse KL divergence
    (Sønderby et al. 2017, "Amortised MAP inference for image super-resolution", section 3.3). D's
    loss is the cross-entropy of `saturating`.
    """
    return Loss(_cross_entropy(label_smoothing), lambda fake, real: -fake.mean())


@LOSSES.register("lsgan")
def lsgan(*, a: float = 0.0, b: float = 1.0, c: float = 1.0) -> Loss:
    """Least squares: D's target is b for real and a for fake examples, G's target is c.

    D minimises E (D(x) − b)²/2 + E (D(G(z)) − a)²/2, and G minimises E (D(G(z)) − c)²/2.

    Mao et al. 2017, "Least Squares Generative Adversarial Networks", equation 2, with its factors
    of a half; the default labels are those of its equation 9. Its equation 8, which minimises the
    Pearson χ² divergence, is a = −1, b = 1, c = 0. A smaller b is one-sided label smoothing. These
    are losses of D's outputs as they are; compare_gan (Lucic et al. 2018) takes their sigmoids.
    """
    return Loss(lambda real, fake: ((real - b).square().mean() / 2,
                                    (fake - a).square().mean() / 2),
                lambda fake, real: (fake - c).square().mean() / 2, boundary=(a + b) / 2)


@LOSSES.register("wgan")
def wgan() -> Loss:
    """The difference of D's means: the Wasserstein-1 distance, if D is 1-Lipschitz.

    D minimises E D(G(z)) − E D(x), and G minimises −E D(G(z)).

    Arjovsky et al. 2017, "Wasserstein GAN", equation 2 and algorithm 1. D must be constrained:
    `weight_clip`, `gradient_penalty` or `spectral_norm`.
    """
    return Loss(lambda real, fake: (-real.mean(), fake.mean()), lambda fake, real: -fake.mean())


@LOSSES.register("hinge")
def hinge() -> Loss:
    """The hinge loss: D stops learning from examples beyond the margin of ±1.

    D minimises E max(0, 1 − D(x)) + E max(0, 1 + D(G(z))), and G minimises −E D(G(z)), where D(·)
    is the logit.

    Lim and Ye 2017, "Geometric GAN"; Miyato et al. 2018, "Spectral Normalization for Generative
    Adversarial Networks", equations 16 and 17.
    """
    from torch.nn.functional import relu

    return Loss(lambda real, fake: (relu(1 - real).mean(), relu(1 + fake).mean()),
                lambda fake, real: -fake.mean())


@LOSSES.register("relativistic_pairing", LossFacts(needs_real=True, one_term=True))
def relativistic_pairing() -> Loss:
    """RpGAN: the logit of a real example against that of the fake example in the same row.

    Jolicoeur-Martineau 2018, "The relativistic discriminator", section 4.1; with R1 and R2 the loss
    of Huang et al. 2024, "The GAN is dead; long live the GAN!", equation 2. With f = softplus, D
    minimises the mean of f(fake − real) and G that of f(real − fake). It does not separate into a
    real and a fake term, so `d_loss_reduction` has no effect.
    """
    from torch.nn.functional import softplus

    def generator(fake: Tensor, real: Tensor | None) -> Tensor:
        assert real is not None
        return softplus(real - fake).mean()

    return Loss(lambda real, fake: (softplus(fake - real).mean(),), generator, needs_real=True)


@LOSSES.register("jeffreys")
def jeffreys() -> Loss:
    """The f-GAN of the Jeffreys divergence, KL(real ‖ generated) + KL(generated ‖ real).

    f(u) = (u − 1) log u. D minimises f*(fake) − real, G minimises −f*(fake) (Nowozin et al. 2016,
    "f-GAN", equation 4 and table 6), with the conjugate f*(t) = w + 1/w + t − 2 for
    w = W(exp(1 − t)), Lambert's function, and f*′(t) = 1/w. f* grows as exp(t): above logits of
    about 89 it is infinite in float32, and the run has diverged.
    """
    conjugate = _jeffreys_conjugate()
    return Loss(lambda real, fake: (-real.mean(), conjugate(fake).mean()),
                lambda fake, real: -conjugate(fake).mean())


@LOSSES.register("batch_jeffreys", LossFacts(needs_real=True, one_term=True))
def batch_jeffreys() -> Loss:
    """A misreading of Jeffreys from tutorials: D's outputs of a batch as two distributions.

    p and q are the softmax of the real and of the fake logits over the batch and its maps. D
    maximises Σ (p − q)(log p − log q), and G minimises it. The sum depends on the chance order of
    the examples in the batch, and a constant added to all logits does not change it, so neither
    network learns which of the two is real. This loss exists to show that it fails.
    """

    def divergence(real: Tensor, fake: Tensor) -> Tensor:
        log_p, log_q = real.flatten().log_softmax(0), fake.flatten().log_softmax(0)
        return ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum()

    def generator(fake: Tensor, real: Tensor | None) -> Tensor:
        assert real is not None
        return divergence(real, fake)

    return Loss(lambda real, fake: (-divergence(real, fake),), generator, needs_real=True)


def _cross_entropy(smoothing: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """D's two terms: −E log D(x) and −E log(1 − D(G(z))); smoothing lowers the real target."""
    from torch.nn.functional import softplus

    def terms(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
        real_term = softplus(-real).mean()
        if smoothing:
            real_term = (1 - smoothing) * real_term + smoothing * softplus(real).mean()
        return real_term, softplus(fake).mean()

    return terms


def _jeffreys_conjugate() -> Callable[[Tensor], Tensor]:
    """Return f* of f(u) = (u − 1) log u, with its gradient in closed form."""
    import torch
    from torch.autograd.function import once_differentiable

    class Conjugate(torch.autograd.Function):
        @staticmethod
        def forward(ctx: torch.autograd.function.FunctionCtx, t: Tensor) -> Tensor:
            # w = W(exp(y)) solves w + log w = y, by Newton's method for x = log w. It converges
            # from above, because exp(x) + x is convex, and avoids exp(y), which overflows.
            y = 1 - t
            x = torch.where(y > 1, y.clamp(min=1).log(), y)
            for _ in range(8):
                w = x.exp()
                x = x - (w + x - y) / (w + 1)
            w, inverse = x.exp(), (-x).exp()
            ctx.save_for_backward(inverse)
            return w + inverse + t - 2

        @staticmethod
        @once_differentiable
        def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: Tensor) -> Tensor:
            (inverse,) = ctx.saved_tensors  # type: ignore[attr-defined]
            return gradients[0] * inverse  # type: ignore[no-any-return]

    def conjugate(logits: Tensor) -> Tensor:
        value: Tensor = Conjugate.apply(logits)
        return value

    return conjugate
