"""Data sets: what is decoded, what is cached, and what is said when the input is bad."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.datasets
from helpers.forked import forking
from helpers.privileges import drop_privileges, open_folder
from PIL import Image

from gan_bench.components.data import Dataset, load, prepare_data
from gan_bench.components.data.checksum import checksum
from gan_bench.components.data.download import fetch
from gan_bench.components.data.gaussians import modes
from gan_bench.components.data.pixels import resize
from gan_bench.data_facts import DataFacts
from gan_bench.errors import UserError
from gan_bench.registry import DATASETS, Part


def facts_of(part: Part, root: Path) -> DataFacts:
    return DATASETS[part.name].facts.describe(root, **part.args)


def decoded(value: object, root: Path, cache: Path, said: list[str] | None = None) -> Dataset:
    part = DATASETS.parse(value)
    prepare_data(part, root, cache, (said if said is not None else []).append)
    return load(part, root, cache, "cpu")


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


# --- names and facts, without torch ---------------------------------------------------------------


def test_plan_needs_no_heavy_module() -> None:
    code = (
        "import sys; from pathlib import Path; from gan_bench.registry import DATASETS\n"
        "for entry in DATASETS:\n"
        "    entry.schema\n"
        "    if entry.name not in ('image_folder', 'pairs'):\n"
        "        entry.facts.describe(Path('.'), **DATASETS.parse(entry.name).args)\n"
        "pairs = {'of': {'name': 'digits', 'image_size': 8}, 'input': {'name': 'inverted'}}\n"
        "DATASETS['pairs'].facts.describe(Path('.'), **pairs)\n"
        "heavy = {'torch', 'torchvision', 'numpy', 'PIL', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "print(DATASETS.names(), heavy)")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ("['cifar10', 'digits', 'fashion_mnist', 'gaussians', "
                                  "'image_folder', 'kmnist', 'mnist', 'pairs', "
                                  "'stacked_mnist'] set()")


@pytest.mark.parametrize("size", [7, 257, 16.0, "16"])
def test_image_size_is_checked(size: object) -> None:
    with pytest.raises(UserError):
        DATASETS.parse({"name": "mnist", "image_size": size})
    assert DATASETS.parse({"name": "mnist", "image_size": 8}).args == {
        "image_size": 8, "train": None}
    assert DATASETS.parse({"name": "mnist", "image_size": 256}).args == {
        "image_size": 256, "train": None}


# --- digits, gaussians, resampling ----------------------------------------------------------------


def test_digits_are_scikit_learns(tmp_path: Path) -> None:
    from sklearn.datasets import load_digits

    counts, labels = load_digits(return_X_y=True)
    data = decoded("digits", tmp_path, tmp_path)
    held = np.arange(1797) % 5 == 4
    for split, rows in ((data.train, ~held), (data.test, held)):
        pixels = split.images.numpy().reshape(-1, 64)
        assert np.array_equal(np.rint(pixels * (16 / 255)), counts[rows])
        assert split.labels is not None
        assert np.array_equal(split.labels.numpy(), labels[rows])
        assert (pixels.min(), pixels.max(), split.images.dtype) == (0, 255, torch.uint8)
    native = np.rint(counts * (255 / 16)).astype(np.uint8)
    digest = hashlib.sha256(native.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    assert data.facts.digest == digest[:16]


def test_native_size_is_never_resampled_and_other_sizes_are_pils_bilinear() -> None:
    rng = np.random.default_rng(0)
    for channels in (1, 3):
        images = rng.integers(0, 256, (4, channels, 28, 28), np.uint8)
        assert resize(images, 28) is images
        for size in (8, 32):
            resized = resize(images, size)
            assert resized.shape == (4, channels, size, size)
            for c in range(channels):  # each plane by itself: what torchvision's Resize does
                plane = Image.fromarray(images[2, c])
                wanted = plane.resize((size, size), Image.Resampling.BILINEAR)
                assert np.array_equal(resized[2, c], np.asarray(wanted))
    stripes = np.tile(np.array([0, 255], np.uint8), (1, 1, 32, 16))
    shrunk = resize(stripes, 8)[0, 0, :, 1:-1]  # antialiased: grey; point samples are 0 or 255
    assert shrunk.min() >= 120
    assert shrunk.max() <= 135


@pytest.mark.parametrize(("kind", "count", "sigma"), [("ring", 8, 0.01), ("grid", 25, 0.05)])
def test_gaussians(kind: Any, count: int, sigma: float, tmp_path: Path) -> None:
    centres, told = modes(kind)
    assert (len(set(centres)), told) == (count, sigma)
    if kind == "ring":
        assert all(abs(x * x + y * y - 1) < 1e-12 for x, y in centres)
    else:
        assert {x for x, _ in centres} == {y for _, y in centres} == {-4.0, -2.0, 0.0, 2.0, 4.0}
    data = decoded({"name": "gaussians", "kind": kind}, tmp_path, tmp_path)
    assert (data.train.images.shape, data.test.images.shape) == ((50_000, 2), (10_000, 2))
    assert data.train.images.dtype == torch.float32
    assert data.train.labels is not None
    off = data.train.images.double() - torch.tensor(centres, dtype=torch.float64)[data.train.labels]
    # 100,000 draws: the standard error of the mean is sigma/316, that of sigma is sigma/447
    assert abs(off.mean()) < 5 * sigma / 316
    assert abs(off.std() / sigma - 1) < 5 / 447
    shares = data.train.labels.bincount() / 50_000
    assert len(shares) == count
    assert (shares - 1 / count).abs().max() < 5 * (1 / count / 50_000) ** 0.5
    train, test = (set(map(tuple, s.images.tolist())) for s in (data.train, data.test))
    assert not train & test


# --- the cache ------------------------------------------------------------------------------------


def test_prepared_once_and_read_without_the_source(tmp_path: Path) -> None:
    part = DATASETS.parse({"name": "digits", "image_size": 16})
    with pytest.raises(UserError, match="is missing"):
        load(part, tmp_path, tmp_path, "cpu")
    first = decoded(part, tmp_path, tmp_path)
    (folder,) = (tmp_path / "data").iterdir()
    before = {p: p.stat().st_mtime_ns for p in folder.iterdir()}
    second = decoded(part, tmp_path, tmp_path)
    assert {p: p.stat().st_mtime_ns for p in folder.iterdir()} == before
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 16
    assert decoded("digits", tmp_path, tmp_path).fingerprint != first.fingerprint
    first.train.images.zero_()  # a stray write reaches neither the file nor another reader
    assert load(part, tmp_path, tmp_path, "cpu").train.images.max() == 255


@pytest.mark.parametrize("harm", ["truncate", "remove", "meta"])
def test_damaged_cache_is_refused_then_made_anew(harm: str, tmp_path: Path) -> None:
    part = DATASETS.parse("digits")
    whole = decoded(part, tmp_path, tmp_path)
    (folder,) = (tmp_path / "data").iterdir()
    before = sorted(os.listdir(folder))
    if harm == "truncate":
        os.truncate(folder / "test-labels.npy", 500)
    elif harm == "remove":
        (folder / "train-images.npy").unlink()
    else:
        (folder / "meta.json").write_text('{"fingerprint"')
    with pytest.raises(UserError, match=str(folder)):
        load(part, tmp_path, tmp_path, "cpu")
    said: list[str] = []
    assert decoded(part, tmp_path, tmp_path, said).fingerprint == whole.fingerprint
    assert "recreating it" in said[0]
    assert [p.name for p in (tmp_path / "data").iterdir()] == [folder.name]
    assert sorted(os.listdir(folder)) == before


@pytest.mark.parametrize("version", ["present", "earlier"])
@pytest.mark.parametrize(("name", "place"), [
    ("train-images.npy", 20), ("train-images.npy", 50_000), ("test-images.npy", -1),
    ("train-labels.npy", 3000), ("test-labels.npy", -9), ("meta.json", 22)])
def test_flipped_bytes_in_the_cache_are_seen_and_made_anew(
    name: str, place: int, version: str, tmp_path: Path
) -> None:
    part = DATASETS.parse("digits")
    whole = decoded(part, tmp_path, tmp_path)
    images = whole.train.images.clone()
    (folder,) = (tmp_path / "data").iterdir()
    if version == "earlier":
        meta = json.loads((folder / "meta.json").read_text())
        (folder / "meta.json").write_text(json.dumps(
            {key: meta[key] for key in ("fingerprint", "sizes")}, indent=1))
        assert load(part, tmp_path, tmp_path, "cpu").fingerprint == whole.fingerprint
    content = bytearray((folder / name).read_bytes())
    before = (folder / name).stat()
    for at in (place, place - 8):  # the same bit in two neighbouring words
        content[at] ^= 1
    (folder / name).write_bytes(content)
    os.utime(folder / name, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match=rf"{folder}: .*; start the experiment again, which") as why:
        load(part, tmp_path, tmp_path, "cpu")
    assert "\n" not in str(why.value)
    said: list[str] = []
    mended = decoded(part, tmp_path, tmp_path, said)
    assert said[0].endswith("; recreating it")
    assert mended.fingerprint == whole.fingerprint
    assert torch.equal(mended.train.images, images)


def test_an_earlier_cache_gets_its_checksums_without_being_decoded(tmp_path: Path) -> None:
    part, said = DATASETS.parse("digits"), list[str]()
    decoded(part, tmp_path, tmp_path)
    (folder,) = (tmp_path / "data").iterdir()
    written = (folder / "meta.json").read_text()
    meta = json.loads(written)
    (folder / "meta.json").write_text(json.dumps(
        {key: meta[key] for key in ("fingerprint", "sizes")}, indent=1))
    before = (folder / "train-images.npy").stat().st_mtime_ns
    assert decoded(part, tmp_path, tmp_path, said).fingerprint == meta["fingerprint"]
    assert (folder / "meta.json").read_text() == written
    assert (folder / "train-images.npy").stat().st_mtime_ns == before
    assert said == []


@pytest.mark.parametrize("meta", ["[]", "null", '{"fingerprint": "a", "sizes": []}', '"x"',
                                  '{"fingerprint": "a", "sizes": {}, "checksums": {}}'])
def test_a_cache_whose_description_is_another_thing_is_made_anew(meta: str, tmp_path: Path) -> None:
    part = DATASETS.parse("digits")
    whole = decoded(part, tmp_path, tmp_path)
    (folder,) = (tmp_path / "data").iterdir()
    (folder / "meta.json").write_text(meta)
    with pytest.raises(UserError, match="start the experiment again"):
        load(part, tmp_path, tmp_path, "cpu")
    assert decoded(part, tmp_path, tmp_path).fingerprint == whole.fingerprint


@pytest.mark.parametrize("size", [0, 1, 8, 4095, 4096, 5000, 2**22 - 1, 2**22, 2**22 + 4103])
def test_a_checksum_sees_every_small_change(size: int, tmp_path: Path) -> None:
    draws, file = np.random.default_rng(size), tmp_path / "a"
    content = draws.integers(0, 256, size, dtype=np.uint8)
    seen = set()

    def add(changed: np.ndarray[Any, Any]) -> None:
        file.write_bytes(changed.tobytes())
        seen.add(checksum(file))

    add(content)
    add(content)
    assert len(seen) == 1
    places = sorted({0, size // 2, size - 1, *draws.integers(0, max(size, 1), 5).tolist()})
    places = [place for place in places if 0 <= place < size]
    for place in places:
        for bit in (1, 128):
            changed = content.copy()
            changed[place] ^= bit
            add(changed)
            if place + 8 < size:  # sums of one direction would not see that both words change
                changed[place + 8] ^= bit
                add(changed)
    twice = sum(place + 8 < size for place in places)
    assert len(seen) == 1 + 2 * len(places) + 2 * twice


def race(start: Barrier, cache: Path) -> None:
    """What each of the processes does."""
    DATASETS.build(DATASETS.parse("digits"), cache, print)  # imports done before the race
    start.wait()
    prepare_data(DATASETS.parse({"name": "digits", "image_size": 64}), cache, cache)


@pytest.mark.parametrize("damaged", [False, True])
def test_processes_that_prepare_at_once_do_not_disturb_each_other(
    damaged: bool, tmp_path: Path
) -> None:
    if damaged:
        decoded({"name": "digits", "image_size": 64}, tmp_path, tmp_path)
        (folder,) = (tmp_path / "data").iterdir()
        (folder / "meta.json").unlink()
    context = forking()
    start = context.Barrier(3, timeout=60)
    racers = [context.Process(target=race, args=(start, tmp_path)) for _ in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(60)
    assert [racer.exitcode for racer in racers] == [0, 0, 0]
    assert len(list((tmp_path / "data").iterdir())) == 1
    part = DATASETS.parse({"name": "digits", "image_size": 64})
    assert load(part, tmp_path, tmp_path, "cpu").test.images.shape == (359, 1, 64, 64)


def test_unwritable_cache_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"cache.*cannot be written") as caught:
        prepare_data(DATASETS.parse("digits"), tmp_path, tmp_path / "cache")
    assert "\n" not in str(caught.value)


# --- MNIST ----------------------------------------------------------------------------------------


def test_real_mnist(mnist_root: Path, tmp_path: Path) -> None:
    data = decoded("mnist", mnist_root, tmp_path)
    reference = torchvision.datasets.MNIST(str(mnist_root))
    assert torch.equal(data.train.images[:, 0], reference.data)
    assert data.train.labels is not None
    assert torch.equal(data.train.labels, reference.targets)
    assert data.test.images.shape == (10_000, 1, 28, 28)
    assert data.facts == DataFacts((1, 28, 28), 10, 60_000, 10_000, data.facts.digest, 0.98)
    larger = decoded({"name": "mnist", "image_size": 32}, mnist_root, tmp_path)
    for row in (0, 59_999):
        image = Image.fromarray(reference.data[row].numpy())
        wanted = np.asarray(image.resize((32, 32), Image.Resampling.BILINEAR))
        assert np.array_equal(larger.train.images[row, 0].numpy(), wanted)


def _copy_mnist(mnist_root: Path, root: Path) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (mnist_root / "MNIST" / "raw").iterdir():
        shutil.copyfile(file, raw / file.name)
    return raw


@pytest.mark.parametrize(
    ("size", "flip", "message"),
    [(7_000_000, False, "7,000,000 bytes and should have 7,840,016"),
     (None, True, "md5 .* should have 2646ac647ad5339dbf082846283269ea")])
def test_harmed_mnist_file_is_named(
    size: int | None, flip: bool, message: str, mnist_root: Path, tmp_path: Path
) -> None:
    file = _copy_mnist(mnist_root, tmp_path) / "t10k-images-idx3-ubyte"
    if size:
        os.truncate(file, size)
    if flip:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    with pytest.raises(UserError, match=f"{file}: has.*{message}.*delete it"):
        prepare_data(DATASETS.parse("mnist"), tmp_path, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


@pytest.fixture
def plain_user() -> Iterator[Path]:
    """A folder open to all, and no root's privileges while the test runs."""
    with open_folder() as folder:
        yield folder


