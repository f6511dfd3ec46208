"""What `gan-bench power` does."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from gan_bench.cli.planning.power_draws import draws_table, fill_with_notes
from gan_bench.compare.ended import RunResult
from gan_bench.compare.seeds import Need, needs, strictest
from gan_bench.compare.stats.doubt import ALPHA
from gan_bench.compare.stats.power import MAX_SEEDS, POWER
from gan_bench.config.declared import Amount, Declared, parse_amount
from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import UserError
from gan_bench.journal.status import progress_of
from gan_bench.launcher.reporters import format_number
from gan_bench.text_table import TableColumn

NOTE = 16  # columns that notes take at least
COLUMNS = (TableColumn("score"), TableColumn("variant", least=16), TableColumn("difference", 2),
           TableColumn("sd over seeds", 3), TableColumn("seeds"), TableColumn("from … to", 1))


def power_table(spec: ExperimentSpec, root: Path, difference: str, score: str | None = None,
                command: str = "", width: int | None = None) -> Table:
    """Return what `gan-bench power` shows, from the journals under `root`.

    Of an experiment with a search, how many draws and seeds find the difference.

    Args:
        spec: The experiment.
        root: Where its runs are.
        difference: The difference to detect, as the user types it.
        score: As for `needs`; of a search, by default the one that selects.
        command: The command that trains the experiment.
        width: Of the terminal; None: no column is left out.

    Raises:
        UserError: `difference` is not an amount, or see `needs` and `score_to_plan`.
    """
    try:
        wanted = parse_amount(difference)
    except ValueError as error:
        raise UserError(f"--difference: {error}") from None
    if spec.search is not None:
        return draws_table(spec, root, wanted, score, command, width)
    if not wanted.relative and score is None:
        raise UserError(f"a difference of {wanted} belongs to one score; name it with --metric, or "
                        f"give a percentage")
    runs = [RunResult.of(progress_of(run, root)) for run in spec.runs]
    declared = spec.declared.with_changes(command=command)
    return needs_table(needs(declared, runs, wanted, score), declared, wanted, width)


def needs_table(rows: list[Need], declared: Declared, difference: Amount,
                width: int | None = None) -> Table:
    """Return the rows as a table for the terminal, with the columns that there is room for."""
    many = round(ALPHA / strictest(declared))
    family = " of the largest family" if declared.sweeps else ""
    share = f"5% over the {many} comparisons{family} (Holm)" if many > 1 else "5%"
    means = ", ".join(declared.curve_means)
    table = Table(
        box=None, pad_edge=False, title_justify="left", caption_justify="left",
        title=escape(f"Seeds of each variant that find a difference of {difference} from "
                     f"{declared.baseline} with {POWER:.0%} power, two-sided at {share}"
                     f"{', paired by seed' if declared.paired else ''}"),
        caption="from … to: were the true sd at the ends of its 80% interval" + (escape(
            f"\nthe means of curves ({means}) are left out: only a report has them")
            if means else ""))
    fill_with_notes(table, COLUMNS, [(_cells(need), need.note) for need in rows], width, NOTE)
    return table


def _cells(need: Need) -> list[str]:
    """Return a row of the table without its note, in the order of `COLUMNS`."""
    span = f"{_count(need.low)} to {_count(need.high)}" if need.seeds or need.low else ""
    return [need.score, need.variant, format_number(need.difference), format_number(need.sd),
            _count(need.seeds) if span else "", span]


def _count(seeds: int | None) -> str:
    return f"over {MAX_SEEDS:,}" if seeds is None else f"{seeds:,}"
