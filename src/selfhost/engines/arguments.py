"""What `vllm serve` accepts on its command line, checked in microseconds: a typo costs 20-45 s of a start otherwise.

The facts come from vLLM's own parser, written down once per environment by `dump_arguments.py`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from selfhost.engines.option import Kind, Option, did_you_mean, is_flag, negates, not_among
from selfhost.errors import SelfhostError

FORMAT_VERSION = 1  # of the document that dump_arguments.py writes


@dataclass(frozen=True)
class EngineArguments:
    """Every option of one engine's `vllm serve`."""

    options: tuple[Option, ...]

    @cached_property
    def by_name(self) -> Mapping[str, Option]:
        """The options by each of their names."""
        return {name: option for option in self.options for name in option.names}

    def find(self, name: str) -> Option | None:
        """The option that `name` means: `--max-model-len`, `--max_model_len`, or the bare `max_model_len` of YAML."""
        name = name if name.startswith("-") else f"--{name}"
        return self.by_name.get(name.replace("_", "-") if name.startswith("--") else name)


def parse(document: Mapping[str, Any]) -> EngineArguments:
    """Read what `dump_arguments.py` wrote; raises `ValueError` for another format."""
    if document.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"format {document.get('format_version')} instead of {FORMAT_VERSION}")
    return EngineArguments(
        tuple(
            Option(
                names=tuple(option["names"]),
                kind=Kind(option["kind"]),
                accepts=frozenset(option["accepts"]),
                choices=tuple(option["choices"]),
                folds=option["folds"],
                suggestions=tuple(option["suggestions"]),
                default=option["default"],
                help=option["help"],
            )
            for option in document["options"]
        )
    )


def validate(arguments: EngineArguments, engine_args: Mapping[str, Any]) -> tuple[str, ...]:
    """What the engine would refuse of `engine_args` (option: scalar, list, mapping or None), as `key: sentence`."""
    has_plugin = any(key.replace("-", "_").endswith("_plugin") for key in engine_args)
    found = ((key, _refused(arguments, key, value, has_plugin=has_plugin)) for key, value in engine_args.items())
    return tuple(f"{key}: {problem}" for key, problem in found if problem)


def to_argv(arguments: EngineArguments, engine_args: Mapping[str, Any]) -> list[str]:
    """The words that say `engine_args` to `vllm serve`; None, and false for a switch without an off form, say nothing.

    Raises `SelfhostError` for what `validate` refuses.
    """
    if problems := validate(arguments, engine_args):
        raise SelfhostError("; ".join(problems), hint="correct engine_args in the manifest")
    return [word for key, value in engine_args.items() for word in _words(arguments, key, value)]


def validate_argv(arguments: EngineArguments, argv: Sequence[str]) -> tuple[str, ...]:
    """What the engine would refuse of the words after `vllm serve`, as `--flag: sentence`."""
    problems = []
    words = list(argv)
    while words:
        flag, assigned, text = words.pop(0).partition("=")
        if not is_flag(flag):
            continue  # the model
        name, dot, _ = flag.partition(".")  # --compilation-config.mode sets one member of a JSON option
        option = arguments.find(name)
        if option is None or (dot and not option.takes_json):
            problems.append(f"{flag}: {_unknown(arguments, name)}")
            continue
        values = [text] if assigned else _take_values(words, option)
        if not dot and (problem := _refused_words(option, values)):
            problems.append(f"{flag}: {problem}")
    return tuple(problems)


def _refused(arguments: EngineArguments, key: str, value: Any, *, has_plugin: bool) -> str | None:
    name, dot, _ = key.partition(".")  # compilation-config.mode sets one member of a JSON option
    option = arguments.find(name)
    if option is None or (dot and not option.takes_json):
        return _unknown(arguments, name if dot else key)
    if value is None or dot:
        return None
    if option.is_switch:
        return _refused_switch(option, key, value)
    if isinstance(value, bool):
        return None if option.kind is Kind.OPTIONAL and value else "takes a value, not true or false"
    if option.kind in {Kind.LIST, Kind.APPEND}:
        return _refused_items(option, _as_list(value))
    return _refused_value(option, value, has_plugin=has_plugin)


def _refused_switch(option: Option, key: str, value: Any) -> str | None:
    if option.kind is Kind.BOOLEAN and negates(f"--{key.replace('_', '-')}"):
        return f"write {option.flag.removeprefix('--').replace('-', '_')}: true or false"
    return None if isinstance(value, bool) else f"is a switch, true or false, not '{_text(value)}'"


def _refused_value(option: Option, value: Any, *, has_plugin: bool) -> str | None:
    if isinstance(value, list | tuple | Mapping) and not option.takes_json:
        return f"takes one value, not '{_text(value)}'"
    if option.suggestions and not has_plugin and value not in option.suggestions:
        return not_among(_text(value), option.suggestions)
    return option.refuses(_text(value))


def _refused_items(option: Option, items: list[Any]) -> str | None:
    if any(item is None or isinstance(item, bool | list | tuple) for item in items):
        return "takes a list of words and numbers"
    return _refused_words(option, [_text(item) for item in items])


def _refused_words(option: Option, values: list[str]) -> str | None:
    if option.is_switch:
        return f"is a switch and takes no value, not '{values[0]}'" if values else None
    if not values:
        return None if option.kind is Kind.OPTIONAL else "needs a value"
    if option.kind is Kind.LIST and any(is_flag(value) for value in values):
        return "takes values that do not begin with '-'"
    return next((problem for value in values if (problem := option.refuses(value))), None)


def _words(arguments: EngineArguments, key: str, value: Any) -> list[str]:
    name, dot, member = key.partition(".")
    option = arguments.find(name)
    if option is None or value is None:
        return []
    if dot:
        return [f"{option.flag}.{member}={_text(value)}"]
    if isinstance(value, bool):
        switch = option.flag if value else option.negative
        return [switch] if switch else []
    if option.kind is Kind.LIST:
        return [option.flag, *(_text(item) for item in _as_list(value))]
    if option.kind is Kind.APPEND:
        return [word for item in _as_list(value) for word in _pair(option.flag, _text(item))]
    return _pair(option.flag, _text(value))


def _pair(flag: str, text: str) -> list[str]:
    return [f"{flag}={text}"] if text.startswith("-") else [flag, text]  # argparse takes a lone `-x` for an option


def _take_values(words: list[str], option: Option) -> list[str]:
    """Take the values of `option` from the front of `words`, as argparse would."""
    most = 0 if option.is_switch else len(words) if option.kind is Kind.LIST else 1
    count = 0
    while count < min(most, len(words)) and not is_flag(words[count]):
        count += 1
    values = words[:count]
    del words[:count]
    return values


def _unknown(arguments: EngineArguments, key: str) -> str:
    if arguments.find(key):
        return "has no members"
    names = [name for name in arguments.by_name if name.startswith("--")]
    if not key.startswith("-"):
        names = [name.removeprefix("--").replace("-", "_") for name in names]
    return f"no such option{did_you_mean(key, names)}"


def _text(value: Any) -> str:
    """A value as one word of a command line."""
    if isinstance(value, bool | list | tuple | Mapping):
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return str(value)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
