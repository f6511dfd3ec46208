"""The cache of decoded data: each data set is written once, atomically, and all runs share it."""

from __future__ import annotations

import hashlib
import json
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gan_bench import rng
from gan_bench.atomic import remove_abandoned, scratch_folder
from gan_bench.components.data import download
from gan_bench.components.data.arrays import Arrays
from gan_bench.components.data.checksum import checksum
from gan_bench.data_facts import DataFacts
from gan_bench.errors import Say, UserError
from gan_bench.registry import DATASETS, Part, targets_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from numpy.typing import NDArray

VERSION = 1  # of the format and of the decoders: raise it when their bytes change
META = "meta.json"
UNFINISHED = ".unfinished-"  # how the name of an entry begins that is being written


@dataclass(frozen=True)
class Split:
    """One split of a data set, on a device.

    Attributes:
        images: `(N, C, H, W)` uint8, or `(N, D)` float32.
        labels: `(N,)` int64, or None.
        inputs: `(N, C, H, W)` uint8, the image that each example is to be made from; None without
            pairs.
    """

    images: torch.Tensor
    labels: torch.Tensor | None
    inputs: torch.Tensor | None = None


@dataclass(frozen=True)
class Dataset:
    """A data set, on a device; it is read-only.

    Attributes:
        name: Its name in the registry.
        facts: The description from before it was read.
        train: The training split that networks are trained with.
        test: The held-out split.
        fingerprint: sha256 of all arrays, of the whole training split: 16 hex digits.
        all_train: The whole training split, if `train` is a part of it.
        targets: Of pairs, the name and the fingerprint of the data set whose images are the
            targets; None without pairs.
    """

    name: str
    facts: DataFacts
    train: Split
    test: Split
    fingerprint: str
    all_train: Split | None = None
    targets: tuple[str, str] | None = None

    @property
    def whole(self) -> Split:
        """The training split that extractors learn from and generated images are compared with."""
        return self.train if self.all_train is None else self.all_train

    @property
    def examples(self) -> tuple[str, str]:
        """The name and the fingerprint of the examples and labels alone, without inputs.

        What is trained on them is shared by all data sets that have them.
        """
        return self.targets or (self.name, self.fingerprint)

    @property
    def channel(self) -> Dataset | None:
        """The grey data set in the first channel, if this data set is a stack of it."""
        first_channel: Callable[[Dataset], Dataset] | None
        first_channel = DATASETS[self.name].facts.channel
        return first_channel(self) if first_channel else None


def prepare_data(dataset: Part, data_root: Path, cache: Path,
                 say: Say = lambda line: None) -> None:
    """Download, verify and decode the data set, unless the cache holds it already.

    Several processes may call this at once. A damaged cache is recreated; its content is checked.

    Args:
        dataset: A part of `DATASETS`.
        data_root: The user's data, in torchvision's layout; only a download writes there.
        cache: The folder for the decoded data.
        say: Receives lines of progress; none if the cache holds the data.

    Raises:
        UserError: The data is missing, broken, or cannot be written to the cache.
    """
    facts = _describe(dataset, data_root)
    folder = _folder(dataset, facts, cache)
    remove_abandoned(folder.parent, UNFINISHED)
    remove_abandoned(data_root, download.UNFINISHED)
    damage = _damage(folder)
    if damage is None:
        _add_checksums(folder)
        return
    if folder.exists():
        say(f"{folder}: {damage}; recreating it")
    arrays: Arrays = DATASETS.build(_source(dataset, facts), data_root, say)
    _check(dataset, arrays, facts)
    try:
        _write(folder, arrays)
    except OSError as error:
        raise UserError(f"{folder}: the decoded data cannot be written: {error.strerror or error}; "
                        "free some space, or name another root") from error


