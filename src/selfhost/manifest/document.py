"""YAML text as plain data that remembers where everything stands. Pure.

Built from YAML's nodes instead of by one of its loaders: so lines, duplicate keys and what was written remain known,
and a small file that unfolds into something huge is refused while it unfolds.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from selfhost.manifest.problems import Problem
from selfhost.manifest.scalars import TrapError, kind, resolve
from selfhost.manifest.syntax import syntax_problem
from selfhost.manifest.values import Location

# A manifest of a hundred models with every field has about 4,000 nodes, at most five deep.
MAX_DEPTH = 20
MAX_NODES = 10_000  # an alias counts as all that it stands for
MAX_CHARACTERS = 2 * 1024 * 1024  # of all values together, counted in the same way

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml where there is one: same nodes, same lines
_NODES = "keys and values (an alias counts as all that it stands for)"
_CHARACTERS = "characters (an alias counts as all that it stands for)"
_KINDS = {"bool": "true or false", "int": "a number", "float": "a number", "null": "null", "timestamp": "a date"}
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class UnreadableError(Exception):
    """A text of which no document can be made, for the one reason in `problem`."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value stands, and how it is written there."""

    line: int  # of its key, or of its item in a list
    node: yaml.Node


@dataclass(frozen=True, slots=True)
class Document:
    """Plain data (dicts, tuples, scalars), where each part stands, and what was wrong with it as YAML."""

    data: Any
    places: Mapping[Location, Place]
    problems: Sequence[Problem]

    def place(self, location: Location) -> Place:
        """Where `location` stands or, for what is missing, the nearest thing around it."""
        while location not in self.places:
            location = location[:-1]
        return self.places[location]


def dotted(location: Location) -> str:
    """`models.0.name`, as messages write a path."""
    return ".".join(f"{part}" if re.fullmatch(r"[\w.<-]{1,80}", f"{part}") else quoted(f"{part}") for part in location)


def quoted(text: str) -> str:
    """`text` in quotes and on one line, cut when it is long."""
    return repr(text if len(text) <= 60 else f"{text[:60]}...")


def read_document(text: str, environ: Mapping[str, str]) -> Document:
    """The one document of `text`; raises `UnreadableError`."""
    if found := _UNPRINTABLE.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise UnreadableError(Problem(line, "", f"contains the control character {found[0]!r}"))
    try:
        _check_bounds(text)
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.MarkedYAMLError as error:
        raise UnreadableError(syntax_problem(error, text)) from None
    if root is None or kind(root) == "null":
        raise UnreadableError(Problem(None, "", "is empty", "a manifest begins with `version: 1`"))
    reader = _Reader(environ)
    data = reader.read(root, (), _line(root))
    return Document(data, reader.places, reader.problems)


def _check_bounds(text: str) -> None:
    """Refuse what is too deep or too large event by event: composing recurses, and takes memory for every node."""
    documents = depth = nodes = 0
    for event in yaml.parse(text, Loader=_LOADER):
        line = _line(event)
        documents += isinstance(event, yaml.DocumentStartEvent)
        if documents > 1:
            raise UnreadableError(Problem(line, "", "a second document begins", "a manifest is one document"))
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        _bound(depth, MAX_DEPTH, "levels of nesting", line)
        nodes += isinstance(event, yaml.NodeEvent)
        _bound(nodes, MAX_NODES, _NODES, line)


def _line(thing: Any) -> int:
    return int(thing.start_mark.line) + 1


def _bound(count: int, limit: int, what: str, line: int, location: Location = ()) -> None:
    if count > limit:
        raise UnreadableError(Problem(line, dotted(location), f"has more than {limit} {what}"))


class _Reader:
    """One walk over the nodes of a document."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._nodes = 0
        self._characters = 0
        self._around: list[yaml.Node] = []
        self.places: dict[Location, Place] = {}
        self.problems: list[Problem] = []

    def read(self, node: yaml.Node, location: Location, line: int) -> Any:
        """The value of `node`, which stands at `location`."""
        self.places[location] = Place(line, node)
        self._nodes += 1
        _bound(self._nodes, MAX_NODES, _NODES, line, location)
        _bound(len(location), MAX_DEPTH, "levels of nesting", line, location)
        if isinstance(node, yaml.ScalarNode):
            return self._read_scalar(node, location, line)
        if kind(node) not in {"map", "seq"}:
            self._add(location, line, "has a YAML tag, which a manifest has no use for")
        if any(node is parent for parent in self._around):
            raise UnreadableError(Problem(line, dotted(location), "is an alias of what it is a part of"))
        self._around.append(node)
        if isinstance(node, yaml.MappingNode):
            value: Any = self._read_mapping(node, location)
        else:
            value = tuple(self.read(item, (*location, i), _line(item)) for i, item in enumerate(node.value))
        self._around.pop()
        return value

    def _read_mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = _line(key_node)
            key = self._read_key(key_node, location, line)
            if key in values:
                first = self.places[*location, key].line
                self._add((*location, key), line, f"duplicate key; the first is on line {first}")
            elif key is not None:
                values[key] = self.read(value_node, (*location, key), line)
        return values

    def _read_key(self, node: yaml.Node, location: Location, line: int) -> str | None:
        if not isinstance(node, yaml.ScalarNode):
            self._add(location, line, "has a list or a mapping as a key", "keys are words")
            return None
        key: str = node.value
        match kind(node):
            case "str" | "value":
                pass
            case "merge":
                hint = "write the fields out; a whole value may be an alias"
                self._add((*location, key), line, "merge keys are not supported", hint)
                return None
            case other:
                self._add(
                    (*location, key), line, f"the key is {_KINDS.get(other, 'tagged')} to YAML", "put it in quotes"
                )
        return key

    def _read_scalar(self, node: yaml.ScalarNode, location: Location, line: int) -> Any:
        try:
            value = resolve(node, self._environ)
        except TrapError as trap:
            self._add(location, line, trap.message, trap.hint)
            value = node.value
        self._characters += len(value) if isinstance(value, str) else 0
        _bound(self._characters, MAX_CHARACTERS, _CHARACTERS, line, location)
        return value

    def _add(self, location: Location, line: int, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(line, dotted(location), message, hint))
