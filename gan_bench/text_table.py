"""Text that fits a terminal: tables whose columns have a rank, and lines that break at spaces."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GAP = 2  # spaces between two columns
LEAST = 8  # characters that the shortest form of a name has


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    Attributes:
        heading: The text above it.
        rank: If a table is too wide, the column of the highest rank is left out first; a column of
            rank 0 stays.
        right: Whether its cells end at the right edge.
        least: The width to which its cells may be shortened before a column is left out; None if
            they are never shortened.
    """

    heading: str
    rank: int = 0
    right: bool = False
    least: int | None = None


def fit_columns(columns: Sequence[TableColumn], rows: Sequence[Sequence[str]], width: int | None,
                ) -> list[tuple[int, int]]:
    """Return the index and the width of each column that there is room for, in order.

    Args:
        width: Of the terminal; None: there is room for all.
    """
    whole = [max([len(column.heading), *(len(row[i]) for row in rows)])
             for i, column in enumerate(columns)]
    if width is None:
        return list(enumerate(whole))
    widths = [min(size, column.least or size)
              for column, size in zip(columns, whole, strict=True)]
    kept = list(range(len(columns)))

    def spare() -> int:
        return width - sum(widths[i] for i in kept) - GAP * (len(kept) - 1)

    while spare() < 0 and (ranked := [i for i in kept if columns[i].rank]):
        kept.remove(max(ranked, key=lambda i: (columns[i].rank, i)))
    for i in kept:
        if columns[i].least is not None:
            widths[i] = max(min(widths[i] + spare(), whole[i]), min(LEAST, whole[i]))
    return [(i, widths[i]) for i in kept]


def shortened(texts: Sequence[str], width: int) -> list[str]:
    """Return texts of at most this width, with `…` in the place of what is left out.

    Different texts stay different. What is left out lies in the middle; if that leaves two alike,
    elsewhere, or in two places, or what the names share; and if they are still alike, a number
    stands at their end.
    """
    if all(len(text) <= width for text in texts):
        return list(texts)
    best: list[str] = []
    for cut in _cuts(texts, width):
        if len(set(cut)) > len(set(best)):
            best = cut
        if len(set(best)) == len(set(texts)):
            return best
    return _numbered(texts, best, width)