def test_read_only_root(plain_user: Path, mnist_root: Path) -> None:
    root, cache = plain_user / "root", plain_user / "cache"
    raw = _copy_mnist(mnist_root, root)
    cache.mkdir(mode=0o777)
    cache.chmod(0o777)
    for folder in (raw, raw.parent, root):
        folder.chmod(0o555)
    DATASETS.build(DATASETS.parse("digits"), root, print)  # import what only root may read
    drop_privileges()
    prepare_data(DATASETS.parse("mnist"), root, cache)  # the data is there: nothing is written
    message = r"FashionMNIST.*cannot be written: Permission denied"
    with pytest.raises(UserError, match=message) as caught:
        prepare_data(DATASETS.parse("fashion_mnist"), root, cache)
    assert "\n" not in str(caught.value)
    assert [p.name for p in root.iterdir()] == ["MNIST"]


# --- downloads ------------------------------------------------------------------------------------


def _idx(array: np.ndarray[Any, np.dtype[np.uint8]]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@dataclass
class Site:
    """A web server on this machine, in its own process, and what it serves."""

    folder: Path
    url: str
    arrays: dict[str, Any]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    arrays = {}
    for prefix, count in (("train", 60_000), ("t10k", 10_000)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = np.broadcast_to(labels[:, None, None] * np.uint8(25), (count, 28, 28)).copy()
        arrays |= {f"{prefix}-images-idx3-ubyte": images, f"{prefix}-labels-idx1-ubyte": labels}
    for name, array in arrays.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(_idx(array), 1))
    server = subprocess.Popen(
        [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1",
         "--directory", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    port = server.stdout.readline().split("port ")[1].split()[0]
    try:
        yield Site(folder, f"http://127.0.0.1:{port}/", arrays)
    finally:
        server.terminate()
        server.wait(10)


@pytest.fixture
def served(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """torchvision's KMNIST, pointed at the site; its code is its own."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    sums = [(f"{name}.gz", hashlib.md5((site.folder / f"{name}.gz").read_bytes()).hexdigest())
            for name in site.arrays]
    monkeypatch.setattr(torchvision.datasets.KMNIST, "mirrors", [site.url])
    monkeypatch.setattr(torchvision.datasets.KMNIST, "resources", sums)
    return site


def test_download(served: Site, tmp_path: Path) -> None:
    root, said = tmp_path / "root", list[str]()
    data = decoded("kmnist", root, tmp_path / "cache", said)
    images = served.arrays["train-images-idx3-ubyte"]
    assert np.array_equal(data.train.images[:, 0].numpy(), images)
    assert data.test.labels is not None
    assert np.array_equal(data.test.labels.numpy(), served.arrays["t10k-labels-idx1-ubyte"])
    assert said == [f"downloading KMNIST from {served.url} to {root}"]
    assert len(torchvision.datasets.KMNIST(str(root), train=False)) == 10_000  # its own layout
    assert [p.name for p in root.iterdir()] == ["KMNIST"]
    again = list[str]()
    shutil.rmtree(tmp_path / "cache")
    assert decoded("kmnist", root, tmp_path / "cache", again).fingerprint == data.fingerprint
    assert again == []


def test_wrong_checksum_of_a_download_leaves_nothing(
    served: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind: Any = torchvision.datasets.KMNIST
    wrong = [*kind.resources[:3], (kind.resources[3][0], "0" * 32)]
    monkeypatch.setattr(kind, "resources", wrong)
    with pytest.raises(UserError, match=r"KMNIST.*download failed.*corrupted.*place ") as caught:
        prepare_data(DATASETS.parse("kmnist"), tmp_path / "root", tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "root").iterdir()) == []
    assert not (tmp_path / "cache").exists()


def test_a_download_removes_what_killed_ones_have_left(tmp_path: Path) -> None:
    for name, age in ((".download-abcd1234", 1e6), (".download-abcd1235", 0.0)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_bytes(b"half")
        for path in (tmp_path / name / "part", tmp_path / name):
            os.utime(path, (time.time() - age, time.time() - age))
    fetch(lambda folder: Path(folder, "whole").write_bytes(b"all"), "X", "place it", tmp_path,
          lambda line: None)
    assert files_below(tmp_path) == [".download-abcd1235/part", "whole"]


def test_neither_to_hand_nor_downloadable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: Site
) -> None:
    monkeypatch.setattr(torchvision.datasets.KMNIST, "mirrors", [f"{served.url}no/such/place/"])
    with pytest.raises(UserError, match=r"KMNIST.*no/such/place.*404.*train-images.*in .*raw"):
        prepare_data(DATASETS.parse("kmnist"), tmp_path, tmp_path / "cache")
    assert files_below(tmp_path) == []


def test_archives_placed_by_hand_are_verified_and_read(served: Site, tmp_path: Path) -> None:
    raw = tmp_path / "root" / "KMNIST" / "raw"
    shutil.copytree(served.folder, raw)
    before = files_below(tmp_path)
    data = decoded("kmnist", tmp_path / "root", tmp_path / "cache")
    assert data.train.images[9].unique().tolist() == [225]
    assert files_below(tmp_path / "root") == [f.removeprefix("root/") for f in before]
    os.truncate(raw / "t10k-images-idx3-ubyte.gz", 100)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte.gz: has the md5"):
        prepare_data(DATASETS.parse("kmnist"), tmp_path / "root", tmp_path / "cache")


def test_raw_file_of_the_wrong_shape_is_named(served: Site, tmp_path: Path) -> None:
    raw = tmp_path / "KMNIST" / "raw"
    raw.mkdir(parents=True)
    for name, array in served.arrays.items():
        (raw / name).write_bytes(_idx(array))
    decoded("kmnist", tmp_path, tmp_path / "cache")
    shape = (30_000, 56, 28)
    (raw / "train-images-idx3-ubyte").write_bytes(
        _idx(served.arrays["train-images-idx3-ubyte"].reshape(shape)))
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(UserError, match="train-images-idx3-ubyte: is not an IDX file of 60000"):
        prepare_data(DATASETS.parse("kmnist"), tmp_path, tmp_path / "cache")


@pytest.fixture
def cifar(site: Site, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """torchvision's CIFAR10, pointed at an archive of the same form on the site."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    kind: Any = torchvision.datasets.CIFAR10
    batches = {}
    for i, name in enumerate([f"data_batch_{k}" for k in range(1, 6)] + ["test_batch"]):
        pixels = np.full((10_000, 3072), i, np.uint8)
        pixels[:, :1024] += 100  # the red plane
        batches[name] = pickle.dumps({"data": pixels, "labels": [i] * 10_000})
    meta = pickle.dumps({"label_names": list("abcdefghij")})
    with tarfile.open(site.folder / kind.filename, "w:gz", compresslevel=1) as tar:
        for name, data in {**batches, "batches.meta": meta}.items():
            member = tarfile.TarInfo(f"{kind.base_folder}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    sums = {name: hashlib.md5(data).hexdigest() for name, data in batches.items()}
    packed = (site.folder / kind.filename).read_bytes()
    monkeypatch.setattr(kind, "url", site.url + kind.filename)
    monkeypatch.setattr(kind, "tgz_md5", hashlib.md5(packed).hexdigest())
    monkeypatch.setattr(kind, "train_list", [[f"data_batch_{k}", sums[f"data_batch_{k}"]]
                                             for k in range(1, 6)])
    monkeypatch.setattr(kind, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": hashlib.md5(meta).hexdigest()})
    return {kind.filename: packed}


def test_cifar10(cifar: dict[str, bytes], tmp_path: Path) -> None:
    root, cache = tmp_path / "root", tmp_path / "cache"
    data = decoded("cifar10", root, cache)
    assert data.train.images.shape == (50_000, 3, 32, 32)
    assert data.train.images[10_000, :, 5, 5].tolist() == [101, 1, 1]
    assert data.test.labels is not None
    assert data.test.labels.unique().tolist() == [5]
    # from the archive alone, placed by hand; then from a broken batch, and a broken archive
    by_hand = tmp_path / "by_hand"
    by_hand.mkdir()
    (archive := by_hand / next(iter(cifar))).write_bytes(cifar[archive.name])
    shutil.rmtree(cache)
    assert decoded("cifar10", by_hand, cache).fingerprint == data.fingerprint
    assert files_below(by_hand) == [archive.name]
    shutil.rmtree(cache)
    os.truncate(archive, 1000)
    with pytest.raises(UserError, match=f"{archive}: has the md5"):
        prepare_data(DATASETS.parse("cifar10"), by_hand, cache)
    os.truncate(batch := root / "cifar-10-batches-py" / "data_batch_3", 1000)
    with pytest.raises(UserError, match=f"{batch}: has the md5"):
        prepare_data(DATASETS.parse("cifar10"), root, cache)


# --- image folders --------------------------------------------------------------------------------


def _png(colour: tuple[int, int, int], size: tuple[int, int] = (20, 12)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def _tar(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w:gz" if target.suffix == ".gz" else "w") as tar:
        for file in sorted(folder.rglob("*"), reverse=True):  # stored in another order
            tar.add(file, f"wrapped/{file.relative_to(folder)}", recursive=False)
    return target


def _zip(folder: Path, target: Path) -> Path:
    with zipfile.ZipFile(target, "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, str(file.relative_to(folder)))
    return target


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three classes by two splits, 4 + 2 images each, and files that are no images."""
    folder = tmp_path / "pictures"
    for split, count in (("train", 4), ("test", 2)):
        for c, kind in enumerate(("ant", "bee", "cat")):
            (folder / split / kind).mkdir(parents=True)
            for i in range(count):
                (folder / split / kind / f"{i}.png").write_bytes(_png((50 * c, 10 * i, 7)))
    (folder / "readme.txt").write_text("no image")
    (folder / "train" / "ant" / "._0.png").write_text("macOS's, no image either")
    return folder


@pytest.mark.parametrize("pack", [lambda f: f, lambda f: _tar(f, f.with_suffix(".tar")),
                                  lambda f: _tar(f, f.with_suffix(".tar.gz")),
                                  lambda f: _zip(f, f.with_suffix(".zip"))])
def test_folder_and_archives_alike(
    pack: Callable[[Path], Path], pictures: Path, tmp_path: Path
) -> None:
    path, said = pack(pictures), list[str]()
    data = decoded({"name": "image_folder", "path": path.name, "image_size": 8}, tmp_path,
                   tmp_path / "cache", said)
    assert data.facts == DataFacts((3, 8, 8), 3, 12, 6, data.facts.digest, 0.911)
    assert data.train.labels is not None
    assert data.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert data.train.images[:, :, 4, 4].tolist() == [
        [50 * c, 10 * i, 7] for c in range(3) for i in range(4)]
    assert data.test.images.shape == (6, 3, 8, 8)
    assert said == [f"decoding 12 + 6 images of {path}, 3 classes; 2 other files ignored"]
    part = DATASETS.parse({"name": "image_folder", "path": path.name, "image_size": 8})
    prepare_data(part, tmp_path, tmp_path / "cache", said.append)
    assert len(said) == 1  # not decoded again
    part = DATASETS.parse({"name": "image_folder", "path": str(pictures), "image_size": 8})
    assert facts_of(part, tmp_path) == data.facts  # absolute path, and the same digest
    (pictures / "test" / "bee" / "1.png").write_bytes(_png((1, 2, 3), (300, 300)))
    assert facts_of(part, tmp_path).digest != data.facts.digest


def test_without_splits_or_classes(tmp_path: Path) -> None:
    folder = tmp_path / "flat"
    folder.mkdir()
    for i in range(20):
        Image.new("L", (8, 8), i).save(folder / f"{i:02}.PNG")
    value = {"name": "image_folder", "path": "flat", "image_size": 8, "channels": 1}
    data = decoded(value, tmp_path, tmp_path / "cache")
    assert data.facts == DataFacts((1, 8, 8), 0, 18, 2, data.facts.digest, 0.0)
    assert (data.train.labels, data.test.labels) == (None, None)
    assert data.test.images[:, 0, 0, 0].tolist() == [9, 19]
    (folder / "deeper").mkdir()
    (folder / "00.PNG").rename(folder / "deeper" / "00.PNG")  # a class for one only: no labels
    assert facts_of(DATASETS.parse(value), tmp_path).classes == 0


def test_centre_crop_orientation_and_modes(tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    wide = np.zeros((10, 30, 3), np.uint8)
    wide[:, 10:20] = (255, 0, 0)  # the centre square
    Image.fromarray(wide).save(folder / "00.bmp")
    turned = Image.Exif()
    turned[0x0112] = 3  # upside down
    halves = np.zeros((16, 16, 3), np.uint8)
    halves[:8] = 255
    Image.fromarray(halves).save(folder / "01.png", exif=turned)
    for i in range(2, 12):
        Image.new("RGBA", (8, 8), (i, 0, 0, 128)).save(folder / f"{i:02}.png")
    data = decoded({"name": "image_folder", "path": "odd", "image_size": 10}, tmp_path,
                   tmp_path / "cache")
    assert data.train.images[0].flatten(1).unique(dim=1).tolist() == [[255], [0], [0]]
    assert data.train.images[1, 0, 0, 0] == 0
    assert data.train.images[1, 0, 9, 0] == 255
    assert data.train.images[2].flatten(1).unique(dim=1).tolist() == [[2], [0], [0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"not an image", "no known image format"),
     (_png((200, 10, 3), (64, 64))[:-30], "truncated"),
     ("bits16", "more than 8 bits"), ("bomb", "decompression bomb")])
@pytest.mark.parametrize("packed", [False, True])
def test_broken_image_is_named(
    content: bytes | str, message: str, packed: bool, pictures: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    buffer = io.BytesIO()
    if content == "bits16":
        Image.fromarray(np.full((9, 9), 40_000, np.uint16)).save(buffer, "PNG")
    elif content == "bomb":
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
        Image.new("L", (40, 40)).save(buffer, "PNG")  # over the limit, not yet over twice the limit
    data = buffer.getvalue() if isinstance(content, str) else content
    bad = pictures / "train" / "bee" / "2.png"
    bad.write_bytes(data)
    path = _tar(pictures, tmp_path / "pictures.tar.gz") if packed else pictures
    place = f"{path}, member wrapped/train/bee/2.png" if packed else str(bad)
    part = DATASETS.parse({"name": "image_folder", "path": str(path), "image_size": 8})
    with pytest.raises(UserError, match=f"(?i){place}: cannot be read.*{message}") as caught:
        prepare_data(part, tmp_path, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "cache").exists()


def _cut(path: Path, size: int) -> Path:
    os.truncate(path, size)
    return path


def test_bad_folders_and_archives_are_named(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "few").mkdir()
    (tmp_path / "few" / "1.png").write_bytes(_png((1, 2, 3)))
    (tmp_path / "text.png.gz").write_text("text")
    plain = _tar(pictures, tmp_path / "whole.tar")
    with tarfile.open(plain) as tar:
        boundary = next(m.offset for m in tar if m.name.endswith("bee/1.png"))
    whole = _tar(pictures, tmp_path / "cut.tar.gz")
    flipped = bytearray(plain.read_bytes())
    flipped[boundary + 3] ^= 255
    (tmp_path / "flipped.tar").write_bytes(flipped)
    shutil.copy(plain, tmp_path / "cut.tar")
    cases = {
        "nowhere": "No such file",
        "empty": "holds no images",
        "few": r"too few images \(1\)",
        "text.png.gz": "neither a folder nor",
        str(_cut(whole, whole.stat().st_size // 2)): "broken archive",
        str(_cut(tmp_path / "cut.tar", boundary)): "broken archive: it is cut off",
        str(_cut(_zip(pictures, tmp_path / "cut.zip"), 500)): "broken archive",
        "flipped.tar": "broken archive",
    }
    for path, message in cases.items():
        part = DATASETS.parse({"name": "image_folder", "path": path, "image_size": 8})
        with pytest.raises(UserError, match=f"{tmp_path / path}: .*{message}") as caught:
            facts_of(part, tmp_path)
        assert "\n" not in str(caught.value)
    part = DATASETS.parse({"name": "image_folder", "path": "whole.tar", "image_size": 8})
    assert facts_of(part, tmp_path).train == 12


def test_zip_member_with_a_wrong_checksum_is_named(pictures: Path, tmp_path: Path) -> None:
    path = _zip(pictures, tmp_path / "pictures.zip")
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("test/ant/0.png").header_offset
    data[offset + 30 + len("test/ant/0.png") + 40] ^= 255
    path.write_bytes(data)
    part = DATASETS.parse({"name": "image_folder", "path": str(path), "image_size": 8})
    with pytest.raises(UserError, match=r"pictures\.zip: .*test/ant/0\.png"):
        prepare_data(part, tmp_path, tmp_path / "cache")


def test_real_colour_archive_is_listed(data_root: Path) -> None:
    if not (data_root / "cifar10-jpeg.tar.gz").exists():
        pytest.skip("no cifar10-jpeg.tar.gz in the data root")
    part = DATASETS.parse({"name": "image_folder", "path": "cifar10-jpeg.tar.gz", "image_size": 32})
    facts = facts_of(part, data_root)
    assert (facts.classes, facts.train, facts.test) == (10, 50_000, 10_000)
