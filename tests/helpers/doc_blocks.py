"""The fenced blocks of the documentation, and how tests run them in a tiny form."""

from __future__ import annotations

import ast
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import chdir
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from helpers.studies import here
from ruamel.yaml import YAML

import gan_bench
from gan_bench.config.shipped import is_experiment

ROOT = Path(__file__).parents[2]
FENCE = re.compile(r"^( *)```(\w*)\s*$")
DIRECTIVE = re.compile(r"^ *<!-- (file|not run): (.+) -->$")
RUN = {"bash", "python", "yaml"}
SHOWN = {"text", "ini"}  # output, and files of other programs
# The documentation's example of a run: the first of its variant in the demonstration.
EXAMPLE_RUN = "61103bba0aca"
# Few steps and samples in place of the file's; they come last, so that they hold.
TINY = {"base.epochs": "null", "base.log_every": "2", "base.sample_every": "null",
        "evaluate.every": "3", "evaluate.samples": "60", "evaluate.final_samples": "null",
        "compute.device": "cpu", "curve_means": "{}"}
STEPS, SEEDS = 6, "[0, 1]"
# A fragment of a YAML is read as a part of this.
WHOLE = {"name": "fragment", "dataset": {"name": "digits", "image_size": 16}, "seeds": [0, 1],
         "base": {"model": "mlp", "steps": 100, "batch_size": 32},
         "evaluate": {"metrics": ["nearest_train_mse"], "samples": 100}}


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        place: `page:line` of its text, for messages.
        language: Behind the fence.
        text: What is between the fences.
        file: The name under which a reader saves it; empty for none.
        not_run: Why a test cannot run it; empty if a test runs it.
    """

    place: str
    language: str
    text: str
    file: str = ""
    not_run: str = ""


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page."""
    blocks: list[Block] = []
    lines = iter(enumerate(page.read_text("utf-8").split("\n"), 1))
    directive: dict[str, str] = {}
    for number, line in lines:
        if found := DIRECTIVE.match(line):
            directive = {found[1].replace(" ", "_"): found[2]}
        elif fence := FENCE.match(line):
            body = []
            for _, inner in lines:
                if inner.strip() == "```":
                    break
                body.append(inner.removeprefix(fence[1]))
            text = "\n".join(body) + "\n"
            blocks.append(Block(f"{page.relative_to(ROOT)}:{number + 1}", fence[2], text,
                                **directive))
            directive = {}
        elif line.strip():
            directive = {}
    return blocks


def commands_of(text: str) -> Iterator[list[str]]:
    """Yield the words of each command of a block, which has a command a line."""
    for line in text.replace("\\\n", " ").split("\n"):
        if words := shlex.split(line, comments=True):
            yield words