def load(
    dataset: Part, data_root: Path, cache: Path, device: str, *, facts: DataFacts | None = None
) -> Dataset:
    """Return the data set from the cache, on `device`.

    On the CPU the tensors are maps of the cached files, which all processes share.

    Args:
        dataset: A part of `DATASETS`.
        data_root: As for `prepare_data`.
        cache: As for `prepare_data`.
        device: `"cpu"`, `"cuda"`, `"cuda:1"`, …
        facts: The description from the plan; without it, the user's folder is listed again.

    Raises:
        UserError: The cache lacks the data set, or holds it damaged.
    """
    import numpy as np
    import torch

    facts = facts or _describe(dataset, data_root)
    folder = _folder(dataset, facts, cache)
    damage = _damage(folder)
    if damage:
        raise UserError(f"{folder}: {damage}; start the experiment again, which prepares the data")

    def tensor(name: str) -> torch.Tensor:
        # Copy on write: processes share the pages, and an accidental write stays in its process.
        return torch.from_numpy(np.load(folder / f"{name}.npy", mmap_mode="c")).to(device)

    meta = json.loads((folder / META).read_text())
    tensors = {name: tensor(name) for name in meta["sizes"]}
    targets = targets_of(dataset)

    def split(name: str) -> Split:
        return Split(tensors[f"{name}-images"], tensors.get(f"{name}-labels"),
                     tensors.get(f"{name}-inputs"))

    whole = split("train")
    data = Dataset(dataset.name, facts, whole, split("test"), meta["fingerprint"],
                   targets=(targets.name, meta["targets"]) if targets is not None else None)
    if facts.whole is None:
        return data
    return replace(data, train=_part(whole, facts.train), all_train=whole)


def _part(whole: Split, count: int) -> Split:
    """Return so many examples of a split, in its order; a larger part holds all smaller ones."""
    import torch

    draws = rng.generator(0, "data/part")
    chosen = torch.randperm(len(whole.images), generator=draws)[:count].sort().values
    chosen = chosen.to(whole.images.device)

    def rows(of: torch.Tensor | None) -> torch.Tensor | None:
        return None if of is None else of[chosen]

    return Split(whole.images[chosen], rows(whole.labels), rows(whole.inputs))


def _source(dataset: Part, facts: DataFacts) -> Part:
    """Return the data set without the argument of a part: what is decoded and cached is whole."""
    args = dict(dataset.args)
    if facts.whole is not None or args.get("train") is None:
        args.pop("train", None)
    of = args.get("of")
    if targets_of(dataset) is not None and isinstance(of, dict) and (
            facts.whole is not None or of.get("train") is None):
        args["of"] = {key: value for key, value in of.items() if key != "train"}
    return Part(name=dataset.name, args=args)


def _describe(dataset: Part, data_root: Path) -> DataFacts:
    return DATASETS[dataset.name].facts.describe(data_root, **dataset.args)


def _folder(dataset: Part, facts: DataFacts, cache: Path) -> Path:
    code = "+".join(filter(None, (  # of a third-party decoder
        DATASETS[part.name].source for part in (dataset, targets_of(dataset)) if part)))
    args = _source(dataset, facts).args
    key = json.dumps([VERSION, args, facts.digest, *([code] if code else [])], sort_keys=True)
    return cache / "data" / f"{dataset.name}-{hashlib.sha256(key.encode()).hexdigest()[:12]}"


