"""Folders and archives as users have them: links, junk, splits by other names, labels that fail."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import socket
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from gan_bench.cli.planning.plan import plan_text
from gan_bench.components.data import load, prepare_data
from gan_bench.config.experiment import load_experiment
from gan_bench.data_facts import DataFacts
from gan_bench.errors import UserError
from gan_bench.registry import DATASETS, Part


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), (shade, 255 - shade, 0)).save(buffer, "PNG")
    return buffer.getvalue()


def fill(folder: Path, *names: str) -> Path:
    """Write an image of another shade under each name."""
    for shade, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(shade))
    return folder


def numbered(*folders: str, count: int = 12) -> list[str]:
    return [f"{folder}/{i:03}.png" for folder in folders for i in range(count)]


Pack = Callable[[Path], Path]


def part_of(path: Path) -> Part:
    return DATASETS.parse({"name": "image_folder", "path": str(path), "image_size": 9})


def facts_of(path: Path) -> DataFacts:
    return DATASETS["image_folder"].facts.describe(path.parent, **part_of(path).args)


def shades(path: Path, said: list[str] | None = None) -> list[list[int]]:
    """The shade of each training and each held-out image."""
    part, cache = part_of(path), path.parent / "cache"
    prepare_data(part, path.parent, cache, ([] if said is None else said).append)
    data = load(part, path.parent, cache, "cpu")
    return [split.images[:, 0, 0, 0].tolist() for split in (data.train, data.test)]


def tar_of(folder: Path, *, suffix: str = ".tar") -> Path:
    path = folder.with_suffix(suffix)
    with tarfile.open(path, "w:gz" if suffix.endswith("gz") else "w") as tar:
        tar.add(folder, ".")
    return path


def zip_of(folder: Path) -> Path:
    """As `zip --symlinks` writes it."""
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_symlink():
                link = zipfile.ZipInfo(str(file.relative_to(folder)))
                link.create_system, link.external_attr = 3, 0o120777 << 16
                archive.writestr(link, os.readlink(file))
            elif file.is_file():
                archive.write(file, str(file.relative_to(folder)))
    return path


def saved(mode: str, colour: object, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (9, 9), colour).save(buffer, kind, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def other_frames(shade: int, count: int) -> dict[str, Any]:
    frames = [Image.new("RGB", (9, 9), (shade + i, 0, 0)) for i in range(count)]
    return {"save_all": True, "append_images": frames}


def test_what_is_not_used_of_images_is_said(tmp_path: Path) -> None:
    folder, said = fill(tmp_path / "f", *numbered("a", count=20)), list[str]()
    opaque = {"b/0.png": saved("RGBA", (70, 1, 2, 255), "PNG"),
              "b/1.gif": saved("RGB", (71, 0, 0), "GIF"), "b/2.tif": saved("RGB", 72, "TIFF"),
              "b/3.webp": saved("RGB", (73, 0, 0), "WEBP", lossless=True)}
    hiding = {"c/0.png": saved("RGBA", (60, 1, 2, 254), "PNG"),
              "c/1.png": saved("LA", (61, 0), "PNG"),
              "c/2.png": saved("RGB", (62, 0, 0), "PNG", transparency=(62, 0, 0)),
              "c/3.webp": saved("RGBA", (63, 0, 0, 9), "WEBP", lossless=True, exact=True)}
    animated = {"d/0.gif": saved("RGB", (50, 0, 0), "GIF", **other_frames(90, 2)),
                "d/1.png": saved("RGB", (51, 0, 0), "PNG", **other_frames(90, 1)),
                "d/2.tif": saved("RGB", (52, 0, 0), "TIFF", **other_frames(90, 1)),
                "d/3.webp": saved("RGB", (53, 0, 0), "WEBP", lossless=True, **other_frames(90, 1))}
    for name, content in {**opaque, **hiding, **animated}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    train, test = shades(folder, said)
    assert {60, 61, 62, 63, 50, 51, 52, 53} <= {*train, *test}
    assert said[1:] == [f"{folder}: 4 images have transparent pixels: the colours below them count "
                        f"(c/0.png first)",
                        f"{folder}: 4 images have several frames: the first counts (d/0.gif first)"]
    for name in [*hiding, *list(animated)[1:]]:
        (folder / name).unlink()
    said.clear()
    shades(folder, said)
    assert said[1:] == [f"{folder}: 1 image has several frames: the first counts (d/0.gif)"]
    (folder / "d/0.gif").unlink()
    said.clear()
    shades(folder, said)
    assert len(said) == 1


# --- links in archives ----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz"])
def test_a_hard_link_in_a_tar_is_the_file_that_it_links(tmp_path: Path, suffix: str) -> None:
    folder = fill(tmp_path / "hard", *numbered("cat", "dog"))
    for i in range(4):
        os.link(folder / f"cat/{i:03}.png", folder / f"dog/twin{i}.png")
    path = tar_of(folder, suffix=suffix)
    with tarfile.open(path) as tar:
        assert sum(member.islnk() for member in tar) == 4
    facts = facts_of(path)
    assert (facts.train, facts.test, facts.classes) == (26, 2, 2)
    assert facts == facts_of(folder)  # the digest too
    said: list[str] = []
    assert shades(path, said) == shades(folder)
    assert said == [f"decoding 26 + 2 images of {path}, 2 classes; 0 other files ignored"]


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_a_symlink_within_an_archive_is_the_file_that_it_links(
    tmp_path: Path, pack: Pack
) -> None:
    folder = fill(tmp_path / "linked", *numbered("pool"), *numbered("b", count=2))
    (folder / "a").mkdir()
    for i in range(8):
        (folder / f"a/{i}.png").symlink_to(f"../pool/{i:03}.png")
    (folder / "b" / "chain.png").symlink_to("../a/3.png")
    (folder / "b" / "through.png").symlink_to("../way/005.png")
    (folder / "way").symlink_to("pool")
    path = pack(folder)
    facts = facts_of(path)
    assert (facts.train + facts.test, facts.classes) == (12 + 8 + 4 + 12, 4)
    assert facts.digest == facts_of(folder).digest
    assert shades(path) == shades(folder)


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_links_that_leave_an_archive_are_counted_and_named(tmp_path: Path, pack: Pack) -> None:
    folder = fill(tmp_path / "f", *numbered("cat", "dog"))
    outside = fill(tmp_path / "outside", "secret.png")
    for name, target in (("cat/abs.png", str(outside / "secret.png")), ("dog/gone.png", "no.png"),
                         ("dog/self.png", "self.png"), ("cat/up.png", "../../outside/secret.png"),
                         ("dog/a.png", "b.png"), ("dog/b.png", "a.png"), ("more", str(outside)),
                         ("cat/loop", ".."), ("round", "."), ("cat/.#000.png", "me@host:1")):
        (folder / name).symlink_to(target)
    path, said = pack(folder), list[str]()
    facts = facts_of(path)
    assert (facts.train, facts.test, facts.classes) == (22, 2, 2)
    named = f"9 links lead to no file of the archive, {'./' * (pack is tar_of)}cat/abs.png to "
    assert facts.notes[1].startswith(f"left out: {named}{outside}")
    assert len(shades(path, said)[0]) == 22
    assert f"2 classes; 9 other files ignored: {named}" in said[0]
    for file in folder.rglob("0*.png"):
        file.unlink()
    with pytest.raises(UserError, match=rf"holds no images .* 9 files; {named}.*; pack the files"):
        facts_of(pack(folder))


@pytest.mark.parametrize("names", [("./cat/{}.png", "cat/{}.png"), ("cat/{}.png", "/cat/{}.png"),
                                   ("cat/{}.png", "cat/./{}.png"), ("cat/{}.png", "cat/{}.png")])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_two_files_of_a_name_in_an_archive_are_refused(tmp_path: Path, names: tuple[str, str],
                                                       kind: str) -> None:
    """As `tar -rf` from another folder adds them: one of two equal images might be held out."""
    path, members = tmp_path / f"f.{kind}", [name.format(i) for name in names for i in range(20)]
    for count in (20, 21):
        if kind == "tar":
            with tarfile.open(path, "w") as tar:
                for name in members[:count]:
                    member = tarfile.TarInfo(name)
                    member.size = len(png(0))
                    tar.addfile(member, io.BytesIO(png(0)))
        else:
            with warnings.catch_warnings(), zipfile.ZipFile(path, "w") as archive:
                warnings.simplefilter("ignore")
                for name in members[:count]:
                    archive.writestr(name, png(0))
        if count == 20:
            assert (facts_of(path).train, facts_of(path).test) == (18, 2)
    both = f" (as {members[0]} and {members[20]})" if len(set(names)) == 2 else ""
    with pytest.raises(UserError) as why:
        facts_of(path)
    assert str(why.value) == (f"{path}: holds two files called cat/0.png{both}; pack it again with "
                              f"one")


def tar_with(path: Path, *links: tuple[str, str], files: int = 12) -> Path:
    """Write a tar of one class, with links: (name, target)."""
    with tarfile.open(path, "w") as archive:
        for i in range(files):
            member = tarfile.TarInfo(f"cat/{i}.png")
            member.size = len(png(0))
            archive.addfile(member, io.BytesIO(png(0)))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return path


def test_two_links_of_one_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    assert facts_of(tar_with(path, ("a.png", "cat/0.png"), ("b.png", "cat/0.png"))).train == 13
    for links in ([("a.png", "cat/0.png")] * 2, [("cat/0.png", "1.png")]):
        with pytest.raises(UserError, match=r"holds two files called .*; pack it again with one"):
            facts_of(tar_with(path, *links))
    deep = "/".join("d" for _ in range(5000))
    assert facts_of(tar_with(path, *((f"{i}", f"{deep}/{i}.png") for i in range(50)))).train == 11


@pytest.mark.long
def test_links_that_multiply_are_refused(tmp_path: Path) -> None:
    links = ((f"l{i}", "cat") for i in range(2000))
    with pytest.raises(UserError, match="would unpack to"):
        facts_of(tar_with(tmp_path / "a.tar", *links, files=2000))


# --- what is no image -----------------------------------------------------------------------------


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder open to all; a test may give root's privileges away while it runs."""
    folder, before = Path(tempfile.mkdtemp()), os.geteuid()
    folder.chmod(0o755)
    yield folder
    if os.geteuid() != before:
        os.seteuid(before)
    for path in [path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink()]:
        path.chmod(0o755)
    shutil.rmtree(folder)


