"""What `gan-bench run` prints: progress, the table that a study ends with, and what to do next."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from gan_bench.cli.options import advised, root_option, store_option, to_stderr, wide_console
from gan_bench.compare.search.confirming import compared_runs
from gan_bench.config.cluster import ClusterSpec
from gan_bench.config.sources import describe_changed
from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import RUNS_LEFT, Say, Stopped, count, printable
from gan_bench.journal.layout import Workspace
from gan_bench.journal.schema import Status
from gan_bench.journal.sharing.claims import ClaimedError
from gan_bench.journal.sharing.lock import take_lease
from gan_bench.journal.spec_file import runs_of_other_code
from gan_bench.journal.status import Progress, state_of
from gan_bench.launcher.clusters.remote_workers import DETACHED, RemoteWorkers
from gan_bench.launcher.clusters.slurm import WorkerArray, workers_needed
from gan_bench.launcher.launch import LaunchResult, execute
from gan_bench.launcher.preparation import LaunchSettings
from gan_bench.launcher.reporters import JsonLines, LiveTable, PlainLines, Reporter, progress_json
from gan_bench.tracking.store.address import is_server, resolve_uri, without_password

if TYPE_CHECKING:
    from gan_bench.compare.rows import Row
    from gan_bench.compare.search.budgets import Budgets

SHOWN = 8  # runs that a line names


def run_experiment(spec: ExperimentSpec, settings: LaunchSettings, as_json: bool,
                   remote: Callable[[Say], RemoteWorkers] | None = None, detach: bool = False,
                   ) -> int:
    """Train what is not finished, print the results and the hints; return the exit status.

    Args:
        spec: The experiment.
        settings: Where and how it is executed.
        as_json: Whether to print JSON lines, for machines.
        remote: Returns the workers that train elsewhere; None: this machine trains.
        detach: Whether to leave when the workers are sent.

    Returns:
        0 if all runs are finished or diverged, 1 if a run failed, 75 if runs are left for another
        command or machine, or if no draw of a variant can be chosen yet, 3 if MLflow lacks
        something, or if runs are to be measured alone and some are not trained.

    Raises:
        UserError: No run is possible.
        Stopped: Ctrl-C or SIGTERM, after the results so far are printed.
    """
    console = wide_console()
    reporter = _reporter(console, as_json)
    workers = None if remote is None else remote(reporter.say)
    ended = execute(spec, settings, reporter, workers, detach)
    if ended.left.why == DETACHED:
        reporter.say(DETACHED)
        return 0
    spec = spec.with_runs([run.spec for run in ended.runs])  # of a search, both stages
    outcome = _outcome_of(ended, settings.train)
    rows, budgets = _final_rows(spec, ended.runs)
    if not as_json:
        _print_results(console, spec, ended.runs, rows, budgets)
        _print_remarks(console, spec, ended.runs, settings.execution.workspace.root)
        _print_hints(console, spec.name, settings, outcome.untrained,
                     f"{outcome.done} of {len(ended.runs)} runs are done")
    is_whole = not ended.missing and not ended.stopped
    unshown = _show_study(spec, rows, settings, budgets) if is_whole else ""
    hidden = "; ".join(ended.hidden)
    if as_json:
        lacking = "; ".join(filter(None, (ended.missing, unshown, hidden)))
        print(json.dumps({"event": "end", "failed": outcome.failed,
                          "untrained": len(outcome.untrained),
                          "left": ended.left.why, "not_in_mlflow": lacking,
                          "runs": [progress_json(run) for run in ended.runs]}))
    if ended.left.why and not as_json:
        _print_line(console, f"left: {ended.left.why}")
    _print_lacking(spec.name, settings.execution.workspace, ended.missing, unshown, hidden)
    if ended.stopped:
        raise Stopped(ended.stopped)
    if outcome.failed:
        return 1
    if outcome.left or ended.left.unchosen:
        return RUNS_LEFT
    return 3 if ended.missing or unshown or hidden or outcome.untrained else 0


@dataclass(frozen=True)
class _Outcome:
    """How the runs of a command ended.

    Attributes:
        done, failed, left: How many have a result, have none, and are left for another command or
            machine.
        untrained: Those that a command which only measures leaves out.
    """

    done: int
    failed: int
    left: int
    untrained: Sequence[Progress]


def _outcome_of(ended: LaunchResult, trains: bool) -> _Outcome:
    """Return how the runs ended.

    Args:
        trains: Whether runs that wait were to be trained.
    """
    untrained = [] if trains else [run for run in ended.runs if run.state == Status.WAITING]
    # By state: to compare whole specifications with each other takes long where there are many.
    asked = [run for run in ended.runs if trains or run.state != Status.WAITING]
    left = [run for run in asked if run.spec.id in ended.left.runs]
    failed = [run for run in asked if run.spec.id not in ended.left.runs
              and (not run.state.is_result or run.unmeasured)]
    return _Outcome(len(asked) - len(failed) - len(left), len(failed), len(left), untrained)


def print_batch_file(spec: ExperimentSpec, workspace: Workspace, cluster: ClusterSpec) -> None:
    """Print the file that `run` sends to SLURM for the runs that have no result."""
    waiting = [run for run in spec.runs if not state_of(run, workspace.root)[0].is_result]
    array = worker_array(spec, workspace, cluster)
    number = workers_needed(cluster, len(waiting), array.slots, None)
    print(replace(array, workers=max(1, number)).text(), end="")


def worker_array(spec: ExperimentSpec, workspace: Workspace, cluster: ClusterSpec) -> WorkerArray:
    """Return the largest array of workers that an experiment asks for."""
    compute = spec.runs[0].compute
    pack = compute.pack if isinstance(compute.pack, int) else None
    return WorkerArray(spec.name, workspace.root, workspace.data_root, cluster, cluster.workers,
                       compute.threads, compute.device == "cuda", pack)


def _print_hints(console: Console, experiment: str, settings: LaunchSettings,
                 untrained: Sequence[Progress], done: str) -> None:
    """Print what is left out, how much is done, and how to look at it."""
    workspace = settings.execution.workspace
    if untrained:
        _print_line(console, f"left out: {_names(untrained)}, not trained yet or without weights: "
                             f"`{advised(settings.command, workspace)}` trains and measures "
                             f"{'it' if len(untrained) == 1 else 'them'}")
    _print_line(console, f"{done}. Look at them: {page_hint(workspace)}")
    _print_line(console, f"Compare them: gan-bench report {experiment} --open"
                         f"{root_option(workspace)}{store_option(workspace, '--tracking-uri')}")


def _print_lacking(experiment: str, workspace: Workspace, missing: str, unshown: str, hidden: str,
                   ) -> None:
    """Print on stderr what MLflow lacks, and which commands help; nothing if it lacks nothing."""
    report = (f"gan-bench report {experiment}{root_option(workspace)}"
              f"{store_option(workspace, '--tracking-uri')}")
    if missing:
        print(f"MLflow lacks some results: {missing}\nOnce that is repaired, gan-bench sync"
              f"{root_option(workspace)}{store_option(workspace)} copies the missing results, and "
              f"{report} shows the study's.", file=sys.stderr)
    if unshown:
        print(f"MLflow does not show the study's result: {unshown}\nOnce that is repaired, "
              f"{report} shows it there.", file=sys.stderr)
    if hidden:  # its lines say which command helps
        print(f"MLflow hides some results: {hidden}", file=sys.stderr)


def _names(runs: Sequence[Progress]) -> str:
    """Return how many runs there are, and which."""
    names = [run.spec.label for run in runs]
    others = f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else ""
    return f"{count(len(names), 'run')} ({', '.join(names[:SHOWN])}{others})"


def page_hint(workspace: Workspace) -> str:
    """Return where to look at runs: a server's own page, or the command that serves one."""
    address = resolve_uri(workspace)
    if is_server(address):
        return without_password(address)
    return f"gan-bench ui{root_option(workspace)}{store_option(workspace, '--tracking-uri')}"


