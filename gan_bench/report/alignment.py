"""Cells of a page's tables: numbers with their points in one line, intervals below them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from markupsafe import Markup, escape

HIDDEN = Markup('<span style="visibility: hidden" aria-hidden="true">{}</span>')
NUMBER = re.compile(r"[+−]?\d+(?:\.(\d+))?")


def aligned(cells: Sequence[str]) -> list[Markup]:
    """Return a column of numbers whose decimal points stand below each other.

    Each is followed by invisible digits, so that aligned at the right all have equally many. What
    follows a number in brackets stands on a line of its own, below it.
    """
    parts = [_parts(cell) for cell in cells]
    numbers = [NUMBER.fullmatch(value) for value, _ in parts]
    decimals = max((len(number[1] or "") for number in numbers if number), default=0)
    return [_cell(value, detail, _missing(number, decimals))
            for (value, detail), number in zip(parts, numbers, strict=True)]


def aligned_rows(rows: Sequence[Sequence[str]], first: int = 1) -> list[list[Markup]]:
    """Return a table with its columns aligned, from a column on; those before are as they are."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    cells = [[escape(cell) for cell in column] for column in columns[:first]]
    cells += [aligned(column) for column in columns[first:]]
    return [list(row) for row in zip(*cells, strict=True)]


def _parts(text: str) -> tuple[str, str]:
    """Return an estimate, and its interval or why it has none."""
    value, bracket, detail = text.partition(" [" if " [" in text else " (")
    return value, bracket.strip() + detail


def _missing(number: re.Match[str] | None, decimals: int) -> str:
    """Return the digits that a number lacks."""
    if number is None:
        return ""
    digits = "0" * (decimals - len(number[1] or ""))
    return f".{digits}" if digits and not number[1] else digits


def _cell(value: str, detail: str, missing: str) -> Markup:
    cell = escape(value)
    if missing:
        cell += HIDDEN.format(missing)
    return cell + Markup("<small>{}</small>").format(detail) if detail else cell
