"""YAML's scalars as Python values, with a sentence for each that YAML 1.1 reads as nobody expects. Pure."""

import math
import re
from collections.abc import Mapping
from typing import Any

import yaml
from yaml.resolver import Resolver

from selfhost.control_characters import CONTROL

Scalar = bool | int | float | str | None

MAX_CHARACTERS = 1024 * 1024  # of one text
MAX_DIGITS = 40  # nothing in a manifest is that large, and huge numbers are slow to convert

_TRUTHS = {"yes": True, "true": True, "on": True, "no": False, "false": False, "off": False}
_REFERENCE = re.compile(r"\$\$\{|\$\{env:(?P<name>[A-Za-z_][A-Za-z0-9_]*)\}|\$\{")
_IMPOSSIBLE = re.compile("[\0\ud800-\udfff]")  # YAML's escapes and the environment can hold them
_RESOLVER: Any = Resolver()
_QUOTES = "put it in quotes if it is text"


class TrapError(ValueError):
    """A scalar that cannot mean what its author had in mind."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def kind(node: yaml.Node) -> str:
    """What YAML takes `node` for: "str", "int", "float", "bool", "null", "timestamp", "merge", "map", "seq", ..."""
    return str(node.tag).removeprefix("tag:yaml.org,2002:")


def resolve(node: yaml.ScalarNode, environ: Mapping[str, str]) -> Scalar:
    """The value of `node`, with `${env:NAME}` replaced in text; raises `TrapError`."""
    text: str = node.value
    match kind(node):
        case "str" | "value" | "merge":  # the latter two are a bare `=` and `<<`
            return _expanded(text, environ)
        case _ if _RESOLVER.resolve(yaml.ScalarNode, text, (True, False)) != node.tag:
            raise TrapError("has a YAML tag, which a manifest has no use for")
        case "null":
            return None
        case "bool":
            return _TRUTHS[text.lower()]
        case "int":
            return _integer(text.replace("_", "").lower())
        case "float":
            return _float(text.replace("_", "").lower())
        case _:
            raise TrapError("is a date to YAML", _QUOTES)


def _expanded(text: str, environ: Mapping[str, str]) -> str:
    references = list(_REFERENCE.finditer(text))
    if any(reference[0] == "${" for reference in references):
        raise TrapError("has a `${` that does not begin `${env:NAME}`", "write `$${` for `${` itself")
    names = dict.fromkeys(reference["name"] for reference in references if reference["name"])
    if missing := [name for name in names if name not in environ]:
        raise TrapError(f"needs {' and '.join(missing)}, not set in the environment")
    if len(text) + sum(len(environ[found["name"]]) for found in references if found["name"]) > MAX_CHARACTERS:
        raise TrapError("is too long with what the environment holds")
    expanded = _REFERENCE.sub(lambda found: environ[found["name"]] if found["name"] else "${", text)
    if _IMPOSSIBLE.search(expanded):
        raise TrapError("contains a character that no path and no argument can have")
    if CONTROL.search(expanded):
        raise TrapError("contains a control character")
    return expanded


def _integer(text: str) -> int:
    digits = text.lstrip("+-")
    if ":" in digits:
        raise TrapError("is a number to base 60 to YAML", _QUOTES)
    if len(digits) > MAX_DIGITS:
        raise TrapError("has too many digits for a number", _QUOTES)
    if digits.startswith(("0x", "0b")):
        return int(text, 0)
    if digits.startswith("0") and digits != "0":
        raise TrapError("is an octal number to YAML because of its leading zero", _QUOTES)
    return int(text)


def _float(text: str) -> float:
    if ":" in text:
        raise TrapError("is a number to base 60 to YAML", _QUOTES)
    if len(text) > MAX_DIGITS:
        raise TrapError("has too many digits for a number", _QUOTES)
    number = math.inf if text.endswith((".inf", ".nan")) else float(text)
    if not math.isfinite(number):
        raise TrapError("is not a finite number", _QUOTES)
    return number
