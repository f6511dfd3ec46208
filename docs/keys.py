"""Write docs/keys.md, every key of an experiment file, from experiments/schema.json.

    python docs/keys.py

The schema holds what the specifications' docstrings say; `make docs` writes the page first.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PAGE = HERE / "keys.md"
SCHEMA = HERE.parent / "experiments" / "schema.json"
HEAD = """\
# Every key of the experiment file

<!-- written by docs/keys.py: change the docstrings of gan_bench/config/, then `make docs` -->

This page is generated from `experiments/schema.json`. [The experiment file](experiment.md) explains
the keys with examples.
"""
Node = Mapping[str, Any]
PARTS = {"dataset": "dataset", "model": "model", "loss": "loss", "optimizer": "optimizer",
         "penalties": "penalty", "augmentation": "augmentation"}
SECTIONS = {"Run": ("base", "`base`, each variant, and each axis of `matrix` take these keys. "
                    "`log_every` and `sample_every` say what is recorded, and are in no run's id."),
            "EvaluateSpec": ("evaluate", "What is measured; in no run's id."),
            "ComputeSpec": ("compute", "How and where the numbers are computed."),
            "SearchSpec": ("search", "Settings that are drawn at random for each variant: see "
                           "[a random search](search.md)."),
            "SelectSpec": ("search.select", "The first stage of a search."),
            "ConfirmSpec": ("search.confirm", "The second stage of a search."),
            "ClusterSpec": ("cluster", "What `gan-bench run FILE --on slurm` asks the scheduler "
                            "for; in no run's id."),
            "InitSpec": ("init", "Weights that networks start from."),
            "ReferenceSpec": ("evaluate.reference", "What Fréchet distances compare with."),
            "CurveMean": ("curve_means", "Each name in `curve_means` has these keys.")}
LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}",
          "exclusiveMaximum": "< {}"}
LONG = 12  # names in an enumeration; longer ones are listed elsewhere


def keys_page(schema: Node) -> str:
    """Return the page: the top level, each section, and each part with its arguments."""
    definitions = schema["$defs"]
    run = definitions["Run"]["properties"]
    lines = [HEAD, "## Top level", ""]
    lines += _table(schema["properties"], schema.get("required", ()))
    for name, (title, text) in SECTIONS.items():
        definition = definitions[name]
        lines += ["", f"## {title}", "", text, ""]
        lines += _table(definition["properties"], definition.get("required", ()))
    for key, noun in PARTS.items():
        node = schema["properties"][key] if key in schema["properties"] else run[key]
        article = "An" if noun[0] in "aeiou" else "A"
        lines += ["", f"## {key}: names and arguments", "",
                  f"{article} {noun} is a name, or a mapping: `{{name: …, argument: value}}`."]
        for entry in _entries(node.get("items", node)):
            lines += ["", f"### {entry['properties']['name']['const']}", "",
                      _prose(entry.get("description", "")), ""]
            arguments = {k: v for k, v in entry["properties"].items() if k != "name"}
            lines += _table(arguments, entry.get("required", ())) if arguments else [
                "It has no arguments."]
    return "\n".join(lines) + "\n"


def _entries(node: Node) -> Iterator[Node]:
    """Yield the parts that a key can name, each with its arguments."""
    for form in node["anyOf"]:
        if "name" in form.get("properties", {}):
            yield form


def _table(properties: Mapping[str, Node], required: Any) -> list[str]:
    rows = ["| key | values | default | what |", "|---|---|---|---|"]
    for key, node in properties.items():
        is_part = any("name" in form.get("properties", {})
                      for form in _forms(node.get("items", node)))
        default = "required" if key in required else _default(node)
        values = _part_values(key, node) if is_part else _values(node)
        cells = [f"`{key}`", values, default, _prose(node.get("description", ""))]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows


def _part_values(key: str, node: Node) -> str:
    """Return where the names of a part are listed."""
    home = {"g_optimizer": "optimizer", "d_optimizer": "optimizer"}.get(key, key)
    link = f"[{PARTS[home]}](#{home}-names-and-arguments)"
    return f"list of {link}" if "items" in node else link


def _forms(node: Node) -> list[Node]:
    forms: list[Node] = node.get("anyOf", [node])
    return forms


def _default(node: Node) -> str:
    if "default" not in node:
        return ""
    value = node["default"]
    if isinstance(value, dict) and value:
        return "see there"
    if isinstance(value, str):
        return f"`{value}`" if value else ""
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _values(node: Node) -> str:
    """Return the type and the bounds of a value, in words."""
    return " or ".join(dict.fromkeys(_form(form) for form in _forms(node)))


def _form(form: Node) -> str:
    if "$ref" in form:
        name = form["$ref"].rsplit("/", 1)[-1]
        title = SECTIONS[name][0] if name in SECTIONS else name
        return f"[{title}](#{title.replace('.', '')})"
    if "enum" in form:
        names = [f"`{name}`" for name in form["enum"]]
        return ", ".join(names) if len(names) <= LONG else f"one of {len(names)} names"
    if "const" in form:
        return f"`{form['const']}`"
    kind = form.get("type", "any")
    if kind == "array":
        return _array(form)
    if kind == "object" and "points" in form.get("properties", {}):
        return "[points](experiment.md#numbers-that-change)"
    if kind == "object":
        return "mapping"
    words = {"string": "text", "null": "`null`", "boolean": "`true`, `false`",
             "integer": "integer", "number": "number"}
    limits = [text.format(f"{form[limit]:g}") for limit, text in LIMITS.items()
              if limit in form and abs(form[limit]) < 2 ** 62]
    return " ".join([words.get(kind, kind), ", ".join(limits)]).strip()


def _array(form: Node) -> str:
    items = form.get("items")
    length = form.get("minItems") if form.get("minItems") == form.get("maxItems") else None
    count = f"{length} × " if length else "list of "
    return count + (_values(items) if items else "values")


def _prose(text: str) -> str:
    return " ".join(text.split("\n\n")[0].split())


if __name__ == "__main__":
    PAGE.write_text(keys_page(json.loads(SCHEMA.read_text("utf-8"))), "utf-8")
    print(PAGE)
