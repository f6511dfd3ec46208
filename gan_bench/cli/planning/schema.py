"""The JSON schema of experiment files, for editors that complete and check them."""

from __future__ import annotations

from typing import Any

from gan_bench import registry
from gan_bench.config.experiment_file import ExperimentFile
from gan_bench.config.grid import AXES_BESIDE, LISTS, PARTS
from gan_bench.config.recipes import RECIPES
from gan_bench.config.spec import RunSettings
from gan_bench.registry import Registry


def json_schema() -> dict[str, Any]:
    """Return the schema, with every name that the registries know and every argument."""
    schema = ExperimentFile.model_json_schema()
    settings = RunSettings.model_json_schema()
    definitions = {**schema.pop("$defs", {}), **settings.pop("$defs", {})}
    keys = {**settings["properties"]}
    keys["recipe"] = {"enum": list(RECIPES), "description": "settings of a paper, overridden by "
                      "the other keys: names of `gan-bench list recipes`"}
    keys["optimizer"] = {**keys["g_optimizer"], "description": "the optimizer of both networks"}
    keys = {key: _resolve(value, key in (*PARTS, "optimizer")) for key, value in keys.items()}
    for key in LISTS:
        keys[key]["items"] = _resolve(keys[key]["items"], False)
    run = {"type": "object", "properties": keys, "additionalProperties": False}
    definitions["Run"] = run
    properties = {key: _resolve(value, False) for key, value in schema["properties"].items()}
    properties["base"] |= {"$ref": "#/$defs/Run", "type": "object"}
    properties["base"].pop("additionalProperties", None)
    properties["variants"]["additionalProperties"] = {
        "anyOf": [{"$ref": "#/$defs/Run"}, {"type": "null"}]}
    properties["matrix"] = {
        "type": "object", "description": properties["matrix"]["description"],
        "properties": {
            **{key: {"type": "array", "minItems": 1,
                     "items": {"$ref": f"#/$defs/Run/properties/{key}"}} for key in keys},
            **{key: {"type": "array", "items": {"type": "object"}} for key in AXES_BESIDE}},
        "additionalProperties": {"type": "array", "minItems": 1}}
    measured = definitions["EvaluateSpec"]["properties"]
    for names in measured["metrics"], measured["final_metrics"]["anyOf"][0]:
        names["items"] = {"enum": registry.METRICS.names()}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "gan-bench experiment", "type": "object", "properties": properties,
            "required": schema["required"], "anyOf": [{"required": ["seeds"]},
                                                      {"required": ["search"]}],
            "additionalProperties": False, "$defs": definitions}


def _resolve(node: dict[str, Any], partial: bool) -> dict[str, Any]:
    """Replace the `kind` of a part, which spec.py sets, by the names in its registry."""
    kind = node.get("kind")
    if kind is None:
        return node
    entries: Registry[Any, Any] = getattr(registry, kind)
    return {**{k: v for k, v in node.items() if k in ("default", "description")},
            "anyOf": [{"enum": entries.names()}, *_with_arguments(entries, partial)]}


def _with_arguments(entries: Registry[Any, Any], partial: bool) -> list[dict[str, Any]]:
    """Return each entry as a mapping; if `partial`, also one without a name, of arguments only."""
    forms = []
    arguments: dict[str, Any] = {}
    for entry in entries:
        schema = entry.schema.model_json_schema()
        properties = schema.get("properties", {})
        arguments |= properties
        forms.append({
            "type": "object", "description": entry.summary, "additionalProperties": False,
            "properties": {"name": {"const": entry.name}, **properties},
            "required": ["name", *schema.get("required", [])]})
    if partial:
        forms.append({"type": "object", "not": {"required": ["name"]},
                      "propertyNames": {"enum": sorted(arguments)}})
    return forms