def tiny_settings(settings: list[str]) -> list[str]:
    """Return overrides that make an experiment tiny, whatever these overrides say of its size."""
    values = dict(setting.split("=", 1) for setting in settings)
    steps = max(STEPS, int(values.get("base.steps", STEPS)) // 100)
    tiny = {**TINY, "base.steps": str(steps)}
    if "seeds" not in values:
        tiny["seeds"] = SEEDS
    return [f"{key}={value}" for key, value in tiny.items()]


def tiny_arguments(words: list[str]) -> list[str]:
    """Return the arguments of gan-bench with which a test runs a command."""
    command, arguments = words[0], [word for word in words[1:] if word != "--open"]
    if command in ("run", "plan", "power", "evaluate") and is_experiment(arguments[0]):
        given = [arguments[i + 1] for i, word in enumerate(arguments) if word == "--set"]
        file = Path(arguments[0])
        has_search = file.is_file() and "\nsearch:" in file.read_text()
        for setting in tiny_settings(given):
            if has_search and setting.startswith("seeds="):  # it has seeds of its own
                continue
            arguments += ["--set", setting]
    if command == "report" and "--format" not in arguments:
        arguments += ["--format", "csv,md"]  # tests/report draws the figures
    return [command, *arguments]


def merged(whole: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """Return a mapping with the keys of another in it, which replaces all but mappings."""
    result = dict(whole)
    for key, value in part.items():
        inner = result.get(key)
        keeps = isinstance(inner, dict) and isinstance(value, dict) and "name" not in value
        result[key] = merged(inner, value) if keeps else value
    return result


@dataclass
class Reader:
    """One who reads a page and does what its blocks say.

    Attributes:
        folder: Where the shell is.
        run_id: The run that stands for the documentation's example.
        names: What the Python blocks of the page have defined.
    """

    folder: Path
    run_id: str
    names: dict[str, Any] = field(default_factory=dict)

    def save(self, block: Block) -> None:
        """Save a block that has a file's name; a page may show a file before those that it needs.
        """
        if block.file:
            (self.folder / block.file).write_text(block.text)

    def follow(self, block: Block) -> None:
        """Do what a block says; an AssertionError or an error of its code says what is wrong."""
        assert block.language in RUN | SHOWN, f"{block.place}: name the language of the block"
        if block.not_run or block.language in SHOWN:
            return
        text = block.text.replace(EXAMPLE_RUN, self.run_id)
        if block.language == "bash":
            for words in commands_of(text):
                self.run(words, block.place)
        elif block.language == "yaml":
            self.check_yaml(block)
        elif block.file:
            compile(text, block.place, "exec")  # a command after it imports the file
        else:
            self.run_python(text, block.place)

    def run(self, words: list[str], place: str) -> None:
        """Run a command of a shell."""
        program = Path(words[0]).name
        if program == "cd":
            self.folder = self.folder / words[1]
            assert self.folder.is_dir(), f"{place}: {words}"
        elif program == "gan-bench":
            self.run_gan_bench(words[1:], place)
        elif program == "make":
            done = subprocess.run(["make", "-n", "-C", str(ROOT), *words[1:]], check=False,
                                  capture_output=True, text=True)
            assert done.returncode == 0, f"{place}: {done.stderr}"
        elif program == "python" and words[1].endswith(".py"):
            with chdir(self.folder), patch.object(sys, "argv", words[1:]):
                runpy.run_path(str(ROOT / words[1]), run_name="__main__")
        else:
            raise AssertionError(f"{place}: {words}: no test can run this: put `<!-- not run: "
                                 f"REASON -->` before the block")

    def run_gan_bench(self, words: list[str], place: str) -> None:
        short = EXAMPLE_RUN[:4]
        words = [self.run_id if word == short else word for word in words]
        with chdir(self.folder):
            done = here(*tiny_arguments(words))
        assert done.returncode == 0, f"{place}: {words}\n{done.stdout}{done.stderr}"

    def check_yaml(self, block: Block) -> None:
        """Check an experiment, or a part of one."""
        content = YAML(typ="safe", pure=True).load(block.text)
        is_whole = "seeds" in content or {"search", "dataset"} <= content.keys()
        file, whole = self.folder / "block.yaml", merged(WHOLE, content)
        if "search" in content:  # which has seeds of its own
            del whole["seeds"]
        file.write_text(block.text if is_whole else json.dumps(whole))
        gan_bench.load_experiment(file, self.folder / "data")
        file.unlink()

    def run_cell(self, text: str, place: str) -> None:
        """Run the cell of a notebook, and make what is shown below it."""
        tree = ast.parse(text)
        if tree.body and isinstance(tree.body[-1], ast.Expr):
            last = ast.unparse(tree.body.pop())
            tree.body += ast.parse(f"_ = {last}\nif _ is not None: assert getattr(_, "
                                   f"'_repr_html_', str)() or repr(_)").body
        self.run_python(ast.unparse(tree), place)

    def run_python(self, text: str, place: str) -> None:
        """Run code in the names that earlier blocks have defined; experiments in it are tiny."""
        def load_tiny(path: str, data_root: str, overrides: list[str] | None = None,
                      **options: Any) -> Any:
            settings = list(overrides or [])
            return load(path, data_root, [*settings, *tiny_settings(settings)], **options)

        load = gan_bench.load_experiment
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MLFLOW_TRACK")}
        with (chdir(self.folder), patch.object(gan_bench, "load_experiment", load_tiny),
              patch.dict(os.environ, environment, clear=True)):
            exec(compile(text, place, "exec"), self.names)
