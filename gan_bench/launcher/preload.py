"""What the fork server does before it forks: it imports what every run needs.

Then it freezes the half million objects in memory. Otherwise each run would search them for garbage
many times, and copy the pages that hold them.
"""

from __future__ import annotations

import atexit
import gc

import scipy.linalg  # noqa: F401
import torch._dynamo  # noqa: F401  no run compiles, but every optimizer imports it
from PIL import Image

import gan_bench.training.run  # noqa: F401

Image.preinit()
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # otherwise some libraries report a leak when the server ends
