"""Data sets: decoded once, cached on disk, resident on the device.

Each source has a module. It registers a decoder, and with it a function that describes the data for
a plan, without torch and without reading large files:

    def describe_name(data_root: Path, **arguments) -> DataFacts

    @DATASETS.register("name", DatasetFacts(describe=describe_name))
    def decode(data_root: Path, say: Say, *, image_size: ImageSize = 28) -> Arrays

`prepare_data` decodes into the cache, and `load` opens the cache; both serve every source.
"""

from gan_bench.components.data.arrays import Arrays, ArraySplit, ImageSize
from gan_bench.components.data.decoded import Dataset, Split, load, prepare_data
from gan_bench.errors import Say

__all__ = ["ArraySplit", "Arrays", "Dataset", "ImageSize", "Say", "Split", "load", "prepare_data"]
