"""Data sets: decoded once, cached on disk, resident on the device.

One module per source. A source registers its decoder, and beside it `describe`, which tells what a
plan must know without torch and without reading anything big:

    def describe(data_root: Path, **arguments) -> DataFacts

    @DATASETS.register("name", DatasetFacts(describe=describe))
    def decode(data_root: Path, say: Say, *, image_size: ImageSize = 28) -> Arrays

`prepare` decodes into the cache, `load` opens the cache; both are the same for every source.
"""

from gan_bench.components.data.arrays import Arrays, ArraySplit, ImageSize, Say
from gan_bench.components.data.decoded import Dataset, Split, load, prepare

__all__ = ["ArraySplit", "Arrays", "Dataset", "ImageSize", "Say", "Split", "load", "prepare"]
