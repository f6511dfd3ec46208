"""The second stage of a search: when no select run is left, the chosen draws are confirmed.

Whoever works on the first stage to its end derives the choice from the journals, adds the confirm
runs to the queue that all workers pull from, and works on them. Nobody decides for the others: the
choice is a function of the journals, and is stored nowhere.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from gan_bench.compare.search.choice import Choice, diverged_line
from gan_bench.compare.search.confirming import choice_in, confirm_runs, unchosen_line
from gan_bench.config.spec import RunSpec
from gan_bench.errors import Say, UserError, count
from gan_bench.journal import reading
from gan_bench.journal.about import read_about
from gan_bench.journal.schema import Status
from gan_bench.journal.scores.missing_scores import missing_scores
from gan_bench.journal.sharing.lock import changing_queue
from gan_bench.journal.sharing.queue_file import FILE, Queue, extend_queue, read_queue, specs_of
from gan_bench.journal.shorter_runs import beginnings, predecessor_folders
from gan_bench.journal.status import Progress
from gan_bench.launcher.preparation import PreparedStudy, read_progress, take_over_runs


@dataclass(frozen=True)
class Left:
    """What is left undone, though no run of it has failed.

    Attributes:
        why: Why it is; empty if nothing is left.
        runs: The ids of the runs.
        unchosen: The variants of a search of which no draw can be chosen: their second stage has
            no runs yet.
    """

    why: str = ""
    runs: frozenset[str] = frozenset()
    unchosen: tuple[str, ...] = ()


def add_second_stage(study: PreparedStudy, home: Path, say: Say,
                     ) -> tuple[PreparedStudy, Left]:
    """Add the confirm runs that the journals call for to a study and to its queue.

    What waits of the study that is returned is of the second stage; nothing if nothing is new, or
    there is no second stage. Beside it is what is left then.

    Args:
        study: Its `runs` and `begun` grow by those that are new to this process.
        home: The experiment's folder.
        say: Receives what is chosen.

    Raises:
        UserError: A specification or the queue cannot be read or written.
    """
    nothing = replace(study, waiting=[]), Left()
    if not study.has_second_stage or not (home / FILE).exists():
        return nothing
    queue, root = read_queue(home), home.parents[1]
    called, choice = _called_for(home, queue)
    known = {run.spec.id for run in study.runs}
    if any(run.id not in queue.begun for run in called):
        with changing_queue(home, say):
            now = read_queue(home)
            if now.select != queue.select:  # another command has replaced it
                return nothing
            called, choice = _called_for(home, now)  # which may ask for others, too
            if called:
                take_over_runs(called, root, say)
            found = beginnings(home, [run for run in called if run.id not in now.begun])
            queue = extend_queue(home, [_read(run, root) for run in called],
                                 predecessor_folders(found))
    new = [_read(run, root) for run in called if run.id not in known]
    line = unchosen_line(choice)
    if choice.diverged:
        say(diverged_line(choice.diverged))
    if new:
        say(f"{count(len(new), 'run')} confirm {_chosen_words(choice)}")
    study.runs.extend(new)
    study.begun.update({run.spec.id: queue.begun[run.spec.id] for run in new})
    shorter = {**study.execution.shorter_runs, **queue.execution(root).shorter_runs}
    study = replace(
        study, execution=replace(study.execution, shorter_runs=shorter),
        waiting=[run for run in new if run.state == Status.WAITING or run.is_measuring])
    return study, Left(f"{line}: {_remedy(choice, queue, home)}" if line else "",
                       unchosen=tuple(choice.waiting))


def _read(run: RunSpec, root: Path) -> Progress:
    progress = read_progress(run, root)
    progress.is_measuring = bool(missing_scores(progress))
    return progress


def _remedy(choice: Choice, queue: Queue, home: Path) -> str:
    """Return what to do for the variants of which no draw can be chosen."""
    held = [run for run in queue.select if reading.is_open(home / run)]
    if held:
        return f"another command works on {count(len(held), 'run')} of the first stage"
    return f"repeat `gan-bench run` for {'it' if len(choice.waiting) == 1 else 'them'}"


def _called_for(home: Path, queue: Queue) -> tuple[list[RunSpec], Choice]:
    """Return the confirm runs that the journals call for, and what is chosen."""
    try:
        declared = read_about(home)
    except ValueError:
        raise UserError(f"{home}: what the experiment declares is damaged; repeat `gan-bench run`"
                        ) from None
    select = specs_of(queue.select, home)
    choice = choice_in(select, declared, home.parents[1])
    return confirm_runs(select, choice, declared), choice


def _chosen_words(choice: Choice) -> str:
    """Return `draw 3 of plain, draws 7, 0 of r1`."""
    return ", ".join(f"draw{'s' * (len(draws) > 1)} {', '.join(map(str, draws))} of {variant}"
                     for variant, draws in choice.draws.items())
