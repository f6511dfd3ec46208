"""Every random number of a run comes from here.

A number depends on (seed, stream, step) and on nothing else: not on what was drawn before, not on
how often a run was interrupted, not on which runs go on beside it. So variants share their data
order and latents seed by seed, and a resumed run needs no saved random state. (The idea is that of
`set_random_seed` in NVlabs/edm2 and of `seed_hash` in facebookresearch/DomainBed.)
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
        stream: What the numbers are for, e.g. `"latents"`; streams are independent of each other.
        step: The step (or epoch, or draw) within the stream.
    """
    digest = hashlib.blake2b(f"{seed}/{stream}/{step}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, stream: str, step: int = 0, device: str = "cpu") -> torch.Generator:
    """Return a fresh generator on `device`, seeded by `derive(seed, stream, step)`."""
    import torch

    return torch.Generator(device).manual_seed(derive(seed, stream, step))
