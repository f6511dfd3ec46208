"""The hash of the code behind a part: what changes it, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from gan_bench.registry import read_plugin

FILE = '''\
"""Parts."""

from gan_bench.components.losses import Loss
from gan_bench.registry import LOSSES, METRICS, MetricFacts
import numpy as np

SCALE = 0.5
OTHER = 2.0


class Scaler:
    """Scales."""

    def __call__(self, x):
        return SCALE * x


@LOSSES.register("mine")
def mine(*, k: float = 1.0) -> Loss:
    """A loss."""
    from beside import half
    scaler = Scaler()
    return Loss(lambda real, fake: (-real.mean(), half(fake.mean())),
                lambda fake, real: -scaler(fake).mean())


@METRICS.register("bright", MetricFacts(better=None, extractor="pixels", reference=None,
                                        refuses=lambda data: None))
def bright(real, fake):
    return float(np.mean(fake.values) * OTHER)
'''
BESIDE = "import deeper\n\ndef half(x):\n    return deeper.factor * x\n"
DEEPER = "factor = 0.5\n"


def write(folder: Path, text: str = FILE, beside: str = BESIDE, deeper: str = DEEPER) -> Path:
    for name, content in (("mine.py", text), ("beside.py", beside), ("deeper.py", deeper)):
        (folder / name).write_text(content)
    return folder / "mine.py"


def sources(file: Path) -> tuple[str, str]:
    """The hashes of the loss and of the metric."""
    plugin = read_plugin(file)
    return plugin.source("loss", "mine"), plugin.source("metric", "bright")


@pytest.mark.parametrize("change", [
    lambda text: text.replace("SCALE = 0.5", "SCALE = 0.5  # a half\n"),
    lambda text: text.replace('"""A loss."""', '"""Another text."""'),
    lambda text: text.replace('"""Parts."""\n', ""),
    lambda text: text.replace("-real.mean(), half", "-real.mean(),\n        half"),
    lambda text: text.replace("'", '"').replace("SCALE * x", "(SCALE * x)"),
    lambda text: text + "\n\ndef unused():\n    return SCALE\n"])
def test_what_is_no_code_does_not_count(tmp_path: Path, change) -> None:
    before = sources(write(tmp_path))
    assert change(FILE) != FILE
    assert sources(write(tmp_path, change(FILE))) == before
    assert all(len(source) == 12 for source in before)


def test_a_docstring_that_mentions_a_name_names_nothing(tmp_path: Path) -> None:
    before = sources(write(tmp_path))
    for old, new in (('"""A loss."""', '"""A loss, unlike bright and OTHER."""'),
                     ('"""Scales."""', '"""Scales, unlike OTHER."""'),
                     ('"""Parts."""', '"""Parts; eval sees OTHER."""')):
        text = FILE.replace(old, new)
        assert text != FILE
        assert sources(write(tmp_path, text)) == before
        other = sources(write(tmp_path, text.replace("OTHER = 2.0", "OTHER = 3.0")))
        assert other[0] == before[0]
        assert other[1] != before[1]


def test_a_name_in_a_string_that_is_no_docstring_counts(tmp_path: Path) -> None:
    text = FILE.replace("k: float = 1.0", "k: 'OTHER' = 1.0")
    before = sources(write(tmp_path, text))
    after = sources(write(tmp_path, text.replace("OTHER = 2.0", "OTHER = 3.0")))
    assert [a != b for a, b in zip(after, before, strict=True)] == [True, True]


@pytest.mark.parametrize(("old", "new", "changed"), [
    ("-real.mean()", "-2 * real.mean()", (True, False)),
    ("SCALE = 0.5", "SCALE = 0.6", (True, False)),  # by way of a class
    ("k: float = 1.0", "k: float = 2.0", (True, False)),
    ("OTHER = 2.0", "OTHER = 3.0", (False, True)),
    ("np.mean", "np.median", (False, True)),
    ("better=None", 'better="lower"', (False, True)),  # its facts are code too
    ("import numpy as np", "import numpy as np\nimport sys", (False, False)),
    ("OTHER = 2.0", "OTHER = 2.0\nprint(OTHER)", (True, True)),  # what runs at once may do anything
    ("class Scaler:", "class Base: pass\n\n\nclass Scaler(Base):", (True, True)),
    ("OTHER = 2.0", "OTHER = 2.0\nglobals()['SCALE'] = 3.0", (True, True)),
])
def test_code_counts_for_the_parts_that_it_stands_behind(
        tmp_path: Path, old: str, new: str, changed: tuple[bool, bool]) -> None:
    before = sources(write(tmp_path))
    assert FILE.count(old) == 1 or old == "np.mean"
    after = sources(write(tmp_path, FILE.replace(old, new)))
    assert tuple(a != b for a, b in zip(after, before, strict=True)) == changed


def test_modules_beside_the_file_count_and_those_that_they_import(tmp_path: Path) -> None:
    before = sources(write(tmp_path))
    assert [name for name, _ in read_plugin(tmp_path / "mine.py").files] == [
        "mine.py", "beside.py", "deeper.py"]
    for beside, deeper in ((BESIDE.replace("deeper.factor", "2 * deeper.factor"), DEEPER),
                           (BESIDE, "factor = 0.6\n")):
        after = sources(write(tmp_path, FILE, beside, deeper))
        assert after[0] != before[0]
        assert after[1] == before[1]  # the metric imports neither
    assert sources(write(tmp_path, FILE, BESIDE + "# a comment\n")) == before


@pytest.mark.parametrize("call", ['import_module("beside.part")', '__import__("beside")',
                                  'importlib.import_module(name="x") or import_module("beside")'])
def test_a_module_that_is_imported_by_a_call_counts(tmp_path: Path, call: str) -> None:
    text = FILE.replace("from beside import half", f"half = {call}.half")
    assert text != FILE
    before = sources(write(tmp_path, text))
    assert "beside.py" in dict(read_plugin(tmp_path / "mine.py").files)
    assert sources(write(tmp_path, text, BESIDE + "more = 1\n"))[0] != before[0]


def test_a_class_that_registers_itself_counts(tmp_path: Path) -> None:
    """Nothing names `Third`, and yet `blocks` depends on it."""
    text = ("from gan_bench.registry import LOSSES\nBLOCKS = []\ndef block(cls):\n"
            "    BLOCKS.append(cls)\n    return cls\n\n\n@block\nclass Third:\n    size = 3\n\n\n"
            "@LOSSES.register('mine')\ndef mine():\n    return BLOCKS\n")
    first = read_plugin(write(tmp_path, text)).source("loss", "mine")
    assert read_plugin(write(tmp_path, text.replace("size = 3", "size = 4"))).source(
        "loss", "mine") != first


def test_a_part_that_is_registered_by_a_computed_name_has_the_whole_file(tmp_path: Path) -> None:
    text = FILE.replace('@LOSSES.register("mine")', "NAME = 'mine'\n\n\n@LOSSES.register(NAME)")
    first = read_plugin(write(tmp_path, text)).source("loss", "mine")
    other = read_plugin(write(tmp_path, text.replace("OTHER = 2.0", "OTHER = 3.0")))
    assert other.source("loss", "mine") != first


def test_the_name_of_the_file_does_not_count(tmp_path: Path) -> None:
    file = write(tmp_path)
    before = sources(file)
    assert sources(file.rename(tmp_path / "renamed.py")) == before


def test_a_module_beside_counts_where_it_is_named_or_does_something(tmp_path: Path) -> None:
    text = "from beside import half\n" + FILE.replace("    from beside import half\n", "")
    before = sources(write(tmp_path, text))
    after = sources(write(tmp_path, text, BESIDE.replace("deeper.factor", "2 * deeper.factor")))
    assert [a != b for a, b in zip(after, before, strict=True)] == [True, False]
    for deed in "print('hello')\n", "import numpy\nnumpy.mean = None\n":
        done = sources(write(tmp_path, text, BESIDE, deed + DEEPER))
        assert [a != b for a, b in zip(done, before, strict=True)] == [True, True]
