"""Reads an experiment file as plain data, with the place of each value in the file.

It uses ruamel.yaml, because PyYAML reads `2e-4` as a string, silently keeps the last of two equal
keys, and gives no places. It uses only ruamel's parser: a tag constructs no object, and aliases are
expanded here, where they can be counted.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unicodedata import category

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gan_bench.errors import SpecError, shown

Where = tuple[str | int, ...]  # a path within the file: ("base", "model", "width")
MAX_BYTES = 200_000  # a large experiment has 3,000
MAX_VALUES = 100_000  # more than any grid needs; aliases of aliases grow without end
MAX_DEPTH = 32  # levels; an experiment has seven
DOTTED = (["matrix"], ["search", "space"])  # below them, names have dots
LARGEST = 2**63  # no key takes a larger integer
CORE = "tag:yaml.org,2002:"


class YamlSource:
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

        A name may have dots (a variant `a.b`, an axis `g_optimizer.lr`): the longest name that the
        file has is used.

        Raises:
            SpecError: There is no `=`, or the value is not valid YAML.
        """
        path, separator, text = setting.partition("=")
        words = path.strip().split(".")
        place = f"--set {setting:.200}"
        if not separator or not all(words) or len(words) > MAX_DEPTH:
            raise SpecError([f"{place}: write it as a.b=value"])
        keys = self._keys(words)
        value = parse_value(text, place)
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

    def _keys(self, words: list[str]) -> list[str]:
        """Join the words of a dotted path to keys: at each level the longest existing key."""
        keys: list[str] = []
        node: Any = self.data
        while words:
            names = [".".join(words[:count]) for count in range(len(words), 0, -1)]
            # What follows `matrix` is the name of a new axis, and `search.space` that of a new key.
            new = names[0] if keys in DOTTED else words[0]
            level: dict[str, Any] = node if isinstance(node, dict) else {}
            key = next((name for name in names if name in level), new)
            keys.append(key)
            node = level.get(key)
            words = words[key.count(".") + 1:]
        return keys


class _Refused(Exception):
    """A problem with a node of a file, and its place."""

    def __init__(self, node: Node, problem: str) -> None:
        super().__init__(problem)
        self.mark = node.start_mark


def parse_value(text: str, place: str) -> Any:
    """Return one value of the command line, written as YAML, as plain data.

    Args:
        text: The value.
        place: Its place for messages: `--set a.b=…`.

    Raises:
        SpecError: It is not valid YAML.
    """
    try:
        return _Plain(text).data
    except MarkedYAMLError as error:
        problem = error.problem
    except RecursionError:
        problem = "nested too deeply"
    except _Refused as error:
        raise SpecError([f"{place}: {error}"]) from None
    except (YAMLError, ValueError) as error:
        problem = _first_line(error)
    raise SpecError([f"{place}: the value is not valid YAML: {problem:.300}"])


def read_name(path: Path) -> str:
    """Return the name that an experiment file gives, whatever else is in it.

    Raises:
        SpecError: As `read_yaml`, or it gives none.
    """
    source = read_yaml(path)
    if "name" not in source.data:
        raise SpecError([f"{source.place(())}: the key 'name' is missing"])
    name = source.data["name"]
    if not isinstance(name, str):
        raise SpecError([f"{source.place(('name',))}: name: is text, not {shown(name)}"])
    return name


