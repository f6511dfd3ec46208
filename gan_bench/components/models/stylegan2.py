"""The style-based networks of StyleGAN2."""

from __future__ import annotations

from typing import Any, Literal

from gan_bench.components.models.base import Count, Networks, Shape
from gan_bench.registry import MODELS, ModelFacts

SIDES = tuple(16 << i for i in range(7))  # 16 to 1024 pixels
Architecture = Literal["resnet", "orig", "skip"]
NoiseKind = Literal["random", "constant", "none"]


def _refuses(shape: Shape, **_: Any) -> str | None:
    if len(shape) != 3:
        return "it is convolutional; use mlp or mlp_dropout for vectors"
    if shape[1] in SIDES:
        return None
    return f"it doubles 4 pixels repeatedly: image_size must be one of {', '.join(map(str, SIDES))}"


def _group(*, group: int | None = 4, **_: Any) -> int | None:
    """How many examples D judges together."""
    return group


def _mixes(**args: Any) -> bool:
    return _group(**args) is not None


def _scaled(**_: Any) -> str:
    return ("its layers scale their weights when they use them (equalised learning rate): leave "
            "spectral_norm out")


@MODELS.register("stylegan2", ModelFacts(refuses=_refuses, mixes=_mixes, group=_group,
                                         scaled=_scaled, bounded=False, labelled=True,
                                         styles=True))
def stylegan2(
    shape: Shape, classes: int = 0, *, latent_dim: Count = 512, width: Count = 512,
    d_width: Count | None = None, widest_until: Count = 32, w_dim: Count | None = None,
    mapping_layers: Count = 8, d_architecture: Architecture = "resnet", group: Count | None = 4,
    noise: NoiseKind = "random",
) -> Networks:
    """StyleGAN2: a mapping network, styles that modulate convolutions; 16 to 1024 pixels.

    Karras et al. 2020, "Analyzing and improving the image quality of StyleGAN", and the published
    code of Karras et al. 2020, "Training generative adversarial networks with limited data". The
    defaults are those of the paper at 256 pixels; the latter code has `mapping_layers: 2` in its
    `auto` and `cifar` settings, and for CIFAR-10 also `d_architecture: orig`, `group: 32` and
    `widest_until: 64`.

    Both networks have `width` channels (D `d_width`, where that is given) up to `widest_until`
    pixels, and half as many at each doubling beyond. G maps latents to w, of length `w_dim`
    (`latent_dim`, where that is not given), by `mapping_layers` layers, and adds the images of all
    resolutions. Its `noise` is drawn in training and constant in evaluation (`random`), constant
    (`constant`), or there is none. D reads the image once (`orig`), with residual blocks
    (`resnet`), or at all resolutions (`skip`); it judges `group` examples together by their
    standard deviation, or each alone (`null`). Weights are N(0, 1) and scaled when they are used.

    With a `condition`, G's latents are joined to an embedding of the label, and under `projection`
    D's logit is the product of its features and the label, mapped by eight layers.

    Images are not bounded; their levels are clipped when they are measured or saved.
    """
    from gan_bench.components.networks.style_discriminator import StyleDiscriminator
    from gan_bench.components.networks.style_mapping import StyleMapping
    from gan_bench.components.networks.stylegan2 import StyleGenerator, Synthesis

    image_channels, side, _ = shape

    def channels(most: int) -> dict[int, int]:
        sides = [4 << i for i in range((side // 4).bit_length())]
        return {s: max(1, min(most, most * widest_until // s)) for s in sides}

    w_dim = w_dim or latent_dim
    generator = StyleGenerator(
        StyleMapping(latent_dim, classes, w_dim, mapping_layers, averaged=True),
        Synthesis(channels(width), image_channels, w_dim, noise))
    discriminator = StyleDiscriminator(channels(d_width or width), image_channels, d_architecture,
                                       group, classes)
    return Networks(generator, discriminator, "default")
