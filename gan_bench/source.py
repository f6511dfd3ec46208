"""Reading an experiment file: plain data, and where in the file each of its values stands.

ruamel.yaml and not PyYAML: the latter reads `2e-4` as a string, keeps the last of two equal keys
in silence, and does not say where anything stood.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gan_bench.errors import SpecError

Where = tuple[str | int, ...]  # a path within the file: ("base", "model", "width")
MAX_VALUES = 100_000  # more than any grid needs; aliases of aliases grow without end


class Source:
    """An experiment file as plain data, with the place of every value.

    Attributes:
        data: The top-level mapping: dicts, lists, strings, numbers, booleans and None.
    """

    def __init__(self, file: str, data: dict[str, Any], places: dict[Where, str]) -> None:
        self.file = file
        self.data = data
        self._places = places

    def place(self, where: Where) -> str:
        """Return `file:line:column` of a path, or of the nearest path above it."""
        for end in range(len(where), -1, -1):
            if where[:end] in self._places:
                return self._places[where[:end]]
        return f"{self.file}:1:1"

    def override(self, setting: str) -> None:
        """Apply one `a.b=value` of the command line; `value` is read as YAML.

        Raises:
            SpecError: There is no `=`, or the value is no YAML.
        """
        path, separator, text = setting.partition("=")
        keys = path.strip().split(".")
        if not separator or not all(keys):
            raise SpecError([f"--set {setting}: write it as a.b=value"])
        place = f"--set {setting:.200}"
        value = parse(text, place)
        node = self.data
        for depth, key in enumerate(keys[:-1], start=1):
            below = node.get(key)
            if isinstance(below, list):
                raise SpecError([f"{place}: {'.'.join(keys[:depth])} is a list; set it as a whole"])
            self._places.setdefault(tuple(keys[:depth]), place)
            if isinstance(below, str):  # base.model.width=64 where the file says `model: mlp`
                below = {"name": below}
            if not isinstance(below, dict):
                below = {}
            node[key] = below
            node = below
        node[keys[-1]] = value
        where = tuple(keys)
        self._places = {k: v for k, v in self._places.items() if k[: len(where)] != where}
        self._places[where] = place


def parse(text: str, place: str) -> Any:
    """Return one value of the command line, written as YAML, as plain data.

    Args:
        text: The value.
        place: Where it stands, for messages: `--set a.b=…`.

    Raises:
        SpecError: It is no YAML.
    """
    try:
        return _plain(YAML(typ="rt", pure=True).load(text), place)[0]
    except MarkedYAMLError as error:
        raise SpecError([f"{place}: the value is no YAML: {error.problem}"]) from None
    except (YAMLError, ValueError, RecursionError) as error:
        raise SpecError([f"{place}: the value is no YAML: {_first_line(error)}"]) from None


def read(path: Path) -> Source:
    """Read an experiment file.

    Raises:
        SpecError: It is not there, not text, not YAML, has a key twice, or is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SpecError([f"{path}: there is no such file{_nearby(path)}"]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError([f"{path}: cannot be read: {_first_line(error)}"]) from None
    try:
        loaded = YAML(typ="rt", pure=True).load(text)
    except DuplicateKeyError as error:
        raise SpecError([f"{_mark(path, error)}: {error.problem}; keep one of the two"]) from None
    except MarkedYAMLError as error:
        raise SpecError([f"{_mark(path, error)}: not valid YAML: {error.problem}"]) from None
    except RecursionError:
        raise SpecError([f"{path}:1:1: nested too deeply to be an experiment"]) from None
    except (YAMLError, ValueError) as error:
        raise SpecError([f"{path}:1:1: not valid YAML: {_first_line(error)}"]) from None
    if not isinstance(loaded, CommentedMap):
        raise SpecError([f"{path}:1:1: an experiment is a mapping (`name: …`, `base: …`), and "
                         f"this file holds {'nothing' if loaded is None else repr(loaded)[:40]}"])
    return Source(str(path), *_plain(loaded, str(path)))


def _plain(root: object, file: str) -> tuple[Any, dict[Where, str]]:
    """Return `root` as plain data, and the place of each path in it."""
    places: dict[Where, str] = {}

    def convert(node: object, where: Where) -> Any:
        if len(places) > MAX_VALUES:
            raise SpecError([f"{file}: more than {MAX_VALUES:,} values, aliases counted at each "
                             f"use; write a grid as a `matrix`"])
        if isinstance(node, Mapping):
            result = {}
            for key, value in node.items():
                if not isinstance(key, str):
                    line, column = _of_key(node, key)
                    raise SpecError([f"{file}:{line}:{column}: the key {key!r} is no string; "
                                     f"put it in quotes"])
                line, column = _of_key(node, key)
                places[(*where, key)] = f"{file}:{line}:{column}"
                result[str(key)] = convert(value, (*where, key))
            return result
        if isinstance(node, Sequence) and not isinstance(node, str):
            items = []
            for index, value in enumerate(node):
                if isinstance(node, CommentedSeq):
                    line, column = node.lc.item(index)
                    places[(*where, index)] = f"{file}:{line + 1}:{column + 1}"
                items.append(convert(value, (*where, index)))
            return items
        if isinstance(node, bool) or node is None:
            return node
        for plain in (str, int, float):
            if isinstance(node, plain):
                return plain(node)
        return str(node)  # dates and the like: no key takes one, and the type check will say so

    return convert(root, ()), places


def _of_key(node: object, key: object) -> tuple[int, int]:
    position = node.lc.data.get(key) if isinstance(node, CommentedMap) else None
    return (position[0] + 1, position[1] + 1) if position else (1, 1)


def _mark(path: Path, error: MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else f"{path}:1:1"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _nearby(path: Path) -> str:
    found = sorted(path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    return f"; in {path.parent}: {', '.join(f.name for f in found[:8])}" if found else ""