def _named(arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Return the arrays by file name, in a fixed order, without those that are None."""
    named = {"train-images": arrays.train.images, "train-labels": arrays.train.labels,
             "test-images": arrays.test.images, "test-labels": arrays.test.labels,
             "train-inputs": arrays.train.inputs, "test-inputs": arrays.test.inputs}
    return {name: array for name, array in named.items() if array is not None}


def _check(dataset: Part, arrays: Arrays, facts: DataFacts) -> None:
    """Refuse arrays that differ from the data set's description."""
    dtype = "uint8" if facts.is_image else "float32"
    train = facts.whole or facts.train
    for split, count in ((arrays.train, train), (arrays.test, facts.test)):
        images, labels = split.images, split.labels
        summary = len(images), images.shape[1:], str(images.dtype)
        labels_match = labels is None or len(labels) == count
        if facts.input and (split.inputs is None or split.inputs.shape != (count, *facts.input)):
            raise UserError(f"dataset {dataset.name}: an input of shape {facts.input} for each "
                            f"example was announced, and not decoded")
        if facts.input and facts.input[0] not in (1, facts.shape[0]):
            raise UserError(f"dataset {dataset.name}: inputs have {facts.input[0]} channels and "
                            f"targets {facts.shape[0]}; make inputs grey, or give them as many")
        if summary != (count, facts.shape, dtype) or not labels_match:
            raise UserError(f"dataset {dataset.name}: {len(images):,} examples "
                            f"{images.shape[1:]} {images.dtype} were decoded, but {count:,} "
                            f"{facts.shape} {dtype} were announced; if the files have changed "
                            "meanwhile, run again")


def fingerprint(arrays: Arrays) -> str:
    """Return the hash of a data set's arrays: 16 hex digits."""
    return hash_arrays(_named(arrays))[:16]


def hash_arrays(named: Mapping[str, NDArray[Any]]) -> str:
    """Return the sha256 of names, shapes, types and values, in the order of the names."""
    import numpy as np

    digest = hashlib.sha256()
    for name, array in named.items():
        digest.update(f"{name} {array.shape} {array.dtype.str}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def _write(folder: Path, arrays: Arrays) -> None:
    import numpy as np

    named = _named(arrays)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(folder.parent, UNFINISHED) as scratch:
        entry = scratch / "entry"
        entry.mkdir()
        for name, array in named.items():
            np.save(entry / f"{name}.npy", array)
        (entry / META).write_text(_meta(entry, _fingerprints(arrays), list(named)))
        if _damage(folder):
            with suppress(FileNotFoundError):
                folder.rename(scratch / "damaged")
        try:
            entry.rename(folder)
        except OSError:
            if _damage(folder):  # otherwise another process was faster
                raise


def _fingerprints(arrays: Arrays) -> dict[str, str]:
    """The fingerprint of all arrays, and of pairs that of the targets and labels alone."""
    if arrays.train.inputs is None:
        return {"fingerprint": fingerprint(arrays)}
    alone = Arrays(replace(arrays.train, inputs=None), replace(arrays.test, inputs=None))
    return {"fingerprint": fingerprint(arrays), "targets": fingerprint(alone)}


def _meta(folder: Path, fingerprints: dict[str, str], names: list[str]) -> str:
    """The content of a cached data set's `meta.json`."""
    files = {name: folder / f"{name}.npy" for name in names}
    meta: dict[str, Any] = {
        **fingerprints,
        "sizes": {name: file.stat().st_size for name, file in files.items()},
        "checksums": {name: checksum(file) for name, file in files.items()}}
    return json.dumps({**meta, "self": _digest(meta)}, indent=1) + "\n"


def _digest(meta: dict[str, Any]) -> str:
    """A hash of all that `meta.json` holds but this hash."""
    text = json.dumps({key: meta[key] for key in meta if key != "self"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _add_checksums(folder: Path) -> None:
    """Add the checksums to an intact cache that an earlier version wrote, if it can be written."""
    meta = json.loads((folder / META).read_text())
    if "checksums" not in meta:
        temporary = folder / f".{META}-{uuid.uuid4().hex}"
        with suppress(OSError):
            try:
                temporary.write_text(_meta(folder, {"fingerprint": meta["fingerprint"]},
                                           list(meta["sizes"])))
                temporary.rename(folder / META)
            finally:
                temporary.unlink(missing_ok=True)


def _damage(folder: Path) -> str | None:
    """Return what is wrong with a cached data set, by its content; None if nothing is."""
    if not folder.exists():
        return "is missing"
    try:
        meta = json.loads((folder / META).read_text())
        for name, size in meta["sizes"].items():
            actual = (folder / f"{name}.npy").stat().st_size
            if actual != size:
                return f"{name}.npy has {actual:,} bytes and should have {size:,}"
        return _changed(folder, meta)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return f"is damaged ({type(error).__name__}: {error})"


def _changed(folder: Path, meta: dict[str, Any]) -> str | None:
    """Which file of a cached data set does not hold what was written; None if all do."""
    import numpy as np

    if "checksums" not in meta:  # written by an earlier version: the fingerprint tells, slowly
        named = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in meta["sizes"]}
        return None if hash_arrays(named)[:16] == meta["fingerprint"] else "its content has changed"
    if meta["self"] != _digest(meta):
        return f"the content of {META} has changed"
    for name, expected in meta["checksums"].items():
        if checksum(folder / f"{name}.npy") != expected:
            return f"the content of {name}.npy has changed"
    return None
