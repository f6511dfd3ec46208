"""Features for images without labels: a network with random weights that is never trained.

If a trained network has only seen other kinds of images, an untrained convolutional network still
tells distributions apart (Naeem et al. 2020, "Reliable Fidelity and Diversity Metrics"). It needs
no labels and no download.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench import rng
from gan_bench.errors import Say
from gan_bench.evaluation.features.base import Extractor, hash_of
from gan_bench.registry import EXTRACTORS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gan_bench.components.data import Dataset

WIDTHS = (32, 64, 128)
SLOPE = 0.2  # below 0: with a plain ReLU, a third of the features would be 0 for every image
LARGEST_SIDE = 63  # pixels; larger images are averaged down first, to 32 pixels or more


@EXTRACTORS.register("random")
def random(data: Dataset, cache: Path, device: str, say: Say) -> Extractor:
    """A small convolutional network of fixed random weights: 512 features, for any images.

    Its weights are the same for all data of one shape. Their hash shows if another machine draws
    other weights.
    """
    channels, side, _ = data.facts.shape
    network = build_random_network(channels, side)
    return Extractor("random", hash_of(network), network.to(device).eval(), device, batch_size=250)


def build_random_network(channels: int, side: int) -> nn.Module:
    """Return the network: images (N, C, H, W) in 0..255 → values (N, 512), and no logits."""
    import torch
    from torch import nn

    shrink = side // 32 if side > LARGEST_SIDE else 1
    last_side = side // shrink // 4

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = [nn.AvgPool2d(shrink)]
            before = channels
            for width, pool in zip(WIDTHS, (2, 2, 1), strict=True):
                layers += [nn.Conv2d(before, width, 3, padding=1), nn.LeakyReLU(SLOPE),
                           nn.AvgPool2d(pool)]
                before = width
            layers += [nn.AvgPool2d((last_side + 1) // 2, stride=last_side // 2), nn.Flatten()]
            self.features = nn.Sequential(*layers)

        def forward(self, images: Tensor) -> tuple[Tensor, None]:
            return self.features(images.to(torch.float32) / 127.5 - 1), None

    with torch.device("meta"):
        network = Network()
    network.to_empty(device="cpu")
    draws = rng.generator(0, "random_weights")
    for name, tensor in network.named_parameters():
        with torch.no_grad():
            if name.endswith("bias"):
                tensor.zero_()
            else:  # He et al. 2015, equation 15: every layer preserves the scale of its input
                gain = 2 / (1 + SLOPE**2)
                tensor.normal_(0, (gain / tensor[0].numel()) ** 0.5, generator=draws)
    return network
