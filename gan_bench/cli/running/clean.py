"""`gan-bench clean`: deletes the checkpoints that finished runs keep. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gan_bench.cli.completion import complete_experiment
from gan_bench.cli.options import ROOT, Root, to_stderr
from gan_bench.config.yaml_source import read_name
from gan_bench.errors import DamagedError, Say, UserError, count, printable, unwritable
from gan_bench.journal import reading
from gan_bench.journal.layout import Workspace, checkpoint_files, is_trained, run_folders
from gan_bench.journal.sharing.lock import holder_line, locked
from gan_bench.registry import nearest


def add_clean_command(app: typer.Typer) -> None:
    """Add the command to the program."""
    @app.command()
    def clean(
        experiment: Annotated[str | None, typer.Argument(
            metavar="EXPERIMENT", autocompletion=complete_experiment,
            help="An experiment's name, or its YAML file. \\[default: all]")] = None,
        root: Root = ROOT,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing.")] = False,
    ) -> None:
        """Delete the checkpoints of finished runs, from which runs with more steps continue.

        Results stay, and so do the checkpoints of unfinished runs.
        """
        for line in free_checkpoints(Workspace(root).root, experiment, dry_run, to_stderr):
            print(printable(line))


def free_checkpoints(root: Path, experiment: str | None, dry_run: bool, say: Say) -> Iterator[str]:
    """Delete the checkpoints of finished runs; yield a line for each experiment, and the sum.

    Args:
        root: The folder of everything that runs produce.
        experiment: A name, or a YAML file that holds one; None: all experiments of the root.
        dry_run: Whether to delete nothing.
        say: Receives a line for each experiment that is left alone, or waited for.

    Raises:
        UserError: There is no such experiment, it is being run, or a file cannot be deleted.
    """
    total = 0
    for home in _homes(root, experiment):
        try:
            with _kept_still(home, dry_run, say):
                files = [file for folder in run_folders(home) if _is_done(folder)
                         for file in _checkpoints(folder)]
                size = sum(file.stat().st_size for file in files)
                if not dry_run:
                    _delete(files)
        except UserError as error:
            if experiment is not None:
                raise
            say(str(error))
            continue
        if files:
            yield f"{home.name}: {megabytes(size)} of {count(len(files), 'checkpoint')}"
        total += size
    yield f"{'would free' if dry_run else 'freed'} {megabytes(total)}"


def megabytes(size: int) -> str:
    """Return a number of bytes as `24.1 MB`."""
    return f"{size / 1e6:,.1f} MB"


def _homes(root: Path, experiment: str | None) -> list[Path]:
    """Return the folders of the experiments that are meant."""
    homes = sorted(path for path in (root / "runs").glob("*") if path.is_dir())
    if experiment is None:
        return homes
    name = experiment
    if name.endswith((".yaml", ".yml")):
        name = read_name(Path(experiment))
    chosen = [home for home in homes if home.name == name]
    if not chosen:
        raise UserError(f"{root} holds no runs of {name!r}; "
                        f"{nearest(name, [home.name for home in homes])}")
    return chosen


@contextmanager
def _kept_still(home: Path, dry_run: bool, say: Say) -> Iterator[None]:
    """Keep out whatever copies the experiment into MLflow while files are deleted.

    Workers go on: they need no checkpoint of a finished run.

    Raises:
        UserError: A launcher, or `sync`, does so now.
    """
    if not dry_run:
        with locked(home, say):
            yield
        return
    if holder := holder_line(home):
        raise UserError(f"{home.name} is already being run by {holder}; wait for it or stop it")
    yield


def _is_done(folder: Path) -> bool:
    """Whether a run has a result, so that nothing of it is to be resumed."""
    try:
        return is_trained(folder) and not reading.is_open(folder)
    except DamagedError:
        return False


def _checkpoints(folder: Path) -> list[Path]:
    return [file for _, file in checkpoint_files(folder)]


def _delete(files: list[Path]) -> None:
    for file in files:
        try:
            file.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(file, error, verb="deleted") from None
