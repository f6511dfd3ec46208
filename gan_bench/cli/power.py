"""What `gan-bench power` does."""

from __future__ import annotations

from pathlib import Path

from rich.markup import escape
from rich.table import Table

from gan_bench.compare.ended import RunResult
from gan_bench.compare.seeds import Need, needs
from gan_bench.compare.stats.power import MAX_SEEDS, POWER
from gan_bench.config.declared import Amount, Declared, parse_amount
from gan_bench.config.spec import ExperimentSpec
from gan_bench.errors import UserError
from gan_bench.journal.status import progress_of
from gan_bench.launcher.reporters import format_number


def power_table(spec: ExperimentSpec, root: Path, difference: str, score: str | None = None,
                command: str = "") -> Table:
    """Return what `gan-bench power` shows, from the journals under `root`.

    Args:
        spec: The experiment.
        root: Where its runs are.
        difference: The difference to detect, as the user types it.
        score: As for `needs`.
        command: The command that trains the experiment.

    Raises:
        UserError: `difference` is not an amount, or see `needs`.
    """
    try:
        wanted = parse_amount(difference)
    except ValueError as error:
        raise UserError(f"--difference: {error}") from None
    if not wanted.relative and score is None:
        raise UserError(f"a difference of {wanted} belongs to one score; name it with --score, or "
                        f"give a percentage")
    runs = [RunResult.of(progress_of(run, root)) for run in spec.runs]
    declared = spec.declared.with_changes(command=command)
    return needs_table(needs(declared, runs, wanted, score), declared, wanted)


def needs_table(rows: list[Need], declared: Declared, difference: Amount) -> Table:
    """Return the rows as a table for the terminal."""
    many = len(declared.variants) - 1
    share = f"5% over the {many} comparisons (Holm)" if many > 1 else "5%"
    means = ", ".join(declared.curve_means)
    table = Table(
        box=None, pad_edge=False, title_justify="left", caption_justify="left",
        title=escape(f"Seeds of each variant that find a difference of {difference} from "
                     f"{declared.baseline} with {POWER:.0%} power, two-sided at {share}"
                     f"{', paired by seed' if declared.paired else ''}"),
        caption="from … to: were the true sd at the ends of its 80% interval" + (escape(
            f"\nthe means of curves ({means}) are left out: only a report has them")
            if means else ""))
    for heading in ("score", "variant", "difference", "sd over seeds", "seeds", "from … to", ""):
        table.add_column(heading, no_wrap=heading != "")
    for one in rows:
        span = f"{_count(one.low)} to {_count(one.high)}" if one.seeds or one.low else ""
        table.add_row(one.score, escape(one.variant), format_number(one.difference),
                      format_number(one.sd), _count(one.seeds) if span else "", span, one.note)
    return table


def _count(seeds: int | None) -> str:
    return f"over {MAX_SEEDS:,}" if seeds is None else f"{seeds:,}"
