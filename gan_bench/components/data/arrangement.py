"""Sorts the images of a folder or archive into splits and classes, by their names alone."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from gan_bench.components.data.files import Listing, is_passed_over
from gan_bench.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm")
HELD_OUT = 10  # every tenth, if there are no folders of splits
TRAIN = ("train", "training")
TEST = ("test", "testing", "val", "valid", "validation", "dev")  # the likeliest first
OTHER_SPLITS = ("eval", "evaluation", "holdout", "held_out", "heldout", "extra", "unlabeled",
                "unlabelled")
MOST_CLASSES = 8  # that a note names


@dataclass(frozen=True)
class Arrangement:
    """The splits and classes of the images.

    Attributes:
        train: Names of the training images, sorted.
        test: Names of the held-out images, sorted.
        labels: The class of each image; empty without class folders.
        classes: Names of the classes, sorted.
        digest: A hash of the names (without the folders that all images share) and sizes of the
            images: the same for a folder and an archive of it.
        unlabelled: Why there are no labels, although there are folders; empty otherwise.
        ignored: Number of other files.
        left_out: Which images are in no split, and which links are broken, in words; or empty.
    """

    train: list[str]
    test: list[str]
    labels: Mapping[str, int]
    classes: list[str]
    digest: str
    unlabelled: str
    ignored: int
    left_out: str

    @property
    def test_shares(self) -> list[float]:
        """The share of each class among the held-out images."""
        counts = Counter(self.labels[name] for name in self.test) if self.classes else Counter()
        return [counts[label] / len(self.test) for label in range(len(self.classes))]

    def describe_labels(self) -> str:
        """Return `3 classes`, or `no labels` and why."""
        if self.classes:
            return f"{len(self.classes)} class{'es' * (len(self.classes) != 1)}"
        return f"no labels{self.unlabelled}"

    def notes(self) -> tuple[str, ...]:
        """Return what a plan says of the images besides their number, in lines."""
        labels = self.describe_labels()
        if self.classes:
            train, test = (Counter(self.labels[name] for name in names)
                           for names in (self.train, self.test))
            counts = [f"{name} {train[i]:,} + {test[i]:,}" for i, name in enumerate(self.classes)]
            more = len(counts) - MOST_CLASSES
            shown = counts[:MOST_CLASSES] + ([f"{more:,} more"] if more > 0 else [])
            labels = f"{labels}: {', '.join(shown)}"
        return (labels, f"left out: {self.left_out}") if self.left_out else (labels,)


def is_image(name: str) -> bool:
    """Whether a file counts as an image: by its suffix, unless it is hidden or metadata."""
    return name.lower().endswith(SUFFIXES) and not any(map(is_passed_over, name.split("/")))


def arrange(listing: Listing, path: Path) -> Arrangement:
    """Sort images into splits and classes by their names.

    Args:
        listing: The images, as `list_files` returns them.
        path: The folder or archive, for messages.

    Raises:
        UserError: There are no images, or too few to hold any out, or folders of splits without
            one to train on or to hold out.
    """
    images, broken = sorted(listing.sizes), listing.describe_broken()
    if not images:
        files = listing.others + len(listing.broken)
        raise UserError(f"{path}: holds no images ({', '.join(SUFFIXES)}) among its {files:,} files"
                        + (f"; {broken}; pack the files themselves" if broken else ""))
    parts = _below_shared(images)
    tops = {inner[0].lower() for inner in parts.values() if len(inner) > 1}
    splits = _splits(tops, path)
    if splits:
        train, test = ([name for name in images if parts[name][0].lower() == split]
                       for split in splits)
        folders = {name: parts[name][1:-1] for name in train + test}
    elif len(images) >= HELD_OUT:
        train = [name for i, name in enumerate(images) if i % HELD_OUT != HELD_OUT - 1]
        test = images[HELD_OUT - 1 :: HELD_OUT]
        folders = {name: parts[name][:-1] for name in images}
    else:
        raise UserError(f"{path}: too few images ({len(images)}) to hold out every tenth; add "
                        "images, or sort them into train/ and test/")
    classes, labels, unlabelled = [], {}, _unlabelled(folders)
    if all(len(folder) == 1 for folder in folders.values()):
        classes = sorted({folder[0] for folder in folders.values()})
        index = {name: i for i, name in enumerate(classes)}
        labels = {name: index[folder[0]] for name, folder in folders.items()}
    lines = [f"{'/'.join(parts[name])}\0{listing.sizes[name]}\n" for name in sorted(train + test)]
    if splits not in (None, ("train", "test")):  # the names and sizes alone do not tell them
        lines.insert(0, f"splits {splits}\n")
    digest = hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()[:16]
    others = [name for name in images if name not in folders]
    left_out = [f"{len(others):,} image{'s' * (len(others) > 1)} outside of "
                f"{' and '.join(f'{split}/' for split in splits or ())}, {others[0]:.200} first"
                ] if others else []
    return Arrangement(train, test, labels, classes, digest, unlabelled,
                       listing.others + len(listing.broken) + len(others),
                       "; ".join(left_out + [broken] * bool(broken)))


def _below_shared(images: Sequence[str]) -> dict[str, list[str]]:
    """The parts of each name, without the folders that all images share.

    A folder that holds everything, as in many archives, is neither a split nor a class.
    """
    whole = {name: [part for part in name.split("/") if part not in ("", ".")] for name in images}
    parents = [parts[:-1] for parts in whole.values()]
    ends = zip(min(parents), max(parents), strict=False)
    shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], ends))
    return {name: parts[shared:] for name, parts in whole.items()}


def _splits(tops: set[str], path: Path) -> tuple[str, str] | None:
    """Which of the folders at the top are the training and the held-out split; None: neither."""
    train = next((name for name in TRAIN if name in tops), None)
    test = next((name for name in TEST if name in tops), None)
    if train and test:
        return train, test
    # A class may be called `train`, beside others.
    if len(tops) > 1 and tops <= {*TRAIN, *TEST, *OTHER_SPLITS}:
        missing = ("train/", "to train on") if test else ("test/ or val/", "to hold out")
        raise UserError(f"{path}: has {', '.join(f'{top}/' for top in sorted(tops))} at its top, "
                        f"and no {missing[0]}; name the folder {missing[1]} so")
    return None


def _unlabelled(folders: Mapping[str, Sequence[str]]) -> str:
    """Why images have no labels, by the folders around each; empty if no image has a folder."""
    if not any(folders.values()):
        return ""
    for name, around in sorted(folders.items()):
        if len(around) != 1:
            where = "is in no class folder" if not around else "is below a class folder's folder"
            return f", for {name:.200} {where}"
    return ""
