"""The look of figures: on a page, or for a column of a paper."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Literal

Font = Literal["sans", "serif"]
NARROW = 5.0  # inches, below which a legend stands under the axes
# Each is part of matplotlib, so that a figure is the same on every machine.
FONTS: dict[Font, dict[str, Any]] = {
    "sans": {"font.family": "sans-serif", "font.sans-serif": ["DejaVu Sans"]},
    "serif": {"font.family": ["STIXGeneral", "DejaVu Serif", "DejaVu Sans"]}}


@dataclass(frozen=True)
class Look:
    """How figures look.

    Attributes:
        width: In inches; text has the same size at every width.
        font: `serif` is close to Times.
        has_titles: Whether a figure has its title and its notes in it; a paper has a caption.
    """

    width: float = 8.0
    font: Font = "sans"
    has_titles: bool = True

    @property
    def is_narrow(self) -> bool:
        """Whether the figure is for a column of a paper."""
        return self.width < NARROW

    @property
    def letters(self) -> int:
        """How many letters of a name fit on a line beside the axes."""
        return 14 if self.is_narrow else 32

    def height(self, usual: float) -> float:
        """Return the height of axes that are `usual` high at the usual width."""
        return usual * min(1.0, max(0.55, self.width / PAGE.width))


PAGE = Look()
_LOOK: ContextVar[Look] = ContextVar("look", default=PAGE)


def look() -> Look:
    """Return the look of the figures that are drawn now."""
    return _LOOK.get()


@contextmanager
def drawn_for(chosen: Look) -> Iterator[None]:
    """Give the figures that are drawn within it another look."""
    token = _LOOK.set(chosen)
    try:
        yield
    finally:
        _LOOK.reset(token)
