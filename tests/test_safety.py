"""What comes from others (names, links, archives, databases) leads nowhere and costs nothing."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import sqlite3
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import psutil
import pytest
from helpers.browser import gan_bench_ui
from helpers.commands import forked
from helpers.journals import new_run, write_journal
from helpers.limits import within
from helpers.runs import DIGITS, a_run, install, write_experiment
from helpers.studies import here
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gan_bench.atomic import replacing
from gan_bench.components.data import files
from gan_bench.components.data.image_folder import image_folder
from gan_bench.config.experiment import load_experiment
from gan_bench.errors import SpecError, UserError
from gan_bench.evaluation.external_images import read_images
from gan_bench.journal import reading
from gan_bench.journal.layout import Workspace, run_folders
from gan_bench.journal.sharing.claims import boot_id
from gan_bench.journal.sharing.lock import is_locked, locked
from gan_bench.journal.writing import Journal
from gan_bench.registry import NoFacts, Registry
from gan_bench.tracking.mirror import Mirror
from gan_bench.tracking.store.client import open_store
from gan_bench.tracking.sync import sync_runs

STRANGE = ["../up", "..", ".", "a/../../b", "/tmp/abs", "~", "~/x", "a/b", "a\\b", "a\0b", "a\nb",
           "n" * 300, "\U0001F600", "\u00e9", "\u0430", "a b", " a", "a ", "-a", ".a", "_a", "a:b",
           "con|", "%2e%2e", "$HOME", "`id`", "*", "\x1b[2J", "\u202ea", "\ud800", ""]
PLAIN = ["a.", "a..", "A", "a-b_c.9", "0", "n" * 64]


def tree(folder: Path) -> dict[str, bytes | str]:
    """All that is in a folder, links not followed."""
    return {str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else
            path.read_bytes() if path.is_file() else "" for path in sorted(folder.rglob("*"))}


def one_line(why: pytest.ExceptionInfo[UserError]) -> str:
    """The message, which is one line that a terminal can show."""
    assert str(why.value).isprintable()
    return str(why.value)


# Names


@pytest.mark.parametrize("name", STRANGE, ids=range(len(STRANGE)))
@pytest.mark.parametrize("text", [
    DIGITS.replace("name: tiny", "name: NAME"), DIGITS.replace("plain:", "NAME:"),
    DIGITS.replace("name: digits", "name: NAME"), DIGITS.replace("[d_accuracy,", "[NAME,"),
    DIGITS.replace("name: mlp", "name: NAME"), DIGITS.replace("saturating}", "NAME}"),
], ids=["experiment", "variant", "dataset", "metric", "model", "loss"])
def test_a_name_in_a_file_is_no_path(tmp_path: Path, text: str, name: str) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(text.replace("NAME", json.dumps(name)))
    with pytest.raises(SpecError) as why:
        load_experiment(file, tmp_path)
    assert all(line.startswith(f"{file}:") and line.isprintable() for line in why.value.lines)


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_a_name_is_a_folder_of_the_root(tmp_path: Path, name: str) -> None:
    text = DIGITS.replace("tiny", f"'{name}'").replace("plain:", f"'{name}':")
    file = tmp_path / "x.yaml"
    file.write_text(text)
    run = load_experiment(file, tmp_path).runs[0]
    root = tmp_path / "root"
    assert run.write(root).parent.parent == root / "runs"
    assert os.listdir(root / "runs") == [name]


def test_names_that_differ_in_case_are_two(tmp_path: Path) -> None:
    one, other = (a_run(tmp_path, f"name={name}", text=DIGITS) for name in ("Study", "study"))
    assert one.id == other.id
    folders = {one.write(tmp_path), other.write(tmp_path)}
    if (tmp_path / "runs" / "STUDY").exists():
        pytest.skip("a file system that knows no case")
    assert len({folder.resolve() for folder in folders}) == 2
    for name in ("Study", "study"):
        assert Mirror(open_store(Workspace(tmp_path))).open_experiment(tmp_path / name)
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database:
        names = database.execute("select name from experiments where name like 'study'").fetchall()
    assert sorted(names) == [("Study",), ("study",)]


@pytest.mark.parametrize("name", ["../../up", "/tmp/up"])
@pytest.mark.parametrize("command", ["run", "plan"])
def test_the_command_makes_nothing_anywhere(tmp_path: Path, name: str, command: str) -> None:
    file = write_experiment(tmp_path)
    before = tree(tmp_path)
    done = forked(command, file, "--root", tmp_path / "a" / "root", "--set", f"name={name}")
    assert (done.returncode, done.stdout) == (2, "")
    assert "must match the pattern" in done.stderr
    assert tree(tmp_path) == before


@pytest.mark.parametrize("name", [n for n in STRANGE if n != "_a"])
def test_a_plug_in_gives_no_path_for_a_name(name: str) -> None:
    kind: Registry[object, NoFacts] = Registry(
        "loss", NoFacts, "gan_bench.components.losses", "gan_bench.losses")
    with pytest.raises(ValueError, match="is no name for a loss"):
        kind.register(name)(lambda: object())


def test_an_installed_plug_in_with_a_path_for_a_name_is_named(tmp_path: Path) -> None:
    paths = install(
        tmp_path, "up", "from gan_bench.registry import DATASETS\n"
        "@DATASETS.register('../../up')\ndef up(data_root, say):\n    '''Up.'''\n", "data")
    done = forked("list", "datasets", env=paths)
    assert done.returncode == 0
    assert "plug-in up failed: ValueError: '../../up' is no name for a dataset" in done.stdout


# MLflow


def test_names_in_mlflow_are_no_paths(tmp_path: Path) -> None:
    """A store with experiments, runs, tags and artifacts of strange names, beside ours."""
    root = tmp_path / "in" / "root"
    store = open_store(Workspace(root))
    folder = new_run(root)
    write_journal(folder)
    mine = Mirror(store).open_experiment(folder.parent)
    strange = [name for name in STRANGE if name and "\0" not in name and "\ud800" not in name]
    for name in strange:
        with contextlib.suppress(Exception):  # what MLflow itself does not take
            store.client.create_experiment(name, (root / "artifacts" / "x").as_uri())
    made = []
    for name in strange:
        run = store.client.create_run(mine, 1, {"run_id": folder.name, "variant": name,
                                                "mlflow.note.content": name}, name[:250])
        made.append(run.info.run_id)
        store.client.set_tag(run.info.run_id, "artifact_path", name)
    before = {path for path in tmp_path.rglob("*") if not path.is_relative_to(root)}
    done = sync_runs(Workspace(root), lambda line: None)
    assert (done.runs, done.brought, done.missing) == (1, 1, [])
    after = {path for path in tmp_path.rglob("*") if not path.is_relative_to(root)}
    assert after == before
    runs = store.client.search_runs([mine], filter_string=f"tags.run_id = '{folder.name}'")
    (own,) = (run for run in runs if run.info.run_id not in made)
    assert len(runs) == 1 + len(made)  # a stranger's run is neither deleted nor adopted
    assert own.data.tags["variant"] == "narrow"


@pytest.mark.parametrize("location", ["file:///tmp/up/x/artifacts", "/tmp/up/x/artifacts",
                                      "{home}/../../../x/artifacts", "file://{home}/..%2f../x/y"])
def test_a_database_does_not_lead_out_of_the_root(tmp_path: Path, location: str) -> None:
    folder = new_run(tmp_path)
    write_journal(folder)
    Mirror(open_store(Workspace(tmp_path))).sync(folder)
    location = location.format(home=tmp_path / "artifacts")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as database, database:
        database.execute("update runs set artifact_uri = ?", [location])
    with pytest.raises(UserError, match=r"artifacts of its run \w+ belong to .*, out of") as why:
        open_store(Workspace(tmp_path))
    one_line(why)


def test_the_page_listens_on_this_machine_alone(tmp_path: Path) -> None:
    open_store(Workspace(tmp_path))
    with gan_bench_ui(tmp_path) as address:
        port = int(address.rpartition(":")[2])
        sockets = [connection.laddr for process in psutil.Process().children(recursive=True)
                   for connection in process.net_connections("inet")
                   if connection.status == psutil.CONN_LISTEN]
        assert port in {place.port for place in sockets}
        assert {place.ip for place in sockets} == {"127.0.0.1"}
        others = [a.address for addresses in psutil.net_if_addrs().values() for a in addresses
                  if a.family == socket.AF_INET and not a.address.startswith("127.")]
        for other in others:
            with socket.socket() as client:
                client.settimeout(5)
                assert client.connect_ex((other, port)) != 0


# Links


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder that is not the root, which must stay as it is."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "file").write_text("somebody's")
    before = tree(folder)
    yield folder
    assert tree(folder) == before


@pytest.mark.parametrize("place", ["runs/tiny", "runs/tiny/{id}"])
def test_a_link_is_no_folder_of_the_root(tmp_path: Path, elsewhere: Path, place: str) -> None:
    run = load_experiment(write_experiment(tmp_path), tmp_path).runs[0]
    link = tmp_path / "root" / place.format(id=run.id)
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    done = here("run", tmp_path / "tiny.yaml", "--root", tmp_path / "root")
    assert done.returncode == 2
    assert f"{link}: is a link; move it away" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_root_itself_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "root").symlink_to("disk")
    folder = a_run(tmp_path).write(tmp_path / "root")
    write_journal(folder)
    with locked(folder.parent):
        assert run_folders(folder.parent) == [folder]


def test_no_link_in_a_runs_folder_is_followed(tmp_path: Path, elsewhere: Path) -> None:
    folder = a_run(tmp_path).write(tmp_path)
    (folder / "samples").symlink_to(elsewhere)
    book = Journal(folder)
    with pytest.raises(UserError, match="samples: is a link; remove it") as why:
        book.image(1, "samples", b"png")
    one_line(why)
    with replacing(folder / "spec.json") as temporary:
        ours = temporary.name
    (folder / ours).symlink_to(elsewhere / "file")
    a_run(tmp_path).write(tmp_path)
    (folder / "final.safetensors").symlink_to(elsewhere / "file")
    with replacing(folder / "final.safetensors") as temporary:
        temporary.write_text("weights")
    assert (folder / "final.safetensors").read_text() == "weights"
    (folder.parent / "mirror.1").symlink_to(elsewhere / "file")
    with locked(folder.parent):  # by a file of the next number
        assert (folder.parent / "mirror.2").is_file()
        assert is_locked(folder.parent)
    book.close()
    (folder / "attempt.2").symlink_to(elsewhere / "file")
    with closing(Journal(folder)) as book:
        book.metrics(1, {"a": 1.0})
        assert (folder / "attempt.3").is_file()
    assert reading.read_records(folder)[0][-1]["values"] == {"a": 1.0}


HOLDER = {"host": "a", "boot": boot_id(), "pid": 1, "started": 1, "since": 1, "job": "",
          "hardware": "", "inode": 1}
SAYINGS = [
    b"", b"\n", b"\0" * 100, b"\xff\x1b[2J" * 10_000, b"3\n", b"null\n", b"[]\n", b"{}\n",
    b"[" * 100_000, b"9" * 5_000,
    *(json.dumps({**HOLDER, **change}).encode() + b"\n" for change in (
        {}, {"pid": -1}, {"pid": 0}, {"pid": 10**30}, {"pid": 10**4000}, {"pid": "1"}, {"pid": 1.5},
        {"pid": None}, {"pid": True}, {"started": []}, {"host": 3}, {"other": 3},
        {"boot": "x" * 70_000})),
    json.dumps(HOLDER).encode() + b"\n" + b"\xff" * 24, json.dumps(HOLDER).encode(),
]


@pytest.mark.parametrize("saying", SAYINGS, ids=range(len(SAYINGS)))
def test_a_claim_may_hold_anything(tmp_path: Path, saying: bytes) -> None:
    """What names no process that lives claims nothing, and is in nobody's way."""
    (tmp_path / "mirror.7").write_bytes(saying)
    (tmp_path / "attempt.7").write_bytes(saying)
    assert not is_locked(tmp_path)
    assert not reading.is_open(tmp_path)
    with locked(tmp_path), closing(Journal(tmp_path)) as book:
        assert {file.name for file in tmp_path.glob("*.[0-9]")} == {
            "mirror.8", "attempt.7", "attempt.8"}
        assert is_locked(tmp_path)
        book.metrics(1, {"a": 1.0})
    assert reading.read_records(tmp_path)[0][-1]["values"] == {"a": 1.0}
    assert (tmp_path / "attempt.7").read_bytes() == saying


