"""The help of every command: each option says what it is and what its default is; completion."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from helpers.launching import GAN_BENCH, gan_bench
from helpers.studies import here

from gan_bench.cli.app import app

Words = tuple[str, ...]


def commands(group: Any = None, path: Words = ()) -> Iterator[tuple[Words, Any]]:
    """Yield every command, with the words that call it; the program itself first."""
    group = group or typer.main.get_command(app)
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


COMMANDS = dict(commands())


def block_of(text: str, name: str, names: set[str]) -> list[str]:
    """Return the words of the rows of a help that begin with a name, until another name's."""
    words: list[str] = []
    is_here = False
    for line in text.splitlines():
        tokens = line.replace("│", " ").replace("*", " ").split()
        first = {part for token in tokens[:2] for part in token.split(",")} & names
        if first or not tokens:
            is_here = name in first
        if is_here:
            words += tokens
    return words


def is_within(words: list[str], block: list[str]) -> bool:
    """Whether words stand in a block in this order; columns beside them may come between."""
    rest = iter(block)
    return all(word in rest for word in words)


@pytest.mark.parametrize("width", [62, 80])
@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_option_says_what_it_is_and_what_its_default_is(path: Words, width: int,
                                                              ) -> None:
    shown = here(*path, "--help", env={"COLUMNS": str(width)})
    assert shown.returncode == 0, shown.stderr
    assert max(map(len, shown.stdout.splitlines())) <= width
    params = COMMANDS[path].get_params(typer.Context(COMMANDS[path]))
    names = {name for param in params for name in (*param.opts, param.metavar) if name}
    for param in params:
        key = param.opts[0] if param.param_type_name == "option" else param.metavar
        row = block_of(shown.stdout, key, names)
        text = str(param.help).replace("\\[", "[")
        assert len(re.sub(r"\[default:.*", "", text).split()) >= 2, f"{path} {key}"
        assert is_within(text.split(), row), f"{path} {key}: {row}"
        has_default = param.required or param.nargs != 1 or param.multiple or getattr(
            param, "is_flag", False)
        assert has_default or "[default:" in row or "default:" in row, f"{path} {key}: {row}"


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_short_help_is_the_same_help(path: Words) -> None:
    long, short = here(*path, "--help"), here(*path, "-h")
    assert (short.returncode, short.stdout) == (0, long.stdout)
    assert "Usage: gan-bench" in short.stdout


def test_paragraphs_of_a_help_fill_the_terminal() -> None:
    lines = here("report", "-h", env={"COLUMNS": "80"}).stdout.splitlines()
    (begin,) = [i for i, line in enumerate(lines) if line.strip().startswith("It may combine")]
    assert [line.strip() for line in lines[begin:begin + 3]] == [
        "It may combine experiments that were measured in the same way. Exit status: 0",
        "written; 2 nothing could be written; 3 runs that MLflow hides, or lost",
        "pictures, are left out."]


@pytest.mark.parametrize(("old", "present"), [
    ("--data", "--data-root"), ("--data_root", "--data-root"), ("--data-set", "--dataset"),
    ("--metrics", "--metric")])
def test_other_spellings_work_and_are_shown_by_no_help(tmp_path: Path, old: str, present: str,
                                                       ) -> None:
    value = "nowhere" if "root" in present else "digits"
    done = [here("evaluate", tmp_path / "no.png", option, value, "--root", tmp_path)
            for option in (old, present)]
    assert done[0].stderr == done[1].stderr
    assert "no such file" in done[0].stderr
    words = [word for path in COMMANDS for word in here(*path, "-h").stdout.split()]
    assert old not in words
    assert present in words


def completed(*words: str, cwd: Path, shell: str = "bash", **more: str) -> list[str]:
    """Return what a shell offers for the last of the words."""
    line = " ".join(("gan-bench", *words))
    variables = {"_GAN_BENCH_COMPLETE": f"complete_{shell}", "COMP_WORDS": line,
                 "COMP_CWORD": str(len(words)), "_TYPER_COMPLETE_ARGS": line, **more}
    code = ("import sys; from gan_bench.cli import app\ntry: app.main()\n"
            "except SystemExit as end: assert not end.code, end.code\n"
            "heavy = {'torch', 'mlflow', 'numpy', 'scipy', 'sklearn'} & set(sys.modules)\n"
            "assert not heavy, heavy")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                          check=False, cwd=cwd, env={**os.environ, **variables})
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split("\n")[:-1] if done.stdout.strip() else []


def test_a_shell_completes_commands_options_files_runs_and_names(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("")
    (tmp_path / "mine.txt").write_text("")
    (tmp_path / "minor").mkdir()
    journal = tmp_path / "mlruns" / "runs" / "mint" / "ab12cd34ef56" / "journal.jsonl"
    journal.parent.mkdir(parents=True)
    journal.write_text("")
    later = journal.with_name("journal.2.jsonl")  # of a run that was lost from sight
    for words, offered in ((("st",), ["status", "stop"]), (("plan", "--da"), ["--data-root"]),
                           (("plan", "mi"), ["mine.yaml", "minor/", "mint"]),
                           (("plan", "loss_"), ["loss_zoo"]), (("logs", "ab"), ["ab12cd34ef56"]),
                           (("list", "los"), ["losses"]), (("show", "hin"), ["hinge"]),
                           (("show", "no-such"), []), (("--vers",), ["--version"])):
        assert completed(*words, cwd=tmp_path) == offered, words
    journal.rename(later)
    assert completed("logs", "ab", cwd=tmp_path) == ["ab12cd34ef56"]


def test_completion_prints_no_error_whatever_was_typed(tmp_path: Path) -> None:
    for words in (("plan", "no/such/folder/"), ("plan", "--data-root", "mnist", ""),
                  ("--version", ""), ("nothing", "x"), ("run", "--slots", "x", "--")):
        offered = completed(*words, cwd=tmp_path)
        assert not any("error" in line or line.startswith("gan-bench ") for line in offered)
    zsh = completed("st", cwd=tmp_path, shell="zsh")
    assert zsh[0].startswith("_arguments")
    assert '"status"' in zsh[0]


@pytest.mark.process
def test_completion_is_installed_for_a_shell() -> None:
    shown = subprocess.run([*GAN_BENCH, "--show-completion"], capture_output=True, text=True,
                           check=False, env={**os.environ,
                                             "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": ""})
    assert "Traceback" not in shown.stderr
    assert "--install-completion" in gan_bench("--help").stdout
