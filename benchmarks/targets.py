"""The lines of a benchmark's table, and the list of missed targets with the reasons."""

from __future__ import annotations

import os
import statistics
import sys

QUICK = "--quick" in sys.argv[1:]  # little of everything: whether it works, and no measurement
MISSED = "missed:"  # after it, a line each: "- what: …", which all.py collects
UNKNOWN = "no reason is known"


def row(what: str, values: list[float], unit: str, target: float, why: str = "") -> list[str]:
    """Return a line of the table; a target is met when the worst of the values is within it.

    Args:
        why: What is known of the reason, should it be missed.
    """
    low, middle, high = min(values), statistics.median(values), max(values)
    spread = f" ({low:.2f} to {high:.2f})" if low < high else ""
    return [what, f"{middle:.2f} {unit}{spread}", f"≤ {target:g} {unit}",
            "MISSED" if high > target else "met", why]


def say_load() -> str:
    """Print the load average before anything is measured, and return it in words."""
    load = os.getloadavg()[0]
    told = f"load average {load:.2f}"
    print(f"{told}{': too busy, all times come out too long' * (load > 0.5)}", flush=True)
    return told


def say_rows(rows: list[list[str]], widths: tuple[int, int], load: str) -> None:
    """Print the table, and then what of it is missed."""
    for line in [["what", "median (range)", "target", ""], *rows]:
        print(f"{line[0]:{widths[0]}}{line[1]:{widths[1]}}{line[2]:12}{line[3]}")
    say_missed([f"{what}: {found}, target {target}; {why or UNKNOWN}; {load} at the start"
                for what, found, target, verdict, why in rows if verdict == "MISSED"])


def say_missed(missed: list[str]) -> None:
    """Print what is missed, with the reasons; nothing of it ends a script with another status."""
    print(MISSED, *(missed or ["nothing"]), sep="\n- " if missed else " ", flush=True)
