"""Tables and lines that fit a terminal: what is left out, what is shortened, what stays whole."""

from __future__ import annotations

import pytest

from gan_bench.text_table import (
    GAP,
    TableColumn,
    align_columns,
    fit_columns,
    grouped_lines,
    shortened,
    table_lines,
    wrap_line,
)

COLUMNS = (TableColumn("name", least=10), TableColumn("seed", right=True), TableColumn("state"),
           TableColumn("step", 1), TableColumn("left", 2))
ROWS = [["a-name-of-twenty-char", "7", "RUNNING", "10/1000", "about 3 min"],
        ["short", "12", "FINISHED", "1000/1000", ""]]
WHOLE = 21 + 4 + 8 + 9 + 11 + 4 * GAP


def names(width: int | None) -> list[str]:
    return [COLUMNS[i].heading for i, _ in fit_columns(COLUMNS, ROWS, width)]


@pytest.mark.parametrize(("width", "kept"), [
    (None, "name seed state step left"), (WHOLE, "name seed state step left"),
    (WHOLE - 11, "name seed state step left"), (WHOLE - 12, "name seed state step"),
    (10 + 4 + 8 + 9 + 3 * GAP, "name seed state step"),
    (10 + 4 + 8 + 9 + 3 * GAP - 1, "name seed state"), (5, "name seed state")])
def test_columns_are_left_out_by_rank(width: int | None, kept: str) -> None:
    assert names(width) == kept.split()
    if width is not None and width > 30:
        used = sum(size for _, size in fit_columns(COLUMNS, ROWS, width))
        assert used + GAP * (len(kept.split()) - 1) <= width


def test_a_column_that_was_shortened_takes_the_room_that_another_leaves() -> None:
    """Without `left` there is room for 19 of 21 characters, and without `step` for all."""
    width = 19 + 4 + 8 + 9 + 3 * GAP
    assert dict(fit_columns(COLUMNS, ROWS, width))[0] == 19
    lines = table_lines(COLUMNS, ROWS, width)
    assert all(len(line) <= width for line in lines)
    assert lines[1].startswith("a-name-of…enty-char  ")
    assert "a-name-of-twenty-char" in table_lines(COLUMNS, ROWS, WHOLE)[1]


def test_what_is_shortened_stays_different() -> None:
    texts = [f"mnist-dcgan-lr=0.000{i}-hinge-and-more" for i in range(4)]
    for width in (20, 30):
        cut = shortened(texts, width)
        assert len(set(cut)) == 4
        assert all(len(text) <= width and "…" in text for text in cut)
    assert {*map(len, shortened(texts, 8))} == {8}
    assert shortened(texts, 38) == texts
    assert shortened(["left-middle-right"], 9) == ["left…ight"]


def test_names_that_differ_in_several_places_stay_different() -> None:
    """As those of a grid, of which no single cut keeps all axes."""
    grid = [f"{model}-{loss}-lr=0.000{rate}-batch_size={size}-spectral"
            for model in ("dcgan", "mlp_conv") for loss in ("saturating", "non_saturating")
            for rate in (1, 2, 4) for size in (64, 128)]
    for width in (8, 12, 16, 20, 24, 40):
        cut = shortened(grid, width)
        assert len(set(cut)) == len(grid)
        assert max(map(len, cut)) <= width
        assert ("~" in "".join(cut)) == (width < 16)
        assert shortened(grid[::-1], width) == cut[::-1]
    assert shortened(grid, 16)[0] == "dcgan-satu…01-64"  # without what all of them share
    two = shortened(["a" * 9 + "b" + "a" * 9, "a" * 19], 8)
    assert [text.count("b") for text in two] == [1, 0]
    assert shortened(["same" * 9, "same" * 9, "short"], 8) == ["sam…same", "sam…same", "short"]


@pytest.mark.parametrize("width", [20, 40, 62, 80])
def test_a_line_breaks_at_spaces_alone(width: int) -> None:
    line = "  what-differs: a sentence with /a/path/that/is/longer/than/any/line and 1e-4, 2e-4"
    lines = wrap_line(line, width)
    assert " ".join(" ".join(lines).split()) == " ".join(line.split())
    assert {word for each in lines for word in each.split()} == set(line.split())
    assert all(len(each) <= width or len(each.split()) == 1 for each in lines)
    assert lines[0].startswith("  what")
    assert all(each.startswith("    ") for each in lines[1:])
    assert wrap_line(line, None) == [line]
    assert wrap_line("short", 5) == ["short"]


def test_names_stand_above_their_rows_where_they_take_too_much_room() -> None:
    columns = (TableColumn("id"), TableColumn("variant"), TableColumn("seed"),
               TableColumn("step", 1))
    rows = [["ab", "a-variant-of-25-characters", "0", "1/2"],
            ["cd", "a-variant-of-25-characters", "1", "1/2"], ["ef", "short", "0", "1/2"]]
    beside = grouped_lines(columns, rows, 1, 2 + 26 + 4 + 2 * GAP)
    assert beside[1] == "ab  a-variant-of-25-characters  0"
    assert beside == table_lines(columns, rows, 2 + 26 + 4 + 2 * GAP)
    assert grouped_lines(columns, rows, 1, 2 + 26 + 4 + 2 * GAP - 1) == [
        "  id  seed  step", "a-variant-of-25-characters", "  ab  0     1/2", "  cd  1     1/2",
        "short", "  ef  0     1/2"]
    assert grouped_lines(columns, rows, 1) == table_lines(columns, rows)


def test_columns_end_at_the_side_that_is_asked() -> None:
    assert align_columns([["a", "b"], ["long", "c"]]) == ["a     b", "long  c"]
    assert align_columns([["n", "b"], ["100", "c"]], [True, False]) == ["  n  b", "100  c"]
