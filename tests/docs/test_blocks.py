"""That what the documentation says can be done: its commands, experiments and code are run."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import typer
from helpers.doc_blocks import (
    DIRECTIVE,
    EXAMPLE_RUN,
    RUN,
    Reader,
    blocks_of,
    commands_of,
    tiny_arguments,
    tiny_settings,
)
from helpers.studies import copy_of, here
from PIL import Image
from typer.core import TyperGroup

import gan_bench
from gan_bench.cli.app import app
from gan_bench.registry import use_plugins

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
STUDIES = DOCS / "results.md"  # its commands train eight studies, and are run with the long tests
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md")),
         DOCS / "mnist_saturation" / "README.md"]
NOTEBOOK = DOCS / "quickstart.ipynb"
MAX_NOTEBOOK = 3e6
OPTION = re.compile(r"^--[a-z][a-z-]*$")

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a reader who has run the demonstration, in its tiny form."""
    folder = tmp_path_factory.mktemp("reader")
    done = here(*tiny_arguments(["run", "dcgan_vs_mlp"]), "--root", folder / "mlruns")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def reader(trained: Path, tmp_path: Path) -> Iterator[Reader]:
    """A reader of a page, with the files that pages speak of."""
    copy_of(trained / "mlruns", tmp_path / "mlruns")
    for name in ("experiments", "analysis"):
        (tmp_path / name).symlink_to(ROOT / name)
    write_data(tmp_path)
    tiny = gan_bench.load_experiment("dcgan_vs_mlp", tmp_path / "data", tiny_settings([]))
    whole = gan_bench.load_experiment("dcgan_vs_mlp", tmp_path / "data")
    example = next(run for run in whole.runs if run.id == EXAMPLE_RUN)
    run_id = next(run.id for run in tiny.runs
                  if (run.variant, run.seed) == (example.variant, example.seed))
    yield Reader(tmp_path, run_id)
    use_plugins(())


