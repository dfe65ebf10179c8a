"""What a check says. Pure."""

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad it is; the worst first."""

    BLOCKING = "blocking"  # this box will not serve
    WARNING = "warning"  # it will serve, worse than it could or not for long
    INFO = "info"  # good to know; what could not be looked at is one of these
    OK = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One thing that a check has to say."""

    severity: Severity
    sentence: str  # with the number that decided
    fix: str | None = None  # a command to copy; of `up` and `doctor` themselves none is named


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A verdict, and the check that it comes from."""

    check: str  # its id: "shm-size"
    severity: Severity
    sentence: str
    fix: str | None


def blocking(sentence: str, *, fix: str | None = None) -> Verdict:
    """This box will not serve."""
    return Verdict(severity=Severity.BLOCKING, sentence=sentence, fix=fix)


def warning(sentence: str, *, fix: str | None = None) -> Verdict:
    """It will serve, worse than it could or not for long."""
    return Verdict(severity=Severity.WARNING, sentence=sentence, fix=fix)


def note(sentence: str, *, fix: str | None = None) -> Verdict:
    """Good to know."""
    return Verdict(severity=Severity.INFO, sentence=sentence, fix=fix)


def fine(sentence: str) -> Verdict:
    """As it should be."""
    return Verdict(severity=Severity.OK, sentence=sentence)
