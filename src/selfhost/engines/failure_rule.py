"""The shape of one known failure; the table of them is failure_rules.py."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property


class Retry(StrEnum):
    """Whether starting again can help."""

    NEVER = "never"  # the same command fails again: somebody must change something
    BACKOFF = "backoff"  # another start, with a growing delay, can help
    HOST = "host"  # the machine needs a person first


@dataclass(frozen=True)
class Rule:
    """One known failure; `{name}` in a sentence stands for the pattern's group of that name."""

    code: str
    pattern: str
    cause: str
    hint: str
    retry: Retry = Retry.NEVER
    gate: bool = False  # a limit of model or hardware rather than a defect: exit code 4
    ends_start: bool = False  # its text alone proves that the start is lost

    def search(self, log: str) -> re.Match[str] | None:
        """Where `log` tells of this failure first."""
        return self._compiled.search(log)

    def say(self, groups: Mapping[str, str]) -> str:
        """The cause with what the log said filled in."""
        return _fill(self.cause, groups)

    def advise(self, groups: Mapping[str, str]) -> str:
        """The hint with what the log said filled in."""
        return _fill(self.hint, groups)

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern)


def _fill(sentence: str, groups: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda field: groups.get(field[1], ""), sentence).rstrip(": ")
