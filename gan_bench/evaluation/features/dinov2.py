"""DINOv2 (Oquab et al. 2023): its features agree with human judgement better than Inception's.

Stein et al. 2023, "Exposing flaws of generative model evaluation metrics", section 4. It is
optional: it needs 1.2 GB of weights, and it is slow without a GPU.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.errors import Say, UserError, one_line
from gan_bench.evaluation.features.base import Extractor, hash_of
from gan_bench.registry import EXTRACTORS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gan_bench.components.data import Dataset

VARIABLE = "GAN_BENCH_DINOV2"
# PyTorch Hub runs the code that it downloads, so this names one commit.
REPOSITORY = "facebookresearch/dinov2:e1277af2ba9496fbadf7aec6eba56e8d882d1e35"
MODEL = "dinov2_vitl14"
SIDE = 224  # pixels
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, in 0..1


@EXTRACTORS.register("dinov2")
def dinov2(data: Dataset, cache: Path, device: str, say: Say) -> Extractor:
    """DINOv2 ViT-L/14, the class token: 1024 features, as Stein et al. 2023 use it.

    The code is the clone of facebookresearch/dinov2 that the variable GAN_BENCH_DINOV2 names;
    without it PyTorch Hub downloads the code. The weights are in PyTorch Hub's `checkpoints`, or
    are downloaded too. Images are scaled to 224 pixels, bicubic with antialiasing; grey images are
    repeated to RGB.

    Raises:
        UserError: The code or the weights are unavailable, or the folder is not a clone.
    """
    network = scaling(_load(say))
    return Extractor("dinov2", hash_of(network), network.to(device).eval(), device, batch_size=50)


def scaling(backbone: nn.Module) -> nn.Module:
    """Return the network: images (N, C, H, W) in 0..255 → the backbone's values, and no logits."""
    import torch
    from torch import nn
    from torch.nn.functional import interpolate

    class Network(nn.Module):
        mean: Tensor
        deviation: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone
            self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
            self.register_buffer("deviation", torch.tensor(DEVIATION).view(3, 1, 1))

        def forward(self, images: Tensor) -> tuple[Tensor, None]:
            scaled = interpolate(images.expand(-1, 3, -1, -1).to(torch.float32), (SIDE, SIDE),
                                 mode="bicubic", antialias=True).clamp(0, 255) / 255
            return self.backbone((scaled - self.mean) / self.deviation), None

    return Network()


def _load(say: Say) -> nn.Module:
    import torch

    local = os.environ.get(VARIABLE)
    if local and not (Path(local) / "hubconf.py").is_file():
        raise UserError(f"{VARIABLE}={local}: the folder holds no hubconf.py; name a clone of "
                        f"https://github.com/facebookresearch/dinov2")
    say(f"loading {MODEL} from {local or 'PyTorch Hub: ' + REPOSITORY}")
    try:
        with torch.random.fork_rng(devices=[]):  # the constructor draws weights first
            backbone: nn.Module = torch.hub.load(  # type: ignore[no-untyped-call]
                local or REPOSITORY, MODEL, source="local" if local else "github",
                trust_repo=True, verbose=False)
    except Exception as error:  # third-party code may raise any type
        checkpoints = Path(torch.hub.get_dir()) / "checkpoints"
        raise UserError(f"dinov2 is unavailable ({one_line(error)}); put a clone of "
                        f"https://github.com/facebookresearch/dinov2 in a folder that {VARIABLE} "
                        f"names and {MODEL}_pretrain.pth into {checkpoints}, or leave out the "
                        f"metrics that need it (fd_dinov2)") from None
    return backbone