def choose_reporter(as_json: bool) -> Reporter:
    """Return what shows the progress: a table on a terminal, else lines."""
    return _reporter(wide_console(), as_json)


def _reporter(console: Console, as_json: bool) -> Reporter:
    if as_json:
        return JsonLines()
    return LiveTable(console) if console.is_terminal else PlainLines(console)


def _final_rows(spec: ExperimentSpec, runs: Sequence[Progress]) -> tuple[list[Row], Budgets | None]:
    """Return the rows of the final table, and the draws of a search."""
    # SciPy is imported when the training is over.
    from gan_bench.compare.ended import RunResult
    from gan_bench.compare.rows import summarise

    rows = summarise([RunResult.of(run) for run in compared_runs(runs, spec.declared)],
                     spec.declared)
    return rows, _budgets(spec, runs)


def _budgets(spec: ExperimentSpec, runs: Sequence[Progress]) -> Budgets | None:
    """Return the draws of an experiment with a search; None of one without."""
    if spec.declared.search is None or not runs:
        return None
    from gan_bench.compare.search.budget_journals import results_of_journals
    from gan_bench.compare.search.budgets import budgets_of

    return budgets_of(results_of_journals(spec.name, spec.declared, runs))


def _show_study(spec: ExperimentSpec, rows: Sequence[Row], settings: LaunchSettings,
                budgets: Budgets | None) -> str:
    """Show the study's result in MLflow; return why that failed, or an empty string."""
    from gan_bench.cli.results.study_summary import study_summary
    from gan_bench.tracking.pages.study_run import show_study

    workspace = settings.execution.workspace
    declared = spec.declared.with_changes(command=settings.command)
    summary = study_summary(rows, declared, spec.name, workspace, budgets)
    if not summary:
        return ""
    try:
        lease = take_lease(workspace.root / "runs" / spec.name, to_stderr)
    except ClaimedError:  # another `run` of the experiment, which shows it when it ends
        return ""
    try:
        return show_study(workspace, spec.name, summary)
    finally:
        lease.release()


