"""JSON objects as text: what orjson cannot tell about them, and changes that leave the rest as it is. Pure."""

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

# The scanner of `json` finds where a value ends; its numbers stay text, so no digit limit and no rounding gets in.
_scan = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
_skip_space = re.compile(r"[ \t\r\n]*").match


def duplicate(raw: bytes) -> str | None:
    """A name that the object `raw`, which orjson has accepted, holds twice at its top level, however it is spelled."""
    seen: set[str] = set()
    for member in _members(raw.decode())[0]:
        if member.name in seen:
            return member.name
        seen.add(member.name)
    return None


def replace(raw: bytes, changes: Mapping[str, Any]) -> bytes:
    """The object `raw` with the members of `changes` put in or added."""
    text = raw.decode()
    members, close = _members(text)
    pieces: list[str] = []
    copied = 0
    for member in members:
        if member.name in changes:
            pieces += (text[copied : member.start], _dump(changes[member.name]))
            copied = member.end
    pieces.append(text[copied:close])
    added = changes.keys() - {member.name for member in members}
    pieces += (f",{_dump(name)}:{_dump(changes[name])}" for name in sorted(added))
    return ("".join(pieces) + text[close:]).encode()


class _Member(NamedTuple):
    """One `"name": value` at the top level, by the place of its value in the text."""

    name: str
    start: int
    end: int


def _members(text: str) -> tuple[list[_Member], int]:
    """All top-level members, and the place of the closing brace."""
    members: list[_Member] = []
    at = _after_space(text, _after_space(text, 0) + 1)
    while text[at] != "}":
        name, at = _scan(text, at)
        start = _after_space(text, _after_space(text, at) + 1)
        _, end = _scan(text, start)
        members.append(_Member(name, start, end))
        at = _after_space(text, end)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return members, at


def _after_space(text: str, at: int) -> int:
    match = _skip_space(text, at)
    return match.end() if match else at


def _dump(value: Any) -> str:
    return orjson.dumps(value).decode()
