"""What `gan-bench sync` does: copy runs into MLflow, and show there what their studies found."""

from __future__ import annotations

from gan_bench.errors import Say, UserError
from gan_bench.journal.layout import Workspace
from gan_bench.tracking.pages.study_run import has_study_run, show_study
from gan_bench.tracking.sync import Synced, sync_runs


def sync_root(workspace: Workspace, say: Say, anew: bool = False) -> Synced:
    """Do what `sync_runs` does, then let each study run show the runs that the store has now.

    Of an experiment without new runs in the store, a study run that is there stays as it is.

    Raises:
        UserError: As `sync_runs`.
    """
    done = sync_runs(workspace, say, anew=anew)
    for experiment in done.experiments:
        if experiment not in done.changed and has_study_run(workspace, experiment):
            continue
        if why := _show_study(workspace, experiment):
            done.missing.append(f"{experiment}: MLflow does not show the study's result: {why}")
    return done


def _show_study(workspace: Workspace, experiment: str) -> str:
    """Show the result of a study in the store; return why that failed, or an empty string.

    Without a score there is nothing to show.
    """
    from gan_bench.cli.results.report import use_metrics
    from gan_bench.cli.results.study_summary import summary_of
    from gan_bench.compare.results import read_results

    try:
        results = read_results(workspace, experiment, None)
    except UserError:  # the store shows none of its runs, which `sync_runs` has said
        return ""
    try:
        use_metrics([results], [], workspace)
        summary = summary_of(results, workspace)
    except UserError as error:
        return str(error)
    return show_study(workspace, experiment, summary) if summary else ""