def _drop_privileges() -> None:
    if os.geteuid() == 0:
        os.seteuid(65534)  # root may read anything


def test_what_is_no_image_does_not_stop_a_data_set(open_folder: Path) -> None:
    folder = fill(open_folder / "f", *numbered("cat", "dog"))
    plain = facts_of(folder)
    for link, target in ((".#000.png", "me@host:1"), ("readme.txt", "gone.txt"), ("self", "self"),
                         ("cat/..png", "..png"), ("dog/gone", "/nowhere"), ("round", ".")):
        (folder / link).symlink_to(target)
    for junk in ("lost+found", ".Trash-0", "cat/@eaDir", "__MACOSX", "$RECYCLE.BIN", "dog/.git"):
        fill(folder / junk, "000.png", "deep/001.png")
    fill(folder / "cat/@eaDir", "003.png/SYNOPHOTO_THUMB_M.png")
    for name in ("Thumbs.db", ".DS_Store", "._000.png", "cat/desktop.ini"):
        (folder / name).write_bytes(b"no image")
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(folder / "socket.png"))
    (folder / "notes.md").write_text("unreadable")
    (folder / "notes.md").chmod(0)
    for junk in ("lost+found", ".Trash-0", "cat/@eaDir"):
        (folder / junk).chmod(0)
    _drop_privileges()
    assert facts_of(folder) == plain
    assert facts_of(folder).notes == plain.notes


