"""SQLite on a network file system is refused with the way out, before anything is written.

On a real one: sshfs, whose server is this machine.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from helpers.journals import new_run, write_journal
from helpers.mounts import network_folder
from helpers.runs import DIGITS, write_experiment
from helpers.studies import here

from gan_bench.errors import UserError
from gan_bench.journal.layout import Workspace
from gan_bench.tracking.reader import read_experiment
from gan_bench.tracking.store import mounts
from gan_bench.tracking.store.address import resolve_uri
from gan_bench.tracking.store.mounts import NETWORK, Mount, mount_of, network_mount


@pytest.fixture(autouse=True)
def _no_tracking_uri(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Path]:
    """A folder of a real network file system."""
    with network_folder(tmp_path / "served", tmp_path / "network") as folder:
        yield folder


@pytest.mark.parametrize(("path", "kind"), [
    ("/", "overlay"), ("/home/me/root", "nfs4"), ("/home", "nfs4"), ("/homes", "overlay"),
    ("/data disk/root", "xfs"), ("/home/me/scratch/root", "ext4")])
def test_the_kind_of_a_file_system(path: str, kind: str) -> None:
    mounts = ("1 0 0:1 / / rw - ext4 /dev/sda rw\n2 1 0:2 / / rw shared:1 - overlay none rw\n"
              "3 2 0:3 /x /home rw,nodev shared:2 master:3 - nfs4 server:/x rw\n"
              "4 2 8:1 / /data\\040disk rw - xfs /dev/sdb rw\n"
              "5 3 8:2 / /home/me/scratch rw - ext4 /dev/sdc rw\n")
    mount = mount_of(mounts, Path(path))
    assert mount is not None
    assert mount.kind == kind


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb3",
                                  "fuse.sshfs", "fuse.ceph-fuse", "9p"])
def test_network_file_systems_are_known_by_their_type(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    mountinfo = tmp_path / "mountinfo"
    home = tmp_path / "home"
    mountinfo.write_text(f"21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"
                         f"97 21 0:52 / {home} rw,noatime shared:54 - {kind} server:/x rw\n")
    monkeypatch.setattr(mounts, "MOUNTS", mountinfo)
    assert network_mount(home / "no" / "such" / "mlflow.db") == Mount(home, kind)
    assert network_mount(tmp_path / "home2" / "mlflow.db") is None
    assert kind in NETWORK
    with pytest.raises(UserError, match=rf" \({kind}\), a network file system, where SQLite "):
        resolve_uri(Workspace(home))
    there = Workspace(home, tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    assert resolve_uri(there) == f"sqlite:///{tmp_path}/mlflow.db"
    assert resolve_uri(Workspace(home, tracking_uri="http://team:5000")) == "http://team:5000"


def test_local_file_systems_are_no_network() -> None:
    assert not NETWORK & {"ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs", "fuse.ext4",
                          "fuseblk", "virtiofs", "fuse.portal"}


def test_a_system_that_lists_no_mounts_refuses_nothing(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As macOS, which has no `/proc`."""
    monkeypatch.setattr(mounts, "MOUNTS", tmp_path / "proc" / "self" / "mountinfo")
    assert network_mount(tmp_path / "mlflow.db") is None
    assert resolve_uri(Workspace(tmp_path)) == f"sqlite:///{tmp_path}/mlflow.db"


def test_a_real_network_folder_holds_no_database(network: Path, tmp_path: Path) -> None:
    assert network_mount(network / "new" / "mlflow.db") == Mount(network, "fuse.sshfs")
    assert network_mount(tmp_path / "mlflow.db") is None
    with pytest.raises(UserError) as refused:
        resolve_uri(Workspace(network / "root"))
    assert str(refused.value) == (
        f"{network}/root/mlflow.db is on {network} (fuse.sshfs), a network file system, where "
        f"SQLite loses rows: give --tracking-uri (or MLFLOW_TRACKING_URI) the address of an MLflow "
        f"server, or of a file on a local disk such as sqlite:////var/tmp/mlflow.db")
    # Links count as what they lead to.
    (tmp_path / "link").symlink_to(network / "root")
    with pytest.raises(UserError, match=r"link/mlflow\.db is on .* \(fuse\.sshfs\), "):
        resolve_uri(Workspace(tmp_path / "link"))
    (tmp_path / "local").mkdir()
    (tmp_path / "local" / "link").symlink_to(network / ".." / "local")
    local = Workspace(tmp_path / "local" / "link")
    assert resolve_uri(local) == f"sqlite:///{tmp_path}/local/link/mlflow.db"


def test_commands_refuse_it_before_they_write(network: Path, tmp_path: Path) -> None:
    file = write_experiment(tmp_path, DIGITS)
    root = network / "root"
    before = sorted(network.rglob("*"))
    done = here("run", file, "--root", root)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {root}/mlflow.db is on {network} (fuse.sshfs), a ")
    assert done.stderr.count("\n") == 1
    assert sorted(network.rglob("*")) == before
    # What an earlier version has left there.
    folder = new_run(root)
    write_journal(folder)
    with closing(sqlite3.connect(tmp_path / "old.db")) as connection:
        connection.execute("create table t (x)")
    (root / "mlflow.db").write_bytes((tmp_path / "old.db").read_bytes())
    before = sorted(network.rglob("*"))
    for command in (("report", folder.parent.name), ("ui",), ("sync",)):
        done = here(*command, "--root", root)
        assert (done.returncode, done.stdout) == (2, ""), command
        assert done.stderr.startswith(f"error: {root}/mlflow.db is on {network} (fuse.sshfs), a ")
        assert done.stderr.endswith("; `gan-bench sync --to ADDRESS` copies the runs there from "
                                    "their journals\n")
        assert done.stderr.count("\n") == 1
    done = here("status", folder.parent.name, "--root", root)
    assert done.returncode == 0
    assert "1 of 1 run ended" in done.stdout
    assert done.stderr.startswith(f"warning: {root}/mlflow.db is on {network} (fuse.sshfs), a ")
    assert done.stderr.count("\n") == 1
    assert sorted(network.rglob("*")) == before
    # The way out.
    store = f"sqlite:///{tmp_path}/mlflow.db"
    done = here("sync", "--root", root, "--to", store)
    assert done.returncode == 0
    assert len(read_experiment(store, folder.parent.name).runs) == 1
    done = here("status", "--root", tmp_path / "elsewhere")
    assert "network" not in done.stderr


@pytest.mark.process
def test_a_worker_needs_no_store(network: Path, tmp_path: Path) -> None:
    file, root = write_experiment(tmp_path, DIGITS), network / "root"
    done = here("work", file, "--root", root, "--slots", 2)
    assert (done.returncode, "4 of 4 runs" in done.stderr + done.stdout) == (0, True), done.stderr
    assert not (root / "mlflow.db").exists()
    store = f"sqlite:///{tmp_path}/mlflow.db"
    done = here("sync", "--root", root, "--to", store)
    assert done.returncode == 0
    runs = read_experiment(store, "tiny").runs
    assert [run.tags["status"] for run in runs] == ["FINISHED"] * 4
    assert all(len(run.steps) for run in runs)