def read_yaml(path: Path) -> YamlSource:
    """Read an experiment file.

    Raises:
        SpecError: The file does not exist, is not text or not YAML, has a key twice, is too large
            or too deep, holds a value that no key takes, or is not a mapping.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            raise SpecError([f"{path}: has more than {MAX_BYTES:,} bytes, too many for an "
                             f"experiment"])
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = error.object[: error.start].decode("utf-8")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise SpecError([f"{path}:{line}:{column}: the byte {error.object[error.start]:#04x} is "
                         f"not UTF-8; save the file as UTF-8"]) from None
    except FileNotFoundError:
        raise SpecError([f"{path}: there is no such file{_nearby(path)}"]) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        raise SpecError([f"{path}: cannot be read: {_first_line(error)}"]) from None
    try:
        plain = _Plain(text)
    except _Refused as error:
        raise SpecError([f"{path}:{_position(error.mark)}: {error}"]) from None
    except MarkedYAMLError as error:
        mark = _position(error.problem_mark or error.context_mark)
        raise SpecError([f"{path}:{mark}: not valid YAML: {error.problem:.300}"]) from None
    except RecursionError:
        raise SpecError([f"{path}:1:1: nested too deeply to be an experiment"]) from None
    except (YAMLError, ValueError) as error:
        raise SpecError([f"{path}:1:1: not valid YAML: {_first_line(error)}"]) from None
    if not isinstance(plain.data, dict):
        kind = {type(None): "nothing", list: "a list"}.get(type(plain.data), "a single value")
        raise SpecError([f"{path}:1:1: an experiment is a mapping (`name: …`, `base: …`), but "
                         f"this file holds {kind}"])
    return YamlSource(str(path), plain.data,
                  {where: f"{path}:{place}" for where, place in plain.places.items()})


class _Plain:
    """The content of a YAML text as plain data.

    Attributes:
        data: Dicts, lists, strings, numbers, booleans and None.
        places: `line:column` of each path in it.

    Raises:
        _Refused, YAMLError, ValueError, RecursionError: The text is not YAML, or uses YAML that
            experiments may not.
    """

    def __init__(self, text: str) -> None:
        yaml = YAML(typ="safe", pure=True)
        self.places: dict[Where, str] = {}
        self._values = 0
        with warnings.catch_warnings():
            # An anchor that is given twice is valid YAML, and so are the numbers of YAML 1.1.
            warnings.simplefilter("ignore")
            root = yaml.compose(text)
            self._scalars = yaml.constructor
            self.data = None if root is None else self._convert(root, ())

    def _convert(self, node: Node, where: Where) -> Any:
        self._values += 1
        if self._values > MAX_VALUES:
            raise _Refused(node, f"more than {MAX_VALUES:,} values, aliases counted at each use; "
                                 f"write a grid as a `matrix`")
        if len(where) > MAX_DEPTH:  # an alias of itself, too
            raise _Refused(node, "nested too deeply to be an experiment")
        if isinstance(node, ScalarNode):
            return self._scalar(node)
        if isinstance(node, SequenceNode) and node.tag == CORE + "seq":
            items = []
            for index, item in enumerate(node.value):
                self.places[(*where, index)] = _position(item.start_mark)
                items.append(self._convert(item, (*where, index)))
            return items
        if not isinstance(node, MappingNode) or node.tag != CORE + "map":
            raise _Refused(node, f"the tag {shown(str(node.tag))} is not taken here; leave it out")
        result: dict[str, Any] = {}
        for key, key_node, value in self._pairs(node, 0):
            self.places[(*where, key)] = _position(key_node.start_mark)
            result[key] = self._convert(value, (*where, key))
        return result

    def _pairs(self, node: MappingNode, depth: int) -> Iterator[tuple[str, Node, Node]]:
        """Yield (key, its node, value) of a mapping, then of those merged into it by `<<`."""
        if depth > MAX_DEPTH:
            raise _Refused(node, "nested too deeply to be an experiment")
        merged: list[Node] = []
        seen: set[str] = set()
        for key_node, value in node.value:
            self._values += 1
            if key_node.tag == CORE + "merge":
                merged += value.value if isinstance(value, SequenceNode) else [value]
                continue
            key = self._scalar(key_node) if isinstance(key_node, ScalarNode) else None
            if not isinstance(key, str):
                text = f"{shown(key_node.value)} " if isinstance(key_node, ScalarNode) else ""
                raise _Refused(key_node, f"the key {text}is not a string; put it in quotes")
            if key in seen:
                raise _Refused(key_node, f"found duplicate key {shown(key)}; keep one of the two")
            seen.add(key)
            yield key, key_node, value
        for other in merged:
            if not isinstance(other, MappingNode):
                raise _Refused(other, "`<<` merges mappings, but this is not a mapping")
            if self._values > MAX_VALUES:
                raise _Refused(other, f"more than {MAX_VALUES:,} values, aliases counted at each "
                                      f"use")
            for key, key_node, value in self._pairs(other, depth + 1):
                if key not in seen:
                    seen.add(key)
                    yield key, key_node, value

    def _scalar(self, node: ScalarNode) -> str | int | float | bool | None:
        kind = str(node.tag).removeprefix(CORE)
        if kind in ("timestamp", "merge", "value"):  # no key takes a date: it is text
            kind = "str"
        if kind not in ("str", "int", "float", "bool", "null"):
            raise _Refused(node, f"the tag {shown(str(node.tag))} is not taken here; leave it out")
        if kind == "str":
            strange = [c for c in node.value if c not in "\t\n" and category(c) in ("Cc", "Cs")]
            if strange:
                raise _Refused(node, f"the character {strange[0]!r} is not allowed in text")
            return str(node.value)
        value: int | float | bool | None = LARGEST
        try:
            if kind != "int" or len(node.value) < 100:  # Python converts no more than 4,300 digits
                value = getattr(self._scalars, f"construct_yaml_{kind}")(node)
        except (ValueError, LookupError):  # `!!int x`
            raise _Refused(node, f"{shown(node.value)} is not a valid {kind}") from None
        if type(value) is int and not -LARGEST <= value < LARGEST:
            raise _Refused(node, f"{node.value:.20} is too large a number")
        return value


def _position(mark: Any) -> str:
    """Return `line:column` of ruamel's mark, counted from 1."""
    return f"{mark.line + 1}:{mark.column + 1}" if mark else "1:1"


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _nearby(path: Path) -> str:
    files = sorted(path.parent.glob("*.yaml")) if path.parent.is_dir() else []
    shown = f"; in {path.parent}: {', '.join(file.name for file in files[:8])}" if files else ""
    by_name = "; gan-bench list experiments shows those that can be run by name"
    return shown if path.suffix else shown + by_name
