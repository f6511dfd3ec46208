"""What `gan-bench report` does: bring MLflow up to date, read it back, write the report."""

from __future__ import annotations

import shlex
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gan_bench.cli.last_run import other_settings_line
from gan_bench.cli.options import advised, plugin_options, run_command, set_options
from gan_bench.errors import Say, UserError, count
from gan_bench.journal.layout import Workspace
from gan_bench.journal.schema import RESULTS
from gan_bench.paths import normal_path
from gan_bench.registry import Plugin, nearest, read_plugins, scores, use_plugins
from gan_bench.tracking.runs.older_ids import older_runs, to_take_over
from gan_bench.tracking.sync import hidden_from_reports, sync_hint, update_store

if TYPE_CHECKING:
    from gan_bench.compare.results import Results
    from gan_bench.report.figures.look import Font
    from gan_bench.report.papers import Spread
    from gan_bench.report.write import Written

FORMATS = ("html", "csv", "tex", "md", "parquet", "figures")


@dataclass(frozen=True)
class Asked:
    """Which report to make.

    Attributes:
        experiments: Names in MLflow, or YAML files.
        settings: Overrides of the files.
        metric: The score that leads; None: the first that the experiment lists.
        baseline: None: as declared.
        variants: Names, separated by commas; None: all.
        formats: Of `FORMATS`, separated by commas.
        out: Where to; None: `<root>/reports/<experiment>`.
        plugins: Plug-in files.
        width: Of the figures, in inches; None: that of the page.
        font: Of the figures: sans or serif.
        titles: Whether figures have their titles and notes in them.
        spread: What follows a mean in the tables for papers: sd or interval.
    """

    experiments: Sequence[str]
    settings: Sequence[str] = ()
    metric: str | None = None
    baseline: str | None = None
    variants: str | None = None
    formats: str = ",".join(FORMATS)
    out: Path | None = None
    plugins: Sequence[Path] = ()
    width: float | None = None
    font: Font = "sans"
    titles: bool = True
    spread: Spread = "sd"

    @property
    def options(self) -> list[str]:
        """All that change what the report shows, as the shell reads them."""
        given = {"metric": self.metric, "baseline": self.baseline, "variants": self.variants}
        return [*set_options(self.settings), *plugin_options(self.plugins),
                *(f"--{option} {shlex.quote(value)}" for option, value in given.items()
                  if value is not None), *self.of_figures]

    @property
    def of_figures(self) -> list[str]:
        """The options of the figures' look and of the tables, as the shell reads them."""
        words = [f"--width {self.width:g}"] if self.width is not None else []
        words += [f"--font {self.font}"] if self.font != "sans" else []
        words += [] if self.titles else ["--no-titles"]
        return words + ([f"--spread {self.spread}"] if self.spread != "sd" else [])


def report_command(asked: Asked) -> str:
    """Return the command that makes the same report, for the page."""
    return " ".join(["gan-bench report", *map(shlex.quote, asked.experiments), *asked.options])


def make_report(asked: Asked, workspace: Workspace, command: str, say: Say) -> Written:
    """Write a report.

    Args:
        asked: Of what.
        workspace: Where runs and MLflow's store are, data sets for experiments given as files,
            and by default the report.
        command: How to make this report, for the page.
        say: Receives one line per problem.

    Raises:
        UserError: There is no such experiment, it has no result, a requested name does not exist,
            experiments cannot be compared, or something cannot be read or written.
    """
    formats = [name.strip() for name in asked.formats.split(",")]
    for name in formats:
        if name not in FORMATS:
            raise UserError(f"--format: there is no {name!r}; {nearest(name, list(FORMATS))}")
    if len(set(asked.experiments)) < len(asked.experiments):
        raise UserError("the same experiment is named twice")
    several: list[Results] = []
    notes: list[str] = []
    hidden: list[str] = []
    used: list[Plugin] = list(read_plugins(asked.plugins))
    use_plugins(used)
    for given in asked.experiments:
        several.append(_read(given, asked, workspace, say, notes, hidden, used))
    notes += use_metrics(several, used, workspace)
    notes += hidden
    for note in notes:
        say(note)

    from gan_bench.compare.combine import combine
    from gan_bench.compare.findings import with_baseline
    from gan_bench.report.figures.look import PAGE, Look
    from gan_bench.report.write import write_report

    names = [shlex.quote(one.experiment) for one in several]  # given by name or by file
    look = Look(asked.width or PAGE.width, asked.font, asked.titles)
    several = [with_baseline(one, asked.baseline, _names(asked.variants, one.variants))
               for one in combine(several)]
    usual = workspace.root / "reports" / "+".join(one.experiment for one in several)
    out = asked.out or usual
    written = write_report(several, out, formats, asked.metric, command, notes,
                           takes_over=normal_path(out) == usual, look=look, spread=asked.spread,
                           options=" ".join([*names, *asked.options]))
    if why := _show_study(asked, several, workspace, written):
        say(f"MLflow does not show the study's result: {why}")
    return replace(written, is_complete=not hidden)


