"""What the launcher's server does before it forks: it imports what every run needs, once for all.

Then it freezes all that there is: a run would search these objects for garbage again and again,
half a million of them, and copy the pages that they lie in.
"""

from __future__ import annotations

import atexit
import gc

import scipy.linalg  # noqa: F401
import torch._dynamo  # noqa: F401  the compiler is not used, but who makes an optimizer imports it
from PIL import Image

import gan_bench.training.run  # noqa: F401

Image.preinit()
gc.collect()
gc.freeze()
atexit.register(gc.unfreeze)  # or some libraries would call it a leak when the server ends
