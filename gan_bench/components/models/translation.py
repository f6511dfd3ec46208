"""The families that make an image from an image."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from gan_bench.components.models.base import Count, Init, Networks, Rate, Shape
from gan_bench.registry import MODELS, ModelFacts

MOST_DOWNS = 8  # 256 pixels to one
Downs = Annotated[int, Field(ge=2, le=MOST_DOWNS)]
Layers = Annotated[int, Field(ge=1, le=5)] | Literal["pixel"]


def _halvings(side: int) -> int:
    """Return how often a side can be halved without a rest, at most to one pixel and 8 times."""
    return min(MOST_DOWNS, (side & -side).bit_length() - 1)


def _map_side(side: int, layers: int) -> int:
    """Return the height and width of D's map of logits; less than 1 if the image is too small."""
    return (side >> layers) - 2


def _refuses(shape: Shape, **args: Any) -> str | None:
    if len(shape) != 3:
        return "it makes images"
    side, downs, layers = shape[1], args.get("downs"), args.get("d_layers", 3)
    most = _halvings(side)
    if most < 2:
        return "it halves the size at least twice, so image_size must be a multiple of 4"
    if downs is not None and downs > most:
        return (f"it halves the size {downs} times, and {side} pixels can be halved {most} times: "
                f"set downs to {most} or less")
    if layers != "pixel" and _map_side(side, layers) < 1:
        fitting = [n for n in range(1, 6) if _map_side(side, n) >= 1]
        return (f"its D with {layers} layers needs {3 << layers} pixels: set d_layers to "
                f"{fitting[-1] if fitting else 'pixel'}")
    return None


def _mixes(*, d_norm: str, **_: Any) -> bool:
    return d_norm == "batch"


@MODELS.register("unet", ModelFacts(refuses=_refuses, mixes=_mixes, takes="image"))
def unet(
    shape: Shape, input_shape: Shape, *, latent_dim: Literal[0] = 0, width: Count = 64,
    d_width: Count = 64, downs: Downs | None = None, d_layers: Layers = 3, dropout: Rate = 0.5,
    norm: Literal["batch", "instance"] = "batch",
    d_norm: Literal["batch", "instance", "none"] = "batch", init: Init = "normal",
) -> Networks:
    """pix2pix: a U-Net from an image to an image, and a PatchGAN that judges patches of a pair.

    Isola et al. 2017, "Image-to-image translation with conditional adversarial networks", sections
    3.2 and 6.1. G halves the image `downs` times (by default as often as its size allows, which is
    the published network at 256 and 128 pixels) and has no latents: in training, dropout is its
    only noise. D has `d_layers` convolutions of stride 2, so a logit judges 16, 34, 70, 142 or 286
    pixels for 1 to 5 layers, and one for `pixel`. Its loss is a mean over the map.
    """
    from gan_bench.components.networks.translation import PatchDiscriminator, UNet

    return Networks(
        UNet(input_shape, shape[0], width, downs or _halvings(shape[1]), dropout, norm),
        PatchDiscriminator(shape[0] + input_shape[0], d_width, d_layers, d_norm), init)
