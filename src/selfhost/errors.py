"""Errors as sentences: what happened, the next step, and the documented exit code."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a `selfhost` command tells the shell; documented in README.md."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CHANGES_PENDING = 3
    BLOCKED = 4
    NOT_READY = 5
    TIMED_OUT = 6
    INTERRUPTED = 130


class SelfhostError(Exception):
    """Something a person must know, in one sentence, with a hint that says what to do next.

    Raised where the fact is known; caught only at the command line's and the gateway's boundary.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def lines(self) -> tuple[str, ...]:
        """`error: …` and, if there is one, `hint: …`: what our child processes say on standard error."""
        return (f"error: {self.message}", *([f"hint: {self.hint}"] if self.hint else []))


class BlockedError(SelfhostError):
    """A gate says no: it does not fit, it is not allowed, or the hardware cannot do it."""

    exit_code = ExitCode.BLOCKED


class NotReadyError(SelfhostError):
    """A model, or the manager, is not there to answer."""

    exit_code = ExitCode.NOT_READY


class TimedOutError(SelfhostError):
    """A deadline passed, or nothing moved for too long."""

    exit_code = ExitCode.TIMED_OUT
