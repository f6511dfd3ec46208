"""BigGAN and SAGAN."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gan_bench.components.models.base import Count, Init, Networks, Shape
from gan_bench.registry import MODELS, ModelFacts

Attention = Literal["half"] | Annotated[int, Field(ge=4, le=128)] | None
Normed = Literal["both", "generator"]
# For each size: the channels of G from 4 pixels on, in units of `width`; those of D's blocks; how
# many of these halve the resolution; and at which resolution each counts for attention. (At 32
# pixels the published code counts 16 for all of them.)
PLANS: dict[int, tuple[tuple[int, ...], tuple[int, ...], int, tuple[int, ...]]] = {
    32: ((4, 4, 4, 4), (4, 4, 4, 4), 2, (16, 16, 16, 16)),
    64: ((16, 16, 8, 4, 2), (1, 2, 4, 8, 16), 4, (32, 16, 8, 4, 4)),
    128: ((16, 16, 8, 4, 2, 1), (1, 2, 4, 8, 16, 16), 5, (64, 32, 16, 8, 4, 4)),
}


def _attention(attention: int | str | None, side: int) -> int | None:
    return side // 2 if attention == "half" else attention  # type: ignore[return-value]


def _refuses(shape: Shape, *, latent_dim: int = 120, hierarchical: bool = True,
             shared_dim: int | None = 128, attention: int | str | None = "half", **_: Any,
             ) -> str | None:
    if len(shape) != 3:
        return "it is convolutional; use mlp or mlp_dropout for vectors"
    if shape[1] not in PLANS:
        return "it is designed for an image_size of 32, 64 or 128"
    of_g, _of_d, _halvings, resolutions = PLANS[shape[1]]
    slots = len(of_g)
    if hierarchical and latent_dim % slots:
        return (f"its latents are split into {slots} chunks of equal length: choose a latent_dim "
                f"that {slots} divides, such as {max(1, latent_dim // slots) * slots}, or "
                f"hierarchical: false")
    if hierarchical and shared_dim is None:
        return ("chunks of the latents are joined to a shared embedding: give shared_dim, or "
                "hierarchical: false")
    possible = sorted({8 << i for i in range(slots - 1)} & {*resolutions})
    if (at := _attention(attention, shape[1])) is not None and at not in possible:
        return (f"its networks have no attention at {at} pixels: choose attention from "
                f"{', '.join(map(str, possible))}, half or null")
    return None


def _scaled(*, spectral_norm: str = "both", **_: Any) -> str | None:
    if spectral_norm == "generator":
        return None
    return ("it has spectral norm of its own: leave spectral_norm out, or give the model "
            "`spectral_norm: generator`")


@MODELS.register("biggan", ModelFacts(refuses=_refuses, scaled=_scaled, labelled=True))
def biggan(
    shape: Shape, classes: int = 0, *, latent_dim: Count = 120, width: Count = 96,
    d_width: Count | None = None, hierarchical: bool = True, shared_dim: Count | None = 128,
    attention: Attention = "half", spectral_norm: Normed = "both", init: Init = "orthogonal",
) -> Networks:
    """BigGAN, and SAGAN: residual networks with spectral norm and self-attention; 32 to 128 pixels.

    Brock et al. 2019, "Large scale GAN training for high fidelity natural image synthesis",
    appendices B and C; channels, counts of parameters and details are those of the published code
    in PyTorch. The default `width` of 96 is that of the paper, and of G; D's is `d_width`, where
    that is given.

    G: linear → 4×4, blocks (batch norm, ReLU, nearest ×2, conv 3×3, batch norm, ReLU, conv 3×3; on
    the shortcut conv 1×1 and nearest ×2), batch norm, ReLU, conv 3×3, tanh. D: blocks (ReLU,
    conv 3×3, ReLU, conv 3×3, mean over 2×2; on the shortcut the same mean and conv 1×1), ReLU, sum
    over all pixels, linear. The first block lacks its first ReLU.

    The latents are split into a chunk for the linear layer and one for each block's batch norms
    (`hierarchical`). With a `condition`, G's batch norms get the label as an embedding of length
    `shared_dim`, of which their scales and shifts are linear functions, or each by a table of its
    own (`null`); under `projection`, D adds the product of its features and an embedding. Attention
    follows the block that reaches `attention` pixels, which is half the size, or `null` for none;
    at 32 pixels it follows each of D's blocks, as in the published code.

    All layers of G but the shared embedding have spectral norm, and those of D too unless
    `spectral_norm` is `generator`. `init: orthogonal` is the paper's. The CIFAR-10 script has
    `width: 64`, `latent_dim: 128`, `hierarchical: false`, `shared_dim: null`, `attention: null`,
    `init: normal`; SAGAN the same with `attention: 64` and `init: xavier`.

    Differences: biases start at 0, where the published code has PyTorch's, and scales of
    unconditional batch norms are drawn by `init: normal`.
    """
    from gan_bench.components.networks.biggan import (
        NORMED,
        PLAIN,
        BigDiscriminator,
        BigGenerator,
        Conditioning,
    )

    image_channels, side, _ = shape
    g_units, d_units, halvings, resolutions = PLANS[side]
    at = _attention(attention, side)
    conditioning = Conditioning(latent_dim, classes, shared_dim or 0,
                                len(g_units) if hierarchical else 1)
    generator = BigGenerator([width * units for units in g_units], image_channels, conditioning, at)
    d_widths = [image_channels, *((d_width or width) * units for units in d_units)]
    discriminator = BigDiscriminator(d_widths, halvings, [r == at for r in resolutions],
                                     NORMED if spectral_norm == "both" else PLAIN, classes)
    return Networks(generator, discriminator, init)
