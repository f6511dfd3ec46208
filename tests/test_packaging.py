"""What a release holds: the sdist the repository, the wheel the package, the image the program."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[1]
BUILD = "from setuptools import build_meta; print(build_meta.build_{}({!r}))"
# Of the repository, and not of a release.
NOT_RELEASED = (".ci/", ".github/", ".gitignore", ".pre-commit-config.yaml")
DOCKERFILE = ROOT / "Dockerfile"

pytestmark = pytest.mark.process


def tracked_files() -> list[str]:
    """Return the paths of the repository's files, those behind its link to folders included."""
    done = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard"],
                          cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip("this is no checkout of git")
    files = [name for name in done.stdout.splitlines() if (ROOT / name).is_file()]
    links = [name for name in done.stdout.splitlines()
             if (ROOT / name).is_symlink() and name.startswith("gan_bench/")]
    assert links == ["gan_bench/experiments"]
    behind = [f"gan_bench/{name}" for name in files if name.startswith("experiments/")]
    return sorted([*files, *behind])


def build(kind: str, source: Path, out: Path) -> Path:
    """Build a release from a folder, as pip's front ends do."""
    done = subprocess.run([sys.executable, "-c", BUILD.format(kind, str(out))], cwd=source,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist of a copy of the repository: a build leaves files beside its sources."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in tracked_files():
        if not name.startswith("gan_bench/experiments/"):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, source / name)
    (source / "gan_bench" / "experiments").symlink_to("../experiments")
    return build("sdist", source, out)


def names_in(sdist: Path) -> set[str]:
    with tarfile.open(sdist) as archive:
        return {name.partition("/")[2] for name in archive.getnames() if "/" in name}


def test_an_sdist_holds_the_repository(sdist: Path) -> None:
    names = names_in(sdist)
    expected = {name for name in tracked_files() if not name.startswith(NOT_RELEASED)}
    assert expected - names == set()
    with tarfile.open(sdist) as archive:
        files = {member.name.partition("/")[2] for member in archive.getmembers()
                 if member.isfile()}
    added = {name for name in files - expected if ".egg-info/" not in name}
    assert added == {"PKG-INFO"}  # setup.cfg is rewritten, and tracked


def test_a_wheel_of_the_sdist_holds_the_package(sdist: Path, tmp_path: Path) -> None:
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    with zipfile.ZipFile(build("wheel", source, tmp_path)) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {name for name in tracked_files()
                if name.startswith("gan_bench/") and not name.startswith("gan_bench/experiments/")}
    shipped = {name for name in tracked_files() if name.startswith("gan_bench/experiments/")}
    assert names == expected | shipped
    for name in ("gan_bench/experiments/dcgan_vs_mlp.yaml", "gan_bench/experiments/schema.json",
                 "gan_bench/report/template.html", "gan_bench/cli/planning/starter/mine.py",
                 "gan_bench/py.typed"):
        assert name in names


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, each with its arguments in a line."""
    lines = [line for line in DOCKERFILE.read_text().splitlines()
             if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(name, " ".join(rest.split())) for name, _, rest in
            (line.partition(" ") for line in joined.splitlines())]


def test_a_linter_accepts_the_image_and_refuses_a_worse_one(tmp_path: Path) -> None:
    hadolint = shutil.which("hadolint", path=Path(sys.executable).parent)
    if hadolint is None:
        pytest.skip("no hadolint beside this Python")
    text = DOCKERFILE.read_text()
    worse = tmp_path / "Dockerfile"
    worse.write_text(text.replace("USER 10001\n", "USER root\n"))
    for file, status, words in ((DOCKERFILE, 0, ""), (worse, 1, "DL3002")):
        done = subprocess.run([hadolint, str(file)], capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
        assert words in done.stdout


def test_the_image_copies_what_an_installation_needs() -> None:
    copied = {source for name, text in instructions() if name == "COPY"
              for source in text.split()[:-1]}
    for name in copied:
        assert (ROOT / name).exists(), name
    kept = {line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines()
            if line.startswith("!")}
    assert kept == copied
    described = ConfigParser()
    described.read(ROOT / "setup.cfg")
    metadata = described["metadata"]
    needed = {"setup.cfg", "pyproject.toml", "constraints.txt", "gan_bench", "experiments",
              metadata["license_files"], metadata["long_description"].removeprefix("file: ")}
    assert needed <= copied


def test_what_is_pinned_runs_on_every_python_that_is_promised() -> None:
    """As Debian's 3.11.2: pip calls what does not a conflict of dependencies, and not why."""
    described = ConfigParser()
    described.read(ROOT / "setup.cfg")
    oldest = described["options"]["python_requires"].removeprefix(">=") + ".0"
    checked, refusing = 0, []
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        name, _, version = line.partition("==")
        with suppress(PackageNotFoundError):
            facts = distribution(name).metadata
            if facts["Version"] == version:
                checked += 1
                asked = str(facts.get("Requires-Python") or "")
                if oldest not in SpecifierSet(asked):
                    refusing.append(f"{line} needs Python {asked}")
    assert checked > 100
    assert refusing == []