def _print_results(console: Console, spec: ExperimentSpec, runs: Sequence[Progress],
                   rows: list[Row], budgets: Budgets | None) -> None:
    """Print the scores of each variant, and of a search before them what budgets buy."""
    from gan_bench.compare.ended import RunResult
    from gan_bench.compare.labels import labelled, labelled_runs
    from gan_bench.compare.rows import summarise
    from gan_bench.compare.search.budgets import budgets_of
    from gan_bench.report.search.budget_terminal import BudgetTable
    from gan_bench.report.terminal import summary_table

    declared = spec.declared
    counted = [RunResult.of(run) for run in compared_runs(runs, declared)]
    if declared.labels:  # MLflow's study run keeps the names
        counted, declared = labelled_runs(counted, declared)
        rows = summarise(counted, declared)
    shown = budgets_of(labelled(budgets.results)) if budgets else None
    if shown and not shown.is_begun:
        _print_line(console, "No draw has a score yet, so there is no table of budgets.")
    elif shown:
        console.print(BudgetTable(shown))
        if rows:
            _print_line(console, "The chosen settings under fresh seeds")
    if rows:
        console.print(summary_table(rows, declared.baseline, declared.labels))


def _print_remarks(console: Console, spec: ExperimentSpec, runs: Sequence[Progress], root: Path,
                   ) -> None:
    """Print what is special about the runs, and why a run has no result."""
    from gan_bench.compare.ended import RunResult, left_out_line, left_out_seeds

    counted = [RunResult.of(run) for run in runs]
    numerics = Counter(run.numerics for run in counted if run.status.is_result)
    if len(numerics) > 1:
        each = "; ".join(f"numerics {number or 'unknown'}: {count(n, 'run')}"
                         for number, n in numerics.items())
        _print_line(console, f"runs of {len(numerics)} program versions are compared ({each})")
    for line in describe_changed(runs_of_other_code(spec, root)):
        _print_line(console, line)
    if seeds := left_out_seeds(spec, root):
        _print_line(console, left_out_line(seeds))
    for run in runs:
        if run.unmeasured:
            _print_line(console, f"not measured {run.spec.label} ({run.spec.id}): "
                                 f"{run.unmeasured}")
        elif run.state not in (Status.FINISHED, Status.WAITING):
            _print_line(console, f"{run.state} {run.spec.label} ({run.spec.id}): {run.why}")


def _print_line(console: Console, line: str) -> None:
    """Print text as it is: no markup, no colours, no wrapped lines."""
    console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
