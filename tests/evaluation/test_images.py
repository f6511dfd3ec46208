"""Images of foreign origin: read to the bit, or refused by name."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.images import save_pngs
from numpy.typing import NDArray
from PIL import Image

from gan_bench.components.data.pixels import decode
from gan_bench.components.value_range import to_float, to_uint8
from gan_bench.errors import UserError
from gan_bench.evaluation.external_images import read_images

GREY, COLOUR = (1, 16, 16), (3, 16, 16)
LEVELS = np.stack([np.roll(np.arange(256, dtype=np.uint8), 64 * i).reshape(1, 16, 16)
                   for i in range(4)])  # each has all of them
TINTED = np.concatenate([LEVELS, LEVELS[::-1] // 2, 255 - LEVELS], axis=1)


@pytest.mark.parametrize("images", [LEVELS, TINTED])
@pytest.mark.parametrize("kind", ["folder", "zip", "tar", "channels last", "channels first", "npy",
                                  "-1..1", "0..1"])
def test_every_level_arrives(tmp_path: Path, images: NDArray[np.uint8], kind: str) -> None:
    path, floats = tmp_path / "images.npz", images.astype(np.float32)
    match kind:
        case "folder" | "zip" | "tar":
            path = save_pngs(tmp_path / "pngs", images)
            if kind == "zip":
                with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
                    for file in path.iterdir():
                        archive.write(file, file.name)
                path = tmp_path / "a.zip"
            if kind == "tar":
                with tarfile.open(tmp_path / "a.tar", "w") as tar:
                    tar.add(path, "a")
                path = tmp_path / "a.tar"
        case "channels last":
            np.savez(path, other=np.zeros(3), images=images.transpose(0, 2, 3, 1))
        case "channels first":
            np.savez(path, images)
        case "npy":
            path = tmp_path / "images.npy"
            np.save(path, images)
        case "-1..1":
            np.savez(path, to_float(torch.from_numpy(images)).numpy())
        case "0..1":
            np.savez(path, (floats / 255).astype(np.float16))  # not quite on the levels
    given = read_images(path, images.shape[1:], None, False)
    np.testing.assert_array_equal(given.samples.numpy(), images)
    expected = {"-1..1": "uint8(x * 127.5 + 128)", "0..1": "uint8(x * 255 + 0.5)"}
    assert given.quantisation == expected.get(kind, "8 bits, as given")
    assert given.resized is None


@pytest.mark.parametrize("off", [-0.49, 0.49])
def test_samples_become_the_nearest_level(off: float) -> None:
    """Cutting off instead makes images darker by half a level."""
    levels = torch.arange(256)
    assert torch.equal(to_uint8((levels + off) / 127.5 - 1), levels.to(torch.uint8))


def test_any_value_below_0_means_the_scale_of_tanh(tmp_path: Path) -> None:
    bright = LEVELS.clip(min=100)
    np.savez(tmp_path / "a.npz", to_float(torch.from_numpy(bright)).numpy())
    given = read_images(tmp_path / "a.npz", GREY, None, False)
    np.testing.assert_array_equal(given.samples.numpy(), bright)


def test_three_equal_channels_are_grey_and_others_are_not(tmp_path: Path) -> None:
    path = save_pngs(tmp_path / "a", LEVELS.repeat(3, axis=1))
    np.testing.assert_array_equal(read_images(path, GREY, None, False).samples.numpy(), LEVELS)
    tinted = save_pngs(tmp_path / "b", TINTED)
    with pytest.raises(UserError, match=r"b/000\.png: is colour, and the data set's images are g"):
        read_images(tinted, GREY, None, False)
    with pytest.raises(UserError, match="is grey, and the data set's images are colour"):
        read_images(save_pngs(tmp_path / "c", LEVELS), COLOUR, None, False)


def test_a_part_is_spread_over_the_whole(tmp_path: Path) -> None:
    path = save_pngs(tmp_path / "a", LEVELS)
    np.testing.assert_array_equal(read_images(path, GREY, 2, False).samples.numpy(), LEVELS[::2])
    with pytest.raises(UserError, match=r"a: holds 4 examples, and --samples asks for 5; give"):
        read_images(path, GREY, 5, False)
    with pytest.raises(UserError, match=r"holds 1 example, and scores need 2 at least; give more$"):
        read_images(save_pngs(tmp_path / "b", LEVELS[:1]), GREY, None, False)


@pytest.mark.parametrize("as_array", [False, True])
def test_another_size_is_refused_unless_asked_for(tmp_path: Path, as_array: bool) -> None:
    path = save_pngs(tmp_path / "a", LEVELS)
    if as_array:
        path = tmp_path / "a.npz"
        np.savez(path, LEVELS)
    with pytest.raises(UserError, match=r"is 16×16 pixels, and the data set's images are 8×8; .*"
                                        r"\(--image-size 16\), or give --resize"):
        read_images(path, (1, 8, 8), None, False)
    given = read_images(path, (1, 8, 8), None, True)
    assert given.samples.shape == (4, 1, 8, 8)
    assert "from 16×16" in (given.resized or "")
    expected = Image.fromarray(LEVELS[0, 0]).resize((8, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(given.samples[0, 0].numpy(), np.asarray(expected))


@pytest.mark.parametrize(("array", "words"), [
    (LEVELS.astype(np.float32), r"floats from 0 to 255; expected uint8"),
    (LEVELS.astype(np.float32) / 255 * 2.2 - 1.1, r"floats from -1\.1 to 1\.1; expected"),
    (LEVELS / 255 - 0.001, r"floats from -0\.001 to 0\.999: .*clip them to 0\.\.1"),
    (LEVELS / 255 * (1 + 2e-7), r"floats from 0 to 1\.0000002; expected"),
    (np.full((2, 1, 16, 16), np.nan), "floats from nan"),
    (LEVELS.astype(np.int64), "holds int64; expected uint8"),
    (LEVELS // 128, "only the levels 0 and 1"),
    (np.zeros((4, 16, 16, 2), np.uint8), r"has the shape \(4, 16, 16, 2\); expected"),
    (np.zeros((4, 256), np.uint8), r"has the shape \(4, 256\)"),
    (np.array(3.0), "has the shape"),
])
def test_arrays_that_are_no_images_are_named(tmp_path: Path, array: NDArray[Any], words: str,
                                             ) -> None:
    np.savez(tmp_path / "a.npz", array)
    with pytest.raises(UserError, match=rf"a\.npz: .*{words}"):
        read_images(tmp_path / "a.npz", GREY, None, False)


def test_files_that_are_no_images_are_named(tmp_path: Path) -> None:
    def refused(path: Path, words: str) -> None:
        with pytest.raises(UserError, match=words):
            read_images(path, GREY, None, False)

    refused(tmp_path, "holds no images")
    folder = save_pngs(tmp_path / "a", LEVELS)
    (folder / "001.png").write_bytes((folder / "001.png").read_bytes()[:45])
    refused(folder, r"a/001\.png: ")
    Image.fromarray(np.zeros((16, 16), np.uint16)).save(folder / "001.png")
    refused(folder, r"a/001\.png: has 16 bits a channel")
    Image.new("RGBA", (16, 16)).save(folder / "001.png")
    refused(folder, r"a/001\.png: has Pillow's mode RGBA; .* without transparency")
    (tmp_path / "a.npz").write_bytes(b"PK\x03\x04 and no more")
    refused(tmp_path / "a.npz", r"a\.npz: cannot be read as an array")
    np.savez(tmp_path / "b.npz", one=LEVELS, two=LEVELS)
    refused(tmp_path / "b.npz", r"b\.npz: which array\? it holds one, two")
    np.savez(tmp_path / "c.npz", np.array([{}], dtype=object))
    refused(tmp_path / "c.npz", r"c\.npz: cannot be read as an array: it is not an array of "
                                r"numbers; save it again")
    (tmp_path / "d.npy").write_bytes(b"x" * 100)
    refused(tmp_path / "d.npy", r"d\.npy: cannot be read as an array: it is not an array of numb")
    with zipfile.ZipFile(tmp_path / "e.npz", "w") as archive:
        archive.writestr("notes.txt", "hello")
    refused(tmp_path / "e.npz", r"e\.npz: .* its member notes\.txt is not an array")
    with (tmp_path / "f.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 1, 1000, 1000)})
    refused(tmp_path / "f.npy", r"f\.npy: cannot be read as an array: .*; save it again")
    (tmp_path / "a.txt").write_text("")
    refused(tmp_path / "a.txt", r"a\.txt: neither a folder nor one of")


def test_a_named_pipe_is_no_image(tmp_path: Path) -> None:
    folder = save_pngs(tmp_path / "a", LEVELS)
    os.mkfifo(folder / "pipe.png")
    np.testing.assert_array_equal(read_images(folder, GREY, None, False).samples.numpy(), LEVELS)


def deep_png(colour_type: int, channels: int) -> bytes:
    """A PNG of 16 bits a channel, 16×16; Pillow writes none in colour."""
    def chunk(kind: bytes, content: bytes) -> bytes:
        return (struct.pack(">I", len(content)) + kind + content
                + struct.pack(">I", zlib.crc32(kind + content)))

    rows = (b"\0" + bytes(range(32)) * channels) * 16
    return (b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, colour_type, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def test_what_pillow_would_drop_in_silence_is_refused(tmp_path: Path) -> None:
    folder = save_pngs(tmp_path / "a", TINTED)

    def refused(words: str) -> None:
        with pytest.raises(UserError, match=rf"a/001\.png: {words}"):
            read_images(folder, COLOUR, None, False)

    (folder / "001.png").write_bytes(deep_png(2, 3))
    assert Image.open(folder / "001.png").mode == "RGB"
    refused("has 16 bits a channel")
    with pytest.raises(ValueError, match="more than 8 bits a channel"):
        decode(deep_png(2, 3), 3, 16)
    grey = Image.fromarray(LEVELS[0, 0])
    grey.save(folder / "001.png", transparency=0)
    refused("has transparent pixels")
    grey.convert("P").save(folder / "001.png", transparency=0)
    refused("has transparent pixels")
    grey.save(folder / "001.png", save_all=True, append_images=[Image.fromarray(LEVELS[1, 0])])
    refused("holds several frames")
    (folder / "001.png").write_bytes(b"")
    refused("the content has no known image format; save it again")


def colour_tiff(bits: int, planes: bool = False) -> bytes:
    """An uncompressed little-endian TIFF of 16×16 RGB pixels, by its specification."""
    pixels = bytes(range(256)) * (3 * bits // 8)
    tags = [(256, 3, 1, 16), (257, 3, 1, 16), (258, 3, 3, 134), (259, 3, 1, 1), (262, 3, 1, 2),
            (273, 4, 3 if planes else 1, 140), (277, 3, 1, 3), (278, 4, 1, 16),
            (279, 4, 3 if planes else 1, len(pixels)), (284, 3, 1, 2 if planes else 1)]
    offsets = struct.pack("<3H", bits, bits, bits)
    if planes:
        part = len(pixels) // 3
        starts = [164 + part * i for i in range(3)]
        offsets += struct.pack("<6I", *starts, part, part, part)
        tags = [(t, k, n, {273: 140, 279: 152}.get(t, v)) for t, k, n, v in tags]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0)
    assert len(head) == 134
    return head + offsets + pixels


def plain_ppm(white: int) -> bytes:
    levels = [str(i % (white + 1)) for i in range(3 * 256)]
    return f"P3 # a comment\n16 16\n{white}\n{' '.join(levels)}\n".encode()


DEEP = {
    "tif": colour_tiff(16), "planes.tif": colour_tiff(16, planes=True),
    "ppm": b"P6\n16 16\n65535\n" + bytes(range(256)) * 6, "plain.ppm": plain_ppm(300),
    "comments.ppm": b"P6 # 16 16 255\n16#\n 16\t# 255\n1023 " + bytes(range(3)) * 512,
    "float.ppm": b"Pf 16 16 -1.0\n" + bytes(1024),
    "pgm": b"P5 16 16 65535\n" + bytes(range(256)) * 2, "png": deep_png(2, 3),
}


@pytest.mark.parametrize("suffix", DEEP)
def test_over_8_bits_a_channel_are_refused_in_every_format(tmp_path: Path, suffix: str) -> None:
    content = DEEP[suffix]
    with Image.open(io.BytesIO(content)) as opened:
        opened.load()  # a whole image, and Pillow has nothing against it
        assert opened.mode in ("RGB", "I", "F")
    folder = save_pngs(tmp_path / "a", TINTED)
    (folder / f"001.{suffix}").write_bytes(content)
    with pytest.raises(UserError, match=rf"001\.{suffix}: has (9|10|16|32) bits a channel; save"):
        read_images(folder, COLOUR, None, False)
    with pytest.raises(ValueError, match=r"more than 8 bits a channel .*; convert it to 8"):
        decode(content, 3, 16)


@pytest.mark.parametrize("content", [
    colour_tiff(8), colour_tiff(8, planes=True), plain_ppm(255), plain_ppm(15),
    b"P6 16 16 255\n" + b"#999 " * 153 + b"#99", b"P6 #x\n16 16#y\n 25#z\n5\n" + bytes(768),
    b"P4 16 16\n" + bytes(range(32))],
    ids=["tiff", "planes", "plain", "4 bits", "digits in pixels", "comments", "bitmap"])
def test_8_bits_or_fewer_are_read_in_every_format(tmp_path: Path, content: bytes) -> None:
    expected = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(decode(content, 3, 16).pixels, expected)
    (tmp_path / "0.ppm").write_bytes(content)
    (tmp_path / "1.ppm").write_bytes(content)
    shape = GREY if content.startswith(b"P4") else COLOUR
    given = read_images(tmp_path, shape, None, False)
    np.testing.assert_array_equal(given.samples[1].numpy(), expected[: shape[0]])


def test_vectors(tmp_path: Path) -> None:
    points = np.random.default_rng(0).normal(size=(5, 2))
    np.savez(tmp_path / "a.npz", vectors=points)
    given = read_images(tmp_path / "a.npz", (2,), None, False)
    np.testing.assert_array_equal(given.samples.numpy(), points.astype(np.float32))
    assert given.quantisation is None
    for bad, words in ((points[:, :1], r"expected floats of \(N, 2\)"),
                       (points + np.inf, "not finite"), (points * 1e300, "too large for")):
        np.savez(tmp_path / "b.npz", bad)
        with pytest.raises(UserError, match=words):
            read_images(tmp_path / "b.npz", (2,), None, False)
    with pytest.raises(UserError, match=r"holds vectors: give a \.npz"):
        read_images(tmp_path, (2,), None, False)


FIELDS = np.dtype([("x", np.float32), ("y", np.float32)])
HEADERS = {  # of format 1.0, as text that numpy would write otherwise
    "long": "{'descr': '<f4', 'fortran_order': False, 'shape': (1L, 2L), }",
    "cut": "{'descr': '<f4', 'fortran_order': False, 'shape': (1L, 2",
    "huge": "{'descr': '<f4', 'fortran_order': False, 'shape': (1" + "0" * 30 + ", 2), }",
    "negative": "{'descr': '<f4', 'fortran_order': False, 'shape': (-5, 2), }",
    "words": "{'descr': 'no type', 'fortran_order': False, 'shape': (5, 2), }",
    "numbers": "{'descr': 3, 'fortran_order': False, 'shape': (5, 2), }"}


@pytest.mark.parametrize("shape", [(2,), GREY])
@pytest.mark.parametrize("bad", [
    np.array(3.0), np.zeros(()), np.zeros(5), np.zeros((0, 2)), np.zeros((2, 0)),
    np.zeros((4, 0, 0, 1)), np.zeros((4, 0, 0, 1), np.uint8), np.zeros((0, 16, 16), np.uint8),
    np.zeros((5, 2), FIELDS), np.zeros((), FIELDS), np.zeros((4, 1, 16, 16), FIELDS),
    np.zeros((5, 2), complex), np.zeros((4, 1, 16, 16), complex), np.array([["a", "b"]] * 5),
    np.zeros((5, 2), "M8[s]"), np.zeros((4, 16, 16), bool), np.array([[None, 1]] * 5)],
    ids=lambda bad: f"{bad.dtype.kind}{bad.shape}")
@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_arrays_of_every_kind_are_refused_in_one_line(
        tmp_path: Path, bad: NDArray[Any], shape: tuple[int, ...], suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    (np.save if suffix == "npy" else np.savez)(path, bad)
    with pytest.raises(UserError) as refused:
        read_images(path, shape, None, False)
    line = str(refused.value)
    assert line.startswith(f"{path}: ")
    assert "\n" not in line
    assert any(word in line for word in ("expected", "save it again", "scores need 2"))
    assert "zero-size" not in line  # numpy's words for what the user cannot see


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.filterwarnings("ignore:Reading `.npy`")
def test_broken_headers_are_refused_in_one_line(tmp_path: Path, header: str) -> None:
    text = HEADERS[header].encode() + b"\n"
    path = tmp_path / "a.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(8))
    with pytest.raises(UserError, match=r"a\.npy: ") as refused:
        read_images(path, (2,), None, False)
    assert "\n" not in str(refused.value)
