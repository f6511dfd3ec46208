"""A web server on this machine that serves a small KMNIST, slowly, and its download."""

from __future__ import annotations

import gzip
import hashlib
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import IO, Any

import numpy as np
from helpers.warm import Job

COUNTS = {"train": 600, "t10k": 100}
PIECE, PAUSE = 32_768, 0.01  # bytes, and seconds between two pieces


@dataclass(frozen=True)
class Site:
    """What is served: an address, and the md5 of each file."""

    url: str
    sums: list[tuple[str, str]]


class Slow(SimpleHTTPRequestHandler):
    """Sends files in pieces, so that a download lasts, and costs no time of a processor."""

    def copyfile(self, source: IO[bytes], outputfile: IO[bytes]) -> None:  # type: ignore[override]
        try:
            while piece := source.read(PIECE):
                outputfile.write(piece)
                time.sleep(PAUSE)
        except ConnectionError:  # the command that downloads was killed
            pass

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def serve(folder: Path) -> Iterator[Site]:
    """Serve the four files of the data set."""
    folder.mkdir()
    sums, draws = [], np.random.default_rng(0)
    for prefix, count in COUNTS.items():
        for name, shape in ((f"{prefix}-images-idx3-ubyte", (count, 28, 28)),
                            (f"{prefix}-labels-idx1-ubyte", (count,))):
            array = draws.integers(0, 10, shape, np.uint8)
            header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
            content = gzip.compress(header + array.tobytes(), 1, mtime=0)
            (folder / f"{name}.gz").write_bytes(content)
            sums.append((f"{name}.gz", hashlib.md5(content).hexdigest()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Slow, directory=str(folder)))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Site(f"http://127.0.0.1:{server.server_port}/", sums)
    finally:
        server.shutdown()
        server.server_close()


def download(site: Site, place: Path) -> Job:
    """Download KMNIST into `root`, and decode it into `cache`."""
    return Job(_download, (site, place / "root", place / "cache"), place)


def _download(site: Site, root: Path, cache: Path) -> None:
    import os

    import torchvision.datasets

    from gan_bench.components.data import mnist
    from gan_bench.components.data.decoded import prepare_data
    from gan_bench.registry import DATASETS

    os.environ["no_proxy"] = "127.0.0.1"
    kind: Any = torchvision.datasets.KMNIST
    kind.mirrors, kind.resources = [site.url], site.sums
    mnist.TRAIN, mnist.TEST = COUNTS["train"], COUNTS["t10k"]  # in this process, which ends
    prepare_data(DATASETS.parse("kmnist"), root, cache)
