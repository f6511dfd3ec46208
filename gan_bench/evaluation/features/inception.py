"""Inception-v3 as in the published FID and IS: torch-fidelity's `inception-v3-compat`."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.errors import Say, UserError
from gan_bench.evaluation.features.base import Extractor
from gan_bench.registry import EXTRACTORS

if TYPE_CHECKING:
    from torch import Tensor, nn

    from gan_bench.components.data import Dataset

VARIABLE = "GAN_BENCH_INCEPTION"
SHA256_VARIABLE = "GAN_BENCH_INCEPTION_SHA256"  # the first digits for weights of another hash
URL = ("https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/"
       "weights-inception-2015-12-05-6726825d.pth")
SHA256_START = "6726825d"  # PyTorch Hub writes it into the file's name


@EXTRACTORS.register("inception")
def inception(data: Dataset, cache: Path, device: str, say: Say) -> Extractor:
    """Inception-v3 of the published FID and IS: 2048 features, 1008 logits without bias.

    The weights are the file that the variable GAN_BENCH_INCEPTION names, or PyTorch Hub's copy of
    torch-fidelity's, which is downloaded if it is missing. Other content is refused, unless the
    variable GAN_BENCH_INCEPTION_SHA256 holds the start of its hash. Grey images are repeated to
    RGB.

    Raises:
        UserError: The weights are unavailable, or the file has other content.
    """
    path = weights_file(say)
    digest = _sha256(path)
    accepted, cure = [SHA256_START], "delete it and run again"
    if VARIABLE in os.environ:
        start = os.environ.get(SHA256_VARIABLE, "")
        if len(start) >= len(SHA256_START):
            accepted.append(start)
        cure = (f"name the file from {URL}; or, to use other weights, set "
                f"{SHA256_VARIABLE}={digest[:8]}")
    if not digest.startswith(tuple(accepted)):
        raise UserError(f"{path}: its sha256 starts with {digest[:8]} and not with "
                        f"{' or '.join(accepted)}; {cure}")
    if not digest.startswith(SHA256_START):
        say(f"{path} is not the published Inception: compare its scores only with each other")
    return Extractor("inception", digest[:12], _load(path).to(device).eval(), device, batch_size=50)


def weights_file(say: Say) -> Path:
    """Return the file of weights; download it if it is missing.

    Raises:
        UserError: The file is missing, and the download failed.
    """
    import torch

    if VARIABLE in os.environ:
        path = Path(os.environ[VARIABLE])
        if not path.is_file():
            raise UserError(f"{VARIABLE}={path}: no such file; name the file of Inception weights "
                            f"from {URL}")
        return path
    path = Path(torch.hub.get_dir()) / "checkpoints" / URL.rpartition("/")[2]
    if not path.exists():
        say(f"downloading {URL}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # It writes to a temporary file, and renames it when the hash is right.
            torch.hub.download_url_to_file(URL, str(path), hash_prefix=SHA256_START)
        except (OSError, RuntimeError) as error:
            raise UserError(f"Inception's weights are not at {path}, and downloading {URL} failed "
                            f"({error}); put the file there, or name it in {VARIABLE}, or leave "
                            f"out fid and is") from None
    return path


def _load(path: Path) -> nn.Module:
    import pickle

    import torch
    from torch import nn

    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError:
        raise UserError("fid and is need torch-fidelity: pip install torch-fidelity, or leave them "
                        "out") from None

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # torch-fidelity unpickles anything, so first check that the file holds only tensors.
            torch.load(path, map_location="cpu", weights_only=True)
            self.inception = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048", "logits_unbiased"],
                feature_extractor_weights_path=str(path))

        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            values, logits = self.inception(images.expand(-1, 3, -1, -1))
            return values, logits

    try:
        with torch.random.fork_rng(devices=[]):
            return Network()
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, AttributeError,
            TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: not a file of weights of torch-fidelity's Inception ({reason}); "
                        f"download it again from {URL}") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