def test_what_would_count_and_cannot_be_read_is_named(open_folder: Path) -> None:
    folder = fill(open_folder / "f", *numbered("cat", "dog"))
    for target, why in (("no.png", "No such file"), ("zzz.png", "Too many levels")):
        (folder / "cat" / "zzz.png").symlink_to(target)
        with pytest.raises(UserError, match=rf"f/cat/zzz\.png: is a link to {target}, which cannot "
                                            rf"be read \({why}.*\); put the file there, or leave"):
            facts_of(folder)
        (folder / "cat" / "zzz.png").unlink()
    (folder / "dog").chmod(0)
    _drop_privileges()
    with pytest.raises(UserError, match=r"f/dog: cannot be read: Permission denied"):
        facts_of(folder)


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_a_folder_and_its_archive_count_the_same_other_files(tmp_path: Path, pack: Pack) -> None:
    folder = fill(tmp_path / "f", *numbered("cat", "dog"), "cat/@eaDir/000.png", "__MACOSX/1.png")
    (folder / "readme.txt").write_text("no image")
    said: list[str] = []
    shades(folder, said)
    path = pack(folder)
    (tmp_path / "cache" / "data").rename(tmp_path / "cache" / "before")
    shades(path, said)
    assert [line.partition(", ")[2] for line in said] == ["2 classes; 1 other files ignored"] * 2