def _cuts(texts: Sequence[str], width: int) -> Iterator[list[str]]:
    """Yield the texts as they are shortened, the way that says the most first."""
    for names in (texts, _varying_parts(texts)):
        for tail in sorted(range(width), key=lambda tail: abs(tail - width // 2)):
            yield [_without_middle(name, width, tail) for name in names]
        for begin in range(1, max(map(len, names))):
            yield [_with_piece(name, width, begin) for name in names]


def _varying_parts(texts: Sequence[str]) -> list[str]:
    """Return names such as `mlp-lr=0.1-adam` without the parts and keys that all of them share."""
    rows = [text.split("-") for text in texts]
    if len({len(row) for row in rows}) > 1:
        return list(texts)
    columns = [column for column in zip(*rows, strict=True) if len(set(column)) > 1]
    for i, column in enumerate(columns):
        keys = {cell.partition("=")[0] for cell in column if "=" in cell}
        if len(keys) == 1 and all("=" in cell for cell in column):
            columns[i] = tuple(cell.partition("=")[2] for cell in column)
    return ["-".join(row) for row in zip(*columns, strict=True)] or list(texts)


def _numbered(texts: Sequence[str], cuts: Sequence[str], width: int) -> list[str]:
    """Return shortened texts, with a number at the end of those that are alike.

    The numbers do not depend on the order of the texts, which changes in a live table.
    """
    cut_of = dict(zip(texts, cuts, strict=True))
    counts = Counter(cut_of.values())
    taken = {cut for cut, count in counts.items() if count == 1}
    results: dict[str, str] = {}
    for text in sorted(cut_of):
        result, number = cut_of[text], 0
        while counts[cut_of[text]] > 1 and (not number or result in taken):
            number += 1
            result = f"{cut_of[text][:width - 1 - len(str(number))]}~{number}"
        taken.add(result)
        results[text] = result
    return [results[text] for text in texts]


def _without_middle(text: str, width: int, tail: int) -> str:
    """Return a text of at most this width, which ends with its last `tail` characters."""
    if len(text) <= width:
        return text
    return f"{text[:width - 1 - tail]}…{text[len(text) - tail:]}"


def _with_piece(text: str, width: int, begin: int) -> str:
    """Return a text of at most this width: its ends, and between them a piece of its middle."""
    if len(text) <= width:
        return text
    piece = (width - 2) // 2
    head = (width - 1 - piece) // 2
    tail = width - 2 - piece - head
    begin = min(max(begin, head), len(text) - tail - piece)
    return f"{text[:head]}…{text[begin:begin + piece]}…{text[len(text) - tail:]}"


def fit_cells(columns: Sequence[TableColumn], rows: Sequence[Sequence[str]],
              kept: Sequence[tuple[int, int]]) -> list[list[str]]:
    """Return the cells of the columns that `fit_columns` keeps, no wider than it says."""
    by_column = []
    for i, width in kept:
        cells = [row[i] for row in rows]
        by_column.append(cells if columns[i].least is None else shortened(cells, width))
    return [list(row) for row in zip(*by_column, strict=True)]


def table_lines(columns: Sequence[TableColumn], rows: Sequence[Sequence[str]],
                width: int | None = None) -> list[str]:
    """Return a table as lines, the headings first, with the columns that there is room for."""
    kept = fit_columns(columns, rows, width)
    headings = [columns[i].heading for i, _ in kept]
    sides = [columns[i].right for i, _ in kept]
    return align_columns([headings, *fit_cells(columns, rows, kept)], sides)


def grouped_lines(columns: Sequence[TableColumn], rows: Sequence[Sequence[str]], by: int,
                  width: int | None = None) -> list[str]:
    """Return a table as `table_lines` does, but for names that take too much room in a column.

    If they would cost more than one other column, each of them is on a line above its rows, which
    follow each other.

    Args:
        by: The column of these names, which is never shortened.
    """
    kept = fit_columns(columns, rows, width)
    needs = sum(size for _, size in kept) + GAP * (len(kept) - 1)
    if width is None or (needs <= width and len(kept) >= len(columns) - 1):
        return table_lines(columns, rows, width)
    others = [i for i in range(len(columns)) if i != by]
    head, *below = table_lines([columns[i] for i in others],
                               [[row[i] for i in others] for row in rows], width - GAP)
    lines = [" " * GAP + head]
    for i, (row, line) in enumerate(zip(rows, below, strict=True)):
        if i == 0 or row[by] != rows[i - 1][by]:
            lines += wrap_line(row[by], width)
        lines.append(" " * GAP + line)
    return lines


def align_columns(rows: Sequence[Sequence[str]], right: Sequence[bool] = ()) -> list[str]:
    """Return rows of text with their columns aligned.

    Args:
        right: For each column whether its cells end at the right edge; by default none does.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    sides = right or [False] * len(widths)
    lines = []
    for row in rows:
        cells = [f"{cell:{'>' * side or '<'}{width}}"
                 for cell, width, side in zip(row, widths, sides, strict=True)]
        lines.append((" " * GAP).join(cells).rstrip())
    return lines


def wrap_line(line: str, width: int | None, hang: int | None = None) -> list[str]:
    """Return a line as lines that fit, broken at spaces alone.

    Args:
        width: Of the terminal; None: the line stays whole.
        hang: How far the further lines are indented; by default two more than the line is.
    """
    if width is None or len(line) <= width:
        return [line]
    indent = len(line) - len(line.lstrip())
    further = indent + 2 if hang is None else hang
    return textwrap.wrap(line.strip(), max(width, further + LEAST),
                         initial_indent=" " * indent, subsequent_indent=" " * further,
                         break_long_words=False, break_on_hyphens=False)
