"""What it costs to write a figure."""

from __future__ import annotations

import pytest
from matplotlib.figure import Figure

from gan_bench.report.figures.files import FORMATS, render
from gan_bench.report.figures.style import new_figure


def test_a_figure_is_drawn_once_for_each_format(monkeypatch: pytest.MonkeyPatch) -> None:
    """A placeholder of its layout would have matplotlib draw it twice."""
    drawn, draw = [], Figure.draw

    def counted(figure: Figure, renderer: object) -> None:
        drawn.append(type(renderer).__name__)
        draw(figure, renderer)

    monkeypatch.setattr(Figure, "draw", counted)
    figure = new_figure("title", 4, 2)
    figure.subplots().plot([1, 2])
    for kind in FORMATS:
        render(figure, kind)
    assert len(drawn) == len(FORMATS), drawn