@pytest.mark.process
def test_who_holds_a_claim_is_said_in_one_line(tmp_path: Path) -> None:
    """A root may come from another person: its claims name machines that never were."""
    folder = a_run(tmp_path).write(tmp_path / "root")
    write_journal(folder)
    holder = {**HOLDER, "boot": "elsewhere", "host": "\x1b[2J\nhost" * 20, "job": "\x1b]0;job\a"}
    for file in (folder.parent / "mirror.1", folder / "attempt.9"):
        file.write_text(json.dumps(holder) + "\n" + f"{3:012d}".ljust(23) + "\n")
    for command in ("status", "clean"):
        done = here(command, "tiny", "--root", tmp_path / "root", env={"GAN_BENCH_LEASE": "1"})
        assert done.returncode == 0, done
        assert "\x1b" not in done.stdout + done.stderr
        assert "\a" not in done.stdout + done.stderr
        assert len((done.stdout + done.stderr).splitlines()) < 20


# Archives and arrays


def png(side: int = 16, shade: int = 100) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (side, side), shade).save(buffer, "PNG")
    return buffer.getvalue()


def zipped(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def tarred(path: Path, members: list[tuple[str, bytes]], more: Callable[[tarfile.TarFile], None]
           = lambda tar: None) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
        more(tar)
    return path


def reads(path: Path) -> int:
    """Read an archive in both ways that there are; return how many images."""
    given = read_images(path, (1, 16, 16), None, False)
    arrays = image_folder(path.parent, lambda line: None, path=path.name, image_size=16, channels=1)
    assert len(arrays.train.images) + len(arrays.test.images) == len(given.samples)
    return len(given.samples)


def refuses(path: Path, words: str) -> None:
    """Both refuse it, in one line that names it, at once and with little memory."""
    before = psutil.Process().memory_info().rss
    for read in (lambda: read_images(path, (1, 16, 16), None, False),
                 lambda: image_folder(path.parent, lambda line: None, path=path.name, image_size=16,
                                      channels=1)):
        with within(20), pytest.raises(UserError, match=words) as why:
            read()
        assert one_line(why).startswith(str(path))
    assert psutil.Process().memory_info().rss - before < 200e6


@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz"])
def test_nothing_is_extracted(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["../../up.png", "/tmp/gan-bench-abs.png", "a/../../b.png", "C:\\x.png", "~/x.png",
             "\U0001F600.png", "a\nb.png", "-rf.png", "con.png", "x " * 100 + ".png"]
    pack = zipped if kind.endswith("zip") else tarred
    (tmp_path / "here").mkdir()
    names += [f"{i}.png" for i in range(12)]
    path = pack(tmp_path / "here" / kind, [(name, png(shade=i)) for i, name in enumerate(names)])
    monkeypatch.chdir(tmp_path / "here")
    before = tree(tmp_path)
    assert reads(path) == len(names) - 2  # those below `..` count as hidden
    assert tree(tmp_path) == before
    assert not Path("/tmp/gan-bench-abs.png").exists()


def test_what_is_no_file_in_a_tar_is_no_image(tmp_path: Path) -> None:
    def more(tar: tarfile.TarFile) -> None:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            member = tarfile.TarInfo(f"{kind.decode()}.png")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)

    path = tarred(tmp_path / "a.tar", [(f"{i}.png", png()) for i in range(12)], more)
    assert reads(path) == 12


@pytest.mark.parametrize("kind", ["a.zip", "a.tar", "a.tar.gz"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_not_merged(tmp_path: Path, kind: str) -> None:
    members = [(f"{i}.png", png()) for i in range(12)]
    pack = zipped if kind.endswith("zip") else tarred
    refuses(pack(tmp_path / kind, [*members, ("3.png", png(shade=7))]),
            r"holds two files called 3\.png")


@pytest.mark.parametrize("kind", ["a.zip", "a.tar.gz", "folder"])
def test_a_member_that_is_larger_than_an_image(tmp_path: Path, kind: str) -> None:
    members = [(f"{i}.png", png()) for i in range(12)]
    large = ("5.png", png() + bytes(files.MAX_FILE))
    path = tmp_path / kind
    if kind == "folder":
        path.mkdir()
        for name, content in [*members, large]:
            (path / name).write_bytes(content)
    else:
        (zipped if kind.endswith("zip") else tarred)(path, [m for m in members if m[0] != "5.png"]
                                                     + [large])
    del large
    refuses(path, r"5\.png: has 100,000,\d+ bytes, and an image file may have 100,000,000; leave")


def test_an_archive_that_says_it_unpacks_to_very_much(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(60):
            archive.writestr(f"{i}.png", png())
        for info in archive.filelist:
            info.file_size = 90_000_000
    refuses(path, r"would unpack to 1\.1 GB or more, over 200 times its size")

    def more(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("large.bin")
        member.size = 50_000_000_000
        assert tar.fileobj is not None
        tar.fileobj.write(member.tobuf())

    path = tarred(tmp_path / "a.tar.gz", [(f"{i}.png", png()) for i in range(12)], more)
    refuses(path, r"would unpack to 50\.0 GB or more")


def test_an_archive_that_says_it_unpacks_to_little(tmp_path: Path) -> None:
    """It is read no further than it says, and then found to be another."""
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for i in range(12):
            archive.writestr(f"{i}.png", bytes(90_000_000) if i == 5 else png())
        archive.filelist[5].file_size = 1_000
    refuses(path, r"is a broken archive: Bad CRC-32")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME,
                                  tarfile.GNUTYPE_LONGLINK])
@pytest.mark.parametrize("size", [10**10, -512])
def test_a_header_of_a_tar_is_not_taken_at_its_word(tmp_path: Path, kind: bytes, size: int) -> None:
    def more(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("x")
        member.type, member.size = kind, size
        header = bytearray(member.tobuf(tarfile.GNU_FORMAT))
        assert tar.fileobj is not None
        tar.fileobj.write(bytes(header) + bytes(1024))

    path = tarred(tmp_path / "a.tar.gz", [(f"{i}.png", png()) for i in range(12)], more)
    refuses(path, rf"is a broken archive: a header claims a size of {size:,} bytes")


def test_a_tar_that_leads_back_into_itself(tmp_path: Path) -> None:
    def more(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("back.bin")
        member.size = -512  # after which its own header comes next
        assert tar.fileobj is not None
        tar.fileobj.write(member.tobuf(tarfile.GNU_FORMAT))

    path = tarred(tmp_path / "a.tar", [(f"{i}.png", png()) for i in range(12)], more)
    refuses(path, "is a broken archive: ")


def chunk(kind: bytes, content: bytes) -> bytes:
    return (struct.pack(">I", len(content)) + kind + content
            + struct.pack(">I", zlib.crc32(kind + content)))


def bomb(name: str) -> bytes:
    """Small files that become large, or a program."""
    if name == "pixels":
        buffer = io.BytesIO()
        Image.new("1", (14_000, 14_000)).save(buffer, "PNG")
        return buffer.getvalue()
    if name == "claimed":
        return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(
            ">IIBBBBB", 2**31 - 1, 2**31 - 1, 8, 2, 0, 0, 0)) + chunk(b"IDAT", b""))
    if name == "text":
        head, tail = png()[:33], png()[33:]
        return head + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(70_000_000))) + tail
    return (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n"
            b"(/tmp/gan-bench-ran) (w) file closefile showpage\n%%EOF\n")


@pytest.mark.parametrize(("name", "words"), [
    ("pixels", "exceeds limit of|DecompressionBomb"), ("claimed", "exceeds limit of|Decompression"),
    ("text", "too large|decode"), ("program", "no known image format"),
])
@pytest.mark.parametrize("packed", [False, True])
def test_a_picture_that_is_no_picture(tmp_path: Path, name: str, words: str, packed: bool) -> None:
    members = [(f"{i}.png", bomb(name) if i == 5 else png()) for i in range(12)]
    assert len(members[5][1]) < 200_000
    path = tmp_path / ("a.zip" if packed else "a")
    if packed:
        zipped(path, members)
    else:
        path.mkdir()
        for member, content in members:
            (path / member).write_bytes(content)
    refuses(path, rf"5\.png: .*({words})")
    assert not Path("/tmp/gan-bench-ran").exists()


def test_an_array_that_would_unpack_to_very_much(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((4, 16, 16), np.uint8))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", buffer.getvalue())
        archive.filelist[0].file_size = 3_000_000_000
    with pytest.raises(UserError, match=r"a\.npz: would unpack to 3\.0 GB or more") as why:
        read_images(path, (1, 16, 16), None, False)
    one_line(why)


def test_an_array_for_which_there_is_no_memory(tmp_path: Path) -> None:
    count = 2 * psutil.virtual_memory().total // 2**20
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": (count, 1024, 1024)})
        file.truncate(file.tell() + count * 2**20)
    with within(20), pytest.raises(UserError, match=r"a\.npy: its array has .* GB, and ") as why:
        read_images(tmp_path / "a.npy", (1, 1024, 1024), None, False)
    assert one_line(why).endswith("give fewer images, or image files")


def test_the_commands_refuse_bombs_too(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for i in range(60):
            archive.writestr(f"{i}.png", png())
            archive.filelist[-1].file_size = 90_000_000
    file = write_experiment(tmp_path)
    setting = f"dataset={{name: image_folder, path: {path}, image_size: 16}}"
    for arguments in (
            ["plan", file, "--set", setting],
            ["evaluate", path, "--dataset", "{name: digits, image_size: 16}"]):
        done = here(*arguments, "--root", tmp_path / "root")
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert "would unpack to" in done.stderr


MEMBERS = [(f"{'train' if i % 2 else 'test'}/{i % 3}/{i}.png", png(shade=i)) for i in range(24)]


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("archives")
    return {name: (zipped if name.endswith("zip") else tarred)(folder / name, MEMBERS).read_bytes()
            for name in ("a.zip", "a.tar", "a.tar.gz")}


@settings(deadline=None, suppress_health_check=list(HealthCheck), database=None, max_examples=150)
@given(st.sampled_from(["a.zip", "a.tar", "a.tar.gz"]), st.data())
def test_a_mutated_archive_is_read_or_refused(
        tmp_path_factory: pytest.TempPathFactory, archives: dict[str, bytes], name: str,
        data: st.DataObject) -> None:
    content = bytearray(archives[name])
    for _ in range(data.draw(st.integers(1, 4))):
        # Where headers are: at the beginning, in the directory at the end, every 512 bytes.
        at = data.draw(st.one_of(st.integers(0, 700), st.integers(max(0, len(content) - 1500),
                                                                  len(content) - 1),
                                 st.integers(0, len(content) - 1)))
        length = data.draw(st.integers(0, 12))
        content[at : at + length] = data.draw(st.binary(min_size=length, max_size=length))
    path = tmp_path_factory.mktemp("mutant") / name
    path.write_bytes(content)
    try:
        with within(20):
            assert reads(path) <= len(MEMBERS)
    except UserError as error:
        refusal = str(error)
    else:
        return
    assert refusal.isprintable()
    assert refusal.startswith(str(path))


def test_a_pickle_of_cifar10_makes_arrays_and_nothing_else(tmp_path: Path) -> None:
    import pickle

    from gan_bench.components.data.cifar10 import _Arrays

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return os.system, (f"touch {tmp_path}/ran",)

    for content in (Evil(), {"data": [Evil()]}, os.getcwd, np.array([Evil()], object)):
        with pytest.raises(pickle.UnpicklingError, match="is not part of an array"):
            _Arrays(io.BytesIO(pickle.dumps(content, 2))).load()
    assert not (tmp_path / "ran").exists()
    good = {"data": np.arange(6, dtype=np.uint8), "labels": [1, 2], "name": "x"}
    loaded = _Arrays(io.BytesIO(pickle.dumps(good, 2)), encoding="latin1").load()
    np.testing.assert_array_equal(loaded["data"], good["data"])
