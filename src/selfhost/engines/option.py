"""One option of `vllm serve`, and which values it takes.

What a value may look like is known from what the option's own converter accepted of some samples, not from names of
types: vLLM's converters are closures that all have the same one.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from typing import Any

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_INTEGER = re.compile(r"[+-]?\d+")
_SHORTENED = re.compile(r"\d+(\.\d+)?[kmgt]|\d+[KMGT]")  # 25.6k is 25,600 and 32K is 32,768; no fractions of the latter


class Kind(StrEnum):
    """How an option takes its values."""

    FLAG = "flag"  # --headless
    BOOLEAN = "boolean"  # --enforce-eager, --no-enforce-eager
    VALUE = "value"  # --port 8000
    OPTIONAL = "optional"  # --hf-token, --hf-token abc
    LIST = "list"  # --served-model-name a b
    APPEND = "append"  # --middleware a --middleware b


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option of `vllm serve`."""

    names: tuple[str, ...]
    kind: Kind
    accepts: frozenset[str] = frozenset()  # which of dump_arguments.SAMPLES its converter took
    choices: tuple[str, ...] = ()
    folds: bool = False  # its converter takes `Deep-Gemm` for `deep_gemm`
    suggestions: tuple[str, ...] = ()  # the values that its help names; plugins may add others
    default: Any = None  # as far as JSON can say it
    help: str = ""

    @property
    def flag(self) -> str:
        """The name to write on a command line."""
        return next((name for name in self.names if name.startswith("--") and not negates(name)), self.names[0])

    @property
    def negative(self) -> str | None:
        """The name that switches it off, where there is one."""
        return next((name for name in self.names if negates(name)), None)

    @property
    def is_switch(self) -> bool:
        """Whether it is on or off, without a value."""
        return self.kind in {Kind.FLAG, Kind.BOOLEAN}

    @property
    def takes_json(self) -> bool:
        """Whether a mapping may be its value."""
        return "{}" in self.accepts

    def refuses(self, text: str) -> str | None:
        """Why the word `text` cannot be its value, as the end of a sentence; None when it can."""
        if self.choices:
            folded = text.lower().replace("-", "_") if self.folds else text
            return None if folded in self.choices else not_among(text, self.choices)
        if "word" in self.accepts or text in self.accepts:
            return None
        return self._refuses_json(text) if self.takes_json else self._refuses_number(text)

    def _refuses_json(self, text: str) -> str | None:
        anything = "[]" in self.accepts
        try:
            value = json.loads(text)
        except ValueError:
            value = ...
        if value is not ... and (anything or isinstance(value, dict)):
            return None
        return f"takes {'JSON' if anything else 'a JSON object'}, not '{text}'"

    def _refuses_number(self, text: str) -> str | None:
        shapes = [_INTEGER]
        shapes += [_NUMBER] if "0.5" in self.accepts else []
        shapes += [_SHORTENED] if "2k" in self.accepts else []
        if any(shape.fullmatch(text) for shape in shapes):
            return None
        words = sorted(word for word in self.accepts if word.isalpha())
        return f"takes {' or '.join(['a number' if '0.5' in self.accepts else 'a whole number', *words])}, not '{text}'"


def negates(name: str) -> bool:
    """Whether `name` is the off form of a switch."""
    return name.startswith("--no-")


def is_flag(word: str) -> bool:
    """Whether argparse takes `word` of a command line for an option: a negative number is a value."""
    return len(word) > 1 and word.startswith("-") and not _NUMBER.fullmatch(word)


def not_among(text: str, known: Iterable[str]) -> str:
    """The end of a sentence about a value that is none of `known`."""
    known = list(known)
    return f"'{text}' is not one of {', '.join(known)}{did_you_mean(text, known)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The hint at the nearest of `known`, or nothing."""
    near = get_close_matches(word, list(known), n=1) if re.search(r"[^\W\d]", word) else []  # 17 did not mean 1
    return f"; did you mean {near[0]}?" if near else ""
