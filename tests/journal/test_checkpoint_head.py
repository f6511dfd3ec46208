"""A checkpoint's step, read without torch and without running anything."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gan_bench.errors import UserError
from gan_bench.journal.checkpoint_head import CheckpointHead, read_head


class Evil:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[object, ...]:
        return os.system, (self.command,)


def archive(folder: Path, values: object) -> Path:
    """Write a file as `torch.save` does, as far as its plain values are concerned."""
    file = folder / "checkpoint.pt"
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("archive/data.pkl", pickle.dumps(values))
    return file


def test_what_the_pickle_refers_to_is_neither_imported_nor_called(tmp_path: Path) -> None:
    values = {"step": 7, "facts": {"device": "cpu"}, "engine": Evil(f"touch {tmp_path}/ran")}
    assert read_head(archive(tmp_path, values)) == CheckpointHead(7, {"device": "cpu"})
    assert not (tmp_path / "ran").exists()
    assert pickle.loads(pickle.dumps(Evil("true"))) == 0  # which would have been run


@pytest.mark.parametrize("values", [
    None, [], {}, {"step": 7}, {"step": "7", "facts": {}}, {"step": True, "facts": {}},
    {"step": -1, "facts": {}}, {"step": 7, "facts": []}, {"step": 7, "facts": Evil("true")},
])
def test_one_of_other_values_is_refused(tmp_path: Path, values: object) -> None:
    file = archive(tmp_path, values)
    if isinstance(values, dict) and isinstance(values.get("facts"), Evil):
        assert read_head(file).facts == {}
        return
    with pytest.raises(UserError, match="is damaged, or no checkpoint of this version"):
        read_head(file)


def test_a_damaged_file_is_refused_and_a_missing_one_is_missing(tmp_path: Path) -> None:
    file = archive(tmp_path, {"step": 7, "facts": {}})
    content = file.read_bytes()
    for damaged in (b"", content[:40], b"x" * 100):
        file.write_bytes(damaged)
        with pytest.raises(UserError, match="is damaged, or no checkpoint of this version"):
            read_head(file)
    file.write_bytes(content + bytes(32))  # the checksum that follows the archive
    assert read_head(file).step == 7
    with pytest.raises(FileNotFoundError):
        read_head(tmp_path / "none.pt")


def test_it_needs_no_torch() -> None:
    code = ("import sys, gan_bench.journal.shorter_runs, gan_bench.cli.running.clean; "
            "sys.exit('torch' in sys.modules)")
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