def _show_study(asked: Asked, several: Sequence[Results], workspace: Workspace, written: Written,
                ) -> str:
    """Show the result of one whole study in MLflow, with the report; return why that failed.

    A report of several experiments, or of a choice, is no experiment's result.
    """
    from gan_bench.cli.results.study_summary import report_files, summary_of
    from gan_bench.tracking.pages.study_run import show_study

    if len(several) > 1 or any((asked.metric, asked.baseline, asked.variants, asked.settings)):
        return ""
    results = several[0]
    summary = summary_of(results, workspace)
    if summary is None:
        return ""
    return show_study(workspace, results.experiment, summary, report_files(written.files))


def use_metrics(several: Sequence[Results], used: Sequence[Plugin], workspace: Workspace,
                ) -> list[str]:
    """Let METRICS hold the metrics of all experiments; return a note on those that are nowhere.

    The scores of an experiment that is given by name may be of a plug-in, which lies in the folders
    of its runs.
    """
    from gan_bench.journal.layout import run_folders
    from gan_bench.journal.plugin_files import read_copies

    def unknown() -> list[str]:
        known = {*scores(), *(name for one in several for name in one.declared.curve_means)}
        return [name for one in several for name in one.scores if name not in known]

    plugins = list(used)
    use_plugins(plugins, replacing=True)
    for one in several:
        if not unknown():
            return []
        folders = run_folders(workspace.root / "runs" / one.experiment)
        for folder in sorted(folders, key=_begun, reverse=True):
            seen = {plugin.files for plugin in plugins}
            copies = [copy for copy in read_copies(folder) if copy.files not in seen]
            if not copies:
                continue
            plugins = [*copies, *plugins]  # the last replaces others
            use_plugins(plugins, replacing=True)
            if not unknown():
                return []
    missing = ", ".join(unknown())
    return [f"no metric here gives the score {missing}, so which way is better is unknown: give "
            f"its file with --plugin, or install its package"] if missing else []


def _begun(folder: Path) -> float:
    """Return when a run began; 0 of a damaged one, which has no `spec.json`."""
    try:
        return (folder / "spec.json").stat().st_mtime
    except OSError:
        return 0.0


def open_page(written: Written) -> None:
    """Open the report's page in a browser, if there is a page."""
    page = written.files[0]
    if page.suffix == ".html":
        webbrowser.open(page.resolve().as_uri())


def _read(given: str, asked: Asked, workspace: Workspace, say: Say, notes: list[str],
          hidden: list[str], used: list[Plugin]) -> Results:
    """Update MLflow; return its results.

    Args:
        given: The name of an experiment, or its file.
        asked: Overrides of the file, and plug-in files.
        workspace: Where to read.
        say: Receives a line where another process is waited for.
        notes: Receives why the results may be incomplete.
        hidden: Receives which of the root's runs MLflow does not show.
        used: Receives the plug-ins of the file.
    """
    from gan_bench.compare.results import read_results

    name, declared, earlier = given, None, ""
    if given.endswith((".yaml", ".yml")):
        from gan_bench.config.experiment import load_experiment

        spec = load_experiment(Path(given), workspace.data_root, list(asked.settings),
                               asked.plugins, root=workspace.root)
        used += spec.plugins
        command = run_command(Path(given), asked.settings, asked.plugins)
        name, declared = spec.name, spec.declared.with_changes(command=command)
        planned = {run.id for run in spec.runs}
        home = workspace.root / "runs" / name
        if older := to_take_over(older_runs(home, planned), spec.runs, workspace.root):
            earlier = (f"left out: {count(len(older), 'run')} under ids of an earlier version; "
                       f"`{advised(command, workspace)}` takes them over")
            notes.append(earlier)
    elif asked.settings:
        raise UserError("--set overrides values of a file; give the experiment's YAML")
    if line := other_settings_line(workspace.root / "runs" / name,
                                   None if declared is None else asked.settings):
        say(f"{name}: {line}")
    notes += update_store(workspace, name, say)
    hidden += hidden_from_reports(workspace, name)
    try:
        results = read_results(workspace, name, declared)
    except UserError as error:
        if not earlier:
            raise
        raise UserError(f"{error}; {earlier}") from None
    if not results.runs["status"].isin(RESULTS).any() and (hint := sync_hint(workspace, name)):
        raise UserError(f"MLflow shows no finished run of {name} yet; {hint}")
    return results


def _names(text: str | None, known: Sequence[str]) -> list[str]:
    """Return the variants that a list names; a name may contain commas."""
    names: list[str] = []
    parts = text.split(",") if text is not None else []
    while parts:
        end = next((end for end in range(len(parts), 0, -1)
                    if ",".join(parts[:end]).strip() in known), 1)
        names.append(",".join(parts[:end]).strip())
        parts = parts[end:]
    return list(dict.fromkeys(names))
