"""What a YAML parser says about broken text, in words for people. Pure."""

import re
from typing import NamedTuple

import yaml

from selfhost.manifest.problems import Problem


class _Rule(NamedTuple):
    pattern: str  # finds what libyaml says, and what PyYAML's own parser says in other words
    message: str
    hint: str | None = None
    at_beginning: bool = False  # the line to look at is where the construct began, not where the parser gave up


_INDENTATION = "the indentation does not match the lines before"
_RULES = (
    _Rule(
        "mapping values are not allowed",
        "a ':' stands where none can",
        "compare the indentation with the line before; put a value that contains ': ' in quotes",
    ),
    _Rule("could not find expected ':'", "is not `key: value`", "a ':' is missing", at_beginning=True),
    _Rule("unexpected end of stream", "a quote is opened and never closed", at_beginning=True),
    _Rule(
        r"expected ',' or '\]'",
        "a '[' is opened and not closed as it should",
        "put text that contains '[', ']' or ',' in quotes",
        at_beginning=True,
    ),
    _Rule(
        r"expected ',' or '\}'",
        "a '{' is opened and not closed as it should",
        "put text that contains '{', '}' or ',' in quotes",
        at_beginning=True,
    ),
    _Rule(r"expected (the )?node content", "a value is missing, or begins with a sign that needs quotes"),
    _Rule("expected <block end>|expected key|expected '-' indicator", _INDENTATION),
    _Rule("<document start>", "does not belong to what stands above", "compare the indentation with the first line"),
    _Rule("undefined alias", "an alias (*) has no anchor (&) before it", "put text that begins with '*' in quotes"),
    _Rule("duplicate anchor|second occurrence", "an anchor (&) has the name of another one"),
    _Rule("alphabetic or numeric", "a name is missing after '*' or '&'", "put text that begins with them in quotes"),
    _Rule("escape|hexa?decimal", "a '\\' in double quotes begins no escape", "use single quotes"),
)


def syntax_problem(error: yaml.MarkedYAMLError, text: str) -> Problem:
    """The one problem that stopped the parser."""
    said = error.problem or "unknown"
    mark = error.problem_mark or error.context_mark
    line = mark.line if mark else 0
    if "cannot start any token" in said:
        return _unexpected_character(text, line, mark.column if mark else 0)
    for rule in _RULES:
        if re.search(rule.pattern, said):
            if rule.at_beginning and error.context_mark:
                line = error.context_mark.line
            return Problem(line + 1, "", rule.message, rule.hint)
    return Problem(line + 1, "", f"is not YAML: {said}")


def _unexpected_character(text: str, line: int, column: int) -> Problem:
    character = text.splitlines()[line][column]
    if character == "\t":
        return Problem(line + 1, "", "a tab is used for indentation", "use spaces")
    return Problem(line + 1, "", f"no value can begin with {character!r}", "put it in quotes")
