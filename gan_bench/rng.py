"""The source of every random number of a run.

A number depends only on (seed, stream, step): not on earlier draws, interruptions of the run, or
other runs at the same time. So variants with the same seed share their data order and latents, and
a resumed run needs no saved random state. (The idea comes from `set_random_seed` in NVlabs/edm2 and
`seed_hash` in facebookresearch/DomainBed.)
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derive(seed: int, stream: str, step: int = 0) -> int:
    """Return the 63-bit seed that belongs to one stream of one run at one step.

    Args:
        seed: The run's seed, as written in the experiment.
        stream: The purpose of the numbers, e.g. `"latents"`; streams are independent of each other.
        step: The step (or epoch, or draw) within the stream.
    """
    digest = hashlib.blake2b(f"{seed}/{stream}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, stream: str, step: int = 0) -> torch.Generator:
    """Return a fresh generator on the CPU, seeded by `derive(seed, stream, step)`."""
    import torch

    return torch.Generator().manual_seed(derive(seed, stream, step))
