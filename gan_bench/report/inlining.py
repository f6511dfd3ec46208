"""Figures as elements of a page: an SVG of matplotlib's, parsed and written again as a tree."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree import ElementTree

from gan_bench.report.figures.style import INK


@dataclass(frozen=True)
class Drawing:
    """A figure of the page.

    Attributes:
        about: What it shows, for readers who cannot see it.
        svg: The file that matplotlib wrote.
        caption: The text below it.
        name: Which one it is, where that decides its place on the page.
    """

    about: str
    svg: bytes
    caption: str = ""
    name: str = ""


def inline(svg: bytes, prefix: str, about: str) -> str:
    """Return a figure as an element of the page, with the ink of the page's text.

    Args:
        svg: The file that matplotlib wrote.
        prefix: A prefix for its ids, so that no two figures of a page share one.
        about: What it shows, in words.
    """
    tree = ElementTree.fromstring(svg)
    for parent in tree.iter():
        for child in list(parent):
            if _local(child.tag) in ("metadata", "style"):  # the page has the style
                parent.remove(child)
    for element in tree.iter():
        element.tag = _local(element.tag)
        for key in list(element.attrib):
            value = element.attrib.pop(key).replace(INK, "currentColor")
            key = _local(key)
            if key == "id":
                value = prefix + value
            elif key == "href" and value.startswith("#"):
                value = "#" + prefix + value[1:]
            elif "url(#" in value:
                value = value.replace("url(#", f"url(#{prefix}")
            element.set(key, _shorter(value) if key in ("d", "style") else value)
    width = float(tree.attrib.pop("width").removesuffix("pt"))
    tree.attrib.pop("height", None)
    tree.attrib.pop("version", None)
    tree.set("style", f"--width: {width * 4 / 3:.0f}px")
    tree.set("role", "img")
    tree.set("aria-label", about)
    return ElementTree.tostring(tree, encoding="unicode")


def _local(name: object) -> str:
    return str(name).rpartition("}")[2]


def _shorter(text: str) -> str:
    """Return a path with two decimals of a point: no screen shows more."""
    return re.sub(r"(\.\d\d)\d+", r"\1", " ".join(text.split()))