def write_data(folder: Path) -> None:
    """Write images of another origin, statistics, and the data folder."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 16, 16), np.uint8)
    np.savez(folder / "peer.npz", images=images)
    (folder / "samples").mkdir()
    (folder / "data").mkdir()
    with tarfile.open(folder / "data" / "faces.tar.gz", "w:gz") as archive:
        for number, image in enumerate(images):
            file = folder / "samples" / f"{number}.png"
            Image.fromarray(image).save(file)
            archive.add(file, f"{number}.png")
    np.savez_compressed(folder / "fid_stats.npz", mu=np.zeros(2048), sigma=np.eye(2048))
    mnist = Path(os.environ.get("GAN_BENCH_DATA") or "/nowhere").resolve() / "MNIST"
    if mnist.exists():
        (folder / "data" / "MNIST").symlink_to(mnist)


@pytest.mark.parametrize("page", [
    pytest.param(page, id=str(page.relative_to(ROOT)),
                 marks=[pytest.mark.long] if page == STUDIES else [])
    for page in PAGES if any(block.language in RUN for block in blocks_of(page))])
def test_the_blocks_of_a_page_do_what_they_say(page: Path, reader: Reader) -> None:
    if page == STUDIES and not (reader.folder / "data" / "MNIST").exists():
        pytest.skip("GAN_BENCH_DATA names no data root with MNIST")
    for block in blocks_of(page):
        reader.save(block)
    for block in blocks_of(page):
        reader.follow(block)


def test_the_notebook_runs_from_its_first_cell_to_its_last(reader: Reader) -> None:
    assert NOTEBOOK.stat().st_size < MAX_NOTEBOOK
    cells = json.loads(NOTEBOOK.read_text("utf-8"))["cells"]
    codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(codes) > 3
    for number, code in enumerate(codes, 1):
        place = f"quickstart.ipynb, code cell {number}"
        commands = [line[1:] for line in code.split("\n") if line.startswith("!")]
        if commands:  # as in Jupyter, a command of the shell; here a cell has nothing else
            assert len(commands) == len(code.strip().split("\n")), place
            for words in commands_of("\n".join(commands)):
                reader.run(words, place)
        else:
            lines = [line for line in code.split("\n") if not line.startswith("%")]
            reader.run_cell("\n".join(lines), place)


def test_every_block_names_its_language_and_indented_code_is_fenced() -> None:
    for page in PAGES:
        for block in blocks_of(page):
            assert block.language, block.place
        outside = re.sub(r"(?ms)^( *)```.*?^\1```$", "", page.read_text("utf-8"))
        code = [line for line in outside.split("\n")
                if re.match(r"    (make|gan-bench|python|pip|docker|\.venv)\b", line)]
        assert code == [], page


def test_a_reason_stands_before_each_block_that_is_not_run() -> None:
    reasons = {block.place: block.not_run for page in PAGES for block in blocks_of(page)
               if block.not_run}
    assert 0 < len(reasons) < 20  # those of clusters and servers are run by their own tests
    for place, reason in reasons.items():
        assert len(reason) > 10, place
    for page in PAGES:  # a marker that stands elsewhere would be of no block
        text = page.read_text("utf-8")
        markers = [line for line in text.split("\n") if DIRECTIVE.match(line)]
        used = sum(bool(block.not_run) + bool(block.file) for block in blocks_of(page))
        assert len(markers) == used, page


def parameters_of(group: TyperGroup, words: list[str]) -> tuple[str, set[str]] | None:
    """Return the command that words name, and its options; None if there is none."""
    command = group.commands.get(words[0])
    if isinstance(command, TyperGroup):
        return parameters_of(command, words[1:]) if words[1:] else (words[0], set())
    if command is None:
        return None
    return words[0], {option for parameter in command.params if not getattr(parameter, "hidden", 0)
                      for option in (*parameter.opts, *parameter.secondary_opts)}


def test_commands_and_options_in_running_text_exist() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    everywhere = {option for command in group.commands.values() for parameter in command.params
                  for option in (*parameter.opts, *parameter.secondary_opts)}
    of_program = {option for parameter in group.params for option in parameter.opts}
    everywhere |= {"--help", *of_program}
    checked = 0
    for page in PAGES:
        text = re.sub(r"(?ms)^( *)```.*?^\1```$", "", page.read_text("utf-8"))
        for code in re.findall(r"`([^`]+)`", text):
            words = " ".join(code.split()).split(" ")
            if words[0] == "gan-bench" and len(words) > 1 and OPTION.match(words[1]):
                assert words[1] in of_program, f"{page}: {code}"
            elif words[0] == "gan-bench" and len(words) > 1 and words[1].islower():
                entry = parameters_of(group, words[1:])
                assert entry is not None, f"{page}: {code}"
                options = {word.partition("=")[0] for word in words if OPTION.match(word)}
                assert options <= entry[1] | {"--help"}, f"{page}: {code}"
                checked += 1
            elif OPTION.match(words[0]) and page != ROOT / "CONTRIBUTING.md":
                assert words[0] in everywhere, f"{page}: {code}"
    assert checked > 20


def test_every_command_is_in_the_table() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    text = (DOCS / "commands.md").read_text("utf-8")
    visible = {name for name, command in group.commands.items() if not command.hidden}
    assert {name for name in visible if f"| `gan-bench {name}" not in text} == set()


def test_a_block_that_fails_is_named(reader: Reader, tmp_path: Path) -> None:
    page = DOCS / "quickstart.md"
    (block, *_) = [block for block in blocks_of(page) if "gan-bench init" in block.text]
    wrong = type(block)(block.place, "bash", "gan-bench plan missing.yaml\n")
    with pytest.raises(AssertionError, match=r"quickstart\.md:\d+.*missing\.yaml"):
        reader.follow(wrong)
    with pytest.raises(AssertionError, match="put `<!-- not run"):
        reader.follow(type(block)(block.place, "bash", "docker build .\n"))
    with pytest.raises(gan_bench.SpecError, match="widht"):
        reader.follow(type(block)(block.place, "yaml", "base: {model: {name: mlp, widht: 3}}\n"))
    with pytest.raises(AssertionError, match="name the language"):
        reader.follow(type(block)(block.place, "", ""))


def test_blocks_are_read_with_their_markers(tmp_path: Path) -> None:
    text = io.StringIO()
    page = ROOT / "docs" / "index.md"
    print("a\n\n<!-- file: x.py -->\n```python\nx = 1\n```\n\n<!-- not run: it takes a server -->\n"
          "1.  b\n    ```bash\n    make\n    ```", file=text)
    file = tmp_path / "page.md"
    file.write_text(text.getvalue())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("helpers.doc_blocks.ROOT", tmp_path)
        first, second = blocks_of(file)
    assert (first.place, first.text, first.file) == ("page.md:5", "x = 1\n", "x.py")
    # The marker is of the next line alone.
    assert (second.text, second.not_run, second.language) == ("make\n", "", "bash")
    assert page.exists()
