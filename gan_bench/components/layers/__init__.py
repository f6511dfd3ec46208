"""Layers that models are made of, beside those of PyTorch."""

from gan_bench.components.layers.attention import SelfAttention
from gan_bench.components.layers.batch_deviation import MinibatchDeviation
from gan_bench.components.layers.conditional_norm import (
    ConditionalBatchNorm2d,
    UnconditionalBatchNorm2d,
)
from gan_bench.components.layers.equalised import (
    BiasedLeakyReLU,
    EqualisedConv2d,
    EqualisedLinear,
    ModulatedConv2d,
    NoisePlane,
    unit_moment,
)
from gan_bench.components.layers.faster import (
    ConvToImage,
    DeconvToImage,
    FromOnePixel,
    ToOnePixel,
    UpsampledConv2d,
)
from gan_bench.components.layers.own_weights import OwnWeights
from gan_bench.components.layers.precision import without_autocast
from gan_bench.components.layers.resampling import bilinear_taps, doubled, halved, upfirdn2d
from gan_bench.components.layers.spectral import (
    SpectralConv2d,
    SpectralConvToImage,
    SpectralEmbedding,
    SpectralLinear,
    SpectralUpsampledConv2d,
)

__all__ = [
    "BiasedLeakyReLU", "ConditionalBatchNorm2d", "ConvToImage", "DeconvToImage", "EqualisedConv2d",
    "EqualisedLinear", "FromOnePixel", "MinibatchDeviation", "ModulatedConv2d", "NoisePlane",
    "OwnWeights", "SelfAttention", "SpectralConv2d", "SpectralConvToImage", "SpectralEmbedding",
    "SpectralLinear", "SpectralUpsampledConv2d", "ToOnePixel", "UnconditionalBatchNorm2d",
    "UpsampledConv2d", "bilinear_taps", "doubled", "halved", "unit_moment", "upfirdn2d",
    "without_autocast",
]
