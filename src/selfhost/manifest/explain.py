"""What the schema finds wrong, in words for people: no value from the environment, none of pydantic's jargon. Pure."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import yaml
from pydantic import BaseModel

from selfhost.manifest.document import Document, dotted, quoted
from selfhost.manifest.problems import Problem
from selfhost.manifest.scalars import kind
from selfhost.manifest.schema import ApiKey, Engine, Gateway, Manifest, Model
from selfhost.manifest.values import Location

# pydantic's types of error, those that our types can meet; each sentence is completed with what was found instead.
_EXPECTED: Mapping[str, str] = {
    "string_type": "should be text",
    "int_type": "should be a whole number",
    "float_type": "should be a number",
    "tuple_type": "should be a list (lines that begin with '-')",
    "dict_type": "should be a mapping (`key: value` lines)",
    "model_type": "should be a mapping (`key: value` lines)",
    "greater_than": "should be more than {gt:g}",
    "greater_than_equal": "should be at least {ge:g}",
    "less_than_equal": "should be at most {le:.12g}",
}
# The key under which a section stands, and its type.
_SECTIONS: Mapping[str, type[BaseModel]] = {
    "": Manifest,
    "gateway": Gateway,
    "keys": ApiKey,
    "engine": Engine,
    "models": Model,
}


def explain(error: Mapping[str, Any], document: Document) -> Problem:
    """One error of a `pydantic.ValidationError` as a problem."""
    location: Location = tuple(part for part in error["loc"] if part != "[key]")
    context: Mapping[str, Any] = error.get("ctx") or {}
    line = document.place(location).line
    match error["type"]:
        case "missing":
            return Problem(line, dotted(location), "is required")
        case "extra_forbidden":
            return Problem(line, dotted(location), "unknown key", _nearest(location))
        case "twin":
            first = document.place((*location[: -context["depth"]], *context["first"]))
            return Problem(line, dotted(location), f"{error['msg']} (line {first.line})")
        case "refused":
            message, hint = error["msg"], context["hint"]
        case other:
            message, hint = _EXPECTED.get(other, "should be something else").format_map(context), None
    place = document.places.get(location)
    if place is None or not message.startswith("should") or error["loc"][-1:] == ("[key]",):
        return Problem(line, dotted(location), message, hint)
    if kind(place.node) == "null":
        return Problem(line, dotted(location), "has no value", "write one, or leave the key out")
    return Problem(line, dotted(location), f"{message}, not {_found(place.node)}", hint or _remedy(message, place.node))


def _found(node: yaml.Node) -> str:
    """What stands there instead of what should: as it is written, never as it was resolved."""
    if not isinstance(node, yaml.ScalarNode):
        return "a mapping" if isinstance(node, yaml.MappingNode) else "a list"
    match kind(node):
        case "bool":
            return f"`{node.value}`, which YAML reads as true or false"
        case "int" | "float":
            return f"the number {node.value}"
        case _:
            return quoted(node.value)


def _remedy(message: str, node: yaml.Node) -> str | None:
    if not isinstance(node, yaml.ScalarNode):
        return None
    if message == _EXPECTED["string_type"]:
        return f'put it in quotes: "{node.value}"'
    if "number" in message and "${env:" in node.value:
        return "what comes from the environment is text"
    if "number" in message and node.style and node.value.isdecimal():
        return "leave the quotes out"
    return None


def _nearest(location: Location) -> str:
    """The word that an unknown key was meant to be, or where it belongs."""
    word = f"{location[-1]}"
    section = next((part for part in reversed(location[:-1]) if isinstance(part, str)), "")
    fields = _SECTIONS[section].model_fields
    for other, model in _SECTIONS.items():
        if word in model.model_fields:
            return f"it belongs under `{other}`" if other else "it belongs to the top level"
    if near := get_close_matches(word.lower().replace("-", "_"), fields, n=1):
        return f"did you mean `{near[0]}`?"
    if section == "models":
        return "the engine's own options go under `engine_args`"
    return f"known here: {', '.join(fields)}"
