"""What to do instead of a command line that Typer refuses, or of a name in the wrong place."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from gan_bench.cli.options import present_spelling
from gan_bench.config.shipped import experiment_file, is_experiment
from gan_bench.errors import UserError, shown, worded

YAML = (".yaml", ".yml")
# Commands of other programs.
COMMANDS = {
    "train": "run", "fit": "run", "start": "run", "launch": "run", "resume": "run",
    "sweep": "run", "eval": "evaluate", "score": "evaluate", "test": "evaluate",
    "measure": "evaluate", "compare": "report", "results": "report", "ls": "list",
    "generate": "sample", "draw": "sample", "new": "init", "create": "init", "dashboard": "ui",
    "mlflow": "ui", "server": "ui", "serve": "ui", "log": "logs", "tail": "logs",
    "worker": "work", "agent": "work", "join": "work", "cancel": "stop", "kill": "stop",
    "ps": "status", "info": "show", "describe": "show", "validate": "plan", "dry-run": "plan"}
# Options of other programs: what stands in their place. `{}` is the value that was given.
OPTIONS = {
    "gpu": "--set compute.device=cuda", "cuda": "--set compute.device=cuda",
    "cpu": "--set compute.device=cpu", "device": "--set compute.device={}",
    "gpus": "--slots {}", "workers": "--slots {}", "num-workers": "--slots {}",
    "jobs": "--slots {}", "n-jobs": "--slots {}", "parallel": "--slots {}", "j": "--slots {}",
    "amp": "--set compute.precision=bfloat16", "fp16": "--set compute.precision=bfloat16",
    "bf16": "--set compute.precision=bfloat16",
    "learning-rate": "--set base.optimizer.lr={}", "lr": "--set base.optimizer.lr={}",
    "bs": "--set base.batch_size={}", "iterations": "--set base.steps={}",
    "iters": "--set base.steps={}", "num-steps": "--set base.steps={}",
    "max-steps": "--set base.steps={}", "num-epochs": "--set base.epochs={}",
    "output": "--root {}", "output-dir": "--root {}", "out-dir": "--root {}",
    "logdir": "--root {}", "log-dir": "--root {}", "save-dir": "--root {}", "runs": "--root {}",
    "data-dir": "--data-root {}", "data-path": "--data-root {}", "dataroot": "--data-root {}",
    "mlflow": "--tracking-uri {}", "mlflow-uri": "--tracking-uri {}"}
# What needs no option.
ADVICE = {
    "resume": "the same command resumes what is unfinished: leave it out",
    "continue": "the same command resumes what is unfinished: leave it out",
    "dry-run": "`gan-bench plan` shows what would be run",
    "config": "the file needs no option: gan-bench {command} FILE.yaml",
    "file": "the file needs no option: gan-bench {command} FILE.yaml",
    "force": "a finished run is never trained again; delete its folder to begin it anew",
    "overwrite": "a finished run is never trained again; delete its folder to begin it anew",
    "verbose": "`gan-bench logs RUN -f` shows what a run prints"}


def usage_line(error: Any, arguments: Sequence[str]) -> str:
    """Return what is wrong with a command line and what to write, in a line.

    Args:
        error: Typer's UsageError.
        arguments: What the user typed after the program's name.
    """
    context = error.ctx
    kind = type(error).__name__
    message = str(error.format_message()).rstrip(".")
    if kind == "BadOptionUsage" and message.endswith("requires an argument"):
        return f"{error.option_name} needs a value; {_see(*arguments[:1])}"
    if context is None:
        return message
    name = context.command_path.partition(" ")[2]
    if kind == "NoSuchOption":
        return _unknown_option(error.option_name, context, name, arguments)
    if kind == "MissingParameter" and error.param is not None:
        return _missing(error.param, name)
    if message.startswith("No such command"):
        return _unknown_command(context, arguments)
    if message.startswith("Got unexpected extra argument"):
        return _extra_argument(message, context, name)
    if kind == "BadParameter" and error.param is not None:
        return _bad_value(error, name, arguments)
    return f"{message}; {_see(name)}"


def _bad_value(error: Any, name: str, arguments: Sequence[str]) -> str:
    """Return which value is wrong, and why."""
    found = error.__cause__.errors() if hasattr(error.__cause__, "errors") else ()  # pydantic's
    why = (worded(found[0]) if found else error.message).rstrip(".")
    if error.param.param_type_name != "option":
        return f"{error.param.metavar or error.param.name}: {why}; {_see(name)}"
    option = error.param.opts[0]
    return f"{f'{option} {_value_of(option, arguments)}'.rstrip()}: {why}; {_see(name)}"


def _see(name: str = "") -> str:
    return f"`{' '.join(filter(None, ['gan-bench', name, '-h']))}` shows what it takes"


def _unknown_option(given: str, context: Any, name: str, arguments: Sequence[str]) -> str:
    """Return what to write in the place of an option that a command does not have."""
    problem = f"no such option {given}"
    word = given.lstrip("-").lower().replace("_", "-")
    options = [option for param in context.command.params
               if param.param_type_name == "option" and not param.hidden for option in param.opts]
    commands = context.find_root().command.commands
    if not name:
        if any(f"--{word}" in param.opts for command in commands.values()
               for param in command.params):
            return f"{problem} before the command; write it after: gan-bench run FILE {given} …"
        return f"{problem}; {_see('')}"
    if f"--{word}" in options:  # in capitals, say
        return f"{problem}; did you mean --{word}?"
    value, takes_set = _value_of(given, arguments), "--set" in options
    if word in ADVICE and (word not in ("config", "file") or takes_set):
        return f"{problem}: {ADVICE[word].format(command=name)}"
    if takes_set and (setting := _setting(word, value)):
        return f"{problem}: it is a key of the experiment's file; write {setting}"
    if word in OPTIONS and OPTIONS[word].split()[0] in options:
        return f"{problem}; write {OPTIONS[word].format(value or '…')}"
    if near := get_close_matches(f"--{word}", options, n=2, cutoff=0.7):
        return f"{problem}; did you mean {' or '.join(near)}?"
    others = [other for other, command in commands.items()
              if any(f"--{word}" in param.opts for param in command.params)]
    if others:
        return f"{problem} of {name}: it belongs to {', '.join(others)}"
    return f"{problem}; {_see(name)}"


def _value_of(option: str, arguments: Sequence[str]) -> str:
    """Return the value that was typed after an option; empty if there was none."""
    for i, argument in enumerate(arguments):
        name, is_joined, value = argument.partition("=")
        if present_spelling(name.lstrip("-")) != option.lstrip("-"):
            continue
        if is_joined:
            return value
        return "".join(each for each in arguments[i + 1:i + 2] if not each.startswith("-"))
    return ""


def _setting(word: str, value: str) -> str:
    """Return the `--set` that stands for an option which is a key of the file; empty if none is."""
    from gan_bench.config.experiment_file import ExperimentFile
    from gan_bench.config.grid import KEYS
    from gan_bench.config.spec import ComputeSpec, EvaluateSpec

    key = word.replace("-", "_")
    if key in ("seed", "seeds"):
        return f"--set 'seeds={_seeds(key, value)}'"
    if key in ("metric", "metrics"):
        return f"--set 'evaluate.metrics=[{value or '…'}]'"
    for place, keys in (("", ExperimentFile.model_fields), ("base.", KEYS),
                        ("evaluate.", EvaluateSpec.model_fields),
                        ("compute.", ComputeSpec.model_fields)):
        if key in keys:
            return f"--set {place}{key}={value or '…'}"
    return ""


def _seeds(key: str, value: str) -> str:
    """Return the list that a number of seeds, or a single seed, stands for."""
    if key == "seed" or not value.isdecimal() or value == "0":
        return f"[{value or '0, 1, 2'}]"
    return seed_list(int(value))


def seed_list(number: int) -> str:
    """Return so many seeds, as a YAML writes them."""
    seeds = list(map(str, range(number)))
    if number > 100:
        seeds = [*seeds[:3], "…", seeds[-1]]
    return f"[{', '.join(seeds)}]"


def _missing(param: Any, name: str) -> str:
    """Return which argument or option lacks, and what it is."""
    about = re.split(r"(?<=[.:;]) |\\\[", str(param.help or ""))[0].strip(" .:;")
    if param.param_type_name == "option":
        return f"{name} needs {param.opts[0]}: {about[:1].lower()}{about[1:]}"
    what = param.metavar or str(param.name).upper()
    if what == "EXPERIMENT":
        return (f"give the experiment: gan-bench {name} FILE.yaml (`gan-bench init` writes a first "
                f"one, `gan-bench list experiments` shows those that can be used by name)")
    return f"{name} needs {what}: {about[:1].lower()}{about[1:]}"


def _unknown_command(context: Any, arguments: Sequence[str]) -> str:
    """Return what to write in the place of a command that there is not."""
    commands = list(context.command.commands)
    place = context.command_path.partition(" ")[2]
    word = next((argument for argument in arguments
                 if not argument.startswith("-") and argument != place), "")
    if word.endswith(YAML) or (not place and is_experiment(word)):
        return f"{shown(word)} is an experiment and no command; write gan-bench run {word}"
    lower = word.lower()
    if lower == "help":
        return "the option -h shows help: gan-bench -h, or gan-bench COMMAND -h"
    if lower == "version":
        return "it is an option: gan-bench --version"
    if not place and lower in COMMANDS:
        return f"there is no command {shown(word)}; write gan-bench {COMMANDS[lower]}"
    near = get_close_matches(lower, commands, n=2)
    hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(sorted(commands))}"
    return f"there is no command {shown(word)}; {hint}"


def _extra_argument(message: str, context: Any, name: str) -> str:
    """Return what to do about an argument that is too many."""
    extra = message.rpartition(" (")[2].rstrip(")")
    takes_set = any("--set" in param.opts for param in context.command.params)
    if takes_set and re.match(r"[\w.]+=", extra):
        settings = " ".join(f"--set {setting}" for setting in extra.split())
        return f"a setting needs its option: {settings}"
    if not extra.strip():
        return f"{name}: an argument is empty; is a variable of the shell unset? {_see(name)}"
    if extra.split()[0].endswith(YAML):
        return f"{name} takes one experiment; {shown(extra)} is too many: use a command for each"
    return f"{name} takes no further argument {shown(extra)}; {_see(name)}"


def check_experiment(given: Path, root: Path) -> Path:
    """Return a path that names an experiment's file, or is a shipped experiment's name.

    Args:
        given: What the user typed.
        root: The folder of everything that runs produce.

    Raises:
        UserError: There is no such file; the message says what there is.
    """
    file = experiment_file(given)
    if file.is_file():
        return given
    if file.is_dir():
        files = sorted(path.name for path in file.iterdir() if path.suffix in YAML)
        hint = f"give one of its files: {', '.join(files[:8])}" if files else "it holds no YAML"
        raise UserError(f"{given}: is a folder; {hint}")
    if not file.exists() and (hint := _similar_file(given, root)):
        raise UserError(f"{given}: there is no such file; {hint}")
    return given  # what is wrong with it, its reader says


def check_files(given: Sequence[str], root: Path) -> None:
    """Check those names that can only be files.

    Raises:
        UserError: As `check_experiment`.
    """
    for name in given:
        if name.endswith(YAML) or Path(name).is_dir():
            check_experiment(Path(name), root)


def _similar_file(given: Path, root: Path) -> str:
    """Return what may be meant by a file that there is not; empty if nothing is near."""
    from gan_bench.config.shipped import shipped_experiments

    for suffix in YAML:
        other = given.with_suffix(suffix)
        if given.suffix in ("", *YAML) and other.is_file():
            return f"did you mean {other}?"
    if not given.suffix and (root / "runs" / given.name).is_dir() and len(given.parts) == 1:
        command = _command_of(root / "runs" / given.name)
        last = f" (the last command was `{command}`)" if command else ""
        return f"{given} names runs of {root}; give the YAML file that they are from{last}"
    names = [str(given.with_name(path.name)) for path in given.parent.glob("*")
             if path.suffix in YAML] if given.parent.is_dir() else []
    near = get_close_matches(str(given), [*names, *shipped_experiments()], n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else ""


def _command_of(home: Path) -> str:
    """Return the command that last ran an experiment; empty if it is unknown."""
    from gan_bench.journal.about import read_about

    try:
        return read_about(home).command
    except ValueError:
        return ""
