"""The second stage of a search: when no select run is left, the chosen draws are confirmed.

Whoever works on the first stage to its end derives the choice from the journals, adds the confirm
runs to the queue that all workers pull from, and works on them. Nobody decides for the others: the
choice is a function of the journals, and is stored nowhere.
"""

from __future__ import annotations

from pathlib import Path

from gan_bench.compare.choice import Choice
from gan_bench.compare.confirming import choice_in, confirm_runs, unchosen_line
from gan_bench.config.spec import RunSpec
from gan_bench.errors import Say, UserError, count
from gan_bench.journal.about import read_about
from gan_bench.journal.lock import preparing
from gan_bench.journal.queue_file import Queue, extend_queue, read_queue, specs_of
from gan_bench.journal.schema import Status
from gan_bench.journal.status import Progress
from gan_bench.launcher.preparation import PreparedStudy, read_progress


def add_second_stage(study: PreparedStudy, home: Path, say: Say) -> list[Progress]:
    """Add the confirm runs that the journals call for to a study and to its queue.

    Args:
        study: Its `runs` grow by those that are new to this process.
        home: The experiment's folder.
        say: Receives what is chosen, or which variants wait for what.

    Returns:
        The new runs that are to be trained; empty if nothing is new, or there is no search.

    Raises:
        UserError: A specification or the queue cannot be read or written.
    """
    queue = read_queue(home)
    if not queue.select:
        return []
    called, choice = _called_for(home, queue)
    known = {run.spec.id for run in study.runs}
    new = [run for run in called if run.id not in known]
    if any(run.id not in queue.begun for run in new):
        with preparing(home.parents[1], say):
            if read_queue(home).select != queue.select:  # another command has replaced it
                return []
            queue = extend_queue(home, new)
    if line := unchosen_line(choice):
        say(f"{line}: repeat `gan-bench run` for them")
    if new:
        say(f"{count(len(new), 'run')} confirm {_chosen_words(choice)}")
    runs = [read_progress(run, home.parents[1]) for run in new]
    study.runs.extend(runs)
    study.begun.update({run.id: queue.begun[run.id] for run in new if run.id in queue.begun})
    return [run for run in runs if run.state == Status.WAITING]


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
