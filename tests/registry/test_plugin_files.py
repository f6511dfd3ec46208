"""Plug-in files in this process: how they are imported, replaced and refused."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gan_bench.errors import UserError
from gan_bench.registry import LOSSES, provide, read_plugin, read_plugins, use_plugins

LOSS = "from gan_bench.registry import LOSSES\n{imports}\n\n@LOSSES.register({name!r})\n" \
       "def loss(*, k: int = 1):\n    '''A loss.'''\n    return {value}\n"


@pytest.fixture(autouse=True)
def _no_plugins() -> Iterator[None]:
    yield
    use_plugins(())


def write(file: Path, name: str, value: object, imports: str = "") -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(LOSS.format(name=name, value=value, imports=imports))
    return file


def test_modules_beside_two_files_may_have_one_name(tmp_path: Path) -> None:
    files = []
    for number, folder in enumerate(("a", "b")):
        files.append(write(tmp_path / folder / f"plugin_{folder}.py", f"loss_{folder}",
                           "__import__('later').value + value", "from shared import value"))
        (tmp_path / folder / "shared.py").write_text(f"value = {number}\n")
        (tmp_path / folder / "later.py").write_text("import shared\nvalue = 10 * shared.value\n")
        files[-1].write_text(files[-1].read_text() + "def f():\n    import later\n")
    path = [*sys.path]
    use_plugins(read_plugins(files))
    assert [LOSSES[f"loss_{folder}"].factory() for folder in "ab"] == [0, 11]
    assert sys.path == path
    assert not {"shared", "later", "plugin_a"} & sys.modules.keys()
    of_plugins = [name for name, module in sys.modules.items()
                  if str(getattr(module, "__file__", "")).startswith(str(tmp_path))]
    assert len(of_plugins) == 6
    assert all(name.startswith("_gan_bench_plugin_") for name in of_plugins)
    assert not list(tmp_path.rglob("__pycache__"))


def test_a_module_beside_hides_none_of_python_and_none_of_the_program(tmp_path: Path) -> None:
    write(tmp_path / "mine.py", "mine", "random.random, gan_bench.__file__",
          "import random\nimport gan_bench")
    (tmp_path / "random.py").write_text("raise SystemExit('mine')\n")
    (tmp_path / "gan_bench").mkdir()
    (tmp_path / "gan_bench" / "__init__.py").write_text("raise SystemExit('mine')\n")
    use_plugins(read_plugins([tmp_path / "mine.py"]))
    import random

    import gan_bench

    assert LOSSES["mine"].factory() == (random.random, gan_bench.__file__)


def test_a_package_beside_is_read_as_a_whole(tmp_path: Path) -> None:
    write(tmp_path / "mine.py", "mine", "(one.value, two.value)",
          "from nets import one\nimport nets.two as two\n")
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "__init__.py").write_text("")
    (tmp_path / "nets" / "one.py").write_text("from .two import value as v\nvalue = v + 1\n")
    (tmp_path / "nets" / "two.py").write_text("value = 2\n")
    plugin = read_plugin(tmp_path / "mine.py")
    use_plugins([plugin])
    assert LOSSES["mine"].factory() == (3, 2)
    assert {name for name, _ in plugin.files} == {
        "mine.py", "nets/__init__.py", "nets/one.py", "nets/two.py"}


def test_the_next_plugins_take_the_place_of_the_last(tmp_path: Path) -> None:
    first = read_plugin(write(tmp_path / "mine.py", "mine", 1))
    use_plugins([first])
    second = read_plugin(write(tmp_path / "mine.py", "mine", 2))  # as fast as a test can edit
    use_plugins([second])
    assert LOSSES["mine"].factory() == 2
    assert LOSSES["mine"].source == second.source("loss", "mine") != first.source("loss", "mine")
    use_plugins([])
    assert "mine" not in LOSSES.names()
    use_plugins([first])
    assert LOSSES["mine"].factory() == 1
    assert LOSSES["hinge"].source == ""


def test_a_run_gets_the_version_that_it_was_made_with(tmp_path: Path) -> None:
    old = read_plugin(write(tmp_path / "old" / "mine.py", "mine", 11))
    use_plugins([read_plugin(write(tmp_path / "mine.py", "mine", 12))])
    wanted = {"loss.mine": old.source("loss", "mine")}
    assert provide(wanted, lambda: []) == ["loss.mine"]
    assert LOSSES["mine"].factory() == 12
    assert provide(wanted, lambda: [old]) == []
    assert LOSSES["mine"].factory() == 11
    assert provide({"loss.hinge": ""}, lambda: pytest.fail("it is there")) == []
    assert provide({"loss.absent": "", "nothing.mine": ""}, lambda: []) == [
        "loss.absent", "nothing.mine"]


@pytest.mark.parametrize(("text", "line", "message"), [
    ("x = undefined\n", ":1", "NameError: name 'undefined' is not defined"),
    ("x = 1\ndef f(:\n", ":2", "SyntaxError: invalid syntax"),
    ("import os\n\nraise SystemExit('no licence\\nat all')\n", ":3", "SystemExit: no licence"),
    ("import torchx\n", ":1", "ModuleNotFoundError: No module named 'torchx'"),
    ("x = 1\n", "", 'registers nothing; decorate a factory, for example with '
     '@LOSSES.register("my_loss")'),
    (LOSS.format(name="hinge", value=1, imports=""), ":4",
     "ValueError: the loss 'hinge' is built in: choose another name"),
    (2 * LOSS.format(name="a", value=1, imports=""), ":11",
     "ValueError: the loss 'a' is registered twice"),
    (LOSS.format(name="../a", value=1, imports=""), ":4", "ValueError: '../a' is no name for a "
     "loss: a letter or digit, then letters, digits, `_`, `.` and `-`, 64 in all"),
    (LOSS.format(name="a", value=1, imports="").replace("k: int", "k: 'Nowhere'"), "",
     "NameError: name 'Nowhere' is not defined"),
])
def test_what_cannot_be_used_is_refused_in_a_line_and_changes_nothing(
        tmp_path: Path, text: str, line: str, message: str) -> None:
    good = read_plugin(write(tmp_path / "good.py", "good", 1))
    use_plugins([good])
    file = tmp_path / "mine.py"
    for content in (text, "import mine2\n"):
        file.write_text(content)
        (tmp_path / "mine2.py").write_text(text)
        at = tmp_path / "mine2.py" if content != text and line else file
        with pytest.raises(UserError) as error:
            use_plugins([good, read_plugin(file)])
        assert str(error.value) == f"{at}{line}: {message}"
        assert LOSSES["good"].factory() == 1
        assert not {"a", "../a"} & {*LOSSES.names()}
    write(file, "good", 2)
    with pytest.raises(UserError, match=f"{file}: the loss 'good' is registered by {good.path} "
                                        f"too: rename one of them"):
        use_plugins([good, read_plugin(file)])
    assert LOSSES["good"].factory() == 1


def test_what_is_no_python_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "my-loss.py").write_text("")
    (tmp_path / "data.txt").write_text("")
    (tmp_path / "folder.py").mkdir()
    for name, message in (("absent.py", "there is no such file"),
                          ("folder.py", "there is no such file"),
                          ("my-loss.py", "a plug-in is a Python file whose name has letters, "
                           "digits and `_` alone, such as mine.py"),
                          ("data.txt", "a plug-in is a Python file")):
        with pytest.raises(UserError) as error:
            read_plugin(tmp_path / name)
        assert str(error.value).startswith(f"{tmp_path / name}: {message}")
    files = [write(tmp_path / folder / "mine.py", folder, 1) for folder in "ab"]
    with pytest.raises(UserError, match="has the same name: rename one of them"):
        read_plugins(files)
    assert len(read_plugins([files[0], tmp_path / "b" / ".." / "a" / "mine.py"])) == 1


def test_a_part_that_a_script_registers_has_the_hash_of_the_script(tmp_path: Path) -> None:
    def source(text: str) -> str:
        script = tmp_path / "script.py"
        script.write_text(text + "\nprint(LOSSES['mine'].source, LOSSES['hinge'].source)\n")
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    text = LOSS.format(name="mine", value=1, imports="")
    first = source(text)
    assert len(first) == 12
    assert source(text + "# a comment\n") == first
    assert source(text.replace("return 1", "return 2")) != first


def test_what_a_plugin_prints_is_no_result(tmp_path: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    use_plugins([read_plugin(write(tmp_path / "mine.py", "mine", 21, "print('hello')"))])
    assert capsys.readouterr() == ("", "hello\n")


@pytest.mark.parametrize(("parameters", "advice"), [
    ("t=2.0", "no YAML can set 't': a `*` has to stand before it, as in `(*, t: float = 2.0)`"),
    ("t: float = 2.0", "as in `(*, t: float = 2.0)`"),
    ("*, t=2.0", "has no type, by which a YAML is checked: write `t: float = 2.0`"),
    ("*, t", "write `t: TYPE`")])
def test_an_argument_that_no_yaml_could_set_is_refused(tmp_path: Path, parameters: str,
                                                       advice: str) -> None:
    file = write(tmp_path / "mine.py", "mine", 1)
    use_plugins(read_plugins([file]))
    file.write_text(file.read_text().replace("*, k: int = 1", parameters))
    with pytest.raises(UserError, match=rf"mine\.py:4: .*{re.escape(advice)}$"):
        use_plugins(read_plugins([file]))
