"""The hash of the code behind parts of installed packages, scripts and typed code."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.runs import install

LOSS = ("from gan_bench.registry import LOSSES\n\n\n@LOSSES.register('mine')\n"
        "def mine(*, k: int = 1):\n    return lambda fake: k * fake + 0.5\n")
SHOW = "\nprint(LOSSES['mine'].source, LOSSES['hinge'].source)\n"
SHOW_INSTALLED = "from gan_bench.registry import LOSSES\n" + SHOW
# What setuptools puts into site-packages for `pip install -e`, in short.
FINDER = """\
import importlib.util, sys

MAPPING = {0!r}


class Finder:
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in MAPPING:
            return importlib.util.spec_from_file_location(name, MAPPING[name])


def install():
    sys.meta_path.append(Finder)
"""


def record(site: Path, name: str, *files: str) -> None:
    """List the files of a distribution, as pip does."""
    lines = [f"{file},," for file in (*files, f"{name}-1.0.dist-info/RECORD")]
    (site / f"{name}-1.0.dist-info" / "RECORD").write_text("\n".join(lines) + "\n")


def installed_source(env: dict[str, str]) -> str:
    """The hash of the loss of an installed package, in a process that has it."""
    done = subprocess.run([sys.executable, "-c", "import site, os\nfor place in os.environ["
                           "'PYTHONPATH'].split(os.pathsep):\n    site.addsitedir(place)\n"
                           + SHOW_INSTALLED], capture_output=True, text=True, check=True,
                          env={**os.environ, **env})
    return done.stdout.strip()


def package(folder: Path, name: str, formula: str) -> list[str]:
    """Write the code of a package, or of a single module; return its files."""
    code = LOSS.replace("k * fake", formula)
    if name.endswith(".py"):
        files = {name: code}
    else:
        files = {f"{name}/__init__.py": f"from {name}.deep import losses\n",
                 f"{name}/deep/__init__.py": "", f"{name}/deep/losses.py": code}
    for file, content in files.items():
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(content)
    return [*files]


@pytest.mark.parametrize("code", ["pack", "single.py"])
@pytest.mark.parametrize("way", ["finder", "path"])
def test_an_editable_install_has_the_hash_of_a_normal_one(tmp_path: Path, code: str, way: str,
                                                          ) -> None:
    name = code.removesuffix(".py")

    def normal(formula: str, folder: str) -> str:
        site = tmp_path / folder
        env = install(site, name, "", "losses")
        (site / f"{name}.py").unlink()
        record(site, name, *package(site, code, formula), "../../bin/tool.py")
        (site / "../../bin").mkdir(exist_ok=True)
        (site / "../../bin/tool.py").write_text("print()\n")
        return installed_source(env)

    def editable(formula: str, folder: str) -> str:
        site, project = tmp_path / folder / "site", tmp_path / folder / "project"
        env = install(site, name, "", "losses")
        (site / f"{name}.py").unlink()
        package(project, code, formula)
        if way == "path":
            (site / f"__editable__.{name}-1.0.pth").write_text(f"{project}\n")
            record(site, name, f"__editable__.{name}-1.0.pth")
        else:
            finder = f"__editable___{name}_1_0_finder"
            first = code if code.endswith(".py") else f"{code}/__init__.py"
            (site / f"{finder}.py").write_text(FINDER.replace(
                "{0!r}", repr({name: str(project / first)})))
            (site / f"__editable__.{name}-1.0.pth").write_text(
                f"import {finder}; {finder}.install()\n")
            record(site, name, f"__editable__.{name}-1.0.pth", f"{finder}.py")
        return installed_source(env)

    first = normal("k * fake", "normal")
    assert len(first) == 12
    assert editable("k * fake", "editable") == first
    changed = editable("2 * k * fake", "editable2")
    assert changed not in ("", first)
    assert normal("2 * k * fake", "normal2") == changed


def ran(folder: Path, *command: str, text: str | None = None) -> str:
    done = subprocess.run([sys.executable, *command], input=text, capture_output=True, text=True,
                          cwd=folder, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(("old", "new"), [
    ("k * fake", "2 * k * fake"), ("+ 0.5", "+ 0.25"), ("+ 0.5", "- 0.5"),
    ("k * fake", "fake.mean()"), ("k * fake", "(lambda x: x * 3.0)(fake)")])
def test_code_that_is_typed_into_python_counts_with_its_constants(tmp_path: Path, old: str,
                                                                  new: str) -> None:
    first = ran(tmp_path, "-", text=LOSS + SHOW)
    assert len(first) == 12
    assert ran(tmp_path, "-", text=LOSS.replace(old, new) + SHOW) != first


def test_the_hash_of_typed_code_is_the_same_in_each_process(tmp_path: Path) -> None:
    """A set in a constant has another order in each process."""
    text = LOSS.replace("0.5", "(fake in {'a', 'b', 'c', 'd', 'e'})") + SHOW
    assert len({ran(tmp_path, "-", text=text) for _ in range(4)}) == 1
    assert ran(tmp_path, "-", text=text.replace("'e'", "'f'")) != ran(tmp_path, "-", text=text)


def test_what_a_script_imports_from_beside_it_counts(tmp_path: Path) -> None:
    script = LOSS.replace("0.5", "beside.half").replace("\n\n\n", "\nimport beside\n\n\n", 1)
    (tmp_path / "beside.py").write_text("from deeper import half\n")
    (tmp_path / "deeper.py").write_text("half = 0.5\n")
    (tmp_path / "other.py").write_text("half = 0.5\n")
    (tmp_path / "a-script.py").write_text(script + SHOW)
    first = ran(tmp_path, "a-script.py")
    assert len(first) == 12
    (tmp_path / "other.py").write_text("half = 0.75\n")
    (tmp_path / "deeper.py").write_text("half = 0.5  # a half\n")
    assert ran(tmp_path, "a-script.py") == first
    (tmp_path / "deeper.py").write_text("half = 0.75\n")
    assert ran(tmp_path, "a-script.py") != first


def test_what_is_installed_beside_a_single_module_is_not_its_code(tmp_path: Path) -> None:
    (tmp_path / "other-1.0.dist-info").mkdir()
    (tmp_path / "other.py").write_text("half = 0.5\n")
    (tmp_path / "single.py").write_text("import other\n" + LOSS)
    text = "import single\n" + SHOW_INSTALLED
    first = ran(tmp_path, "-c", text)
    (tmp_path / "other.py").write_text("half = 0.75\n")
    assert ran(tmp_path, "-c", text) == first
    (tmp_path / "single.py").write_text("import other\n" + LOSS.replace("k *", "2 * k *"))
    assert ran(tmp_path, "-c", text) not in ("", first)


def test_a_module_of_a_package_has_the_hash_of_the_package(tmp_path: Path) -> None:
    package(tmp_path, "pack", "k * fake")
    (tmp_path / "pack/scale.py").write_text("value = 1\n")
    text = "import pack\n" + SHOW_INSTALLED
    first = ran(tmp_path, "-c", text)
    assert len(first) == 12
    (tmp_path / "pack/scale.py").write_text("value = 2\n")
    assert ran(tmp_path, "-c", text) != first