# --- splits and labels ----------------------------------------------------------------------------


@pytest.mark.parametrize(("train", "test"), [
    ("train", "val"), ("train", "valid"), ("Train", "Validation"), ("train", "dev"),
    ("training", "testing"), ("training", "validation"), ("TRAIN", "TEST")])
@pytest.mark.parametrize("classes", [("",), ("cat", "dog")])
def test_other_names_of_the_splits(tmp_path: Path, train: str, test: str,
                                   classes: tuple[str, ...]) -> None:
    names = [f"{split}/{name}/{i:03}.png" for split, count in ((train, 20), (test, 8))
             for name in classes for i in range(count)]
    folder = fill(tmp_path / "f", *names)
    facts = facts_of(folder)
    labels = 2 if len(classes) == 2 else 0
    assert (facts.train, facts.test) == (20 * len(classes), 8 * len(classes))
    assert facts.classes == labels
    assert shades(folder)[1] == [i for i, name in enumerate(names) if name.startswith(test)]
    for file in (folder / test).rglob("*.png"):  # the same names and sizes, held out otherwise
        file.rename(folder / train / file.relative_to(folder / test).with_stem(f"x{file.stem}"))
    assert facts_of(folder).digest != facts.digest


def test_splits_known_by_other_names_are_other_data(tmp_path: Path) -> None:
    """The digest tells what is held out, so that no cache and no run of before is taken for it."""
    folder = fill(tmp_path / "f", *numbered("train", count=20), *numbered("val", count=8))
    digest = facts_of(folder).digest
    assert digest == facts_of(tar_of(folder)).digest
    listed = "".join(f"{name}\0{len(png(i))}\n" for i, name in enumerate(
        [*numbered("train", count=20), *numbered("val", count=8)]))
    assert digest != hashlib.sha256(listed.encode()).hexdigest()[:16]
    (folder / "val").rename(folder / "test")
    listed = "".join(f"{name}\0{(folder / name).stat().st_size}\n" for name in sorted(
        [*numbered("train", count=20), *numbered("test", count=8)]))
    assert facts_of(folder).digest == hashlib.sha256(listed.encode()).hexdigest()[:16]


def test_a_third_split_is_left_out_and_said(tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", *numbered("train/a", "train/b", "test/a", "test/b", "val/a",
                                            "val/b", count=3), "cover.png")
    facts, said = facts_of(folder), list[str]()
    assert (facts.train, facts.test, facts.classes) == (6, 6, 2)
    assert facts.notes == ("2 classes: a 3 + 3, b 3 + 3",
                           "left out: 7 images outside of train/ and test/, cover.png first")
    shades(folder, said)
    assert said == [f"decoding 6 + 6 images of {folder}, 2 classes; 7 other files ignored: "
                    "7 images outside of train/ and test/, cover.png first"]


@pytest.mark.parametrize(("tops", "words"), [
    (("train", "extra"), r"has extra/, train/ at its top, and no test/ or val/; name the folder to "
                         r"hold out so"),
    (("test", "val"), r"has test/, val/ at its top, and no train/; name the folder to train on so"),
    (("train", "unlabeled"), "has train/, unlabeled/ at its top, and no test/ or val/")])
def test_splits_without_a_partner_are_refused(tmp_path: Path, tops: tuple[str, ...], words: str,
                                              ) -> None:
    with pytest.raises(UserError, match=rf"f: {words}"):
        facts_of(fill(tmp_path / "f", *numbered(*tops)))


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    facts = facts_of(fill(tmp_path / "f", *numbered("bus", "car", "train")))
    assert (facts.classes, facts.train, facts.test) == (3, 33, 3)
    assert facts.notes == ("3 classes: bus 11 + 1, car 11 + 1, train 11 + 1",)


@pytest.mark.parametrize(("names", "note"), [
    (numbered("cat", "dog"), "2 classes: cat 11 + 1, dog 11 + 1"),
    ([*numbered("cat", "dog"), "preview.png"],
     "no labels, for preview.png is in no class folder"),
    ([*numbered("cat", "dog"), "cat/big/0.png"],
     "no labels, for cat/big/0.png is below a class folder's folder"),
    (numbered("", count=20), "no labels"),
    ([*numbered("train/a", "train/b", "test/a", "test/b"), "train/stray.png"],
     "no labels, for train/stray.png is in no class folder"),
    (numbered(*map(str, range(10)), count=1), "10 classes: 0 1 + 0, 1 1 + 0, 2 1 + 0, 3 1 + 0, "
     "4 1 + 0, 5 1 + 0, 6 1 + 0, 7 1 + 0, 2 more")])
def test_why_there_are_no_labels(tmp_path: Path, names: list[str], note: str) -> None:
    folder, said = fill(tmp_path / "f", *[name.lstrip("/") for name in names]), list[str]()
    facts = facts_of(folder)
    assert facts.notes == (note,)
    shades(folder, said)
    assert f" images of {folder}, {note.partition(':')[0]}; 0 other files" in said[0]
    file = tmp_path / "x.yaml"
    file.write_text(f"name: x\ndataset: {{name: image_folder, path: {folder}, image_size: 8}}\n"
                    "seeds: [0]\nbase: {model: mlp, steps: 3, batch_size: 4}\n"
                    "evaluate: {metrics: [nearest_train_mse], samples: 9}\n")
    spec = load_experiment(file, tmp_path)
    assert f"held out\n          {note}\nruns " in plan_text(spec, tmp_path)
    assert "notes" not in spec.runs[0].model_dump_json()


def test_backslashes_in_a_zip_are_slashes(tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", *numbered("cat", "dog"))
    path = tmp_path / "windows.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.rglob("*.png")):
            info = zipfile.ZipInfo("x")
            info.filename = str(file.relative_to(folder)).replace("/", "\\")
            archive.writestr(info, file.read_bytes())
        info = zipfile.ZipInfo("x")
        info.filename = "empty\\"
        archive.writestr(info, b"")
    assert facts_of(path) == facts_of(folder)
    assert shades(path) == shades(folder)
    assert facts_of(path).classes == 2


# --- where a path is looked up --------------------------------------------------------------------


def test_a_missing_path_says_where_it_was_looked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "here" / "faces", *(f"{i}.png" for i in range(12)))
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def refused(path: str, root: str) -> str:
        with pytest.raises(UserError) as why:
            DATASETS["image_folder"].facts.describe(Path(root), path=path, image_size=8, channels=3)
        return str(why.value)

    where = (f"a relative path is looked up in the data folder, {tmp_path / 'here' / '../data'} "
             "(--data-root), not beside the YAML file")
    assert refused("faces", "../data") == (
        f"../data/faces: No such file or directory; {where}; the working folder has one: give "
        "--data-root . or its absolute path")
    assert refused("others.zip", "../data") == (
        f"../data/others.zip: No such file or directory; {where}; put the images there, or give "
        "another --data-root or an absolute path")
    absolute = str(tmp_path / "no")
    assert refused(absolute, "../data") == f"{absolute}: No such file or directory"
    assert facts_of(tmp_path / "here" / "faces").train == 11
    found = DATASETS["image_folder"].facts.describe(Path("."), path="faces", image_size=8,
                                                    channels=3)
    assert (found.train, found.test) == (11, 1)
